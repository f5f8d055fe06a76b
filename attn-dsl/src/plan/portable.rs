//! Tiles of the portable schedule: a short list of candidates per pass, best first, and the model that picks one.
//!
//! # Registers
//! A thread has 255. A warp owns `row_tiles` tiles of 16 rows; a tile of 16 x n f32 accumulators costs n / 2 registers a
//! thread. Larger `row_tiles` mean fewer loads from shared memory per product, which is what bounds `mma.sync` kernels on an
//! H100 (measured with Nsight Compute: dk/dv at head_dim 128 keeps the shared memory pipe 80 % busy), so the candidates
//! prefer two tiles where the accumulators leave room.
//!
//! Invariant: candidates end with tiles small enough for the smallest target at head_dim 256 in f32.

use std::fmt;

use super::{PlanError, Shape, Target};

/// A kernel that walks tiles of scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pass {
    /// The output and the row statistics; one block a tile of queries.
    Forward,
    /// What must be known of whole rows before that; one block a tile of queries.
    Rows,
    /// dq; one block a tile of queries.
    BackwardQ,
    /// dk and dv; one block a tile of keys.
    BackwardKv,
    /// dv alone, where dk and dv together would not fit the registers.
    BackwardV,
    /// dk alone.
    BackwardK,
    /// The gradient of a table parameter; one block a tile of queries.
    Table,
    /// The gradient of a dense parameter; one block a tile of scores.
    Dense,
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pass::Forward => "forward",
            Pass::Rows => "row pass",
            Pass::BackwardQ => "dq",
            Pass::BackwardKv => "dk and dv",
            Pass::BackwardV => "dv",
            Pass::BackwardK => "dk",
            Pass::Table => "table gradient",
            Pass::Dense => "dense gradient",
        })
    }
}

/// The tile of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// Queries of a tile.
    pub block_q: usize,
    /// Keys of a tile.
    pub block_kv: usize,
    /// Warps of a thread block.
    pub warps: usize,
    /// Tiles of 16 rows that a warp owns.
    pub row_tiles: usize,
    /// Tiles that the ring in shared memory holds.
    pub stages: usize,
    /// Thread blocks that a multiprocessor holds at once, as promised to the compiler.
    pub blocks_per_multiprocessor: usize,
    /// Warps that share rows of keys and split the columns of dk and dv (1: none do).
    pub column_warps: usize,
    /// Whether the fragments of q stay in registers (forward pass).
    pub q_in_registers: bool,
    /// Dynamic shared memory of a thread block, in bytes.
    pub shared_memory: usize,
}

/// A candidate for a tile.
#[derive(Clone, Copy)]
struct Candidate {
    warps: usize,
    row_tiles: usize,
    /// Queries or keys of the streamed tile.
    columns: usize,
    stages: usize,
    column_warps: usize,
}

/// Warps, row tiles, columns of the streamed tile, stages.
const fn tile(warps: usize, row_tiles: usize, columns: usize, stages: usize) -> Candidate {
    Candidate { warps, row_tiles, columns, stages, column_warps: 1 }
}

/// The same with rows shared by several warps.
const fn shared(warps: usize, column_warps: usize, columns: usize, stages: usize) -> Candidate {
    Candidate { warps, row_tiles: 2, columns, stages, column_warps }
}

/// 4-byte fields of each streamed column that a ring has room for at least, so that most variants share one plan.
const COLUMN_FIELDS: usize = 8;
/// Entries of a table that a block sums at once.
pub(crate) const TABLE_CHUNK: usize = 64;

/// Accumulator registers of a thread above which ptxas was seen to spill, or to hide less latency than a smaller tile does.
fn accumulator_limit(pass: Pass) -> usize {
    if pass == Pass::Forward { 180 } else { 200 }
}

/// Picks the tiles of a pass. `column_sums` says that the pass sums parameter gradients over columns, which warps that share
/// rows do not do; `column_fields` is the number of 4-byte fields that each streamed column keeps in shared memory.
pub(crate) fn tiles(
    pass: Pass,
    shape: Shape,
    target: Target,
    column_sums: bool,
    column_fields: usize,
) -> Result<Tiles, PlanError> {
    let mut smallest = usize::MAX;
    for candidate in candidates(pass, shape) {
        let mut tiles = layout(pass, shape, candidate, column_fields.max(COLUMN_FIELDS));
        let splits = candidate.column_warps * 16;
        let is_whole =
            shape.padded_head_dim().is_multiple_of(splits) && shape.padded_value_dim().is_multiple_of(splits);
        if candidate.column_warps > 1 && (column_sums || !is_whole) {
            continue;
        }
        smallest = smallest.min(tiles.shared_memory);
        if tiles.shared_memory > target.shared_memory_per_block()
            || accumulators(pass, shape, candidate) > accumulator_limit(pass)
        {
            continue;
        }
        let by_memory = target.shared_memory_per_multiprocessor() / (tiles.shared_memory + 1024);
        let by_registers = 8 / tiles.warps;
        tiles.blocks_per_multiprocessor = by_memory.min(by_registers).max(1);
        return Ok(tiles);
    }
    let available = target.shared_memory_per_block();
    Err(PlanError::SharedMemory { pass, shape, needed: smallest, target, available })
}

fn candidates(pass: Pass, shape: Shape) -> Vec<Candidate> {
    let wide = shape.element().bytes() == 4;
    match pass {
        Pass::Forward if wide => {
            vec![tile(4, 1, 32, 2), tile(4, 1, 16, 2), tile(4, 1, 16, 1), tile(2, 1, 16, 1)]
        }
        Pass::Forward => vec![
            tile(4, 2, 64, 2),
            tile(4, 2, 48, 2),
            tile(4, 2, 32, 2),
            tile(4, 1, 64, 2),
            tile(4, 1, 32, 2),
            tile(4, 1, 32, 1),
        ],
        // counts of a row take the registers that outputs do not
        Pass::Rows if wide => vec![tile(4, 1, 32, 2), tile(4, 1, 16, 2), tile(4, 1, 16, 1), tile(2, 1, 16, 1)],
        Pass::Rows => vec![tile(4, 1, 64, 2), tile(4, 1, 32, 2), tile(4, 1, 32, 1)],
        Pass::BackwardQ if wide => {
            vec![tile(4, 1, 32, 2), tile(4, 1, 16, 1), tile(2, 1, 16, 1), tile(1, 1, 16, 1)]
        }
        Pass::BackwardQ => {
            vec![tile(4, 2, 64, 2), tile(4, 2, 32, 2), tile(4, 1, 32, 2), tile(4, 1, 16, 1), tile(2, 1, 16, 1)]
        }
        Pass::BackwardKv | Pass::BackwardV | Pass::BackwardK if wide => {
            vec![tile(4, 1, 32, 2), tile(4, 1, 16, 1), tile(2, 1, 16, 1), tile(1, 1, 16, 1)]
        }
        Pass::BackwardKv => vec![
            tile(4, 2, 32, 2),
            shared(8, 2, 64, 2),
            shared(8, 2, 32, 2),
            shared(8, 4, 64, 2),
            tile(8, 1, 64, 2),
            tile(4, 1, 64, 2),
            tile(4, 1, 32, 2),
        ],
        Pass::BackwardV | Pass::BackwardK => vec![
            tile(4, 2, 32, 2),
            tile(8, 1, 64, 2),
            tile(4, 1, 64, 2),
            tile(4, 1, 32, 2),
            tile(4, 1, 16, 1),
            tile(2, 1, 16, 1),
        ],
        Pass::Table => {
            vec![tile(4, 1, 32, 1), tile(4, 1, 16, 1), tile(2, 1, 16, 1), tile(1, 1, 16, 1)]
        }
        Pass::Dense => vec![tile(4, 1, 32, 1), tile(2, 1, 16, 1), tile(1, 1, 16, 1)],
    }
}

/// Accumulator and score registers of a thread.
fn accumulators(pass: Pass, shape: Shape, candidate: Candidate) -> usize {
    let Candidate { row_tiles, columns, column_warps, .. } = candidate;
    let (head, value) = (shape.padded_head_dim() / 2, shape.padded_value_dim() / 2);
    let scores = columns / 2;
    row_tiles
        * match pass {
            Pass::Forward => value + scores,
            Pass::Rows => scores,
            Pass::BackwardQ => head + 2 * scores,
            Pass::BackwardKv => (head + value + 2 * scores) / column_warps,
            Pass::BackwardV => value + scores,
            Pass::BackwardK => head + 2 * scores,
            Pass::Table => 2 * scores,
            Pass::Dense => 3 * scores,
        }
}

fn layout(pass: Pass, shape: Shape, candidate: Candidate, column_fields: usize) -> Tiles {
    let Candidate { warps, row_tiles, columns, stages, column_warps } = candidate;
    let rows = warps / column_warps * row_tiles * 16;
    // fragments of P and dS of a block's scores, in 16-bit elements
    let shared_fragments = if column_warps > 1 { rows * columns * 4 } else { 0 };
    let (head, value) = (shape.head_row_bytes(), shape.value_row_bytes());
    let ring = |row: usize| stages * columns * (row + 4 * column_fields);
    let (block_q, block_kv, shared_memory) = match pass {
        // the output goes through the tile of q, which must hold rows of either
        Pass::Forward => (rows, columns, rows * head.max(value) + ring(head + value)),
        // and a word of each warp
        Pass::Rows => (rows, columns, rows * head + ring(head) + 16),
        Pass::BackwardQ => (rows, columns, rows * (head + value) + ring(head + value)),
        Pass::BackwardKv | Pass::BackwardV | Pass::BackwardK => {
            (columns, rows, rows * (head + value) + ring(head + value) + shared_fragments)
        }
        Pass::Table => (rows, columns, rows * (head + value) + ring(head + value) + TABLE_CHUNK * warps * 32 * 4),
        Pass::Dense => (rows, columns, (rows + columns) * (head + value) + ring(0)),
    };
    let q_in_registers =
        pass == Pass::Forward && row_tiles * shape.padded_head_dim() / 2 <= 64 && shape.padded_value_dim() <= 64;
    Tiles {
        block_q,
        block_kv,
        warps,
        row_tiles,
        stages,
        blocks_per_multiprocessor: 1,
        column_warps,
        q_in_registers,
        shared_memory,
    }
}
