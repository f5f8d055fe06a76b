//! The forward passes of a variant: the main one, and those beside it that the same kernel computes.

use super::arguments::TensorRole;
use crate::ir::Row;
use crate::lower::SavedRow;
use crate::plan::Pass;

/// Which forward pass of a variant a kernel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The output.
    Main,
    /// The second output.
    Second,
    /// The rows of a pass before, by its number: nothing is made of values.
    Rows(u8),
}

impl Part {
    /// Whether the Hopper schedule of forward passes computes it: that of rows alone is another.
    pub(super) fn takes_hopper(self) -> bool {
        !matches!(self, Part::Rows(_))
    }

    /// The tensor that is written.
    pub(super) fn output(self) -> TensorRole {
        if self == Part::Second { TensorRole::SecondOutput } else { TensorRole::Output }
    }

    pub(super) fn pass(self) -> Pass {
        if let Part::Rows(_) = self { Pass::Rows } else { Pass::Forward }
    }

    /// The array that a value of a row is saved to; none for what a row pass has saved.
    pub(super) fn array(self, saved: SavedRow) -> Option<SavedRow> {
        match (self, saved) {
            (_, SavedRow::Row(_)) => None,
            // nobody reads what a second output is divided by
            (Part::Second, _) => None,
            (Part::Main, saved) => Some(saved),
            (Part::Rows(pass), saved) => saved.of_pass().map(|value| SavedRow::Row(Row { pass, value })),
        }
    }
}
