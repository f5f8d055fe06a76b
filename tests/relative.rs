//! Scores with values that depend on `kv - q` alone, which the Hopper forward kernel keeps by distance in shared memory:
//! kernels on a simulated GPU against the oracle, in every form that reads such values.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Case, ElementType, KernelShape, Shape, Target};
use attn::testing::{check_arguments, gallery_arguments, generated_kernels};
use attn::{Attention, DType, Definition, Device, gallery};
use rayon::prelude::*;

const LEARNED: &str =
    "struct Learned { table: f32[h, buckets], score: |s, b, h, q, kv| s + table[h, q - kv + buckets / 2] }";

/// One of each form of the kernel: classes, fields of each type, other values beside them.
const FORMS: [&str; 9] = [
    LEARNED,
    // its own axis, read at what is no position
    "struct OwnAxis { const bias: f32[h, kv], score: |s, b, h, q, kv| s + bias[h, kv - q] }",
    "struct BesideKeys { key: f32[b, kv], table: f32[h, 16], score: |s, b, h, q, kv| s + key[b, kv] + table[h, kv - q + 8] }",
    "struct TwoFields { table: f32[h, 16], score: |s, b, h, q, kv| s * cos(0.2 * (q - kv)) + table[h, abs(q - kv)] }",
    "struct Condition { score: |s, b, h, q, kv| if (q - kv) % 3 == 0 { s } else { 0.5 * s } }",
    "struct Index { const side: i32[16], table: f32[h, 32],
        score: |s, b, h, q, kv| s + table[h, side[abs(q - kv) % 16] + kv % 7] }",
    "struct Gated { table: f32[h, 16], score: |s, b, h, q, kv| s - 9 + table[h, kv - q + 8], activation: sigmoid, normalizer: none }",
    "struct Largest { table: f32[h, 16], score: |s, b, h, q, kv| s * table[h, kv - q + 8], activation: relu, normalizer: 1 + max }",
    "struct Bounded { table: f32[h, 16], score: |s, b, h, q, kv| 5 * tanh(s + table[h, min(abs(q - kv), 15)]) }",
];

const fn shape(heads: [usize; 3], lengths: [usize; 2], head_dim: usize) -> Shape {
    let [batch, heads, kv_heads] = heads;
    let [q_len, kv_len] = lengths;
    Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim: head_dim }
}

/// Tables that go round over tiles of keys, for two tiles of queries; fewer keys than queries, shared heads.
const SHAPES: [Shape; 2] = [shape([1, 1, 1], [131, 389], 64), shape([2, 4, 2], [30, 21], 64)];

fn check(definition: &Definition, shapes: &[Shape], seed: u64) -> Vec<String> {
    let target = Target::Sm90a;
    let [head_dim, value_dim] = [shapes[0].head_dim, shapes[0].value_dim];
    let kernels =
        generated_kernels(definition, KernelShape::new(ElementType::Bf16, head_dim, value_dim).unwrap(), target);
    let forward = kernels.unwrap().forward.last().expect("a forward kernel").source.clone();
    assert!(forward.contains("load_relative("), "{} keeps nothing by distance", definition.name);
    let device = Device::Sim(SimDevice::new(SimOptions::new(seed).target(target)));
    let cases: Vec<Case> = shapes
        .iter()
        .enumerate()
        .map(|(at, &shape)| Case { shape, dtype: DType::BF16, seed, broadcast: at % 2 == 1, ..Case::default() })
        .collect();
    let attention = Attention::new(definition, &device).unwrap();
    let misses = cases.iter().flat_map(|case| {
        match check_arguments(&attention, &gallery_arguments(definition, case).unwrap()) {
            Ok(found) => found.iter().filter(|found| !found.passed()).map(|found| format!("{case}: {found}")).collect(),
            Err(error) => vec![format!("{case}: {error}")],
        }
    });
    misses.map(|miss| format!("{} {miss}", definition.name)).collect()
}

#[track_caller]
fn check_all(definitions: &[Definition], shapes: &[Shape]) {
    let misses: Vec<String> = definitions
        .par_iter()
        .enumerate()
        .flat_map_iter(|(at, definition)| check(definition, shapes, at as u64))
        .collect();
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

fn compile(text: &str) -> Definition {
    attn::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "relative.attn")))
}

#[test]
fn every_form_reads_what_belongs_to_its_distance() {
    check_all(&FORMS.map(compile), &SHAPES);
}

#[test]
fn masks_skip_tiles() {
    let masks = ["causal", "causal & window(50, 0)", "window(20, 150)", "|b, h, q, kv| (q - kv) % 5 != 0"];
    let masked = masks.map(|mask| compile(LEARNED).with_mask(mask).expect("a mask"));
    let window = compile(FORMS[6]).with_mask(masks[1]).expect("a mask");
    check_all(&[&masked[..], &[window]].concat(), &SHAPES[..1]);
}

/// Tables of one copy, for want of shared memory, and every width of a row.
#[test]
fn wide_heads() {
    let t5 = ["t5bias", "t5bias-bidirectional", "retention"];
    let definitions: Vec<Definition> =
        t5.iter().map(|name| (gallery::find(name).expect("of the gallery").definition)().clone()).collect();
    for (head_dim, copies) in [(128, true), (192, true), (256, false)] {
        let kernels = |definition| {
            let shape = KernelShape::new(ElementType::F16, head_dim, head_dim).expect("a shape");
            generated_kernels(definition, shape, Target::Sm90a).expect("kernels").forward[0].source.clone()
        };
        assert_eq!(kernels(&definitions[0]).contains("RELATIVE_COPY_BYTES"), copies, "{head_dim}");
        check_all(&definitions, &[shape([1, 1, 1], [21, 260], head_dim)]);
    }
}

/// More fields than shared memory holds are computed pair by pair.
#[test]
fn what_does_not_fit_is_not_kept() {
    let terms: String = (0..40).map(|i| format!(" + key[kv] * cos(0.{i:02} * (q - kv))")).collect();
    let definition = compile(&format!("struct Many {{ key: f32[kv], score: |s, b, h, q, kv| s{terms} }}"));
    let source = |head_dim| {
        let shape = KernelShape::new(ElementType::Bf16, head_dim, head_dim).expect("a shape");
        generated_kernels(&definition, shape, Target::Sm90a).expect("kernels").forward[0].source.clone()
    };
    assert!(source(64).contains("load_relative("));
    assert!(!source(256).contains("load_relative(") && source(256).contains("Hopper schedule"));
}

/// Only this schedule keeps values by distance.
#[test]
fn other_kernels_know_none() {
    let definition = compile(LEARNED);
    for (element, target) in
        [(ElementType::F32, Target::Sm90a), (ElementType::Bf16, Target::Sm80), (ElementType::Bf16, Target::Sm100a)]
    {
        let kernels = generated_kernels(&definition, KernelShape::new(element, 64, 64).expect("a shape"), target);
        assert!(kernels.expect("kernels").distinct().all(|kernel| !kernel.source.contains("Relative")));
    }
}
