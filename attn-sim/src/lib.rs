//! Runs CUDA kernels on the CPU and finds what a GPU hides.
//!
//! The kernel's own text is run: it is translated to C++ (inline PTX becomes calls of the simulator), compiled by the system's
//! compiler, loaded, and executed with one fiber per CUDA thread. Asynchronous work completes as late as the program allows, or
//! at a random earlier point; the order of threads is random; both follow from a seed. Every access to memory is checked
//! against bounds, alignment, happens-before order, unfinished copies and memory proxies.
//!
//! ```text
//! CUDA text -> translate -> C++ -> host (compile, load) -> Kernel -> machine (one block at a time) -> results, or a Fault
//! ```
//!
//! Invariants: a run is a function of kernel, arguments and seed; what a kernel does wrong is a [`Fault`], never a crash of this
//! process, as long as the kernel touches memory through the C++ that it consists of.

mod abi;
mod fault;
mod host;
mod launch;
mod machine;
mod memory;
mod numeric;
mod translate;

pub use fault::{Fault, FaultKind, Place};
pub use host::BuildError;
pub use launch::{Failure, Kernel, Launch, Run};
pub use memory::{Buffer, Memory};
pub use numeric::tensor_map::{ElementType, Swizzle, TensorMap, TensorMapError};
