//! Masks that are more than bounds, in the schedule that asks of 32 tiles of keys at a time what the mask leaves of them: on a
//! simulated GPU, against the oracle.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Case, Expected, Shape, Target};
use attn::{Attention, DType, Definition, Device};
use rayon::prelude::*;

/// Each with parameters that it may read: integers rise along their last axis, as ids of documents do.
const MASKS: &[&str] = &[
    "document(ids)",
    "document(ids) & causal",
    "|b, h, q, kv| ids[b, q] != ids[b, kv] && q != kv",
    "|b, h, q, kv| abs(q - kv) < 70 && (q - kv) % 3 == 0",
    "|b, h, q, kv| q / 48 == kv / 48",
    "|b, h, q, kv| abs(q / 16 - kv / 16) <= 1 && abs(q % 16 - kv % 16) <= 2",
    "|b, h, q, kv| q < 3 || kv < 5 || abs(q - kv) <= 20",
    "|b, h, q, kv| kv < 4 || kv >= kv_len - 4 + h",
    "|b, h, q, kv| rows[h, q] % 4 == kv / 32 % 4",
    "|b, h, q, kv| kv % 64 < 0 || q < 0",
];

/// Few queries and so many keys that the first 32 tiles are not all; several tiles of both; one query.
const SHAPES: [Shape; 3] = [
    Shape { batch: 1, heads: 1, kv_heads: 1, q_len: 20, kv_len: 2500, head_dim: 16, value_dim: 16 },
    Shape { batch: 2, heads: 2, kv_heads: 1, q_len: 150, kv_len: 170, head_dim: 32, value_dim: 16 },
    Shape { batch: 2, heads: 1, kv_heads: 1, q_len: 1, kv_len: 140, head_dim: 16, value_dim: 16 },
];

fn definition(mask: &str, rest: &str) -> Definition {
    let text = format!("struct Masked {{ ids: i32[b, kv], rows: i32[h, q], {rest} mask: {mask} }}");
    attn::compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "mask.attn")))
}

/// Both passes of every mask with a class of weights.
fn check(dtype: DType, rest: &str) {
    let cases: Vec<(&str, Shape)> = MASKS.iter().flat_map(|mask| SHAPES.map(|shape| (*mask, shape))).collect();
    let misses: Vec<String> = cases
        .par_iter()
        .flat_map_iter(|&(mask, shape)| {
            let device = Device::Sim(SimDevice::new(SimOptions::new(1).target(Target::Sm80)));
            let definition = definition(mask, rest);
            let attention = Attention::new(&definition, &device).unwrap();
            let case = Case { shape, dtype, broadcast: shape.batch > 1, ..Case::default() };
            let arguments = case.arguments(&definition).unwrap();
            let comparisons = Expected::new(&attention, &arguments).unwrap().compare(&attention).unwrap();
            let missed = comparisons.into_iter().filter(|comparison| !comparison.passed());
            missed.map(move |comparison| format!("{mask} {case}: {comparison}")).collect::<Vec<_>>()
        })
        .collect();
    assert!(misses.is_empty(), "{} missed\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn softmax_in_bf16() {
    check(DType::BF16, "");
}

#[test]
fn softmax_in_f32() {
    check(DType::F32, "");
}

#[test]
fn weights_without_a_shift() {
    check(DType::F16, "activation: sigmoid, normalizer: none,");
}
