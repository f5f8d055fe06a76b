//! What each operation passes on to its operands: `adjoint * d operation / d operand`.
//!
//! Invariant: where an adjoint is selected to zero no infinite factor meets it: a factor is multiplied inside the selects (of
//! up to [`LEAVES`] leaves, lest expressions grow without bound).

use std::f64::consts::{FRAC_2_SQRT_PI, LN_2};

use crate::ir::{Binary, Compare, Graph, NodeId, Op, Unary};

/// The contributions of `id`, whose adjoint is known, to those of its operands that `wanted` names.
pub(super) fn contributions(
    graph: &mut Graph,
    id: NodeId,
    adjoint: NodeId,
    wanted: impl Fn(NodeId) -> bool,
) -> Vec<(NodeId, NodeId)> {
    let g = adjoint;
    match graph.op(id).clone() {
        Op::Unary(op, a) => match unary_factor(graph, op, a, id) {
            Factor::Of(factor) => vec![(a, times(graph, g, factor))],
            Factor::Sign => vec![(a, signed(graph, g, a))],
            Factor::MinusOne => vec![(a, negative(graph, g))],
        },
        Op::Binary(op, a, b) => {
            let mut parts = Vec::with_capacity(2);
            if wanted(a) {
                parts.push((a, to_left(graph, op, a, b, g)));
            }
            if wanted(b) {
                parts.push((b, to_right(graph, op, a, b, id, g)));
            }
            parts
        }
        Op::Select { condition, then, otherwise } => {
            let zero = graph.float(0.0);
            let mut parts = Vec::with_capacity(2);
            if wanted(then) {
                parts.push((then, graph.select(condition, g, zero)));
            }
            if wanted(otherwise) {
                parts.push((otherwise, graph.select(condition, zero, g)));
            }
            parts
        }
        // A cast that a differentiable value passes is from float to float.
        Op::Cast(_, a) => vec![(a, g)],
        op => unreachable!("{op:?} has no differentiable operand"),
    }
}

enum Factor {
    Of(NodeId),
    Sign,
    MinusOne,
}

/// `d op(x) / dx`, over `x` and `y = op(x)`.
fn unary_factor(graph: &mut Graph, op: Unary, x: NodeId, y: NodeId) -> Factor {
    let one = graph.float(1.0);
    Factor::Of(match op {
        Unary::Neg => return Factor::MinusOne,
        Unary::Abs => return Factor::Sign,
        Unary::Exp => y,
        Unary::Exp2 => {
            let ln_2 = graph.float(LN_2);
            graph.product(y, ln_2)
        }
        Unary::Ln => graph.quotient(one, x),
        Unary::Log2 => {
            let inverse = graph.quotient(one, x);
            let log2_e = graph.float(std::f64::consts::LOG2_E);
            graph.product(inverse, log2_e)
        }
        Unary::Sqrt => {
            let half = graph.float(0.5);
            graph.quotient(half, y)
        }
        Unary::Tanh => {
            let square = graph.product(y, y);
            graph.difference(one, square)
        }
        Unary::Sigmoid => {
            let rest = graph.difference(one, y);
            graph.product(y, rest)
        }
        Unary::Softplus => graph.unary(Unary::Sigmoid, x),
        Unary::Erf => {
            let square = graph.product(x, x);
            let negative = graph.unary(Unary::Neg, square);
            let bell = graph.unary(Unary::Exp, negative);
            let factor = graph.float(FRAC_2_SQRT_PI);
            graph.product(bell, factor)
        }
        Unary::Sin => graph.unary(Unary::Cos, x),
        Unary::Cos => {
            let sine = graph.unary(Unary::Sin, x);
            graph.unary(Unary::Neg, sine)
        }
        Unary::Floor | Unary::Not => unreachable!("{op:?} passes no derivative"),
    })
}

fn to_left(graph: &mut Graph, op: Binary, a: NodeId, b: NodeId, g: NodeId) -> NodeId {
    match op {
        Binary::Add | Binary::Sub => g,
        Binary::Mul => times(graph, g, b),
        Binary::Div => {
            let one = graph.float(1.0);
            let inverse = graph.quotient(one, b);
            times(graph, g, inverse)
        }
        Binary::Min | Binary::Max => {
            let wins = winner(graph, op, a, b);
            let zero = graph.float(0.0);
            graph.select(wins, g, zero)
        }
        Binary::Rem | Binary::And | Binary::Or => unreachable!("{op:?} is not of floats"),
    }
}

fn to_right(graph: &mut Graph, op: Binary, a: NodeId, b: NodeId, y: NodeId, g: NodeId) -> NodeId {
    match op {
        Binary::Add => g,
        Binary::Sub => negative(graph, g),
        Binary::Mul => times(graph, g, a),
        // d (a / b) / db = -(a / b) / b
        Binary::Div => {
            let ratio = graph.quotient(y, b);
            let factor = graph.unary(Unary::Neg, ratio);
            times(graph, g, factor)
        }
        Binary::Min | Binary::Max => {
            let wins = winner(graph, op, a, b);
            let zero = graph.float(0.0);
            graph.select(wins, zero, g)
        }
        Binary::Rem | Binary::And | Binary::Or => unreachable!("{op:?} is not of floats"),
    }
}

/// Whether `a` is what `min` or `max` takes: strictly, so that `b` has the gradient of a tie.
fn winner(graph: &mut Graph, op: Binary, a: NodeId, b: NodeId) -> NodeId {
    graph.compare(if op == Binary::Max { Compare::Gt } else { Compare::Lt }, a, b)
}

/// `g * sign(a)`, 0 at 0.
fn signed(graph: &mut Graph, g: NodeId, a: NodeId) -> NodeId {
    let zero = graph.float(0.0);
    let above = graph.compare(Compare::Gt, a, zero);
    let below = graph.compare(Compare::Lt, a, zero);
    let minus = negative(graph, g);
    let rest = graph.select(below, minus, zero);
    graph.select(above, g, rest)
}

fn negative(graph: &mut Graph, g: NodeId) -> NodeId {
    map(graph, g, &mut |graph, leaf| graph.unary(Unary::Neg, leaf))
}

/// `g * factor`, inside the selects of `g`.
pub(super) fn times(graph: &mut Graph, g: NodeId, factor: NodeId) -> NodeId {
    map(graph, g, &mut |graph, leaf| {
        if graph.as_float(leaf) == Some(1.0) { factor } else { graph.product(leaf, factor) }
    })
}

/// The most leaves of nested selects that a factor is multiplied into: beyond it is multiplied outside of them.
const LEAVES: usize = 16;

/// `g` mapped: inside its outermost selects where an arm of theirs is zero and stays so.
fn map(graph: &mut Graph, g: NodeId, f: &mut impl FnMut(&mut Graph, NodeId) -> NodeId) -> NodeId {
    let (mut leaves, mut zeros) = (0, 0);
    count_leaves(graph, g, &mut leaves, &mut zeros);
    if zeros > 0 && leaves <= LEAVES { map_leaves(graph, g, f) } else { f(graph, g) }
}

fn is_zero(graph: &Graph, id: NodeId) -> bool {
    graph.as_float(id) == Some(0.0)
}

fn count_leaves(graph: &Graph, g: NodeId, leaves: &mut usize, zeros: &mut usize) {
    match *graph.op(g) {
        _ if *leaves > LEAVES => {}
        Op::Select { then, otherwise, .. } => {
            count_leaves(graph, then, leaves, zeros);
            count_leaves(graph, otherwise, leaves, zeros);
        }
        _ => {
            *leaves += 1;
            *zeros += usize::from(is_zero(graph, g));
        }
    }
}

fn map_leaves(graph: &mut Graph, g: NodeId, f: &mut impl FnMut(&mut Graph, NodeId) -> NodeId) -> NodeId {
    match *graph.op(g) {
        Op::Select { condition, then, otherwise } => {
            let then = map_leaves(graph, then, f);
            let otherwise = map_leaves(graph, otherwise, f);
            graph.select(condition, then, otherwise)
        }
        _ if is_zero(graph, g) => g,
        _ => f(graph, g),
    }
}

/// `a + b`, inside their selects where the conditions agree.
pub(super) fn plus(graph: &mut Graph, a: NodeId, b: NodeId) -> NodeId {
    plus_to(graph, a, b, DEEPEST)
}

/// How many nested selects are merged: what is below them may be shared, and be met once for each way to it.
const DEEPEST: usize = 6;

fn plus_to(graph: &mut Graph, a: NodeId, b: NodeId, depth: usize) -> NodeId {
    if is_zero(graph, a) {
        return b;
    }
    if is_zero(graph, b) {
        return a;
    }
    match (graph.op(a).clone(), graph.op(b).clone()) {
        (
            Op::Select { condition, then, otherwise },
            Op::Select { condition: same, then: then_b, otherwise: otherwise_b },
        ) if condition == same && depth > 0 => {
            let then = plus_to(graph, then, then_b, depth - 1);
            let otherwise = plus_to(graph, otherwise, otherwise_b, depth - 1);
            graph.select(condition, then, otherwise)
        }
        _ => graph.sum(a, b),
    }
}
