//! Tensors: typed, strided views of shared memory.
//!
//! A [`Tensor`] is cheap to clone and never changes. Views (`permute`, `narrow`, ...) share the memory of what they view.
//!
//! Invariants: `shape` and `strides` have one length; every element that the shape reaches lies inside the storage; the
//! storage's element type is the tensor's dtype.

mod device;
mod dtype;
mod host;
mod view;

use std::fmt;
use std::sync::Arc;

pub(crate) use device::DeviceBuffer;
pub use dtype::{DType, Element};
pub(crate) use host::{HostBuffer, with_host};

/// Where a tensor's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Location {
    /// Memory of the host.
    Host,
    /// Memory of the CUDA device with this ordinal.
    Cuda(usize),
    /// Memory of a simulated GPU; the number tells those of a process apart.
    #[cfg(feature = "sim")]
    Sim(usize),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Host => f.write_str("the host"),
            Location::Cuda(ordinal) => write!(f, "CUDA device {ordinal}"),
            #[cfg(feature = "sim")]
            Location::Sim(number) => write!(f, "simulated device {number}"),
        }
    }
}

/// The memory behind a tensor.
#[derive(Clone, Debug)]
pub(crate) enum Storage {
    Host(Arc<HostBuffer>),
    Device(Arc<device::DeviceBuffer>),
}

impl Storage {
    fn dtype(&self) -> DType {
        match self {
            Storage::Host(buffer) => buffer.dtype(),
            Storage::Device(buffer) => buffer.dtype,
        }
    }

    fn len(&self) -> usize {
        match self {
            Storage::Host(buffer) => buffer.len(),
            Storage::Device(buffer) => buffer.len(),
        }
    }
}

/// What is wrong with a tensor that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// The number of elements is not the product of the shape.
    #[error("shape {shape:?} needs {needed} elements, but {given} were given")]
    ElementCount {
        /// The shape asked for.
        shape: Vec<usize>,
        /// The product of the shape.
        needed: usize,
        /// The number of elements given.
        given: usize,
    },
    /// The product of the shape does not fit the address space.
    #[error("shape {shape:?} has more elements than can be addressed")]
    TooLarge {
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// Shape and strides reach past the end of the memory.
    #[error(
        "shape {shape:?} with strides {strides:?} at offset {offset} reaches element {last}, but the memory holds {len}"
    )]
    OutOfBounds {
        /// The shape asked for.
        shape: Vec<usize>,
        /// The strides asked for.
        strides: Vec<usize>,
        /// The offset asked for.
        offset: usize,
        /// The last element reached.
        last: usize,
        /// The number of elements of the memory.
        len: usize,
    },
    /// An axis that the tensor does not have.
    #[error("axis {axis} was asked for, but the tensor has rank {rank}")]
    Axis {
        /// The axis asked for.
        axis: usize,
        /// The tensor's rank.
        rank: usize,
    },
    /// A list of axes that is not a permutation.
    #[error("{axes:?} is not a permutation of the {rank} axes; name each axis once")]
    Permutation {
        /// The list.
        axes: Vec<usize>,
        /// The tensor's rank.
        rank: usize,
    },
    /// A range outside of an axis.
    #[error("elements {start}..{end} of axis {axis} were asked for, but its extent is {extent}")]
    Range {
        /// The axis.
        axis: usize,
        /// The first element.
        start: usize,
        /// One past the last element.
        end: usize,
        /// The extent of the axis.
        extent: usize,
    },
    /// A tensor of another type or rank than a parameter needs.
    #[error("the tensor is {dtype} of rank {rank} (shape {shape:?}); {needed_dtype} of rank {needed_rank} is needed")]
    Kind {
        /// The tensor's type.
        dtype: DType,
        /// The tensor's rank.
        rank: usize,
        /// The tensor's shape.
        shape: Vec<usize>,
        /// The type needed.
        needed_dtype: DType,
        /// The rank needed.
        needed_rank: usize,
    },
    /// Host access to a tensor that lies elsewhere.
    #[error("the tensor lies on {location}; copy it to the host first")]
    NotOnHost {
        /// Where it lies.
        location: Location,
    },
}

/// A typed, strided view of shared memory. Cheap to clone; immutable.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    storage: Storage,
}

/// The strides, in elements, of a row-major tensor.
pub(crate) fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

fn element_count(shape: &[usize]) -> Result<usize, TensorError> {
    // Extents of 0 are counted as 1 here, so that strides cannot overflow either.
    let bound = shape.iter().try_fold(1usize, |n, &extent| n.checked_mul(extent.max(1)));
    match bound {
        Some(n) if n <= isize::MAX as usize / 8 => Ok(if shape.contains(&0) { 0 } else { n }),
        _ => Err(TensorError::TooLarge { shape: shape.to_vec() }),
    }
}

impl Tensor {
    /// A row-major tensor of the elements.
    pub fn from_elements<T: Element>(shape: &[usize], values: Vec<T>) -> Result<Tensor, TensorError> {
        Self::from_buffer(shape, HostBuffer::from_elements(values))
    }

    /// A row-major f32 tensor.
    pub fn from_f32(shape: &[usize], values: Vec<f32>) -> Result<Tensor, TensorError> {
        Self::from_elements(shape, values)
    }

    /// A row-major i32 tensor.
    pub fn from_i32(shape: &[usize], values: Vec<i32>) -> Result<Tensor, TensorError> {
        Self::from_elements(shape, values)
    }

    /// A row-major tensor of the numbers, each rounded to the nearest of the type.
    pub fn from_f64(dtype: DType, shape: &[usize], values: &[f64]) -> Result<Tensor, TensorError> {
        Self::from_buffer(shape, HostBuffer::from_f64(dtype, values.iter().copied()))
    }

    /// A row-major tensor of the numbers, each rounded to the nearest of the type.
    pub(crate) fn rounded(dtype: DType, shape: &[usize], values: Vec<f32>) -> Result<Tensor, TensorError> {
        Self::from_buffer(shape, HostBuffer::from_f32(dtype, values))
    }

    /// A row-major tensor of the elements whose bytes these are, in the machine's byte order.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Tensor, TensorError> {
        let needed = element_count(shape)?;
        if bytes.len() != needed * dtype.size() {
            return Err(TensorError::ElementCount { shape: shape.to_vec(), needed, given: bytes.len() / dtype.size() });
        }
        Self::from_buffer(shape, HostBuffer::from_bytes(dtype, bytes))
    }

    /// A tensor of equal numbers.
    pub fn full(dtype: DType, shape: &[usize], value: f64) -> Result<Tensor, TensorError> {
        let count = element_count(shape)?;
        Self::from_buffer(shape, HostBuffer::from_f64(dtype, std::iter::repeat_n(value, count)))
    }

    /// A tensor of zeros.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Tensor, TensorError> {
        Self::full(dtype, shape, 0.0)
    }

    fn from_buffer(shape: &[usize], buffer: HostBuffer) -> Result<Tensor, TensorError> {
        let needed = element_count(shape)?;
        if buffer.len() != needed {
            return Err(TensorError::ElementCount { shape: shape.to_vec(), needed, given: buffer.len() });
        }
        Self::from_parts(shape.to_vec(), row_major_strides(shape), 0, Storage::Host(Arc::new(buffer)))
    }

    /// A view of storage; every element that it reaches is checked to be inside.
    pub(crate) fn from_parts(
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage: Storage,
    ) -> Result<Tensor, TensorError> {
        assert_eq!(shape.len(), strides.len(), "one stride an axis");
        if element_count(&shape)? > 0 {
            let last = shape
                .iter()
                .zip(&strides)
                .try_fold(offset, |last, (&extent, &stride)| last.checked_add((extent - 1).checked_mul(stride)?));
            let len = storage.len();
            if last.is_none_or(|last| last >= len) {
                return Err(TensorError::OutOfBounds { shape, strides, offset, last: last.unwrap_or(usize::MAX), len });
            }
        }
        Ok(Tensor { dtype: storage.dtype(), shape, strides, offset, storage })
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extent of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The distance between neighbours along each axis, in elements.
    pub fn strides(&self) -> &[usize] {
        &self.strides
    }

    /// The position of the first element in the storage, in elements.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The number of axes.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn element_count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Where the memory is.
    pub fn location(&self) -> Location {
        match &self.storage {
            Storage::Host(_) => Location::Host,
            Storage::Device(buffer) => buffer.memory.machine().location(),
        }
    }

    /// The host memory behind the tensor, all of it: index it with offset and strides.
    pub(crate) fn host(&self) -> Result<&HostBuffer, TensorError> {
        match &self.storage {
            Storage::Host(buffer) => Ok(buffer),
            Storage::Device(_) => Err(TensorError::NotOnHost { location: self.location() }),
        }
    }

    /// The memory behind the tensor, by which tensors that share it are known.
    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Whether neighbours along the last axis are neighbours in memory, as every executor needs.
    pub fn last_axis_is_contiguous(&self) -> bool {
        match (self.shape.last(), self.strides.last()) {
            (Some(&extent), Some(&stride)) => stride == 1 || extent <= 1,
            _ => true,
        }
    }

    /// Whether the elements are dense and in row-major order.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&extent, &stride)| {
            let good = extent <= 1 || stride == expected;
            expected *= extent.max(1);
            good
        })
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{:?}", self.dtype, self.shape)?;
        if !self.is_contiguous() {
            write!(f, ", strides {:?}", self.strides)?;
        }
        if self.location() != Location::Host {
            write!(f, ", on {}", self.location())?;
        }
        f.write_str(")")
    }
}
