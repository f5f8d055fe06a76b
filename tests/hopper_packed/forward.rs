//! The forward pass: nothing of a neighbouring sequence, the same whoever computes what, and planted mistakes.

use attn::sim::{FaultKind, SimDevice, SimError, SimOptions};
use attn::testing::{Arguments, Case, ElementType, KernelShape, Shape, Target, generated_kernels};
use attn::{Attention, DType, Definition, Device, Error, Output};
use rayon::prelude::*;

use super::{POISONED, SEQUENCES, of_sequence, poisoned, variant};

/// Weights of every class, values by key and by distance.
const VARIANTS: [&str; 5] = [
    "struct Softmax { score: |s| s }",
    "struct Sigmoid { score: |s| s - ln(kv_len as f32), activation: sigmoid, normalizer: none, mask: causal }",
    "struct T5 { table: f32[h, buckets], score: |s, b, h, q, kv| s + table[h, kv - q + 40], normalizer: softmax }",
    "struct Alibi { slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv), mask: causal }",
    "struct Sink { sink: f32[h], score: |s| s, normalizer: sum + exp(sink[h]), mask: causal }",
];

fn case(heads: usize) -> Case {
    let shape = Shape { batch: 0, heads, kv_heads: 1, q_len: 0, kv_len: 0, head_dim: 64, value_dim: 64 };
    Case { shape, dtype: DType::BF16, packed: Some(SEQUENCES), strided: false, ..Case::default() }
}

fn forward(definition: &Definition, arguments: &Arguments, options: SimOptions) -> Result<Output, Error> {
    let device = Device::Sim(SimDevice::new(options));
    let [lists_q, lists_kv] = arguments.cu_seqlens.as_ref().unwrap();
    let attention = Attention::new(definition, &device)?.packed(lists_q, lists_kv)?;
    let [q, k, v] = [&arguments.q, &arguments.k, &arguments.v].map(|tensor| tensor.to_device(&device).unwrap());
    let output = attention.forward(&q, &k, &v, &arguments.parameters.to_device(&device)?)?;
    output.to_host()
}

/// The rows of a sequence, and the statistic's.
fn rows_of(output: &Output, sequence: usize) -> Vec<f64> {
    let tensors = [Some(&output.output), output.statistic.as_ref()];
    tensors.into_iter().flatten().flat_map(|tensor| of_sequence(tensor, 0, sequence)).collect()
}

#[test]
fn nothing_leaks_from_a_neighbouring_sequence() {
    let check = |&text: &&str| {
        let definition = variant(text);
        let clean = case(2).arguments(&definition).unwrap();
        let mut arguments = case(2).arguments(&definition).unwrap();
        for (tensor, side) in [(&mut arguments.q, 0), (&mut arguments.k, 1), (&mut arguments.v, 1)] {
            *tensor = poisoned(tensor, side);
        }
        let [expected, found] =
            [(&clean, 1), (&arguments, 2)].map(|(all, seed)| forward(&definition, all, SimOptions::new(seed)).unwrap());
        (0..SEQUENCES.len()).for_each(|sequence| {
            let (own, rows) = (rows_of(&expected, sequence), rows_of(&found, sequence));
            let is_poisoned = POISONED.contains(&sequence);
            assert_eq!(own == rows, !is_poisoned, "{}, sequence {sequence}", definition.name);
        });
    };
    VARIANTS.par_iter().for_each(check);
}

/// Blocks that compute one tile, several, and all: results do not depend on who computes what.
#[test]
fn blocks_take_tile_after_tile() {
    let definition = variant(VARIANTS[4]);
    let arguments = case(4).arguments(&definition).unwrap();
    let run = |multiprocessors: u32| {
        let options = SimOptions { multiprocessors, ..SimOptions::new(u64::from(multiprocessors)) };
        let output = forward(&definition, &arguments, options).unwrap();
        output.output.to_bytes().unwrap()
    };
    let runs: Vec<_> = [1, 3, 64].into_par_iter().map(run).collect();
    assert!(runs[0] == runs[1] && runs[1] == runs[2]);
}

/// What must not be left out, what stands for it, and as what a run without it is found; none is another result.
const MISTAKES: [(&str, &str, Option<FaultKind>); 5] = [
    (", acquire_map(maps + V_MAP);", ";", Some(FaultKind::MissingProxyFence)),
    ("if (batch != sequence) acquire_map(maps + O_MAP);", "", Some(FaultKind::MissingProxyFence)),
    ("publish_maps();\n", "\n", Some(FaultKind::MissingProxyFence)),
    ("], 1, %1;\" ::\"l\"(to), \"r\"(rows)", "], 1, %1;\" ::\"l\"(to), \"r\"(rows + 1)", None),
    ("if (work.head >= 0 && work.q_len == 0) continue;", "", None),
];

#[test]
fn mistakes_are_found() {
    let definition = variant(VARIANTS[0]);
    let arguments = case(1).arguments(&definition).unwrap();
    let shape = KernelShape::new(ElementType::Bf16, 64, 64).unwrap().packed();
    let kernels = generated_kernels(&definition, shape, Target::Sm90a).unwrap();
    let right = forward(&definition, &arguments, SimOptions::new(1)).unwrap().output.to_bytes().unwrap();
    let missed: Vec<String> = MISTAKES
        .par_iter()
        .filter_map(|&(text, wrong, expected)| {
            let matches: usize = kernels.forward.iter().map(|kernel| kernel.source.matches(text).count()).sum();
            assert_eq!(matches, 1, "{text}");
            match (forward(&definition, &arguments, SimOptions::new(1).mistaken(text, wrong)), expected) {
                (Err(Error::Sim(SimError::Fault(fault))), Some(expected)) if fault.kind() == expected => None,
                (Err(Error::Sim(SimError::Fault(_))), None) => None,
                (Ok(output), None) if output.output.to_bytes().unwrap() != right => None,
                (found, _) => Some(format!("without {text}: {:?}", found.map(drop))),
            }
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
