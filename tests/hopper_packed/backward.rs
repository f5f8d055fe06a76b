//! The backward pass: against the oracle, nothing of a neighbouring sequence in a gradient, and planted mistakes.
//!
//! Invariant: every kernel of dq, dk and dv here is one of the Hopper schedule.

use attn::compiler::cuda::{Kernel, backward};
use attn::compiler::lower::lower;
use attn::sim::{FaultKind, SimDevice, SimError, SimOptions};
use attn::testing::{Arguments, Case, ElementType, KernelShape, Shape, Target, check_arguments};
use attn::{Attention, DType, Definition, Device, Error, Gradients, Tensor};
use rayon::prelude::*;

use super::{POISONED, SEQUENCES, of_sequence, poisoned, variant};

/// Weights of every class, and gradients of parameters by every rule: tables by distance, of keys, of queries, of rows and of heads.
const VARIANTS: [&str; 9] = [
    "struct Softmax { score: |s| s, mask: causal }",
    "struct Sigmoid { temper: f32[h], score: |s, b, h, q, kv| s * temper[h] - ln(kv_len as f32), activation: sigmoid, normalizer: none }",
    "struct Alibi { slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv) / 50, mask: causal }",
    "struct Sink { sink: f32[h], score: |s| s, normalizer: sum + exp(sink[h]), mask: causal }",
    "struct T5 { table: f32[h, buckets], score: |s, b, h, q, kv| s + table[h, kv - q + 40] }",
    "struct Batches { table: f32[b, 9], bias: f32[b], score: |s, b, h, q, kv| s * bias[b] + table[b, abs(kv - q) / 4], mask: causal }",
    "struct Keys { gate: f32[b, kv], sink: f32[b, h], score: |s, b, h, q, kv| s + gate[b, kv], normalizer: sum + exp(sink[b, h]) }",
    "struct Documents { const ids: i32[b, kv], sink: f32, score: |s| s, normalizer: sum + exp(sink), mask: document(ids) & causal }",
    "struct Rows { row: f32[b, q], both: f32[h], score: |s, b, h, q, kv| s * row[b, q], normalizer: sum + exp(both[h]) }",
];

fn case(head_dim: usize, kv_heads: usize) -> Case {
    let shape = Shape { batch: 0, heads: 2, kv_heads, q_len: 0, kv_len: 0, head_dim, value_dim: head_dim };
    Case { shape, dtype: DType::BF16, packed: Some(SEQUENCES), strided: kv_heads == 1, ..Case::default() }
}

fn kernels(definition: &Definition, head_dim: usize) -> Vec<Kernel> {
    let shape = KernelShape::new(ElementType::Bf16, head_dim, head_dim).unwrap().packed();
    backward(&lower(definition).unwrap(), shape, Target::Sm90a, true).unwrap()
}

#[test]
fn gradients_agree_with_the_oracle() {
    let check = |(at, text): (usize, &&str)| -> Vec<String> {
        let definition = variant(text);
        let head_dim = [64, 128, 136][(at + at / 3) % 3];
        let mut passes = kernels(&definition, head_dim).into_iter().filter(|k| k.entry.starts_with("attn_backward"));
        assert!(passes.all(|kernel| kernel.source.contains("Hopper schedule")), "{text}");
        let options = SimOptions { multiprocessors: [3, u32::MAX, 1][at % 3], ..SimOptions::new(at as u64) };
        let attention = Attention::new(&definition, &Device::Sim(SimDevice::new(options))).unwrap();
        let attention = attention.deterministic(at % 4 != 3);
        match check_arguments(&attention, &case(head_dim, 1 + at % 2).arguments(&definition).unwrap()) {
            Ok(all) => all.iter().filter(|one| !one.passed()).map(|one| format!("{text} {head_dim}: {one}")).collect(),
            Err(error) => vec![format!("{text} {head_dim}: {error}")],
        }
    };
    let misses: Vec<String> = VARIANTS.par_iter().enumerate().flat_map_iter(check).collect();
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

fn gradients(definition: &Definition, arguments: &Arguments, options: SimOptions) -> Result<[Tensor; 3], Error> {
    let device = Device::Sim(SimDevice::new(options));
    let [lists_q, lists_kv] = arguments.cu_seqlens.as_ref().unwrap();
    let attention = Attention::new(definition, &device)?.packed(lists_q, lists_kv)?;
    let [q, k, v, output_grad] = [&arguments.q, &arguments.k, &arguments.v, &arguments.output_grad]
        .map(|tensor| tensor.to_device(&device).unwrap());
    let parameters = arguments.parameters.to_device(&device)?;
    let output = attention.forward(&q, &k, &v, &parameters)?;
    let found = attention.backward(&q, &k, &v, &parameters, &output, &output_grad, None)?;
    let Gradients { q, k, v, .. } = found.to_host()?;
    Ok([q, k, v])
}

fn rows_of([q, k, v]: &[Tensor; 3], sequence: usize) -> Vec<f64> {
    [of_sequence(q, 0, sequence), of_sequence(k, 1, sequence), of_sequence(v, 1, sequence)].concat()
}

#[test]
fn nothing_leaks_from_a_neighbouring_sequence() {
    let check = |&(at, head_dim): &(usize, usize)| {
        let definition = variant(VARIANTS[at]);
        let clean = case(head_dim, 1).arguments(&definition).unwrap();
        let mut arguments = case(head_dim, 1).arguments(&definition).unwrap();
        arguments.q = poisoned(&arguments.q, 0);
        arguments.k = poisoned(&arguments.k, 1);
        arguments.v = poisoned(&arguments.v, 1);
        arguments.output_grad = poisoned(&arguments.output_grad, 0);
        let [expected, found] = [(&clean, 1), (&arguments, 2)]
            .map(|(all, seed)| gradients(&definition, all, SimOptions::new(seed)).unwrap());
        (0..SEQUENCES.len()).for_each(|sequence| {
            let (own, rows) = (rows_of(&expected, sequence), rows_of(&found, sequence));
            let is_poisoned = POISONED.contains(&sequence);
            assert_eq!(own == rows, !is_poisoned, "{}, sequence {sequence}", definition.name);
        });
    };
    [(0, 64), (4, 128), (3, 136)].par_iter().for_each(check);
}

/// What must not be left out, what stands for it, and as what a run without it is found; none is another result.
#[rustfmt::skip]
const MISTAKES: [(&str, &str, Option<FaultKind>); 4] = [
    ("acquire_map(maps + OUTPUT_GRAD_MAP)", "(void)0", Some(FaultKind::MissingProxyFence)),
    ("if (batch != sequence) acquire_map(maps + K_GRAD_MAP), acquire_map(maps + V_GRAD_MAP);", "", Some(FaultKind::MissingProxyFence)),
    ("while (work.kv_head >= 0 && work.kv_len == 0) work = take_work();", "", None),
    ("+ work.q_start / BLOCK_Q + work.batch;", "+ work.q_start / BLOCK_Q;", None),
];

#[test]
fn mistakes_are_found() {
    let definition = variant(VARIANTS[0]);
    let arguments = case(64, 2).arguments(&definition).unwrap();
    let kernels = kernels(&definition, 64);
    let bytes = |found: [Tensor; 3]| found.map(|tensor| tensor.to_bytes().unwrap());
    let right = bytes(gradients(&definition, &arguments, SimOptions::new(1)).unwrap());
    let missed: Vec<String> = MISTAKES
        .par_iter()
        .filter_map(|&(text, wrong, expected)| {
            let matches: usize = kernels.iter().map(|kernel| kernel.source.matches(text).count()).sum();
            assert_eq!(matches, 1, "{text}");
            match (gradients(&definition, &arguments, SimOptions::new(1).mistaken(text, wrong)), expected) {
                (Err(Error::Sim(SimError::Fault(fault))), Some(expected)) if fault.kind() == expected => None,
                (Err(Error::Sim(SimError::Fault(_))), None) => None,
                (Ok(found), None) if bytes(found.clone()) != right => None,
                (found, _) => Some(format!("without {text}: {:?}", found.map(drop))),
            }
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
