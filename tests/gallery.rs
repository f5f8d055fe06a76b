//! The gallery: names, texts, masks, and the buckets of T5 against their published formula.

use attn::gallery;
use attn_dsl::ir::evaluate::{Environment, Value, evaluate};
use attn_dsl::ir::{Graph, Input, NodeId, Op, ParameterId};

#[test]
fn names_are_unique_and_found() {
    for (i, entry) in gallery::all().iter().enumerate() {
        assert!(gallery::all()[..i].iter().all(|other| other.name != entry.name), "{} is there twice", entry.name);
        assert!(entry.name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'), "{}", entry.name);
        assert_eq!(gallery::find(entry.name).map(|found| found.name), Some(entry.name));
        assert!(entry.citation.contains("20"), "{} has no year", entry.name);
    }
    assert!(gallery::find("no-such-variant").is_none());
}

#[test]
fn every_variant_compiles_prints_to_itself_and_takes_masks() {
    for entry in gallery::all() {
        let definition = (entry.definition)();
        let again = attn::compile_one(&definition.text).expect("canonical text compiles");
        assert_eq!(again.text, definition.text);
        assert!(!definition.docs.is_empty(), "{} has no documentation", entry.name);
        let masked = definition.with_mask("causal & window(64, 0) & document(documents)").expect("a mask");
        assert_eq!(masked.parameters.len(), definition.parameters.len() + 1, "{}", entry.name);
    }
}

/// HuggingFace's `_relative_position_bucket` of 32 buckets up to 128, in f64.
fn published_bucket(relative: i32, bidirectional: bool) -> i32 {
    let (mut buckets, mut bucket, mut n) = (32, 0, -relative);
    if bidirectional {
        buckets /= 2;
        bucket = if n < 0 { buckets } else { 0 };
        n = n.abs();
    } else {
        n = n.max(0);
    }
    let exact = buckets / 2;
    if n < exact {
        return bucket + n;
    }
    // Powers of two are exact in log2; the published form divides natural logarithms, and means the same number.
    let far = f64::from(exact)
        + (f64::from(n) / f64::from(exact)).log2() / (128.0 / f64::from(exact)).log2() * f64::from(buckets - exact);
    bucket + (far as i32).min(buckets - 1)
}

struct Pair {
    query: i64,
    key: i64,
}

impl Environment for Pair {
    fn input(&self, input: Input) -> Value {
        match input {
            Input::Query => Value::Int(self.query),
            Input::Key => Value::Int(self.key),
            Input::QueryLen | Input::KeyLen => Value::Int(1000),
            Input::Head => Value::Int(0),
            other => panic!("a bucket reads {other:?}"),
        }
    }

    fn parameter(&self, parameter: ParameterId, _: &[i64]) -> Value {
        panic!("a bucket reads parameter {parameter:?}")
    }
}

/// The index into the last axis of the only table.
fn bucket_of(graph: &Graph, score: NodeId) -> NodeId {
    let mut reads = graph.reachable(&[score]).into_iter().filter_map(|id| match graph.op(id) {
        Op::Parameter { index, .. } => index.last().copied(),
        _ => None,
    });
    reads.next_back().expect("a table")
}

#[test]
fn t5_buckets_are_the_published_ones() {
    for (name, bidirectional) in [("t5bias", false), ("t5bias-bidirectional", true)] {
        let definition = (gallery::find(name).expect("an entry").definition)();
        let bucket = bucket_of(&definition.graph, definition.score);
        for relative in -400..=400 {
            let pair = Pair { query: 500, key: 500 + i64::from(relative) };
            let found = evaluate(&definition.graph, bucket, &pair).int();
            assert_eq!(found, i64::from(published_bucket(relative, bidirectional)), "{name} at {relative}");
        }
    }
}
