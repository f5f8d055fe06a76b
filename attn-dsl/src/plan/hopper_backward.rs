//! Tiles of the Hopper schedule's backward pass (sm_90a): a block keeps a tile of 128 keys and its values in shared memory and walks
//! tiles of queries; two consumer warpgroups of 64 keys each hold dk and dv in registers, and dq leaves with every tile.
//!
//! # Registers
//! A thread of a consumer holds head_dim / 2 sums of dk and value_dim / 2 of dv, block_q / 2 scores and as many gradients of weights,
//! half of both packed for the next products, and its part of dq, which takes the place of gradients that are used up. With both
//! dimensions up to 64 a tile has 128 queries, up to 128 it has 64; beyond, dk and dv do not fit together, and dv has a kernel of its
//! own.
//!
//! Invariants: what the schedule does not take is refused with a reason, and the portable schedule takes it; tiles fit shared memory.

use super::hopper::{BARRIER_BYTES_OF_STAGE, CHUNK_ROW_BYTES, chunks, half_on_hopper, relative_copy_bytes, work_bytes};
use super::{Shape, Target};

/// Keys of a tile: two consumers of 64.
const BLOCK_KV: usize = 128;
const CONSUMERS: usize = 2;
/// Tiles of q and of do, and of ds, in shared memory.
const STAGES: usize = 2;
/// The ring by which all are told of the tiles that are walked: four, of 16 bytes and two barriers each.
const WALK_BYTES: usize = 4 * (16 + BARRIER_BYTES_OF_STAGE);

/// The tile of a backward kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HopperBackwardTiles {
    pub(crate) block_q: usize,
    pub(crate) block_kv: usize,
    pub(crate) consumers: usize,
    /// Tiles of q, of do and of ds.
    pub(crate) stages: usize,
    /// Chunks of 64 columns of a tile of k: as many as the consumers' parts of dq need.
    pub(crate) k_chunks: usize,
    /// Whether consumers share a tile of dq by its rows; else by its columns.
    pub(crate) dq_by_rows: bool,
    /// Columns of dq that a consumer computes at a time.
    pub(crate) dq_columns: usize,
    /// Parts in which a tile of dq leaves, one after the other through the same place in shared memory.
    pub(crate) dq_parts: usize,
    /// Whether the kernel computes dv as well.
    pub(crate) with_values: bool,
    /// Copies of each value of a distance in shared memory; none where there are no such values.
    pub(crate) relative_copies: usize,
    /// Registers of a thread of the producer and of a consumer.
    pub(crate) registers: [usize; 2],
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared_memory: usize,
}

/// What a backward kernel keeps in shared memory beside its tiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HopperBackwardNeeds {
    /// 4-byte fields of a query.
    pub(crate) query_fields: usize,
    /// 4-byte fields of a distance of a query and a key.
    pub(crate) relative_fields: usize,
    /// Whether gradients of weights are summed along diagonals.
    pub(crate) sums_diagonals: bool,
    /// Whether the producer finds the tiles that are walked, and tells the others.
    pub(crate) finds_tiles: bool,
}

/// Diagonals whose sums a block keeps, eight of each: those of a tile, and those that the tile before has finished.
pub(crate) const DIAGONALS: usize = 256;

impl HopperBackwardTiles {
    /// Floats of a tile of dq, in the order of the registers that hold it.
    pub(crate) fn dq_tile(&self) -> usize {
        self.dq_parts * self.consumers * 128 * self.dq_registers()
    }

    /// Registers of a thread that hold its share of a part of dq.
    pub(crate) fn dq_registers(&self) -> usize {
        if self.with_values { self.dq_columns / 2 } else { self.dq_columns / 4 }
    }
}

/// The tiles of the backward pass, or why there are none.
pub(crate) fn hopper_backward(
    shape: Shape,
    target: Target,
    needs: HopperBackwardNeeds,
) -> Result<HopperBackwardTiles, &'static str> {
    half_on_hopper(shape, target)?;
    let (head, value) = (chunks(shape.head_dim()), chunks(shape.value_dim()));
    let with_values = head.max(value) <= 2;
    let (block_q, dq_by_rows, k_chunks) = match head.max(value) {
        1 => (128, true, 1),
        _ => (64, false, head.next_multiple_of(CONSUMERS)),
    };
    // shared memory has room for one tile of wide rows
    let stages = if with_values { STAGES } else { 1 };
    if !with_values && needs.sums_diagonals {
        return Err("sums along diagonals need shared memory that tiles of more than 128 columns take");
    }
    let dq_columns = if dq_by_rows { shape.padded_head_dim() } else { 64 };
    let tile = |rows: usize, chunks: usize| rows * chunks * CHUNK_ROW_BYTES;
    let queries = tile(block_q, head + value) + tile(block_q, BLOCK_KV / 64) + block_q * 4 * needs.query_fields;
    // a wide tile of dq leaves in halves of its chunks
    let (dq, dq_parts) = match with_values {
        true => (CONSUMERS * 64 * dq_columns * 4, 1),
        false => (CONSUMERS * 64 * dq_columns * 4 / 2, 2 * k_chunks / CONSUMERS),
    };
    let (diagonals, diagonal_barriers) =
        if needs.sums_diagonals { (DIAGONALS * 8 * 4, stages * BARRIER_BYTES_OF_STAGE) } else { (0, 0) };
    let walk = if needs.finds_tiles { WALK_BYTES } else { 0 };
    let barriers = 4 * 8 + 2 * stages * BARRIER_BYTES_OF_STAGE + diagonal_barriers + walk;
    let size = |copies: usize| {
        let relatives = copies * needs.relative_fields * relative_copy_bytes(block_q, BLOCK_KV);
        tile(BLOCK_KV, k_chunks + value)
            + stages * (queries + relatives)
            + dq
            + diagonals
            + barriers
            + work_bytes(shape, false)
    };
    // two copies of what varies by distance are read twice as fast
    let copies = if needs.relative_fields == 0 { [0, 0] } else { [2, 1] };
    let fits = |copies: &usize| size(*copies) <= target.shared_memory_per_block();
    let Some(relative_copies) = copies.into_iter().find(fits) else {
        return Err("its tiles need more shared memory than a block has");
    };
    Ok(HopperBackwardTiles {
        block_q,
        block_kv: BLOCK_KV,
        consumers: CONSUMERS,
        stages,
        k_chunks,
        dq_by_rows,
        dq_columns,
        dq_parts,
        with_values,
        relative_copies,
        registers: [24, 240],
        shared_memory: size(relative_copies),
    })
}

/// Which gradient a kernel computes by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum GradientOf {
    Values,
    Keys,
    Queries,
}

/// The tile of a kernel of one gradient: rows that it keeps, and columns that stream by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct HopperGradientTiles {
    pub(crate) block_rows: usize,
    pub(crate) block_columns: usize,
    pub(crate) consumers: usize,
    /// Tiles of q or k, and of do or v, that stream.
    pub(crate) stages: usize,
    pub(crate) grad_stages: usize,
    /// Registers of a thread of the producer and of a consumer.
    pub(crate) registers: [usize; 2],
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared_memory: usize,
}

/// The tiles of a kernel of one gradient, or why there are none. `column_fields` is the number of 4-byte fields of a column that are
/// kept in shared memory; `finds_tiles` says whether the producer finds the tiles that are walked.
pub(crate) fn hopper_gradient(
    shape: Shape,
    target: Target,
    of: GradientOf,
    column_fields: usize,
    finds_tiles: bool,
) -> Result<HopperGradientTiles, &'static str> {
    half_on_hopper(shape, target)?;
    let (head, value) = (chunks(shape.head_dim()), chunks(shape.value_dim()));
    let (block_rows, block_columns) = (CONSUMERS * 64, 64);
    let tile = |rows: usize, chunks: usize| rows * chunks * CHUNK_ROW_BYTES;
    // dv needs no v, and its product reads do where those of dk and dq read q and k
    let (own, grad_stages) = match of {
        GradientOf::Values => (head.max(value), STAGES),
        GradientOf::Keys | GradientOf::Queries => (head + value, 1),
    };
    let rings = STAGES * (tile(block_columns, head) + block_columns * 4 * column_fields)
        + grad_stages * tile(block_columns, value);
    let walk = if finds_tiles { WALK_BYTES } else { 0 };
    let barriers = 4 * 8 + (STAGES + grad_stages) * BARRIER_BYTES_OF_STAGE + 8 + walk;
    let shared_memory = tile(block_rows, own) + rings + barriers + work_bytes(shape, false);
    if shared_memory > target.shared_memory_per_block() {
        return Err("its tiles need more shared memory than a block has");
    }
    Ok(HopperGradientTiles {
        block_rows,
        block_columns,
        consumers: CONSUMERS,
        stages: STAGES,
        grad_stages,
        registers: [24, 240],
        shared_memory,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ElementType;
    use crate::plan::hopper::launched_registers;

    #[test]
    fn shapes_have_tiles() {
        for element in [ElementType::F16, ElementType::Bf16] {
            for head_dim in (8..=256).step_by(8) {
                for value_dim in (8..=256).step_by(8) {
                    let shape = Shape::new(element, head_dim, value_dim).unwrap();
                    let is_wide = head_dim.max(value_dim) > 128;
                    let needs = match is_wide {
                        true => HopperBackwardNeeds {
                            query_fields: 2,
                            relative_fields: 1,
                            sums_diagonals: false,
                            finds_tiles: true,
                        },
                        false => HopperBackwardNeeds {
                            query_fields: 4,
                            relative_fields: 2,
                            sums_diagonals: true,
                            finds_tiles: true,
                        },
                    };
                    let tiles = hopper_backward(shape, Target::Sm90a, needs).unwrap();
                    assert_eq!(tiles.with_values, !is_wide);
                    assert!(tiles.shared_memory <= 227 << 10, "{shape}: {tiles:?}");
                    // the tile of dq has a place for every query and column
                    assert!(tiles.dq_tile() >= tiles.block_q * head_dim, "{shape}: {tiles:?}");
                    let registers = 128 * (tiles.registers[0] + tiles.consumers * tiles.registers[1]);
                    assert!(registers <= launched_registers(tiles.consumers), "{shape}: {tiles:?}");
                }
            }
        }
    }

    #[test]
    fn others_are_refused() {
        let refused = |element, target| {
            hopper_backward(Shape::new(element, 64, 64).unwrap(), target, HopperBackwardNeeds::default()).unwrap_err()
        };
        assert!(refused(ElementType::F32, Target::Sm90a).contains("f32"));
        assert!(refused(ElementType::Bf16, Target::Sm80).contains("sm_90a"));
    }
}
