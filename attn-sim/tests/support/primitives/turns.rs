//! Blocks that wait for each other: `primitive_turns.cu`.

use crate::support::case::{Case, bytes};
use crate::support::fixture::with_prelude;
use crate::support::random::Random;

const TURNS: &str = include_str!("../../kernels/primitive_turns.cu");
const PART: usize = 256;

pub(crate) fn cases() -> Vec<Case> {
    vec![ordered_additions(3, 20, 4, 21)]
}

/// Parts are added to tiles, in an order that their bits depend on, by `blocks` blocks of which each adds `share` at most.
pub(crate) fn ordered_additions(tiles: usize, works: usize, blocks: u32, share: usize) -> Case {
    let mut random = Random::new(16);
    let parts: Vec<f32> = (0..works * PART).map(|_| random.normal()).collect();
    let mut sums = vec![0.0; tiles * PART];
    for (work, part) in parts.chunks_exact(PART).enumerate() {
        let tile = &mut sums[work % tiles * PART..][..PART];
        tile.iter_mut().zip(part).for_each(|(sum, x)| *sum = if work < tiles { *x } else { *sum + x });
    }
    let turns = (0..tiles).map(|tile| ((works - tile).div_ceil(tiles)) as i32);
    // every block takes one number too many, unless all stop at their share
    assert!(share > works || share * blocks as usize == works, "how often the counter is taken must be known");
    let taken = if share > works { works + blocks as usize } else { works };
    Case::new("ordered_additions", with_prelude(&[], TURNS), "ordered_additions", 64)
        .blocks(blocks)
        .reads("in", bytes(parts))
        .writes("out", bytes(sums))
        .updates("turns", bytes(vec![0; tiles]), bytes(turns))
        .updates("counter", bytes([0]), bytes([taken as u32]))
        .value(bytes([tiles as i32]))
        .value(bytes([works as i32]))
        .value(bytes([share as i32]))
}

/// Two blocks that wait for each other many times.
pub(crate) fn to_and_fro(rounds: usize) -> Case {
    let before: Vec<f32> = (0..64).map(|i| i as f32 / 8.0).collect();
    let change = |x: &f32| (0..2 * rounds).fold(*x, |x, turn| x * 0.75 + (turn % 2 + 1) as f32);
    let after: Vec<f32> = before.iter().map(change).collect();
    Case::new("to_and_fro", with_prelude(&[], TURNS), "to_and_fro", 64)
        .blocks(2)
        .updates("values", bytes(before), bytes(after))
        .updates("turn", bytes([0]), bytes([2 * rounds as i32]))
        .value(bytes([rounds as i32]))
}
