//! Constants: folding by the evaluator, and recognising them.
//!
//! Invariant: a fold is exact for integers and f64's rounding for floats; an integer result beyond i32 is not folded.

use crate::ir::evaluate::{Value, binary, cast, compare, unary};
use crate::ir::{Graph, NodeId, Op};

/// The value of a constant node.
pub(super) fn constant(graph: &Graph, id: NodeId) -> Option<Value> {
    match graph.op(id) {
        Op::Float(bits) => Some(Value::Float(f64::from_bits(*bits))),
        Op::Int(value) => Some(Value::Int(i64::from(*value))),
        Op::Bool(value) => Some(Value::Bool(*value)),
        _ => None,
    }
}

/// Whether the node is this constant.
pub(super) fn is(graph: &Graph, id: NodeId, value: Value) -> bool {
    constant(graph, id) == Some(value)
}

/// An operation on constants, computed.
pub(super) fn fold(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    let at = |id: &NodeId| constant(graph, *id);
    let value = match graph.op(id) {
        Op::Unary(op, a) => unary(*op, at(a)?),
        Op::Binary(op, a, b) => binary(*op, at(a)?, at(b)?),
        Op::Compare(op, a, b) => Value::Bool(compare(*op, at(a)?, at(b)?)),
        Op::Cast(ty, a) => cast(*ty, at(a)?),
        _ => return None,
    };
    Some(match value {
        Value::Float(value) => graph.float(value),
        Value::Int(value) => graph.int(i32::try_from(value).ok()?),
        Value::Bool(value) => graph.bool(value),
    })
}
