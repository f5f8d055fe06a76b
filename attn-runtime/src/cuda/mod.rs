//! The low-level CUDA layer: NVRTC, the kernel cache, devices, memory, modules, launches.
//!
//! Nothing here knows about attention. Invariants: no library is needed to build or to start; a missing one is an error
//! value that lists what was searched; no type of a binding crate appears in a public signature; every type may be used
//! from any thread.
//!
//! ```no_run
//! use attn_runtime::cuda::{CudaDevice, KernelArgument, KernelCache, KernelRequest, Launch, Module};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = CudaDevice::new(0)?;
//! let source = r#"extern "C" __global__ void twice(float* values) { values[threadIdx.x] *= 2.0f; }"#;
//! let request = KernelRequest::new(source, "twice.cu", "sm_90a");
//! let kernel = Module::compile(&device, KernelCache::shared()?, &request)?.kernel("twice")?;
//! let buffer = device.upload(bytemuck::cast_slice(&[1.0_f32; 32]))?;
//! let launch = Launch { grid: [1, 1, 1], block: [32, 1, 1], shared_memory: 0 };
//! // SAFETY: the kernel touches 32 floats of a buffer that holds 32.
//! unsafe { kernel.launch(&device, launch, &[KernelArgument::pointer(buffer.address())])? };
//! let bytes = device.download(&buffer)?;
//! # Ok(())
//! # }
//! ```

pub mod cache;
mod device;
mod driver;
mod error;
mod event;
mod launch;
mod memory;
mod module;
pub mod nvrtc;
mod pool;
mod searched;
mod tensor_map;
pub mod testing;

pub use cache::{Compile, KernelCache, KernelRequest};
pub use device::CudaDevice;
pub use error::CudaError;
pub use event::Event;
pub use launch::{KernelArgument, Launch};
pub use memory::Buffer;
pub use module::{Kernel, KernelResources, LoadError, Module};
pub use nvrtc::{Compilation, Nvrtc, NvrtcError, ResourceUsage, default_options};
pub use searched::Searched;
pub use tensor_map::{TensorDescription, TensorElement, TensorMap, TensorSwizzle};
