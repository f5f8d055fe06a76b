//! The forward pass: composition of score and activation, the class, and the normalizer.
//!
//! Invariant: what is built here is simplified and in powers of two: no `exp` is left, so that kernels pay for `exp2` alone
//! and its factor folds into the expression.

use std::f64::consts::{LN_2, LOG2_E};

use crate::definition::Definition;
use crate::ir::{Graph, Input, Names, NodeId, Op, Unary, print_expression_with};
use crate::simplify::{distribute, simplify};

use super::live::where_live;
use super::rows::Entmax;
use super::shift::shifted_normalizer;
use super::{Class, LowerError, REDUCTIONS};

/// The weights of a row and what they are divided by.
#[derive(Clone)]
pub(super) struct Weights {
    pub(super) class: Class,
    /// As [`super::Forward::pair`].
    pub(super) pair: NodeId,
    /// What the backward pass differentiates: the weight, or the natural exponent of a shifted exponential.
    pub(super) natural: NodeId,
    /// As [`super::Forward::normalizer`].
    pub(super) normalizer: Option<NodeId>,
    pub(super) floors: Vec<NodeId>,
    /// The parts of the weights of an entmax, which are elementwise over what a row pass finds.
    pub(super) entmax: Option<Entmax>,
}

/// Composes the weight, finds the class and brings the normalizer to its form. Where `dropped` holds, a weight is 0.
pub(super) fn weights(
    graph: &mut Graph,
    definition: &Definition,
    dropped: Option<NodeId>,
) -> Result<Weights, LowerError> {
    let score = graph.input(Input::Score);
    let weight = graph.substitute(definition.activation, score, definition.score);
    let weight = where_live(graph, weight, definition.mask);
    let weight = simplify(graph, weight);
    let normalizer = match definition.normalizer {
        Some(node) if !graph.rate(node).is_row() => {
            let expression = with_names(definition, |names| print_expression_with(graph, node, names));
            return Err(LowerError::VariesWithKey { node, expression });
        }
        Some(node) => Some(in_powers_of_two(graph, node)).filter(|&z| graph.as_float(z) != Some(1.0)),
        None => None,
    };
    let reduces =
        normalizer.is_some_and(|z| REDUCTIONS.iter().any(|&reduction| graph.reads(z, Input::Reduction(reduction))));
    let exponent = match *graph.op(weight) {
        Op::Unary(op @ (Unary::Exp | Unary::Exp2), exponent) => Some((op, exponent)),
        _ => None,
    };
    match (definition.normalizer.filter(|_| reduces), exponent) {
        (Some(original), Some((op, exponent))) => {
            let (to_log2, to_natural) = if op == Unary::Exp { (LOG2_E, 1.0) } else { (1.0, LN_2) };
            let pair = distribute(graph, exponent, to_log2);
            let natural = distribute(graph, exponent, to_natural);
            let [pair, natural] = [pair, natural].map(|exponent| {
                let exponent = in_powers_of_two(graph, exponent);
                unless_dropped(graph, dropped, exponent, f64::NEG_INFINITY)
            });
            let (shifted, floors) = shifted_normalizer(graph, definition, original)?;
            Ok(Weights {
                class: Class::ShiftedExponential,
                pair,
                natural,
                normalizer: Some(in_powers_of_two(graph, shifted)),
                floors: floors.into_iter().map(|floor| in_powers_of_two(graph, floor)).collect(),
                entmax: None,
            })
        }
        _ => {
            let pair = in_powers_of_two(graph, weight);
            let pair = unless_dropped(graph, dropped, pair, 0.0);
            let class = if reduces { Class::Streaming } else { Class::Elementwise };
            Ok(Weights { class, pair, natural: pair, normalizer, floors: Vec::new(), entmax: None })
        }
    }
}

/// `value`, or `otherwise` where the pair is dropped.
pub(super) fn unless_dropped(graph: &mut Graph, dropped: Option<NodeId>, value: NodeId, otherwise: f64) -> NodeId {
    let Some(dropped) = dropped else { return value };
    let otherwise = graph.float(otherwise);
    graph.select(dropped, otherwise, value)
}

/// `root` simplified, with `2^(x log2 e)` for every `e^x`.
pub(super) fn in_powers_of_two(graph: &mut Graph, root: NodeId) -> NodeId {
    let simple = simplify(graph, root);
    let binary = graph.rewrite(simple, |graph, id| match *graph.op(id) {
        Op::Unary(Unary::Exp, exponent) => {
            let exponent = distribute(graph, exponent, LOG2_E);
            Some(graph.unary(Unary::Exp2, exponent))
        }
        _ => None,
    });
    simplify(graph, binary)
}

/// Calls `f` with the names that the user gave.
pub(super) fn with_names<T>(definition: &Definition, f: impl FnOnce(Names<'_>) -> T) -> T {
    let parameters: Vec<&str> = definition.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let sizes: Vec<&str> = definition.sizes.iter().map(String::as_str).collect();
    f(Names { parameters: &parameters, sizes: &sizes })
}
