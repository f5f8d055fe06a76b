//! The pieces of a box: what each 16 bytes of it in shared memory are in global memory.
//!
//! Invariant: the runs of a box cover its bytes in shared memory once, in order; a run names global bytes of the tensor only.

use super::TensorMap;

/// Bytes that swizzling keeps together.
const PIECE: u32 = 16;

/// Sixteen bytes of a box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BoxRun {
    /// Byte offset in the box before swizzling: a multiple of 16.
    pub(crate) offset: u32,
    /// Bytes at the beginning of the piece that lie before the tensor.
    pub(crate) skip: u32,
    /// Bytes after those that lie inside of the tensor; the rest of the 16 lies behind it. 0 if nothing does.
    pub(crate) bytes: u32,
    /// Global address of the first byte inside of the tensor; 0 if there is none.
    pub(crate) address: u64,
}

impl TensorMap {
    /// The pieces of the box at these coordinates, in elements, the innermost axis first.
    ///
    /// # Panics
    /// If there aren't as many coordinates as axes: the machine reports that as the kernel's fault before.
    pub(crate) fn box_runs(&self, coordinates: &[i32]) -> Vec<BoxRun> {
        assert_eq!(coordinates.len(), self.rank(), "a coordinate for each axis");
        let element = i64::from(self.element.bytes());
        // The innermost axis in bytes, relative to the beginning of a row of the tensor.
        let row_begin = i64::from(coordinates[0]) * element;
        let row_bytes = self.box_extents[0] * self.element.bytes();
        let row_limit = self.extents[0] as i64 * element;

        let rows = self.box_extents[1..].iter().product::<u32>();
        let mut runs = Vec::with_capacity((rows * row_bytes / PIECE) as usize);
        for row in 0..rows {
            let row_address = self.row_address(&coordinates[1..], row);
            for piece in (0..row_bytes).step_by(PIECE as usize) {
                let offset = row * row_bytes + piece;
                let begin = row_begin + i64::from(piece);
                let inside = begin.max(0)..(begin + i64::from(PIECE)).min(row_limit);
                runs.push(match row_address {
                    Some(address) if !inside.is_empty() => BoxRun {
                        offset,
                        skip: (inside.start - begin) as u32,
                        bytes: (inside.end - inside.start) as u32,
                        address: address + inside.start as u64,
                    },
                    _ => BoxRun { offset, skip: 0, bytes: 0, address: 0 },
                });
            }
        }
        runs
    }

    /// The global address where a row of the box has its innermost coordinate 0, if the row is in the tensor. `row` counts the
    /// rows of the box, axis 1 fastest; `coordinates` are those of the axes from 1 on.
    fn row_address(&self, coordinates: &[i32], mut row: u32) -> Option<u64> {
        let mut address = self.address;
        for (axis, &coordinate) in coordinates.iter().enumerate() {
            let extent = self.box_extents[axis + 1];
            let index = u64::try_from(i64::from(coordinate) + i64::from(row % extent)).ok()?;
            row /= extent;
            if index >= self.extents[axis + 1] {
                return None;
            }
            address += index * self.strides_bytes[axis];
        }
        Some(address)
    }
}
