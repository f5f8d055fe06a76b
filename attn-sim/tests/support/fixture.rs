//! Kernel texts: the prelude, the `wgmma` wrappers that a kernel needs, and the kernel.

use super::case::{Case, bytes};
use super::random::Random;
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

const COPIES: &str = include_str!("../kernels/primitive_copy.cu");

/// Two warps hand tiles to two others through a ring filled by cp.async.
pub fn copy_ring(tiles: usize) -> Case {
    let input = Random::new(14).bytes(tiles * 1024);
    let backwards = input.chunks(1024).flat_map(|tile| tile.chunks(16).rev()).flatten().copied().collect();
    Case::new("copy_ring", with_prelude(&[], COPIES), "copy_ring", 128)
        .reads("in", input)
        .writes("out", backwards)
        .value(bytes([tiles as i32]))
}

/// Two warps hand rounds of values to two others.
pub fn named_barrier_hand_off(rounds: usize) -> Case {
    let mut random = Random::new(15);
    let input: Vec<u32> = (0..rounds * 64).map(|_| random.word()).collect();
    let expected: Vec<u32> = (0..rounds * 64).map(|i| input[i ^ 33].wrapping_add((i / 64) as u32)).collect();
    Case::new("named_barrier_hand_off", with_prelude(&[], COPIES), "named_barrier_hand_off", 128)
        .reads("in", bytes(input))
        .writes("out", bytes(expected))
        .value(bytes([rounds as i32]))
}
