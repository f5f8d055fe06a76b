//! Kernel texts: the prelude, the `wgmma` wrappers that a kernel needs, and the kernel.

use super::wgmma::Wgmma;

const PRELUDE: &str = include_str!("../kernels/prelude.cu");
const FORWARD: &str = include_str!("../kernels/hopper_forward.cu");
const BACKWARD: &str = include_str!("../kernels/hopper_backward.cu");

/// A kernel's whole text.
pub fn with_prelude(wrappers: &[Wgmma], kernel: &str) -> String {
    let wrappers: String = wrappers.iter().map(Wgmma::text).collect();
    format!("{PRELUDE}\n{wrappers}\n{kernel}")
}

/// `hopper_forward.cu`.
pub fn hopper_forward(head_dim: usize) -> String {
    let wrappers = [Wgmma::shared(128), Wgmma::registers(head_dim).b_transposed()];
    with_prelude(&wrappers, &format!("constexpr int HEAD_DIM = {head_dim};\n{FORWARD}"))
}

/// `hopper_backward.cu`.
pub fn hopper_backward(head_dim: usize) -> String {
    let block_q = if head_dim == 64 { 128 } else { 64 };
    let wrappers =
        [Wgmma::shared(block_q), Wgmma::registers(head_dim).b_transposed(), Wgmma::shared(64).b_transposed()];
    with_prelude(&wrappers, &format!("constexpr int HEAD_DIM = {head_dim};\n{BACKWARD}"))
}
