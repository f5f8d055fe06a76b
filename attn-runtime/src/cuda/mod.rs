//! The low-level CUDA layer: NVRTC, the kernel cache, devices, memory, modules, launches.
//!
//! Nothing here knows about attention. Invariants: no library is needed to build or to start; a missing one is an error
//! value that lists what was searched; no type of a binding crate appears in a public signature; every type may be used
//! from any thread.

pub mod cache;
pub mod nvrtc;
mod searched;
pub mod testing;

pub use cache::{Compile, KernelCache, KernelRequest};
pub use nvrtc::{Compilation, Nvrtc, NvrtcError, ResourceUsage, default_options};
pub use searched::Searched;
