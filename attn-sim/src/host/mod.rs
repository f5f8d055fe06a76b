//! A kernel as a shared object of the host.
//!
//! ```text
//! CUDA text -> translate -> + headers (`device/*.hpp`) -> compiler (an object file) -> library (loaded, bound to the table)
//! ```
//!
//! Invariants: the folder with the object file lives as long as the library, since debug information is read from it later;
//! a [`Program`] is bound to this process' table before anything of it can be called.

mod compiler;
mod error;
mod library;
mod scratch;
#[cfg(test)]
mod tests;

pub use error::BuildError;
pub(crate) use library::Program;
