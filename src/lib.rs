//! A compiler for attention.
//!
//! State a variant of attention as mathematics; attn checks it, derives its backward pass with the gradients of its
//! parameters, and computes both tile by tile, in fused kernels, with memory linear in the sequence length.
//!
//! ```
//! attn::attention! {
//!     /// Logits capped smoothly, with a sink that takes weight from all keys.
//!     #[derive(Clone)]
//!     pub struct Capped {
//!         const cap: f32,
//!         sink: f32[h],
//!         score: |s| cap * tanh(s / cap),
//!         normalizer: sum + exp(sink[h]),
//!         mask: causal & window(1024, 0),
//!     }
//! }
//!
//! use attn::Variant;
//! let capped = Capped { cap: 30.0.into(), sink: [0.0; 8].into() };
//! assert_eq!(Capped::definition().parameters.len(), capped.parameters().len());
//! ```
//!
//! * [`attention!`] declares variants in Rust, [`compile_text`] reads the same language from text.
//! * [`gallery`] holds variants from the literature.
//! * [`Attention`] runs them.
//! * [`compiler`] shows what becomes of them, [`cuda`] is the low-level layer below.

// The macro's paths begin with `::attn`, in this crate too.
extern crate self as attn;

pub mod gallery;

pub use attn_dsl::definition::Definition;
pub use attn_dsl::diagnostics::{Diagnostic, Diagnostics};
pub use attn_dsl::{compile_one, compile_text};
pub use attn_macros::attention;
pub use attn_runtime::{
    ArgumentError, Attention, BlockListError, DType, Device, Element, Error, Gradients, Location, Output, Parameter,
    ParameterElement, Parameters, Plan, Schedule, Tensor, TensorError, TimedPlan, Tuning, Variant, block_lists,
    block_table,
};

pub use attn_runtime::cuda;
#[cfg(feature = "sim")]
pub use attn_runtime::sim;

/// The compiler's stages, for tools that look at a variant or write its kernels to files.
///
/// ```
/// use attn::compiler::plan::{ElementType, Shape, Target};
/// use attn::compiler::{cuda, lower};
///
/// let variant = attn::compile_one("struct Quiet { normalizer: sum + 1 }")?;
/// let lowered = lower::lower(&variant)?;
/// let shape = Shape::new(ElementType::Bf16, 128, 128)?;
/// for kernel in cuda::forward(&lowered, shape, Target::Sm90a)? {
///     println!("{}: {} lines", kernel.file_name, kernel.source.lines().count());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub mod compiler {
    pub use attn_dsl::{cuda, definition, ir, lower, plan};
}

/// Tests of your own variants in one line each: comparison with the oracle, gradient checks, strategies.
#[cfg(feature = "testing")]
pub mod testing {
    pub use attn_dsl::testing::*;
    pub use attn_runtime::testing::*;

    pub use crate::gallery::arguments::arguments as gallery_arguments;
}

/// The README's examples are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
