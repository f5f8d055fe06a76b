//! Which tiles a mask leaves: bounds on keys from queries and on queries from keys.
//!
//! A bound that [`Bounds`] finds narrows the range of tiles and tells where all pairs are live. A residual narrows nothing and
//! makes every tile partial. Sound for every mask, tight for causal, windows and prefixes. Of masks with a residual
//! [`TileMask`] tells tile by tile what is left.
//!
//! Invariant: bounds are expressions of tile rate.

use std::fmt::Write;

use super::arguments::Argument;
use super::names::comment;
use super::values::{Place, Values, function};
use crate::ir::{Binary, Graph, Input, Names as PrintNames, NodeId, Op, ParameterId, Unary, print_expression_with};
use crate::lower::{Bound, Bounds};
use crate::simplify::simplify;
use crate::sparsity::Sparsity;

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

/// What the mask's expression says of a tile, from its first and last query and key.
pub(crate) struct TileMask {
    mask: NodeId,
    sparsity: Sparsity,
}

/// The most operations that a lane spends on a tile: a fraction of the time that a tile takes, since 32 lanes share them.
const LARGEST: usize = 1000;
/// The longest line of a formula.
const LINE: usize = 140;

impl TileMask {
    /// Analyses a mask; new expressions go to `graph`. `None` where any tile may have live and dead pairs, and where to tell
    /// which has takes too long.
    pub(crate) fn of(graph: &mut Graph, mask: NodeId) -> Option<TileMask> {
        let sparsity = Sparsity::of(graph, Some(mask));
        let is = |id: NodeId, value: bool| *graph.op(id) == Op::Bool(value);
        let says_nothing = is(sparsity.may_live, true) && is(sparsity.all_live, false);
        let is_large = graph.reachable(&[sparsity.may_live, sparsity.all_live]).len() > LARGEST;
        (!says_nothing && !is_large).then_some(TileMask { mask, sparsity })
    }

    fn roots(&self) -> [NodeId; 2] {
        [self.sparsity.may_live, self.sparsity.all_live]
    }

    /// Makes fields of the batch and head what `live_tile` reads of it.
    pub(crate) fn demand(&self, values: &mut Values<'_>) {
        self.roots().into_iter().for_each(|root| values.demand_slower(root, Place::Key));
    }

    /// The parameters and axes of which the extremes of blocks are read.
    pub(crate) fn ranges(&self, graph: &Graph) -> Vec<(ParameterId, u32)> {
        let mut ranges: Vec<(ParameterId, u32)> = graph
            .reachable(&self.roots())
            .into_iter()
            .filter_map(|id| match graph.op(id) {
                Op::Extreme { parameter, blocks: Some(axis), .. } => {
                    Some((*parameter, u32::try_from(*axis).expect("few axes")))
                }
                _ => None,
            })
            .collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges
    }

    /// Gives a kernel `live_tile` and the extremes that it reads, where there is such a mask. Returns their parameters and axes.
    pub(crate) fn add(
        mask: Option<&TileMask>,
        values: &Values<'_>,
        members: &mut Vec<Argument>,
        functions: &mut String,
    ) -> Vec<(ParameterId, u32)> {
        let Some(mask) = mask else { return vec![] };
        functions.push_str(&mask.function(values));
        let ranges = mask.ranges(values.graph);
        members.extend(ranges.iter().map(|&(parameter, axis)| Argument::Extremes(parameter, axis)));
        ranges
    }

    /// `live_tile`: whether a tile may have a live pair, and whether all of its pairs are live.
    fn function(&self, values: &Values<'_>) -> String {
        let ends = [
            (Input::FirstQuery, "q_first"),
            (Input::LastQuery, "q_last"),
            (Input::FirstKey, "kv_first"),
            (Input::LastKey, "kv_last"),
        ];
        let graph = values.graph;
        // the condition of a pair that is not live reads better than a negation as long as the function
        let (all_live, is_negated) = match *graph.op(self.sparsity.all_live) {
            Op::Unary(Unary::Not, dead) => (dead, true),
            _ => (self.sparsity.all_live, false),
        };
        let (mut statements, texts) = values.tile_body(&[self.sparsity.may_live, all_live], &ends);
        statements.push(format!("const bool may_live = {};", texts[0]));
        let name = if is_negated { "may_be_dead" } else { "all_live" };
        statements.push(format!("const bool {name} = {};", texts[1]));
        let statements: Vec<String> = statements.iter().map(|statement| wrapped(statement)).collect();
        let definition = values.definition;
        let parameters: Vec<&str> = values.parameter_names.iter().map(String::as_str).collect();
        let sizes: Vec<&str> = definition.sizes.iter().map(String::as_str).collect();
        let formula = print_expression_with(graph, self.mask, PrintNames { parameters: &parameters, sizes: &sizes });
        let formula = wrapped(&comment(&formula)).replace('\n', "\n// ");
        let mut text = format!(
            "// What the mask leaves of the tile of queries q_first to q_last and keys kv_first to kv_last. A pair is live where\n\
             //     {formula}\n\
             struct TileLiveness {{ bool may_live, all_live; }};\n"
        );
        text.push_str(&function(
            "TileLiveness live_tile(const Arguments& arguments, const Tile& tile, int q_first, int q_last, int kv_first, int kv_last)",
            &statements,
            if is_negated { "{may_live, !may_be_dead}" } else { "{may_live, all_live}" },
        ));
        text
    }
}

/// A statement in lines that are not too long, broken before an operator.
fn wrapped(statement: &str) -> String {
    let mut text = String::new();
    let mut length = 0;
    for (at, word) in statement.split(' ').enumerate() {
        let is_operator = ["&&", "||", "&", "|", "?", ":"].contains(&word);
        if at > 0 && is_operator && length + word.len() > LINE {
            text.push_str("\n        ");
            length = 8;
        } else if at > 0 {
            text.push(' ');
            length += 1;
        }
        text.push_str(word);
        length += word.len();
    }
    text
}

#[cfg(test)]
mod tests;
