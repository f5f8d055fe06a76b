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
mod rows;
mod shift;
mod sum;

use std::collections::BTreeSet;

use self::forward::Weights;
use self::rows::Pending;
use crate::definition::Definition;
use crate::ir::{Graph, Input, NodeId, Op, ParameterId, Reduction, Row, RowValue};
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
    /// What a row pass found; an integer is stored in the bits of the f32.
    Row(Row),
}

impl SavedRow {
    /// The input that reads it.
    pub fn input(self) -> Input {
        match self {
            SavedRow::Statistic => Input::Statistic,
            SavedRow::Shift => Input::Shift,
            SavedRow::Reduction(reduction) => Input::Reduction(reduction),
            SavedRow::ArgMax => Input::ArgMax,
            SavedRow::Row(row) => Input::Row(row),
        }
    }

    /// As a value of a row pass.
    pub(crate) fn of_pass(self) -> Option<RowValue> {
        match self {
            SavedRow::Statistic => Some(RowValue::Statistic),
            SavedRow::Shift => Some(RowValue::Shift),
            SavedRow::Reduction(reduction) => Some(RowValue::Reduction(reduction)),
            SavedRow::ArgMax => Some(RowValue::ArgMax),
            SavedRow::Row(_) => None,
        }
    }
}

/// What must be known of a whole row before the main pass: f32 or i32 values `[b, h, q]`, found from the scores of all live keys.
/// Later passes, the main pass and the backward pass read them as [`Input::Row`].
#[derive(Clone, Debug)]
pub enum RowPass {
    /// [`RowValue::Greatest`], the greatest score `g`, and [`RowValue::Threshold`], the `t` with
    /// `sum_j max((alpha - 1) (s_ij - g) - t, 0)^(1 / (alpha - 1)) = 1`, which is in -1..0 (Peters et al., 2019). A row without a
    /// key, or whose scores are all minus infinity, has `g = 0` and `t` infinite, so that no pair has a weight; a row with a NaN
    /// or a score of plus infinity has `t` NaN.
    Entmax {
        /// A float: minus infinity where a pair is not kept.
        score: NodeId,
        /// A float of tile rate, above 1 and at most 2; elsewhere any `t` will do.
        alpha: NodeId,
    },
    /// [`RowValue::KthScore`], the k-th greatest score of the row, and [`RowValue::LastKept`], the last key to keep among those of
    /// this score, so that k are kept in all. A row of at most k live keys has minus infinity and the largest i32, one with k < 1
    /// has plus infinity and -1. A NaN counts as greater than any score.
    TopK {
        /// A float.
        score: NodeId,
        /// An int of row rate.
        k: NodeId,
        /// Whether all keys of the k-th greatest score are kept; `LastKept` is not read then.
        ties: bool,
    },
    /// The rows of a forward pass without output: those of its `saved`, as [`RowValue::Statistic`] and so on.
    Weights(Program),
}

impl RowPass {
    /// What the pass finds of each row.
    pub fn values(&self) -> Vec<RowValue> {
        match self {
            RowPass::Entmax { .. } => vec![RowValue::Greatest, RowValue::Threshold],
            RowPass::TopK { ties: true, .. } => vec![RowValue::KthScore],
            RowPass::TopK { .. } => vec![RowValue::KthScore, RowValue::LastKept],
            RowPass::Weights(program) => program.forward.saved.iter().filter_map(|saved| saved.of_pass()).collect(),
        }
    }
}

/// A forward pass beside the main one, over the same graph and mask.
#[derive(Clone, Debug)]
pub struct Program {
    /// How a row is computed.
    pub class: Class,
    /// What is computed.
    pub forward: Forward,
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
    /// What is kept for the backward pass: for `Elementwise` values of row passes alone.
    pub saved: Vec<SavedRow>,
}

impl Forward {
    /// The expressions of the pass.
    fn roots(&self) -> Vec<NodeId> {
        [self.pair].into_iter().chain(self.normalizer).chain(self.shift_floors.iter().copied()).collect()
    }
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
/// `Delta_i = dO_i . O2_i` where there is a second output, else
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

impl Backward {
    /// The expressions of the pass.
    fn roots(&self) -> Vec<NodeId> {
        let values = self.parameters.iter().map(|gradient| gradient.value);
        let indices = self.parameters.iter().flat_map(|gradient| &gradient.index).copied();
        let pairs = [self.probability, self.product_grad].into_iter().chain(self.product_grad_scale);
        pairs.chain(values).chain(indices).collect()
    }

    /// Those that may read rows.
    fn roots_mut(&mut self) -> impl Iterator<Item = &mut NodeId> {
        let values = self.parameters.iter_mut().map(|gradient| &mut gradient.value);
        [&mut self.probability, &mut self.product_grad].into_iter().chain(values)
    }
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
    /// What must be known of whole rows before the main pass, in order.
    pub row_passes: Vec<RowPass>,
    /// The main forward pass.
    pub forward: Forward,
    /// The second output `O2` `[b, h, q, dv]`, which the backward pass needs beside the rows: `Delta_i = dO_i . O2_i` where it is
    /// there.
    pub second_output: Option<Program>,
    /// The backward pass.
    pub backward: Backward,
    /// What decides by a pair's score whether it has a weight at all, though its gradient does not vanish there: expressions whose
    /// value must have the same bits in every pass.
    pub decisions: Vec<NodeId>,
    /// The feature maps of q and of k: products are of mapped elements, and gradients of q and k pass through them.
    pub features: [Option<Feature>; 2],
}

impl Lowered {
    /// The values of all row passes, in their order.
    pub fn rows(&self) -> Vec<Row> {
        let passes = self.row_passes.iter().zip(0u8..);
        passes
            .flat_map(|(pass, number)| pass.values().into_iter().map(move |value| Row { pass: number, value }))
            .collect()
    }

    /// This variant with another program for its main forward pass, and no second output: how a program of a row pass, or that of
    /// the second output, is computed.
    pub fn with_program(&self, program: &Program) -> Lowered {
        Lowered { class: program.class, forward: program.forward.clone(), second_output: None, ..self.clone() }
    }
}

/// Lowers a definition: its class, the expressions of both passes, and what the forward pass saves for the backward pass.
///
/// # Errors
/// When the normalizer has no form that cannot overflow, or varies with the key.
pub fn lower(definition: &Definition) -> Result<Lowered, LowerError> {
    let mut graph = definition.graph.clone();
    let mut rows = rows::rows(&mut graph, definition)?;
    let mut backward = backward::backward(&mut graph, definition, &rows.weights, rows.post.as_ref());
    let mask = definition.mask.map(|mask| simplify(&mut graph, mask)).filter(|&mask| *graph.op(mask) != Op::Bool(true));
    let mut second = if backward.needs_delta { rows::second_output(&mut graph, &mut rows) } else { None };
    let mut main = rows.weights.clone();
    if let Some(post) = &rows.post {
        main = Weights { class: Class::Elementwise, pair: post.value, normalizer: None, floors: vec![], ..main };
    }
    if let Some(pass) = rows.weights_pass {
        // the statistic and the like are a pass's then, not the main pass's
        main.pair = rows::of_pass(&mut graph, main.pair, pass);
        backward.roots_mut().for_each(|root| *root = rows::of_pass(&mut graph, *root, pass));
        second.iter_mut().for_each(|second| second.pair = rows::of_pass(&mut graph, second.pair, pass));
    }

    let backward_roots = backward.roots();
    let read_backward: BTreeSet<Input> =
        backward_roots.iter().flat_map(|&root| backward::rows_read(&graph, root)).collect();
    let forward = program(&graph, &main, &read_backward).forward;
    let second_output = second.map(|weights| program(&graph, &weights, &BTreeSet::new()));

    // what is read of each pass, by a later one or by any program
    let mut readers = backward_roots.clone();
    readers.extend(forward.roots());
    readers.extend(second_output.iter().flat_map(|second| second.forward.roots()));
    readers.extend(rows.passes.iter().flat_map(Pending::roots));
    let read: BTreeSet<Input> = readers.iter().flat_map(|&root| backward::rows_read(&graph, root)).collect();
    let passes = rows.passes.into_iter().enumerate().map(|(number, pass)| match pass {
        Pending::Entmax { score, alpha } => RowPass::Entmax { score, alpha },
        Pending::TopK { score, k, ties } => RowPass::TopK { score, k, ties },
        Pending::Weights(weights) => RowPass::Weights(program(&graph, &weights, &rows::own_rows(&read, number))),
    });
    let row_passes: Vec<RowPass> = passes.collect();
    let mut roots = readers;
    roots.extend(mask);
    let needs_live_keys = roots.iter().any(|&root| graph.reads(root, Input::LiveKeys));
    Ok(Lowered {
        definition: definition.clone(),
        graph,
        class: main.class,
        mask,
        needs_live_keys,
        row_passes,
        forward,
        second_output,
        backward,
        decisions: rows.decisions,
        features: definition.features.map(|map| map.map(|map| Feature::of(definition, map))),
    })
}

/// The program of some weights that keeps `rows` beside the statistic.
fn program(graph: &Graph, weights: &Weights, rows: &BTreeSet<Input>) -> Program {
    let accumulated = weights.normalizer.map(|z| backward::rows_read(graph, z)).unwrap_or_default();
    let reductions = accumulated.union(rows).filter_map(|input| match input {
        Input::Reduction(reduction) => Some(*reduction),
        _ => None,
    });
    let forward = Forward {
        pair: weights.pair,
        shift_floors: weights.floors.clone(),
        reductions: reductions.collect(),
        arg_max: rows.contains(&Input::ArgMax),
        normalizer: weights.normalizer,
        saved: saved_rows(weights.class, rows),
    };
    Program { class: weights.class, forward }
}

/// The statistic, then what else is read of a row.
fn saved_rows(class: Class, rows: &BTreeSet<Input>) -> Vec<SavedRow> {
    let statistic = (class != Class::Elementwise).then_some(SavedRow::Statistic);
    let others = rows.iter().map(|row| match row {
        Input::Shift => SavedRow::Shift,
        Input::Reduction(reduction) => SavedRow::Reduction(*reduction),
        Input::ArgMax => SavedRow::ArgMax,
        Input::Row(row) => SavedRow::Row(*row),
        other => unreachable!("{other:?} is not a saved row"),
    });
    let mut saved: Vec<_> = statistic.into_iter().chain(others).collect();
    saved.sort_unstable();
    saved
}
