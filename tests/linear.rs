//! The linear-time schedule: generated kernels on a simulated GPU and the CPU executor against the oracle, and against the
//! quadratic schedule of the same variant.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Arguments, Case, Expected, Shape, Target, gallery_arguments};
use attn::{Attention, DType, Definition, Device, Output, Parameters, Schedule, Tensor};
use rayon::prelude::*;

const fn shape(heads: [usize; 3], lengths: [usize; 2], head_dims: [usize; 2]) -> Shape {
    let [batch, heads, kv_heads] = heads;
    let ([q_len, kv_len], [head_dim, value_dim]) = (lengths, head_dims);
    Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim }
}

/// Odd lengths over several chunks and below one; more queries than keys and fewer; grouped heads; columns that fill no tile.
const SHAPES: [Shape; 3] = [
    shape([1, 2, 1], [150, 150], [40, 24]),
    shape([2, 2, 1], [37, 101], [40, 24]),
    shape([1, 1, 1], [101, 37], [40, 24]),
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
    all.push(("plain", compile("activation: identity, normalizer: none, mask: causal")));
    all.push((
        "everything",
        compile(
            "feature_q: |x| sigmoid(x), feature_k: |x| x * x + 0.5, gain: f32[b, h, kv], past: f32[b, h, q], slope: f32[h], \
             score: |s, b, h, q, kv| s * past[b, h, q] * gain[b, h, kv] * exp(0.1 * slope[h] * (kv + q_len - q - kv_len)), \
             activation: identity, normalizer: sum + 1 + past[b, h, q], mask: causal",
        ),
    ));
    all.push((
        "everything const",
        compile(
            "feature_q: |x| sigmoid(x), feature_k: |x| x * x + 0.5, gain: f32[b, h, kv], past: f32[b, h, q], \
             const slope: f32[h], score: |s, b, h, q, kv| \
             s * past[b, h, q] * gain[b, h, kv] * exp(0.1 * slope[h] * (kv + q_len - q - kv_len)), \
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

/// Checks some of the definitions on a simulated GPU.
#[track_caller]
fn check(names: &[&str], target: Target, dtype: DType, schedule: Schedule) {
    let all = definitions();
    let wanted: Vec<_> = all.iter().filter(|(name, _)| names.contains(name)).collect();
    assert_eq!(wanted.len(), names.len());
    let misses: Vec<String> = wanted
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
    check(&["causal linear-elu", "gated-linear"], Target::Sm90a, DType::BF16, Schedule::Linear);
}

#[test]
fn f16_of_less_shared_memory() {
    check(&["everything const"], Target::Sm86, DType::F16, Schedule::Linear);
}

#[test]
fn f32() {
    check(&["retention", "linear-elu", "by count"], Target::Sm80, DType::F32, Schedule::Linear);
}

#[test]
fn pair_by_pair() {
    check(&["everything const"], Target::Sm90a, DType::BF16, Schedule::Quadratic);
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

/// Without a word of the schedule: linear where it serves, pair by pair where it does not; asked for, it says why not.
#[test]
fn the_schedule_is_found_or_refused() {
    let softmax = (attn::gallery::find("softmax").unwrap().definition)();
    let tensor = |dim| Tensor::zeros(DType::F32, &[1, 1, 4, dim]).unwrap();
    let run = |definition: &Definition, schedule, dim| {
        let device = Device::Sim(SimDevice::new(SimOptions::new(0)));
        let attention = Attention::new(definition, &device).unwrap();
        let q = tensor(dim).to_device(&device).unwrap();
        attention.schedule(schedule).forward(&q, &q, &q, &Parameters::new()).map(drop)
    };
    let why = |definition: &Definition, dim| run(definition, Schedule::Linear, dim).unwrap_err().to_string();
    assert!(why(softmax, 16).contains("exponential of the score"), "{}", why(softmax, 16));
    let plain = compile("activation: identity, normalizer: none, mask: causal");
    assert!(why(&plain, 136).contains("head dimension is 136"), "{}", why(&plain, 136));
    let cpu = Attention::new(softmax, &Device::Cpu).unwrap();
    let q = tensor(16);
    assert!(cpu.clone().schedule(Schedule::Auto).forward(&q, &q, &q, &Parameters::new()).is_ok());
    assert!(cpu.forward_with_state(&q, &q, &q, &Parameters::new(), None).is_err());
}

/// A sequence in two parts, the state of the first handed to the second and its gradient back, is the whole sequence.
#[track_caller]
fn check_states(device: &Device) {
    const LENGTH: usize = 123;
    const FIRST: usize = 70;
    let gates = "const gates: f32[b, h, tokens], score: |s, b, h, q, kv| s * exp(gates[b, h, q] - gates[b, h, kv]),";
    let decay = "const ln_gamma: f32[h], score: |s, b, h, q, kv| s * exp(ln_gamma[h] * (q - kv)),";
    let rest = "activation: identity, mask: causal, normalizer:";
    for fields in [
        format!("{decay} {rest} none"),
        format!("feature: |x| elu(x) + 1, {rest} sum + 1e-6"),
        format!("feature: |x| elu(x) + 1, {gates} {rest} sum + 1e-6"),
    ] {
        let definition = compile(&fields);
        let attention = Attention::new(&definition, device).unwrap();
        let case = Case { shape: shape([1, 2, 1], [LENGTH, LENGTH], [24, 16]), ..Case::default() };
        let Arguments { q, k, v, output_grad, .. } = gallery_arguments(&definition, &case).unwrap();
        let sums: Vec<f32> = (0..2 * LENGTH).map(|at| -0.05 * (at % LENGTH) as f32).collect();
        let parameters = |from: usize, to: usize| {
            let mut parameters = Parameters::new();
            for parameter in &definition.parameters {
                let before = if from == 0 { 0.0 } else { sums[from - 1] };
                let own = |head: usize| sums[head * LENGTH..][from..to].iter().map(move |sum| sum - before);
                let tensor = match parameter.name.as_str() {
                    "gates" => Tensor::from_f32(&[1, 2, to - from], (0..2).flat_map(own).collect()),
                    _ => Tensor::from_f32(&[2], vec![-0.03, -0.2]),
                };
                parameters.insert(parameter.name.clone(), tensor.unwrap());
            }
            parameters
        };
        let part = |tensor: &Tensor, from: usize, to: usize| {
            tensor.narrow(2, from, to - from).unwrap().contiguous().unwrap().to_device(device).unwrap()
        };
        let run = |from: usize, to: usize, initial: &Tensor| {
            let [q, k, v] = [&q, &k, &v].map(|tensor| part(tensor, from, to));
            let parameters = parameters(from, to).to_device(device).unwrap();
            attention.forward_with_state(&q, &k, &v, &parameters, Some(initial)).unwrap()
        };
        let columns = 16 + usize::from(fields.contains("sum"));
        let zeros = Tensor::zeros(DType::F32, &[1, 2, 24, columns]).unwrap().to_device(device).unwrap();
        let back = |from: usize, to: usize, initial: &Tensor, output: &Output, state_grad: Option<&Tensor>| {
            let [q, k, v, grad] = [&q, &k, &v, &output_grad].map(|tensor| part(tensor, from, to));
            let parameters = parameters(from, to).to_device(device).unwrap();
            attention.backward_with_state(&q, &k, &v, &parameters, initial, output, &grad, None, state_grad).unwrap()
        };
        let (first, state) = run(0, FIRST, &zeros);
        let (second, _) = run(FIRST, LENGTH, &state);
        let (of_second, state_grad) = back(FIRST, LENGTH, &state, &second, None);
        let (of_first, _) = back(0, FIRST, &zeros, &first, Some(&state_grad));

        let oracle = Attention::new(&definition, &Device::Oracle).unwrap();
        let whole_parameters = parameters(0, LENGTH);
        let output = oracle.forward(&q, &k, &v, &whole_parameters).unwrap();
        let whole = oracle.backward(&q, &k, &v, &whole_parameters, &output, &output_grad, None).unwrap();
        for (name, whole, first, second) in [
            ("o", &output.output, &first.output, &second.output),
            ("dq", &whole.q, &of_first.q, &of_second.q),
            ("dk", &whole.k, &of_first.k, &of_second.k),
            ("dv", &whole.v, &of_first.v, &of_second.v),
        ] {
            for (found, from, to) in [(first, 0, FIRST), (second, FIRST, LENGTH)] {
                let found = found.to_host().unwrap().to_f64_vec().unwrap();
                let wanted = whole.narrow(2, from, to - from).unwrap().to_f64_vec().unwrap();
                let error: f64 = found.iter().zip(&wanted).map(|(a, b)| (a - b) * (a - b)).sum();
                let size: f64 = wanted.iter().map(|x| x * x).sum();
                assert!((error / size).sqrt() < 2e-5, "{fields}: {name} from {from}: {}", (error / size).sqrt());
            }
        }
    }
}

#[test]
fn states_join_the_parts_of_a_sequence_on_the_cpu() {
    check_states(&Device::Cpu);
}

#[test]
fn states_join_the_parts_of_a_sequence_in_kernels() {
    check_states(&Device::Sim(SimDevice::new(SimOptions::new(2))));
}
