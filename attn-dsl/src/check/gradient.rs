//! Where gradients of learnable parameters cannot flow.
//!
//! A comparison, `floor`, a conversion to an integer, an index and a mask have derivative 0 or none. A learnable parameter
//! that is read there would silently stay as it is, so it must be marked `const`. One exception: a condition may read a
//! parameter that a branch uses as well, as in `if x > 0 { x } else { exp(x) }`, for then the condition merely selects the piece.

use std::collections::BTreeSet;

use super::Checker;
use crate::diagnostics::{Code, Problem};
use crate::ir::{NodeId, Op, ParameterId};
use crate::syntax::Span;

impl Checker<'_> {
    /// The learnable parameters that a value depends on, each with the node that reads it.
    fn learnable(&self, root: NodeId) -> BTreeSet<(ParameterId, NodeId)> {
        let reads = self.graph.reachable(&[root]).into_iter();
        reads
            .filter_map(|node| match self.graph.op(node) {
                Op::Parameter { parameter, .. } if self.parameters[parameter.0 as usize].learnable => {
                    Some((*parameter, node))
                }
                _ => None,
            })
            .collect()
    }

    /// Reports every learnable parameter in `root`, which goes into `what`.
    pub(super) fn refuse_learnable(&mut self, root: NodeId, span: Span, what: &str) -> Option<()> {
        let learnable = self.learnable(root);
        self.refuse(&learnable, span, what)
    }

    /// Reports the learnable parameters of a condition that no branch uses.
    pub(super) fn refuse_learnable_condition(
        &mut self,
        condition: NodeId,
        branches: [NodeId; 2],
        span: Span,
    ) -> Option<()> {
        let used: BTreeSet<_> =
            branches.iter().flat_map(|&branch| self.learnable(branch)).map(|(parameter, _)| parameter).collect();
        let mut learnable = self.learnable(condition);
        learnable.retain(|(parameter, _)| !used.contains(parameter));
        self.refuse(&learnable, span, "a condition")
    }

    fn refuse(&mut self, learnable: &BTreeSet<(ParameterId, NodeId)>, span: Span, what: &str) -> Option<()> {
        let mut reported = BTreeSet::new();
        for &(parameter, node) in learnable {
            if !reported.insert(parameter) {
                continue;
            }
            let name = self.parameters[parameter.0 as usize].name.clone();
            let place = self.spans.get(&node).copied().unwrap_or(span);
            let mut problem = Problem::new(
                Code::NotDifferentiable,
                format!("no gradient reaches the learnable parameter `{name}` through {what}"),
                place,
            );
            if let Some(Some(declared)) = self.declared.get(&name) {
                problem = problem.also(declared.span, "learnable: a float without `const`");
            }
            self.report(problem.help(format!("mark it `const {name}: ...` if it needs no gradient")));
        }
        reported.is_empty().then_some(())
    }
}
