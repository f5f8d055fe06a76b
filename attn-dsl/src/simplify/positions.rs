//! Casts of positions, moved to where they cost least.
//!
//! `float(q - kv)` is a cast a pair; `float(q) - float(kv)` is one a row, one a key and a float subtraction a pair.
//!
//! Invariant: exact. Lengths are below 2^24, hence so are positions and their differences, and f32 holds those integers.

use crate::ir::{Binary, Graph, Input, NodeId, Op, Type, Unary};

/// The largest literal that may take part.
const LARGEST: i32 = 1 << 20;

/// `float(a ± b) = float(a) ± float(b)` where `a` and `b` are of different rates, and the same through `-`, `abs`, `min` and
/// `max`, for expressions of positions that vary with the pair.
pub(super) fn split_cast(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    let Op::Cast(Type::Float, a) = *graph.op(id) else { return None };
    let rate = graph.rate(a);
    if rate.is_row() || rate.is_column() || !is_position(graph, a) {
        return None;
    }
    let op = graph.op(a).clone();
    let operands: Vec<_> = op.operands().iter().map(|&operand| graph.cast(Type::Float, operand)).collect();
    Some(graph.add(op.with_operands(&operands)))
}

fn is_position(graph: &Graph, id: NodeId) -> bool {
    match *graph.op(id) {
        Op::Int(value) => value.abs() <= LARGEST,
        Op::Input(input) => matches!(
            input,
            Input::Query | Input::Key | Input::QueryLen | Input::KeyLen | Input::HeadDim | Input::LiveKeys
        ),
        Op::Unary(Unary::Neg | Unary::Abs, a) => is_position(graph, a),
        Op::Binary(Binary::Add | Binary::Sub | Binary::Min | Binary::Max, a, b) => {
            is_position(graph, a) && is_position(graph, b)
        }
        _ => false,
    }
}
