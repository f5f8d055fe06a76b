//! Splitting off the factors of an expression that are constant within a tile.
//!
//! What every pair of a batch and head is multiplied by can be applied once to the sum: the scale of `dq` and `dk`.
//!
//! Invariant: `factor * rest` equals the expression; `factor` is of tile rate.

use crate::ir::{Binary, Graph, NodeId, Op, Unary};

use super::{LARGEST_TREE, simplify};

/// A factor that pairs share, or the divisor by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    Over(NodeId),
    Under(NodeId),
    Minus,
}

/// `node = factor * rest`, `factor` of tile rate and as much as can be found; `None` is 1. Both are simplified.
///
/// Factors are found in products, quotients and negations, and in what the arms of sums and selects have in common (an arm
/// that is zero has every factor). Nothing is looked for in an expression of thousands of nodes.
pub fn split_tile_factor(graph: &mut Graph, node: NodeId) -> (Option<NodeId>, NodeId) {
    let node = simplify(graph, node);
    if graph.tree_size(node) > LARGEST_TREE {
        return (None, node);
    }
    let Some(mut powers) = powers_of(graph, node).filter(|powers| !powers.is_empty()) else {
        return (None, node);
    };
    let rest = divide(graph, node, &mut powers.clone());
    let rest = simplify(graph, rest);
    let mut factor = graph.float(1.0);
    for power in powers.drain(..) {
        factor = match power {
            Power::Over(a) => graph.product(factor, a),
            Power::Under(a) => graph.quotient(factor, a),
            Power::Minus => graph.unary(Unary::Neg, factor),
        };
    }
    let factor = simplify(graph, factor);
    ((graph.as_float(factor) != Some(1.0)).then_some(factor), rest)
}

/// The powers of tile rate in `id`; `None` for zero, which has all.
fn powers_of(graph: &Graph, id: NodeId) -> Option<Vec<Power>> {
    if graph.as_float(id) == Some(0.0) {
        return None;
    }
    match *graph.op(id) {
        Op::Binary(Binary::Mul, a, b) => {
            let mut powers = powers_of(graph, a)?;
            powers.extend(powers_of(graph, b)?);
            Some(powers)
        }
        Op::Binary(Binary::Div, a, b) => {
            let mut powers = powers_of(graph, a)?;
            powers.extend(inverse(&powers_of(graph, b)?));
            Some(powers)
        }
        Op::Unary(Unary::Neg, a) => {
            let mut powers = powers_of(graph, a)?;
            powers.push(Power::Minus);
            Some(powers)
        }
        Op::Binary(Binary::Add | Binary::Sub, a, b) => common(powers_of(graph, a), powers_of(graph, b)),
        Op::Select { then, otherwise, .. } => common(powers_of(graph, then), powers_of(graph, otherwise)),
        _ if graph.rate(id).is_tile() && graph.as_float(id) != Some(1.0) => Some(vec![Power::Over(id)]),
        _ => Some(vec![]),
    }
}

fn inverse(powers: &[Power]) -> Vec<Power> {
    let one = |power: &Power| match *power {
        Power::Over(a) => Power::Under(a),
        Power::Under(a) => Power::Over(a),
        Power::Minus => Power::Minus,
    };
    powers.iter().map(one).collect()
}

fn common(a: Option<Vec<Power>>, b: Option<Vec<Power>>) -> Option<Vec<Power>> {
    match (a, b) {
        (Some(a), Some(mut b)) => Some(a.into_iter().filter(|power| take(&mut b, *power)).collect()),
        (a, b) => a.or(b),
    }
}

fn take(powers: &mut Vec<Power>, power: Power) -> bool {
    let at = powers.iter().position(|&other| other == power);
    at.map(|at| powers.swap_remove(at)).is_some()
}

/// `id` without those of `powers` that it holds, which are taken out of `powers`.
fn divide(graph: &mut Graph, id: NodeId, powers: &mut Vec<Power>) -> NodeId {
    if powers.is_empty() || graph.as_float(id) == Some(0.0) {
        return id;
    }
    match *graph.op(id) {
        Op::Binary(Binary::Mul, a, b) => {
            let a = divide(graph, a, powers);
            let b = divide(graph, b, powers);
            graph.product(a, b)
        }
        Op::Binary(Binary::Div, a, b) => {
            let a = divide(graph, a, powers);
            let mut inverted = inverse(powers);
            let b = divide(graph, b, &mut inverted);
            *powers = inverse(&inverted);
            graph.quotient(a, b)
        }
        Op::Unary(Unary::Neg, a) => {
            let minus = take(powers, Power::Minus);
            let a = divide(graph, a, powers);
            if minus { a } else { graph.unary(Unary::Neg, a) }
        }
        Op::Binary(op @ (Binary::Add | Binary::Sub), a, b) => {
            let (mut of_a, mut of_b) = shared(graph, [a, b], powers);
            let (a, b) = (divide(graph, a, &mut of_a), divide(graph, b, &mut of_b));
            graph.binary(op, a, b)
        }
        Op::Select { condition, then, otherwise } => {
            let (mut of_then, mut of_otherwise) = shared(graph, [then, otherwise], powers);
            let then = divide(graph, then, &mut of_then);
            let otherwise = divide(graph, otherwise, &mut of_otherwise);
            graph.select(condition, then, otherwise)
        }
        _ if take(powers, Power::Over(id)) => graph.float(1.0),
        _ => id,
    }
}

/// What both arms give up: the part of `powers` that they have in common, taken out of `powers`, once for each.
fn shared(graph: &Graph, arms: [NodeId; 2], powers: &mut Vec<Power>) -> (Vec<Power>, Vec<Power>) {
    let mut held = common(powers_of(graph, arms[0]), powers_of(graph, arms[1])).unwrap_or_default();
    let given: Vec<_> = powers.iter().copied().filter(|&power| take(&mut held, power)).collect();
    for &power in &given {
        take(powers, power);
    }
    (given.clone(), given)
}
