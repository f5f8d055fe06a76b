//! A checked variant: what the checker produces and the only thing that later stages accept.
//!
//! Invariants, held by [`crate::check`]: every name is resolved; every expression is well typed; learnable parameters are used
//! differentiably and in the index pattern of their kind; the activation and the normalizer have a stable form.

use crate::ir::{Graph, NodeId, ParameterId, SizeId, Type};

/// An axis of a parameter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// `b`: one entry per batch, or one that serves all (extent 1 broadcasts).
    Batch,
    /// `h`: one entry per query head, or one that serves all (extent 1 broadcasts).
    Head,
    /// `q`: one entry per query position.
    Query,
    /// `kv`: one entry per key position.
    Key,
    /// A literal: exactly so many entries.
    Fixed(u32),
    /// A name: as many entries as the tensor has; the name is an integer in expressions.
    Named(SizeId),
}

/// A parameter of a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The user's name.
    pub name: String,
    /// The user's documentation.
    pub docs: String,
    /// `Float` (f32) or `Int` (i32).
    pub ty: Type,
    /// Whether it gets a gradient: a float that is not marked `const`.
    pub learnable: bool,
    /// Its axes, outermost first; empty for a scalar.
    pub axes: Vec<Axis>,
}

/// Which of a row's live keys have a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Those with the greatest scores; all where a row has no more live keys than that.
    TopK {
        /// Int, of row rate or less: how many. None where it is below 1.
        k: NodeId,
        /// Whether every key is kept whose score is that of the last one kept; else the first ones among them are.
        ties: bool,
    },
    /// Bool, over `Input::Score`, `Input::GreatestScore` and `Input::Probability` (both over all live keys), indices and
    /// parameters: those for which it holds. Keys whose score is NaN are kept, so that it reaches the output.
    Where(NodeId),
}

/// A variant of attention, checked.
///
/// Per batch and head: `s_ij = score(scale * phi(q_i) . phi(k_j))`, `phi` the feature maps of single elements,
/// `w_ij = activation(s_ij)` (0 where masked), `z_i = normalizer(reductions of w)`, `p_ij = w_ij / z_i`,
/// `O_i = sum_j post(p_ij) * v_j`. A pair that `keep` drops has weight 0 and adds nothing to the output; it stays live, so that it is
/// counted. The weights of an entmax are `p_ij = max((alpha - 1) s_ij - tau_i, 0)^(1 / (alpha - 1))`, with the `tau_i` that makes
/// them sum to 1 over what is kept.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The user's name.
    pub name: String,
    /// The user's documentation.
    pub docs: String,
    /// The canonical text: parses to this definition again, and prints to itself.
    pub text: String,
    /// The parameters in the order of their declaration.
    pub parameters: Vec<Parameter>,
    /// The named run-time lengths.
    pub sizes: Vec<String>,
    /// The arena of the expressions below.
    pub graph: Graph,
    /// Float, over `Input::Product` and the other inputs of the first group.
    pub score: NodeId,
    /// Float, over `Input::Score` (and indices and parameters).
    pub activation: NodeId,
    /// Float, over `Input::Reduction` and row inputs; `None` is `none`: the weights are used as they are.
    pub normalizer: Option<NodeId>,
    /// Float, of tile rate: the alpha of an entmax (Peters et al., 2019), above 1 and at most 2, which replaces activation
    /// (`Input::Score` then) and normalizer (`None` then).
    pub entmax: Option<NodeId>,
    /// Which of a row's live keys have a weight; `None` is all.
    pub keep: Option<Keep>,
    /// Float, over `Input::Probability`, indices and parameters: what becomes of a normalized weight; `None` is itself.
    pub post: Option<NodeId>,
    /// Bool: whether the pair is live; `None` is all live.
    pub mask: Option<NodeId>,
    /// The feature maps of q and of k: float, over `Input::Score`, which stands for the element; `None` is the element itself.
    pub features: [Option<NodeId>; 2],
}

impl Definition {
    /// A parameter by its id.
    pub fn parameter(&self, id: ParameterId) -> &Parameter {
        &self.parameters[id.0 as usize]
    }
}
