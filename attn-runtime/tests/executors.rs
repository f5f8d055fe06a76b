//! The CPU executor against the oracle, on every kind of variant.

mod common;

use attn_runtime::testing::{Case, Shape, check_variant};
use attn_runtime::{DType, Device};

fn edge_cases(dtype: DType) -> Vec<Case> {
    let shape = |batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim| Shape {
        batch,
        heads,
        kv_heads,
        q_len,
        kv_len,
        head_dim,
        value_dim,
    };
    [
        shape(2, 4, 2, 75, 83, 24, 16),
        shape(1, 3, 1, 130, 67, 16, 40),
        shape(1, 2, 2, 1, 70, 8, 8),
        shape(2, 1, 1, 66, 1, 8, 8),
        shape(1, 2, 1, 5, 0, 16, 8),
        shape(1, 2, 1, 0, 5, 16, 8),
        shape(0, 2, 1, 3, 5, 16, 8),
        shape(1, 1, 1, 90, 20, 13, 5),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, shape)| Case {
        shape,
        dtype,
        seed: at as u64,
        strided: at % 2 == 0,
        broadcast: at % 3 == 1,
        ..Case::default()
    })
    .collect()
}

#[track_caller]
fn check_all(dtype: DType, spread: f64) {
    let cases: Vec<Case> = edge_cases(dtype).into_iter().map(|case| Case { spread, ..case }).collect();
    let mut misses = String::new();
    for (name, body) in common::VARIANTS {
        let report = check_variant(&common::compile(name, body), &Device::Cpu, &cases).unwrap();
        for (case, comparison) in report.failures() {
            misses += &format!("{name} {case}: {comparison}\n");
        }
    }
    assert!(misses.is_empty(), "\n{misses}");
}

#[test]
fn f32_matches_the_oracle() {
    check_all(DType::F32, 1.0);
}

#[test]
fn bf16_matches_the_oracle() {
    check_all(DType::BF16, 1.0);
}

#[test]
fn f16_matches_the_oracle() {
    check_all(DType::F16, 1.0);
}
