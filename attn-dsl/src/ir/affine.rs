//! Integer expressions that are affine in the positions: `q_factor * q + kv_factor * kv + rest`.
//!
//! Invariant: `rest` is of tile rate.

use super::{Binary, Graph, Input, NodeId, Op, Unary};

/// `q * query position + kv * key position + rest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Affine {
    pub(crate) q: i32,
    pub(crate) kv: i32,
    pub(crate) rest: NodeId,
}

impl Affine {
    /// An integer expression taken apart, if it is affine; new expressions go to `graph`.
    pub(crate) fn of(graph: &mut Graph, node: NodeId) -> Option<Affine> {
        if graph.rate(node).is_tile() {
            return Some(Affine { q: 0, kv: 0, rest: node });
        }
        let zero = graph.int(0);
        match graph.op(node).clone() {
            Op::Input(Input::Query) => Some(Affine { q: 1, kv: 0, rest: zero }),
            Op::Input(Input::Key) => Some(Affine { q: 0, kv: 1, rest: zero }),
            Op::Binary(op @ (Binary::Add | Binary::Sub), a, b) => {
                let (a, b) = (Affine::of(graph, a)?, Affine::of(graph, b)?);
                let sign = if op == Binary::Add { 1 } else { -1 };
                let rest = graph.binary(op, a.rest, b.rest);
                Some(Affine { q: a.q + sign * b.q, kv: a.kv + sign * b.kv, rest })
            }
            Op::Unary(Unary::Neg, a) => {
                let a = Affine::of(graph, a)?;
                let rest = graph.unary(Unary::Neg, a.rest);
                Some(Affine { q: -a.q, kv: -a.kv, rest })
            }
            _ => None,
        }
    }
}
