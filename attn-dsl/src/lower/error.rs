//! What lowering refuses, and what to write instead.
//!
//! Invariant: every error names a node of the definition's own graph, so that it can be shown on the user's text.

use crate::ir::NodeId;

/// Why a definition cannot be lowered.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LowerError {
    /// The normalizer of exponential weights outgrows the shift.
    #[error(
        "the normalizer has no stable form with an exponential activation: `{expression}` grows as the weights to the \
         power {degree}, and only {allowed} can be shifted away here; take a root of it, as in `sqrt(sum_squares)`, or \
         divide it by a reduction"
    )]
    Unstable {
        /// The part that grows too fast.
        node: NodeId,
        /// It, printed.
        expression: String,
        /// How it grows with the weights.
        degree: f64,
        /// How it may grow at most at its place.
        allowed: f64,
    },
    /// A function that is not homogeneous is applied to a reduction of exponential weights.
    #[error(
        "the normalizer has no stable form with an exponential activation: `{expression}` is not homogeneous in the \
         weights; write it with `+`, `-`, `*`, `/`, `min`, `max`, `abs`, `sqrt`, `ln` and comparisons of `sum`, `max` and \
         `sum_squares`, or choose an activation that is bounded, such as `sigmoid`"
    )]
    NotHomogeneous {
        /// The function's node.
        node: NodeId,
        /// It, printed.
        expression: String,
    },
    /// The normalizer is not one number a row.
    #[error(
        "the normalizer `{expression}` varies from key to key, but a row is divided by one number: write it with `sum`, \
         `max`, `sum_squares`, `count`, `b`, `h`, `q`, the lengths and parameters read at those"
    )]
    VariesWithKey {
        /// The normalizer.
        node: NodeId,
        /// It, printed.
        expression: String,
    },
}

impl LowerError {
    /// The node of the definition's graph that the error is about.
    pub fn node(&self) -> Option<NodeId> {
        match self {
            Self::Unstable { node, .. } | Self::NotHomogeneous { node, .. } | Self::VariesWithKey { node, .. } => {
                Some(*node)
            }
        }
    }
}
