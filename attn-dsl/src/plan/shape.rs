//! What a kernel is specialised for besides the variant: the element type and the head dimensions.
//!
//! Batch, heads, lengths and strides are run-time arguments: they never appear here, but for whether a batch is packed.

use std::fmt;

use super::PlanError;

/// The type of q, k, v and of the outputs. Accumulation is f32 for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ElementType {
    /// 32-bit floats; products in three tf32 parts, so that results are as good as f32 arithmetic.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
}

impl ElementType {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            ElementType::F32 => 4,
            ElementType::F16 | ElementType::Bf16 => 2,
        }
    }

    /// The name that PTX and this crate's text use.
    pub fn name(self) -> &'static str {
        match self {
            ElementType::F32 => "f32",
            ElementType::F16 => "f16",
            ElementType::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Element type and head dimensions, and whether the batch is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    element: ElementType,
    head_dim: usize,
    value_dim: usize,
    packed: bool,
}

impl Shape {
    /// A shape that kernels exist for.
    ///
    /// # Errors
    /// When a head dimension is not a multiple of 8 from 8 to 256.
    pub fn new(element: ElementType, head_dim: usize, value_dim: usize) -> Result<Shape, PlanError> {
        for (axis, extent) in [("head_dim", head_dim), ("the head dimension of v", value_dim)] {
            if extent == 0 || extent > 256 || extent % 8 != 0 {
                return Err(PlanError::HeadDim { axis, extent });
            }
        }
        Ok(Shape { element, head_dim, value_dim, packed: false })
    }

    /// The shape of packed batches: sequences of different lengths one after the other, without padding. Where they begin is an
    /// argument of their kernels.
    #[must_use]
    pub fn packed(self) -> Shape {
        Shape { packed: true, ..self }
    }

    /// Whether batches are packed.
    pub fn is_packed(self) -> bool {
        self.packed
    }

    /// The type of q, k, v and the outputs.
    pub fn element(self) -> ElementType {
        self.element
    }

    /// The head dimension of q and k.
    pub fn head_dim(self) -> usize {
        self.head_dim
    }

    /// The head dimension of v and the output.
    pub fn value_dim(self) -> usize {
        self.value_dim
    }

    /// `head_dim` rounded up to the depth of a matrix product.
    pub(crate) fn padded_head_dim(self) -> usize {
        self.head_dim.next_multiple_of(16)
    }

    /// `value_dim` rounded up to the depth of a matrix product.
    pub(crate) fn padded_value_dim(self) -> usize {
        self.value_dim.next_multiple_of(16)
    }

    /// Bytes of a row of q or k in shared memory.
    pub(crate) fn head_row_bytes(self) -> usize {
        self.padded_head_dim() * self.element.bytes() + 16
    }

    /// Bytes of a row of v or dO in shared memory.
    pub(crate) fn value_row_bytes(self) -> usize {
        self.padded_value_dim() * self.element.bytes() + 16
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} d{}", self.element, self.head_dim)?;
        if self.value_dim != self.head_dim {
            write!(f, " dv{}", self.value_dim)?;
        }
        f.write_str(if self.packed { " packed" } else { "" })
    }
}
