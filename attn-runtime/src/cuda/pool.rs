//! A memory pool of our own, so that repeated calls allocate without a word to the driver.
//!
//! The device's default pool is shared with other libraries of the process, whose settings are not ours to change.

use std::ffi::c_void;

use cudarc::driver::sys::{CUmemPool_attribute_enum, CUmemPoolProps};
use cudarc::driver::{result, sys};

use super::error::{CudaError, failed};

/// `CUmemPoolProps` in the layout that all CUDA versions share: 88 bytes, of which later versions only named more.
#[repr(C)]
struct PoolProperties {
    /// `CU_MEM_ALLOCATION_TYPE_PINNED`.
    allocation_type: u32,
    /// No handles for other processes.
    handle_types: u32,
    /// `CU_MEM_LOCATION_TYPE_DEVICE`.
    location_type: u32,
    location: i32,
    security: *mut c_void,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<PoolProperties>() == size_of::<CUmemPoolProps>());

/// A pool that keeps what is freed.
pub(crate) struct Pool {
    handle: sys::CUmemoryPool,
}

// SAFETY: the driver's pool functions may be called from any thread.
unsafe impl Send for Pool {}
// SAFETY: as above; the handle itself never changes.
unsafe impl Sync for Pool {}

impl Pool {
    /// A pool on a device; `None` where the driver makes none (some virtual GPUs), so that plain allocation is used.
    pub(crate) fn create(ordinal: u32) -> Option<Self> {
        let properties = PoolProperties {
            allocation_type: 1,
            handle_types: 0,
            location_type: 1,
            location: i32::try_from(ordinal).ok()?,
            security: std::ptr::null_mut(),
            reserved: [0; 8],
        };
        // SAFETY: the structure has the driver's layout and lives past the call.
        let handle = unsafe { result::mem_pool::create((&raw const properties).cast()) }.ok()?;
        let pool = Self { handle };
        let mut threshold = u64::MAX;
        let attribute = CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the pool is live, and this attribute is a 64-bit integer.
        unsafe { result::mem_pool::set_attribute(pool.handle, attribute, (&raw mut threshold).cast()) }.ok()?;
        Some(pool)
    }

    /// Memory that may be used by work issued to the stream from now on.
    pub(crate) fn allocate(&self, bytes: usize, stream: sys::CUstream) -> Result<u64, cudarc::driver::DriverError> {
        // SAFETY: pool and stream are live.
        unsafe { result::mem_pool::alloc_async(self.handle, bytes, stream) }
    }

    /// Gives unused memory back.
    pub(crate) fn trim(&self) -> Result<(), CudaError> {
        // SAFETY: the pool is live.
        unsafe { result::mem_pool::trim_to(self.handle, 0) }.map_err(failed("releasing unused GPU memory"))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: destroyed once; the driver keeps it until its last allocation is freed.
        let _ = unsafe { result::mem_pool::destroy(self.handle) };
    }
}
