//! The GPUs that kernels are made for.
//!
//! Invariant: the limits are those of NVIDIA's CUDA C++ programming guide, table of technical specifications per compute
//! capability (shared memory per block with opt-in, and per multiprocessor).

use std::fmt;

use super::PlanError;

/// An architecture, as NVRTC names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// A100.
    Sm80,
    /// RTX 30, A10, A40.
    Sm86,
    /// RTX 40, L4, L40.
    Sm89,
    /// H100, H200.
    Sm90a,
    /// B100, B200.
    Sm100a,
    /// RTX 50.
    Sm120a,
}

impl Target {
    /// All targets, oldest first.
    pub const ALL: [Target; 6] =
        [Target::Sm80, Target::Sm86, Target::Sm89, Target::Sm90a, Target::Sm100a, Target::Sm120a];

    /// The name that NVRTC takes as `--gpu-architecture`.
    pub fn name(self) -> &'static str {
        match self {
            Target::Sm80 => "sm_80",
            Target::Sm86 => "sm_86",
            Target::Sm89 => "sm_89",
            Target::Sm90a => "sm_90a",
            Target::Sm100a => "sm_100a",
            Target::Sm120a => "sm_120a",
        }
    }

    /// The target of a name.
    pub fn parse(name: &str) -> Result<Target, PlanError> {
        let found = Target::ALL.into_iter().find(|target| target.name() == name);
        found.ok_or_else(|| PlanError::UnknownTarget { name: name.to_owned() })
    }

    /// The target whose kernels run on a device of this compute capability.
    pub fn of_compute_capability(major: u32, minor: u32) -> Result<Target, PlanError> {
        match (major, minor) {
            (..8, _) => Err(PlanError::TooOld { major, minor }),
            (8, ..6) => Ok(Target::Sm80),
            (8, 6..9) => Ok(Target::Sm86),
            (8, _) => Ok(Target::Sm89),
            (9, _) => Ok(Target::Sm90a),
            (10 | 11, _) => Ok(Target::Sm100a),
            _ => Ok(Target::Sm120a),
        }
    }

    /// Shared memory that a block may have, in bytes.
    pub fn shared_memory_per_block(self) -> usize {
        match self {
            Target::Sm80 => 163 << 10,
            Target::Sm86 | Target::Sm89 | Target::Sm120a => 99 << 10,
            Target::Sm90a | Target::Sm100a => 227 << 10,
        }
    }

    /// Shared memory of a multiprocessor, in bytes; each resident block takes 1 KiB more than it asks for.
    pub fn shared_memory_per_multiprocessor(self) -> usize {
        match self {
            Target::Sm80 => 164 << 10,
            Target::Sm86 | Target::Sm89 | Target::Sm120a => 100 << 10,
            Target::Sm90a | Target::Sm100a => 228 << 10,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
