//! Masks that are more than bounds, in the schedule that asks of 32 tiles of keys at a time what the mask leaves of them: on a
//! simulated GPU, against the oracle.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Case, Comparison, Shape, Target, Tolerance};
use attn::{Attention, DType, Definition, Device, Output};
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
    "blocks(table, 64, 128)",
    "blocks(table, 32, 24) & causal",
    "|b, h, q, kv| table[b, h, rows[h, q], kv / 64] != 0 || kv == q",
];

/// Few queries and so many keys that the first 32 tiles are not all; several tiles of both; one query.
const SHAPES: [Shape; 3] = [
    Shape { batch: 1, heads: 1, kv_heads: 1, q_len: 5, kv_len: 2500, head_dim: 16, value_dim: 16 },
    Shape { batch: 2, heads: 2, kv_heads: 1, q_len: 150, kv_len: 170, head_dim: 16, value_dim: 16 },
    Shape { batch: 2, heads: 1, kv_heads: 1, q_len: 1, kv_len: 140, head_dim: 16, value_dim: 16 },
];

fn definition(mask: &str, rest: &str) -> Definition {
    let text = format!("struct Masked {{ ids: i32[b, kv], rows: i32[h, q], table: i32[b, h, 5, 7], {rest} mask: {mask} }}");
    attn::compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "mask.attn")))
}

fn forward(attention: &Attention, case: &Case) -> Output {
    let arguments = case.arguments(attention.definition()).unwrap();
    let device = attention.device();
    let [q, k, v] = [&arguments.q, &arguments.k, &arguments.v].map(|tensor| tensor.to_device(device).unwrap());
    let parameters = arguments.parameters.to_device(device).unwrap();
    attention.forward(&q, &k, &v, &parameters).unwrap().to_host().unwrap()
}

/// The forward pass of masks with a class of weights.
fn check(dtype: DType, masks: &[&str], rest: &str) {
    let misses: Vec<String> = masks
        .par_iter()
        .flat_map_iter(|&mask| {
            let definition = definition(mask, rest);
            let device = Device::Sim(SimDevice::new(SimOptions::new(1).target(Target::Sm80)));
            let [simulated, oracle] =
                [&device, &Device::Oracle].map(|device| Attention::new(&definition, device).unwrap());
            SHAPES.map(|shape| {
                let case = Case { shape, dtype, broadcast: shape.batch > 1, ..Case::default() };
                let (actual, expected) = (forward(&simulated, &case), forward(&oracle, &case));
                let tensors = [(Some(actual.output), Some(expected.output)), (actual.statistic, expected.statistic)];
                let comparisons = tensors.into_iter().filter_map(|(actual, expected)| {
                    let (actual, expected) = (actual?.to_f64_vec().unwrap(), expected?.to_f64_vec().unwrap());
                    // what v and a logarithm are of
                    let magnitude = vec![1.0; expected.len()];
                    Some(Comparison::new("forward", &actual, &expected, &magnitude, Tolerance::forward(dtype)))
                });
                let missed = comparisons.filter(|comparison| !comparison.passed());
                missed.map(|comparison| format!("{mask} {case}: {comparison}")).collect::<String>()
            })
        })
        .filter(|missed| !missed.is_empty())
        .collect();
    assert!(misses.is_empty(), "{} missed\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn softmax_in_bf16() {
    check(DType::BF16, MASKS, "");
}

#[test]
fn softmax_in_f32() {
    check(DType::F32, &MASKS[..3], "");
}

#[test]
fn weights_without_a_shift() {
    check(DType::F16, &MASKS[1..4], "activation: sigmoid, normalizer: none,");
}

/// How many copies into shared memory the forward kernel makes.
fn copies(mask: &str) -> usize {
    let simulator = SimDevice::new(SimOptions::new(1).target(Target::Sm80).traced());
    let shape = Shape { q_len: 16, kv_len: 1024, ..SHAPES[0] };
    let case = Case { shape, dtype: DType::BF16, ..Case::default() };
    let attention = Attention::new(&definition(mask, ""), &Device::Sim(simulator.clone())).unwrap();
    forward(&attention, &case);
    let traces = simulator.take_traces();
    let forward = traces.iter().filter(|(name, _)| name.contains("_forward_"));
    forward.map(|(_, trace)| trace.lines().filter(|line| line.contains("cp.async starts")).count()).sum()
}

#[test]
fn tiles_without_a_live_pair_are_not_loaded() {
    let all = copies("none");
    let some = copies("|b, h, q, kv| kv / 64 == (q + 500) / 64 || kv / 64 == 14");
    assert!(some > 0 && 3 * some < all, "{some} copies of {all}");
}
