//! Rows whose keys all have a score of minus infinity, though no mask says so: where the normalizer leaves them 0, their output
//! and their gradients are 0, and elsewhere they are the limit. On the CPU executor, and on simulated GPUs, against the oracle.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Arguments, Case, Expected, Shape, Target};
use attn::{Attention, DType, Definition, Device, Parameters, Tensor};
use rayon::prelude::*;

const INFINITE: f64 = f64::NEG_INFINITY;

/// Several tiles, the last ones ragged, on every schedule.
const SHAPE: Shape = Shape { batch: 1, heads: 2, kv_heads: 1, q_len: 37, kv_len: 150, head_dim: 64, value_dim: 64 };

/// Normalizers that are 0 where no key has a weight: the usual one; those whose derivative there is a quotient of zeros or reads
/// more than the statistic; those with a parameter, which has no gradient from such a row.
const ZERO: [&str; 6] = [
    "normalizer: sum",
    "normalizer: sqrt(sum_squares)",
    "normalizer: max",
    "normalizer: sum + sqrt(sum_squares) + max",
    "normalizer: sqrt(sum * max)",
    "gain: f32[h], normalizer: gain[h] * sum + sqrt(gain[h] * sum_squares)",
];

/// Normalizers that have something beside the keys.
const FLOORED: [&str; 3] =
    ["normalizer: sum + 1", "n: f32[h], normalizer: sum + n[h]", "sink: f32[h], normalizer: sum + exp(sink[h])"];

/// Where minus infinity comes from: the parameter, the score that reads it.
const DENSE: (&str, &str) = ("bias: f32[b, h, q, kv]", "s + bias[b, h, q, kv]");
const ROW: (&str, &str) = ("bias: f32[b, h, q]", "s + bias[b, h, q]");
const KEY: (&str, &str) = ("bias: f32[b, kv]", "s + bias[b, kv]");
const TABLE: (&str, &str) = ("bias: f32[h, 8]", "s + bias[h, clamp(q / 5, 0, 7)]");
const CONSTANT: (&str, &str) = ("const bias: f32[b, h, q, kv]", "s + bias[b, h, q, kv]");

fn variant((parameter, score): (&str, &str), rest: &str) -> Definition {
    let text = format!("struct Weightless {{ {parameter}, score: |s, b, h, q, kv| {score}, {rest} }}");
    attn::compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "weightless.attn")))
}

/// The rows that lose all their keys in every bias of this file that has rows.
fn loses_all(q: usize) -> bool {
    q.is_multiple_of(3) || q > 30
}

/// A bias by its axes: whole rows of minus infinity, and parts of others; where it has no rows, all of it.
fn bias(shape: &[usize]) -> Tensor {
    let Shape { q_len, kv_len, .. } = SHAPE;
    let finite = |at: usize| 0.25 * (at % 7) as f64;
    let value = |at: usize| match *shape {
        [_, _, _, _] => {
            let (q, kv) = (at / kv_len % q_len, at % kv_len);
            let in_part = (q % 3 == 1 && kv % 4 == 0) || (q % 3 == 2 && kv < 100);
            if loses_all(q) || in_part { INFINITE } else { finite(at) }
        }
        [_, _, rows] if rows == q_len => {
            if loses_all(at % rows) {
                INFINITE
            } else {
                finite(at)
            }
        }
        [_, 8] => {
            if at.is_multiple_of(3) {
                INFINITE
            } else {
                finite(at)
            }
        }
        _ => INFINITE,
    };
    let values: Vec<f64> = (0..shape.iter().product()).map(value).collect();
    Tensor::from_f64(DType::F32, shape, &values).unwrap()
}

fn devices() -> [(Device, DType); 3] {
    let sim = |target, seed| Device::Sim(SimDevice::new(SimOptions::new(seed).target(target)));
    [(Device::Cpu, DType::F32), (sim(Target::Sm80, 1), DType::F16), (sim(Target::Sm90a, 2), DType::BF16)]
}

fn arguments(definition: &Definition, dtype: DType, change: impl Fn(&mut Parameters)) -> Arguments {
    let case = Case { shape: SHAPE, dtype, ..Case::default() };
    let mut arguments = case.arguments(definition).unwrap();
    let shape = arguments.parameters.get("bias").unwrap().shape().to_vec();
    arguments.parameters.insert("bias", bias(&shape));
    change(&mut arguments.parameters);
    arguments
}

/// All gradients, on the host: dq, dk, dv, then the parameters'.
fn gradients(device: &Device, definition: &Definition, arguments: &Arguments) -> Vec<(String, Vec<f64>)> {
    let attention = Attention::new(definition, device).unwrap();
    let Arguments { q, k, v, parameters, output_grad, statistic_grad, .. } = arguments;
    let [q, k, v, output_grad] = [q, k, v, output_grad].map(|tensor| tensor.to_device(device).unwrap());
    let parameters = parameters.to_device(device).unwrap();
    let statistic_grad = statistic_grad.as_ref().map(|tensor| tensor.to_device(device).unwrap());
    let output = attention.forward(&q, &k, &v, &parameters).unwrap();
    let gradients =
        attention.backward(&q, &k, &v, &parameters, &output, &output_grad, statistic_grad.as_ref()).unwrap();
    let gradients = gradients.to_host().unwrap();
    let values = |tensor: &Tensor| tensor.to_f64_vec().unwrap();
    let mut all = vec![
        ("dq".to_owned(), values(&gradients.q)),
        ("dk".to_owned(), values(&gradients.k)),
        ("dv".to_owned(), values(&gradients.v)),
    ];
    all.extend(gradients.parameters.iter().map(|(name, tensor)| (name.to_owned(), values(tensor))));
    all
}

/// What a device misses: agreement with the oracle; and what oracle and CPU miss of finite gradients of which `is_zero` (name,
/// position) are exactly 0.
fn misses(
    device: &Device,
    definition: &Definition,
    arguments: &Arguments,
    is_zero: impl Fn(&str, usize) -> bool,
) -> Vec<String> {
    let attention = Attention::new(definition, device).unwrap();
    let what = format!("{} on {device}", definition.text);
    let mut misses: Vec<String> = match Expected::new(&attention, arguments).unwrap().compare(&attention) {
        Ok(all) => all.iter().filter(|one| !one.passed()).map(|one| format!("{what}: {one}")).collect(),
        Err(error) => vec![format!("{what}: {error}")],
    };
    // two NaN agree, so that the oracle is looked at as well; what the simulator runs once is enough
    for device in [device, &Device::Oracle].into_iter().filter(|device| !matches!(device, Device::Sim(_))) {
        for (name, values) in gradients(device, definition, arguments) {
            let wrong = |(at, value): &(usize, &f64)| !value.is_finite() || (is_zero(&name, *at) && **value != 0.0);
            let found = values.iter().enumerate().find(wrong);
            misses.extend(found.map(|(at, value)| format!("{what}: {name}[{at}] on {device} is {value}")));
        }
    }
    misses
}

#[track_caller]
fn check(
    definitions: &[Definition],
    change: impl Fn(&mut Parameters) + Sync,
    is_zero: impl Fn(&str, usize) -> bool + Sync,
) {
    let runs: Vec<_> = definitions
        .iter()
        .flat_map(|definition| devices().map(|(device, dtype)| (definition, device, dtype)))
        .collect();
    let missed: Vec<String> = runs
        .par_iter()
        .flat_map_iter(|(definition, device, dtype)| {
            misses(device, definition, &arguments(definition, *dtype, &change), &is_zero)
        })
        .collect();
    assert!(missed.is_empty(), "{} missed\n{}", missed.len(), missed.join("\n"));
}

/// Whether an element of dq, or of the gradient of a bias with rows, belongs to a row that has lost all its keys.
fn of_lost_row(name: &str, at: usize, columns_of_bias: usize) -> bool {
    let row = match name {
        "dq" => at / SHAPE.head_dim,
        "bias" => at / columns_of_bias,
        _ => return false,
    };
    loses_all(row % SHAPE.q_len)
}

#[test]
fn a_dense_bias() {
    let dense = ZERO.map(|normalizer| variant(DENSE, normalizer));
    check(&dense, |_| {}, |name, at| of_lost_row(name, at, SHAPE.kv_len));
}

/// Beside a constant or a sink the row has weight, but no key of it: the sink's gradient is what the statistic's alone makes it.
#[test]
fn a_dense_bias_beside_a_floor() {
    let dense = FLOORED.map(|normalizer| variant(DENSE, normalizer));
    check(&dense, |_| {}, |name, at| of_lost_row(name, at, SHAPE.kv_len));
}

/// A sink of minus infinity is none; of `n`, 0 is none.
#[test]
fn a_floor_that_is_not_there() {
    let without = FLOORED[1..].iter().map(|normalizer| variant(DENSE, normalizer)).collect::<Vec<_>>();
    let change = |parameters: &mut Parameters| {
        for (name, none) in [("sink", INFINITE), ("n", 0.0)] {
            if parameters.get(name).is_some() {
                parameters.insert(name, Tensor::from_f64(DType::F32, &[SHAPE.heads], &[none, 0.75]).unwrap());
            }
        }
    };
    check(&without, change, |name, at| of_lost_row(name, at, SHAPE.kv_len) || (name == "sink" && at == 0));
}

#[test]
fn biases_of_rows_tables_and_constants() {
    let rows = ["", "normalizer: sum + 1", "mask: causal"].map(|rest| variant(ROW, rest));
    check(&rows, |_| {}, |name, at| of_lost_row(name, at, 1));
    check(&[variant(CONSTANT, ""), variant(CONSTANT, FLOORED[2])], |_| {}, |name, at| of_lost_row(name, at, 1));
    // rows 0 to 4, 15 to 19 and 30 to 34 of the first head
    check(&[variant(TABLE, "")], |_| {}, |name, at| name == "bias" && at % 3 == 0);
}

/// No key is left to any row.
#[test]
fn a_bias_of_keys() {
    let all_zero = |_: &str, _: usize| true;
    check(&["", ZERO[1], ZERO[5], "mask: causal"].map(|rest| variant(KEY, rest)), |_| {}, all_zero);
    check(&[variant(KEY, FLOORED[2])], |_| {}, |name, _| name != "sink");
}
