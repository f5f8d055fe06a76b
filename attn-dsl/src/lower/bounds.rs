//! What a mask says about positions: the affine integer bounds of its conjunction.
//!
//! A mask is a conjunction of terms. A term that bounds an affine combination of q and kv with coefficients -1, 0 and 1 is a
//! bound; any other is a residual.
//!
//! Invariant: every live pair is within every bound. Without a residual, a pair within all bounds is live.

use crate::ir::{Affine, Binary, Compare, Graph, NodeId, Op, Type, Unary};
use crate::simplify::simplify;

/// `q_sign * q + kv_sign * kv <= bound`, one of the signs not zero, `bound` of tile rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) q_sign: i32,
    pub(crate) kv_sign: i32,
    pub(crate) bound: NodeId,
}

/// A mask, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    pub(crate) bounds: Vec<Bound>,
    /// Whether some term is no bound.
    pub(crate) residual: bool,
}

impl Bounds {
    /// Takes a mask apart; new expressions go to `graph`.
    pub(crate) fn of(graph: &mut Graph, mask: Option<NodeId>) -> Bounds {
        let mut found = Bounds { bounds: vec![], residual: false };
        let mut terms = Vec::from_iter(mask);
        while let Some(term) = terms.pop() {
            match graph.op(term).clone() {
                Op::Binary(Binary::And, a, b) => terms.extend([b, a]),
                Op::Compare(op, a, b) if graph.ty(a) == Type::Int => {
                    if found.compare(graph, op, a, b).is_none() {
                        found.residual = true;
                    }
                }
                _ => found.residual = true,
            }
        }
        found
    }

    fn compare(&mut self, graph: &mut Graph, op: Compare, a: NodeId, b: NodeId) -> Option<()> {
        // |e| < c is e < c and -e < c
        if let Op::Unary(Unary::Abs, inner) = *graph.op(a)
            && matches!(op, Compare::Lt | Compare::Le)
        {
            let negated = graph.unary(Unary::Neg, inner);
            self.compare(graph, op, inner, b)?;
            return self.compare(graph, op, negated, b);
        }
        let difference = graph.difference(a, b);
        match op {
            Compare::Le => self.at_most(graph, difference, 0),
            Compare::Lt => self.at_most(graph, difference, -1),
            Compare::Ge | Compare::Gt => {
                let reversed = graph.difference(b, a);
                self.at_most(graph, reversed, if op == Compare::Gt { -1 } else { 0 })
            }
            Compare::Eq => {
                let reversed = graph.difference(b, a);
                self.at_most(graph, difference, 0)?;
                self.at_most(graph, reversed, 0)
            }
            Compare::Ne => None,
        }
    }

    /// `expression <= limit`.
    fn at_most(&mut self, graph: &mut Graph, expression: NodeId, limit: i32) -> Option<()> {
        let Affine { q, kv, rest } = Affine::of(graph, expression)?;
        if q.abs() > 1 || kv.abs() > 1 || (q == 0 && kv == 0) || q * kv > 0 {
            return None;
        }
        let limit = graph.int(limit);
        let bound = graph.difference(limit, rest);
        let bound = simplify(graph, bound);
        let bound = Bound { q_sign: q, kv_sign: kv, bound };
        if !self.bounds.contains(&bound) {
            self.bounds.push(bound);
        }
        Some(())
    }
}
