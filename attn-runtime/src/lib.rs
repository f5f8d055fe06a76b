//! Runs attention: tensors, devices, the executors and the oracle.
//!
//! [`Attention`] prepares a checked variant for a [`Device`] and runs its forward and backward pass on [`Tensor`]s.

mod attention;
mod blocks;
mod call;
mod cpu;
pub mod cuda;
mod device;
mod error;
mod executor;
mod machine;
mod oracle;
mod packing;
mod parameter;
mod plan;
mod segments;
#[cfg(feature = "sim")]
pub mod sim;
mod tensor;
#[cfg(feature = "testing")]
pub mod testing;
mod timing;
mod variant;

pub use attention::{Attention, Gradients, Output};
pub use blocks::{BlockListError, block_lists, block_table};
pub use call::ArgumentError;
pub use device::Device;
pub use error::Error;
pub use parameter::{Parameter, ParameterElement, Parameters};
pub use plan::{Plan, Schedule, TimedPlan, Tuning};
pub use tensor::{DType, Element, Location, Tensor, TensorError};
pub use variant::Variant;
