//! Gradients of parameters in the linear-time schedule: what every query and every key adds, from the sums that the walks leave.
//!
//! Invariants: what queries add to a parameter without computed indices are partial sums by row (`row_grad_*`), what keys add by
//! key (`grad_*`); a table's entries are summed by one thread each, in the order of the positions.

use minijinja::context;

use super::arguments::Argument;
use super::assemble::{Machinery, Variant};
use super::gradients::{GradientKind, gradient_kind};
use super::linear::{Own, plain};
use super::{Kernel, KernelKind};
use crate::definition::Axis;
use crate::ir::{Affine, Graph, NodeId, ParameterId};
use crate::lower::{FactorGradient, Linear, Lowered, Side};
use crate::plan::{PlanError, Shape, Target};

const THREADS: u32 = 128;

/// The kernels, none where no parameter is learnable.
pub(super) fn parameter_kernels(
    lowered: &Lowered,
    linear: &Linear,
    shape: Shape,
    target: Target,
) -> Result<Vec<Kernel>, PlanError> {
    let mut kernels = vec![];
    for side in [Side::Query, Side::Key] {
        kernels.extend(side_kernel(lowered, linear, side, shape, target)?);
    }
    for index in 0..lowered.definition.parameters.len() {
        let id = ParameterId(u32::try_from(index).expect("few parameters"));
        kernels.extend(table_kernel(lowered, linear, id, shape, target)?);
    }
    Ok(kernels)
}

/// What the rows or the keys add to parameters without computed indices.
fn side_kernel(
    lowered: &Lowered,
    linear: &Linear,
    side: Side,
    shape: Shape,
    target: Target,
) -> Result<Option<Kernel>, PlanError> {
    let mut own_lowered = lowered.clone();
    let graph = &mut own_lowered.graph;
    // by parameter: the factor of the sum, and what the normalizer adds
    let mut found: Vec<(ParameterId, Option<NodeId>, Option<NodeId>)> = vec![];
    for index in 0..lowered.definition.parameters.len() {
        let id = ParameterId(u32::try_from(index).expect("few parameters"));
        let pairs = linear.parameters.iter().filter(|gradient| gradient.parameter == id && gradient.side == side);
        let pairs: Vec<NodeId> = pairs.map(|gradient| gradient.slope).collect();
        let rows = lowered.backward.parameters.iter();
        let rows = rows.filter(|gradient| gradient.parameter == id && !gradient.per_pair && side == Side::Query);
        let rows: Vec<NodeId> = rows.map(|gradient| gradient.value).collect();
        if pairs.is_empty() && rows.is_empty() {
            continue;
        }
        if gradient_kind(lowered.definition.parameter(id))? == GradientKind::Table {
            if rows.is_empty() {
                continue;
            }
            return Err(PlanError::ParameterGradient {
                parameter: lowered.definition.parameter(id).name.clone(),
                reason: "the normalizer reads it at a computed index; give it an axis of its own, such as [h]",
            });
        }
        let mut sum = |terms: Vec<NodeId>| terms.into_iter().reduce(|a, b| graph.sum(a, b));
        found.push((id, sum(pairs), sum(rows)));
    }
    if found.is_empty() {
        return Ok(None);
    }
    let variant = Variant::new(&own_lowered, shape, target);
    let mut own = Own::new(&variant);
    let of_pairs = |id: ParameterId| format!("{}_slope{}", if side == Side::Query { "query" } else { "key" }, id.0);
    let names: Vec<[String; 2]> = found.iter().map(|(id, ..)| [of_pairs(*id), format!("query_term{}", id.0)]).collect();
    let mut wanted: Vec<(&str, Side, NodeId)> = vec![];
    for ([slope, term], (_, pairs, rows)) in names.iter().zip(&found) {
        wanted.extend(pairs.map(|root| (slope.as_str(), side, root)));
        wanted.extend(rows.map(|root| (term.as_str(), side, root)));
    }
    own.functions_of(&wanted);
    let sums = found.iter().any(|(_, pairs, _)| pairs.is_some());
    let mut members = vec![];
    let mut gradients = vec![];
    for ([slope, term], (id, pairs, rows)) in names.iter().zip(&found) {
        let (argument, array) = match side {
            Side::Query => (Argument::RowPartial(*id), "row_grad_"),
            Side::Key => (Argument::Partial(*id), "grad_"),
        };
        members.push(argument);
        let terms = [
            pairs.map(|_| format!("sum * {slope}(tile, place)")),
            // rows without a live key add nothing
            rows.map(|_| match linear.causal {
                true => format!("(at + kv_len - q_len >= 0 ? {term}(tile, place) : 0.f)"),
                false => format!("{term}(tile, place)"),
            }),
        ];
        let value = terms.into_iter().flatten().collect::<Vec<_>>().join(" + ");
        gradients.push((format!("{array}{}", variant.name_of(*id)), value));
    }
    if sums {
        members.push(Argument::ProductSums(side));
    }
    let own = own.text(&variant, &mut members);
    let (entry, name) = match side {
        Side::Query => ("attn_linear_query_gradients", "linear_query_gradients"),
        Side::Key => ("attn_linear_key_gradients", "linear_key_gradients"),
    };
    let [side_name, length, structure, loader, sums_name] = side_names(side);
    let machine = context! {
        table => (),
        entry,
        side => side_name,
        length,
        structure,
        loader,
        sums => sums.then_some(sums_name),
        gradients,
    };
    let constants = format!("constexpr int THREADS = {THREADS};\n");
    let summary = format!("gradients of parameters, by {side_name}");
    let source = variant.source("linear_parameters", &summary, &constants, &own, machine, Machinery::Plain);
    let kind = KernelKind::LinearGradients(side);
    Ok(Some(plain(&variant, entry, name, kind, source, own, members, THREADS)))
}

/// A side's name, length, structure, loader and sums.
fn side_names(side: Side) -> [&'static str; 5] {
    match side {
        Side::Query => ["query", "q_len", "Query", "load_query", "query_sums"],
        Side::Key => ["key", "kv_len", "Key", "load_key", "key_sums"],
    }
}

/// A read of a table: its side, the entry of position 0, and the factor of the sum.
fn read_of(graph: &mut Graph, gradient: &FactorGradient, axis: usize) -> (Side, NodeId, NodeId) {
    let affine = Affine::of(graph, gradient.index[axis]).expect("a factorised weight reads tables by position");
    let side = if affine.q == 1 { Side::Query } else { Side::Key };
    (side, affine.rest, gradient.slope)
}

fn table_kernel(
    lowered: &Lowered,
    linear: &Linear,
    id: ParameterId,
    shape: Shape,
    target: Target,
) -> Result<Option<Kernel>, PlanError> {
    let parameter = lowered.definition.parameter(id);
    let contributions: Vec<_> = linear.parameters.iter().filter(|gradient| gradient.parameter == id).collect();
    if contributions.is_empty() || gradient_kind(parameter)? != GradientKind::Table {
        return Ok(None);
    }
    let axis = parameter.axes.iter().position(|axis| matches!(axis, Axis::Fixed(_) | Axis::Named(_)));
    let axis = axis.expect("a table has such an axis");
    let mut own_lowered = lowered.clone();
    let reads: Vec<_> = contributions.iter().map(|gradient| read_of(&mut own_lowered.graph, gradient, axis)).collect();
    let variant = Variant::new(&own_lowered, shape, target);
    let mut own = Own::new(&variant);
    let names: Vec<String> = (0..reads.len()).map(|number| format!("slope{number}")).collect();
    let wanted: Vec<_> =
        names.iter().zip(&reads).map(|(name, (side, _, slope))| (name.as_str(), *side, *slope)).collect();
    for (_, shift, _) in &reads {
        own.values.demand(*shift, &[]);
    }
    own.functions_of(&wanted);
    let reads: Vec<_> = names
        .iter()
        .zip(&reads)
        .map(|(name, (side, shift, _))| {
            let [_, length, structure, loader, sums] = side_names(*side);
            let (_, texts) = own.values.body(&[*shift], &[]);
            context! { shift => texts[0].clone(), length, structure, loader, sums, slope => name }
        })
        .collect();
    let mut members = vec![Argument::Partial(id)];
    for side in [Side::Query, Side::Key] {
        if contributions.iter().any(|gradient| gradient.side == side) {
            members.push(Argument::ProductSums(side));
        }
    }
    let reads_it = variant.common_arguments(&own.roots).contains(&Argument::Parameter(id));
    if !reads_it {
        members.push(Argument::Parameter(id));
    }
    let own = own.text(&variant, &mut members);
    let machine = context! {
        table => variant.name_of(id),
        entry => "attn_linear_table_grad",
        axis,
        reads,
    };
    let constants = format!("constexpr int THREADS = {THREADS};\n");
    let summary = format!("gradient of {}", parameter.name);
    let source = variant.source("linear_parameters", &summary, &constants, &own, machine, Machinery::Plain);
    let (entry, name) = ("attn_linear_table_grad", format!("linear_table_{}", variant.name_of(id)));
    let kind = KernelKind::LinearTable(id);
    Ok(Some(plain(&variant, entry, &name, kind, source, own, members, THREADS)))
}
