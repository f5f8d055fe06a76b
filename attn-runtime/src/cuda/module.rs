//! Binaries on a device, and the kernels in them.

use std::ffi::c_int;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
use cudarc::driver::{CudaFunction, CudaModule};
use cudarc::nvrtc::Ptx;

use super::cache::{Compile, KernelCache, KernelRequest};
use super::device::CudaDevice;
use super::error::{CudaError, NOT_FOUND, failed};

/// Shared memory that a block may have without asking.
const DEFAULT_SHARED_MEMORY: usize = 48 << 10;

/// A binary, loaded on a device. It is unloaded when it and its kernels are dropped.
#[derive(Clone)]
pub struct Module {
    module: Arc<CudaModule>,
    device: CudaDevice,
}

/// Why a kernel could not be compiled and loaded.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError<E> {
    /// It did not compile.
    #[error(transparent)]
    Compile(E),
    /// It did not load.
    #[error(transparent)]
    Cuda(CudaError),
}

impl Module {
    /// Loads a binary, as NVRTC made it.
    pub fn load(device: &CudaDevice, cubin: &[u8]) -> Result<Self, CudaError> {
        let refused = |reason: String| {
            let (major, minor) = device.driver_version();
            CudaError::BinaryRefused {
                device: device.name().to_owned(),
                capability: device.compute_capability(),
                driver: format!("{major}.{minor}"),
                reason,
            }
        };
        if !is_whole_image(cubin) {
            return Err(refused("it is no whole ELF image for a GPU".to_owned()));
        }
        let module = device.inner.context.load_module(Ptx::from_binary(cubin.to_vec()));
        let module = module.map_err(|error| match failed("loading a kernel")(error) {
            // INVALID_IMAGE, NO_BINARY_FOR_GPU, INVALID_PTX, UNSUPPORTED_PTX_VERSION, INVALID_SOURCE.
            CudaError::Driver { code: 200 | 209 | 218 | 222 | 300, name, description, .. } => {
                refused(format!("{name}: {description}"))
            }
            other => other,
        })?;
        Ok(Self { module, device: device.clone() })
    }

    /// Compiles a request through the cache and loads it. A binary that the driver refuses is dropped from the cache and
    /// compiled once more: it may have been made for a driver that is no longer there.
    pub fn compile<C: Compile>(
        device: &CudaDevice,
        cache: &KernelCache<C>,
        request: &KernelRequest,
    ) -> Result<Self, LoadError<C::Error>> {
        let binary = cache.get(request).map_err(LoadError::Compile)?;
        match Self::load(device, &binary.cubin) {
            Err(CudaError::BinaryRefused { reason, .. }) => {
                tracing::warn!(target: "attn::cache", file = %request.file_name, "compiling again: {reason}");
                cache.remove(request);
                let binary = cache.get(request).map_err(LoadError::Compile)?;
                Self::load(device, &binary.cubin).map_err(LoadError::Cuda)
            }
            other => other.map_err(LoadError::Cuda),
        }
    }

    /// A kernel by its name.
    pub fn kernel(&self, name: &str) -> Result<Kernel, CudaError> {
        let missing = || CudaError::KernelMissing { name: name.to_owned() };
        if name.contains('\0') {
            return Err(missing());
        }
        self.device.bind()?;
        let function = self.module.load_function(name).map_err(|error| match error.0 as u32 {
            NOT_FOUND => missing(),
            _ => failed("finding a kernel")(error),
        })?;
        let resources = KernelResources::read(&function).map_err(failed("reading a kernel's resources"))?;
        let dynamic_limit = AtomicUsize::new(DEFAULT_SHARED_MEMORY.saturating_sub(resources.static_shared_bytes));
        let inner = KernelInner {
            function,
            name: name.to_owned(),
            resources,
            parameter_bytes: OnceLock::new(),
            dynamic_limit,
            device: self.device.clone(),
        };
        Ok(Kernel { inner: Arc::new(inner) })
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Module").field("device", &self.device).finish_non_exhaustive()
    }
}

/// What a loaded kernel uses, as the driver says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelResources {
    /// Registers of a thread.
    pub registers: u32,
    /// Local memory of a thread: stack and spills.
    pub local_bytes: usize,
    /// Static shared memory of a block.
    pub static_shared_bytes: usize,
    /// The most threads that a block may have.
    pub max_threads: u32,
}

impl KernelResources {
    fn read(function: &CudaFunction) -> Result<Self, cudarc::driver::DriverError> {
        let positive = |value: c_int| usize::try_from(value).unwrap_or(0);
        Ok(Self {
            registers: u32::try_from(function.num_regs()?).unwrap_or(0),
            local_bytes: positive(function.local_size_bytes()?),
            static_shared_bytes: positive(function.shared_size_bytes()?),
            max_threads: u32::try_from(function.max_threads_per_block()?).unwrap_or(0),
        })
    }
}

/// A kernel, ready to launch. It keeps its module loaded; clones are the same kernel.
#[derive(Clone)]
pub struct Kernel {
    pub(crate) inner: Arc<KernelInner>,
}

pub(crate) struct KernelInner {
    pub(crate) function: CudaFunction,
    pub(crate) name: String,
    pub(crate) resources: KernelResources,
    /// The size of each parameter that the first launch gave, where the driver tells.
    pub(crate) parameter_bytes: OnceLock<Option<Vec<usize>>>,
    pub(crate) dynamic_limit: AtomicUsize,
    pub(crate) device: CudaDevice,
}

impl Kernel {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// What it uses.
    pub fn resources(&self) -> KernelResources {
        self.inner.resources
    }

    /// Allows launches with up to this much dynamic shared memory. Needed once, above 48 KiB in all; refused above what the
    /// device has.
    pub fn set_dynamic_shared_memory(&self, bytes: usize) -> Result<(), CudaError> {
        let inner = &self.inner;
        let fixed = inner.resources.static_shared_bytes;
        let requested = fixed.saturating_add(bytes);
        let limit = inner.device.max_shared_memory_per_block();
        let (true, Ok(value)) = (requested <= limit, c_int::try_from(bytes)) else {
            return Err(CudaError::SharedMemory { kernel: inner.name.clone(), requested, fixed, limit });
        };
        if bytes <= inner.dynamic_limit.load(Ordering::Acquire) {
            return Ok(());
        }
        inner.device.bind()?;
        let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        inner.function.set_attribute(attribute, value).map_err(failed("asking for shared memory"))?;
        inner.dynamic_limit.fetch_max(bytes, Ordering::AcqRel);
        Ok(())
    }

    /// How many blocks of this many threads and dynamic shared bytes a multiprocessor holds at a time.
    pub fn occupancy(&self, block_threads: u32, shared_memory: usize) -> Result<u32, CudaError> {
        self.inner.device.bind()?;
        self.inner
            .function
            .occupancy_max_active_blocks_per_multiprocessor(block_threads, shared_memory, None)
            .map_err(failed("computing a kernel's occupancy"))
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Kernel")
            .field("name", &self.inner.name)
            .field("resources", &self.inner.resources)
            .finish_non_exhaustive()
    }
}

/// Whether the bytes are an ELF image for a GPU with its tables inside. The driver takes a pointer without a length, so that
/// it would read past the end of anything else.
fn is_whole_image(bytes: &[u8]) -> bool {
    const MACHINE_CUDA: u16 = 190;
    if bytes.len() < 64 || !bytes.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let u16_at = |offset: usize| u16::from_le_bytes([bytes[offset], bytes[offset + 1]]);
    let u64_at = |offset: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|index| bytes[offset + index]));
    let ends_inside = |table: u64, entry: u16, count: u16| {
        let end = u64::from(entry) * u64::from(count);
        table.checked_add(end).is_some_and(|end| end <= bytes.len() as u64)
    };
    u16_at(18) == MACHINE_CUDA
        && u16_at(60) > 0
        && ends_inside(u64_at(32), u16_at(54), u16_at(56))
        && ends_inside(u64_at(40), u16_at(58), u16_at(60))
}

/// The sizes of the first `count` parameters, where the driver tells; fewer where the kernel has fewer. Only indices that are
/// expected to exist are asked for: the driver reports any other as an error of the program's.
pub(crate) fn parameter_bytes(device: &CudaDevice, function: &CudaFunction, count: usize) -> Option<Vec<usize>> {
    let parameter_info = device.inner.driver.parameter_info?;
    let mut sizes = Vec::new();
    while sizes.len() < count {
        let (mut offset, mut size) = (0, 0);
        // SAFETY: the function is live and both pointers are to live integers.
        let code =
            unsafe { parameter_info(function.cu_function().cast(), sizes.len(), &raw mut offset, &raw mut size) };
        match code {
            0 => sizes.push(size),
            // INVALID_VALUE: past the last parameter.
            1 => break,
            _ => return None,
        }
    }
    Some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_images_reach_the_driver() {
        let nvrtc = crate::cuda::testing::nvrtc_for_tests();
        let source = "extern \"C\" __global__ void fill(float* x) { x[threadIdx.x] = 1.0f; }";
        for target in ["sm_80", "sm_90a", "sm_120a"] {
            let cubin = nvrtc.compile(source, "fill.cu", &crate::cuda::default_options(target)).unwrap().cubin;
            assert!(is_whole_image(&cubin), "{target}");
            // The tables lie at the end, so that a cut anywhere loses some of them.
            let cut = (0..cubin.len()).find(|&length| is_whole_image(&cubin[..length]));
            assert_eq!(cut, None, "{target}: {} bytes", cubin.len());
        }
        assert!(!is_whole_image(&[&b"\x7fELF\x02\x01"[..], &[0; 200]].concat()));
        assert!(!is_whole_image(&std::fs::read(std::env::current_exe().unwrap()).unwrap()));
    }
}
