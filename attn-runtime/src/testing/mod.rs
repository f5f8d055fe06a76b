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

mod case;
mod check;
mod gradient;
mod kernels;
mod random;
mod strategy;
mod tolerance;

pub use case::{Arguments, Case, Shape};
pub use check::{CaseReport, Report, check_arguments, check_variant};
pub use gradient::gradient_check;
pub use kernels::{GeneratedKernels, generated_kernels, kernel_snapshot, resource_snapshot};
pub use random::Random;
pub use strategy::{cases, shapes, tensors};
pub use tolerance::{Comparison, Tolerance};

pub use attn_dsl::plan::{ElementType, Shape as KernelShape, Target};
