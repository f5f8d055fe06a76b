//! Every variant of the gallery on the CPU executor against the oracle, forward and backward.

use attn::testing::{Case, Comparison, Shape, check_arguments, gallery_arguments};
use attn::{Attention, DType, Device, gallery};

/// Grouped heads and odd lengths over tile borders; more queries than keys, so that aligned masks leave rows without a key;
/// one query, as in decoding.
const SHAPES: [Shape; 3] = [
    Shape { batch: 2, heads: 4, kv_heads: 2, q_len: 75, kv_len: 141, head_dim: 24, value_dim: 40 },
    Shape { batch: 1, heads: 3, kv_heads: 1, q_len: 97, kv_len: 33, head_dim: 16, value_dim: 8 },
    Shape { batch: 2, heads: 2, kv_heads: 2, q_len: 1, kv_len: 77, head_dim: 64, value_dim: 64 },
];

/// Runs both passes of every variant, with a mask added, in every shape; `check` sees what was compared.
#[track_caller]
fn check_gallery(dtype: DType, mask: &str, check: impl Fn(&Comparison) -> bool) {
    let mut misses = String::new();
    for entry in gallery::all() {
        let definition = (entry.definition)().with_mask(mask).unwrap();
        let attention = Attention::new(&definition, &Device::Cpu).unwrap();
        for shape in SHAPES {
            let case = Case { shape, dtype, ..Case::default() };
            let comparisons = check_arguments(&attention, &gallery_arguments(&definition, &case).unwrap()).unwrap();
            let missed = comparisons.iter().filter(|comparison| !comparison.passed() || !check(comparison));
            missed.for_each(|comparison| misses += &format!("{} {case}: {comparison}\n", entry.name));
        }
    }
    assert!(misses.is_empty(), "\n{misses}");
}

#[test]
fn f32() {
    check_gallery(DType::F32, "none", |_| true);
}

#[test]
fn bf16() {
    check_gallery(DType::BF16, "none", |_| true);
}

#[test]
fn f16() {
    check_gallery(DType::F16, "none", |_| true);
}

/// Queries and keys of packed sequences: one, none, tiles that are not whole, whole and one more, several.
const PACKED: &[[usize; 2]] = &[[1, 1], [0, 0], [17, 128], [128, 17], [129, 129], [0, 5], [5, 0], [300, 140]];

/// Sequences of different lengths, without padding.
#[test]
fn packed() {
    let mut misses = String::new();
    for entry in gallery::all() {
        let definition = (entry.definition)();
        let attention = Attention::new(definition, &Device::Cpu).unwrap();
        let case = Case { shape: SHAPES[1], packed: Some(PACKED), ..Case::default() };
        let comparisons = check_arguments(&attention, &gallery_arguments(definition, &case).unwrap()).unwrap();
        let missed = comparisons.iter().filter(|comparison| !comparison.passed());
        missed.for_each(|comparison| misses += &format!("{} {case}: {comparison}\n", entry.name));
    }
    assert!(misses.is_empty(), "\n{misses}");
}

/// As most of them are trained: no key ahead of its query.
#[test]
fn causal() {
    check_gallery(DType::F32, "causal", |_| true);
}

/// No row has a live key: outputs and gradients are zero, not NaN, in the oracle too.
#[test]
fn fully_masked() {
    let zero = |comparison: &Comparison| comparison.name == "statistic" || comparison.reference == 0.0;
    check_gallery(DType::F32, "|b, h, q, kv| kv < 0", zero);
}
