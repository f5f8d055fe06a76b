//! Tiles of tensors as f32, and products of tiles.
//!
//! Invariant: a tile is dense and row-major; [`gemm`] checks every bound before it enters the foreign kernel.

use crate::tensor::{Element, HostBuffer, Tensor, TensorError};

/// A host tensor `[b, h, n, d]` whose rows are contiguous.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a> {
    data: &'a HostBuffer,
    offset: usize,
    strides: [usize; 3],
    /// The extent of the last axis.
    pub(super) width: usize,
}

impl<'a> HeadRows<'a> {
    pub(super) fn new(tensor: &'a Tensor) -> Result<Self, TensorError> {
        let (strides, shape) = (tensor.strides(), tensor.shape());
        let strides = [strides[0], strides[1], strides[2]];
        Ok(HeadRows { data: tensor.host()?, offset: tensor.offset(), strides, width: shape[3] })
    }

    /// Copies rows `start..start + rows` of a head to the front of `out`.
    pub(super) fn load(&self, batch: usize, head: usize, start: usize, rows: usize, out: &mut [f32]) {
        fn copy<T: Element>(all: &[T], base: usize, stride: usize, width: usize, out: &mut [f32]) {
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let values = &all[base + row * stride..][..width];
                out.iter_mut().zip(values).for_each(|(o, x)| *o = x.to_f32());
            }
        }
        let base = self.offset + batch * self.strides[0] + head * self.strides[1] + start * self.strides[2];
        let out = &mut out[..rows * self.width];
        match self.data {
            HostBuffer::F32(all) => copy(all, base, self.strides[2], self.width, out),
            HostBuffer::F16(all) => copy(all, base, self.strides[2], self.width, out),
            HostBuffer::BF16(all) => copy(all, base, self.strides[2], self.width, out),
            HostBuffer::I32(all) => copy(all, base, self.strides[2], self.width, out),
        }
    }
}

/// A matrix in a slice, by its strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A dense row-major matrix.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The transpose, without a copy.
    pub(super) fn transposed(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn last(&self) -> usize {
        (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride
    }
}

/// `c = a b + beta c`, `c` dense and row-major.
pub(super) fn gemm(a: Matrix<'_>, b: Matrix<'_>, beta: f32, c: &mut [f32]) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner extents agree");
    assert!(c.len() >= m * n, "the product fits its tile");
    if m == 0 || n == 0 {
        return;
    }
    assert!(k > 0, "a product over nothing is not asked for");
    assert!(a.last() < a.data.len() && b.last() < b.data.len(), "the factors fit their slices");
    let stride = |s: usize| s as isize;
    // SAFETY: the asserts above keep every element that strides and extents reach inside the three slices, and `c` is a
    // unique borrow, so it overlaps neither factor.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.data.as_ptr(),
            stride(a.row_stride),
            stride(a.column_stride),
            b.data.as_ptr(),
            stride(b.row_stride),
            stride(b.column_stride),
            beta,
            c.as_mut_ptr(),
            stride(n),
            1,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_transposes() {
        let a = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let mut c = [1.0; 4];
        gemm(Matrix::new(&a, 2, 3), Matrix::new(&a, 2, 3).transposed(), 1.0, &mut c);
        assert_eq!(c, [15.0, 33.0, 33.0, 78.0]);
        let mut c = [0.0; 9];
        gemm(Matrix::new(&a, 2, 3).transposed(), Matrix::new(&a, 2, 3), 0.0, &mut c);
        assert_eq!(c, [17.0, 22.0, 27.0, 22.0, 29.0, 36.0, 27.0, 36.0, 45.0]);
    }

    #[test]
    fn strided_rows_of_any_type_load_as_f32() {
        let values: Vec<f64> = (0..24).map(f64::from).collect();
        let tensor = Tensor::from_f64(crate::DType::BF16, &[1, 3, 2, 4], &values).unwrap();
        let swapped = tensor.transpose(1, 2).unwrap();
        let rows = HeadRows::new(&swapped).unwrap();
        let mut out = [0.0; 8];
        rows.load(0, 1, 1, 2, &mut out);
        assert_eq!(out, [12.0, 13.0, 14.0, 15.0, 20.0, 21.0, 22.0, 23.0]);
    }
}
