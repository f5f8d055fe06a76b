//! A GPU: its properties, its stream, its memory pool.
//!
//! A [`CudaDevice`] retains the device's primary context, so that it shares addresses with other libraries of the process,
//! and has one stream: its operations run in the order in which they were issued, whichever thread issued them, and
//! asynchronously to the host but where said otherwise. It is a handle; clones are the same device object.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use cudarc::driver::{CudaContext, CudaStream, DriverError, result, sys};

use super::driver::Driver;
use super::error::{CudaError, failed};
use super::pool::Pool;

/// A GPU. See the module's head.
#[derive(Clone)]
pub struct CudaDevice {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    /// Dropped before the context: it belongs to it.
    pub(crate) pool: Option<Pool>,
    pub(crate) stream: Arc<CudaStream>,
    pub(crate) context: Arc<CudaContext>,
    pub(crate) driver: &'static Driver,
    pub(crate) allocated: AtomicUsize,
    pub(crate) peak_allocated: AtomicUsize,
    properties: Properties,
}

#[derive(Clone, Debug)]
struct Properties {
    ordinal: u32,
    name: String,
    capability: (u32, u32),
    driver_version: (u32, u32),
    max_shared_memory: usize,
    multiprocessors: u32,
}

impl std::fmt::Debug for CudaDevice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("CudaDevice").field(&self.inner.properties).finish()
    }
}

impl CudaDevice {
    /// How many GPUs the driver sees.
    pub fn count() -> Result<u32, CudaError> {
        Driver::load()?;
        let count = CudaContext::device_count().map_err(failed("counting GPUs"));
        match count {
            Err(CudaError::NoDevice) => Ok(0),
            count => count.map(|count| u32::try_from(count).unwrap_or(0)),
        }
    }

    /// A GPU by its number, from 0, with a stream of its own.
    pub fn new(ordinal: u32) -> Result<Self, CudaError> {
        Self::open(ordinal, |context| context.new_stream().map_err(failed("creating a stream")))
    }

    /// A GPU that issues its work to another library's stream (a `CUstream` as an integer), in order with that library's.
    ///
    /// # Safety
    /// The stream must belong to the primary context of this GPU, and stay alive as long as this device object and all that
    /// is made from it.
    pub unsafe fn on_stream(ordinal: u32, stream: u64) -> Result<Self, CudaError> {
        Self::open(ordinal, |context| {
            let stream = stream as usize as sys::CUstream;
            // SAFETY: the caller vouches for the stream.
            Ok(unsafe { context.wrap_borrowed_stream(stream) })
        })
    }

    fn open(
        ordinal: u32,
        stream: impl FnOnce(&Arc<CudaContext>) -> Result<Arc<CudaStream>, CudaError>,
    ) -> Result<Self, CudaError> {
        let driver = Driver::load()?;
        let count = Self::count()?;
        if count == 0 {
            return Err(CudaError::NoDevice);
        }
        if ordinal >= count {
            return Err(CudaError::NoSuchDevice { ordinal, count });
        }
        let context = CudaContext::new(ordinal as usize).map_err(failed("opening the GPU"))?;
        // SAFETY: this context object is ours alone and has one stream, so that no two streams need ordering.
        unsafe { context.disable_event_tracking() };
        let stream = stream(&context)?;
        let properties = Properties::read(ordinal, &context).map_err(failed("reading the GPU's properties"))?;
        let pool = if context.has_async_alloc() { Pool::create(ordinal) } else { None };
        let inner = Inner {
            pool,
            stream,
            context,
            driver,
            allocated: AtomicUsize::new(0),
            peak_allocated: AtomicUsize::new(0),
            properties,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its number.
    pub fn ordinal(&self) -> u32 {
        self.inner.properties.ordinal
    }

    /// Its name, like `NVIDIA H100 80GB HBM3`.
    pub fn name(&self) -> &str {
        &self.inner.properties.name
    }

    /// Its compute capability, major and minor.
    pub fn compute_capability(&self) -> (u32, u32) {
        self.inner.properties.capability
    }

    /// The newest CUDA version that the driver supports, major and minor.
    pub fn driver_version(&self) -> (u32, u32) {
        self.inner.properties.driver_version
    }

    /// The most shared memory that a block can have, static and dynamic together, when it asks for it.
    pub fn max_shared_memory_per_block(&self) -> usize {
        self.inner.properties.max_shared_memory
    }

    /// Streaming multiprocessors.
    pub fn multiprocessors(&self) -> u32 {
        self.inner.properties.multiprocessors
    }

    /// The stream that all work goes to, a `CUstream` as an integer, for ordering other libraries' work with it.
    pub fn stream(&self) -> u64 {
        self.inner.stream.cu_stream() as usize as u64
    }

    /// Whether work that is issued now is recorded into a graph instead of done. Waiting would break the recording.
    pub fn is_capturing(&self) -> Result<bool, CudaError> {
        self.bind()?;
        // SAFETY: the stream lives as long as this device object.
        let status = unsafe { result::stream::is_capturing(self.inner.stream.cu_stream()) };
        let status = status.map_err(failed("asking whether a graph is recorded"))?;
        Ok(status != sys::CUstreamCaptureStatus_enum::CU_STREAM_CAPTURE_STATUS_NONE)
    }

    /// Waits until everything issued so far is done. Failures of kernels launched earlier come to light here.
    pub fn synchronize(&self) -> Result<(), CudaError> {
        self.inner.stream.synchronize().map_err(failed("waiting for the GPU"))
    }

    /// Free and total bytes of the device. Memory that was freed here and is kept for the next allocation is not free to
    /// other programs, and not counted as free; [`CudaDevice::release_unused`] gives it back.
    pub fn memory_info(&self) -> Result<(usize, usize), CudaError> {
        self.inner.context.mem_get_info().map_err(failed("reading the GPU's memory"))
    }

    /// Bytes in live buffers of this device object.
    pub fn allocated(&self) -> usize {
        self.inner.allocated.load(Ordering::Relaxed)
    }

    /// The largest value of [`CudaDevice::allocated`] since the start or the last reset.
    pub fn peak_allocated(&self) -> usize {
        self.inner.peak_allocated.load(Ordering::Relaxed)
    }

    /// Starts a new measurement of the peak from what is allocated now.
    pub fn reset_peak_allocated(&self) {
        self.inner.peak_allocated.store(self.allocated(), Ordering::Relaxed);
    }

    /// Waits for the device and gives memory that no buffer uses back to the system.
    pub fn release_unused(&self) -> Result<(), CudaError> {
        self.synchronize()?;
        self.inner.pool.as_ref().map_or(Ok(()), Pool::trim)
    }

    /// Makes the device's context current on this thread, which every driver call needs.
    pub(crate) fn bind(&self) -> Result<(), CudaError> {
        self.inner.context.bind_to_thread().map_err(failed("selecting the GPU"))
    }

    /// Refuses what another device object made: its stream would not be ordered with this one's.
    pub(crate) fn owns(&self, what: &'static str, owner: &Self) -> Result<(), CudaError> {
        if Arc::ptr_eq(&self.inner, &owner.inner) {
            return Ok(());
        }
        Err(CudaError::OtherDevice { what, owner: owner.ordinal(), user: self.ordinal() })
    }
}

impl Properties {
    fn read(ordinal: u32, context: &CudaContext) -> Result<Self, DriverError> {
        let attribute = |attribute| context.attribute(attribute).map(|value| u32::try_from(value).unwrap_or(0));
        let mut version = 0;
        // SAFETY: the pointer is to a live integer.
        unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
        let version = u32::try_from(version).unwrap_or(0);
        Ok(Self {
            ordinal,
            name: result::device::get_name(context.cu_device())?,
            capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            driver_version: (version / 1000, version % 1000 / 10),
            max_shared_memory: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)? as usize,
            multiprocessors: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The pool goes first and needs the context; a failure only means that the process is ending anyway.
        let _ = self.context.bind_to_thread();
    }
}
