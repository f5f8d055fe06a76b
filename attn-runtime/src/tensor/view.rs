//! Views that share memory, and copies that change layout or type.

use std::sync::Arc;

use super::{DType, Element, HostBuffer, Storage, Tensor, TensorError, row_major_strides, with_host};

impl Tensor {
    fn axis(&self, axis: usize) -> Result<usize, TensorError> {
        if axis < self.rank() { Ok(axis) } else { Err(TensorError::Axis { axis, rank: self.rank() }) }
    }

    /// A view whose axis `i` is this tensor's axis `axes[i]`.
    pub fn permute(&self, axes: &[usize]) -> Result<Tensor, TensorError> {
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if !sorted.iter().copied().eq(0..self.rank()) {
            return Err(TensorError::Permutation { axes: axes.to_vec(), rank: self.rank() });
        }
        let mut view = self.clone();
        view.shape = axes.iter().map(|&a| self.shape[a]).collect();
        view.strides = axes.iter().map(|&a| self.strides[a]).collect();
        Ok(view)
    }

    /// A view with two axes exchanged: `[b, n, h, d]` becomes `[b, h, n, d]` by `transpose(1, 2)`.
    pub fn transpose(&self, first: usize, second: usize) -> Result<Tensor, TensorError> {
        let mut axes: Vec<usize> = (0..self.rank()).collect();
        let (first, second) = (self.axis(first)?, self.axis(second)?);
        axes.swap(first, second);
        self.permute(&axes)
    }

    /// A view of the elements `start..start + len` of an axis.
    pub fn narrow(&self, axis: usize, start: usize, len: usize) -> Result<Tensor, TensorError> {
        let extent = self.shape[self.axis(axis)?];
        let end = start.saturating_add(len);
        if end > extent {
            return Err(TensorError::Range { axis, start, end, extent });
        }
        let mut view = self.clone();
        view.shape[axis] = len;
        // An empty view keeps its offset: moving it could leave the storage.
        if len > 0 {
            view.offset += start * self.strides[axis];
        }
        Ok(view)
    }

    /// Calls `visit` with the position of each element in the storage, in row-major order of the shape.
    fn for_each_position(&self, mut visit: impl FnMut(usize)) {
        if self.shape.contains(&0) {
            return;
        }
        let mut index = vec![0; self.rank()];
        let mut position = self.offset;
        loop {
            visit(position);
            let mut axis = self.rank();
            loop {
                if axis == 0 {
                    return;
                }
                axis -= 1;
                index[axis] += 1;
                position += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                position -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
    }

    /// The elements in row-major order, as the type that holds them. `T` must be the tensor's own type.
    pub fn to_elements<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if T::DTYPE != self.dtype {
            return Err(TensorError::Kind {
                dtype: self.dtype,
                rank: self.rank(),
                shape: self.shape.clone(),
                needed_dtype: T::DTYPE,
                needed_rank: self.rank(),
            });
        }
        let all: &[T] = bytemuck::cast_slice(self.host()?.bytes());
        let mut values = Vec::with_capacity(self.element_count());
        self.for_each_position(|p| values.push(all[p]));
        Ok(values)
    }

    /// The elements as f64 in row-major order, whatever their type.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>, TensorError> {
        let mut values = Vec::with_capacity(self.element_count());
        with_host!(self.host()?, all => self.for_each_position(|p| values.push(all[p].to_f64())));
        Ok(values)
    }

    /// The elements as f32 in row-major order, whatever their type.
    pub fn to_f32_vec(&self) -> Result<Vec<f32>, TensorError> {
        let mut values = Vec::with_capacity(self.element_count());
        with_host!(self.host()?, all => self.for_each_position(|p| values.push(all[p].to_f32())));
        Ok(values)
    }

    /// The elements as i32 in row-major order; floats are rounded to the nearest.
    pub fn to_i32_vec(&self) -> Result<Vec<i32>, TensorError> {
        let mut values = Vec::with_capacity(self.element_count());
        with_host!(self.host()?, all => self.for_each_position(|p| values.push(i32::from_f64(all[p].to_f64()))));
        Ok(values)
    }

    /// The bytes of the elements in row-major order and the machine's byte order.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TensorError> {
        let contiguous = self.contiguous()?;
        let start = contiguous.offset * self.dtype.size();
        let len = contiguous.element_count() * self.dtype.size();
        Ok(if len == 0 { Vec::new() } else { contiguous.host()?.bytes()[start..start + len].to_vec() })
    }

    /// A row-major tensor of the same elements: this one if it already is, else a copy.
    pub fn contiguous(&self) -> Result<Tensor, TensorError> {
        if self.is_contiguous() {
            let mut view = self.clone();
            view.strides = row_major_strides(&self.shape);
            return Ok(view);
        }
        let buffer = with_host!(self.host()?, all => {
            let mut values = Vec::with_capacity(self.element_count());
            self.for_each_position(|p| values.push(all[p]));
            HostBuffer::from_elements(values)
        });
        Self::from_parts(self.shape.clone(), row_major_strides(&self.shape), 0, Storage::Host(Arc::new(buffer)))
    }

    /// A tensor of the same numbers, rounded to the nearest of another type: this one if the type is the same.
    pub fn to_dtype(&self, dtype: DType) -> Result<Tensor, TensorError> {
        if dtype == self.dtype { Ok(self.clone()) } else { Self::from_f64(dtype, &self.shape, &self.to_f64_vec()?) }
    }

    /// The same elements under another shape of equal size; copies only if the elements are not in row-major order.
    pub fn reshape(&self, shape: &[usize]) -> Result<Tensor, TensorError> {
        let needed = super::element_count(shape)?;
        if needed != self.element_count() {
            return Err(TensorError::ElementCount { shape: shape.to_vec(), needed, given: self.element_count() });
        }
        let mut view = self.contiguous()?;
        view.shape = shape.to_vec();
        view.strides = row_major_strides(shape);
        Ok(view)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::from_f32(shape, (0..n).map(|i| i as f32).collect()).unwrap()
    }

    #[test]
    fn views_keep_logical_order() {
        let t = counting(&[2, 3, 4]);
        let p = t.transpose(0, 2).unwrap();
        assert_eq!(p.shape(), [4, 3, 2]);
        assert!(!p.last_axis_is_contiguous());
        let expected: Vec<f32> =
            (0..4).flat_map(|i| (0..3).flat_map(move |j| (0..2).map(move |k| (k * 12 + j * 4 + i) as f32))).collect();
        assert_eq!(p.to_f32_vec().unwrap(), expected);
        let c = p.contiguous().unwrap();
        assert!(c.is_contiguous());
        assert_eq!(c.to_f32_vec().unwrap(), expected);
        let n = t.narrow(1, 1, 2).unwrap();
        assert_eq!(n.to_f32_vec().unwrap(), [4., 5., 6., 7., 8., 9., 10., 11., 16., 17., 18., 19., 20., 21., 22., 23.]);
        assert_eq!(n.to_bytes().unwrap().len(), 16 * 4);
        assert_eq!(n.reshape(&[16]).unwrap().to_f32_vec().unwrap(), n.to_f32_vec().unwrap());
    }

    #[test]
    fn empty_scalar_and_conversions() {
        let empty = Tensor::zeros(DType::F16, &[2, 0, 3]).unwrap();
        assert_eq!(empty.to_f64_vec().unwrap(), Vec::<f64>::new());
        assert!(empty.narrow(0, 2, 0).unwrap().to_bytes().unwrap().is_empty());
        let scalar = Tensor::from_f32(&[], vec![2.5]).unwrap();
        assert_eq!(scalar.to_f64_vec().unwrap(), [2.5]);
        let b = Tensor::from_f64(DType::BF16, &[2], &[1.0 + 1.0 / 256.0, -3.0]).unwrap();
        assert_eq!(b.to_f64_vec().unwrap(), [1.0, -3.0], "ties go to the even mantissa");
        assert_eq!(b.to_dtype(DType::I32).unwrap().to_elements::<i32>().unwrap(), [1, -3]);
    }

    #[test]
    fn errors_name_both_sides() {
        let t = counting(&[2, 3]);
        let messages = [
            Tensor::from_f32(&[2, 2], vec![0.0]).unwrap_err().to_string(),
            t.narrow(1, 2, 2).unwrap_err().to_string(),
            t.permute(&[0, 0]).unwrap_err().to_string(),
            t.transpose(0, 2).unwrap_err().to_string(),
            t.to_elements::<i32>().unwrap_err().to_string(),
            Tensor::zeros(DType::F32, &[usize::MAX, 2]).unwrap_err().to_string(),
        ];
        insta::assert_snapshot!(messages.join("\n"), @"
        shape [2, 2] needs 4 elements, but 1 were given
        elements 2..4 of axis 1 were asked for, but its extent is 3
        [0, 0] is not a permutation of the 2 axes; name each axis once
        axis 2 was asked for, but the tensor has rank 2
        the tensor is f32 of rank 2 (shape [2, 3]); i32 of rank 2 is needed
        shape [18446744073709551615, 2] has more elements than can be addressed
        ");
    }
}
