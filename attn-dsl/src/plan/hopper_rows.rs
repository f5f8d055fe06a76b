//! Tiles of row passes in the Hopper schedule: a producer warpgroup that copies queries and keys, and two or three consumer warpgroups of 64
//! queries each, whose products (`wgmma`) stay in registers until a row's candidates are told apart.
//!
//! Values are not read, so that shared memory is free for candidates: each lane has slots of its own for its two rows.
//!
//! Invariants: a plan fits shared memory, and has at least [`FEWEST_SLOTS`] slots a lane and row; more consumers are taken only where
//! they have [`SLOTS_OF_THREE`].

use super::hopper::{BARRIER_BYTES_OF_STAGE, CHUNK_ROW_BYTES, chunks, half_on_hopper, work_bytes};
use super::{Shape, Target};

const STAGES: usize = 2;
/// Queries of a consumer warpgroup.
const CONSUMER_ROWS: usize = 64;
/// Bytes of a slot of all lanes' rows of a consumer.
const SLOT_BYTES: usize = 4 * 32 * 4 * 2;
/// Slots that three consumers must have, and as many as they get: registers of a thread hold those of a row.
const SLOTS_OF_THREE: usize = 40;
/// As many as two consumers get.
const SLOTS_OF_TWO: usize = 64;
/// A piece of a row leaves this many behind at most; fewer would be pruned at every piece.
const FEWEST_SLOTS: usize = 24;
/// The barriers of queries, and of a verdict.
const OTHER_BYTES: usize = 32;
/// Votes of the warps of two consumers, twice, and the verdict.
const VOTE_BYTES: usize = 2 * 4 * 2 * 4 + 8;

/// What of a row a lane keeps at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Candidates {
    /// Few: what is left above a threshold that leaves most of a row out.
    Few,
    /// About this many a lane, some lanes more.
    About(usize),
    /// Nothing: sums are enough.
    Sums,
    /// Nothing: rows are visited again and again.
    None,
}

/// The tile of a row pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HopperRowTiles {
    pub(crate) block_q: usize,
    pub(crate) block_kv: usize,
    /// Consumer warpgroups.
    pub(crate) consumers: usize,
    pub(crate) stages: usize,
    /// Slots of a lane's row, a multiple of 8.
    pub(crate) slots: usize,
    /// Registers of a thread of the producer and of a consumer.
    pub(crate) registers: [usize; 2],
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared_memory: usize,
}

/// The tiles of a row pass, or why there are none. `live_tiles`: whether the producer says which tiles of keys it loads.
pub(crate) fn hopper_rows(
    shape: Shape,
    target: Target,
    candidates: Candidates,
    live_tiles: bool,
) -> Result<HopperRowTiles, &'static str> {
    half_on_hopper(shape, target)?;
    let row_bytes = chunks(shape.head_dim()) * CHUNK_ROW_BYTES;
    let planned = |(consumers, block_kv): (usize, usize)| {
        let block_q = consumers * CONSUMER_ROWS;
        let fixed = (block_q + STAGES * block_kv) * row_bytes
            + OTHER_BYTES
            + STAGES * BARRIER_BYTES_OF_STAGE
            + work_bytes(shape, live_tiles);
        let (most, votes) = match (candidates, consumers) {
            (Candidates::None, _) => (0, VOTE_BYTES),
            (Candidates::Sums, _) => (0, 0),
            (_, 3) => (SLOTS_OF_THREE, 0),
            _ => (SLOTS_OF_TWO, 0),
        };
        let room = target.shared_memory_per_block().checked_sub(fixed + votes)?;
        let slots = (room / (consumers * SLOT_BYTES)).min(most) / 8 * 8;
        let registers = if consumers == 3 { [32, 160] } else { [40, 232] };
        let shared_memory = fixed + votes + consumers * slots * SLOT_BYTES;
        Some(HopperRowTiles { block_q, block_kv, consumers, stages: STAGES, slots, registers, shared_memory })
    };
    let fewest = match candidates {
        Candidates::None | Candidates::Sums => 0,
        _ => FEWEST_SLOTS,
    };
    // three consumers hide more, two have more slots
    let three = match candidates {
        Candidates::Few | Candidates::Sums => true,
        // as many again as are kept come between two times that candidates are dropped, and lanes differ
        Candidates::About(kept) => 3 * kept + 8 <= SLOTS_OF_THREE,
        Candidates::None => false,
    };
    let choices = [(3, 128), (3, 96), (2, 128), (2, 64)];
    let mut plans = choices.into_iter().filter(|(consumers, _)| three || *consumers < 3).filter_map(planned);
    let enough = |plan: &HopperRowTiles| {
        plan.slots
            >= match plan.consumers {
                3 if fewest > 0 => SLOTS_OF_THREE,
                _ => fewest,
            }
    };
    plans.find(enough).ok_or("its candidates need more shared memory than a block has")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ElementType;

    #[test]
    fn every_half_shape_has_tiles() {
        use Candidates::{About, Few, None, Sums};
        for head_dim in (8..=256).step_by(8) {
            for candidates in [Few, About(4), About(16), Sums, None] {
                let shape = Shape::new(ElementType::Bf16, head_dim, head_dim).unwrap();
                for shape in [shape, shape.packed()] {
                    let tiles = hopper_rows(shape, Target::Sm90a, candidates, true).unwrap();
                    assert!(tiles.shared_memory <= 227 << 10, "{shape}: {tiles:?}");
                    assert_eq!(tiles.slots == 0, matches!(candidates, None | Sums), "{shape}: {tiles:?}");
                    let registers = 128 * (tiles.registers[0] + tiles.consumers * tiles.registers[1]);
                    assert!(registers <= crate::plan::hopper::launched_registers(tiles.consumers), "{tiles:?}");
                }
            }
        }
    }

    #[test]
    fn many_candidates_take_two_consumers() {
        let shape = Shape::new(ElementType::Bf16, 128, 128).unwrap();
        let choice = |candidates| {
            let tiles = hopper_rows(shape, Target::Sm90a, candidates, false).unwrap();
            (tiles.consumers, tiles.block_kv, tiles.slots)
        };
        assert_eq!(choice(Candidates::Few), (3, 96, 40));
        assert_eq!(choice(Candidates::About(4)), (3, 96, 40));
        assert_eq!(choice(Candidates::About(16)), (2, 128, 64));
    }

    #[test]
    fn others_are_refused() {
        let refused = |element, target| {
            hopper_rows(Shape::new(element, 64, 64).unwrap(), target, Candidates::Few, false).unwrap_err()
        };
        assert!(refused(ElementType::F32, Target::Sm90a).contains("f32"));
        assert!(refused(ElementType::Bf16, Target::Sm80).contains("sm_90a"));
    }
}
