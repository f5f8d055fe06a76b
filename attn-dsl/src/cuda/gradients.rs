//! How the gradient of each learnable parameter is reduced, by the axes that it has.

use crate::definition::{Axis, Definition, Parameter};
use crate::ir::{Binary, Graph, NodeId, ParameterId};
use crate::lower::{Lowered, ParameterGradient};
use crate::plan::PlanError;

/// Where a parameter's gradient is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GradientKind {
    /// No key axis: one partial sum a row, `[b, h, q]`, from the dq kernel. In the Hopper schedule pairs leave one a warp and tile of
    /// keys instead, `[b, h, tile, warp]`.
    Row,
    /// A key axis and no query axis: one partial sum a key, `[b, h, kv]`, from the dk/dv kernel.
    Column,
    /// Axes that are indexed by expressions: partial sums `[b, h, tile of queries, entry]`, or `[b, h, tile of keys, warp, entry]` where the
    /// Hopper schedule sums along diagonals.
    Table,
    /// A query and a key axis: written in place.
    Dense,
}

/// The kind of a parameter.
///
/// # Errors
/// When it mixes computed indices with a query or key axis.
pub fn gradient_kind(parameter: &Parameter) -> Result<GradientKind, PlanError> {
    let has = |axis: &Axis| parameter.axes.contains(axis);
    let table = parameter.axes.iter().any(|axis| matches!(axis, Axis::Fixed(_) | Axis::Named(_)));
    match (table, has(&Axis::Query), has(&Axis::Key)) {
        (true, false, false) => Ok(GradientKind::Table),
        (true, _, _) => Err(PlanError::ParameterGradient {
            parameter: parameter.name.clone(),
            reason: "it has both a computed index and a query or key axis; split it into two parameters, or mark it `const`",
        }),
        (false, true, true) => Ok(GradientKind::Dense),
        (false, _, true) => Ok(GradientKind::Column),
        (false, _, false) => Ok(GradientKind::Row),
    }
}

/// Whether the partial sums of a parameter's gradient in a packed batch are laid out by sequence and position, as if every sequence were
/// as long as the longest one: `[sequences, h, max_seqlen]`, zero where there is no position. Others are added up over all sequences,
/// and follow each other as the rows of the batch do: `[1, h, total_q]`, tables `[1, h, tile, entry]` by tiles as blocks count them.
pub fn sums_by_position(parameter: &Parameter) -> bool {
    parameter.axes.iter().any(|axis| matches!(axis, Axis::Batch | Axis::Query | Axis::Key))
}

/// All contributions to one parameter.
#[derive(Clone, Debug)]
pub(crate) struct Gradient {
    pub(crate) parameter: ParameterId,
    pub(crate) kind: GradientKind,
    /// The sum of the contributions of a pair, for all kinds but tables.
    pub(crate) pair: Option<NodeId>,
    /// The sum of the contributions of a row.
    pub(crate) row: Option<NodeId>,
    /// The reads of a table: index and contribution of a pair.
    pub(crate) reads: Vec<(Vec<NodeId>, NodeId)>,
}

/// The gradients of a lowered variant, one entry a parameter in the order of declaration; sums go to `graph`.
pub(crate) fn gradients(graph: &mut Graph, lowered: &Lowered) -> Result<Vec<Gradient>, PlanError> {
    let definition: &Definition = &lowered.definition;
    let mut found: Vec<Gradient> = vec![];
    for (index, parameter) in definition.parameters.iter().enumerate() {
        let id = ParameterId(u32::try_from(index).expect("few parameters"));
        let of = |gradient: &&ParameterGradient| gradient.parameter == id;
        let contributions: Vec<_> = lowered.backward.parameters.iter().filter(of).cloned().collect();
        if contributions.is_empty() {
            continue;
        }
        let kind = gradient_kind(parameter)?;
        let mut gradient = Gradient { parameter: id, kind, pair: None, row: None, reads: vec![] };
        for contribution in contributions {
            let value = contribution.value;
            match (kind, contribution.per_pair) {
                (GradientKind::Table, true) => gradient.reads.push((contribution.index, value)),
                (GradientKind::Table, false) => {
                    return Err(PlanError::ParameterGradient {
                        parameter: parameter.name.clone(),
                        reason: "the normalizer reads it at a computed index; give it an axis of its own, such as [h]",
                    });
                }
                (_, true) => gradient.pair = Some(add(graph, gradient.pair, value)),
                (_, false) => gradient.row = Some(add(graph, gradient.row, value)),
            }
        }
        found.push(gradient);
    }
    Ok(found)
}

fn add(graph: &mut Graph, sum: Option<NodeId>, term: NodeId) -> NodeId {
    sum.map_or(term, |sum| graph.binary(Binary::Add, sum, term))
}
