//! Sums taken apart: what a multiple of an expression is the sum of.

use crate::ir::{Binary, Graph, NodeId, Op, Type, Unary};

/// What `factor * id` is the sum of, for an `id` that varies with the pair.
pub(crate) fn parts(graph: &mut Graph, id: NodeId, factor: NodeId) -> Option<Vec<(NodeId, NodeId)>> {
    match *graph.op(id) {
        Op::Binary(Binary::Add, a, b) => Some(vec![(a, factor), (b, factor)]),
        Op::Binary(Binary::Sub, a, b) => {
            let negative = graph.unary(Unary::Neg, factor);
            Some(vec![(a, factor), (b, negative)])
        }
        Op::Unary(Unary::Neg, a) => Some(vec![(a, graph.unary(Unary::Neg, factor))]),
        Op::Binary(Binary::Mul, a, b) if graph.rate(b).is_tile() => Some(vec![(a, graph.product(factor, b))]),
        Op::Binary(Binary::Mul, a, b) if graph.rate(a).is_tile() => Some(vec![(b, graph.product(factor, a))]),
        Op::Binary(Binary::Div, a, b) if graph.rate(b).is_tile() => Some(vec![(a, graph.quotient(factor, b))]),
        // simplification has split what it knows to be exact: of other integers only what has no parameter, which could be large
        Op::Cast(Type::Float, a) if !graph.any(a, |op| matches!(op, Op::Parameter { .. })) => {
            let op = graph.op(a).clone();
            let is_linear = match op {
                Op::Binary(Binary::Add | Binary::Sub, ..) | Op::Unary(Unary::Neg, _) => true,
                Op::Binary(Binary::Mul, a, b) => graph.rate(a).is_tile() || graph.rate(b).is_tile(),
                _ => false,
            };
            let operands: Vec<NodeId> = op.operands().iter().map(|&a| graph.cast(Type::Float, a)).collect();
            is_linear.then(|| vec![(graph.add(op.with_operands(&operands)), factor)])
        }
        _ => None,
    }
}
