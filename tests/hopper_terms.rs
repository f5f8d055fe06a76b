//! Exponents that are a product, a term of the row and a term of the key: on the simulated Hopper GPU the terms are taken out of
//! the pairs, and results, statistics and gradients are those of the oracle.

use attn::sim::{FaultKind, SimDevice, SimError, SimOptions};
use attn::testing::{Arguments, Case, ElementType, KernelShape, Shape, Target, check_arguments, generated_kernels};
use attn::{Attention, DType, Definition, Device, Error, Tensor};
use rayon::prelude::*;

const ALIBI: &str =
    "struct Alibi { const slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv), ";
const LEARNABLE: &str =
    "struct Slopes { slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv), ";
const PADDED: &str = "struct Padded { const bias: f32[b, kv], score: |s, b, h, q, kv| s + bias[b, kv], ";
const GATED: &str = "struct Gated { gate: f32[b, h, kv], past: f32[b, h, q], score: |s, b, h, q, kv| s + past[b, h, q] - gate[b, h, kv], ";
const ROW: &str = "struct Row { const past: f32[b, h, q], score: |s, b, h, q, kv| s + past[b, h, q], ";
const SINK: &str = "struct Sink { sink: f32[h], const bias: f32[b, kv], score: |s, b, h, q, kv| s + bias[b, kv],
    normalizer: sum + exp(sink[h]), ";

fn variant(start: &str, rest: &str) -> Definition {
    let text = format!("{start}{rest} }}");
    attn::compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "terms.attn")))
}

/// Whether the terms are taken out of the forward kernel of bf16 and this head dimension.
fn is_split(definition: &Definition, head_dim: usize) -> bool {
    let shape = KernelShape::new(ElementType::Bf16, head_dim, head_dim).unwrap();
    let kernels = generated_kernels(definition, shape, Target::Sm90a).unwrap();
    let source = &kernels.forward.iter().find(|kernel| kernel.entry == "attn_forward").unwrap().source;
    assert_eq!(source.contains("float key_bias("), source.contains("add_numbers(s, "));
    source.contains("float key_bias(") || source.contains("float row_bias(")
}

const fn shape(heads: [usize; 3], lengths: [usize; 2], head_dims: [usize; 2]) -> Shape {
    let [batch, heads, kv_heads] = heads;
    let ([q_len, kv_len], [head_dim, value_dim]) = (lengths, head_dims);
    Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim }
}

/// Several tiles of keys, the last one ragged; more queries than keys, so that rows are without one; one query.
const SHAPES: [Shape; 3] =
    [shape([1, 2, 1], [70, 390], [64, 64]), shape([2, 2, 1], [40, 21], [64, 64]), shape([1, 2, 2], [1, 300], [64, 64])];

/// What a device misses of a variant whose parameters `change` may replace.
fn misses(definition: &Definition, case: Case, seed: u64, change: impl Fn(&Shape, &mut Arguments)) -> Vec<String> {
    let device = Device::Sim(SimDevice::new(SimOptions::new(seed).target(Target::Sm90a)));
    let attention = Attention::new(definition, &device).unwrap();
    let mut arguments = case.arguments(definition).unwrap();
    change(&case.shape, &mut arguments);
    let what = format!("{} {case}", definition.name);
    match check_arguments(&attention, &arguments) {
        Ok(all) => all.iter().filter(|one| !one.passed()).map(|one| format!("{what}: {one}")).collect(),
        Err(error) => vec![format!("{what}: {error}")],
    }
}

/// Checks a variant in both 16-bit types and all shapes.
#[track_caller]
fn check(definition: &Definition, shapes: &[Shape], change: impl Fn(&Shape, &mut Arguments) + Sync) {
    let cases: Vec<Case> = shapes
        .iter()
        .zip([(DType::BF16, false), (DType::F16, true), (DType::BF16, true), (DType::F16, false)].iter().cycle())
        .map(|(&shape, &(dtype, strided))| Case { shape, dtype, strided, seed: 3, ..Case::default() })
        .collect();
    let missed: Vec<String> = cases
        .par_iter()
        .enumerate()
        .flat_map_iter(|(at, case)| misses(definition, *case, at as u64, &change))
        .collect();
    assert!(missed.is_empty(), "{} missed\n{}", missed.len(), missed.join("\n"));
}

fn keep(_: &Shape, _: &mut Arguments) {}

/// Replaces a parameter by a function of its flat index and its last axis.
fn set(arguments: &mut Arguments, name: &str, shape: &[usize], value: impl Fn(usize, usize) -> f64) {
    let last = *shape.last().unwrap();
    let values: Vec<f64> =
        (0..shape.iter().product()).map(|at: usize| value(at / last.max(1), at % last.max(1))).collect();
    arguments.parameters.insert(name, Tensor::from_f64(DType::F32, shape, &values).unwrap());
}

#[test]
fn alibi_where_the_mask_makes_it_a_sum() {
    for (mask, split) in [("mask: causal", true), ("mask: causal & window(100, 0)", true), ("", false)] {
        let alibi = variant(ALIBI, mask);
        assert_eq!(is_split(&alibi, 64), split, "{mask}");
        check(&alibi, &SHAPES, keep);
        check(&variant(LEARNABLE, mask), &SHAPES[..2], keep);
    }
}

/// Every tile of the schedule: three consumers, two; chunks of columns.
#[test]
fn head_dims() {
    let shapes = [
        shape([1, 2, 1], [70, 390], [96, 96]),
        shape([1, 1, 1], [131, 260], [128, 128]),
        shape([1, 1, 1], [37, 150], [256, 256]),
        shape([1, 1, 1], [37, 300], [192, 128]),
    ];
    assert!(shapes.iter().all(|shape| is_split(&variant(ALIBI, "mask: causal"), shape.head_dim)));
    check(&variant(ALIBI, "mask: causal"), &shapes, keep);
    check(&variant(PADDED, ""), &shapes[1..3], keep);
}

/// Padding as a bias of minus infinity on either side: rows without any key, tiles without any, keys among others.
#[test]
fn minus_infinity_is_no_weight() {
    let padded = variant(PADDED, "");
    assert!(is_split(&padded, 64));
    for from in [0, 17, 140, 290] {
        let right = |shape: &Shape, arguments: &mut Arguments| {
            let bias = |_, kv: usize| if kv >= from { f64::NEG_INFINITY } else { 0.25 * (kv % 7) as f64 };
            set(arguments, "bias", &[shape.batch, shape.kv_len], bias);
        };
        let left = |shape: &Shape, arguments: &mut Arguments| {
            let bias = |_, kv: usize| if kv < from || kv.is_multiple_of(5) { f64::NEG_INFINITY } else { 1.0 };
            set(arguments, "bias", &[shape.batch, shape.kv_len], bias);
        };
        // with no key left there is no weight in any row, with the first gone under a causal mask there is none in some
        check(&padded, &SHAPES, right);
        check(&variant(PADDED, "mask: causal"), &SHAPES[..2], left);
    }
}

/// A large number instead of an infinity: keys that have it count nothing beside others, and all the same among themselves.
#[test]
fn large_numbers_are_no_weight() {
    for (large, from) in [(-1e9, 140), (-1e4, 290), (-1e30, 17)] {
        for right in [true, false] {
            check(&variant(PADDED, ""), &SHAPES[..2], |shape, arguments| {
                let is_large = |kv: usize| (kv >= from.min(shape.kv_len - 1)) == right;
                set(arguments, "bias", &[shape.batch, shape.kv_len], |_, kv| if is_large(kv) { large } else { 0.5 });
            });
        }
    }
    check(&variant(PADDED, ""), &SHAPES[..2], |shape, arguments| {
        set(arguments, "bias", &[shape.batch, shape.kv_len], |_, _| -300.0);
    });
}

/// Sums of logarithms of gates, which grow along the sequence.
#[test]
fn forgetting_gates() {
    let gated = variant(GATED, "mask: causal");
    assert!(is_split(&gated, 64));
    check(&gated, &SHAPES, |shape, arguments| {
        let Shape { batch, heads, q_len, kv_len, .. } = *shape;
        let sum = |position: f64| -0.3 * position - 0.1 * (position * 1.7).sin();
        set(arguments, "past", &[batch, heads, q_len], |_, q| sum((q + kv_len) as f64 - q_len as f64));
        set(arguments, "gate", &[batch, heads, kv_len], |_, kv| sum(kv as f64));
    });
}

#[test]
fn terms_of_rows_alone() {
    let row = variant(ROW, "");
    assert!(is_split(&row, 64));
    check(&row, &SHAPES, keep);
    // a row whose term is minus infinity has no weight
    for rest in ["", "normalizer: sum + 1"] {
        check(&variant(ROW, rest), &SHAPES[..2], |shape, arguments| {
            let past = |_, q: usize| if q.is_multiple_of(3) { f64::NEG_INFINITY } else { 0.5 * q as f64 };
            set(arguments, "past", &[shape.batch, shape.heads, shape.q_len], past);
        });
    }
}

/// Floors of the shift beside terms, and keys that count nothing before and after those that do.
#[test]
fn sinks() {
    assert!(is_split(&variant(SINK, ""), 64));
    check(&variant(SINK, "mask: causal"), &SHAPES, keep);
    for value in [f64::NEG_INFINITY, -1e9] {
        check(&variant(SINK, ""), &SHAPES[..2], |shape, arguments| {
            let bias = |_, kv: usize| if !(10..=150).contains(&kv) { value } else { -2.0 };
            set(arguments, "bias", &[shape.batch, shape.kv_len], bias);
        });
    }
    check(&variant(ALIBI, "normalizer: sum + 1, mask: causal"), &SHAPES, keep);
    check(&variant(GATED, "normalizer: sqrt(sum_squares), mask: causal"), &SHAPES[..2], keep);
}

/// Fields of keys that the mask reads are in the ring beside the slice.
#[test]
fn masks_that_read_keys() {
    let text = "struct Documents { ids: i32[b, kv], const bias: f32[b, kv], score: |s, b, h, q, kv| s + bias[b, kv], mask: document(ids) & causal }";
    let documents = variant(text.trim_end_matches('}'), "");
    assert!(is_split(&documents, 64));
    let square = [shape([2, 2, 1], [150, 150], [64, 64]), shape([1, 2, 2], [21, 21], [128, 128])];
    check(&documents, &square, keep);
    check(&variant(PADDED, "mask: |b, h, q, kv| kv < 0"), &SHAPES[1..2], keep);
}

#[test]
fn seeds() {
    let alibi = variant(ALIBI, "mask: causal");
    let case = Case { shape: SHAPES[0], dtype: DType::BF16, ..Case::default() };
    let missed: Vec<String> = (10..18).into_par_iter().flat_map_iter(|seed| misses(&alibi, case, seed, keep)).collect();
    assert!(missed.is_empty(), "{} missed\n{}", missed.len(), missed.join("\n"));
}

/// Mistakes in the hand-over of the slice are named.
#[test]
fn mistakes_are_found() {
    const MISTAKES: [(&str, &str, &[FaultKind]); 4] = [
        ("publish_shared();\n                    __syncwarp();", "__syncwarp();", &[FaultKind::MissingProxyFence]),
        (
            "mbarrier_wait(key_full + 8 * place.stage, place.parity);   // here",
            "// here",
            &[FaultKind::Race, FaultKind::MissingProxyFence, FaultKind::Uninitialized, FaultKind::OverwrittenInFlight],
        ),
        (
            "mbarrier_wait(key_empty + 8 * place.stage, place.parity);\n",
            "",
            &[FaultKind::Race, FaultKind::OverwrittenInFlight, FaultKind::Deadlock],
        ),
        ("if (lane == 0) mbarrier_arrive(key_empty + 8 * place.stage);\n", "", &[FaultKind::Deadlock]),
    ];
    let alibi = variant(ALIBI, "mask: causal");
    let case = Case { shape: SHAPES[0], dtype: DType::BF16, ..Case::default() };
    let arguments = case.arguments(&alibi).unwrap();
    let shape = KernelShape::new(ElementType::Bf16, 64, 64).unwrap();
    let kernels = generated_kernels(&alibi, shape, Target::Sm90a).unwrap();
    let missed: Vec<String> = MISTAKES
        .par_iter()
        .filter_map(|&(right, wrong, expected)| {
            assert_eq!(kernels.forward[0].source.matches(right).count(), 1, "{right}");
            let found = |seed| {
                let device = Device::Sim(SimDevice::new(SimOptions::new(seed).mistaken(right, wrong)));
                let attention = Attention::new(&alibi, &device).unwrap();
                let [q, k, v] = [&arguments.q, &arguments.k, &arguments.v].map(|one| one.to_device(&device).unwrap());
                let parameters = arguments.parameters.to_device(&device).unwrap();
                match attention.forward(&q, &k, &v, &parameters) {
                    Err(Error::Sim(SimError::Fault(fault))) => Some(fault.kind()),
                    Err(other) => panic!("{right}: {other}"),
                    Ok(_) => None,
                }
            };
            let kinds: Vec<_> = (0..6).filter_map(found).collect();
            let is_found = !kinds.is_empty() && kinds.iter().all(|kind| expected.contains(kind));
            (!is_found).then(|| format!("without {right}: {kinds:?}"))
        })
        .collect();
    assert!(missed.is_empty(), "{missed:#?}");
}
