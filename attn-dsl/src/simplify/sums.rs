//! Sums and differences as lists of signed terms.
//!
//! Invariant: float terms are regrouped only where a constant folds or a term cancels, since regrouping rounds differently;
//! integer terms are always brought into one order, which is exact.

use crate::ir::{Binary, Graph, NodeId, Op, Rate, Type, Unary};

/// The most terms that are looked at together.
const LIMIT: usize = 32;

/// `(x + c) + d = x + (c + d)` and `(x + y) - x = y`, where it applies.
pub(super) fn cancel_float_terms(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    if graph.ty(id) != Type::Float {
        return None;
    }
    let terms = terms_of(graph, id)?;
    let (constants, others): (Vec<_>, Vec<_>) = terms.iter().partition(|(term, _)| graph.as_float(*term).is_some());
    let mut kept: Vec<(NodeId, i32)> = Vec::new();
    for (term, sign) in others.iter().copied() {
        match kept.iter().position(|&(other, opposite)| other == term && opposite == -sign) {
            Some(at) => drop(kept.remove(at)),
            None => kept.push((term, sign)),
        }
    }
    if constants.len() < 2 && kept.len() == others.len() {
        return None;
    }
    let constant: f64 =
        constants.iter().map(|&(c, sign)| f64::from(sign) * graph.as_float(c).expect("a constant")).sum();
    if constant != 0.0 {
        kept.push((graph.float(constant.abs()), if constant < 0.0 { -1 } else { 1 }));
    }
    Some(by_rate(graph, kept).unwrap_or_else(|| graph.float(0.0)))
}

/// Integer terms: equal ones collected, constants folded, in the order row terms, constant, key terms, pair terms.
pub(super) fn group_int_terms(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    if graph.ty(id) != Type::Int {
        return None;
    }
    let terms = terms_of(graph, id)?;
    let mut constant = 0i64;
    let mut counts: Vec<(NodeId, i32)> = Vec::new();
    for (term, sign) in terms {
        if let Op::Int(value) = graph.op(term) {
            constant += i64::from(*value) * i64::from(sign);
        } else if let Some((_, count)) = counts.iter_mut().find(|(other, _)| *other == term) {
            *count += sign;
        } else {
            counts.push((term, sign));
        }
    }
    let constant = i32::try_from(constant).ok().filter(|&c| c != i32::MIN)?;
    counts.retain(|(_, count)| *count != 0);
    let mut kept: Vec<(NodeId, i32)> = Vec::new();
    for (term, count) in counts {
        let factor = graph.int(count.abs());
        kept.push((if count.abs() == 1 { term } else { graph.product(term, factor) }, count.signum()));
    }
    if constant != 0 {
        kept.push((graph.int(constant.abs()), constant.signum()));
    }
    Some(by_rate(graph, kept).unwrap_or_else(|| graph.int(0)))
}

/// The terms of a sum, signed; `None` when `id` is not one or has too many.
fn terms_of(graph: &Graph, id: NodeId) -> Option<Vec<(NodeId, i32)>> {
    if !matches!(graph.op(id), Op::Binary(Binary::Add | Binary::Sub, ..)) {
        return None;
    }
    let mut terms = Vec::new();
    let mut stack = vec![(id, 1)];
    while let Some((id, sign)) = stack.pop() {
        match *graph.op(id) {
            Op::Binary(Binary::Add, a, b) => stack.extend([(b, sign), (a, sign)]),
            Op::Binary(Binary::Sub, a, b) => stack.extend([(b, -sign), (a, sign)]),
            Op::Unary(Unary::Neg, a) => stack.push((a, -sign)),
            _ => terms.push((id, sign)),
        }
        if terms.len() > LIMIT {
            return None;
        }
    }
    Some(terms)
}

/// The sum of signed terms: those of a pair, of a key, of a row, each group with itself, so that every group is computed at
/// its own rate. `None` when there is no term.
fn by_rate(graph: &mut Graph, terms: Vec<(NodeId, i32)>) -> Option<NodeId> {
    let class = |rate: Rate| if rate.is_row() { 0 } else { 1 + usize::from(!rate.is_column()) };
    let mut groups = [Vec::new(), Vec::new(), Vec::new()];
    for (term, sign) in terms {
        groups[class(graph.rate(term))].push((term, sign));
    }
    // Floats read best as pair + row; integers, whose difference is cast, as row - key, but a constant alone comes last.
    let is_float = groups.iter().flatten().any(|&(term, _)| graph.ty(term) == Type::Float);
    if is_float || groups[0].iter().all(|&(term, _)| matches!(graph.op(term), Op::Int(_))) {
        groups.reverse();
    }
    let sums: Vec<_> = groups.into_iter().filter_map(|group| signed_sum(graph, group)).collect();
    let (sum, sign) = signed_sum(graph, sums)?;
    Some(if sign < 0 { graph.unary(Unary::Neg, sum) } else { sum })
}

/// The sum of some terms up to its sign, positive terms first; constants, which come last, stay last.
fn signed_sum(graph: &mut Graph, terms: Vec<(NodeId, i32)>) -> Option<(NodeId, i32)> {
    let lead = terms.iter().position(|&(_, sign)| sign > 0);
    let (first, sign) = terms[lead.unwrap_or(0)..].first().copied()?;
    let mut sum = first;
    for (at, &(term, other)) in terms.iter().enumerate() {
        if at != lead.unwrap_or(0) {
            sum = if other == sign { graph.sum(sum, term) } else { graph.difference(sum, term) };
        }
    }
    Some((sum, sign))
}
