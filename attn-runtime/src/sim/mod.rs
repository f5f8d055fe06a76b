//! The simulated GPU: generated kernels run on the CPU, thread by thread, and what a GPU would hide is found.
//!
//! A [`SimDevice`] runs the same kernels with the same arguments as a GPU does, in the simulator of `attn-sim`: asynchronous
//! work completes as late as the program allows or at a random earlier point, threads run in a random order, and every access
//! to memory is checked. A mistake of a kernel is an error ([`SimFault`]) that names the kernel's line and how to see it again.
//!
//! ```no_run
//! use attn_runtime::sim::{FaultKind, SimDevice, SimError, SimOptions};
//! use attn_runtime::{Attention, DType, Device, Error, Parameters, Tensor};
//!
//! let simulator = SimDevice::new(SimOptions::new(3).traced());
//! let variant = attn_dsl::compile_one("struct Causal { mask: causal }")?;
//! let attention = Attention::new(&variant, &Device::Sim(simulator.clone()))?;
//! let q = Tensor::zeros(DType::F16, &[1, 1, 5, 16])?.to_device(attention.device())?;
//! match attention.forward(&q, &q, &q, &Parameters::new()) {
//!     Ok(output) => println!("{:?}", output.output.to_host()?),
//!     Err(Error::Sim(SimError::Fault(fault))) if fault.kind() == FaultKind::Race => println!("a race: {fault}"),
//!     Err(other) => return Err(other.into()),
//! }
//! for (file_name, timeline) in simulator.take_traces() {
//!     println!("{file_name}\n{timeline}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Invariants: what a launch does is a function of the device's seed, the kernel and its arguments, whatever other threads do;
//! memory that nothing has written is NaN; a launch has ended when it returns.

mod device;
mod error;
mod kernels;

pub use attn_dsl::plan::Target;
pub use attn_sim::{BuildError, Failure, Fault, FaultKind};

pub use device::{SimDevice, SimOptions};
pub use error::{SimError, SimFault};
