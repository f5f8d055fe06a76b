//! Tensor maps: what the tensor memory accelerator (compute capability 9.0 and newer) knows about a tensor whose boxes it copies.
//!
//! Invariants: a map is what the driver encoded from a description that was checked first, so that a refusal names the number
//! that is wrong; it holds an address, and is to be used only while the memory there lives.

use std::ffi::c_void;

use super::device::CudaDevice;
use super::error::CudaError;
use super::launch::KernelArgument;

/// The most axes of a tensor.
const MAX_RANK: usize = 5;
/// The most elements of a box along an axis.
const MAX_BOX_EXTENT: u32 = 256;
/// Drivers up to this one mark maps of small tensors in a way that Hopper's hardware handles slowly; CUTLASS removes the mark.
const LAST_MARKING_DRIVER: (u32, u32) = (13, 1);
/// Tensors below this many bytes are marked.
const MARKED_BYTES: u64 = 128 << 10;
/// The mark, in the second 64-bit word.
const MARK: u64 = 1 << 21;

/// `CU_TENSOR_MAP_INTERLEAVE_NONE`, `CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE`.
const NONE: u32 = 0;
/// `CU_TENSOR_MAP_L2_PROMOTION_L2_128B`.
const LINES_OF_128_BYTES: u32 = 2;

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorElement {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// 32-bit floats.
    F32,
}

impl TensorElement {
    /// Bytes of an element.
    pub fn bytes(self) -> u64 {
        match self {
            TensorElement::F16 | TensorElement::Bf16 => 2,
            TensorElement::F32 => 4,
        }
    }

    /// `CUtensorMapDataType`.
    fn code(self) -> u32 {
        match self {
            TensorElement::F16 => 6,
            TensorElement::F32 => 7,
            TensorElement::Bf16 => 9,
        }
    }
}

/// How the 16-byte pieces of a box's rows are exchanged in shared memory, so that columns are free of bank conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TensorSwizzle {
    /// Not at all.
    None,
    /// Within 32 bytes.
    Bytes32,
    /// Within 64 bytes.
    Bytes64,
    /// Within 128 bytes.
    Bytes128,
}

impl TensorSwizzle {
    /// The widest row of a box, in bytes.
    fn span(self) -> Option<u64> {
        match self {
            TensorSwizzle::None => None,
            TensorSwizzle::Bytes32 => Some(32),
            TensorSwizzle::Bytes64 => Some(64),
            TensorSwizzle::Bytes128 => Some(128),
        }
    }

    /// `CUtensorMapSwizzle`.
    fn code(self) -> u32 {
        match self {
            TensorSwizzle::None => 0,
            TensorSwizzle::Bytes32 => 1,
            TensorSwizzle::Bytes64 => 2,
            TensorSwizzle::Bytes128 => 3,
        }
    }
}

/// A tensor and the boxes to copy of it. Axes are listed from the innermost, whose elements are contiguous.
#[derive(Clone, Copy, Debug)]
pub struct TensorDescription<'a> {
    /// The type of the elements.
    pub element: TensorElement,
    /// The first element, a multiple of 16.
    pub address: u64,
    /// Elements along each axis, 1 to 5 axes.
    pub extents: &'a [u64],
    /// Bytes from one element to the next along every axis but the first, multiples of 16.
    pub strides: &'a [u64],
    /// Elements of a box along each axis, at most 256.
    pub box_extents: &'a [u32],
    /// How a box lies in shared memory.
    pub swizzle: TensorSwizzle,
}

impl TensorDescription<'_> {
    /// What is wrong, if anything.
    fn fault(&self) -> Option<String> {
        let rank = self.extents.len();
        if !(1..=MAX_RANK).contains(&rank) {
            return Some(format!("it has {rank} axes, 1 to {MAX_RANK} are possible"));
        }
        if self.strides.len() + 1 != rank || self.box_extents.len() != rank {
            let (strides, boxes) = (self.strides.len(), self.box_extents.len());
            return Some(format!(
                "{rank} axes need {} strides and {rank} box extents, not {strides} and {boxes}",
                rank - 1
            ));
        }
        if !self.address.is_multiple_of(16) {
            return Some(format!("its address {:#x} is not a multiple of 16", self.address));
        }
        if let Some(axis) = self.extents.iter().position(|extent| !(1..=1 << 32).contains(extent)) {
            return Some(format!("axis {axis} has {} elements, 1 to 2^32 are possible", self.extents[axis]));
        }
        if let Some(axis) = self.strides.iter().position(|stride| !stride.is_multiple_of(16) || *stride >= 1 << 40) {
            let stride = self.strides[axis];
            return Some(format!(
                "the stride of axis {}, {stride} bytes, is not a multiple of 16 below 2^40",
                axis + 1
            ));
        }
        if let Some(axis) = self.box_extents.iter().position(|extent| !(1..=MAX_BOX_EXTENT).contains(extent)) {
            let extent = self.box_extents[axis];
            return Some(format!("a box has {extent} elements along axis {axis}, 1 to {MAX_BOX_EXTENT} are possible"));
        }
        let row = u64::from(self.box_extents[0]) * self.element.bytes();
        if !row.is_multiple_of(16) {
            return Some(format!("a row of a box has {row} bytes, which is not a multiple of 16"));
        }
        let span = self.swizzle.span().filter(|&span| row > span)?;
        Some(format!("a row of a box has {row} bytes, more than the {span} of its swizzle"))
    }

    /// Bytes from the first element to the end of the last.
    fn footprint(&self) -> u64 {
        let strides = std::iter::once(self.element.bytes()).chain(self.strides.iter().copied());
        let last = self
            .extents
            .iter()
            .zip(strides)
            .fold(0_u64, |sum, (extent, stride)| sum.saturating_add((extent - 1).saturating_mul(stride)));
        last.saturating_add(self.element.bytes())
    }
}

/// An encoded tensor map: a kernel's `const __grid_constant__` parameter of 128 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct TensorMap {
    words: [u64; 16],
}

impl TensorMap {
    /// Encodes a description. What lies outside the tensor reads as zero.
    pub fn encode(device: &CudaDevice, description: &TensorDescription<'_>) -> Result<Self, CudaError> {
        if let Some(reason) = description.fault() {
            return Err(CudaError::InvalidTensorMap { reason });
        }
        let rank = description.extents.len();
        let mut map = Self { words: [0; 16] };
        // SAFETY: every pointer is to as many values as the rank says, the map is 128 bytes and aligned; the driver reads and
        // writes nothing at the tensor's address.
        let code = unsafe {
            (device.inner.driver.encode_tensor_map)(
                map.words.as_mut_ptr().cast::<c_void>(),
                description.element.code(),
                rank as u32,
                description.address as usize as *mut c_void,
                description.extents.as_ptr(),
                description.strides.as_ptr(),
                description.box_extents.as_ptr(),
                [1_u32; MAX_RANK].as_ptr(),
                NONE,
                description.swizzle.code(),
                LINES_OF_128_BYTES,
                NONE,
            )
        };
        if code != 0 {
            return Err(CudaError::InvalidTensorMap { reason: format!("the driver refuses it with code {code}") });
        }
        if device.driver_version() <= LAST_MARKING_DRIVER && description.footprint() < MARKED_BYTES {
            map.words[1] &= !MARK;
        }
        Ok(map)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; 128] {
        bytemuck::cast(self.words)
    }

    /// It as a kernel's argument.
    pub fn argument(&self) -> KernelArgument {
        KernelArgument::bytes(self.to_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: TensorDescription<'_> = TensorDescription {
        element: TensorElement::Bf16,
        address: 4096,
        extents: &[128, 1000, 4],
        strides: &[256, 256_000],
        box_extents: &[64, 128, 1],
        swizzle: TensorSwizzle::Bytes128,
    };

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(GOOD.fault(), None);
        assert_eq!(TensorDescription { swizzle: TensorSwizzle::None, ..GOOD }.fault(), None);
        let faults = [
            (TensorDescription { extents: &[], ..GOOD }, "it has 0 axes"),
            (TensorDescription { strides: &[256], ..GOOD }, "need 2 strides and 3 box extents, not 1 and 3"),
            (TensorDescription { address: 4104, ..GOOD }, "0x1008 is not a multiple of 16"),
            (TensorDescription { extents: &[128, 0, 4], ..GOOD }, "axis 1 has 0 elements"),
            (TensorDescription { strides: &[256, 1000], ..GOOD }, "the stride of axis 2, 1000 bytes"),
            (TensorDescription { box_extents: &[64, 257, 1], ..GOOD }, "257 elements along axis 1"),
            (TensorDescription { box_extents: &[60, 128, 1], ..GOOD }, "120 bytes, which is not a multiple of 16"),
            (TensorDescription { swizzle: TensorSwizzle::Bytes64, ..GOOD }, "128 bytes, more than the 64"),
        ];
        for (description, expected) in faults {
            let fault = description.fault().unwrap();
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn the_footprint_ends_with_the_last_element() {
        assert_eq!(GOOD.footprint(), 3 * 256_000 + 999 * 256 + 127 * 2 + 2);
        let one = TensorDescription { extents: &[7], strides: &[], box_extents: &[8], ..GOOD };
        assert_eq!(one.footprint(), 14);
    }
}
