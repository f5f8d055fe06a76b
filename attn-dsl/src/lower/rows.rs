//! Row passes: what a row must know of all of its scores before the main pass can weigh one of them.
//!
//! A pass reads nothing but scores, and what earlier passes found. The main pass and the backward pass read its values as rows
//! ([`Input::Row`]) and are programs of the usual classes over them.
//!
//! ```text
//! entmax(alpha)   r_ij = max((alpha - 1) (s_ij - greatest_i) - threshold_i, 0)     p_ij = r_ij^(1 / (alpha - 1))
//!                 u_ij = r_ij^((2 - alpha) / (alpha - 1))                            ds_ij = u_ij (dP_ij - D_i)
//!                 D_i = dO_i . O2_i                                                O2_i = sum_j u_ij v_j / sum_j u_ij
//! top_k(k)        w_ij = 0 where s_ij < kth_score_i, or s_ij = kth_score_i and kv > last_kept_i
//! keep: |s, ..|   w_ij = 0 where the condition does not hold
//! post: |p|       o_ij = post(p_ij)       dp_ij = post'(p_ij) dP_ij       O2_i = sum_j p_ij post'(p_ij) v_j
//! ```
//! (Martins and Astudillo, From Softmax to Sparsemax, 2016; Peters et al., Sparse Sequence-to-Sequence Models, 2019; Correia et
//! al., Adaptively Sparse Transformers, 2019.)
//!
//! Invariants:
//! * Every pass and every program that decides by a score whether a pair has a weight reads the same node for the score, so that
//!   executors that compute it alike agree on every pair.
//! * A NaN among the scores of a row reaches its output: no comparison drops it.
//! * Where a row has no weight (no key is kept, all scores are minus infinity) output and gradients are 0.

use std::collections::BTreeSet;
use std::f64::consts::LN_2;

use crate::definition::{Definition, Keep};
use crate::diff::derivative;
use crate::ir::{Binary, Compare, Graph, Input, NodeId, Op, Reduction, Row, RowValue, Unary};
use crate::simplify::simplify;

use super::backward::Builder;
use super::forward::{Weights, in_powers_of_two, unless_dropped, weights};
use super::live::where_live;
use super::{Class, LowerError};

/// A pass whose rows are not all known yet.
pub(super) enum Pending {
    Entmax { score: NodeId, alpha: NodeId },
    TopK { score: NodeId, k: NodeId, ties: bool },
    Weights(Weights),
}

impl Pending {
    /// The expressions of the pass.
    pub(super) fn roots(&self) -> Vec<NodeId> {
        match self {
            Pending::Entmax { score, alpha } => vec![*score, *alpha],
            Pending::TopK { score, k, .. } => vec![*score, *k],
            Pending::Weights(weights) => {
                let rows = weights.normalizer.iter().chain(&weights.floors).copied();
                [weights.pair].into_iter().chain(rows).collect()
            }
        }
    }
}

/// What is read of the pass of this number, as inputs of its own.
pub(super) fn own_rows(read: &BTreeSet<Input>, pass: usize) -> BTreeSet<Input> {
    let own = read.iter().filter_map(|input| match input {
        Input::Row(row) if usize::from(row.pass) == pass => match row.value {
            RowValue::Shift => Some(Input::Shift),
            RowValue::Reduction(reduction) => Some(Input::Reduction(reduction)),
            RowValue::ArgMax => Some(Input::ArgMax),
            _ => None,
        },
        _ => None,
    });
    own.collect()
}

/// The parts of an entmax's weights.
#[derive(Clone, Copy)]
pub(super) struct Entmax {
    /// A float of tile rate.
    pub(super) alpha: NodeId,
    /// What a pair has above the threshold, below 0 where it has no weight.
    excess: NodeId,
    /// `p`.
    pub(super) probability: NodeId,
    /// `u`, the derivative of `p` in the score.
    pub(super) slope: NodeId,
}

impl Entmax {
    /// An entmax of these scores, whose row values are those of a pass.
    fn new(graph: &mut Graph, score: NodeId, alpha: NodeId, pass: u8) -> Entmax {
        let [greatest, threshold] =
            [RowValue::Greatest, RowValue::Threshold].map(|value| graph.input(Input::Row(Row { pass, value })));
        let one = graph.float(1.0);
        let factor = graph.difference(alpha, one);
        let relative = graph.difference(score, greatest);
        let scaled = graph.product(relative, factor);
        let excess = graph.difference(scaled, threshold);
        let excess = simplify(graph, excess);
        let (one, two) = (graph.float(1.0), graph.float(2.0));
        let (probability, slope) = match graph.as_float(alpha) {
            Some(2.0) => (excess, one),
            Some(1.5) => (graph.product(excess, excess), excess),
            _ => {
                let log = graph.unary(Unary::Log2, excess);
                let exponent = graph.quotient(log, factor);
                let probability = graph.unary(Unary::Exp2, exponent);
                let rest = graph.difference(two, alpha);
                let rest = graph.quotient(rest, factor);
                let exponent = graph.product(log, rest);
                (probability, graph.unary(Unary::Exp2, exponent))
            }
        };
        let [probability, slope] = [probability, slope].map(|value| {
            let value = above_threshold(graph, excess, value);
            in_powers_of_two(graph, value)
        });
        Entmax { alpha, excess, probability, slope }
    }

    /// `p (1 - ln r) / (alpha - 1)^2`, 0 where `p` is.
    pub(super) fn alpha_slope(&self, graph: &mut Graph) -> NodeId {
        let (one, ln_2) = (graph.float(1.0), graph.float(LN_2));
        let log = graph.unary(Unary::Log2, self.excess);
        let log = graph.product(log, ln_2);
        let rest = graph.difference(one, log);
        let slope = graph.product(self.probability, rest);
        let slope = above_threshold(graph, self.excess, slope);
        let factor = graph.difference(self.alpha, one);
        let square = graph.product(factor, factor);
        graph.quotient(slope, square)
    }
}

/// `value` where `excess` is above 0 (or NaN), else 0.
fn above_threshold(graph: &mut Graph, excess: NodeId, value: NodeId) -> NodeId {
    let zero = graph.float(0.0);
    let below = graph.compare(Compare::Le, excess, zero);
    graph.select(below, zero, value)
}

/// A map after normalization, at the row's own weights.
pub(super) struct PostMap {
    /// The map, over `Input::Probability`.
    pub(super) map: NodeId,
    /// The normalized weight.
    pub(super) probability: NodeId,
    /// The map of it, 0 where `unmapped`.
    pub(super) value: NodeId,
    /// The derivative of the map there.
    pub(super) slope: NodeId,
    /// Where the map does not see a weight (a dropped pair, a row whose normalizer is 0), if that makes a difference.
    unmapped: Option<NodeId>,
}

impl PostMap {
    /// `test` is whether a pair is tested even if the map keeps 0 where it is.
    fn new(graph: &mut Graph, map: NodeId, probability: NodeId, unmapped: Option<NodeId>, test: bool) -> PostMap {
        let weight = graph.input(Input::Probability);
        let (zero, one) = (graph.float(0.0), graph.float(1.0));
        let slope = derivative(graph, map, &[weight], one)[0];
        let at = |graph: &mut Graph, root: NodeId, weight_is: NodeId| {
            let root = graph.substitute(root, weight, weight_is);
            in_powers_of_two(graph, root)
        };
        // most maps keep 0 where it is, and need no test
        let [at_zero, slope_at_zero] = [map, slope].map(|root| at(graph, root, zero));
        let is_harmless =
            graph.as_float(at_zero) == Some(0.0) && graph.as_float(slope_at_zero).is_some_and(f64::is_finite);
        let unmapped = unmapped.filter(|_| test || !is_harmless);
        let [value, slope] = [map, slope].map(|root| at(graph, root, probability));
        let value = unless_dropped(graph, unmapped, value, 0.0);
        PostMap { map, probability, value, slope, unmapped }
    }

    /// `value`, 0 where the map does not see a weight.
    pub(super) fn where_mapped(&self, graph: &mut Graph, value: NodeId) -> NodeId {
        unless_dropped(graph, self.unmapped, value, 0.0)
    }

    /// `p post'(p)`, the weight of the second output.
    pub(super) fn second(&self, graph: &mut Graph, weight: NodeId) -> NodeId {
        let value = graph.product(weight, self.slope);
        let value = self.where_mapped(graph, value);
        in_powers_of_two(graph, value)
    }
}

/// What precedes the main pass, and the weights of the row before any map.
pub(super) struct Rows {
    pub(super) passes: Vec<Pending>,
    pub(super) weights: Weights,
    pub(super) post: Option<PostMap>,
    /// The pass that has the rows of `weights`, where the main pass has a map instead.
    pub(super) weights_pass: Option<u8>,
    /// As [`super::Lowered::decisions`].
    pub(super) decisions: Vec<NodeId>,
}

/// Finds the passes of a definition.
pub(super) fn rows(graph: &mut Graph, definition: &Definition) -> Result<Rows, LowerError> {
    let mut passes = Vec::new();
    let alpha = definition.entmax.map(|alpha| in_powers_of_two(graph, alpha));
    let dropped = match definition.keep {
        None => None,
        Some(Keep::TopK { k, ties }) => Some(top_k(graph, definition, &mut passes, k, ties)),
        Some(Keep::Where(condition)) => Some(unkept(graph, definition, &mut passes, condition, alpha)?),
    };
    let weights = match alpha {
        Some(alpha) => entmax_weights(graph, definition, &mut passes, alpha, dropped),
        None => weights(graph, definition, dropped)?,
    };
    // the gradient of a sparsemax jumps at its threshold
    let support = weights.entmax.filter(|entmax| graph.as_float(entmax.alpha) == Some(2.0));
    let decisions: Vec<NodeId> = dropped.into_iter().chain(support.map(|entmax| entmax.excess)).collect();
    let Some(map) = definition.post else {
        return Ok(Rows { passes, weights, post: None, weights_pass: None, decisions });
    };
    let mut builder = Builder::new(graph, definition, &weights);
    let mut probability = builder.probability();
    let is_zero = (weights.class != Class::Elementwise).then(|| builder.normalizer_is_zero());
    let mut unmapped = dropped.into_iter().chain(is_zero).collect::<Vec<_>>();
    let divides = weights.class == Class::Elementwise && weights.normalizer.is_some();
    if let (Class::Elementwise, Some(z)) = (weights.class, weights.normalizer) {
        let zero = graph.float(0.0);
        let is_zero = graph.compare(Compare::Eq, z, zero);
        probability = graph.select(is_zero, zero, probability);
        unmapped.push(is_zero);
    }
    let unmapped = unmapped.into_iter().reduce(|a, b| graph.binary(Binary::Or, a, b));
    let unmapped = unmapped.map(|unmapped| simplify(graph, unmapped));
    let map = where_live(graph, map, definition.mask);
    let map = in_powers_of_two(graph, map);
    let post = PostMap::new(graph, map, probability, unmapped, divides);
    let reduces = weights.class != Class::Elementwise;
    let weights_pass = reduces.then(|| push(&mut passes, Pending::Weights(weights.clone())));
    Ok(Rows { passes, weights, post: Some(post), weights_pass, decisions })
}

fn push(passes: &mut Vec<Pending>, pass: Pending) -> u8 {
    passes.push(pass);
    u8::try_from(passes.len() - 1).expect("a definition has few passes")
}

/// The score, as every pass reads it.
fn score(graph: &mut Graph, definition: &Definition) -> NodeId {
    let score = where_live(graph, definition.score, definition.mask);
    in_powers_of_two(graph, score)
}

/// Where a pair is not among the first k of its row.
fn top_k(graph: &mut Graph, definition: &Definition, passes: &mut Vec<Pending>, k: NodeId, ties: bool) -> NodeId {
    let (score, k) = (score(graph, definition), simplify(graph, k));
    let pass = push(passes, Pending::TopK { score, k, ties });
    let [kth, last] =
        [RowValue::KthScore, RowValue::LastKept].map(|value| graph.input(Input::Row(Row { pass, value })));
    let less = graph.compare(Compare::Lt, score, kth);
    if ties {
        return less;
    }
    let kv = graph.input(Input::Key);
    let (equal, later) = (graph.compare(Compare::Eq, score, kth), graph.compare(Compare::Gt, kv, last));
    let later = graph.binary(Binary::And, equal, later);
    graph.binary(Binary::Or, less, later)
}

/// Where a condition on what is kept does not hold.
fn unkept(
    graph: &mut Graph,
    definition: &Definition,
    passes: &mut Vec<Pending>,
    condition: NodeId,
    alpha: Option<NodeId>,
) -> Result<NodeId, LowerError> {
    let score = score(graph, definition);
    let mut condition = where_live(graph, condition, definition.mask);
    if graph.reads(condition, Input::GreatestScore) {
        let max = graph.input(Input::Reduction(Reduction::Max));
        let greatest = Weights {
            class: Class::Streaming,
            pair: score,
            natural: score,
            normalizer: Some(max),
            floors: Vec::new(),
            entmax: None,
        };
        let pass = push(passes, Pending::Weights(greatest));
        let greatest = graph.input(Input::Row(Row { pass, value: RowValue::Statistic }));
        let input = graph.input(Input::GreatestScore);
        condition = graph.substitute(condition, input, greatest);
    }
    if graph.reads(condition, Input::Probability) {
        let probability = match alpha {
            Some(alpha) => entmax_weights(graph, definition, passes, alpha, None).pair,
            None => {
                let all = weights(graph, definition, None)?;
                let probability = Builder::new(graph, definition, &all).probability();
                match all.class {
                    Class::Elementwise => probability,
                    _ => {
                        let pass = push(passes, Pending::Weights(all));
                        of_pass(graph, probability, pass)
                    }
                }
            }
        };
        let input = graph.input(Input::Probability);
        condition = graph.substitute(condition, input, probability);
    }
    let input = graph.input(Input::Score);
    let condition = graph.substitute(condition, input, score);
    let condition = in_powers_of_two(graph, condition);
    let dropped = graph.unary(Unary::Not, condition);
    // what is no number is kept, so that it is seen
    let is_number = graph.compare(Compare::Eq, score, score);
    let dropped = graph.binary(Binary::And, is_number, dropped);
    Ok(simplify(graph, dropped))
}

/// The weights of an entmax over what is not dropped.
fn entmax_weights(
    graph: &mut Graph,
    definition: &Definition,
    passes: &mut Vec<Pending>,
    alpha: NodeId,
    dropped: Option<NodeId>,
) -> Weights {
    let score = score(graph, definition);
    let score = unless_dropped(graph, dropped, score, f64::NEG_INFINITY);
    let pass = push(passes, Pending::Entmax { score, alpha });
    let entmax = Entmax::new(graph, score, alpha, pass);
    Weights {
        class: Class::Elementwise,
        pair: entmax.probability,
        natural: score,
        normalizer: None,
        floors: Vec::new(),
        entmax: Some(entmax),
    }
}

/// `root` with the rows of a pass instead of the main pass's own.
pub(super) fn of_pass(graph: &mut Graph, root: NodeId, pass: u8) -> NodeId {
    graph.rewrite(root, |graph, id| {
        let value = match *graph.op(id) {
            Op::Input(Input::Statistic) => RowValue::Statistic,
            Op::Input(Input::Shift) => RowValue::Shift,
            Op::Input(Input::Reduction(reduction)) => RowValue::Reduction(reduction),
            Op::Input(Input::ArgMax) => RowValue::ArgMax,
            _ => return None,
        };
        Some(graph.input(Input::Row(Row { pass, value })))
    })
}

/// The weights of the second output, whose product with dO is `Delta`, and what they are divided by. The pass has the sum of the
/// slopes of an entmax where they are not the weights themselves.
pub(super) fn second_output(graph: &mut Graph, rows: &mut Rows) -> Option<Weights> {
    let sum = graph.input(Input::Reduction(Reduction::Sum));
    let streaming = |pair: NodeId| Weights {
        class: Class::Streaming,
        pair,
        natural: pair,
        normalizer: Some(sum),
        floors: Vec::new(),
        entmax: None,
    };
    match (rows.weights.entmax, &rows.post) {
        (None, None) => None,
        (Some(entmax), None) => Some(streaming(entmax.slope)),
        (Some(entmax), Some(post)) => {
            let slopes = post.second(graph, entmax.slope);
            let pass = push(&mut rows.passes, Pending::Weights(streaming(entmax.slope)));
            let sum = graph.input(Input::Row(Row { pass, value: RowValue::Statistic }));
            let zero = graph.float(0.0);
            let is_zero = graph.compare(Compare::Eq, sum, zero);
            let one = graph.float(1.0);
            let inverse = graph.quotient(one, sum);
            let inverse = graph.select(is_zero, zero, inverse);
            let pair = graph.product(slopes, inverse);
            let pair = in_powers_of_two(graph, pair);
            Some(Weights { class: Class::Elementwise, normalizer: None, ..streaming(pair) })
        }
        (None, Some(post)) => {
            let pair = post.second(graph, post.probability);
            Some(Weights { class: Class::Elementwise, normalizer: None, ..streaming(pair) })
        }
    }
}
