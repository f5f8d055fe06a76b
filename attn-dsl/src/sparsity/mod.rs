//! Which tiles a mask leaves: empty, full or partial, from the mask's expression alone.
//!
//! A tile is the pairs of the queries `FirstQuery..=LastQuery` and the keys `FirstKey..=LastKey` of one batch and head.
//! [`Sparsity::of`] makes two truth values of a mask over these four positions. They are expressions of the mask's own graph, so
//! that what simplifies, evaluates and prints masks does so with them.
//!
//! How: a condition becomes cases (`truth.rs`, `cases.rs`), conjunctions of linear constraints over atoms (`linear.rs`); atoms are
//! positions and what sums cannot be taken through, each with a range over the tile (`atom.rs`). A case contradicts a tile
//! when a sum of its constraints contradicts those ranges (`feasible.rs`). A tile is empty when no case of the mask is left,
//! and full when no case of its negation is.
//!
//! # Numbers
//! Positions and lengths are below 2^24; parameters are as large as an i32 gets. Where the mask's own arithmetic could wrap, the
//! range of what goes into it is tested, and a tile beyond it is partial.
//!
//! Invariant: a tile with a live pair has `may_live`, and so has every tile that has a tile with `may_live` as a part; a tile with
//! `all_live` has no dead pair. Positions past the ends of a
//! sequence are not the mask's business: a tile ends where its sequence does.

mod atom;
mod cases;
mod feasible;
mod linear;
mod truth;

use std::collections::HashMap;

use self::atom::Atom;
use self::cases::Cases;
use self::linear::Linear;
use crate::ir::{Binary, Graph, NodeId, Op, Type, Unary};
use crate::simplify::simplify;

/// What is known of any tile under a mask: two truth values of tile rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sparsity {
    /// False proves that no pair of the tile is live.
    pub may_live: NodeId,
    /// True proves that all pairs of the tile are live.
    pub all_live: NodeId,
}

impl Sparsity {
    /// Analyses a mask; new expressions go to `graph`. Without a mask every pair is live.
    pub fn of(graph: &mut Graph, mask: Option<NodeId>) -> Sparsity {
        let Some(mask) = mask else {
            let always = graph.bool(true);
            return Sparsity { may_live: always, all_live: always };
        };
        let mask = simplify(graph, mask);
        let order = graph.reachable(&[mask]);
        let mut analysis =
            Analysis { graph, numbers: HashMap::new(), atoms: HashMap::new(), conditions: HashMap::new() };
        for id in order {
            match analysis.graph.ty(id) {
                Type::Int => analysis.read_number(id),
                Type::Bool => analysis.read_condition(id),
                Type::Float => {}
            }
        }
        let [dead, live] = analysis.conditions[&mask].clone();
        let may_live = analysis.feasible(&live);
        let may_be_dead = analysis.feasible(&dead);
        let all_live = graph.unary(Unary::Not, may_be_dead);
        Sparsity { may_live: simplify(graph, may_live), all_live: simplify(graph, all_live) }
    }
}

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Low,
    High,
}

/// What is known of the nodes of a mask, operands before their users.
struct Analysis<'graph> {
    graph: &'graph mut Graph,
    /// Of integers.
    numbers: HashMap<NodeId, Linear>,
    /// Of the atoms that numbers are made of.
    atoms: HashMap<NodeId, Atom>,
    /// Of truth values: the cases in which they are false, and true.
    conditions: HashMap<NodeId, [Cases; 2]>,
}

impl Analysis<'_> {
    /// Whether an atom has one value in the whole tile.
    fn is_point(&self, atom: NodeId) -> bool {
        self.graph.rate(atom).is_tile()
    }

    /// The least and the largest value that an atom has in any tile.
    fn extent(&self, atom: NodeId) -> (i64, i64) {
        self.atoms[&atom].extent
    }

    /// The least and the largest value of a sum in any tile.
    fn extent_of(&self, linear: &Linear) -> (i64, i64) {
        let mut sum = (linear.constant, linear.constant);
        for (&atom, &coefficient) in &linear.terms {
            let (least, largest) = self.extent(atom);
            let ends = (least.saturating_mul(coefficient), largest.saturating_mul(coefficient));
            let (least, largest) = if coefficient > 0 { ends } else { (ends.1, ends.0) };
            sum = (sum.0.saturating_add(least), sum.1.saturating_add(largest));
        }
        sum
    }

    /// An end of an atom's range in the tile, where it is known.
    fn end(&self, atom: NodeId, end: End) -> Option<NodeId> {
        let Atom { low, high, .. } = self.atoms[&atom];
        if end == End::Low { low } else { high }
    }

    /// An end of a sum's range in the tile, where it is known and unless a guard is broken.
    fn end_of(&mut self, linear: &Linear, end: End) -> Option<NodeId> {
        let opposite = if end == End::Low { End::High } else { End::Low };
        let terms = linear.terms.iter().map(|(&atom, &coefficient)| {
            Some((self.end(atom, if coefficient > 0 { end } else { opposite })?, coefficient))
        });
        let terms: Vec<_> = terms.collect::<Option<_>>()?;
        self.sum_of(&terms, linear.constant)
    }

    /// A sum of multiples, what is added before what is subtracted; `None` where a number does not fit.
    fn sum_of(&mut self, terms: &[(NodeId, i64)], constant: i64) -> Option<NodeId> {
        let constant = i32::try_from(constant).ok()?;
        let mut sum: Option<NodeId> = None;
        let added = terms.iter().filter(|(_, coefficient)| *coefficient > 0);
        for &(node, coefficient) in added.chain(terms.iter().filter(|(_, coefficient)| *coefficient < 0)) {
            let magnitude = self.graph.int(i32::try_from(coefficient.abs()).ok()?);
            let term = if coefficient.abs() == 1 { node } else { self.graph.product(node, magnitude) };
            sum = Some(match sum {
                None if coefficient > 0 => term,
                None => self.graph.unary(Unary::Neg, term),
                Some(sum) if coefficient > 0 => self.graph.sum(sum, term),
                Some(sum) => self.graph.difference(sum, term),
            });
        }
        let number = self.graph.int(constant);
        Some(match sum {
            None => number,
            Some(sum) if constant == 0 => sum,
            Some(sum) => self.graph.sum(sum, number),
        })
    }

    fn and(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.graph.op(a), self.graph.op(b)) {
            (Op::Bool(true), _) | (_, Op::Bool(false)) => b,
            (_, Op::Bool(true)) | (Op::Bool(false), _) => a,
            _ if a == b => a,
            _ => self.graph.binary(Binary::And, a, b),
        }
    }

    fn or(&mut self, a: NodeId, b: NodeId) -> NodeId {
        match (self.graph.op(a), self.graph.op(b)) {
            (Op::Bool(false), _) | (_, Op::Bool(true)) => b,
            (_, Op::Bool(false)) | (Op::Bool(true), _) => a,
            _ if a == b => a,
            _ => self.graph.binary(Binary::Or, a, b),
        }
    }
}

#[cfg(test)]
mod tests;
