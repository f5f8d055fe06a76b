//! What is particular to the Hopper forward schedule, on the simulated GPU against the oracle: shifts that rise lazily, weights of
//! a sigmoid from their smallest to 1, blocks that take tile after tile, and plain exponents whose largest weight is asked for.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Arguments, Case, Shape, check_arguments};
use attn::{DType, Definition, Device, Tensor};
use rayon::prelude::*;

fn variant(text: &str) -> Definition {
    attn::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "hopper.attn")))
}

const fn shape(q_len: usize, kv_len: usize, head_dim: usize) -> Shape {
    Shape { batch: 1, heads: 2, kv_heads: 1, q_len, kv_len, head_dim, value_dim: head_dim }
}

/// What a simulated GPU misses of the oracle's results.
fn misses(definition: &Definition, arguments: &Arguments, options: SimOptions) -> Vec<String> {
    let device = Device::Sim(SimDevice::new(options));
    let attention = attn::Attention::new(definition, &device).unwrap();
    let what = format!("{} {options:?}", definition.name);
    match check_arguments(&attention, arguments) {
        Ok(all) => all.iter().filter(|one| !one.passed()).map(|one| format!("{what}: {one}")).collect(),
        Err(error) => vec![format!("{what}: {error}")],
    }
}

#[track_caller]
fn check(cases: Vec<(&Definition, Arguments, SimOptions)>) {
    let missed: Vec<String> = cases
        .par_iter()
        .flat_map_iter(|(definition, arguments, options)| misses(definition, arguments, *options))
        .collect();
    assert!(missed.is_empty(), "{} missed\n{}", missed.len(), missed.join("\n"));
}

/// Arguments whose scores change by `step` (natural units) from a tile of 128 keys to that before it, the order in which the
/// kernel meets them, besides what is random.
fn sloping(definition: &Definition, case: Case, step: f64) -> Arguments {
    let mut arguments = case.arguments(definition).unwrap();
    let Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, .. } = case.shape;
    // the last feature of q is 1, that of k the slope
    let scale = 1.0 / (head_dim as f64).sqrt();
    let replace = |tensor: &Tensor, rows: usize, value: &dyn Fn(usize) -> f64| {
        let values = tensor.to_f64_vec().unwrap();
        let changed: Vec<f64> = values
            .iter()
            .enumerate()
            .map(|(at, &old)| if at % head_dim == head_dim - 1 { value(at / head_dim % rows) } else { old })
            .collect();
        Tensor::from_f64(case.dtype, tensor.shape(), &changed).unwrap()
    };
    arguments.q = replace(&arguments.q, q_len, &|_| 1.0);
    arguments.k = replace(&arguments.k, kv_len, &|kv| ((kv_len - kv) / 128) as f64 * step / scale);
    assert_eq!(arguments.q.shape(), [batch, heads, q_len, head_dim]);
    assert_eq!(arguments.k.shape(), [batch, kv_heads, kv_len, head_dim]);
    arguments
}

/// A maximum that rises by less than the shift tolerates, by a little more, by far more; and one that falls.
#[test]
fn shifts_rise_lazily() {
    let softmax = variant("struct Softmax { score: |s| s }");
    let sink = variant("struct Sink { sink: f32[h], score: |s| s, normalizer: sum + exp(sink[h]), mask: causal }");
    let squares = variant("struct Squares { score: |s| s, normalizer: sqrt(sum_squares), mask: causal }");
    let mut cases = vec![];
    let variants = [(&softmax, DType::BF16, 100.0), (&sink, DType::F16, 6.0), (&squares, DType::BF16, 40.0)];
    for (at, step) in [0.5f64, 4.0, 6.0, 20.0, 100.0, -4.0, -100.0].into_iter().enumerate() {
        // the oracle has no shift, and gradients as small as e^-100 no f32: each variant has its limit
        for (definition, dtype, _) in variants.into_iter().filter(|(_, _, limit)| step.abs() <= *limit) {
            let case = Case { shape: shape(70, 390, 64), dtype, strided: false, seed: 5, ..Case::default() };
            cases.push((definition, sloping(definition, case, step), SimOptions::new(at as u64)));
        }
    }
    check(cases);
}

/// Where some weights of a tile are small and others not: by the bias, by the length, by the score.
#[test]
fn sigmoids_of_any_size() {
    let text = |bias: &str| {
        variant(&format!("struct Sigmoid {{ score: |s| s + ({bias}), activation: sigmoid, normalizer: none }}"))
    };
    let mut cases = vec![];
    let definitions: Vec<Definition> = ["-12.0", "-6.0", "-3.4", "0.0", "6.0"].map(text).into();
    for (at, definition) in definitions.iter().enumerate() {
        let (dtype, spread) = [(DType::BF16, 1.0), (DType::F16, 2.0), (DType::BF16, 4.0)][at % 3];
        let case = Case { shape: shape(70, 200, 64), dtype, strided: false, seed: 7, spread, ..Case::default() };
        cases.push((definition, case.arguments(definition).unwrap(), SimOptions::new(at as u64)));
    }
    check(cases);
}

/// Blocks that compute one tile, several, and all: results do not depend on who computes what.
#[test]
fn blocks_take_tile_after_tile() {
    let alibi = variant(
        "struct Alibi { const slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv), mask: causal }",
    );
    let table = variant(
        "struct Table { table: f32[h, buckets], score: |s, b, h, q, kv| s + table[h, kv - q + 40], mask: window(100, 20) }",
    );
    let document = variant("struct Documents { const ids: i32[b, kv], mask: document(ids), }");
    let mut cases = vec![];
    for (at, definition) in [&alibi, &table, &document].into_iter().enumerate() {
        for multiprocessors in [1, 2, 3] {
            // a tile of the output beside that of the queries, and in its place
            let (dtype, head_dim) = [(DType::BF16, 64), (DType::F16, 256)][(at + multiprocessors) % 2];
            let case = Case { shape: shape(400, 150, head_dim), dtype, seed: 9, ..Case::default() };
            let options = SimOptions { multiprocessors: multiprocessors as u32, ..SimOptions::new(at as u64) };
            cases.push((definition, case.arguments(definition).unwrap(), options));
        }
    }
    check(cases);
}

/// The largest weight of an exponent that is the scaled product itself.
#[test]
fn largest_weights_of_plain_exponents() {
    let texts = [
        "struct Mean { score: |s| s, normalizer: 0.5 * (sum + max) }",
        "struct Mean { score: |s| s, normalizer: 0.5 * (sum + max), mask: causal }",
    ];
    let definitions = texts.map(variant);
    let mut cases = vec![];
    for definition in &definitions {
        for (at, dtype) in [DType::BF16, DType::F16].into_iter().enumerate() {
            let case = Case { shape: shape(70, 300, 64), dtype, seed: 11, ..Case::default() };
            cases.push((definition, case.arguments(definition).unwrap(), SimOptions::new(at as u64)));
        }
    }
    check(cases);
}

/// A query with a NaN has an output of NaN, whatever the sizes of the weights beside it, and no other query has.
#[test]
fn a_nan_is_not_lost() {
    let texts = [
        "struct Softmax { score: |s| s }",
        "struct Sink { sink: f32[h], score: |s| s, normalizer: sum + exp(sink[h]), mask: causal }",
        "struct SmallSigmoid { score: |s| s - 9.0, activation: sigmoid, normalizer: none }",
        "struct Sigmoid { score: |s| s, activation: sigmoid, normalizer: none }",
    ];
    texts.par_iter().for_each(|text| {
        let definition = variant(text);
        let case = Case { shape: shape(70, 150, 64), dtype: DType::BF16, strided: false, seed: 3, ..Case::default() };
        let arguments = case.arguments(&definition).unwrap();
        let device = Device::Sim(SimDevice::new(SimOptions::new(2)));
        let (poisoned, dim) = (33, case.shape.head_dim);
        let values = arguments.q.to_f64_vec().unwrap().into_iter().enumerate();
        let values: Vec<f64> =
            values.map(|(at, value)| if at == poisoned * dim + 5 { f64::NAN } else { value }).collect();
        let q = Tensor::from_f64(case.dtype, arguments.q.shape(), &values).unwrap();
        let [q, k, v] = [&q, &arguments.k, &arguments.v].map(|tensor| tensor.to_device(&device).unwrap());
        let parameters = arguments.parameters.to_device(&device).unwrap();
        let output = attn::Attention::new(&definition, &device).unwrap().forward(&q, &k, &v, &parameters).unwrap();
        let rows = output.to_host().unwrap().output.to_f64_vec().unwrap();
        for (row, values) in rows.chunks_exact(dim).enumerate() {
            let lost = values.iter().filter(|value| value.is_nan() != (row == poisoned)).count();
            assert_eq!(lost, 0, "{text}: query {row}");
        }
    });
}
