//! The runtime of attn.

pub mod cuda;
