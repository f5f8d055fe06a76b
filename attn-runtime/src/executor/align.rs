//! Tensors as kernels need them: they copy 16 bytes at a time, so that every row must start at a multiple of 16 bytes.
//!
//! Invariant: an aligned tensor is used where it lies; any other is copied once, on the device, in the order of the stream.

use attn_dsl::cuda::{COPY_ROWS, COPY_THREADS};

use super::KernelExecutor;
use crate::call::Call;
use crate::error::Error;
use crate::machine::KernelLaunch;
use crate::tensor::Tensor;

const ALIGNMENT: usize = 16;

fn is_aligned(tensor: &Tensor) -> Result<bool, Error> {
    let size = tensor.dtype().size();
    let axes = tensor.strides().iter().zip(tensor.shape()).take(3);
    let mut steps = axes.filter(|(_, extent)| **extent > 1).map(|(stride, _)| stride * size);
    Ok(tensor.device_address()?.is_multiple_of(ALIGNMENT as u64) && steps.all(|step| step.is_multiple_of(ALIGNMENT)))
}

impl KernelExecutor {
    /// The tensor `[b, h, n, d]` of a call itself if its rows are aligned, else a row-major copy.
    pub(super) fn aligned(&self, call: &Call, name: &str, tensor: &Tensor) -> Result<Tensor, Error> {
        if tensor.element_count() == 0 || is_aligned(tensor)? {
            return Ok(tensor.clone());
        }
        let copy = self.allocate(name, tensor.dtype(), tensor.shape())?;
        let (shape, strides) = (tensor.shape(), tensor.strides());
        let mut bytes = vec![];
        bytes.extend(tensor.device_address()?.to_ne_bytes());
        bytes.extend(copy.device_address()?.to_ne_bytes());
        strides[..3].iter().for_each(|&stride| bytes.extend((stride as i64).to_ne_bytes()));
        let lengths = [shape[1], shape[2], shape[3], tensor.dtype().size()];
        lengths.iter().for_each(|&length| bytes.extend((length as i32).to_ne_bytes()));
        let extent = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let launch = KernelLaunch {
            grid: [extent(shape[2]).div_ceil(COPY_ROWS), extent(shape[1]), extent(shape[0])],
            threads: COPY_THREADS,
            shared_memory: 0,
        };
        let kernel = self.library.copy()?;
        // SAFETY: the bytes are `struct Arguments` of attn_copy; the view lies inside its memory and the copy has its extents.
        unsafe { kernel.launch(launch, bytes, &self.named(call)) }?;
        Ok(copy)
    }
}
