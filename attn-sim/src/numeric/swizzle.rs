//! The permutation of 16-byte pieces by which tiles in shared memory avoid bank conflicts.
//!
//! In memory that is divided into groups of eight rows of `span` bytes, piece `p` of row `r` is stored where piece
//! `p ^ r` (for a 128-byte span) would be. Tensor copies and `wgmma` compute it from bits of the absolute shared-memory address,
//! so that a tile may be read from any of its rows or pieces on, and that two views of one tile agree wherever it lies.
//!
//! Source: PTX ISA 9.0, "Swizzling modes"; CUTLASS writes the same as `Swizzle<1..3, 4, 3>`.

/// How pieces of 16 bytes are permuted in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Swizzle {
    /// Not at all.
    None,
    /// Within 32 bytes; the pattern repeats after 256 bytes.
    Bytes32,
    /// Within 64 bytes; the pattern repeats after 512 bytes.
    Bytes64,
    /// Within 128 bytes; the pattern repeats after 1024 bytes.
    Bytes128,
}

impl Swizzle {
    /// In the order of declaration.
    pub(crate) const ALL: [Swizzle; 4] = [Swizzle::None, Swizzle::Bytes32, Swizzle::Bytes64, Swizzle::Bytes128];

    /// Bytes within which pieces are permuted: a row of the pattern. `None` has no pattern, a piece is its own row.
    pub(crate) const fn span(self) -> u32 {
        match self {
            Swizzle::None => 16,
            Swizzle::Bytes32 => 32,
            Swizzle::Bytes64 => 64,
            Swizzle::Bytes128 => 128,
        }
    }

    /// Where the byte is stored that would be at this shared-memory address without swizzling. Its own inverse.
    pub(crate) const fn apply(self, address: u32) -> u32 {
        let mask = self.span() / 16 - 1;
        address ^ ((address >> 7 & mask) << 4)
    }
}

#[cfg(test)]
mod tests {
    use super::Swizzle::{self, Bytes32, Bytes64, Bytes128};

    #[test]
    fn a_piece_moves_by_the_bits_above_it() {
        for address in 0..4096u32 {
            let bit = |bit: u32| address >> bit & 1;
            let flipped = |bits: &[u32]| bits.iter().fold(address, |a, &to| a ^ bit(to + 3) << to);
            assert_eq!(Swizzle::None.apply(address), address);
            assert_eq!(Bytes32.apply(address), flipped(&[4]));
            assert_eq!(Bytes64.apply(address), flipped(&[4, 5]));
            assert_eq!(Bytes128.apply(address), flipped(&[4, 5, 6]));
        }
    }

    #[test]
    fn it_is_its_own_inverse_and_stays_in_the_span() {
        for swizzle in Swizzle::ALL {
            for address in (0..8192).step_by(4) {
                let moved = swizzle.apply(address);
                assert_eq!(swizzle.apply(moved), address);
                assert_eq!(moved / swizzle.span(), address / swizzle.span());
                assert_eq!(moved % 16, address % 16);
            }
        }
    }

    #[test]
    fn rows_of_128_bytes_store_piece_p_of_row_r_at_p_xor_r() {
        for row in 0..64 {
            for piece in 0..8 {
                assert_eq!(Bytes128.apply(row * 128 + piece * 16), row * 128 + (piece ^ (row % 8)) * 16);
            }
        }
    }
}
