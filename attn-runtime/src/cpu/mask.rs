//! Which pairs of a tile are live.
//!
//! What the mask's expression says of a tile's ends comes first (`attn_dsl::sparsity`): most tiles are empty or full by that, and
//! their pairs are not looked at.

use attn_dsl::ir::{NodeId, Op};
use attn_dsl::lower::Lowered;
use attn_dsl::sparsity::Sparsity;

use super::evaluate::{Inputs, Registers};
use super::program::{Program, Stage};
use super::{COLUMNS, ROWS};

/// How much of a tile is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    /// No pair: the tile is skipped.
    Empty,
    /// Every pair: the mask is not looked at.
    Full,
    /// Some pairs.
    Partial,
}

/// A mask, compiled.
#[derive(Debug)]
pub(super) struct MaskProgram {
    /// Root 0: whether a pair is live.
    pairs: Program,
    /// Roots 0 and 1: whether a tile may have a live pair, and whether all of its pairs are live.
    tile: Program,
}

impl MaskProgram {
    pub(super) fn new(lowered: &Lowered, mask: NodeId) -> MaskProgram {
        let mut graph = lowered.graph.clone();
        let sparsity = Sparsity::of(&mut graph, Some(mask));
        MaskProgram {
            pairs: Program::new(&graph, &[mask]),
            tile: Program::new(&graph, &[sparsity.may_live, sparsity.all_live]),
        }
    }

    /// The parameters, and their axes, of which the extremes of blocks are read.
    pub(super) fn ranges(&self) -> Vec<(usize, usize)> {
        let steps = self.tile.steps(Stage::Tile).iter();
        let mut ranges: Vec<(usize, usize)> = steps
            .filter_map(|step| match step.op {
                Op::Extreme { parameter, blocks: Some(axis), .. } => Some((parameter.0 as usize, axis)),
                _ => None,
            })
            .collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges
    }
}

/// A mask's evaluator on one thread, and the tile that it evaluated last.
pub(super) struct MaskTile<'a> {
    program: Option<&'a MaskProgram>,
    pairs: Registers,
    tile: Registers,
    live: Vec<bool>,
}

impl<'a> MaskTile<'a> {
    pub(super) fn new(program: Option<&'a MaskProgram>) -> Self {
        let Some(mask) = program else {
            return MaskTile { program, pairs: Registers::default(), tile: Registers::default(), live: Vec::new() };
        };
        let (pairs, tile) = (Registers::new(&mask.pairs, ROWS, COLUMNS), Registers::new(&mask.tile, 1, 1));
        MaskTile { program, pairs, tile, live: vec![false; ROWS * COLUMNS] }
    }

    /// How much of a tile is live; evaluates the mask on its pairs where its ends do not tell.
    pub(super) fn cover(&mut self, inputs: &Inputs<'_>) -> Coverage {
        let Some(program) = self.program else { return Coverage::Full };
        match self.bound(program, inputs) {
            Coverage::Partial => self.test_pairs(program, inputs),
            known => known,
        }
    }

    /// What the ends of a tile tell.
    fn bound(&mut self, program: &MaskProgram, inputs: &Inputs<'_>) -> Coverage {
        self.tile.run_stage(&program.tile, Stage::Tile, inputs);
        let [may_live, all_live] = [0, 1].map(|root| self.tile.bool_of_tile(&program.tile, root, inputs));
        match (may_live, all_live) {
            (false, _) => Coverage::Empty,
            (true, true) => Coverage::Full,
            (true, false) => Coverage::Partial,
        }
    }

    fn test_pairs(&mut self, program: &MaskProgram, inputs: &Inputs<'_>) -> Coverage {
        self.pairs.run_all(&program.pairs, inputs);
        let count = inputs.queries.len() * inputs.keys.len();
        let live = &mut self.live[..count];
        self.pairs.bool_tile(&program.pairs, 0, inputs, live);
        // Counting has no early exit and so is a vector loop.
        match live.iter().map(|&x| usize::from(x)).sum::<usize>() {
            0 => Coverage::Empty,
            n if n == count => Coverage::Full,
            _ => Coverage::Partial,
        }
    }

    /// Replaces the values of masked pairs, after [`MaskTile::cover`] said `Partial`.
    pub(super) fn apply(&self, values: &mut [f32], masked: f32) {
        for (x, &live) in values.iter_mut().zip(&self.live) {
            *x = if live { *x } else { masked };
        }
    }

    /// Whether a pair is live, by its row-major position, after [`MaskTile::cover`] said `Partial`.
    pub(super) fn is_live(&self, at: usize) -> bool {
        self.live[at]
    }

    /// Adds the live pairs of each row to its count.
    pub(super) fn count(&self, coverage: Coverage, columns: usize, counts: &mut [i32]) {
        match coverage {
            Coverage::Empty => {}
            Coverage::Full => counts.iter_mut().for_each(|count| *count += columns as i32),
            Coverage::Partial => {
                for (count, live) in counts.iter_mut().zip(self.live.chunks_exact(columns)) {
                    *count += live.iter().map(|&x| i32::from(x)).sum::<i32>();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
