//! Feature maps, lowered: the value of a mapped element and its derivative.
//!
//! Invariant: both are over `Input::Product`, which stands for the element, in a graph of their own: what maps elements adds
//! nothing to the program of pairs.

use super::forward::in_powers_of_two;
use crate::definition::Definition;
use crate::diff::derivative;
use crate::ir::{Graph, Input, NodeId};

/// A feature map `phi` of an element.
#[derive(Clone, Debug)]
pub struct Feature {
    /// The arena of both expressions.
    pub graph: Graph,
    /// `phi(x)`.
    pub value: NodeId,
    /// `phi'(x)`.
    pub slope: NodeId,
}

impl Feature {
    pub(super) fn of(definition: &Definition, map: NodeId) -> Feature {
        let mut graph = definition.graph.clone();
        let (score, element) = (graph.input(Input::Score), graph.input(Input::Product));
        let map = graph.substitute(map, score, element);
        let one = graph.float(1.0);
        let slope = derivative(&mut graph, map, &[element], one)[0];
        let (value, slope) = (in_powers_of_two(&mut graph, map), in_powers_of_two(&mut graph, slope));
        Feature { graph, value, slope }
    }
}
