//! Properties over random shapes, layouts and values.

mod common;

use attn_runtime::testing::{Case, Random, Shape, cases, check_variant, gradient_check};
use attn_runtime::{Attention, DType, Device, Parameters, Tensor};
use proptest::prelude::*;

fn small() -> Vec<Case> {
    let shape = |q_len, kv_len, group: usize| Shape {
        batch: 2,
        heads: 2 * group,
        kv_heads: 2,
        q_len,
        kv_len,
        head_dim: 4,
        value_dim: 3,
    };
    [shape(7, 9, 1), shape(9, 5, 2), shape(1, 6, 1), shape(4, 1, 2)]
        .into_iter()
        .enumerate()
        .map(|(at, shape)| Case { shape, seed: 40 + at as u64, broadcast: at == 1, ..Case::default() })
        .collect()
}

#[test]
fn gradients_are_the_slopes_of_the_forward_pass() {
    let mut misses = String::new();
    for (name, body) in common::VARIANTS {
        let report = gradient_check(&common::compile(name, body), &small()).unwrap();
        for (case, comparison) in report.failures() {
            misses += &format!("{name} {case}: {comparison}\n");
        }
    }
    assert!(misses.is_empty(), "\n{misses}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_cases_match_the_oracle(
        index in 0..common::VARIANTS.len(),
        case in prop_oneof![cases(DType::F32), cases(DType::BF16), cases(DType::F16)],
    ) {
        let (name, body) = common::VARIANTS[index];
        let report = check_variant(&common::compile(name, body), &Device::Cpu, &[case]).unwrap();
        prop_assert!(report.passed(), "{report}");
    }
}

fn tensor(random: &mut Random, shape: &[usize]) -> Tensor {
    random.normal_tensor(DType::F32, shape).unwrap()
}

/// A row without a live key has no output, and what its q, k, v and dO hold is never seen.
#[test]
fn dead_rows_and_masked_keys_cannot_poison() {
    let (n, d) = (70, 8);
    for (name, body) in common::VARIANTS {
        let definition = common::compile(name, body).with_mask("|b, h, q, kv| q % 3 != 0 && kv % 5 != 0").unwrap();
        let shape = Shape { batch: 1, heads: 2, kv_heads: 1, q_len: n, kv_len: n, head_dim: d, value_dim: d };
        let case = Case { shape, strided: false, ..Case::default() };
        let arguments = case.arguments(&definition).unwrap();
        let poison = |tensor: &Tensor, every: usize, offset: usize| {
            let mut values = tensor.to_f32_vec().unwrap();
            for (row, values) in values.chunks_exact_mut(d).enumerate() {
                if row % n % every == offset {
                    values.fill(1e30);
                }
            }
            Tensor::from_f32(tensor.shape(), values).unwrap()
        };
        let q = poison(&arguments.q, 3, 0);
        let output_grad = poison(&arguments.output_grad, 3, 0);
        let k = poison(&arguments.k, 5, 0);
        let v = poison(&arguments.v, 5, 0);
        for device in [Device::Cpu, Device::Oracle] {
            let attention = Attention::new(&definition, &device).unwrap();
            let run = |q: &Tensor, k: &Tensor, v: &Tensor, output_grad: &Tensor| {
                let output = attention.forward(q, k, v, &arguments.parameters).unwrap();
                let statistic_grad = arguments.statistic_grad.as_ref();
                let gradients =
                    attention.backward(q, k, v, &arguments.parameters, &output, output_grad, statistic_grad).unwrap();
                let mut all = vec![output.output, gradients.q, gradients.k, gradients.v];
                all.extend(gradients.parameters.iter().map(|(_, tensor)| tensor.clone()));
                all.iter().map(|tensor| tensor.to_f32_vec().unwrap()).collect::<Vec<_>>()
            };
            let clean = run(&arguments.q, &arguments.k, &arguments.v, &arguments.output_grad);
            let poisoned = run(&q, &k, &v, &output_grad);
            assert_eq!(clean, poisoned, "{name} on {device}");
            for (row, values) in clean[0].chunks_exact(d).enumerate().filter(|(row, _)| row % n % 3 == 0) {
                assert!(values.iter().all(|&x| x == 0.0), "{name} on {device}: row {row}");
            }
        }
    }
}

/// Scores far beyond the range of exp in f32: the shift is what keeps them.
#[test]
fn large_scores_stay_exact() {
    for name in ["softmax", "softmax_1", "sink", "euclid", "largest"] {
        let definition = common::variant(name);
        let shape = Shape { batch: 1, heads: 2, kv_heads: 2, q_len: 65, kv_len: 130, head_dim: 16, value_dim: 8 };
        // Squares of the largest weights still fit the oracle's f64.
        for spread in [4.0, 6.0] {
            let case = Case { shape, spread, seed: 5, ..Case::default() };
            let report = check_variant(&definition, &Device::Cpu, &[case]).unwrap();
            // A score of 200 has an error of 1e-5 in f32, and the weight that relative error: ten times the usual tolerance.
            for (_, comparison) in report.failures() {
                assert!(comparison.rms_relative < 1e-4, "{name}: {comparison}");
            }
        }
    }
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let definition = common::variant("table");
    let case = Case { broadcast: true, ..Case::default() };
    let a = case.arguments(&definition).unwrap();
    let attention = Attention::new(&definition, &Device::Cpu).unwrap();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let output = attention.forward(&a.q, &a.k, &a.v, &a.parameters).unwrap();
            let g = attention.backward(&a.q, &a.k, &a.v, &a.parameters, &output, &a.output_grad, None).unwrap();
            let table = g.parameters.get("table").unwrap().clone();
            [output.output, g.q, g.k, g.v, table].map(|tensor| tensor.to_f32_vec().unwrap())
        })
    };
    let one = run(1);
    assert_eq!(one, run(2));
    assert_eq!(one, run(5));
}

/// The scale multiplies the product, whatever the head dimension.
#[test]
fn scale_is_a_factor_of_q() {
    let definition = common::variant("softcap");
    let mut random = Random::new(3);
    let (q, k, v) =
        (tensor(&mut random, &[1, 1, 5, 8]), tensor(&mut random, &[1, 1, 6, 8]), tensor(&mut random, &[1, 1, 6, 8]));
    let parameters = Parameters::new().with("cap", Tensor::from_f32(&[], vec![2.0]).unwrap());
    let doubled = Tensor::from_f32(q.shape(), q.to_f32_vec().unwrap().iter().map(|x| 2.0 * x).collect()).unwrap();
    for device in [Device::Cpu, Device::Oracle] {
        let attention = Attention::new(&definition, &device).unwrap();
        let once = attention.clone().scale(0.5).unwrap().forward(&q, &k, &v, &parameters).unwrap();
        let twice = attention.scale(0.25).unwrap().forward(&doubled, &k, &v, &parameters).unwrap();
        assert_eq!(once.output.to_f32_vec().unwrap(), twice.output.to_f32_vec().unwrap());
    }
}
