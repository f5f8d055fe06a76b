//! Machines that run generated kernels: what the executor and tensors need of a GPU, or of its simulation.
//!
//! A [`Machine`] has memory and runs kernels in the order of their launches. The executor above is written against these
//! traits alone, so that what is tested on one machine is what runs on another.
//!
//! Invariants: work on one machine is done in the order in which it was issued; memory and kernels belong to the machine that
//! made them.

#[cfg(all(test, feature = "sim", feature = "testing"))]
mod clocked;
mod cuda;

use std::fmt;
use std::sync::Arc;

use attn_dsl::plan::Target;

pub(crate) use crate::cuda::cache::Decision;
pub(crate) use crate::cuda::{TensorDescription, TensorElement, TensorSwizzle};
use crate::error::Error;
use crate::tensor::Location;

/// A machine with memory that runs generated kernels.
pub(crate) trait Machine: Send + Sync {
    /// What kernels are generated for.
    fn target(&self) -> Result<Target, Error>;

    /// How many blocks that take a whole multiprocessor run at a time.
    fn multiprocessors(&self) -> u32;

    /// Where its memory is.
    fn location(&self) -> Location;

    /// Memory with unspecified contents. `name` is what reports call it.
    fn allocate(&self, name: &str, bytes: usize) -> Result<Box<dyn DeviceMemory>, Error>;

    /// Memory filled with zero bytes.
    fn zeroed(&self, name: &str, bytes: usize) -> Result<Box<dyn DeviceMemory>, Error>;

    /// A copy of host memory.
    fn upload(&self, name: &str, bytes: &[u8]) -> Result<Box<dyn DeviceMemory>, Error>;

    /// What a kernel needs to copy boxes of a tensor.
    fn tensor_map(&self, description: &TensorDescription<'_>) -> Result<[u8; 128], Error>;

    /// Its clock, where the time that a kernel takes says something.
    fn clock(&self) -> Option<&dyn Clock> {
        None
    }

    /// Makes a kernel ready to launch.
    fn compile(&self, source: &KernelSource<'_>) -> Result<Arc<dyn LoadedKernel>, Error>;
}

/// The clock of a machine, and its memory of what was found out with it.
pub(crate) trait Clock: Send + Sync {
    /// Whether work that is issued now is done now, so that it can be timed.
    fn is_running(&self) -> bool;

    /// Milliseconds that the machine needs for what `work` issues. Waits for it.
    fn time(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<f64, Error>;

    /// What was decided before, maybe by another process, on such a machine, for a question: all else that the decision depends on.
    fn decision(&self, question: &[&str]) -> Option<Decision>;

    /// Keeps a decision, as long as possible.
    fn keep_decision(&self, question: &[&str], decision: &Decision);
}

/// Bytes in a machine's memory; freed when dropped, after the work that was issued before.
pub(crate) trait DeviceMemory: fmt::Debug + Send + Sync {
    /// The address of the first byte, a multiple of 256.
    fn address(&self) -> u64;

    /// Bytes.
    fn len(&self) -> usize;

    /// A copy in host memory, after the work that was issued before.
    fn download(&self) -> Result<Vec<u8>, Error>;

    /// The machine that it belongs to.
    fn machine(&self) -> &dyn Machine;
}

/// What a kernel is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelSource<'a> {
    /// The whole text.
    pub(crate) text: &'a str,
    /// The name that reports give the text.
    pub(crate) file_name: &'a str,
    /// The name of the `__global__` function.
    pub(crate) entry: &'a str,
    /// The target that it was generated for.
    pub(crate) target: Target,
    /// The dynamic shared memory that launches ask for at most, in bytes.
    pub(crate) shared_memory: u32,
}

/// The shape of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelLaunch {
    /// Blocks along x, y, z.
    pub(crate) grid: [u32; 3],
    /// Threads of a block, all along x.
    pub(crate) threads: u32,
    /// Dynamic shared memory of a block, in bytes.
    pub(crate) shared_memory: u32,
}

/// A kernel, ready to launch on the machine that made it.
pub(crate) trait LoadedKernel: Send + Sync {
    /// Runs the kernel after all that was issued before. `argument` is the bytes of its one parameter; `call` says in reports
    /// what the launch belongs to.
    ///
    /// # Safety
    /// The bytes must be those of the kernel's parameter, and every access that the kernel makes through them must fall into
    /// live memory of this machine that nothing else uses at that time.
    unsafe fn launch(&self, launch: KernelLaunch, argument: Vec<u8>, call: &dyn fmt::Display) -> Result<(), Error>;
}
