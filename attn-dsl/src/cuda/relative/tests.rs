//! What is found in scores, and that random values of the distance are what they are taken for.

use std::collections::HashMap;

use proptest::prelude::*;

use super::{Motions, WORTHWHILE, at_distance, find};
use crate::compile_one;
use crate::ir::evaluate::{Value, evaluate};
use crate::ir::random::{Place, draw, places, steps};
use crate::ir::{Graph, Input, Names, NodeId, Op, Type, print_expression_with};
use crate::lower::lower;

/// The regrouped pair expression of a score, and what is found in it, printed at the distance.
fn found(score: &str) -> (String, Vec<String>) {
    let text = format!(
        "struct Scored {{ table: f32[h, 32], row: f32[q], key: f32[kv], const offset: i32[b], const dense: f32[b, h, q, kv], \
         score: |s, b, h, q, kv| {score} }}"
    );
    let definition = compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "scored.attn")));
    let lowered = lower(&definition).expect("softmax lowers");
    let mut graph = lowered.graph.clone();
    let (roots, relatives) = find(&mut graph, &[lowered.forward.pair]);
    let root = roots[0];
    let parameters: Vec<&str> = definition.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    let print = |id| print_expression_with(&graph, id, Names { parameters: &parameters, sizes: &[] });
    let mut texts: Vec<String> = relatives.values().map(|&id| print(id)).collect();
    texts.sort();
    (print(root), texts)
}

#[track_caller]
fn check(score: &str, expected: &[&str]) {
    let (root, texts) = found(score);
    assert_eq!(texts, expected, "{score}, which is {root}");
}

#[test]
fn values_of_the_distance_are_found() {
    check("s + table[h, q - kv]", &["table[h, -kv] * 1.4426950408889634"]);
    check("s + table[h, kv - q]", &["table[h, kv] * 1.4426950408889634"]);
    check(
        "s + table[h, abs(q + kv_len - q_len - kv) / 4]",
        &["table[h, abs(kv_len - q_len - kv) / 4] * 1.4426950408889634"],
    );
    check("s + table[h, 3 * q + offset[b] - 3 * kv]", &["table[h, offset[b] - kv * 3] * 1.4426950408889634"]);
    check("s * cos(0.1 * (q - kv))", &["cos(float(kv) * -0.1) * (scale * 1.4426950408889634)"]);
    check("if (q - kv) % 3 == 0 { s } else { 2 * s }", &["-kv % 3 == 0"]);
    check("tanh(s + exp(-abs(q - kv))) + key[kv]", &["exp2(abs(float(kv)) * -1.4426950408889634)"]);
    // no data of the pair at all
    check("table[h, min(kv - q, 7)]", &["table[h, min(kv, 7)] * 1.4426950408889634"]);
}

#[test]
fn other_values_are_not() {
    for score in [
        "s",
        "s + table[h, q + kv]",
        "s + table[h, q * kv]",
        "s + table[h, q - 2 * kv]",
        "s + table[h, q / 2 - kv / 2]",
        "s + table[h, min(kv, 7)] + row[q]",
        "s + dense[b, h, q, kv]",
        "s + key[kv] * row[q]",
        "s * exp(row[q] * key[kv])",
        // too many for an integer of 32 bits to tell
        "s + table[h, 65536 * (65536 * q) - 65536 * (65536 * kv) + kv]",
        // cheaper where it is
        "s - 0.1 * abs(q - kv)",
        "s - 0.1 * (q - kv)",
        "if kv <= q { s } else { s - 1 }",
    ] {
        check(score, &[]);
    }
}

/// The largest relative part of what is not relative as a whole.
#[test]
fn parts_are_found() {
    check("s + exp(row[q] * cos(q - kv))", &["cos(-float(kv)) * 1.4426950408889634"]);
    check("s + table[h, q - kv] * row[q]", &["table[h, -kv] * 1.4426950408889634"]);
    let (_, both) = found("table[h, q - kv] * s + sin(kv - q)");
    assert_eq!(both, ["sin(float(kv)) * 1.4426950408889634", "table[h, -kv] * (scale * 1.4426950408889634)"]);
}

/// One read serves neighbouring terms and factors.
#[test]
fn neighbours_are_one_value() {
    for score in [
        "s + table[h, q - kv] + sin(kv - q)",
        "s - table[h, q - kv] - sin(kv - q)",
        "table[h, q - kv] + s - sin(kv - q)",
        "sin(kv - q) - (table[h, q - kv] - s)",
        "sin(kv - q) - (s + table[h, q - kv])",
        "s * table[h, q - kv] * sin(kv - q)",
        "table[h, q - kv] * (s * sin(kv - q))",
    ] {
        let (root, texts) = found(score);
        assert_eq!(texts.len(), 1, "{score}, which is {root}");
        assert!(texts[0].contains("table") && texts[0].contains("sin"), "{texts:?}");
    }
}

/// Everything below `root` that is taken for a value of the distance: its value at `(q, kv)` is that at `(0, kv - q)`.
fn check_all(graph: &mut Graph, root: NodeId, place: &Place) -> Result<usize, TestCaseError> {
    let mut motions = Motions::default();
    motions.walk(graph, root);
    let relative: Vec<NodeId> = graph.reachable(&[root]).into_iter().filter(|id| motions.is_relative(*id)).collect();
    let count = relative.iter().filter(|&&id| !graph.rate(id).is_tile()).count();
    for id in relative {
        let moved = at_distance(graph, id);
        prop_assert!(!graph.reads(moved, Input::Query) && !graph.reads(moved, Input::Product));
        let (here, there) = (evaluate(graph, id, place), evaluate(graph, moved, &at(place)));
        let close = match (here, there) {
            // the simplifier may round differently, and makes numbers of what was none
            (Value::Float(a), Value::Float(b)) => !a.is_finite() || (a - b).abs() <= 1e-6 * (1.0 + a.abs()),
            _ => here == there || jumps(graph, id),
        };
        prop_assert!(close, "{here:?} is {there:?} at the distance");
    }
    Ok(count)
}

fn at(place: &Place) -> Place {
    Place { query: 0, key: place.key - place.query, ..place.clone() }
}

/// Whether a rounding error may decide an integer or a truth value.
fn jumps(graph: &Graph, id: NodeId) -> bool {
    graph.any(id, |op| match op {
        Op::Cast(Type::Int, a) | Op::Compare(_, a, _) => graph.ty(*a) == Type::Float,
        _ => false,
    })
}

/// Puts differences of positions where the drawn expression has other inputs.
fn with_distances(graph: &mut Graph, root: NodeId) -> NodeId {
    let [q, kv] = [Input::Query, Input::Key].map(|input| graph.input(input));
    let [q_float, kv_float] = [q, kv].map(|id| graph.cast(Type::Float, id));
    let distance = graph.difference(kv, q);
    let behind = graph.difference(q_float, kv_float);
    let as_float = graph.cast(Type::Float, distance);
    let images = HashMap::from([(Input::KeyLen, distance), (Input::Statistic, behind), (Input::Delta, as_float)]);
    graph.rewrite(root, |graph, id| match graph.op(id) {
        Op::Input(input) => images.get(input).copied(),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_value_at_the_distance_is_the_value_of_the_pair(steps in steps(), place in places()) {
        let mut drawn = draw(&steps);
        let root = with_distances(&mut drawn.graph, drawn.root);
        check_all(&mut drawn.graph, root, &place)?;
    }

    /// Regrouping keeps the value.
    #[test]
    fn gathering_keeps_the_value(steps in steps(), place in places()) {
        let mut drawn = draw(&steps);
        let root = with_distances(&mut drawn.graph, drawn.root);
        let (regrouped, _) = find(&mut drawn.graph, &[root]);
        let regrouped = regrouped[0];
        let (a, b) = (evaluate(&drawn.graph, root, &place).float(), evaluate(&drawn.graph, regrouped, &place).float());
        prop_assume!(crate::ir::random::is_regular(&drawn.graph, root, &place));
        prop_assert!((a - b).abs() <= 1e-6 * (1.0 + a.abs()), "{a} became {b}");
    }
}

#[test]
fn a_read_of_a_parameter_is_worthwhile() {
    let mut graph = Graph::new();
    let [q, kv] = [Input::Query, Input::Key].map(|input| graph.input(input));
    let distance = graph.difference(q, kv);
    let read = graph.parameter(crate::ir::ParameterId(0), vec![distance], Type::Float);
    let mut motions = Motions::default();
    motions.walk(&graph, read);
    assert!(motions.known[&read].1 >= WORTHWHILE && motions.known[&distance].1 < WORTHWHILE);
}
