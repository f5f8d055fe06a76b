//! Everything that can go wrong between a source text and a binary.

use std::path::PathBuf;

use crate::cuda::searched::{SearchList, Searched};

/// Why NVRTC gave no binary. Cloning is cheap enough for callers that waited on the same compilation to share one error.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NvrtcError {
    /// No NVRTC on this machine.
    #[error(
        "NVRTC, the library that compiles CUDA source, was not found. Install it with \
         `python3 -m pip install nvidia-cuda-nvrtc` (no GPU needed) or a CUDA toolkit, or set ATTN_NVRTC_PATH to a \
         libnvrtc.so file or its folder. Searched:{}",
        SearchList(searched)
    )]
    NotFound {
        /// Where was looked, in order.
        searched: Vec<Searched>,
    },
    /// A library that was named explicitly cannot be used.
    #[error("{path} cannot be used as NVRTC: {reason}. Give the path of libnvrtc.so (version 12 or newer), or unset ATTN_NVRTC_PATH to search for one", path = path.display())]
    Unusable {
        /// The library or folder that was named.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// This NVRTC is too old, or too new, for the target.
    #[error("NVRTC {major}.{minor} cannot compile for {target}: it supports {supported}. Install another version (`python3 -m pip install nvidia-cuda-nvrtc`) or choose another target", major = version.0, minor = version.1)]
    UnsupportedTarget {
        /// The target that was asked for, like `sm_90a`.
        target: String,
        /// The version of NVRTC.
        version: (u32, u32),
        /// The targets that it supports.
        supported: String,
    },
    /// The source does not compile.
    #[error("{file_name} does not compile with NVRTC {major}.{minor} ({options}):\n{log}", major = version.0, minor = version.1)]
    Compile {
        /// The name given to the source.
        file_name: String,
        /// The version of NVRTC.
        version: (u32, u32),
        /// The options, joined by spaces.
        options: String,
        /// NVRTC's log.
        log: String,
    },
    /// A call failed for another reason than the source.
    #[error("{function} failed for {file_name}: {message} (code {code}){}{log}", if log.is_empty() { "" } else { "\n" })]
    Call {
        /// NVRTC's function.
        function: &'static str,
        /// The name given to the source.
        file_name: String,
        /// The `nvrtcResult`.
        code: i32,
        /// NVRTC's text for it.
        message: String,
        /// The log, where there is one.
        log: String,
    },
    /// C strings end at a NUL, so that the rest would be dropped silently.
    #[error("the {what} holds a NUL byte at offset {offset}; remove it")]
    NulByte {
        /// Which text.
        what: &'static str,
        /// Where.
        offset: usize,
    },
}
