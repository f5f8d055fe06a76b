//! From a checked definition to the program that every executor runs.
//!
//! Lowering composes score and activation, finds the class, rewrites a shifted exponential's normalizer so that nothing
//! overflows, derives the backward pass and simplifies the lot. Its product, [`Lowered`], is shared by the CPU executor and
//! the CUDA writer: they differ in how they walk tiles, never in what they compute.
//!
//! # The mathematics
//! ```text
//! x_ij = q_i . k_j                  s_ij = score(scale * x_ij)        w_ij = activation(s_ij), 0 where masked
//! z_i  = Z(reductions of w_i)       O_i  = sum_j w_ij / z_i v_j
//!
//! D_i  = dO_i . O_i                 dz_i = (statistic gradient term) - D_i / z_i
//! dr_k = dz_i dZ/dr_k               dw_ij = dP_ij / z_i + sum_k dr_k g_k'(w_ij),  dP_ij = dO_i . v_j
//! ds_ij = activation'(s_ij) dw_ij   dx_ij = ds_ij dscore/dx               dtheta += ds_ij dscore/dtheta
//! dq_i = sum_j dx_ij k_j            dk_j = sum_i dx_ij q_i            dv_j = sum_i w_ij / z_i dO_i
//! ```
//!
//! # Shifted exponential
//! When the activation is `exp` of something and the normalizer is a function of the reductions, weights are computed as
//! `2^(t_ij - m_i)`, `t` the exponent in log2 units, `m` the running maximum of `t` and of the row's floors. All reductions
//! are of these shifted weights, and the normalizer is rewritten by degree to `Z' = 2^-m Z`. The saved statistic is
//! `ln z = ln 2 * (m + log2 Z')`, and `P_ij = w_ij / z_i = 2^(t_ij - log2(e) statistic_i)`.
//!
//! # Under the mask
//! What the mask's bounds imply of positions is taken for granted before anything is derived (`live.rs`): dead pairs have any
//! value.
//!
//! # Rows without a live key, rows with z = 0
//! O is 0 and every gradient is 0. `P` and `dx` are selected to 0 where the mask is false by the executor, never by the
//! expressions here. Where `z` is 0 it is these expressions that see to it, by the statistic (`backward.rs`): a row whose scores
//! are all minus infinity has live keys and no weight.

mod backward;
mod bounds;
mod error;
mod feature;
mod forward;
mod linear;
mod live;
mod print;
mod shift;
mod sum;

use std::collections::BTreeSet;

use crate::definition::Definition;
use crate::ir::{Graph, Input, NodeId, Op, ParameterId, Reduction};
use crate::simplify::simplify;

#[cfg(feature = "cuda")]
pub(crate) use bounds::{Bound, Bounds};
pub use error::LowerError;
pub use feature::Feature;
pub use linear::{FactorGradient, Linear, NotLinear, Side};
#[cfg(feature = "cuda")]
pub(crate) use sum::parts;

/// In the order in which gradients through them are taken.
const REDUCTIONS: [Reduction; 3] = [Reduction::Sum, Reduction::SumSquares, Reduction::Max];

/// How a row is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The weight of a pair depends on that pair alone. Nothing is saved for the backward pass but, where parameters of the
    /// normalizer need it, O.
    Elementwise,
    /// Reductions of plain weights accumulate while keys stream by; the output is divided by `z` at the end.
    Streaming,
    /// As `Streaming`, with weights `2^(t - m)` shifted by a running maximum and rescaled when it rises.
    ShiftedExponential,
}

/// A value that the forward pass keeps for each row, as f32, for the backward pass. The statistic is always first where present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SavedRow {
    /// `Input::Statistic`.
    Statistic,
    /// `Input::Shift`.
    Shift,
    /// `Input::Reduction`.
    Reduction(Reduction),
    /// `Input::ArgMax`, an i32 stored in the bits of the f32.
    ArgMax,
}

/// The forward pass.
#[derive(Clone, Debug)]
pub struct Forward {
    /// `Elementwise` and `Streaming`: the weight `w_ij`, over `Product` and indices.
    /// `ShiftedExponential`: the exponent `t_ij` in log2 units, so that `w_ij = 2^t_ij`.
    pub pair: NodeId,
    /// `ShiftedExponential` only: row expressions in log2 units that the shift starts from (their maximum; minus infinity
    /// when there is none). They hold the constant of softmax_1 (0) and a sink.
    pub shift_floors: Vec<NodeId>,
    /// The reductions to accumulate: all that `normalizer`, `saved` or the backward pass need.
    pub reductions: Vec<Reduction>,
    /// Whether the position of the largest weight is tracked.
    pub arg_max: bool,
    /// A row expression: `z_i`, over `Reduction` and row inputs; for `ShiftedExponential` the shifted `Z'`, over shifted
    /// reductions and `Shift`. `None` when there is nothing to divide by.
    pub normalizer: Option<NodeId>,
    /// What is kept for the backward pass. Empty for `Elementwise`.
    pub saved: Vec<SavedRow>,
}

/// How a parameter's gradient is found.
#[derive(Clone, Debug)]
pub struct ParameterGradient {
    /// Which parameter.
    pub parameter: ParameterId,
    /// The integer index expressions of the read, one per axis, that the gradient is added at (clamped like the read).
    pub index: Vec<NodeId>,
    /// The contribution: of each live pair if `per_pair`, else of each row (a row expression; rows without a live key
    /// contribute 0).
    pub value: NodeId,
    /// Whether `value` is summed over pairs or over rows.
    pub per_pair: bool,
}

/// The backward pass. Expressions are over `Product`, `OutputGradProduct`, indices, the saved rows and `Delta`:
///
/// `Delta_i = dO_i . O_i - dstatistic_i` for a shifted exponential (statistic `ln z`),
/// `Delta_i = dO_i . O_i - z_i dstatistic_i` for a streaming variant (statistic `z`), `dO_i . O_i` for elementwise ones.
#[derive(Clone, Debug)]
pub struct Backward {
    /// `P_ij = w_ij / z_i`: dv_j = sum_i P_ij dO_i.
    pub probability: NodeId,
    /// `dx_ij` without the factor `product_grad_scale`.
    pub product_grad: NodeId,
    /// A tile-rate factor of `dx_ij`, applied to dq and dk at the end; `None` is 1.
    pub product_grad_scale: Option<NodeId>,
    /// Whether any expression needs `Delta`.
    pub needs_delta: bool,
    /// Every contribution to every learnable parameter.
    pub parameters: Vec<ParameterGradient>,
}

/// A definition, lowered. The graph holds the expressions of both passes and of the mask.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// What was lowered.
    pub definition: Definition,
    /// The arena of all expressions below.
    pub graph: Graph,
    /// How a row is computed.
    pub class: Class,
    /// Bool: whether a pair is live; `None` is all live.
    pub mask: Option<NodeId>,
    /// Whether any expression reads `LiveKeys`.
    pub needs_live_keys: bool,
    /// The forward pass.
    pub forward: Forward,
    /// The backward pass.
    pub backward: Backward,
    /// The feature maps of q and of k: products are of mapped elements, and gradients of q and k pass through them.
    pub features: [Option<Feature>; 2],
}

/// Lowers a definition: its class, the expressions of both passes, and what the forward pass saves for the backward pass.
///
/// # Errors
/// When the normalizer has no form that cannot overflow, or varies with the key.
pub fn lower(definition: &Definition) -> Result<Lowered, LowerError> {
    let mut graph = definition.graph.clone();
    let weights = forward::weights(&mut graph, definition)?;
    let backward = backward::backward(&mut graph, definition, &weights);
    let mask = definition.mask.map(|mask| simplify(&mut graph, mask)).filter(|&mask| *graph.op(mask) != Op::Bool(true));

    let mut backward_roots = vec![backward.probability, backward.product_grad];
    backward_roots.extend(backward.product_grad_scale);
    backward_roots.extend(backward.parameters.iter().map(|gradient| gradient.value));
    backward_roots.extend(backward.parameters.iter().flat_map(|gradient| &gradient.index));
    let rows: BTreeSet<Input> = backward_roots.iter().flat_map(|&root| backward::rows_read(&graph, root)).collect();
    let saved = saved_rows(weights.class, &rows);
    let arg_max = rows.contains(&Input::ArgMax);
    let accumulated = weights.normalizer.map(|z| backward::rows_read(&graph, z)).unwrap_or_default();
    let reductions = accumulated.union(&rows).filter_map(|input| match input {
        Input::Reduction(reduction) => Some(*reduction),
        _ => None,
    });
    let reductions = reductions.collect();

    let mut roots = backward_roots;
    roots.push(weights.pair);
    roots.extend(weights.normalizer.iter().chain(&mask).chain(&weights.floors));
    let needs_live_keys = roots.iter().any(|&root| graph.reads(root, Input::LiveKeys));
    let forward = Forward {
        pair: weights.pair,
        shift_floors: weights.floors,
        reductions,
        arg_max,
        normalizer: weights.normalizer,
        saved,
    };
    Ok(Lowered {
        definition: definition.clone(),
        graph,
        class: weights.class,
        mask,
        needs_live_keys,
        forward,
        backward,
        features: definition.features.map(|map| map.map(|map| Feature::of(definition, map))),
    })
}

/// The statistic, then what else the backward pass reads.
fn saved_rows(class: Class, rows: &BTreeSet<Input>) -> Vec<SavedRow> {
    let statistic = (class != Class::Elementwise).then_some(SavedRow::Statistic);
    let others = rows.iter().map(|row| match row {
        Input::Shift => SavedRow::Shift,
        Input::Reduction(reduction) => SavedRow::Reduction(*reduction),
        Input::ArgMax => SavedRow::ArgMax,
        other => unreachable!("{other:?} is not a saved row"),
    });
    let mut saved: Vec<_> = statistic.into_iter().chain(others).collect();
    saved.sort_unstable();
    saved
}
