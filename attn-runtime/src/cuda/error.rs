//! Everything that can go wrong between this process and a GPU.
//!
//! The binding crate's own errors never leave this folder: formatting one calls into the driver, which panics where there
//! is none. They are turned into [`CudaError`] where they arise.

use std::path::PathBuf;

use cudarc::driver::DriverError;

use super::searched::{SearchList, Searched};

/// Why the GPU could not be used.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// No driver on this machine.
    #[error(
        "no CUDA driver was found. Install NVIDIA's driver (it brings {library}; in a container, run with \
         `--gpus all`), or use the CPU. Searched:{}", SearchList(searched), library = super::driver::LIBRARY
    )]
    DriverMissing {
        /// Where was looked, in order.
        searched: Vec<Searched>,
    },
    /// A driver that lacks functions.
    #[error("the CUDA driver {} cannot be used: {reason}. Driver 525 (CUDA 12.0) or newer is needed", path.display())]
    DriverUnusable {
        /// The library.
        path: PathBuf,
        /// What it lacks.
        reason: String,
    },
    /// The driver sees no GPU.
    #[error("the CUDA driver sees no GPU; check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use the CPU")]
    NoDevice,
    /// No such GPU.
    #[error("there is no GPU {ordinal}: the driver sees {count}, numbered from 0")]
    NoSuchDevice {
        /// The number asked for.
        ordinal: u32,
        /// How many there are.
        count: u32,
    },
    /// The device's memory is used up.
    #[error(
        "out of GPU memory: {requested} bytes were asked for, {free} of {total} bytes are free. Use smaller inputs, or free what other programs hold"
    )]
    OutOfMemory {
        /// Bytes asked for.
        requested: usize,
        /// Bytes free on the device.
        free: usize,
        /// Bytes of the device.
        total: usize,
    },
    /// The driver does not take a binary.
    #[error("GPU {device} (sm_{major}{minor}) refused a kernel's binary: {reason}. Compile for this GPU's target, or update the driver (it supports CUDA {driver})", major = capability.0, minor = capability.1)]
    BinaryRefused {
        /// The device's name.
        device: String,
        /// Its compute capability.
        capability: (u32, u32),
        /// The CUDA version of the driver, like `13.0`.
        driver: String,
        /// The driver's reason.
        reason: String,
    },
    /// A binary has no kernel of this name.
    #[error("the binary has no kernel named {name}; kernels must be declared extern \"C\" __global__")]
    KernelMissing {
        /// The name.
        name: String,
    },
    /// More shared memory than a block can have.
    #[error(
        "kernel {kernel} needs {requested} bytes of shared memory a block ({fixed} of them static), the GPU allows {limit}; choose smaller tiles or fewer stages"
    )]
    SharedMemory {
        /// The kernel.
        kernel: String,
        /// Static and dynamic bytes together.
        requested: usize,
        /// Static bytes.
        fixed: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A launch that cannot be right.
    #[error("kernel {kernel} cannot be launched: {reason}")]
    InvalidLaunch {
        /// The kernel.
        kernel: String,
        /// What is wrong, with both values.
        reason: String,
    },
    /// A tensor that the tensor memory accelerator cannot copy.
    #[error("a tensor map cannot describe this tensor: {reason}")]
    InvalidTensorMap {
        /// What is wrong, with the number.
        reason: String,
    },
    /// Bytes outside a buffer, or buffers that overlap.
    #[error("bytes {start}..{end} cannot be {operation}: {reason}")]
    InvalidRange {
        /// What was to be done, as a participle.
        operation: &'static str,
        /// First byte.
        start: usize,
        /// One past the last.
        end: usize,
        /// Why not.
        reason: String,
    },
    /// Objects of two devices were mixed.
    #[error(
        "the {what} belongs to GPU {owner}, and was used with another device object of GPU {user}; use the one that made it"
    )]
    OtherDevice {
        /// What was passed.
        what: &'static str,
        /// The device that made it.
        owner: u32,
        /// The device that it was used with.
        user: u32,
    },
    /// Any other failure that the driver reports.
    #[error("{operation} failed: {name} (code {code}){}{description}{}", if description.is_empty() { "" } else { ": " }, advice(*code))]
    Driver {
        /// What was being done.
        operation: &'static str,
        /// The `CUresult`.
        code: u32,
        /// Its name.
        name: String,
        /// The driver's description.
        description: String,
    },
}

/// `CUDA_ERROR_OUT_OF_MEMORY`.
pub(crate) const OUT_OF_MEMORY: u32 = 2;
/// `CUDA_ERROR_NO_DEVICE`.
pub(crate) const NO_DEVICE: u32 = 100;
/// `CUDA_ERROR_NOT_FOUND`.
pub(crate) const NOT_FOUND: u32 = 500;

/// Maps the binding's error; the driver must be loaded, as it is whenever there is such an error.
pub(crate) fn failed(operation: &'static str) -> impl Fn(DriverError) -> CudaError {
    move |error| {
        let code = error.0 as u32;
        if code == NO_DEVICE {
            return CudaError::NoDevice;
        }
        let text = |found: Result<&std::ffi::CStr, DriverError>| {
            found.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
        };
        CudaError::Driver { operation, code, name: text(error.error_name()), description: text(error.error_string()) }
    }
}

/// What helps against the failures that users meet most.
fn advice(code: u32) -> &'static str {
    match code {
        34 => ". The library is a toolkit's stub: remove its stubs folder from LD_LIBRARY_PATH",
        700 | 716 | 717 | 718 | 719 => {
            ". A kernel touched memory that it must not; the device cannot be used again by this process. Run the program \
             under `compute-sanitizer` to find the access"
        }
        802..=804 => ". Driver and kernel module do not match: restart the machine or reinstall the driver",
        _ => "",
    }
}
