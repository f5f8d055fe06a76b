//! Which tiles a mask leaves: bounds on keys from queries and on queries from keys.
//!
//! A bound that [`Bounds`] finds narrows the range of tiles and tells where all pairs are live. A residual narrows nothing and
//! makes every tile partial. Sound for every mask, tight for causal, windows and prefixes.
//!
//! Invariant: bounds are expressions of tile rate.

use std::fmt::Write;

use super::values::Values;
use crate::ir::{Binary, Graph, NodeId, Op};
use crate::lower::{Bound, Bounds};
use crate::simplify::simplify;

/// A bound that no position reaches, and to which positions can be added.
const UNLIMITED: i32 = 1 << 30;

/// A mask, taken apart. Holds its own graph, since bounds are new expressions.
#[derive(Clone)]
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
        let Bounds { mut bounds, residual } = Bounds::of(graph, mask);
        for Bound { bound, .. } in &mut bounds {
            // a parameter may be as large as an i32 gets, to mean no limit: room for positions, which are below 2^24
            if graph.any(*bound, |op| matches!(op, Op::Parameter { .. })) {
                let (low, high) = (graph.int(-UNLIMITED), graph.int(UNLIMITED));
                let clamped = graph.binary(Binary::Min, *bound, high);
                let clamped = graph.binary(Binary::Max, clamped, low);
                *bound = simplify(graph, clamped);
            }
        }
        MaskBounds { bounds, residual }
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
            let of = values.lengths_of();
            line(&format!("Range range = {{0, {of}.{len}, 0, {of}.{len}}};"));
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
