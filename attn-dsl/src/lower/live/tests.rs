//! Rewritten expressions against the originals, on every live pair.

use proptest::prelude::*;
use proptest::sample::select;

use super::where_live;
use crate::compile_one;
use crate::definition::Definition;
use crate::ir::evaluate::{Environment, Evaluator, Value};
use crate::ir::{Binary, Compare, Graph, Input, NodeId, Op, ParameterId, Unary, print_expression};
use crate::lower::lower;
use crate::simplify::simplify;

/// A pair, the lengths and the entries of `limit: i32[b]`.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    q: i64,
    kv: i64,
    q_len: i64,
    kv_len: i64,
    limit: i64,
}

impl Environment for Place {
    fn input(&self, input: Input) -> Value {
        Value::Int(match input {
            Input::Batch | Input::Head => 0,
            Input::Query => self.q,
            Input::Key => self.kv,
            Input::QueryLen => self.q_len,
            Input::KeyLen => self.kv_len,
            Input::Product | Input::Scale => return Value::Float(0.5),
            other => panic!("nothing here reads {other:?}"),
        })
    }

    fn parameter(&self, _: ParameterId, _: &[i64]) -> Value {
        Value::Int(self.limit)
    }
}

fn compile(score: &str, mask: &str) -> Definition {
    let text = format!("struct Masked {{ limit: i32[b], score: |s, b, h, q, kv| {score}, mask: {mask} }}");
    compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "live.attn")))
}

/// The score as it is and where live, both simplified, and the mask.
fn rewritten(score: &str, mask: &str) -> (Graph, NodeId, NodeId, NodeId) {
    let definition = compile(score, mask);
    let mut graph = definition.graph.clone();
    let live = where_live(&mut graph, definition.score, definition.mask);
    let live = simplify(&mut graph, live);
    let score = simplify(&mut graph, definition.score);
    let mask = definition.mask.expect("every case has a mask");
    (graph, score, live, mask)
}

#[test]
fn what_a_mask_implies_is_not_computed() {
    let distance = "s * scale + float(q + kv_len - q_len) - float(kv)";
    for (score, mask, expected) in [
        ("s + abs(q + kv_len - q_len - kv)", "causal", "x * scale + float(q + kv_len - q_len) - float(kv)"),
        ("s - max(kv - q - kv_len + q_len, 0)", "causal", "x * scale"),
        ("s + min(kv - q - kv_len + q_len, 0)", "causal", "x * scale + (float(q_len - q - kv_len) + float(kv))"),
        ("s + max(0, q + kv_len - q_len - kv)", "causal & window(9, 0)", distance),
        ("s + max(kv as f32 - (q as f32), 0.0)", "|b, h, q, kv| kv < q", "x * scale"),
        ("if kv > q { 7.0 } else { s }", "|b, h, q, kv| !(q < kv)", "x * scale"),
        (
            "s + abs(kv - limit[b])",
            "|b, h, q, kv| kv >= limit[b] + 1 && kv % 2 == 0",
            "x * scale + float(kv - limit[b])",
        ),
        ("s + max(q - kv, 5)", "|b, h, q, kv| q == kv + 3", "x * scale + 5.0"),
    ] {
        let (graph, _, live, _) = rewritten(score, mask);
        let kept = |op: &Op| {
            matches!(
                op,
                Op::Unary(Unary::Abs, _)
                    | Op::Binary(Binary::Min | Binary::Max, ..)
                    | Op::Compare(Compare::Lt | Compare::Gt, ..)
            )
        };
        let text = print_expression(&graph, live);
        assert!(!graph.any(live, kept), "{score} where {mask} is still {text}");
        let plain = |text: &str| text.replace("s * scale", "x * scale").replace(['(', ')'], "");
        assert_eq!(plain(&text).replace("p0[b]", "limit[b]"), plain(expected), "{score} where {mask}");
    }
}

#[test]
fn what_no_mask_implies_stays() {
    for (score, mask) in [
        ("s + abs(q - kv)", "window(3, 3)"),
        ("s + abs(q + kv_len - q_len - kv)", "causal | prefix(2)"),
        ("s + abs(q + kv_len - q_len - kv - 1)", "causal"),
        ("s + max(kv_len - q_len, 0)", "causal"),
        ("s + max(s, 0)", "causal"),
        ("s + abs(q + kv)", "causal"),
    ] {
        let (_, score_node, live, _) = rewritten(score, mask);
        assert_eq!(score_node, live, "{score} where {mask}");
    }
}

/// Both passes are made of what is left.
#[test]
fn alibi_under_a_causal_mask_is_a_row_less_a_key() {
    let text = "struct Alibi { slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv), mask: causal }";
    let lowered = lower(&compile_one(text).expect("alibi compiles")).expect("alibi lowers");
    let mut roots = vec![lowered.forward.pair, lowered.backward.probability, lowered.backward.product_grad];
    roots.extend(lowered.backward.parameters.iter().map(|gradient| gradient.value));
    assert_eq!(lowered.backward.parameters.len(), 1);
    for root in roots {
        assert!(!lowered.graph.any(root, |op| matches!(op, Op::Unary(Unary::Abs, _))));
    }
}

/// Sums and differences of positions, lengths, a parameter and small numbers.
fn position() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        5 => select(&["q", "kv", "q + kv_len - q_len - kv", "kv - q"][..]).prop_map(str::to_owned),
        1 => select(&["kv_len", "q_len", "limit[b]"][..]).prop_map(str::to_owned),
        2 => (-4i32..7).prop_map(|n| n.to_string()),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} - ({b}))")),
            1 => inner.prop_map(|a| format!("(-({a}))")),
        ]
    })
}

fn score() -> impl Strategy<Value = String> {
    let symbol = select(&["<", "<=", ">", ">=", "==", "!="][..]);
    let cast = select(&["", " as f32"][..]);
    prop_oneof![
        (cast.clone(), position()).prop_map(|(cast, a)| format!("s + abs(({a}){cast})")),
        (cast, select(&["min", "max"][..]), position(), position())
            .prop_map(|(cast, f, a, b)| format!("s + {f}(({a}){cast}, ({b}){cast})")),
        (position(), symbol, position()).prop_map(|(a, op, b)| format!("if ({a}) {op} ({b}) {{ s }} else {{ 2.0 }}")),
    ]
}

fn mask() -> impl Strategy<Value = String> {
    let symbol = select(&["<", "<=", ">", ">=", "=="][..]);
    let comparison =
        (position(), symbol, position()).prop_map(|(a, op, b)| format!("(|b, h, q, kv| ({a}) {op} ({b}))"));
    let leaf = prop_oneof![
        3 => comparison,
        2 => Just("causal".to_owned()),
        1 => (-1i32..6, -1i32..4).prop_map(|(left, right)| format!("window({left}, {right})")),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) & ({b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) | ({b})")),
            1 => inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn live_pairs_keep_their_value(score in score(), mask in mask(), q_len in 0i64..9, kv_len in 0i64..9, limit in -3i64..9) {
        let (graph, original, live, mask) = rewritten(&score, &mask);
        let mut evaluator = Evaluator::new(&graph, &[original, live, mask]);
        for q in 0..q_len {
            for kv in 0..kv_len {
                let values = evaluator.evaluate(&Place { q, kv, q_len, kv_len, limit });
                prop_assert!(!values[2].bool() || values[0] == values[1], "{values:?} at {q}, {kv}");
            }
        }
    }
}
