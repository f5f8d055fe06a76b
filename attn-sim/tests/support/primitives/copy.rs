//! Copies without tensor maps, and barriers: `primitive_copy.cu`.

use crate::support::case::{Case, bytes};
use crate::support::fixture::{copy_ring, named_barrier_hand_off, with_prelude};
use crate::support::random::Random;

fn case(entry: &'static str, threads: u32) -> Case {
    Case::new(entry, with_prelude(&[], include_str!("../../kernels/primitive_copy.cu")), entry, threads)
}

pub fn cases() -> Vec<Case> {
    let rest = [zero_fill(), bulk_copies(), reduce_vectors(), mbarrier_phases(), registers()];
    [copy_ring(6), named_barrier_hand_off(5)].into_iter().chain(rest).collect()
}

fn zero_fill() -> Case {
    let input = Random::new(10).bytes(128 * (4 + 8 + 16));
    let mut expected = input.clone();
    for thread in 0..128 {
        let mut keep = |begin: usize, bytes: usize, kept: usize| expected[begin + kept..begin + bytes].fill(0);
        keep(thread * 4, 4, thread % 5);
        keep(512 + thread * 8, 8, thread % 9);
        keep(1536 + thread * 16, 16, if thread % 3 == 0 { 16 } else { thread % 17 });
    }
    case("copy_with_zero_fill", 128).reads("in", input).writes("out", expected)
}

fn bulk_copies() -> Case {
    const BLOCKS: usize = 3;
    let mut random = Random::new(11);
    let mut integers = |count: usize| -> Vec<f32> { (0..count).map(|_| random.integer(1000) as f32).collect() };
    let (input, before) = (integers(BLOCKS * 512), integers(512));
    let copied = input.iter().map(|x| x + 1.0);
    let added = (0..512).map(|i| before[i] + (0..BLOCKS).map(|block| input[block * 512 + i] + 1.0).sum::<f32>());
    case("bulk_copies", 128)
        .blocks(BLOCKS as u32)
        .reads("in", bytes(input.iter().copied()))
        .writes("copied", bytes(copied))
        .updates("added", bytes(before.iter().copied()), bytes(added))
}

fn reduce_vectors() -> Case {
    const BLOCKS: usize = 5;
    let mut random = Random::new(12);
    let mut integers = |count: usize| -> Vec<f32> { (0..count).map(|_| random.integer(1000) as f32).collect() };
    let (input, before) = (integers(BLOCKS * 256), integers(256));
    let sums = (0..256).map(|i| before[i] + (0..BLOCKS).map(|block| input[block * 256 + i]).sum::<f32>());
    case("reduce_vectors", 64).blocks(BLOCKS as u32).reads("in", bytes(input.iter().copied())).updates(
        "out",
        bytes(before.iter().copied()),
        bytes(sums),
    )
}

fn mbarrier_phases() -> Case {
    const PHASES: u32 = 5;
    let expected = (0..PHASES).flat_map(|phase| (0..96).map(move |thread| phase * 1000 + (thread * 7 + phase) % 96));
    case("mbarrier_phases", 96).writes("out", bytes(expected)).value(bytes([PHASES]))
}

fn registers() -> Case {
    let mut random = Random::new(13);
    let input: Vec<u32> = (0..384).map(|_| random.word()).collect();
    let expected = (0..384).map(|i| if i < 128 { input[i].wrapping_add(1) } else { input[i].wrapping_mul(3) });
    let expected = bytes(expected);
    case("registers", 384).reads("in", bytes(input)).writes("out", expected)
}
