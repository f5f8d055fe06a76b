//! Every variant of the gallery on the CPU executor against the oracle, forward and backward.

use attn::testing::{Case, Shape, check_variant};
use attn::{DType, Device, gallery};

/// Grouped heads and odd lengths over tile borders; more queries than keys, so that aligned masks leave rows without a key;
/// one query, as in decoding.
const SHAPES: [Shape; 3] = [
    Shape { batch: 2, heads: 4, kv_heads: 2, q_len: 75, kv_len: 141, head_dim: 24, value_dim: 40 },
    Shape { batch: 1, heads: 3, kv_heads: 1, q_len: 97, kv_len: 33, head_dim: 16, value_dim: 8 },
    Shape { batch: 2, heads: 2, kv_heads: 2, q_len: 1, kv_len: 77, head_dim: 64, value_dim: 64 },
];

#[track_caller]
fn check_gallery(dtype: DType) {
    let cases = SHAPES.map(|shape| Case { shape, dtype, ..Case::default() });
    for entry in gallery::all() {
        check_variant((entry.definition)(), &Device::Cpu, &cases).unwrap().assert_passed();
    }
}

#[test]
fn f32() {
    check_gallery(DType::F32);
}

#[test]
fn bf16() {
    check_gallery(DType::BF16);
}

#[test]
fn f16() {
    check_gallery(DType::F16);
}

/// As most of them are trained: no key ahead of its query.
#[test]
fn causal() {
    let cases = SHAPES.map(|shape| Case { shape, ..Case::default() });
    for entry in gallery::all() {
        let masked = (entry.definition)().with_mask("causal").unwrap();
        check_variant(&masked, &Device::Cpu, &cases).unwrap().assert_passed();
    }
}

/// No row has a live key: outputs and gradients are zero, not NaN.
#[test]
fn fully_masked() {
    let cases = SHAPES.map(|shape| Case { shape, ..Case::default() });
    for entry in gallery::all() {
        let masked = (entry.definition)().with_mask("|b, h, q, kv| kv < 0").unwrap();
        let report = check_variant(&masked, &Device::Cpu, &cases).unwrap();
        report.assert_passed();
        for comparison in report.cases.iter().flat_map(|case| &case.comparisons) {
            let zero = comparison.name == "statistic" || comparison.reference == 0.0;
            assert!(zero, "{}: {comparison}", entry.name);
        }
    }
}
