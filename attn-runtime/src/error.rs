//! The error of every public operation that runs attention.

use attn_dsl::Diagnostics;
use attn_dsl::lower::LowerError;
use attn_dsl::plan::PlanError;

use crate::blocks::BlockListError;
use crate::call::ArgumentError;
use crate::cuda::{CudaError, NvrtcError};
#[cfg(feature = "sim")]
use crate::sim::SimError;
use crate::tensor::TensorError;

/// Why an attention could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument does not fit.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// Lists or tables of blocks do not fit.
    #[error(transparent)]
    Blocks(#[from] BlockListError),
    /// The mask does not fit the variant's language.
    #[error(transparent)]
    Mask(#[from] Diagnostics),
    /// The variant has no form that can be computed.
    #[error("`{variant}` cannot be computed: {source}")]
    Lower {
        /// The name of the variant.
        variant: String,
        /// What is wrong and what to write instead.
        source: LowerError,
    },
    /// A tensor could not be made or read.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// No kernel can be planned for the shape on the device.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The GPU or its driver refused.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// A kernel could not be compiled.
    #[error(transparent)]
    Nvrtc(#[from] NvrtcError),
    /// The simulator found a mistake in a kernel, or could not run it.
    #[cfg(feature = "sim")]
    #[error(transparent)]
    Sim(#[from] SimError),
    /// A mistake in attn itself.
    #[error("{0}; this is a mistake in attn, please report it")]
    Internal(String),
}
