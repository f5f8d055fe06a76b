//! An exponent as a sum: a positive multiple of the product, a term of the row and a term of the key.
//!
//! Such a sum costs nothing a pair: the term of the key can be a column of one more slice of the product's depth, and the term
//! of the row is the same for all its weights, so that it joins the shift when the row ends.
//!
//! Invariant: `scale * (product + key + row)` equals the exponent.

use super::forward::is_positive;
use crate::ir::{Affine, Binary, Graph, Input, NodeId, Op, Type, Unary};
use crate::lower::parts;
use crate::simplify::simplify;

/// The largest expression, written out as a tree, that is taken apart.
const LARGEST_TREE: usize = 1 << 10;

/// The terms of an exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// The positive factor of the product, of tile rate.
    pub(crate) scale: NodeId,
    /// What the row adds to the product.
    pub(crate) row: Option<NodeId>,
    /// What the key adds to the product.
    pub(crate) key: Option<NodeId>,
    /// The positions of row and key, as floats, of which both terms read nothing but the difference: they may be counted from
    /// any origin, so that they are small numbers where they nearly cancel.
    pub(crate) positions: Option<[NodeId; 2]>,
}

impl Terms {
    /// Takes an exponent apart, if it is such a sum; new expressions go to `graph`.
    pub(crate) fn of(graph: &mut Graph, exponent: NodeId) -> Option<Terms> {
        if graph.tree_size(exponent) > LARGEST_TREE {
            return None;
        }
        let (mut scale, mut row, mut key) = (vec![], vec![], vec![]);
        let one = graph.float(1.0);
        let mut left = vec![(exponent, one)];
        while let Some((id, factor)) = left.pop() {
            let rate = graph.rate(id);
            if *graph.op(id) == Op::Input(Input::Product) {
                scale.push(factor);
            } else if rate.is_row() {
                row.push((id, factor));
            } else if rate.is_column() {
                key.push((id, factor));
            } else {
                left.extend(parts(graph, id, factor)?.into_iter().rev());
            }
        }
        let scale = sum(graph, scale).filter(|&scale| is_positive(graph, scale))?;
        let positions = positions(graph, &row, &key);
        let [row, key] = [row, key].map(|terms| {
            let terms = terms.into_iter().map(|(id, factor)| graph.product(id, factor)).collect();
            let sum = sum(graph, terms)?;
            let in_products = graph.quotient(sum, scale);
            Some(simplify(graph, in_products))
        });
        let reads =
            |term: Option<NodeId>, position| term.is_some_and(|term| graph.reachable(&[term]).contains(&position));
        let positions = positions.filter(|&[of_row, of_key]| reads(row, of_row) && reads(key, of_key));
        Some(Terms { scale, row, key, positions })
    }

    /// Whether the row's term may be minus infinity, so that the row has no weight: not where it is made of positions and of
    /// parameters that are multiplied by them.
    pub(crate) fn may_drop_rows(&self, graph: &Graph) -> bool {
        self.row.is_some_and(|row| !is_finite(graph, row))
    }
}

/// As [`Terms::positions`]: a row's and a key's, of opposite factors, that no other term reads.
fn positions(graph: &mut Graph, row: &[(NodeId, NodeId)], key: &[(NodeId, NodeId)]) -> Option<[NodeId; 2]> {
    let mut found = vec![];
    for (terms, signs) in [(row, [1, 0]), (key, [0, 1])] {
        let mut is_position = |id: NodeId| match *graph.op(id) {
            Op::Cast(Type::Float, a) if graph.ty(a) == Type::Int => {
                Affine::of(graph, a).is_some_and(|affine| [affine.q, affine.kv] == signs)
            }
            _ => false,
        };
        let (id, factor) = *terms.iter().find(|(id, _)| is_position(*id))?;
        let others: Vec<NodeId> = terms.iter().map(|(other, _)| *other).filter(|&other| other != id).collect();
        if others.len() + 1 != terms.len() || graph.reachable(&others).contains(&id) {
            return None;
        }
        found.push((id, factor));
    }
    let [(of_row, a), (of_key, b)] = found[..] else { return None };
    let negative = graph.unary(Unary::Neg, b);
    (simplify(graph, a) == simplify(graph, negative)).then_some([of_row, of_key])
}

/// The simplified sum of some terms; `None` where it is 0.
fn sum(graph: &mut Graph, terms: Vec<NodeId>) -> Option<NodeId> {
    let sum = terms.into_iter().reduce(|a, b| graph.sum(a, b))?;
    let sum = simplify(graph, sum);
    (graph.as_float(sum) != Some(0.0)).then_some(sum)
}

fn is_finite(graph: &Graph, id: NodeId) -> bool {
    match *graph.op(id) {
        Op::Float(bits) => f64::from_bits(bits).is_finite(),
        Op::Input(_) | Op::Cast(Type::Float, _) => true,
        Op::Unary(Unary::Neg, a) => is_finite(graph, a),
        Op::Binary(Binary::Add | Binary::Sub, a, b) => is_finite(graph, a) && is_finite(graph, b),
        Op::Binary(Binary::Div, a, b) => is_finite(graph, a) && graph.rate(b).is_tile(),
        // an infinite slope makes the exponent NaN, with this term or without
        Op::Binary(Binary::Mul, a, b) => {
            let is_slope = |id: NodeId| graph.rate(id).is_tile();
            (is_finite(graph, a) || is_slope(a))
                && (is_finite(graph, b) || is_slope(b))
                && !(is_slope(a) && is_slope(b))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Terms;
    use crate::compile_one;
    use crate::ir::{Names, print_expression_with};
    use crate::lower::lower;

    /// Scale, row and key of a score's exponent.
    fn terms(score: &str) -> Option<(String, [Option<String>; 2], bool)> {
        let text = format!(
            "struct Biased {{ slope: f32[h], gate: f32[b, h, kv], past: f32[b, h, q], temperature: f32[h],
            score: |s, b, h, q, kv| {score}, mask: causal }}"
        );
        let definition = compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "terms.attn")));
        let lowered = lower(&definition).expect("softmax lowers");
        let mut graph = lowered.graph.clone();
        let found = Terms::of(&mut graph, lowered.forward.pair)?;
        let parameters = ["slope", "gate", "past", "temperature"];
        let print = |id| print_expression_with(&graph, id, Names { parameters: &parameters, ..Names::default() });
        Some((print(found.scale), [found.row, found.key].map(|term| term.map(print)), found.may_drop_rows(&graph)))
    }

    const SCALE: &str = "scale * 1.4426950408889634";

    #[track_caller]
    fn assert_terms(score: &str, scale: &str, row: Option<&str>, key: Option<&str>, may_drop_rows: bool) {
        let own = |text: Option<&str>| text.map(str::to_owned);
        assert_eq!(terms(score), Some((scale.to_owned(), [own(row), own(key)], may_drop_rows)), "{score}");
    }

    #[test]
    fn sums_of_rows_and_keys_are_found() {
        let alibi = "s - slope[h] * abs(q + kv_len - q_len - kv)";
        let row = "-(float(q + kv_len - q_len) * (slope[h] / scale))";
        assert_terms(alibi, SCALE, Some(row), Some("float(kv) * (slope[h] / scale)"), false);
        assert_terms("s + gate[b, h, kv]", SCALE, None, Some("gate[b, h, kv] * (1.0 / scale)"), false);
        let past = "past[b, h, q] * (1.0 / scale)";
        assert_terms("s + past[b, h, q]", SCALE, Some(past), None, true);
        let key = "-(gate[b, h, kv] * (1.0 / scale))";
        assert_terms("s + past[b, h, q] - gate[b, h, kv]", SCALE, Some(past), Some(key), true);
        assert_terms(
            "2 * (s + (kv * 3 - q) / 4.0)",
            "scale * 2.8853900817779268",
            Some("float(q) * (-0.25 / scale)"),
            Some("float(kv * 3) * (0.25 / scale)"),
            false,
        );
    }

    #[test]
    fn positions_are_relative_where_their_difference_counts() {
        for (score, is_relative) in [
            ("s - slope[h] * abs(q + kv_len - q_len - kv)", true),
            ("s + 0.5 * (kv - q) + past[b, h, q] - gate[b, h, kv]", true),
            ("s + slope[h] * kv - temperature[h] * q", false),
            ("s + slope[h] * kv", false),
            ("s + (kv - q + sin(kv as f32))", false),
            ("s + past[b, h, q] - gate[b, h, kv]", false),
        ] {
            let text = format!(
                "struct Biased {{ slope: f32[h], gate: f32[b, h, kv], past: f32[b, h, q], temperature: f32[h],
                score: |s, b, h, q, kv| {score}, mask: causal }}"
            );
            let definition =
                compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "terms.attn")));
            let lowered = lower(&definition).expect("softmax lowers");
            let mut graph = lowered.graph.clone();
            let terms = Terms::of(&mut graph, lowered.forward.pair).expect("a sum of terms");
            assert_eq!(terms.positions.is_some(), is_relative, "{score}");
        }
    }

    #[test]
    fn others_are_left() {
        for score in [
            "s - slope[h] * abs(q - kv)",
            "s * temperature[h] + gate[b, h, kv]",
            "-s + gate[b, h, kv]",
            "tanh(s) + gate[b, h, kv]",
            "s + past[b, h, q] * gate[b, h, kv]",
            "s * gate[b, h, kv]",
            "s * past[b, h, q] + gate[b, h, kv]",
            "gate[b, h, kv]",
        ] {
            assert_eq!(terms(score), None, "{score}");
        }
    }
}
