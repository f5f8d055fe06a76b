//! Test support for variants: comparison of a device with the oracle, gradient checks, random arguments, proptest strategies,
//! snapshots of generated kernels.
//!
//! ```
//! use attn_runtime::Device;
//! use attn_runtime::testing::{Case, check_variant};
//!
//! let source = "struct Capped { cap: f32, score: |s| cap * tanh(s / cap), mask: causal }";
//! let variant = attn_dsl::compile_one(source)?;
//! check_variant(&variant, &Device::Cpu, &[Case::default()])?.assert_passed();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `sim` the same line runs the generated kernels of a GPU, without one, and finds races and early reads in
//! them. It is slow: small shapes and several seeds find more than large shapes.
//!
//! ```
//! use attn_runtime::testing::{Case, Shape, check_variant};
//! use attn_runtime::{DType, Device};
//!
//! let source = "struct Capped { cap: f32, score: |s| cap * tanh(s / cap), mask: causal }";
//! let variant = attn_dsl::compile_one(source)?;
//! let shape = Shape { batch: 1, heads: 2, kv_heads: 1, q_len: 19, kv_len: 33, head_dim: 16, value_dim: 8 };
//! let case = Case { shape, dtype: DType::BF16, ..Case::default() };
//! for seed in 0..2 {
//!     check_variant(&variant, &Device::sim(seed), &[case])?.assert_passed();
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod case;
mod check;
mod gradient;
mod kernels;
mod random;
mod strategy;
mod tolerance;

pub use case::{Arguments, Case, Shape};
pub use check::{CaseReport, Expected, Report, check_arguments, check_variant};
pub use gradient::gradient_check;
pub use kernels::{GeneratedKernels, generated_kernels, kernel_snapshot, resource_snapshot};
pub use random::Random;
pub use strategy::{cases, shapes, tensors};
pub use tolerance::{Comparison, Tolerance};

pub use attn_dsl::plan::{ElementType, Shape as KernelShape, Target};
