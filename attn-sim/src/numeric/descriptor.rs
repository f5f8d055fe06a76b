//! The 64-bit description of a `wgmma` operand in shared memory, and the addresses that it stands for.
//!
//! ```text
//! bits  0-13  start address / 16          bits 32-45  stride byte offset (SBO) / 16       all other bits are 0
//! bits 16-29  leading byte offset / 16    bits 49-51  base offset
//!             (LBO)                       bits 62-63  0 no swizzle, 1 128 bytes, 2 64 bytes, 3 32 bytes
//! ```
//! An operand is `extent` rows (rows of A, columns of B) by 16 deep, in 16-bit elements. Before swizzling, the byte address of
//! (row, depth) is the start address plus, with `span` the bytes of the swizzle (16 for none):
//! ```text
//! major  swizzle  row                                                          depth
//! depth  none     row % 8 * 16 + row / 8 * SBO                                 depth % 8 * 2 + depth / 8 * LBO
//! depth  others   row % 8 * span + row / 8 * SBO                               depth * 2                        (LBO unused)
//! rows   none     row % 8 * 2 + row / 8 * SBO                                  depth % 8 * 16 + depth / 8 * LBO
//! rows   others   row % (span / 2) * 2 + row / (span / 2) * LBO                depth % 8 * span + depth / 8 * SBO
//! ```
//! Note that LBO and SBO change roles between the last two lines. Swizzling is then applied to the absolute address, which is
//! why the start may point at any 16-byte piece of a tile: kernels advance it by 32 bytes for the next 16 of depth.
//!
//! Source: PTX ISA 9.0, "Matrix Descriptor Format" and "Shared Memory Matrix Layout"; the canonical layouts are those that
//! CUTLASS states in `cute/atom/mma_traits_sm90_gmma.hpp`.
//!
//! Invariant: 16-byte pieces stay whole, so addresses are given per piece of eight elements.

use thiserror::Error;

use super::swizzle::Swizzle;

/// Depth of one `wgmma` on 16-bit elements.
pub(crate) const DEPTH: u32 = 16;

/// A decoded descriptor: byte counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Shared-memory address of element (0, 0) before swizzling: a multiple of 16 below 256 KiB.
    pub(crate) start: u32,
    pub(crate) leading: u32,
    pub(crate) stride: u32,
    pub(crate) swizzle: Swizzle,
}

/// Which index of an operand runs along memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Major {
    /// Contiguous in depth: K-major, the transposition flag of the instruction is 0.
    Depth,
    /// Contiguous in rows (columns of B): MN-major, the flag is 1.
    Rows,
}

/// Sixteen bytes of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where they lie in shared memory, swizzled: a multiple of 16.
    pub(crate) address: u32,
    /// The first of eight elements; the others follow along [`Major`].
    pub(crate) row: u32,
    pub(crate) depth: u32,
}

/// What is wrong with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum DescriptorError {
    /// A bit that no field has, as when an address isn't masked or a sum carries into the next field.
    #[error(
        "wgmma descriptor {descriptor:#018x} sets reserved bits {bits:#x}: mask addresses and byte offsets with 0x3FFFF \
         before the shift by 4, and keep advances of the start address below 256 KiB"
    )]
    ReservedBits {
        /// The whole descriptor.
        descriptor: u64,
        /// Those of its bits that must be 0.
        bits: u64,
    },
    /// A swizzle pattern that starts off its natural boundary.
    #[error(
        "wgmma descriptor has base offset {0}, which the simulator doesn't support: align the tile to the repeat of its \
         swizzle (1024, 512 or 256 bytes) and leave bits 49 to 51 zero"
    )]
    BaseOffset(u32),
    /// Contiguous elements that run over the end of a row of the swizzle.
    #[error(
        "wgmma descriptor starts at {start:#x}, {at} bytes into a {span}-byte row of its swizzle, and its operand has {bytes} \
         contiguous bytes: they run into the next row; advance the start within the row, or jump to the next chunk"
    )]
    CrossesRow {
        /// The start address.
        start: u32,
        /// Its offset in the row of the swizzle.
        at: u32,
        /// Bytes of the row.
        span: u32,
        /// Contiguous bytes that the operand has from the start on.
        bytes: u32,
    },
}

impl Descriptor {
    /// Takes a descriptor apart.
    pub(crate) fn decode(descriptor: u64) -> Result<Descriptor, DescriptorError> {
        const FIELD: u64 = 0x3FFF;
        const FIELDS: u64 = FIELD | FIELD << 16 | FIELD << 32 | 0b111 << 49 | 0b11 << 62;
        let bits = descriptor & !FIELDS;
        if bits != 0 {
            return Err(DescriptorError::ReservedBits { descriptor, bits });
        }
        let base_offset = (descriptor >> 49 & 0b111) as u32;
        if base_offset != 0 {
            return Err(DescriptorError::BaseOffset(base_offset));
        }
        let bytes = |shift: u32| ((descriptor >> shift & FIELD) as u32) << 4;
        let swizzle = match descriptor >> 62 {
            0 => Swizzle::None,
            1 => Swizzle::Bytes128,
            2 => Swizzle::Bytes64,
            _ => Swizzle::Bytes32,
        };
        Ok(Descriptor { start: bytes(0), leading: bytes(16), stride: bytes(32), swizzle })
    }

    /// The address before swizzling of (row, depth), both at the beginning of a piece.
    fn unswizzled(&self, major: Major, row: u32, depth: u32) -> u32 {
        let span = self.swizzle.span();
        let offset = match (major, self.swizzle) {
            (Major::Depth, Swizzle::None) => row % 8 * 16 + row / 8 * self.stride + depth / 8 * self.leading,
            (Major::Depth, _) => row % 8 * span + row / 8 * self.stride + depth * 2,
            (Major::Rows, Swizzle::None) => row / 8 * self.stride + depth % 8 * 16 + depth / 8 * self.leading,
            (Major::Rows, _) => {
                let columns = span / 2;
                row % columns * 2 + row / columns * self.leading + depth % 8 * span + depth / 8 * self.stride
            }
        };
        self.start + offset
    }

    /// The pieces of an operand of `extent` rows by 16 deep: `extent * 2` of them, in order of row, then depth, of their first
    /// elements.
    ///
    /// # Panics
    /// If `extent` isn't a multiple of 8.
    pub(crate) fn pieces(&self, major: Major, extent: u32) -> Result<Vec<Piece>, DescriptorError> {
        assert!(extent.is_multiple_of(8), "an operand has a multiple of 8 rows, not {extent}");
        let span = self.swizzle.span();
        let contiguous = match major {
            _ if self.swizzle == Swizzle::None => 16,
            Major::Depth => DEPTH * 2,
            Major::Rows => (extent * 2).min(span),
        };
        let at = self.start % span;
        if at + contiguous > span {
            return Err(DescriptorError::CrossesRow { start: self.start, at, span, bytes: contiguous });
        }
        let (row_step, depth_step) = match major {
            Major::Depth => (1, 8),
            Major::Rows => (8, 1),
        };
        let mut pieces = Vec::with_capacity(extent as usize * 2);
        for row in (0..extent).step_by(row_step) {
            for depth in (0..DEPTH).step_by(depth_step) {
                let address = self.swizzle.apply(self.unswizzled(major, row, depth));
                pieces.push(Piece { address, row, depth });
            }
        }
        Ok(pieces)
    }
}

#[cfg(test)]
mod tests;
