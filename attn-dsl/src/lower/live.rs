//! Simplification under the mask: what is true of every live pair need not be computed.
//!
//! `causal` says that `q + kv_len - q_len - kv` is not negative, so that its absolute value is itself, and ALiBi becomes a term of
//! the row plus a term of the key. A pair that the mask kills is never used, so it may have any value.
//!
//! Invariant: on every live pair the result has the value of the expression. What is replaced is a function of positions and
//! integer parameters alone, through which no gradient flows, so that derivatives agree as well, kinks included.

use crate::ir::{Affine, Binary, Compare, Graph, NodeId, Op, Type, Unary};
use crate::simplify::simplify;

use super::bounds::Bounds;

/// `root` where the pair is live: `abs`, `min`, `max` and comparisons of affine positions whose outcome one bound of the mask
/// implies. Not simplified.
pub(super) fn where_live(graph: &mut Graph, root: NodeId, mask: Option<NodeId>) -> NodeId {
    let is_candidate =
        |op: &Op| matches!(op, Op::Unary(Unary::Abs, _) | Op::Binary(Binary::Min | Binary::Max, ..) | Op::Compare(..));
    let Some(mask) = mask.filter(|_| graph.any(root, is_candidate)) else { return root };
    let mask = simplify(graph, mask);
    let bounds = Bounds::of(graph, Some(mask));
    if bounds.bounds.is_empty() {
        return root;
    }
    graph.rewrite(root, |graph, id| replace(graph, id, &bounds))
}

fn replace(graph: &mut Graph, id: NodeId, bounds: &Bounds) -> Option<NodeId> {
    match *graph.op(id) {
        Op::Unary(Unary::Abs, a) => {
            let range = Extent::of(graph, a, None, bounds)?;
            if range.at_least(0) {
                Some(a)
            } else if range.at_most(0) {
                Some(graph.unary(Unary::Neg, a))
            } else {
                None
            }
        }
        Op::Binary(op @ (Binary::Min | Binary::Max), a, b) => {
            let range = Extent::of(graph, a, Some(b), bounds)?;
            let (large, small) = if range.at_least(0) {
                (a, b)
            } else if range.at_most(0) {
                (b, a)
            } else {
                return None;
            };
            Some(if op == Binary::Max { large } else { small })
        }
        Op::Compare(op, a, b) => {
            let range = Extent::of(graph, a, Some(b), bounds)?;
            let (is, is_not) = match op {
                Compare::Lt => (range.at_most(-1), range.at_least(0)),
                Compare::Le => (range.at_most(0), range.at_least(1)),
                Compare::Gt => (range.at_least(1), range.at_most(0)),
                Compare::Ge => (range.at_least(0), range.at_most(-1)),
                Compare::Eq => (range.at_least(0) && range.at_most(0), range.at_least(1) || range.at_most(-1)),
                Compare::Ne => (range.at_least(1) || range.at_most(-1), range.at_least(0) && range.at_most(0)),
            };
            (is || is_not).then(|| graph.bool(is))
        }
        _ => None,
    }
}

/// What the bounds say of an integer: its least and its largest value.
#[derive(Clone, Copy, Debug, Default)]
struct Extent {
    least: Option<i32>,
    largest: Option<i32>,
}

impl Extent {
    /// Of `a`, or of `a - b`; `None` when it is not affine in the positions.
    fn of(graph: &mut Graph, a: NodeId, b: Option<NodeId>, bounds: &Bounds) -> Option<Extent> {
        let varies = |id: NodeId| !graph.rate(id).is_tile();
        if !varies(a) && !b.is_some_and(varies) {
            return None;
        }
        let a = integer(graph, a)?;
        let difference = match b {
            Some(b) => {
                let b = integer(graph, b)?;
                graph.difference(a, b)
            }
            None => a,
        };
        let Affine { q, kv, rest } = Affine::of(graph, difference)?;
        let mut extent = Extent::default();
        for bound in &bounds.bounds {
            // q_sign q + kv_sign kv <= bound: the expression is rest more than that, or rest less its negation
            if (q, kv) == (bound.q_sign, bound.kv_sign) {
                let largest = graph.sum(rest, bound.bound);
                let largest = constant(graph, largest);
                extent.largest = extent.largest.into_iter().chain(largest).min();
            } else if (q, kv) == (-bound.q_sign, -bound.kv_sign) {
                let least = graph.difference(rest, bound.bound);
                let least = constant(graph, least);
                extent.least = extent.least.into_iter().chain(least).max();
            }
        }
        Some(extent)
    }

    fn at_least(self, value: i32) -> bool {
        self.least.is_some_and(|least| least >= value)
    }

    fn at_most(self, value: i32) -> bool {
        self.largest.is_some_and(|largest| largest <= value)
    }
}

fn constant(graph: &mut Graph, id: NodeId) -> Option<i32> {
    let simple = simplify(graph, id);
    match *graph.op(simple) {
        Op::Int(value) => Some(value),
        _ => None,
    }
}

/// The largest literal that is taken for an integer: f32 holds it exactly.
const LARGEST: f64 = (1 << 20) as f64;

/// The integer that an expression is or is the float of: rounding keeps its sign and the order of two of them.
fn integer(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    match *graph.op(id) {
        _ if graph.ty(id) == Type::Int => Some(id),
        Op::Cast(Type::Float, a) => (graph.ty(a) == Type::Int).then_some(a),
        Op::Float(bits) => {
            let value = f64::from_bits(bits);
            #[allow(clippy::cast_possible_truncation, reason = "an integer below 2^20")]
            (value.fract() == 0.0 && value.abs() <= LARGEST).then(|| graph.int(value as i32))
        }
        Op::Unary(Unary::Neg, a) => {
            let a = integer(graph, a)?;
            Some(graph.unary(Unary::Neg, a))
        }
        Op::Binary(op @ (Binary::Add | Binary::Sub), a, b) => {
            let (a, b) = (integer(graph, a)?, integer(graph, b)?);
            Some(graph.binary(op, a, b))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
