//! Why a kernel can't be built for the host.

use thiserror::Error;

use crate::translate::TranslateError;

/// A kernel that can't be translated, compiled or loaded. Lines are those of the CUDA text.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A PTX instruction that the simulator doesn't carry out.
    #[error(
        "kernel.cu:{line}: the simulator doesn't know the PTX instruction `{instruction}`; write it with instructions that it knows"
    )]
    UnknownInstruction {
        /// The line in the CUDA text.
        line: u32,
        /// The instruction, perhaps shortened.
        instruction: String,
    },
    /// A PTX instruction whose operands don't fit.
    #[error("kernel.cu:{line}: `{instruction}`: {reason}")]
    MalformedInstruction {
        /// The line in the CUDA text.
        line: u32,
        /// The instruction, perhaps shortened.
        instruction: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An asm statement that isn't CUDA's.
    #[error("kernel.cu:{line}: {reason}")]
    MalformedAsm {
        /// The line in the CUDA text.
        line: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else that the simulator can't run, such as a header.
    #[error("kernel.cu:{line}: {reason}")]
    Unsupported {
        /// The line in the CUDA text.
        line: u32,
        /// What it is and what to do instead.
        reason: String,
    },
    /// There is no C++ compiler.
    #[error(
        "no C++ compiler was found (tried {tried}); install g++ 11 or later (`apt install g++`), or name one in the environment variable ATTN_SIM_CXX"
    )]
    NoCompiler {
        /// The programs that were tried.
        tried: String,
    },
    /// The C++ compiler refuses the kernel.
    #[error("the C++ compiler {compiler} refuses the kernel:\n{messages}")]
    Compiler {
        /// The program.
        compiler: String,
        /// Its errors.
        messages: String,
    },
    /// The kernel has no such function.
    #[error("the kernel has no `extern \"C\" __global__` function named `{name}`; it has: {available}")]
    MissingEntry {
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        available: String,
    },
    /// The compiled kernel can't be loaded.
    #[error("the compiled kernel can't be loaded: {reason}")]
    Load {
        /// What the loader says.
        reason: String,
    },
    /// Files for the compiler can't be written.
    #[error("files for the C++ compiler can't be written; check the folder for temporary files (TMPDIR)")]
    Files(#[from] std::io::Error),
}

impl From<TranslateError> for BuildError {
    fn from(error: TranslateError) -> BuildError {
        match error {
            TranslateError::UnknownInstruction { line, instruction } => {
                BuildError::UnknownInstruction { line, instruction }
            }
            TranslateError::MalformedInstruction { line, instruction, reason } => {
                BuildError::MalformedInstruction { line, instruction, reason }
            }
            TranslateError::MalformedAsm { line, reason } => BuildError::MalformedAsm { line, reason },
            TranslateError::Unsupported { line, reason } => BuildError::Unsupported { line, reason },
        }
    }
}
