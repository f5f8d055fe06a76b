//! Why a CUDA text can't be translated. Lines count from 1 in the CUDA text.

use thiserror::Error;

/// A construct that the translator doesn't know or understand.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum TranslateError {
    #[error(
        "kernel.cu:{line}: the simulator doesn't know the PTX instruction `{instruction}`; write it with instructions that it knows"
    )]
    UnknownInstruction { line: u32, instruction: String },
    #[error("kernel.cu:{line}: `{instruction}`: {reason}")]
    MalformedInstruction { line: u32, instruction: String, reason: String },
    #[error("kernel.cu:{line}: {reason}")]
    MalformedAsm { line: u32, reason: String },
    #[error("kernel.cu:{line}: {reason}")]
    Unsupported { line: u32, reason: String },
}
