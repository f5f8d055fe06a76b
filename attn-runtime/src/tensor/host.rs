//! Memory of the host that tensors share.
//!
//! Invariant: the vector's element type is the tensor's dtype.

use half::{bf16, f16};

use super::{DType, Element};

/// Elements in host memory.
#[derive(Debug)]
pub(crate) enum HostBuffer {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    I32(Vec<i32>),
}

/// Runs `$body` with `$values` bound to the typed vector of a [`HostBuffer`].
macro_rules! with_host {
    ($buffer:expr, $values:ident => $body:expr) => {
        match $buffer {
            $crate::tensor::HostBuffer::F32($values) => $body,
            $crate::tensor::HostBuffer::F16($values) => $body,
            $crate::tensor::HostBuffer::BF16($values) => $body,
            $crate::tensor::HostBuffer::I32($values) => $body,
        }
    };
}
pub(crate) use with_host;

impl HostBuffer {
    pub(crate) fn from_elements<T: Element>(values: Vec<T>) -> HostBuffer {
        match T::DTYPE {
            DType::F32 => HostBuffer::F32(bytemuck::allocation::cast_vec(values)),
            DType::F16 => HostBuffer::F16(bytemuck::allocation::cast_vec(values)),
            DType::BF16 => HostBuffer::BF16(bytemuck::allocation::cast_vec(values)),
            DType::I32 => HostBuffer::I32(bytemuck::allocation::cast_vec(values)),
        }
    }

    /// The numbers, rounded to the nearest of the type.
    pub(crate) fn from_f64(dtype: DType, values: impl Iterator<Item = f64>) -> HostBuffer {
        match dtype {
            DType::F32 => HostBuffer::F32(values.map(Element::from_f64).collect()),
            DType::F16 => HostBuffer::F16(values.map(Element::from_f64).collect()),
            DType::BF16 => HostBuffer::BF16(values.map(Element::from_f64).collect()),
            DType::I32 => HostBuffer::I32(values.map(Element::from_f64).collect()),
        }
    }

    /// The numbers, rounded to the nearest of the type.
    pub(crate) fn from_f32(dtype: DType, values: Vec<f32>) -> HostBuffer {
        match dtype {
            DType::F32 => HostBuffer::F32(values),
            DType::F16 => HostBuffer::F16(values.into_iter().map(Element::from_f32).collect()),
            DType::BF16 => HostBuffer::BF16(values.into_iter().map(Element::from_f32).collect()),
            DType::I32 => HostBuffer::I32(values.into_iter().map(Element::from_f32).collect()),
        }
    }

    /// The elements whose bytes these are, in the machine's order. The length is a multiple of the element's size.
    pub(crate) fn from_bytes(dtype: DType, bytes: &[u8]) -> HostBuffer {
        match dtype {
            DType::F32 => HostBuffer::F32(bytemuck::allocation::pod_collect_to_vec(bytes)),
            DType::F16 => HostBuffer::F16(bytemuck::allocation::pod_collect_to_vec(bytes)),
            DType::BF16 => HostBuffer::BF16(bytemuck::allocation::pod_collect_to_vec(bytes)),
            DType::I32 => HostBuffer::I32(bytemuck::allocation::pod_collect_to_vec(bytes)),
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        match self {
            HostBuffer::F32(_) => DType::F32,
            HostBuffer::F16(_) => DType::F16,
            HostBuffer::BF16(_) => DType::BF16,
            HostBuffer::I32(_) => DType::I32,
        }
    }

    pub(crate) fn len(&self) -> usize {
        with_host!(self, values => values.len())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        with_host!(self, values => bytemuck::cast_slice(values))
    }
}
