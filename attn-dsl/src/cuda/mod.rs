//! CUDA source from a lowered variant and a plan.
//!
//! # How a kernel is put together
//! Every source is self-contained: a head comment with the mathematics and the schedule, the primitives of the prelude (the
//! only place with inline PTX), the variant's own part, and the machinery that all variants share (see [`render`]).
//!
//! The variant's own part is a handful of small functions over three structures: `Tile` holds what is constant within one
//! batch and head, `Query` what belongs to a query row, `Key` what belongs to a key column. Functions of pairs see nothing
//! else, so that what varies slowly is computed once; `Relative`, where a schedule keeps it, holds what depends on `kv - q` alone. `live_keys_of` and `live_queries_of` bound the tiles that the mask leaves.
//!
//! # Gradients of parameters
//! In the portable schedule sums over rows come out of the dq kernel and sums over columns out of the dk/dv kernel as one partial
//! sum a row or column; [`backward_hopper`] has its own. Tables and dense parameters have kernels of their own. A last kernel adds
//! partial sums in a fixed order.
//!
//! # Packed batches
//! Kernels of a packed shape ([`Shape::packed`]) find the sequence that a block works on, and its lengths: blocks are counted as if
//! every sequence had room for its tiles and one more. `Tile` has the lengths then. Kernels that copy by tensor maps have one of
//! each sequence (`sequence_maps`).
//!
//! # Determinism
//! Equal inputs give equal bits: the order of every sum is fixed, and blocks that add to the same one (dq on Hopper) wait for their
//! turns. The only atomic operation counts out works to blocks, and no result depends on who computes what. A backward
//! pass that is not `deterministic` leaves out the turns.
//!
//! Invariants: source is a function of its inputs alone; only validated types ([`Lowered`], [`Shape`], [`Target`]) reach this
//! stage; no text of the user's reaches the source but identifiers that pass [`names`] and comments that are cleaned.

mod arguments;
mod assemble;
mod backward;
mod backward_hopper;
mod diagonals;
mod expression;
mod extremes;
mod feature;
mod forward;
mod gradient_hopper;
mod gradients;
mod head;
mod hopper;
mod linear;
mod linear_parameters;
mod mask;
mod names;
mod packed;
mod pairs;
mod part;
mod reduce;
mod relative;
mod render;
mod rows;
mod rows_hopper;
mod rows_weights;
mod sequence_maps;
mod terms;
mod values;

pub use arguments::{Argument, Length, RowArray, TensorRole};
pub use extremes::EXTREMES_BLOCK;
pub use feature::{FEATURE_THREADS, features};
pub use gradients::{GradientKind, gradient_kind, sums_by_position};
pub use linear::{GROUP_SUM_THREADS, LinearSum, group_sum, linear_backward, linear_backward_fits, linear_forward};
pub use reduce::{PartialSums, REDUCE_THREADS, Reduction, reduce_source};

use crate::ir::ParameterId;
use crate::lower::{Lowered, Side};
use crate::plan::{Pass, PlanError, Shape, Target, Tiles};

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KernelKind {
    /// The number of live keys of each row, before the kernels that read it.
    LiveKeys,
    /// The least and greatest element of each block along an axis of an integer parameter, before the kernels that read them.
    Extremes(ParameterId, u32),
    /// Tensor maps of each sequence of a packed batch, before the kernels that read them.
    SequenceMaps,
    /// What a row pass, given by its number, finds: before the forward kernel.
    RowPass(u8),
    /// The output and the saved rows.
    Forward,
    /// The second output, which the backward pass needs.
    SecondOutput,
    /// `Delta` of each row.
    Delta,
    /// Any of dk and dv.
    BackwardKv,
    /// dq, and row sums of parameter gradients.
    BackwardQ,
    /// Partial sums of a table's gradient, one set a tile of queries.
    Table(ParameterId),
    /// The gradient of a dense parameter.
    Dense(ParameterId),
    /// q or k, mapped: before all others.
    Feature(Side),
    /// Gradients in q or k from those in their mapped elements: behind all others.
    FeatureGrad(Side),
    /// The state of each segment of columns of a linear-time sum.
    LinearState(LinearSum),
    /// The states before each segment.
    LinearPrefix(LinearSum),
    /// The sum, chunk by chunk.
    LinearWalk(LinearSum),
    /// What queries or keys add to gradients of parameters, one partial sum each.
    LinearGradients(Side),
    /// The gradient of a table, one sum an entry of a batch and head.
    LinearTable(ParameterId),
    /// Sums over the query heads of a group.
    GroupSum,
}

/// A kernel's source and all that a launch needs to know.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The name of the `__global__` function.
    pub entry: &'static str,
    /// What it computes.
    pub kind: KernelKind,
    /// A file name that says which kernel of which variant this is.
    pub file_name: String,
    /// The whole source.
    pub source: String,
    /// The variant's own part of the source, without head, prelude and machinery.
    pub variant_part: String,
    /// The members of the one parameter, in order.
    pub arguments: Vec<Argument>,
    /// Threads of a block.
    pub threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub shared_memory: u32,
    /// Queries of a tile, 0 where the kernel has none.
    pub block_q: u32,
    /// Keys of a tile, 0 where the kernel has none.
    pub block_kv: u32,
    /// Entries of a table that one block sums, 0 elsewhere.
    pub table_chunk: u32,
    /// Whether blocks take tile after tile of queries: at most as many blocks as multiprocessors are launched along x, one along
    /// y and z. Otherwise there is a block a tile.
    pub persistent: bool,
    /// The plan behind the kernel, where it walks tiles.
    pub tiles: Option<(Pass, Tiles)>,
}

/// The kernels of the forward pass, in the order of their launches.
///
/// # Errors
/// When no tile fits the target.
pub fn forward(lowered: &Lowered, shape: Shape, target: Target) -> Result<Vec<Kernel>, PlanError> {
    forward::kernels(lowered, shape, target)
}

/// The kernels of the forward pass in each of the tiles that are worth a measurement, first those of [`forward`]. All compute the
/// same, up to the order of sums. On targets and for variants of the portable schedule there is one choice.
///
/// ```
/// use attn_dsl::plan::{ElementType, Shape, Target};
///
/// let lowered = attn_dsl::lower::lower(&attn_dsl::compile_one("struct Causal { mask: causal }")?)?;
/// let shape = Shape::new(ElementType::Bf16, 128, 128)?;
/// for kernels in attn_dsl::cuda::forward_choices(&lowered, shape, Target::Sm90a)? {
///     let kernel = kernels.last().expect("a forward pass has a kernel");
///     println!("{} queries x {} keys: {}", kernel.block_q, kernel.block_kv, kernel.file_name);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`forward`].
pub fn forward_choices(lowered: &Lowered, shape: Shape, target: Target) -> Result<Vec<Vec<Kernel>>, PlanError> {
    forward::choices(lowered, shape, target)
}

/// The kernels of the backward pass, in the order of their launches. [`reduce_source`] adds up what they leave.
///
/// With `deterministic`, equal inputs give equal bits. Without, tiles of keys may add to dq in whatever order they come, where a
/// schedule is faster so.
///
/// # Errors
/// When no tile fits the target, or a parameter's gradient has no kernel.
pub fn backward(
    lowered: &Lowered,
    shape: Shape,
    target: Target,
    deterministic: bool,
) -> Result<Vec<Kernel>, PlanError> {
    backward::kernels(lowered, shape, target, deterministic)
}

/// The kernels of the second output, which run after the row passes of [`forward`] where a backward pass follows; none where the
/// variant has no such output.
///
/// # Errors
/// As [`forward`].
pub fn second_output(lowered: &Lowered, shape: Shape, target: Target) -> Result<Vec<Kernel>, PlanError> {
    let Some(program) = &lowered.second_output else { return Ok(vec![]) };
    forward::forward_of(&lowered.with_program(program), shape, target, part::Part::Second)
}

/// The source of `attn_copy`, which copies a tensor whose rows do not start at multiples of 16 bytes, as the other kernels need;
/// the same for every variant, shape and target.
pub fn copy_source() -> &'static str {
    render::COPY
}

/// The rows that a block of `attn_copy` copies, with [`COPY_THREADS`] threads.
pub const COPY_ROWS: u32 = 4;
/// The threads of a block of `attn_copy`.
pub const COPY_THREADS: u32 = 128;
