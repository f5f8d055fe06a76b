//! Algebraic simplification: a table of small rules, applied bottom-up until none fires.
//!
//! # What a simplified expression may differ in
//! Rules are identities of real numbers. In floating point they may
//! * round differently (a product is regrouped by rate, a quotient by something of lower rate becomes a product with its
//!   reciprocal, constants are folded in f64);
//! * replace a NaN or an infinity by a number: `x * 0 = 0`, `x - x = 0` and `x / x = 1` hold for every `x`. Masked pairs are
//!   selected away by their executor, never multiplied by zero, so no mask relies on `0 * infinity`.
//!
//! They never turn a number into a NaN where the expression is evaluated within the range of its numbers. Below a `floor` and
//! a cast to an integer, where a rounding error becomes a jump (`floor(float(kv) / 49.0)` at 49), exact rules alone apply.
//!
//! Invariants:
//! * The result has the type of the node, and its rate or a lower one.
//! * Idempotent: no rule fires anywhere in a result, so equal parts of several simplified expressions share nodes.

mod factor;
mod fold;
mod positions;
mod products;
mod rules;
mod sums;

use std::collections::{HashMap, HashSet};

use crate::ir::{Graph, NodeId, Op, Type, Unary};

pub use factor::split_tile_factor;
pub(crate) use products::distribute;

/// The largest expression, written out as a tree, that is walked without a memory of shared parts.
const LARGEST_TREE: usize = 1 << 12;

/// The simplest form of `root` that the rules know.
pub fn simplify(graph: &mut Graph, root: NodeId) -> NodeId {
    Simplifier::default().simplify(graph, root, false)
}

/// A simplifier that remembers what it has seen of one graph.
#[derive(Debug, Default)]
struct Simplifier {
    /// By every rule.
    image: HashMap<NodeId, NodeId>,
    /// By the exact rules alone.
    exact_image: HashMap<NodeId, NodeId>,
}

impl Simplifier {
    fn simplify(&mut self, graph: &mut Graph, root: NodeId, exact: bool) -> NodeId {
        for id in self.unseen(graph, root, exact) {
            // an operand of another may have become it
            if self.images(exact).contains_key(&id) {
                continue;
            }
            let jumps = match graph.op(id) {
                Op::Unary(Unary::Floor, _) => true,
                Op::Cast(Type::Int, a) => graph.ty(*a) == Type::Float,
                _ => false,
            };
            let mut operands = graph.op(id).operands();
            for operand in &mut operands {
                *operand = if jumps { self.simplify(graph, *operand, true) } else { self.images(exact)[operand] };
            }
            let op = graph.op(id).with_operands(&operands);
            let rebuilt = graph.add(op);
            let simple = match rules::apply(graph, rebuilt, exact) {
                Some((_, next)) => self.simplify(graph, next, exact),
                None => rebuilt,
            };
            self.images(exact).extend([(rebuilt, simple), (id, simple), (simple, simple)]);
        }
        self.images(exact)[&root]
    }

    /// The nodes that `root` needs and that have no image yet, operands first. What has one is not walked again, so that the
    /// simplification of a large expression is not quadratic.
    fn unseen(&mut self, graph: &Graph, root: NodeId, exact: bool) -> Vec<NodeId> {
        let images = self.images(exact);
        let (mut unseen, mut stack) = (HashSet::new(), vec![root]);
        while let Some(id) = stack.pop() {
            if !images.contains_key(&id) && unseen.insert(id) {
                stack.extend(graph.op(id).operands());
            }
        }
        let mut order: Vec<NodeId> = unseen.into_iter().collect();
        order.sort_unstable();
        order
    }

    fn images(&mut self, exact: bool) -> &mut HashMap<NodeId, NodeId> {
        if exact { &mut self.exact_image } else { &mut self.image }
    }
}

#[cfg(test)]
mod tests;
