//! Segments of a sequence, each walked by a block of the linear-time schedule.
//!
//! Invariant: a segment is a whole number of chunks, and none is empty.

/// Blocks that walk on a multiprocessor at a time.
const BLOCKS_PER_MULTIPROCESSOR: usize = 2;

/// How positions are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segments {
    pub(crate) count: usize,
    /// Chunks of each but the last.
    pub(crate) chunks: usize,
}

/// As many segments of a head as blocks of all heads run at once, if there are so many chunks.
pub(crate) fn segments(positions: usize, block: usize, heads: usize, multiprocessors: usize) -> Segments {
    let chunks = positions.div_ceil(block);
    let wanted = (BLOCKS_PER_MULTIPROCESSOR * multiprocessors / heads.max(1)).clamp(1, chunks.max(1));
    let of_each = chunks.div_ceil(wanted).max(1);
    Segments { count: chunks.div_ceil(of_each).max(1), chunks: of_each }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_whole_chunks_of_all_positions() {
        for (positions, heads) in [(16384, 16), (1, 1), (64, 3), (65, 3), (100_000, 1), (262_144, 16), (4096, 1000)] {
            let Segments { count, chunks } = segments(positions, 64, heads, 132);
            assert!(count * chunks * 64 >= positions, "{positions}: all of them");
            assert!((count - 1) * chunks * 64 < positions, "{positions}: none of them empty");
            assert!(count == 1 || count * heads <= 264, "{positions}: all blocks run at once");
        }
        assert_eq!(segments(16384, 64, 16, 132), Segments { count: 16, chunks: 16 });
    }
}
