//! What the instructions compute: the arithmetic and the index maps of matrix instructions, descriptors and tensor maps.
//!
//! Every function here is pure: it neither knows threads nor memory. The machine decides when an instruction happens and
//! fetches its bytes; this module says which bytes, and what becomes of them.
//!
//! Invariants: nothing here depends on another module of the crate; what a kernel can get wrong is an error value, and only
//! what the machine gets wrong (a slice of the wrong length) panics.

pub(crate) mod descriptor;
pub(crate) mod element;
pub(crate) mod fragment;
pub(crate) mod matrix;
pub(crate) mod mma;
mod swizzle;
pub(crate) mod tensor_map;
pub(crate) mod wgmma;
