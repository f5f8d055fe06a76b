//! The language and the compiler of attn.
//!
//! Data flows one way and each stage takes the type that the previous one validated, so that no stage can be skipped:
//!
//! ```text
//! text / tokens -> syntax -> check -> Definition (ir) -> lower (diff, simplify, classify) -> Lowered -> plan -> cuda
//! ```
//!
//! The crate does no I/O, knows no GPU and contains no `unsafe`.
#![forbid(unsafe_code)]

mod check;
mod compile;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod definition;
pub mod diagnostics;
pub mod diff;
pub mod ir;
pub mod lower;
#[cfg(feature = "cuda")]
pub mod plan;
pub mod simplify;
pub mod sparsity;
pub mod syntax;
#[cfg(feature = "testing")]
pub mod testing;

pub use compile::{Compiled, compile_one, compile_text, compile_tokens};
pub use definition::Definition;
pub use diagnostics::{Diagnostic, Diagnostics};
