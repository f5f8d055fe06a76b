//! What can go wrong on a simulated GPU: a kernel that cannot be made for it, and a kernel that is wrong.

use std::fmt;

use attn_dsl::plan::Target;
use attn_sim::{BuildError, Failure, FaultKind};

use super::device::SimOptions;

/// Why the simulator did not compute a call.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// A kernel could not be made ready for the simulator.
    #[error("{file_name} cannot be made ready for the simulator: {error}")]
    Build {
        /// The name of the kernel's text.
        file_name: String,
        /// What failed.
        error: BuildError,
    },
    /// A kernel that no GPU of the target could launch.
    #[error(
        "{file_name} asks for {requested} bytes of shared memory a block, {target} allows {limit}; choose smaller tiles or fewer stages"
    )]
    SharedMemory {
        /// The name of the kernel's text.
        file_name: String,
        /// Bytes asked for.
        requested: usize,
        /// The target.
        target: Target,
        /// Bytes allowed.
        limit: usize,
    },
    /// A tensor that no tensor map describes.
    #[error(transparent)]
    TensorMap(attn_sim::TensorMapError),
    /// A kernel did what it must not do.
    #[error(transparent)]
    Fault(Box<SimFault>),
}

/// What a kernel did wrong, in which call, and how to see it again.
#[derive(Debug)]
#[non_exhaustive]
pub struct SimFault {
    /// The name of the kernel's text.
    pub file_name: String,
    /// The variant, the type and the extents of the call.
    pub call: String,
    /// The device's options: its seed and target.
    pub options: SimOptions,
    /// The simulator's report.
    pub failure: Box<Failure>,
}

impl SimFault {
    /// The kind of mistake.
    pub fn kind(&self) -> FaultKind {
        self.failure.fault.kind
    }
}

impl fmt::Display for SimFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SimFault { file_name, call, options: SimOptions { seed, target, .. }, failure } = self;
        // not the failure itself, which tells the seed of one launch beside the device's
        writeln!(f, "{file_name} is wrong, in {call}, on sim (seed {seed}):\n{}", failure.fault)?;
        if *target == SimOptions::default().target {
            write!(f, "See it again with `--device sim --seed {seed}` or `Device::sim({seed})`")
        } else {
            write!(f, "See it again with `SimOptions::new({seed}).target(Target::{target:?})`")
        }
    }
}

impl std::error::Error for SimFault {}
