//! Looking for the CUDA driver before anything touches it.
//!
//! The binding crate panics where the driver, or a function of it, is missing. [`Driver::load`] finds out first: it loads
//! the library, which then stays loaded under the name that the binding asks for, and checks every function that this
//! crate's code reaches. Nothing in this folder calls the binding without having called it.

use std::ffi::{c_int, c_void};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use libloading::Library;

use super::error::CudaError;
use super::searched::{Searched, loader_message};

/// The driver's file name.
pub(crate) const LIBRARY: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// Where the driver lies when the loader does not find it by name: container runtimes and WSL mount it there.
const FOLDERS: [&str; 6] = [
    "/usr/local/nvidia/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib/wsl/lib",
    "/usr/local/cuda/compat",
];

/// Every function that is reached through the binding.
const FUNCTIONS: [&str; 38] = [
    "cuInit",
    "cuDriverGetVersion",
    "cuGetErrorName",
    "cuGetErrorString",
    "cuDeviceGet",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain",
    "cuDevicePrimaryCtxRelease_v2",
    "cuCtxGetCurrent",
    "cuCtxSetCurrent",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamSynchronize",
    "cuStreamIsCapturing",
    "cuMemGetInfo_v2",
    "cuMemAlloc_v2",
    "cuMemFree_v2",
    "cuMemAllocFromPoolAsync",
    "cuMemFreeAsync",
    "cuMemPoolCreate",
    "cuMemPoolDestroy",
    "cuMemPoolSetAttribute",
    "cuMemPoolTrimTo",
    "cuMemsetD8Async",
    "cuMemcpyHtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuModuleGetFunction",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuLaunchKernel",
    "cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags",
    "cuEventCreate",
    "cuEventDestroy_v2",
];

type ElapsedTime = unsafe extern "C" fn(*mut f32, *mut c_void, *mut c_void) -> c_int;
type ParameterInfo = unsafe extern "C" fn(*mut c_void, usize, *mut usize, *mut usize) -> c_int;
/// `cuTensorMapEncodeTiled`; enumerations as their integers.
type EncodeTensorMap = unsafe extern "C" fn(
    *mut c_void,
    u32,
    u32,
    *mut c_void,
    *const u64,
    *const u64,
    *const u32,
    *const u32,
    u32,
    u32,
    u32,
    u32,
) -> c_int;

/// The loaded driver, and functions of it that the binding offers under some of its versions only.
pub(crate) struct Driver {
    /// The first form of this function, which every driver has; the binding for CUDA 13 asks for the second.
    pub(crate) elapsed_time: ElapsedTime,
    /// Sizes of a kernel's parameters; since CUDA 12.4.
    pub(crate) parameter_info: Option<ParameterInfo>,
    /// Encodes a tensor map; since CUDA 12.0, and in no binding for an older version.
    pub(crate) encode_tensor_map: EncodeTensorMap,
    _library: ManuallyDrop<Library>,
}

static LOADED: Mutex<Option<&'static Driver>> = Mutex::new(None);

impl Driver {
    /// The process's driver. A failure is not kept.
    pub(crate) fn load() -> Result<&'static Self, CudaError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = *loaded {
            return Ok(driver);
        }
        let driver: &'static Self = Box::leak(Box::new(Self::find(&candidates())?));
        *loaded = Some(driver);
        Ok(driver)
    }

    fn find(candidates: &[PathBuf]) -> Result<Self, CudaError> {
        let mut searched = Vec::new();
        for path in candidates {
            // SAFETY: loading runs the initialisers of the system's CUDA driver, which have no preconditions.
            match unsafe { Library::new(path) } {
                Ok(library) => return Self::check(path, library),
                Err(error) => searched.push(Searched::new(path.display().to_string(), loader_message(&error))),
            }
        }
        Err(CudaError::DriverMissing { searched })
    }

    fn check(path: &Path, library: Library) -> Result<Self, CudaError> {
        let lacks = |name: &str| CudaError::DriverUnusable {
            path: path.to_path_buf(),
            reason: format!("it has no function {name}"),
        };
        for name in FUNCTIONS.into_iter().chain(["cuEventRecord", "cuEventSynchronize"]) {
            // SAFETY: the symbol's address is only tested for existence.
            if unsafe { library.get::<*const c_void>(name.as_bytes()) }.is_err() {
                return Err(lacks(name));
            }
        }
        // SAFETY: the type is that of cuda.h.
        let elapsed_time = unsafe { library.get::<ElapsedTime>(b"cuEventElapsedTime") };
        let elapsed_time = *elapsed_time.map_err(|_| lacks("cuEventElapsedTime"))?;
        // SAFETY: the type is that of cuda.h.
        let parameter_info = unsafe { library.get::<ParameterInfo>(b"cuFuncGetParamInfo") };
        let parameter_info = parameter_info.ok().map(|symbol| *symbol);
        // SAFETY: the type is that of cuda.h.
        let encode_tensor_map = unsafe { library.get::<EncodeTensorMap>(b"cuTensorMapEncodeTiled") };
        let encode_tensor_map = *encode_tensor_map.map_err(|_| lacks("cuTensorMapEncodeTiled"))?;
        Ok(Self { elapsed_time, parameter_info, encode_tensor_map, _library: ManuallyDrop::new(library) })
    }
}

fn candidates() -> Vec<PathBuf> {
    let folders = if cfg!(windows) { &[][..] } else { &FOLDERS[..] };
    let in_folders = folders.iter().map(|folder| Path::new(folder).join(LIBRARY));
    std::iter::once(PathBuf::from(LIBRARY)).chain(in_folders).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_missing_driver_lists_every_place() {
        let places = ["/nonexistent/libcuda.so.1", "libcuda-of-no-system.so.1"].map(PathBuf::from);
        let Err(error) = Driver::find(&places) else { panic!("found a driver") };
        let text = error.to_string();
        assert!(matches!(&error, CudaError::DriverMissing { searched } if searched.len() == 2), "{error:?}");
        for place in &places {
            assert!(text.contains(place.to_str().unwrap()), "{text}");
        }
        assert!(text.contains("cannot open shared object file"), "{text}");
    }

    #[test]
    fn a_library_without_the_functions_is_refused() {
        let Err(error) = Driver::find(&[PathBuf::from("libc.so.6")]) else { panic!("libc is no driver") };
        assert!(error.to_string().contains("libc.so.6 cannot be used: it has no function cuInit"), "{error}");
    }

    #[test]
    fn the_loader_is_asked_first() {
        assert_eq!(candidates()[0], PathBuf::from("libcuda.so.1"));
        assert_eq!(candidates().len(), 1 + FOLDERS.len());
    }
}
