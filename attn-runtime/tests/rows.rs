//! What must be known of a whole row before its weights are: entmax against its package, what is kept among equals, numbers that
//! are none, and what inference leaves out.

mod common;

use attn_runtime::testing::{Case, Shape, gradient_check};
use attn_runtime::{Attention, DType, Device, Output, Parameters, Tensor};
use serde_json::Value;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|x| x.as_f64().expect("a number")).collect()
}

fn tensor(shape: &[usize], values: &[f64]) -> Tensor {
    Tensor::from_f64(DType::F32, shape, values).unwrap()
}

/// A row of scores as an attention: one query, keys of one number, values that pick a weight each. With a scale of 1 the scores are
/// the keys.
struct OneRow {
    attention: Attention,
    keys: usize,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parameters: Parameters,
}

impl OneRow {
    fn new(body: &str, scores: &[f64], parameters: Parameters, device: &Device) -> OneRow {
        let keys = scores.len();
        let identity: Vec<f64> = (0..keys * keys).map(|at| if at % keys == at / keys { 1.0 } else { 0.0 }).collect();
        OneRow {
            attention: Attention::new(&common::compile("row", body), device).unwrap().scale(1.0).unwrap(),
            keys,
            q: tensor(&[1, 1, 1, 1], &[1.0]),
            k: tensor(&[1, 1, keys, 1], scores),
            v: tensor(&[1, 1, keys, keys], &identity),
            parameters,
        }
    }

    fn forward(&self) -> Output {
        self.attention.forward(&self.q, &self.k, &self.v, &self.parameters).unwrap()
    }

    fn weights(&self) -> Vec<f64> {
        self.forward().output.to_f64_vec().unwrap()
    }

    /// The gradients in the scores and in the only parameter.
    fn gradients(&self, weight_grad: &[f64]) -> (Vec<f64>, Option<f64>) {
        let grad = tensor(&[1, 1, 1, self.keys], weight_grad);
        let OneRow { q, k, v, parameters, .. } = self;
        let gradients = self.attention.backward(q, k, v, parameters, &self.forward(), &grad, None).unwrap();
        let parameter = gradients.parameters.iter().next().map(|(_, tensor)| tensor.to_f64_vec().unwrap()[0]);
        (gradients.k.to_f64_vec().unwrap(), parameter)
    }
}

#[track_caller]
fn assert_close(name: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{name}");
    for (at, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * (1.0 + e.abs()), "{name}[{at}] is {a}, expected {e}");
    }
}

/// Values of the package `entmax` (tests/golden/make_entmax.py).
#[test]
fn entmax_equals_its_package() {
    let golden: Value = serde_json::from_str(include_str!("golden/entmax.json")).unwrap();
    let cases = golden["cases"].as_object().unwrap();
    assert_eq!(cases.len(), 5);
    for (name, rows) in cases {
        let alpha: Option<f64> = name.parse().ok();
        let body = alpha.map_or(format!("normalizer: {name}"), |_| "alpha: f32, normalizer: entmax(alpha)".to_owned());
        let parameters =
            alpha.map_or(Parameters::new(), |alpha| Parameters::new().with("alpha", tensor(&[], &[alpha])));
        for (at, row) in rows.as_array().unwrap().iter().enumerate() {
            // both return f32
            for device in [Device::Oracle, Device::Cpu] {
                let own = OneRow::new(&body, &numbers(&row["scores"]), parameters.clone(), &device);
                let what = format!("{name}, row {at} on {device}");
                let exact = if matches!(device, Device::Oracle) { 1.0 } else { 10.0 };
                let weights = numbers(&row["weights"]);
                assert_close(&format!("{what}: weights"), &own.weights(), &weights, 1e-7 * exact);
                let (scores, parameter) = own.gradients(&numbers(&row["weight_grad"]));
                assert_close(&format!("{what}: gradient"), &scores, &numbers(&row["score_grad"]), 4e-7 * exact);
                if let Some(grad) = parameter {
                    let expected = row["alpha_grad"].as_f64().unwrap();
                    assert_close(&format!("{what}: gradient of alpha"), &[grad], &[expected], 4e-6 * exact);
                }
                let zeros = |values: &[f64]| values.iter().map(|x| *x == 0.0).collect::<Vec<bool>>();
                assert_eq!(zeros(&own.weights()), zeros(&weights), "{what}: which weights are 0");
                let no_weight = weights.iter().zip(&scores).filter(|(weight, _)| **weight == 0.0);
                assert!(no_weight.into_iter().all(|(_, grad)| *grad == 0.0), "{what}: no weight, no gradient");
            }
        }
    }
}

fn one(body: &str, scores: &[f64], device: &Device) -> Vec<f64> {
    OneRow::new(body, scores, Parameters::new(), device).weights()
}

/// The positions of the weights that are not 0.
fn kept(body: &str, scores: &[f64], device: &Device) -> Vec<usize> {
    let weights = one(body, scores, device);
    (0..weights.len()).filter(|&at| weights[at] != 0.0).collect()
}

#[test]
fn equal_scores_are_kept_in_the_order_of_the_keys_or_all() {
    let scores = [1.0, 3.0, 2.0, 2.0, -1.0, 2.0, 0.0, -0.0, 0.0];
    for device in [Device::Oracle, Device::Cpu] {
        assert_eq!(kept("keep: top_k(1)", &scores, &device), [1]);
        assert_eq!(kept("keep: top_k(2)", &scores, &device), [1, 2]);
        assert_eq!(kept("keep: top_k(3)", &scores, &device), [1, 2, 3]);
        assert_eq!(kept("keep: top_k(2, ties)", &scores, &device), [1, 2, 3, 5]);
        assert_eq!(kept("keep: top_k(4, ties)", &scores, &device), [1, 2, 3, 5]);
        assert_eq!(kept("keep: top_k(7)", &scores, &device), [0, 1, 2, 3, 5, 6, 7], "zeros are equal");
        assert_eq!(kept("keep: top_k(6, ties)", &scores, &device), [0, 1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(kept("keep: top_k(9)", &scores, &device).len(), 9);
        assert_eq!(kept("keep: top_k(100)", &scores, &device).len(), 9);
        assert_eq!(kept("keep: top_k(q - 1)", &scores, &device), [0; 0], "no key of a row that keeps none");
        assert_eq!(kept("keep: top_k(3), mask: |b, h, q, kv| kv != 1", &scores, &device), [2, 3, 5]);
        assert_eq!(kept("keep: |s, max| s >= max - 1.0", &scores, &device), [1, 2, 3, 5]);
        assert_eq!(kept("keep: |s| s > 0.0", &scores, &device), [0, 1, 2, 3, 5]);
        assert_eq!(kept("keep: |kv, max, s| s == max || kv == 4", &scores, &device), [1, 4]);
    }
}

/// A weight is compared after normalization over all live keys; what is kept is normalized again.
#[test]
fn small_weights_are_dropped_with_and_without_renormalization() {
    let scores = [0.0, 1.0, 2.0, -1.0];
    let total: f64 = scores.iter().map(|s: &f64| s.exp()).sum();
    for device in [Device::Oracle, Device::Cpu] {
        let renormalized = one("keep: |p| p >= 0.2", &scores, &device);
        let rest = 1f64.exp() + 2f64.exp();
        assert_close("renormalized", &renormalized, &[0.0, 1f64.exp() / rest, 2f64.exp() / rest, 0.0], 1e-6);
        let dropped = one("post: |p| if p >= 0.2 { p } else { 0.0 }", &scores, &device);
        assert_close("dropped", &dropped, &[0.0, 1f64.exp() / total, 2f64.exp() / total, 0.0], 1e-6);
    }
}

/// A NaN reaches the output of its row, whatever decides; scores of minus infinity leave a row without weights.
#[test]
fn numbers_that_are_none() {
    let bodies = [
        "normalizer: sparsemax",
        "normalizer: entmax15",
        "normalizer: entmax(1.25)",
        "keep: top_k(1)",
        "keep: top_k(2, ties)",
        "keep: |s, max| s >= max - 1.0",
        "keep: |p| p > 0.1",
        "normalizer: sparsemax, keep: top_k(2)",
        "post: |p| if p < 0.1 { 0.0 } else { p }",
        "post: |p| p * p + 0.5",
    ];
    let infinity = f64::INFINITY;
    for body in bodies {
        for device in [Device::Oracle, Device::Cpu] {
            let score = format!("score: |s, b, h, q, kv| if kv == 1 {{ sqrt(-1.0 - s * s) }} else {{ s }}, {body}");
            let weights = one(&score, &[0.5, 0.0, 1.0, -2.0], &device);
            assert!(weights.iter().any(|x| x.is_nan()), "{body} on {device}: {weights:?} of a NaN");
            // an infinite key times a query of 1
            let none = [-infinity; 3];
            let row = OneRow::new(body, &none, Parameters::new(), &device);
            if (body.contains("post") || body.contains("|p|")) && matches!(device, Device::Oracle) {
                continue; // 0 / 0 in the oracle, which has no shift
            }
            assert_eq!(row.weights(), [0.0; 3], "{body} on {device}: nothing but minus infinity");
        }
    }
}

/// Finite differences of compositions that the gallery does not have.
#[test]
fn gradients_are_slopes() {
    let shape = Shape { batch: 1, heads: 2, kv_heads: 1, q_len: 6, kv_len: 9, head_dim: 4, value_dim: 3 };
    for name in ["entmax", "entmax_post", "post_shifted", "post_elementwise", "likely_entmax", "sparsemax_top_k"] {
        for seed in 1..4 {
            gradient_check(&common::variant(name), &[Case { shape, seed, ..Case::default() }]).unwrap().assert_passed();
        }
    }
}

#[test]
fn inference_leaves_out_what_gradients_need() {
    let row = |body: &str| OneRow::new(body, &[0.3, -0.5, 0.9], Parameters::new(), &Device::Cpu);
    let mut entmax = row("normalizer: entmax15");
    let with = entmax.weights();
    entmax.attention = entmax.attention.gradients(false);
    assert_eq!(entmax.weights(), with);
    let OneRow { q, k, v, parameters, .. } = &entmax;
    let grad = tensor(&[1, 1, 1, 3], &[1.0; 3]);
    let error = entmax.attention.backward(q, k, v, parameters, &entmax.forward(), &grad, None).unwrap_err();
    assert!(error.to_string().contains("gradients(false)"), "{error}");
    // others save what they need anyway
    let mut top_k = row("keep: top_k(2)");
    top_k.attention = top_k.attention.gradients(false);
    top_k.gradients(&[1.0; 3]);
}
