//! Launching kernels.
//!
//! All that can be checked is checked before the driver sees a launch: the shape against the kernel's and the hardware's
//! limits, shared memory against what was asked for, the number and sizes of the arguments against the binary. What cannot
//! be checked is what the kernel does with the addresses it is given; hence `unsafe`.

use std::ffi::c_void;
use std::sync::atomic::Ordering;

use cudarc::driver::result;

use super::device::CudaDevice;
use super::error::{CudaError, failed};
use super::module::{Kernel, parameter_bytes};

/// The shape of a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Launch {
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared_memory: u32,
}

/// The most blocks along x, y, z.
const GRID_LIMITS: [u32; 3] = [i32::MAX as u32, 65_535, 65_535];

/// A kernel's argument: its bytes, owned and aligned.
#[derive(Clone, Debug)]
pub struct KernelArgument {
    storage: Storage,
    len: usize,
}

/// Scalars, which most arguments are, need no allocation.
#[derive(Clone, Debug)]
enum Storage {
    Word(u64),
    Chunks(Box<[Chunk]>),
}

/// Aligned for every parameter that CUDA knows, tensor maps included.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(128))]
struct Chunk([u8; 128]);

impl KernelArgument {
    /// An address on the device.
    pub fn pointer(address: u64) -> Self {
        Self::value(&address)
    }

    /// A 32-bit integer.
    pub fn i32(value: i32) -> Self {
        Self::value(&value)
    }

    /// A 64-bit integer.
    pub fn i64(value: i64) -> Self {
        Self::value(&value)
    }

    /// A 32-bit float.
    pub fn f32(value: f32) -> Self {
        Self::value(&value)
    }

    /// Plain data: a scalar, an array, or a `repr(C)` structure whose layout is that of the kernel's parameter.
    pub fn value<T: bytemuck::NoUninit>(value: &T) -> Self {
        Self::from_slice(bytemuck::bytes_of(value))
    }

    /// The bytes of a parameter of any type, padding included. They are passed at an alignment of 128 bytes.
    pub fn bytes(bytes: Vec<u8>) -> Self {
        Self::from_slice(&bytes)
    }

    fn from_slice(bytes: &[u8]) -> Self {
        let storage = if bytes.len() <= size_of::<u64>() {
            let mut word = [0; size_of::<u64>()];
            word[..bytes.len()].copy_from_slice(bytes);
            Storage::Word(u64::from_ne_bytes(word))
        } else {
            let chunks = bytes.chunks(size_of::<Chunk>()).map(|piece| {
                let mut chunk = [0; size_of::<Chunk>()];
                chunk[..piece.len()].copy_from_slice(piece);
                Chunk(chunk)
            });
            Storage::Chunks(chunks.collect())
        };
        Self { storage, len: bytes.len() }
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn pointer_to(&self) -> *mut c_void {
        let bytes = match &self.storage {
            Storage::Word(word) => std::ptr::from_ref(word).cast::<c_void>(),
            Storage::Chunks(chunks) => chunks.as_ptr().cast(),
        };
        // The driver's interface lacks a const; it only reads.
        bytes.cast_mut()
    }
}

impl Kernel {
    /// Issues the kernel to the device's stream.
    ///
    /// # Safety
    /// The arguments must have the types of the kernel's parameters, in order, and every access that the kernel makes
    /// through them must fall into live memory of the right device that nothing else uses at that time. Buffers may be
    /// dropped after the call: they are freed in stream order.
    pub unsafe fn launch(
        &self,
        device: &CudaDevice,
        launch: Launch,
        arguments: &[KernelArgument],
    ) -> Result<(), CudaError> {
        let inner = &self.inner;
        device.owns("kernel", &inner.device)?;
        self.check(launch, arguments)?;
        device.bind()?;
        let mut pointers: Vec<*mut c_void> = arguments.iter().map(KernelArgument::pointer_to).collect();
        let [grid, block] = [launch.grid, launch.block].map(|[x, y, z]| (x, y, z));
        let stream = device.inner.stream.cu_stream();
        // SAFETY: the driver copies the arguments during the call, from memory that outlives it; the rest is the caller's.
        unsafe {
            result::launch_kernel(
                inner.function.cu_function(),
                grid,
                block,
                launch.shared_memory,
                stream,
                &mut pointers,
            )
        }
        .map_err(failed("launching a kernel"))
    }

    fn check(&self, launch: Launch, arguments: &[KernelArgument]) -> Result<(), CudaError> {
        let inner = &self.inner;
        let invalid = |reason: String| Err(CudaError::InvalidLaunch { kernel: inner.name.clone(), reason });
        let sizes: Vec<usize> = arguments.iter().map(KernelArgument::len).collect();
        if let Some(reason) = shape_fault(launch, inner.resources.max_threads) {
            return invalid(reason);
        }
        let expected =
            inner.parameter_bytes.get_or_init(|| parameter_bytes(&inner.device, &inner.function, sizes.len()));
        if let Some(reason) = expected.as_ref().and_then(|expected| argument_fault(expected, &sizes)) {
            return invalid(reason);
        }
        let limit = inner.dynamic_limit.load(Ordering::Acquire);
        if launch.shared_memory as usize > limit {
            return invalid(format!(
                "it asks for {} bytes of dynamic shared memory and may have {limit}; call set_dynamic_shared_memory first",
                launch.shared_memory
            ));
        }
        Ok(())
    }
}

/// What is wrong with a launch's shape, if anything.
fn shape_fault(launch: Launch, max_threads: u32) -> Option<String> {
    let threads = launch.block.iter().fold(1, |product: u64, &extent| product.saturating_mul(u64::from(extent)));
    if threads == 0 || threads > u64::from(max_threads) {
        return Some(format!("a block of {:?} has {threads} threads, 1 to {max_threads} are possible", launch.block));
    }
    if launch.grid.iter().zip(GRID_LIMITS).any(|(&extent, limit)| extent == 0 || extent > limit) {
        return Some(format!("a grid of {:?} is outside 1 to {GRID_LIMITS:?}", launch.grid));
    }
    None
}

/// What is wrong with the arguments' sizes, if anything.
fn argument_fault(expected: &[usize], given: &[usize]) -> Option<String> {
    if expected.len() != given.len() {
        return Some(format!("it takes {} arguments, {} were given", expected.len(), given.len()));
    }
    let wrong = expected.iter().zip(given).position(|(expected, given)| expected != given)?;
    Some(format!("argument {wrong} has {} bytes, its parameter {}", given[wrong], expected[wrong]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(argument: &KernelArgument) -> Vec<u8> {
        let start = argument.pointer_to().cast::<u8>();
        // SAFETY: the argument owns at least as many bytes, and is borrowed meanwhile.
        unsafe { std::slice::from_raw_parts(start, argument.len()) }.to_vec()
    }

    #[test]
    fn arguments_keep_their_bytes_and_are_aligned() {
        assert_eq!(bytes_of(&KernelArgument::i32(-2)), (-2_i32).to_ne_bytes());
        assert_eq!(bytes_of(&KernelArgument::i64(-3)), (-3_i64).to_ne_bytes());
        assert_eq!(bytes_of(&KernelArgument::f32(1.5)), 1.5_f32.to_ne_bytes());
        assert_eq!(bytes_of(&KernelArgument::pointer(1 << 40)), (1_u64 << 40).to_ne_bytes());
        assert_eq!(bytes_of(&KernelArgument::value(&[1_u16, 2, 3])), bytemuck::bytes_of(&[1_u16, 2, 3]));
        for length in [9, 127, 128, 129, 1000] {
            let bytes: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let argument = KernelArgument::bytes(bytes.clone());
            assert_eq!(bytes_of(&argument), bytes);
            assert_eq!(argument.pointer_to() as usize % 128, 0);
            assert_eq!(bytes_of(&argument.clone()), bytes);
        }
        assert!(KernelArgument::bytes(Vec::new()).is_empty());
    }

    #[test]
    fn shapes_outside_the_limits_are_named() {
        let launch = |grid, block| Launch { grid, block, shared_memory: 0 };
        assert_eq!(shape_fault(launch([1, 1, 1], [128, 1, 1]), 1024), None);
        assert_eq!(shape_fault(launch([1 << 30, 65_535, 1], [8, 8, 16]), 1024), None);
        for (grid, block) in [
            ([0, 1, 1], [128, 1, 1]),
            ([1, 65_536, 1], [128, 1, 1]),
            ([1, 1, 1], [0, 1, 1]),
            ([1, 1, 1], [1024, 2, 1]),
            ([1, 1, 1], [1 << 31, 1 << 31, 4]),
        ] {
            assert!(shape_fault(launch(grid, block), 1024).is_some(), "{grid:?} {block:?}");
        }
    }

    #[test]
    fn arguments_that_do_not_fit_are_named() {
        assert_eq!(argument_fault(&[8, 4], &[8, 4]), None);
        assert_eq!(argument_fault(&[8, 4], &[8]).unwrap(), "it takes 2 arguments, 1 were given");
        assert_eq!(argument_fault(&[8, 4], &[8, 8]).unwrap(), "argument 1 has 8 bytes, its parameter 4");
    }
}
