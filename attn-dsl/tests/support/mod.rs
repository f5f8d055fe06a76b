//! What the tests of lowering share: variants built by hand, and two ways to compute them.
#![allow(dead_code)]

pub(crate) mod dense;
pub(crate) mod tiled;
pub(crate) mod variants;
