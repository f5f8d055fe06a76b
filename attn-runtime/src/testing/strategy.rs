//! Proptest strategies for shapes, tensors and cases. They shrink to short lengths, one head and plain layouts.

use proptest::prelude::*;

use super::case::{Case, Shape};
use super::random::Random;
use crate::tensor::{DType, Tensor};

/// Lengths around the edges: 0, 1, within a tile, across tiles.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 0usize..=1, 4 => 2usize..40, 2 => 40usize..150]
}

/// Shapes with grouped heads, head dims in steps of 8 up to 40 and lengths from 0 to 150.
pub fn shapes() -> impl Strategy<Value = Shape> {
    (1usize..=2, 1usize..=2, 1usize..=3, length(), length(), 1usize..=5, 1usize..=5).prop_map(
        |(batch, kv_heads, group, q_len, kv_len, head_dim, value_dim)| Shape {
            batch,
            heads: kv_heads * group,
            kv_heads,
            q_len,
            kv_len,
            head_dim: 8 * head_dim,
            value_dim: 8 * value_dim,
        },
    )
}

/// Cases of one type.
pub fn cases(dtype: DType) -> impl Strategy<Value = Case> {
    (shapes(), any::<bool>(), any::<bool>(), 0.3f64..2.0, any::<u64>()).prop_map(
        move |(shape, strided, broadcast, spread, seed)| Case {
            shape,
            dtype,
            seed,
            strided,
            broadcast,
            spread,
            packed: None,
        },
    )
}

/// Tensors of normal numbers.
pub fn tensors(dtype: DType, shape: Vec<usize>) -> impl Strategy<Value = Tensor> {
    any::<u64>().prop_map(move |seed| {
        Random::new(seed).normal_tensor(dtype, &shape).expect("a shape of a test fits the address space")
    })
}
