//! Device memory and copies.
//!
//! Allocation, filling and copies between buffers are ordered on the device's stream. Copies from and to the host return
//! when they are done, so that no host memory is borrowed past the call. A buffer is freed, in stream order, when dropped.

use std::ops::Range;
use std::sync::atomic::Ordering;

use cudarc::driver::result;

use super::device::CudaDevice;
use super::error::{CudaError, OUT_OF_MEMORY, failed};
use super::pool::Pool;

/// Bytes on a device. Kernels write through [`Buffer::address`], so that a shared reference does not mean unchanging
/// contents.
#[derive(Debug)]
pub struct Buffer {
    address: u64,
    len: usize,
    /// What was allocated: at least a byte, so that every buffer has an address.
    capacity: usize,
    device: CudaDevice,
}

impl Buffer {
    /// The first byte's address on the device, aligned to 256 bytes.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device that it lies on.
    pub fn device(&self) -> &CudaDevice {
        &self.device
    }

    /// The address of a range, which must lie inside.
    fn at(&self, operation: &'static str, range: &Range<usize>) -> Result<u64, CudaError> {
        if range.start <= range.end && range.end <= self.len {
            return Ok(self.address + range.start as u64);
        }
        let reason = format!("the buffer has {} bytes", self.len);
        Err(CudaError::InvalidRange { operation, start: range.start, end: range.end, reason })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let inner = &self.device.inner;
        inner.allocated.fetch_sub(self.capacity, Ordering::Relaxed);
        if self.device.bind().is_err() {
            return; // The context is gone, and its memory with it.
        }
        let freed = match &inner.pool {
            // SAFETY: allocated on this stream, freed once; work issued before still sees it.
            Some(_) => unsafe { result::free_async(self.address, inner.stream.cu_stream()) },
            // SAFETY: allocated without a pool, freed once; the call waits for work that uses it.
            None => unsafe { result::free_sync(self.address) },
        };
        if let Err(error) = freed {
            tracing::warn!(target: "attn::cuda", bytes = self.capacity, "{}", failed("freeing GPU memory")(error));
        }
    }
}

impl CudaDevice {
    /// Memory with unspecified contents.
    pub fn allocate(&self, bytes: usize) -> Result<Buffer, CudaError> {
        self.bind()?;
        let inner = &self.inner;
        let capacity = bytes.max(1);
        let attempt = || match &inner.pool {
            Some(pool) => pool.allocate(capacity, inner.stream.cu_stream()),
            // SAFETY: the context is current; the contents are documented as unspecified.
            None => unsafe { result::malloc_sync(capacity) },
        };
        let is_full = |error: &cudarc::driver::DriverError| error.0 as u32 == OUT_OF_MEMORY;
        let mut address = attempt();
        if address.as_ref().is_err_and(is_full) {
            // Pieces freed on the stream may still be pending, or be too small to serve.
            self.synchronize()?;
            inner.pool.as_ref().map_or(Ok(()), Pool::trim)?;
            address = attempt();
        }
        let address = match address {
            Ok(address) => address,
            Err(error) if is_full(&error) => {
                let (free, total) = self.memory_info().unwrap_or_default();
                return Err(CudaError::OutOfMemory { requested: bytes, free, total });
            }
            Err(error) => return Err(failed("allocating GPU memory")(error)),
        };
        let allocated = inner.allocated.fetch_add(capacity, Ordering::Relaxed) + capacity;
        inner.peak_allocated.fetch_max(allocated, Ordering::Relaxed);
        Ok(Buffer { address, len: bytes, capacity, device: self.clone() })
    }

    /// Memory filled with zero bytes.
    pub fn zeroed(&self, bytes: usize) -> Result<Buffer, CudaError> {
        let buffer = self.allocate(bytes)?;
        self.fill(&buffer, 0)?;
        Ok(buffer)
    }

    /// A copy of host memory.
    pub fn upload(&self, bytes: &[u8]) -> Result<Buffer, CudaError> {
        let buffer = self.allocate(bytes.len())?;
        self.write(&buffer, 0, bytes)?;
        Ok(buffer)
    }

    /// Overwrites a part of a buffer with host memory.
    pub fn write(&self, buffer: &Buffer, offset: usize, bytes: &[u8]) -> Result<(), CudaError> {
        self.owns("buffer", &buffer.device)?;
        let address = buffer.at("written", &(offset..offset.saturating_add(bytes.len())))?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the range lies inside a live buffer, and the host memory outlives the wait below.
        unsafe { result::memcpy_htod_async(address, bytes, self.inner.stream.cu_stream()) }
            .map_err(failed("copying to the GPU"))?;
        self.synchronize()
    }

    /// A copy of a whole buffer.
    pub fn download(&self, buffer: &Buffer) -> Result<Vec<u8>, CudaError> {
        self.download_range(buffer, 0..buffer.len)
    }

    /// A copy of a part of a buffer.
    pub fn download_range(&self, buffer: &Buffer, range: Range<usize>) -> Result<Vec<u8>, CudaError> {
        // Checked before the host's memory is taken: a range may be absurdly long.
        buffer.at("read", &range)?;
        let mut bytes = vec![0; range.len()];
        self.download_into(buffer, range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Copies a part of a buffer over host memory (of any type, through `bytemuck::cast_slice_mut`).
    pub fn download_into(&self, buffer: &Buffer, offset: usize, bytes: &mut [u8]) -> Result<(), CudaError> {
        self.owns("buffer", &buffer.device)?;
        let address = buffer.at("read", &(offset..offset.saturating_add(bytes.len())))?;
        if bytes.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the range lies inside a live buffer, and the host memory outlives the wait below.
        unsafe { result::memcpy_dtoh_async(bytes, address, self.inner.stream.cu_stream()) }
            .map_err(failed("copying from the GPU"))?;
        self.synchronize()
    }

    /// Sets every byte of a buffer.
    pub fn fill(&self, buffer: &Buffer, value: u8) -> Result<(), CudaError> {
        self.owns("buffer", &buffer.device)?;
        if buffer.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the buffer is live until work issued before its drop is done.
        unsafe { result::memset_d8_async(buffer.address, value, buffer.len, self.inner.stream.cu_stream()) }
            .map_err(failed("filling GPU memory"))
    }

    /// Copies a range of one buffer into another, or to a place of the same one that does not overlap it.
    pub fn copy(&self, source: &Buffer, range: Range<usize>, target: &Buffer, offset: usize) -> Result<(), CudaError> {
        self.owns("source buffer", &source.device)?;
        self.owns("target buffer", &target.device)?;
        let from = source.at("copied", &range)?;
        let into = offset..offset.saturating_add(range.len());
        let to = target.at("written", &into)?;
        let length = range.len() as u64;
        if from < to + length && to < from + length {
            let reason = format!("bytes {}..{} of the same buffer overlap them", into.start, into.end);
            return Err(CudaError::InvalidRange { operation: "copied", start: range.start, end: range.end, reason });
        }
        if range.is_empty() {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: both ranges lie inside live buffers of this device and do not overlap.
        unsafe { result::memcpy_dtod_async(to, from, range.len(), self.inner.stream.cu_stream()) }
            .map_err(failed("copying on the GPU"))
    }
}
