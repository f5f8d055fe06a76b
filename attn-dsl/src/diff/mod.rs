//! Reverse-mode derivatives of expressions, as expressions.
//!
//! The adjoint of a node flows from the root to the leaves; a derivative shares the nodes of what it differentiates (the
//! derivative of `y = tanh(x)` is `1 - y * y` over the same `y`), so that executors compute them once.
//!
//! Invariants:
//! * Derivatives at kinks are those of [`crate::ir`].
//! * What flows out of the arm of a select, a `min`, a `max` or an `abs` stays inside a select on the same condition,
//!   outermost: in `if x > 0 { sqrt(x) } else { 0 }` the derivative at 0 is 0, not `0 * infinity`.
//! * Results are not simplified: see [`crate::simplify`].

mod rules;

use std::collections::{HashMap, HashSet};

use crate::ir::{Graph, NodeId, Op, Type, Unary};

/// `seed * d root / d target` for each of `with_respect_to`: inputs or parameter reads, which are taken to be independent of
/// each other (a target inside another target's operands is not looked for). A zero where `root` does not depend on it.
///
/// # Panics
/// When `root`, `seed` or a target is not a float.
pub fn derivative(graph: &mut Graph, root: NodeId, with_respect_to: &[NodeId], seed: NodeId) -> Vec<NodeId> {
    for &id in with_respect_to.iter().chain([&root, &seed]) {
        assert_eq!(graph.ty(id), Type::Float, "derivatives are of floats by floats");
    }
    let targets: HashSet<NodeId> = with_respect_to.iter().copied().collect();
    let order = graph.reachable(&[root]);
    let active = active_nodes(graph, &order, &targets);
    let mut adjoints = Adjoints::default();
    adjoints.add(graph, root, seed);
    for &id in order.iter().rev() {
        if !active.contains(&id) || targets.contains(&id) {
            continue;
        }
        if let Some(adjoint) = adjoints.take(id) {
            for (operand, contribution) in rules::contributions(graph, id, adjoint, |a| active.contains(&a)) {
                adjoints.add(graph, operand, contribution);
            }
        }
    }
    with_respect_to.iter().map(|&id| adjoints.take_copy(id).unwrap_or_else(|| graph.float(0.0))).collect()
}

/// The nodes that vary differentiably with a target.
fn active_nodes(graph: &Graph, order: &[NodeId], targets: &HashSet<NodeId>) -> HashSet<NodeId> {
    let mut active = HashSet::new();
    for &id in order {
        let varies = |a: &NodeId| active.contains(a);
        let is_active = match graph.op(id) {
            _ if targets.contains(&id) => true,
            Op::Unary(Unary::Floor, _) => false,
            Op::Select { then, otherwise, .. } => varies(then) || varies(otherwise),
            op => graph.ty(id) == Type::Float && op.operands().iter().any(varies),
        };
        if is_active {
            active.insert(id);
        }
    }
    active
}

#[derive(Default)]
struct Adjoints {
    of: HashMap<NodeId, NodeId>,
}

impl Adjoints {
    fn add(&mut self, graph: &mut Graph, id: NodeId, contribution: NodeId) {
        let sum = match self.of.get(&id) {
            Some(&before) => rules::plus(graph, before, contribution),
            None => contribution,
        };
        self.of.insert(id, sum);
    }

    fn take(&mut self, id: NodeId) -> Option<NodeId> {
        self.of.remove(&id)
    }

    fn take_copy(&self, id: NodeId) -> Option<NodeId> {
        self.of.get(&id).copied()
    }
}

#[cfg(test)]
mod tests;
