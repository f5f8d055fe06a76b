//! Which pairs of a tile are live.

use super::evaluate::{Inputs, Registers};
use super::program::Program;
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

/// A mask's evaluator on one thread, and the tile that it evaluated last.
pub(super) struct MaskTile<'a> {
    program: Option<&'a Program>,
    registers: Option<Registers>,
    live: Vec<bool>,
}

impl<'a> MaskTile<'a> {
    pub(super) fn new(program: Option<&'a Program>) -> Self {
        let registers = program.map(|program| Registers::new(program, ROWS, COLUMNS));
        let live = if program.is_some() { vec![false; ROWS * COLUMNS] } else { Vec::new() };
        MaskTile { program, registers, live }
    }

    /// Evaluates the mask on a tile.
    pub(super) fn cover(&mut self, inputs: &Inputs<'_>) -> Coverage {
        let (Some(program), Some(registers)) = (self.program, &mut self.registers) else {
            return Coverage::Full;
        };
        registers.run_all(program, inputs);
        let count = inputs.queries.len() * inputs.keys.len();
        let live = &mut self.live[..count];
        registers.bool_tile(program, 0, inputs, live);
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
