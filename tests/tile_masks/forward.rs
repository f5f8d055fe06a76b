//! The forward kernels of both schedules.

use attn::sim::{FaultKind, SimDevice, SimError, SimOptions};
use attn::testing::{Case, Comparison, ElementType, KernelShape, Shape, Target, Tolerance, generated_kernels};
use attn::{Attention, DType, Device, Error, Output, Tensor};
use rayon::prelude::*;

use crate::{MASKS, SHAPES, definition};

fn forward(attention: &Attention, case: &Case) -> Output {
    try_forward(attention, case).unwrap()
}

fn try_forward(attention: &Attention, case: &Case) -> Result<Output, Error> {
    let arguments = case.arguments(attention.definition()).unwrap();
    let device = attention.device();
    let [q, k, v] = [&arguments.q, &arguments.k, &arguments.v].map(|tensor| tensor.to_device(device).unwrap());
    let parameters = arguments.parameters.to_device(device).unwrap();
    attention.forward(&q, &k, &v, &parameters)?.to_host()
}

/// The forward pass of masks with a class of weights.
fn check(target: Target, dtype: DType, masks: &[&str], rest: &str) {
    let misses: Vec<String> = masks
        .par_iter()
        .flat_map_iter(|&mask| {
            let definition = definition(mask, rest);
            let device = Device::Sim(SimDevice::new(SimOptions::new(1).target(target)));
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
    check(Target::Sm80, DType::BF16, MASKS, "");
    check(Target::Sm90a, DType::BF16, MASKS, "");
}

#[test]
fn softmax_in_f32() {
    check(Target::Sm80, DType::F32, &MASKS[..3], "");
}

#[test]
fn weights_without_a_shift() {
    check(Target::Sm80, DType::F16, &MASKS[1..4], "activation: sigmoid, normalizer: none,");
    check(Target::Sm90a, DType::F16, &MASKS[1..6], "activation: sigmoid, normalizer: none,");
}

/// Warps beside the one that loads hear of it which tile comes next: a term of the key, values by distance, of which the tile before
/// has some only where none was left out, and by key.
#[test]
fn values_by_key_and_by_distance() {
    let slope = "slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv),";
    check(Target::Sm90a, DType::BF16, &MASKS[1..2], slope);
    let table = "table: f32[h, 64], score: |s, b, h, q, kv| s + table[h, clamp(kv - q + 32, 0, 63)],";
    check(Target::Sm90a, DType::F16, &[MASKS[0], MASKS[3], MASKS[8]], table);
    let gain = "gain: f32[kv], score: |s, b, h, q, kv| s * gain[kv],";
    check(Target::Sm90a, DType::BF16, &[MASKS[4], MASKS[9]], gain);
    // every tile is full where the mask leaves it, but the last
    check(Target::Sm90a, DType::BF16, &["|b, h, q, kv| kv / 128 != 1"], "activation: relu, normalizer: sum + 1.0,");
}

/// How many copies into shared memory the forward kernel makes.
fn copies(target: Target, mask: &str) -> usize {
    let simulator = SimDevice::new(SimOptions::new(1).target(target).traced());
    let shape = Shape { q_len: 16, kv_len: 1024, ..SHAPES[0] };
    let case = Case { shape, dtype: DType::BF16, ..Case::default() };
    let attention = Attention::new(&definition(mask, ""), &Device::Sim(simulator.clone())).unwrap();
    forward(&attention, &case);
    let traces = simulator.take_traces();
    let forward = traces.iter().filter(|(name, _)| name.contains("_forward_"));
    let is_load = |line: &&str| line.contains("cp.async starts") || line.contains("cp.async.bulk.tensor (load) starts");
    forward.map(|(_, trace)| trace.lines().filter(is_load).count()).sum()
}

#[test]
fn tiles_without_a_live_pair_are_not_loaded() {
    for target in [Target::Sm80, Target::Sm90a] {
        let all = copies(target, "none");
        let some = copies(target, "|b, h, q, kv| kv / 64 == (q + 500) / 64 || kv / 64 == 14");
        // of eight tiles of 128 keys three, and the queries
        assert!(some > 0 && 2 * some < all, "{some} copies of {all}");
    }
}

/// A weight of zero times a NaN is a NaN: what the mask leaves out of whole tiles is not multiplied.
#[test]
fn what_no_query_sees_may_be_anything() {
    let definition = definition("|b, h, q, kv| kv / 128 == 2 + q / 128 * 2 || kv / 128 == 5", "");
    let shape = Shape { q_len: 150, kv_len: 1000, heads: 2, ..SHAPES[0] };
    let case = Case { shape, dtype: DType::BF16, strided: false, ..Case::default() };
    for target in [Target::Sm80, Target::Sm90a] {
        let device = Device::Sim(SimDevice::new(SimOptions::new(1).target(target)));
        let attention = Attention::new(&definition, &device).unwrap();
        let mut arguments = case.arguments(&definition).unwrap();
        for tensor in [&mut arguments.k, &mut arguments.v] {
            let columns = tensor.shape()[3];
            let values = tensor.to_f64_vec().unwrap().into_iter().enumerate();
            let is_seen = |at: usize| (2..=5).contains(&(at / columns % shape.kv_len / 128));
            let values: Vec<f64> = values.map(|(at, value)| if is_seen(at) { value } else { f64::NAN }).collect();
            *tensor = Tensor::from_f64(tensor.dtype(), tensor.shape(), &values).unwrap();
        }
        let [q, k, v] = [&arguments.q, &arguments.k, &arguments.v].map(|tensor| tensor.to_device(&device).unwrap());
        let parameters = arguments.parameters.to_device(&device).unwrap();
        let output = attention.forward(&q, &k, &v, &parameters).unwrap().to_host().unwrap();
        assert!(output.output.to_f64_vec().unwrap().iter().all(|value| value.is_finite()), "{target}");
    }
}

/// What the Hopper schedule must not leave out, what stands for it, and as what a run without it is found; none is another result.
const MISTAKES: [(&str, &str, &[Option<FaultKind>]); 4] = [
    ("previous_tile != kv_tile + 1;", "previous_tile < 0;", &[None]),
    (
        "__syncwarp();\n        if (lane == 0) mbarrier_arrive(empty);",
        "if (threadIdx.x % 128 == 0) for (int i = 0; i < 4; ++i) mbarrier_arrive(empty);",
        &[Some(FaultKind::Race)],
    ),
    ("liveness.all_live && kv_end == kv_begin + BLOCK_KV", "liveness.all_live", &[None]),
    (
        "mbarrier_wait(k_full + 8 * place.stage, place.parity ^ 1);\n",
        "",
        &[Some(FaultKind::Race), Some(FaultKind::Uninitialized)],
    ),
];

#[test]
fn mistakes_are_found() {
    let table = "table: f32[h, 900], score: |s, b, h, q, kv| s + table[h, kv - q + 150],";
    // the third tile is left out, the others are full, but for the positions that the last one has not
    let definition = definition("|b, h, q, kv| kv / 128 != 2", table);
    let shape = Shape { q_len: 150, kv_len: 690, heads: 1, ..SHAPES[1] };
    let case = Case { shape, dtype: DType::BF16, ..Case::default() };
    let kernels =
        generated_kernels(&definition, KernelShape::new(ElementType::Bf16, 16, 16).unwrap(), Target::Sm90a).unwrap();
    let source = &kernels.forward.last().unwrap().source;
    let on = |options: SimOptions| Attention::new(&definition, &Device::Sim(SimDevice::new(options))).unwrap();
    let right = forward(&on(SimOptions::new(1)), &case).output.to_bytes().unwrap();
    let missed: Vec<String> = MISTAKES
        .par_iter()
        .filter_map(|&(text, wrong, expected)| {
            assert_eq!(source.matches(text).count(), 1, "{text}");
            let found = |seed| match try_forward(&on(SimOptions::new(seed).mistaken(text, wrong)), &case) {
                Err(Error::Sim(SimError::Fault(fault))) => Some(Some(fault.kind())),
                Err(other) => panic!("{text}: {other}"),
                Ok(output) => (output.output.to_bytes().unwrap() != right).then_some(None),
            };
            let found: Vec<_> = (0..4).find_map(found).into_iter().collect();
            let is_found = !found.is_empty() && found.iter().all(|outcome| expected.contains(outcome));
            (!is_found).then(|| format!("without {text}: {found:?}"))
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
