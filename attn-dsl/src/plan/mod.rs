//! Planning: which tiles a lowered variant is computed in, for a shape on a target.
//!
//! The portable schedule runs on every GPU from compute capability 8.0: `mma.sync` products in registers, tiles copied with
//! `cp.async` into a ring in shared memory, one kernel forward and a recomputing backward of separate passes for dq and for
//! dk and dv, so that no gradient needs an atomic addition. The Hopper schedule ([`hopper`], [`hopper_backward`]) has one pass
//! for all three, of blocks that add to dq in turn.
//!
//! Invariants: a plan's shared memory fits the target's limit; its accumulators fit the register file by the model of
//! [`portable`]; what does not fit is an error that names both numbers.

mod hopper;
mod hopper_backward;
mod hopper_rows;
mod linear;
mod portable;
mod shape;
mod target;

pub use linear::{LinearTiles, linear_fits};
pub use portable::{Pass, Tiles};
pub use shape::{ElementType, Shape};
pub use target::Target;

pub(crate) use hopper::{HopperNeeds, HopperTiles, hopper_choices, hopper_forward, relative_copy_bytes, work_bytes};
pub(crate) use hopper_backward::{
    DIAGONALS, GradientOf, HopperBackwardNeeds, HopperBackwardTiles, HopperGradientTiles, hopper_backward,
    hopper_gradient,
};
pub(crate) use hopper_rows::{Candidates, HopperRowTiles, hopper_rows};
pub(crate) use linear::{LinearNeeds, linear_tiles};
pub(crate) use portable::{TABLE_CHUNK, tiles};

/// Why no kernel can be planned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A name that is no target.
    #[error("`{name}` is not a target; use one of {}", Target::ALL.map(|target| target.name()).join(", "))]
    UnknownTarget {
        /// What was given.
        name: String,
    },
    /// A GPU older than the portable schedule needs.
    #[error(
        "compute capability {major}.{minor} has no asynchronous copies; the CUDA kernels need 8.0 or newer, so run this on the CPU"
    )]
    TooOld {
        /// The device's compute capability.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A head dimension outside of 8..=256 or not a multiple of 8.
    #[error("{axis} is {extent}; the CUDA kernels take multiples of 8 from 8 to 256, so pad the last axis with zeros")]
    HeadDim {
        /// `head_dim` or the head dimension of v.
        axis: &'static str,
        /// What was asked for.
        extent: usize,
    },
    /// No tile is small enough for the target's shared memory.
    #[error(
        "the smallest {pass} tile for {shape} needs {needed} bytes of shared memory, {target} has {available} a block; use a smaller head dimension or a 16-bit type"
    )]
    SharedMemory {
        /// The pass.
        pass: Pass,
        /// The shape.
        shape: Shape,
        /// What the smallest tile needs.
        needed: usize,
        /// The target.
        target: Target,
        /// What the target has.
        available: usize,
    },
    /// The linear-time schedule was asked for, and there is none.
    #[error("there is no linear-time schedule: {reason}; use the quadratic schedule")]
    NotLinear {
        /// Why.
        reason: String,
    },
    /// A gradient that the kernels do not compute.
    #[error("the gradient of parameter `{parameter}` is not computed by the CUDA kernels: {reason}")]
    ParameterGradient {
        /// The parameter.
        parameter: String,
        /// Why, and what to write instead.
        reason: &'static str,
    },
}
