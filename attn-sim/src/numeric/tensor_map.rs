//! Tensor maps: the description of a tensor in global memory from which `cp.async.bulk.tensor` copies boxes.
//!
//! A tensor has up to five axes, the innermost first and contiguous. A copy moves a box of fixed extents at signed coordinates;
//! what of the box lies outside the tensor is zero when loaded and dropped when stored, and counts in the bytes of a barrier
//! all the same. In shared memory a box is dense, its innermost axis first, swizzled by bits of the absolute address.
//!
//! Supported is what attention kernels use: tiled mode, no interleaving, element strides of 1, zeros outside.
//!
//! Source: CUDA Driver API, `cuTensorMapEncodeTiled`; PTX ISA 9.0, "Tensors" and "cp.async.bulk.tensor".
//!
//! Invariant: a [`TensorMap`] satisfies every requirement that [`TensorMap::new`] checks, however it was made.

use thiserror::Error;

pub use super::swizzle::Swizzle;

pub(crate) mod boxes;

/// Axes that a tensor map can have.
const MAX_RANK: usize = 5;
/// What begins the bytes of a map.
const MAGIC: [u8; 8] = *b"attn-tm1";

/// The type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// IEEE 754 binary32.
    F32,
    /// 32-bit signed integers.
    I32,
}

impl ElementType {
    const ALL: [ElementType; 4] = [ElementType::F16, ElementType::Bf16, ElementType::F32, ElementType::I32];

    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            ElementType::F16 | ElementType::Bf16 => 2,
            ElementType::F32 | ElementType::I32 => 4,
        }
    }
}

/// What is wrong with the description of a tensor map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TensorMapError {
    /// No axis, or more than five.
    #[error("a tensor map has 1 to 5 axes, not {0}: merge axes or drop those of extent 1")]
    Rank(usize),
    /// Lists of different lengths.
    #[error(
        "a tensor map of {rank} axes takes {rank} box extents and {} strides, not {box_extents} and {strides}: the innermost \
         axis has no stride", rank - 1
    )]
    Lengths {
        /// Axes of the tensor.
        rank: usize,
        /// Strides given.
        strides: usize,
        /// Box extents given.
        box_extents: usize,
    },
    /// A tensor that doesn't begin at a multiple of 16 bytes.
    #[error("the tensor's address {0:#x} is not a multiple of 16")]
    Address(u64),
    /// An axis that is empty or too long.
    #[error("axis {axis} has extent {extent}, which must be from 1 to 2^32")]
    Extent {
        /// The axis, the innermost is 0.
        axis: usize,
        /// Its extent.
        extent: u64,
    },
    /// A stride that the hardware can't encode.
    #[error(
        "axis {axis} has a stride of {stride} bytes, which must be a multiple of 16 below 2^40: pad the axis inside it"
    )]
    Stride {
        /// The axis, the innermost is 0.
        axis: usize,
        /// Its stride in bytes.
        stride: u64,
    },
    /// A tensor whose last element has no 64-bit address.
    #[error("the tensor ends beyond the 64-bit address space: check its extents and strides")]
    Footprint,
    /// A box that is empty or too long along an axis.
    #[error("the box has extent {extent} along axis {axis}, which must be from 1 to 256: copy in several boxes")]
    BoxExtent {
        /// The axis, the innermost is 0.
        axis: usize,
        /// The box's extent.
        extent: u32,
    },
    /// Rows of a box that aren't whole pieces of 16 bytes.
    #[error("the box has {0} bytes along its innermost axis, which must be a multiple of 16")]
    InnerBoxBytes(u32),
    /// Rows of a box that are longer than those of the swizzle.
    #[error(
        "the box has {bytes} bytes along its innermost axis, but the swizzle permutes rows of {span}: copy in several boxes"
    )]
    InnerBoxExceedsSwizzle {
        /// Bytes of the box along the innermost axis.
        bytes: u32,
        /// Bytes of a row of the swizzle.
        span: u32,
    },
    /// Rows of a box that are shorter than those of the swizzle. Drivers accept them, but where such rows lie in shared memory
    /// is not documented.
    #[error(
        "the box has {bytes} bytes along its innermost axis, but the swizzle permutes rows of {span}: the layout of narrower \
         rows is not documented, use a narrower swizzle"
    )]
    InnerBoxNarrowerThanSwizzle {
        /// Bytes of the box along the innermost axis.
        bytes: u32,
        /// Bytes of a row of the swizzle.
        span: u32,
    },
    /// A box that no block can hold.
    #[error("the box has {0} bytes, more than the 232448 bytes of shared memory that a block can have")]
    BoxBytes(u64),
}

/// A tensor in global memory and the box that a copy moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorMap {
    element: ElementType,
    address: u64,
    extents: Vec<u64>,
    /// Of the axes from 1 on.
    strides_bytes: Vec<u64>,
    box_extents: Vec<u32>,
    swizzle: Swizzle,
}

impl TensorMap {
    /// The alignment of a box in shared memory. PTX demands 128 bytes of every tensor copy. A swizzle's pattern repeats after
    /// 256, 512 or 1024, but is laid over absolute addresses, so that a tile that begins elsewhere is permuted consistently.
    pub(crate) const SHARED_ALIGNMENT: u32 = 128;

    /// Describes a tensor as `cuTensorMapEncodeTiled` does, under the same requirements.
    ///
    /// Axes go from the innermost, which is contiguous, outwards; `strides_bytes` are those of the axes from 1 on. A stride may
    /// be 0 to repeat the tensor along an axis, and strides needn't ascend: the manual has them nested, drivers don't ask for
    /// it, and (batch, row, head, column) tensors are commonly described with rows inside heads.
    ///
    /// Two requirements go beyond the manual's: with a swizzle, the box is exactly as wide as the swizzle's rows; and the box
    /// fits in shared memory.
    pub fn new(
        element: ElementType,
        address: u64,
        extents: &[u64],
        strides_bytes: &[u64],
        box_extents: &[u32],
        swizzle: Swizzle,
    ) -> Result<TensorMap, TensorMapError> {
        let rank = extents.len();
        if !(1..=MAX_RANK).contains(&rank) {
            return Err(TensorMapError::Rank(rank));
        }
        if strides_bytes.len() != rank - 1 || box_extents.len() != rank {
            let (strides, box_extents) = (strides_bytes.len(), box_extents.len());
            return Err(TensorMapError::Lengths { rank, strides, box_extents });
        }
        check_tensor(element, address, extents, strides_bytes)?;
        check_box(element, box_extents, swizzle)?;
        Ok(TensorMap {
            element,
            address,
            extents: extents.to_vec(),
            strides_bytes: strides_bytes.to_vec(),
            box_extents: box_extents.to_vec(),
            swizzle,
        })
    }

    /// The type of the elements.
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// How boxes are permuted in shared memory.
    pub fn swizzle(&self) -> Swizzle {
        self.swizzle
    }

    /// Axes: a copy instruction has as many coordinates.
    pub(crate) fn rank(&self) -> usize {
        self.extents.len()
    }

    /// Bytes of a box in shared memory, which are also those that a barrier counts: what is out of range included.
    pub(crate) fn box_bytes(&self) -> u32 {
        self.box_extents.iter().product::<u32>() * self.element.bytes()
    }

    /// Where the byte is stored that would be at this shared-memory address without swizzling.
    pub(crate) fn swizzled(&self, absolute_shared_address: u32) -> u32 {
        self.swizzle.apply(absolute_shared_address)
    }

    /// The same map of a tensor that begins elsewhere.
    pub(crate) fn with_address(&self, address: u64) -> Result<TensorMap, TensorMapError> {
        check_tensor(self.element, address, &self.extents, &self.strides_bytes)?;
        Ok(TensorMap { address, ..self.clone() })
    }

    /// The same map of a tensor that has another extent along an axis.
    pub(crate) fn with_extent(&self, axis: usize, extent: u64) -> Result<TensorMap, TensorMapError> {
        let mut changed = self.clone();
        let rank = self.rank();
        *changed.extents.get_mut(axis).ok_or(TensorMapError::Rank(rank))? = extent;
        check_tensor(self.element, self.address, &changed.extents, &self.strides_bytes)?;
        Ok(changed)
    }

    /// The map as a kernel's argument, in place of the opaque `CUtensorMap`: the layout is the simulator's own, and a GPU
    /// doesn't understand it.
    pub fn to_bytes(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        let mut rest = &mut bytes[..];
        let mut put = |value: &[u8]| {
            let (to, after) = std::mem::take(&mut rest).split_at_mut(value.len());
            to.copy_from_slice(value);
            rest = after;
        };
        put(&MAGIC);
        put(&[self.rank() as u8, self.element as u8, self.swizzle as u8]);
        put(&self.address.to_le_bytes());
        for axis in 0..self.rank() {
            put(&self.extents[axis].to_le_bytes());
            put(&self.box_extents[axis].to_le_bytes());
        }
        for stride in &self.strides_bytes {
            put(&stride.to_le_bytes());
        }
        bytes
    }

    /// The inverse of [`to_bytes`](TensorMap::to_bytes); nothing where the bytes aren't a map, as when a kernel passes a wrong
    /// address.
    pub(crate) fn from_bytes(bytes: &[u8; 128]) -> Option<TensorMap> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (&[rank, element, swizzle], mut rest) = rest.split_first_chunk()?;
        let address = u64::from_le_bytes(take(&mut rest)?);
        let rank = usize::from(rank);
        if rank > MAX_RANK {
            return None;
        }
        let (mut extents, mut box_extents) = (Vec::new(), Vec::new());
        for _ in 0..rank {
            extents.push(u64::from_le_bytes(take(&mut rest)?));
            box_extents.push(u32::from_le_bytes(take(&mut rest)?));
        }
        let strides = (1..rank).map(|_| take(&mut rest).map(u64::from_le_bytes)).collect::<Option<Vec<u64>>>()?;
        let element = *ElementType::ALL.get(usize::from(element))?;
        let swizzle = *Swizzle::ALL.get(usize::from(swizzle))?;
        let map = TensorMap::new(element, address, &extents, &strides, &box_extents, swizzle).ok()?;
        (map.to_bytes() == *bytes).then_some(map)
    }
}

/// Cuts the first `N` bytes off.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

/// Checks the tensor in global memory.
fn check_tensor(element: ElementType, address: u64, extents: &[u64], strides: &[u64]) -> Result<(), TensorMapError> {
    if !address.is_multiple_of(16) {
        return Err(TensorMapError::Address(address));
    }
    for (axis, &extent) in extents.iter().enumerate() {
        if !(1..=1 << 32).contains(&extent) {
            return Err(TensorMapError::Extent { axis, extent });
        }
    }
    for (outer, &stride) in strides.iter().enumerate() {
        if !stride.is_multiple_of(16) || stride >= 1 << 40 {
            return Err(TensorMapError::Stride { axis: outer + 1, stride });
        }
    }
    let inner = u128::from(extents[0]) * u128::from(element.bytes());
    let outer: u128 =
        extents[1..].iter().zip(strides).map(|(&extent, &stride)| u128::from(extent - 1) * u128::from(stride)).sum();
    if u128::from(address) + inner + outer > 1 << 64 {
        return Err(TensorMapError::Footprint);
    }
    Ok(())
}

/// Checks the box.
fn check_box(element: ElementType, extents: &[u32], swizzle: Swizzle) -> Result<(), TensorMapError> {
    /// Shared memory that a block can ask for on compute capability 9.0.
    const SHARED_MEMORY: u64 = 227 * 1024;
    for (axis, &extent) in extents.iter().enumerate() {
        if !(1..=256).contains(&extent) {
            return Err(TensorMapError::BoxExtent { axis, extent });
        }
    }
    let (bytes, span) = (extents[0] * element.bytes(), swizzle.span());
    if !bytes.is_multiple_of(16) {
        return Err(TensorMapError::InnerBoxBytes(bytes));
    }
    if swizzle != Swizzle::None && bytes > span {
        return Err(TensorMapError::InnerBoxExceedsSwizzle { bytes, span });
    }
    if swizzle != Swizzle::None && bytes < span {
        return Err(TensorMapError::InnerBoxNarrowerThanSwizzle { bytes, span });
    }
    let total = extents.iter().map(|&extent| u64::from(extent)).product::<u64>() * u64::from(element.bytes());
    if total > SHARED_MEMORY {
        return Err(TensorMapError::BoxBytes(total));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
