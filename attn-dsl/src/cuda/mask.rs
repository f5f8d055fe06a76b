//! Which tiles a mask leaves: bounds on keys from queries and on queries from keys.
//!
//! A mask is a conjunction of terms. A term that bounds an affine combination of q and kv with coefficients -1, 0 and 1
//! narrows the range of tiles and tells where all pairs are live. Any other term is a residual: it narrows nothing and makes
//! every tile partial. Sound for every mask, tight for causal, windows and prefixes.
//!
//! Invariant: bounds are expressions of tile rate.

use std::fmt::Write;

use super::values::Values;
use crate::ir::{Affine, Binary, Compare, Graph, NodeId, Op, Type, Unary};

/// `q_sign * q + kv_sign * kv <= bound`, one of the signs not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bound {
    q_sign: i32,
    kv_sign: i32,
    bound: NodeId,
}

/// A bound that no position reaches, and to which positions can be added.
const UNLIMITED: i32 = 1 << 30;

/// A mask, taken apart. Holds its own graph, since bounds are new expressions.
pub(crate) struct MaskBounds {
    bounds: Vec<Bound>,
    /// Whether some term is no bound.
    pub(crate) residual: bool,
}

/// Which end of a range a bound moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Begin,
    End,
    /// The bound is on the other index alone: it empties the range or leaves it.
    All,
}

/// What the other index adds to a bound; it runs from its first to its last value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offset {
    Nothing,
    MinusFirst,
    MinusLast,
    PlusFirst,
    PlusLast,
}

impl Offset {
    fn text(self, begin: &str, end: &str) -> String {
        match self {
            Offset::Nothing => String::new(),
            Offset::MinusFirst => format!(" - {begin}"),
            Offset::MinusLast => format!(" - ({end} - 1)"),
            Offset::PlusFirst => format!(" + {begin}"),
            Offset::PlusLast => format!(" + ({end} - 1)"),
        }
    }
}

/// What one bound does to a range: where the other index is loosest, pairs beyond are dead; where it is tightest, pairs within
/// are live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    side: Side,
    loose: Offset,
    tight: Offset,
}

impl MaskBounds {
    /// Takes a mask apart; new expressions go to `graph`.
    pub(crate) fn of(graph: &mut Graph, mask: Option<NodeId>) -> MaskBounds {
        let mut found = MaskBounds { bounds: vec![], residual: false };
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
        // a parameter may be as large as an i32 gets, to mean no limit: room for positions, which are below 2^24
        let bound = if graph.any(bound, |op| matches!(op, Op::Parameter { .. })) {
            let (low, high) = (graph.int(-UNLIMITED), graph.int(UNLIMITED));
            let bound = graph.binary(Binary::Min, bound, high);
            graph.binary(Binary::Max, bound, low)
        } else {
            bound
        };
        let bound = crate::simplify::simplify(graph, bound);
        let bound = Bound { q_sign: q, kv_sign: kv, bound };
        if !self.bounds.contains(&bound) {
            self.bounds.push(bound);
        }
        Some(())
    }

    /// The expressions of tile rate that the functions below read.
    pub(crate) fn expressions(&self) -> Vec<NodeId> {
        self.bounds.iter().map(|bound| bound.bound).collect()
    }

    /// Whether some bound moves the first key that a query sees.
    pub(crate) fn moves_first_key(&self) -> bool {
        self.steps(true).any(|step| step.side == Side::Begin)
    }

    /// How the bounds narrow a range of keys, given queries, or the other way round.
    fn steps(&self, of_keys: bool) -> impl Iterator<Item = Step> {
        self.bounds.iter().map(move |bound| {
            let (own, other) = if of_keys { (bound.kv_sign, bound.q_sign) } else { (bound.q_sign, bound.kv_sign) };
            // the other index at which the bound is loosest and tightest
            let (loose, tight) = match other {
                1 => (Offset::MinusFirst, Offset::MinusLast),
                -1 => (Offset::PlusLast, Offset::PlusFirst),
                _ => (Offset::Nothing, Offset::Nothing),
            };
            let side = match own {
                1 => Side::End,
                -1 => Side::Begin,
                _ => Side::All,
            };
            Step { side, loose, tight }
        })
    }

    /// `live_keys_of` and `live_queries_of`: the ranges that may be live and that are all live.
    pub(crate) fn functions(&self, values: &Values<'_>) -> String {
        let roots = self.expressions();
        let (statements, bounds) = values.tile_body(&roots, &[]);
        let mut text = String::new();
        for of_keys in [true, false] {
            let (name, begin, end, len) = if of_keys {
                ("live_keys_of", "q_begin", "q_end", "kv_len")
            } else {
                ("live_queries_of", "kv_begin", "kv_end", "q_len")
            };
            writeln!(
                text,
                "__device__ __forceinline__ Range {name}(const Arguments& arguments, const Tile& tile, int {begin}, int {end}) {{"
            )
            .expect("writing to a string");
            let mut line = |statement: &str| writeln!(text, "    {statement}").expect("writing to a string");
            statements.iter().for_each(|statement| line(statement));
            line(&format!("Range range = {{0, arguments.{len}, 0, arguments.{len}}};"));
            for (step, value) in self.steps(of_keys).zip(&bounds) {
                let (loose, tight) = (step.loose.text(begin, end), step.tight.text(begin, end));
                match step.side {
                    Side::End => {
                        line(&format!("range.end = min(range.end, {value}{loose} + 1);"));
                        line(&format!("range.full_end = min(range.full_end, {value}{tight} + 1);"));
                    }
                    Side::Begin => {
                        line(&format!("range.begin = max(range.begin, -({value}{loose}));"));
                        line(&format!("range.full_begin = max(range.full_begin, -({value}{tight}));"));
                    }
                    Side::All => {
                        line(&format!("if (0 > {value}{loose}) range.end = 0;"));
                        line(&format!("if (0 > {value}{tight}) range.full_end = 0;"));
                    }
                }
            }
            if self.residual {
                line("range.full_end = 0;   // the mask depends on more than bounds: every tile is checked");
            }
            line("return range;");
            text.push_str("}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests;
