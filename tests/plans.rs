//! Every plan of the Hopper forward kernel: it compiles without advisories, and computes what the plan of the rules does.

use attn::compiler::cuda::{Kernel, forward_choices};
use attn::compiler::lower::lower;
use attn::cuda::default_options;
use attn::cuda::testing::nvrtc_for_tests;
use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Case, ElementType, Expected, KernelShape, Shape, Target, gallery_arguments};
use attn::{Attention, DType, Definition, Device, Error, Plan, gallery};
use rayon::prelude::*;

fn definition(name: &str, mask: &str) -> Definition {
    (gallery::find(name).expect("a variant of the gallery").definition)().with_mask(mask).expect("a mask")
}

fn plans(definition: &Definition, shape: KernelShape, target: Target) -> Vec<Vec<Kernel>> {
    forward_choices(&lower(definition).expect("a program"), shape, target).expect("plans")
}

fn shape(element: ElementType, head_dim: usize) -> KernelShape {
    KernelShape::new(element, head_dim, head_dim).expect("a shape")
}

#[test]
fn plans_differ_in_tile_name_and_source() {
    for entry in gallery::all() {
        for head_dim in [64, 128, 192, 256] {
            let definition = (entry.definition)();
            let shape = shape(ElementType::Bf16, head_dim);
            let plans = plans(definition, shape, Target::Sm90a);
            let what = format!("{} {shape}", entry.name);
            let ours = attn::compiler::cuda::forward(&lower(definition).unwrap(), shape, Target::Sm90a).unwrap();
            let sources = |kernels: &[Kernel]| {
                kernels.iter().map(|kernel| (kernel.file_name.clone(), kernel.source.clone())).collect::<Vec<_>>()
            };
            assert_eq!(sources(&plans[0]), sources(&ours), "{what}: the first is that of the rules");
            let last: Vec<&Kernel> = plans.iter().map(|kernels| kernels.last().unwrap()).collect();
            for (at, kernel) in last.iter().enumerate() {
                let is_same = |other: &&&Kernel| {
                    [other.block_q, other.block_kv] == [kernel.block_q, kernel.block_kv]
                        || other.file_name == kernel.file_name
                        || other.source == kernel.source
                };
                assert!(last[..at].iter().find(is_same).is_none(), "{what}: {} twice", kernel.file_name);
                assert!(kernel.shared_memory as usize <= Target::Sm90a.shared_memory_per_block(), "{what}");
                let tile = format!("_forward_{}x{}_", kernel.block_q, kernel.block_kv);
                assert_eq!(kernel.file_name.contains(&tile), at > 0, "{what}: {}", kernel.file_name);
            }
        }
    }
}

/// What the portable schedule computes has one plan.
#[test]
fn others_have_one_plan() {
    let softmax = definition("softmax", "causal");
    for (element, target) in
        [(ElementType::F32, Target::Sm90a), (ElementType::Bf16, Target::Sm80), (ElementType::F16, Target::Sm100a)]
    {
        assert_eq!(plans(&softmax, shape(element, 64), target).len(), 1, "{target}");
    }
}

#[test]
fn every_plan_compiles_into_its_registers() {
    let cases: Vec<(&str, &str, usize)> = ["softmax", "alibi", "sigmoid", "t5bias"]
        .into_iter()
        .flat_map(|name| [64, 128, 256].map(|head_dim| (name, "causal", head_dim)))
        .chain([64, 128, 192].map(|head_dim| ("softmax", "none", head_dim)))
        .collect();
    cases.par_iter().for_each(|&(name, mask, head_dim)| {
        let plans = plans(&definition(name, mask), shape(ElementType::Bf16, head_dim), Target::Sm90a);
        assert!(plans.len() > 1, "{name} {mask} d{head_dim}");
        // the first is that of the rules, which the gallery's snapshots hold
        for kernel in plans[1..].iter().flatten() {
            let options = default_options(Target::Sm90a.name());
            let compiled = nvrtc_for_tests().compile(&kernel.source, &kernel.file_name, &options).unwrap();
            let log = &compiled.log;
            assert!(!log.contains("(C75"), "{}: {log}", kernel.file_name);
            for usage in compiled.resources() {
                // two numbers that are kept elsewhere are no reason not to measure
                assert!(usage.spill_store_bytes <= 8, "{}: {log}", kernel.file_name);
            }
        }
    });
}

/// Lengths that no tile divides: several tiles of keys, and fewer queries than a tile has.
fn check(name: &str, mask: &str, head_dim: usize, lengths: [usize; 2]) -> Vec<String> {
    let definition = definition(name, mask);
    let [q_len, kv_len] = lengths;
    let shape = Shape { batch: 1, heads: 2, kv_heads: 1, q_len, kv_len, head_dim, value_dim: head_dim };
    let case = Case { shape, dtype: DType::BF16, ..Case::default() };
    let kernels = plans(&definition, self::shape(ElementType::Bf16, head_dim), Target::Sm90a);
    let attention = Attention::new(&definition, &Device::Sim(SimDevice::new(SimOptions::new(5)))).unwrap();
    let arguments = gallery_arguments(&definition, &case).unwrap();
    let expected = Expected::new(&attention, &arguments).unwrap();
    let compare = |number| {
        let planned = attention.clone().plan(Plan::Choice(number));
        match expected.compare(&planned) {
            Ok(comparisons) => {
                let missed = comparisons.iter().filter(|comparison| !comparison.passed());
                missed.map(|comparison| format!("plan {number}, {case} {mask}: {comparison}")).collect()
            }
            Err(error) => vec![format!("plan {number}, {case} {mask}: {error}")],
        }
    };
    (1..kernels.len()).into_par_iter().flat_map_iter(compare).collect::<Vec<String>>()
}

#[test]
fn every_plan_agrees_with_the_oracle() {
    let cases: Vec<(&str, &str, usize)> = [("softmax", "none"), ("softmax", "causal"), ("alibi", "causal")]
        .into_iter()
        .flat_map(|(name, mask)| [64, 128].map(|head_dim| (name, mask, head_dim)))
        .chain([("softmax", "causal", 192), ("softmax", "none", 256), ("alibi", "causal", 256)])
        .collect();
    let misses: Vec<String> =
        cases.par_iter().flat_map_iter(|&(name, mask, d)| check(name, mask, d, [209, 231])).collect();
    assert!(misses.is_empty(), "{} missed\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn numbers_beyond_the_last_plan_are_refused() {
    let device = Device::sim(0);
    let attention = Attention::new(&definition("softmax", "none"), &device).unwrap().plan(Plan::Choice(9));
    let q = attn::Tensor::zeros(DType::BF16, &[1, 1, 4, 64]).unwrap().to_device(&device).unwrap();
    let error = attention.forward(&q, &q, &q, &attn::Parameters::new()).unwrap_err();
    assert!(matches!(&error, Error::Argument(_)) && error.to_string().contains("no plan 9"), "{error}");
}

/// A simulated GPU's time says nothing: calls have the plan of the rules, and nothing is decided.
#[test]
fn nothing_is_measured_without_a_clock() {
    for device in [Device::sim(0), Device::Cpu] {
        let by_rules = Attention::new(&definition("softmax", "causal"), &device).unwrap().plan(Plan::Rules);
        let tuned = by_rules.clone().plan(Plan::Autotune);
        let q = attn::Tensor::zeros(DType::BF16, &[1, 1, 70, 64]).unwrap().to_device(&device).unwrap();
        let output = |attention: &Attention| {
            let output = attention.forward(&q, &q, &q, &attn::Parameters::new()).unwrap();
            output.output.to_host().unwrap().to_bytes().unwrap()
        };
        assert_eq!(output(&tuned), output(&by_rules));
        assert_eq!(tuned.tunings(), []);
    }
}
