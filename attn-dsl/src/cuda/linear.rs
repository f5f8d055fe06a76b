//! Kernels of the linear-time schedule.
//!
//! Output and gradients are sums of one form, `out_i = sum_j (a_i . b_j) c_j` with rows and columns scaled ([`Linear`]), so there is
//! one walk for all: a block walks a segment of a head chunk by chunk with the state, `sum_j b_j c_j^T` over the columns before, in
//! registers. What a state is before a segment, two kernels find first: one sums each segment, one adds up segments. Every warp has
//! 16 columns of `c`, of the state and of the output.
//!
//! Invariants: all tensors are read in the order of their rows and no state but those of segments goes to memory; sums of state
//! are f32 and relative to the largest exponent so far.

mod form;
mod own;
mod prefix;

use minijinja::context;

use self::form::Form;
pub use self::form::LinearSum;
pub(super) use self::own::Own;
use self::prefix::prefix_kernel;
use super::arguments::{Argument, Length, RowArray, TensorRole};
use super::assemble::{Machinery, Variant, file_name};
use super::feature::{feature_functions, feature_names, feature_of};
use super::linear_parameters::parameter_kernels;
use super::values::function;
use super::{Kernel, KernelKind};
use crate::ir::{Input, NodeId, Reduction};
use crate::lower::{Linear, Lowered, SavedRow, Side};
use crate::plan::{ElementType, LinearNeeds, LinearTiles, PlanError, Shape, Target, linear_fits, linear_tiles};

/// Threads of a block of `attn_group_sum`.
pub const GROUP_SUM_THREADS: u32 = 256;

/// The variant whose expressions are those of [`Linear`].
pub(super) fn with_graph(lowered: &Lowered, linear: &Linear) -> Lowered {
    Lowered { graph: linear.graph.clone(), ..lowered.clone() }
}

/// Takes a variant apart for a shape that the schedule fits.
pub(super) fn factorised(lowered: &Lowered, shape: Shape) -> Result<Linear, PlanError> {
    linear_fits(shape)?;
    Linear::of(lowered).map_err(|why| PlanError::NotLinear { reason: why.to_string() })
}

/// The kernels of the linear-time forward pass, in the order of their launches.
///
/// # Errors
/// [`PlanError::NotLinear`] where the weight does not factorise or the shape does not fit.
pub fn linear_forward(lowered: &Lowered, shape: Shape, target: Target) -> Result<Vec<Kernel>, PlanError> {
    let linear = factorised(lowered, shape)?;
    let own = with_graph(lowered, &linear);
    sum_kernels(&Form { sum: LinearSum::Output, linear: &linear, lowered: &own }, shape, target)
}

/// Whether every gradient of a variant has the linear-time schedule.
///
/// # Errors
/// [`PlanError::NotLinear`] where one is better summed pair by pair.
pub fn linear_backward_fits(lowered: &Lowered, linear: &Linear, shape: Shape) -> Result<(), PlanError> {
    match linear.cancelling() {
        Some(id) if shape.element() != ElementType::F32 => {
            let name = &lowered.definition.parameter(id).name;
            let reason = format!(
                "the gradient of `{name}`, one of all positions, is a difference of sums that {} does not carry; mark it `const`, or use f32",
                shape.element()
            );
            Err(PlanError::NotLinear { reason })
        }
        _ => Ok(()),
    }
}

/// The kernels of the linear-time backward pass, in the order of their launches; where query heads share keys, dk and dv are those
/// of every query head, and [`group_sum`] follows.
///
/// # Errors
/// As [`linear_forward`], or when a parameter's gradient has no kernel.
pub fn linear_backward(lowered: &Lowered, shape: Shape, target: Target) -> Result<Vec<Kernel>, PlanError> {
    let linear = factorised(lowered, shape)?;
    linear_backward_fits(lowered, &linear, shape)?;
    let own = with_graph(lowered, &linear);
    let mut kernels = vec![];
    let row_gradients = lowered.backward.parameters.iter().any(|gradient| !gradient.per_pair);
    if linear.bias.is_some() || row_gradients {
        kernels.push(super::backward::delta(&Variant::new(&own, shape, target)));
    }
    for sum in [LinearSum::QueryGrad, LinearSum::ValueGrad, LinearSum::KeyGrad] {
        kernels.extend(sum_kernels(&Form { sum, linear: &linear, lowered: &own }, shape, target)?);
    }
    kernels.extend(parameter_kernels(&own, &linear, shape, target)?);
    Ok(kernels)
}

/// The source of `attn_group_sum` for an element type. Its parameter is: the address of `[b h_kv, group, elements]`, that of the
/// sums `[b h_kv, elements]`, the elements as i64, and i32 `group`. Blocks of [`GROUP_SUM_THREADS`] go along x, heads of k and v
/// along y.
pub fn group_sum(lowered: &Lowered, shape: Shape, target: Target) -> Kernel {
    let variant = Variant::new(lowered, shape, target);
    let own = "struct Arguments {
    const element* from;
    element* to;
    i64 elements;
    int group;
};
"
    .to_owned();
    let machine = context! { dtype => shape.element().name() };
    let constants = format!("constexpr int THREADS = {GROUP_SUM_THREADS};\n");
    let source =
        variant.source("group_sum", "sums over query heads of a group", &constants, &own, machine, Machinery::Plain);
    plain(&variant, "attn_group_sum", "group_sum", KernelKind::GroupSum, source, own, vec![], GROUP_SUM_THREADS)
}

/// A kernel without tiles.
#[allow(clippy::too_many_arguments, reason = "the parts of one kernel, each of its own type")]
pub(super) fn plain(
    variant: &Variant<'_>,
    entry: &'static str,
    name: &str,
    kind: KernelKind,
    source: String,
    variant_part: String,
    arguments: Vec<Argument>,
    threads: u32,
) -> Kernel {
    Kernel {
        entry,
        kind,
        file_name: file_name(variant, name),
        source,
        variant_part,
        arguments,
        threads,
        shared_memory: 0,
        block_q: 0,
        block_kv: 0,
        table_chunk: 0,
        persistent: false,
        tiles: None,
    }
}

/// Segments, their states, and the walk.
fn sum_kernels(form: &Form<'_>, shape: Shape, target: Target) -> Result<Vec<Kernel>, PlanError> {
    Ok(vec![
        walk_kernel(form, shape, target, true)?,
        prefix_kernel(form, shape, target),
        walk_kernel(form, shape, target, false)?,
    ])
}

/// The C++ name of a tensor's map, where it has one.
fn map_of(lowered: &Lowered, role: TensorRole) -> Option<(Side, &'static str)> {
    let side = match role {
        TensorRole::Q | TensorRole::QGrad => Side::Query,
        TensorRole::K | TensorRole::KGrad => Side::Key,
        _ => return None,
    };
    feature_of(lowered, side).map(|_| (side, feature_names(side)[0]))
}

fn head_of(role: TensorRole) -> &'static str {
    if matches!(role, TensorRole::K | TensorRole::V) { "kv_head" } else { "head" }
}

/// The walk over a segment, or that over its columns alone, which leaves its state.
fn walk_kernel(form: &Form<'_>, shape: Shape, target: Target, is_state: bool) -> Result<Kernel, PlanError> {
    let Form { sum, linear, lowered } = *form;
    let variant = Variant::new(lowered, shape, target);
    let [a, b, c, out] = sum.tensors();
    let (rows, causal) = (sum.rows(), linear.causal);
    let walks_columns = is_state || causal;
    let row_values = if is_state { vec![] } else { form.row_values() };
    let column_values = if walks_columns { form.column_values() } else { vec![] };
    let column_factor = form.column_factor();

    let mut own = Own::new(&variant);
    let has_row = |name: &str| row_values.iter().any(|(value, _)| *value == name);
    let has_column = |name: &'static str| column_values.contains(&name);
    let zero = linear.graph.ids().find(|&id| linear.graph.as_float(id) == Some(0.0));
    let mut wanted: Vec<(&str, Side, NodeId)> = vec![];
    let uses = |side: Side, row: &'static str, column: &'static str| {
        if rows == side { has_row(row) } else { has_column(column) }
    };
    for (side, factor, factor_name, scale, scale_name, exponent, exponent_name) in [
        (
            Side::Query,
            linear.query_factor,
            "query_factor",
            linear.query_scale,
            "query_scale",
            linear.query_exponent,
            "query_exponent",
        ),
        (
            Side::Key,
            linear.key_factor,
            "key_factor",
            linear.key_scale,
            "key_scale",
            linear.key_exponent,
            "key_exponent",
        ),
    ] {
        let (own, name, used) = match rows == side {
            true => (scale, scale_name, !is_state),
            false => (factor, factor_name, has_column("column_factor")),
        };
        if used && !form.is_one(own) {
            wanted.push((name, side, own));
        }
        if uses(side, "row_exponent", "column_exponent") {
            wanted.push((exponent_name, side, exponent.or(zero).expect("a graph of derivatives has a zero")));
        }
    }
    if form.divides() && uses(Side::Query, "row_inverse", "column_factor") {
        wanted.extend(linear.inverse.map(|inverse| ("query_inverse", Side::Query, inverse)));
    }
    if form.has_bias() && uses(Side::Query, "row_bias", "column_bias") {
        wanted.extend(linear.bias.map(|bias| ("query_bias", Side::Query, bias)));
    }
    let normalized = form.normalized() && !is_state;
    if let Some(root) = linear.normalizer.filter(|_| normalized) {
        own.values.demand(root, &[Input::Reduction(Reduction::Sum)]);
        own.roots.push(root);
    }
    own.functions_of(&wanted);
    if let Some(root) = linear.normalizer.filter(|_| normalized) {
        let (statements, texts) = own.values.body(&[root], &[(Input::Reduction(Reduction::Sum), "sum")]);
        let signature = "float normalizer(const Tile& tile, const Query& query, float sum)";
        own.functions.push_str(&function(signature, &statements, &texts[0]));
    }
    let sums = form.leaves_sums() && !is_state;
    let chained = map_of(lowered, out).filter(|_| !is_state);
    for side in [Side::Query, Side::Key] {
        let of = |role| map_of(lowered, role).is_some_and(|(own, _)| own == side);
        let maps = (!is_state && of(a)) || (walks_columns && (of(b) || of(c))) || (sums && of(out));
        let slopes = chained.is_some_and(|(own, _)| own == side);
        if maps || slopes {
            own.functions.push_str(&feature_functions(&variant, side, [maps, slopes]));
        }
    }

    // tensors, each once
    let raw = match out {
        TensorRole::QGrad => Some(TensorRole::Q),
        TensorRole::KGrad => Some(TensorRole::K),
        _ => None,
    };
    let raw = raw.filter(|_| sums || chained.is_some());
    let mut roles = if is_state { vec![b, c] } else { vec![a, out] };
    if !is_state && causal {
        roles.extend([b, c]);
    }
    roles.extend(raw);
    let mut members: Vec<Argument> = vec![];
    for role in roles {
        if !members.contains(&Argument::Tensor(role)) {
            members.push(Argument::Tensor(role));
        }
    }
    members.push(Argument::States);
    if form.exponents() {
        members.push(Argument::StateExponents);
    }
    if normalized {
        members.push(Argument::Rows(RowArray::Saved(SavedRow::Statistic)));
    }
    let sums_side = if rows == Side::Query { Side::Query } else { Side::Key };
    if sums {
        members.push(Argument::ProductSums(sums_side));
    }
    members.extend([Length::Segments, Length::SegmentChunks].map(Argument::Length));
    if !is_state && !causal {
        members.push(Argument::Length(Length::ColumnSegments));
    }
    let reads_queries = normalized || wanted.iter().any(|(_, side, _)| *side == Side::Query);
    let reads_keys = wanted.iter().any(|(_, side, _)| *side == Side::Key);
    let own = own.text(&variant, &mut members);

    let dims = sum.dims(shape);
    let b_vector = form.normalized();
    let c_vector = form.has_bias();
    let mut names: Vec<&str> = row_values.iter().map(|(name, _)| *name).collect();
    names.extend(&column_values);
    let tiles = match (is_state, causal) {
        (true, _) => [1, 1],
        (false, true) => [2, 1],
        (false, false) => [1, 0],
    };
    let extra: fn(usize, [usize; 2]) -> usize = match (normalized, sums) {
        (true, _) => |block, [ab, _]| 4 * (ab + (block / 16 + 2) * block),
        (_, true) if !causal => |block, [_, c]| 4 * (c / 16) * block,
        _ => |_, _| 0,
    };
    let needs = LinearNeeds { dims, tiles, weights: !is_state && causal, values: names.len(), extra };
    let planned = linear_tiles(shape, target, needs)?;
    let values: Vec<String> = names.iter().map(|name| format!("{name}[BLOCK]")).collect();
    let (rows_name, columns_name) = if rows == Side::Query { ("queries", "keys") } else { ("keys", "queries") };
    let length = |name: &str| if name == "queries" { "q_len" } else { "kv_len" };
    let map = |role: TensorRole| map_of(lowered, role).map(|(_, name)| name);
    let text =
        |role: TensorRole| map(role).map_or_else(|| role.name().to_owned(), |map| format!("{map}({})", role.name()));
    let scale: Vec<&str> = [
        has_column("column_factor").then_some("values.column_factor[column]"),
        form.exponents().then_some("exp2_approx(values.column_exponent[column] - finite_reference)"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let machine = context! {
        dtype => shape.element().name(),
        walk => sum.name(),
        blocks_per_sm => planned.blocks_per_multiprocessor,
        stages => planned.stages,
        causal,
        reverse => causal && rows == Side::Key,
        rows => rows_name,
        columns => columns_name,
        rows_len => length(rows_name),
        columns_len => length(columns_name),
        a => a.name(), b => b.name(), c => c.name(), out => out.name(),
        a_head => head_of(a), b_head => head_of(b), c_head => head_of(c),
        a_text => text(a), b_text => text(b), c_text => text(c),
        a_map => map(a), b_map => map(b), c_map => map(c),
        maps => [a, b, c].into_iter().any(|role| map(role).is_some()),
        raw => raw.map(TensorRole::name),
        raw_head => raw.map(head_of),
        raw_map => raw.and_then(map).unwrap_or_default(),
        raw_slope => chained.map(|(side, _)| feature_names(side)[1]),
        tile => !wanted.is_empty() || normalized,
        reads_queries,
        reads_keys,
        values => values,
        row_values => &row_values,
        column_values => !column_values.is_empty(),
        exponents => form.exponents(),
        column_factor => column_factor.filter(|_| walks_columns),
        column_bias => form.column_bias(),
        row_bias => form.row_bias(),
        row_scale => form.row_scale(),
        row_inverse => has_row("row_inverse"),
        column_scaled => !scale.is_empty(),
        column_scale => scale.join(" * "),
        normalized,
        b_vector,
        c_vector,
        sums => sums.then_some(if sums_side == Side::Query { "query_sums" } else { "key_sums" }),
    };
    let (entry, kind, template) = if is_state {
        ("attn_linear_state", KernelKind::LinearState(sum), "linear_state")
    } else {
        (sum.entry(), KernelKind::LinearWalk(sum), "linear_walk")
    };
    let name = if is_state { format!("linear_state_{}", sum.name()) } else { format!("linear_{}", sum.name()) };
    let constants = constants(dims, &planned);
    let summary = describe(sum, &planned, is_state);
    let source = variant.source(template, &summary, &constants, &own, machine, Machinery::Linear);
    let mut kernel = plain(&variant, entry, &name, kind, source, own, members, 32 * planned.warps as u32);
    kernel.shared_memory = planned.shared_memory as u32;
    let block = planned.block as u32;
    (kernel.block_q, kernel.block_kv) = (block, block);
    Ok(kernel)
}

fn constants([ab, c]: [usize; 2], planned: &LinearTiles) -> String {
    format!(
        "// ---------------------------------------------------------------- shape
constexpr int AB_DIM = {ab}, C_DIM = {c};
constexpr int BLOCK = {}, STAGES = {}, WARPS = {}, THREADS = 32 * WARPS;
",
        planned.block, planned.stages, planned.warps
    )
}

/// The schedule, in one line of the head comment.
fn describe(sum: LinearSum, tiles: &LinearTiles, is_state: bool) -> String {
    let what = if is_state { "states of segments for the " } else { "" };
    format!(
        "{what}{}, linear-time schedule, chunks of {}, {} warp{} of 16 columns, {} stage{}, {} KiB of shared memory",
        if sum == LinearSum::Output { "output" } else { sum.name() },
        tiles.block,
        tiles.warps,
        if tiles.warps == 1 { "" } else { "s" },
        tiles.stages,
        if tiles.stages == 1 { "" } else { "s" },
        tiles.shared_memory.div_ceil(1024),
    )
}
