//! What functions of pairs cost.
//!
//! Invariant: what a field or the distance has costs nothing.

use std::collections::HashSet;

use super::Values;
use crate::ir::{Binary, NodeId, Op, Unary};

impl Values<'_> {
    /// Instructions, about, that a function of a pair takes: what varies slower is read from fields.
    pub(crate) fn pair_cost(&self, root: NodeId) -> usize {
        let (mut cost, mut stack, mut seen) = (0, vec![root], HashSet::new());
        while let Some(id) = stack.pop() {
            if self.is_constant(id)
                || self.places.contains_key(&id)
                || self.relative_names.contains_key(&id)
                || !seen.insert(id)
            {
                continue;
            }
            cost += match self.graph.op(id) {
                Op::Input(_) => 0,
                Op::Parameter { .. } | Op::Unary(Unary::Sin | Unary::Cos | Unary::Softplus, _) => 8,
                Op::Unary(Unary::Erf, _) => 16,
                Op::Binary(Binary::Div | Binary::Rem, ..) => 6,
                _ => 1,
            };
            stack.extend(self.graph.op(id).operands());
        }
        cost
    }
}
