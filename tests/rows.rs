//! Row passes on a simulated GPU: what is kept among equal scores, numbers that are none, and that all kernels of a variant decide
//! alike.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Case, Shape, Target};
use attn::{Attention, DType, Definition, Device, Parameters, Tensor, compile_one};
use rayon::prelude::*;

fn simulated(target: Target) -> Device {
    Device::Sim(SimDevice::new(SimOptions::new(5).target(target)))
}

fn definition(body: &str) -> Definition {
    let text = format!("struct Row {{ {body} }}");
    compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "row")))
}

/// `[1, 1, size, size]`: the matrix that leaves weights as they are.
fn identity(size: usize) -> Vec<f64> {
    (0..size * size).map(|at| if at % size == at / size { 1.0 } else { 0.0 }).collect()
}

/// The weights of one row of scores: keys of one number that is not 0, a query that picks it, values that pick a weight each.
fn weights(body: &str, scores: &[f64]) -> Vec<f64> {
    const WIDTH: usize = 16;
    let device = simulated(Target::Sm80);
    let attention = Attention::new(&definition(body), &device).unwrap().scale(1.0).unwrap().gradients(false);
    let keys: Vec<f64> = scores.iter().flat_map(|&s| std::iter::once(s).chain([0.0; 7])).collect();
    let tensor = |shape: &[usize], values: &[f64]| {
        Tensor::from_f64(DType::F32, shape, values).unwrap().to_device(&device).unwrap()
    };
    let q = tensor(&[1, 1, 1, 8], &[1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let k = tensor(&[1, 1, scores.len(), 8], &keys);
    let v = tensor(&[1, 1, scores.len(), WIDTH], &identity(WIDTH)[..scores.len() * WIDTH]);
    let output = attention.forward(&q, &k, &v, &Parameters::new()).unwrap().to_host().unwrap().output;
    output.to_f64_vec().unwrap()[..scores.len()].to_vec()
}

fn kept(body: &str, scores: &[f64]) -> Vec<usize> {
    let weights = weights(body, scores);
    (0..weights.len()).filter(|&at| weights[at] != 0.0).collect()
}

#[test]
fn equal_scores_are_kept_in_the_order_of_the_keys_or_all() {
    let scores = [1.0, 3.0, 2.0, 2.0, -1.0, 2.0, 0.0, -0.0, 0.0];
    let cases: [(&str, &[usize]); 7] = [
        ("keep: top_k(3)", &[1, 2, 3]),
        ("keep: top_k(4, ties)", &[1, 2, 3, 5]),
        ("keep: top_k(7)", &[0, 1, 2, 3, 5, 6, 7]),
        ("keep: top_k(100)", &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("keep: top_k(q)", &[]),
        ("keep: top_k(3), mask: |b, h, q, kv| kv != 1", &[2, 3, 5]),
        ("keep: |s, max| s >= max - 1.0", &[1, 2, 3, 5]),
    ];
    cases.par_iter().for_each(|(body, expected)| assert_eq!(kept(body, &scores), *expected, "{body}"));
}

/// A NaN reaches the output of its row; scores of minus infinity leave a row without weights.
#[test]
fn numbers_that_are_none() {
    let bodies = ["normalizer: sparsemax", "normalizer: entmax(1.25)", "keep: top_k(1)", "keep: |p| p > 0.1"];
    bodies.par_iter().for_each(|body| {
        let nan = format!("score: |s, b, h, q, kv| if kv == 1 {{ sqrt(-1.0 - s * s) }} else {{ s }}, {body}");
        let found = weights(&nan, &[0.5, 0.0, 1.0, -2.0]);
        assert!(found.iter().any(|x| x.is_nan()), "{body}: {found:?} of a NaN");
        let none = format!("score: |s| -exp(1000.0 + s), {body}");
        assert_eq!(weights(&none, &[1.0, 2.0, 3.0]), [0.0; 3], "{body}: nothing but minus infinity");
    });
}

/// The k-th score of a row is equal to itself in every kernel: exactly k weights in the forward pass, and the same ones where the
/// backward pass computes the products anew, with queries and keys in each other's places.
#[test]
fn every_kernel_keeps_the_same_keys() {
    const SIZE: usize = 64;
    let shape = Shape { batch: 1, heads: 1, kv_heads: 1, q_len: SIZE, kv_len: SIZE, head_dim: 40, value_dim: SIZE };
    let cases = [
        ("keep: top_k(7)", DType::F32, Target::Sm80),
        ("keep: top_k(7)", DType::BF16, Target::Sm90a),
        (
            "slope: f32[h], score: |s, b, h, q, kv| s - 0.01 * slope[h] * abs(q - kv), keep: top_k(7)",
            DType::F32,
            Target::Sm80,
        ),
        (
            "slope: f32[h], score: |s, b, h, q, kv| s - 0.01 * slope[h] * abs(q - kv), keep: top_k(7)",
            DType::F16,
            Target::Sm80,
        ),
    ];
    cases.par_iter().for_each(|&(body, dtype, target)| {
        let device = simulated(target);
        let definition = definition(body);
        let attention = Attention::new(&definition, &device).unwrap();
        let arguments = Case { shape, dtype, ..Case::default() }.arguments(&definition).unwrap();
        let [q, k] = [&arguments.q, &arguments.k].map(|tensor| tensor.to_device(&device).unwrap());
        let identity =
            Tensor::from_f64(dtype, &[1, 1, SIZE, SIZE], &identity(SIZE)).unwrap().to_device(&device).unwrap();
        let parameters = arguments.parameters.to_device(&device).unwrap();
        let output = attention.forward(&q, &k, &identity, &parameters).unwrap();
        // with values and gradients of 1 on the diagonal, O is the weights, and dv is them, transposed
        let gradients = attention.backward(&q, &k, &identity, &parameters, &output, &identity, None).unwrap();
        let weights = output.to_host().unwrap().output.to_f64_vec().unwrap();
        let again = gradients.to_host().unwrap().v.to_f64_vec().unwrap();
        for row in 0..SIZE {
            let kept: Vec<usize> = (0..SIZE).filter(|key| weights[row * SIZE + key] != 0.0).collect();
            assert_eq!(kept.len(), 7, "{body} in {dtype}: row {row}");
            let kept_again: Vec<usize> = (0..SIZE).filter(|key| again[key * SIZE + row] != 0.0).collect();
            assert_eq!(kept, kept_again, "{body} in {dtype}: row {row}");
        }
    });
}
