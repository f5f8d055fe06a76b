//! Algebraic simplification: a table of small rules, applied bottom-up until none fires.
//!
//! # What a simplified expression may differ in
//! Rules are identities of real numbers. In floating point they may
//! * round differently (a product is regrouped by rate, a quotient by something of lower rate becomes a product with its
//!   reciprocal, constants are folded in f64);
//! * replace a NaN or an infinity by a number: `x * 0 = 0`, `x - x = 0` and `x / x = 1` hold for every `x`. Masked pairs are
//!   selected away by their executor, never multiplied by zero, so no mask relies on `0 * infinity`.
//!
//! They never turn a number into a NaN where the expression is evaluated within the range of its numbers.
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

use std::collections::HashMap;

use crate::ir::{Graph, NodeId};

pub use factor::split_tile_factor;
pub(crate) use products::distribute;

/// The simplest form of `root` that the rules know.
pub fn simplify(graph: &mut Graph, root: NodeId) -> NodeId {
    Simplifier::default().simplify(graph, root)
}

/// A simplifier that remembers what it has seen of one graph.
#[derive(Debug, Default)]
pub(crate) struct Simplifier {
    image: HashMap<NodeId, NodeId>,
}

impl Simplifier {
    /// The simplest form of `root` that the rules know.
    pub(crate) fn simplify(&mut self, graph: &mut Graph, root: NodeId) -> NodeId {
        for id in graph.reachable(&[root]) {
            if self.image.contains_key(&id) {
                continue;
            }
            let operands: Vec<_> = graph.op(id).operands().iter().map(|a| self.image[a]).collect();
            let op = graph.op(id).with_operands(&operands);
            let rebuilt = graph.add(op);
            let simple = match rules::apply(graph, rebuilt) {
                Some((_, next)) => self.simplify(graph, next),
                None => rebuilt,
            };
            self.image.insert(rebuilt, simple);
            self.image.insert(id, simple);
            self.image.insert(simple, simple);
        }
        self.image[&root]
    }
}

#[cfg(test)]
mod tests;
