//! The linear-time schedule: generated kernels on a simulated GPU and the CPU executor against the oracle, and against the
//! quadratic schedule of the same variant.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Case, Expected, Shape, Target, gallery_arguments};
use attn::{Attention, DType, Definition, Device, Schedule};
use rayon::prelude::*;

const fn shape(heads: [usize; 3], lengths: [usize; 2], head_dims: [usize; 2]) -> Shape {
    let [batch, heads, kv_heads] = heads;
    let ([q_len, kv_len], [head_dim, value_dim]) = (lengths, head_dims);
    Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim }
}

/// Below a chunk, whole chunks, odd lengths over several; more queries than keys and fewer; grouped heads; narrow and odd columns.
const SHAPES: [Shape; 4] = [
    shape([1, 2, 1], [150, 150], [40, 24]),
    shape([2, 2, 1], [37, 101], [40, 24]),
    shape([1, 1, 1], [101, 37], [40, 24]),
    shape([1, 1, 1], [1, 70], [40, 24]),
];

fn compile(fields: &str) -> Definition {
    let text = format!("struct Linear {{ {fields} }}");
    attn::compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "linear.attn")))
}

fn definitions() -> Vec<(&'static str, Definition)> {
    let gallery = ["linear-elu", "retention", "gated-linear"];
    let mut all: Vec<(&str, Definition)> =
        gallery.map(|name| (name, (attn::gallery::find(name).unwrap().definition)().clone())).into();
    all.push(("causal linear-elu", all[0].1.with_mask("causal").unwrap()));
    all.push((
        "plain",
        compile("activation: identity, normalizer: none, mask: causal"),
    ));
    all.push((
        "everything",
        compile(
            "feature_q: |x| sigmoid(x), feature_k: |x| x * x + 0.5, gain: f32[b, h, kv], past: f32[b, h, q], slope: f32[h], \
             score: |s, b, h, q, kv| s * past[b, h, q] * gain[b, h, kv] * exp(0.1 * slope[h] * (kv + q_len - q - kv_len)), \
             activation: identity, normalizer: sum + 1 + past[b, h, q], mask: causal",
        ),
    ));
    all.push((
        "by count",
        compile(
            "gain: f32[h], feature: |x| relu(x), score: |s, b, h| s * gain[h], activation: identity, normalizer: count, mask: causal",
        ),
    ));
    all
}

fn missed(name: &str, definition: &Definition, device: &Device, schedule: Schedule, case: &Case) -> Vec<String> {
    let attention = Attention::new(definition, device).unwrap().schedule(schedule);
    let arguments = gallery_arguments(definition, case).unwrap();
    let expected = Expected::new(&attention, &arguments).unwrap();
    let report = |text: String| format!("{name} {schedule:?} {case}: {text}");
    match expected.compare(&attention) {
        Ok(comparisons) => {
            let wrong = comparisons.iter().filter(|comparison| !comparison.passed());
            wrong.map(|comparison| report(comparison.to_string())).collect()
        }
        Err(error) => vec![report(error.to_string())],
    }
}

fn cases(dtype: DType) -> Vec<Case> {
    let case = |(at, &shape): (usize, &Shape)| Case {
        shape,
        dtype,
        strided: at % 2 == 1,
        broadcast: at == 2,
        ..Case::default()
    };
    SHAPES.iter().enumerate().map(case).collect()
}

#[track_caller]
fn check(target: Target, dtype: DType, schedule: Schedule) {
    let all = definitions();
    let misses: Vec<String> = all
        .par_iter()
        .flat_map_iter(|(name, definition)| {
            let device = Device::Sim(SimDevice::new(SimOptions::new(1).target(target)));
            cases(dtype).into_iter().flat_map(move |case| missed(name, definition, &device, schedule, &case))
        })
        .collect();
    assert!(misses.is_empty(), "{} missed\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn bf16() {
    check(Target::Sm90a, DType::BF16, Schedule::Linear);
}

#[test]
fn f16_of_less_shared_memory() {
    check(Target::Sm86, DType::F16, Schedule::Linear);
}

#[test]
fn f32() {
    check(Target::Sm80, DType::F32, Schedule::Linear);
}

#[test]
fn pair_by_pair() {
    check(Target::Sm90a, DType::BF16, Schedule::Quadratic);
}

#[test]
fn on_the_cpu() {
    for schedule in [Schedule::Linear, Schedule::Quadratic] {
        for (name, definition) in definitions() {
            for case in cases(DType::F32) {
                let misses = missed(name, &definition, &Device::Cpu, schedule, &case);
                assert!(misses.is_empty(), "{}", misses.join("\n"));
            }
        }
    }
}
