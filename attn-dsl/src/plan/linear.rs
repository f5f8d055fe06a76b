//! Chunks of the linear-time schedule: what a block keeps of a sequence that it walks.
//!
//! A warp owns 16 columns of `c` and of the output, and of the state those columns by all of `b`: `padded / 4` registers a thread
//! per 32 of `b`'s. So head dimensions end at 128.
//!
//! Invariant: a plan's shared memory fits the target's limit.

use super::{PlanError, Shape, Target};

/// The greatest head dimension of either side.
const LARGEST: usize = 128;

/// Chunks of one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinearTiles {
    /// Positions of a chunk.
    pub block: usize,
    /// Warps of a block: one for each 16 columns of the result.
    pub warps: usize,
    /// Chunks that shared memory holds.
    pub stages: usize,
    /// Dynamic shared memory, in bytes.
    pub shared_memory: usize,
    /// Blocks that are meant to share a multiprocessor.
    pub blocks_per_multiprocessor: usize,
}

/// What a kernel keeps in shared memory besides its chunks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearNeeds {
    /// The dimension of the rows whose products are taken, and of those that are summed.
    pub(crate) dims: [usize; 2],
    /// Tiles of rows of each dimension that a chunk has.
    pub(crate) tiles: [usize; 2],
    /// Whether the weights of a chunk are kept.
    pub(crate) weights: bool,
    /// Numbers of each position, kept twice.
    pub(crate) values: usize,
    /// What else, in bytes, for chunks of this many positions.
    pub(crate) extra: fn(usize, [usize; 2]) -> usize,
}

/// Whether a shape has the linear-time schedule.
///
/// # Errors
/// When a batch is packed, or a head dimension exceeds 128.
pub fn linear_fits(shape: Shape) -> Result<(), PlanError> {
    let refuse = |reason: String| Err(PlanError::NotLinear { reason });
    if shape.is_packed() {
        return refuse("packed batches are computed by the quadratic schedule".to_owned());
    }
    match [shape.head_dim(), shape.value_dim()].into_iter().find(|&dim| dim > LARGEST) {
        Some(dim) => refuse(format!("a head dimension is {dim}, and states are kept up to {LARGEST}")),
        None => Ok(()),
    }
}

/// The chunks of a kernel.
pub(crate) fn linear_tiles(shape: Shape, target: Target, needs: LinearNeeds) -> Result<LinearTiles, PlanError> {
    linear_fits(shape)?;
    let element = shape.element().bytes();
    let block = if element == 4 { 32 } else { 64 };
    let [ab, c] = needs.dims.map(|dim| dim.next_multiple_of(16));
    let row = |dim: usize| dim * element + 16;
    let chunk = block * (needs.tiles[0] * row(ab) + needs.tiles[1] * row(c));
    let weights = if needs.weights { block * row(block) } else { 0 };
    let values = 2 * needs.values * block * 4;
    let bytes = |stages: usize| stages * chunk + weights + values + (needs.extra)(block, [ab, c]);
    let available = target.shared_memory_per_block();
    let stages = if bytes(2) <= available { 2 } else { 1 };
    let shared_memory = bytes(stages);
    if shared_memory > available {
        return Err(PlanError::NotLinear {
            reason: format!("a chunk needs {shared_memory} bytes of shared memory, {target} has {available} a block"),
        });
    }
    let fit = target.shared_memory_per_multiprocessor() / (shared_memory + 1024);
    let blocks_per_multiprocessor = if element == 4 { 1 } else { fit.clamp(1, 2) };
    Ok(LinearTiles { block, warps: c / 16, stages, shared_memory, blocks_per_multiprocessor })
}
