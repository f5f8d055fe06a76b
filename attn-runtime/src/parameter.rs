//! Parameters of a variant: typed ones, as the fields of a variant's struct, and the named list that a call takes.
//!
//! Invariants: a [`Parameter`] is a tensor of exactly its type and rank; [`Parameters`] holds each name once, in order.

use std::fmt;
use std::marker::PhantomData;

use crate::tensor::{DType, Element, Tensor, TensorError};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for i32 {}
}

/// The element types of parameters: `f32` (with a gradient, unless `const`) and `i32`.
pub trait ParameterElement: Element + sealed::Sealed {}
impl ParameterElement for f32 {}
impl ParameterElement for i32 {}

/// A tensor of type `T` and rank `RANK`: a field of a variant's struct.
///
/// Numbers, arrays and vectors convert into it where the rank says their shape; `Parameter::new` takes any shape.
#[derive(Clone)]
pub struct Parameter<T, const RANK: usize> {
    tensor: Tensor,
    element: PhantomData<T>,
}

impl<T: ParameterElement, const RANK: usize> Parameter<T, RANK> {
    /// A parameter of this shape with the values in row-major order.
    pub fn new(shape: [usize; RANK], values: Vec<T>) -> Result<Self, TensorError> {
        Ok(Parameter { tensor: Tensor::from_elements(&shape, values)?, element: PhantomData })
    }

    /// A parameter that shares the tensor's memory. Its type and rank must be the parameter's.
    pub fn from_tensor(tensor: Tensor) -> Result<Self, TensorError> {
        if tensor.dtype() != T::DTYPE || tensor.rank() != RANK {
            return Err(TensorError::Kind {
                dtype: tensor.dtype(),
                rank: tensor.rank(),
                shape: tensor.shape().to_vec(),
                needed_dtype: T::DTYPE,
                needed_rank: RANK,
            });
        }
        Ok(Parameter { tensor, element: PhantomData })
    }

    /// The tensor.
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }
}

fn exact<T: ParameterElement, const RANK: usize>(shape: [usize; RANK], values: Vec<T>) -> Parameter<T, RANK> {
    Parameter::new(shape, values).expect("the shape was taken from the values")
}

impl From<f32> for Parameter<f32, 0> {
    fn from(value: f32) -> Self {
        exact([], vec![value])
    }
}

impl From<i32> for Parameter<i32, 0> {
    fn from(value: i32) -> Self {
        exact([], vec![value])
    }
}

impl<T: ParameterElement> From<Vec<T>> for Parameter<T, 1> {
    fn from(values: Vec<T>) -> Self {
        exact([values.len()], values)
    }
}

impl<T: ParameterElement> From<&[T]> for Parameter<T, 1> {
    fn from(values: &[T]) -> Self {
        values.to_vec().into()
    }
}

impl<T: ParameterElement, const N: usize> From<[T; N]> for Parameter<T, 1> {
    fn from(values: [T; N]) -> Self {
        values.to_vec().into()
    }
}

impl<T: ParameterElement, const M: usize, const N: usize> From<[[T; N]; M]> for Parameter<T, 2> {
    fn from(values: [[T; N]; M]) -> Self {
        exact([M, N], values.into_iter().flatten().collect())
    }
}

impl<T: ParameterElement, const RANK: usize> TryFrom<Tensor> for Parameter<T, RANK> {
    type Error = TensorError;

    fn try_from(tensor: Tensor) -> Result<Self, TensorError> {
        Self::from_tensor(tensor)
    }
}

impl<T, const RANK: usize> fmt::Debug for Parameter<T, RANK> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameter({:?})", self.tensor)
    }
}

/// Tensors by name, in the order of their insertion.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    entries: Vec<(String, Tensor)>,
}

impl Parameters {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor, or replaces the one of that name and returns it.
    pub fn insert(&mut self, name: impl Into<String>, tensor: impl Into<Tensor>) -> Option<Tensor> {
        let (name, tensor) = (name.into(), tensor.into());
        match self.entries.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => Some(std::mem::replace(old, tensor)),
            None => {
                self.entries.push((name, tensor));
                None
            }
        }
    }

    /// These parameters with one more, or with another tensor of that name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, tensor: impl Into<Tensor>) -> Self {
        self.insert(name, tensor);
        self
    }

    /// The tensor of a name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.entries.iter().find(|(n, _)| n == name).map(|(_, tensor)| tensor)
    }

    /// Names and tensors in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The number of parameters.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<N: Into<String>> FromIterator<(N, Tensor)> for Parameters {
    fn from_iter<I: IntoIterator<Item = (N, Tensor)>>(entries: I) -> Self {
        entries.into_iter().fold(Parameters::new(), |all, (name, tensor)| all.with(name, tensor))
    }
}

impl<T: ParameterElement, const RANK: usize> From<Parameter<T, RANK>> for Tensor {
    fn from(parameter: Parameter<T, RANK>) -> Tensor {
        parameter.tensor
    }
}

impl<T: ParameterElement, const RANK: usize> From<&Parameter<T, RANK>> for Tensor {
    fn from(parameter: &Parameter<T, RANK>) -> Tensor {
        parameter.tensor.clone()
    }
}

impl From<&Tensor> for Tensor {
    fn from(tensor: &Tensor) -> Tensor {
        tensor.clone()
    }
}

/// The type of a declared parameter's tensor.
pub(crate) fn dtype_of(ty: attn_dsl::ir::Type) -> DType {
    match ty {
        attn_dsl::ir::Type::Int => DType::I32,
        _ => DType::F32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_have_the_shape_of_their_values() {
        let scalar: Parameter<f32, 0> = 2.0.into();
        let vector: Parameter<i32, 1> = [1, 2, 3].into();
        let matrix: Parameter<f32, 2> = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]].into();
        assert_eq!(scalar.tensor().shape(), [0usize; 0]);
        assert_eq!(vector.tensor().shape(), [3]);
        assert_eq!(matrix.tensor().shape(), [2, 3]);
        assert!(Parameter::<f32, 1>::from_tensor(vector.tensor().clone()).is_err());
        assert!(Parameter::new([2, 2], vec![1.0f32]).is_err());
        let parameters = Parameters::new().with("a", scalar).with("b", &vector).with("a", matrix);
        assert_eq!(parameters.iter().map(|(n, _)| n).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(parameters.get("a").unwrap().rank(), 2);
    }
}
