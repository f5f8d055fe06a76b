//! The error of every public operation that runs attention.

use crate::call::ArgumentError;
use crate::tensor::TensorError;

/// Why an attention could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument does not fit.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// A tensor could not be made or read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}
