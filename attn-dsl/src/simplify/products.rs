//! Products, quotients and negations of floats as one chain of factors.
//!
//! Normal form: `pair * key * row * tile`, each group a product of its own, so that it is computed at its own rate; the
//! constant stands in the last group. A group of a lower rate divides as a reciprocal of its own; `-1` is a negation of the
//! whole.
//!
//! Within the pairs, factors that hold an upstream gradient come first, so that a parameter's gradient `dS * f` begins with
//! the product `dS`, which it shares; and `x (1 - y)` is `x - x y`, one multiplication and one fused multiply-add.
//!
//! Invariant: flattening stops at squares of what varies with the key, so that repeated squaring stays as short as written.

use crate::ir::{Binary, Graph, Input, NodeId, Op, Rate, Type, Unary};

/// The most factors that are looked at together.
const LIMIT: usize = 32;

/// A product of powers one and minus one.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    /// The constant factor.
    pub(super) constant: f64,
    /// The factors.
    pub(super) over: Vec<NodeId>,
    /// The divisors.
    pub(super) under: Vec<NodeId>,
}

impl Chain {
    /// The chain of `id`, or `None` when it has too many factors.
    pub(super) fn of(graph: &Graph, id: NodeId) -> Option<Chain> {
        let mut chain = Chain { constant: 1.0, over: Vec::new(), under: Vec::new() };
        let mut stack = vec![(id, true)];
        while let Some((node, up)) = stack.pop() {
            match *graph.op(node) {
                Op::Binary(Binary::Mul, a, b) if a != b || node == id || graph.rate(a).is_row() => {
                    stack.extend([(b, up), (a, up)]);
                }
                Op::Binary(Binary::Div, a, b) => stack.extend([(b, !up), (a, up)]),
                Op::Unary(Unary::Neg, a) => {
                    chain.constant = -chain.constant;
                    stack.push((a, up));
                }
                Op::Float(bits) if up => chain.constant *= f64::from_bits(bits),
                Op::Float(bits) if f64::from_bits(bits) != 0.0 => chain.constant /= f64::from_bits(bits),
                _ if up => chain.over.push(node),
                _ => chain.under.push(node),
            }
            if chain.over.len() + chain.under.len() > LIMIT {
                return None;
            }
        }
        // ln 2 * log2 e and their like are 1 but for rounding.
        if (chain.constant.abs() - 1.0).abs() <= 2.0 * f64::EPSILON {
            chain.constant = chain.constant.signum();
        }
        Some(chain)
    }

    /// `x / x = 1`.
    fn cancel(&mut self) {
        let under = std::mem::take(&mut self.under);
        for divisor in under {
            match self.over.iter().position(|&factor| factor == divisor) {
                Some(at) => drop(self.over.remove(at)),
                None => self.under.push(divisor),
            }
        }
    }

    /// `2^a / 2^b = 2^(a - b)`, `1 / 2^b = 2^-b`, and the same of `e`.
    fn merge_exponentials(&mut self, graph: &mut Graph) {
        for divisor in std::mem::take(&mut self.under) {
            let Op::Unary(function @ (Unary::Exp | Unary::Exp2), b) = *graph.op(divisor) else {
                self.under.push(divisor);
                continue;
            };
            let same = |factor: &NodeId| matches!(graph.op(*factor), Op::Unary(f, _) if *f == function);
            let exponent = match self.over.iter().position(same) {
                Some(at) => {
                    let factor = self.over.remove(at);
                    let a = graph.op(factor).operands()[0];
                    graph.difference(a, b)
                }
                None => graph.unary(Unary::Neg, b),
            };
            let merged = graph.unary(function, exponent);
            self.over.push(merged);
        }
    }

    /// The expression in normal form.
    pub(super) fn build(mut self, graph: &mut Graph) -> NodeId {
        if self.constant == 0.0 {
            return graph.float(0.0);
        }
        let order = |graph: &Graph, id: NodeId| {
            // What only the backward pass reads comes first, the gradient of P before all.
            let is_row = graph.reads(id, Input::Statistic) || graph.reads(id, Input::Delta);
            (!graph.reads(id, Input::OutputGradProduct), !is_row, id)
        };
        self.over.sort_by_cached_key(|&id| order(graph, id));
        self.under.sort_by_cached_key(|&id| order(graph, id));
        let class = |graph: &Graph, id: NodeId| group(graph.rate(id));
        let is_minus_one = self.constant == -1.0;
        let mut constant = (self.constant != 1.0 && !is_minus_one).then_some(self.constant);
        let mut result: Option<NodeId> = None;
        let lowest = self.over.iter().chain(&self.under).map(|&id| class(graph, id)).max();
        for at in 0..GROUPS {
            let over: Vec<_> = self.over.iter().copied().filter(|&id| class(graph, id) == at).collect();
            let under: Vec<_> = self.under.iter().copied().filter(|&id| class(graph, id) == at).collect();
            if over.is_empty() && under.is_empty() {
                continue;
            }
            let mut factor = product(graph, over, at);
            if Some(at) == lowest
                && let Some(value) = constant.take()
            {
                let value = graph.float(value);
                factor = Some(factor.map_or(value, |factor| graph.product(factor, value)));
            }
            if let Some(divisor) = product(graph, under, at) {
                // Within the group that leads this is one division; later groups are reciprocals by themselves.
                let numerator = factor.unwrap_or_else(|| graph.float(1.0));
                factor = Some(graph.quotient(numerator, divisor));
            }
            let factor = factor.expect("a group has a factor");
            result = Some(result.map_or(factor, |product| graph.product(product, factor)));
        }
        let result = result.unwrap_or_else(|| graph.float(constant.take().unwrap_or(1.0)));
        if is_minus_one { negate(graph, result) } else { result }
    }
}

/// The product of the factors of a group; `x (1 - y) = x - x y` in the pairs, where `y` is no product.
fn product(graph: &mut Graph, mut factors: Vec<NodeId>, group: usize) -> Option<NodeId> {
    let complement = |graph: &Graph, id: NodeId| match *graph.op(id) {
        Op::Binary(Binary::Sub, one, y) if graph.as_float(one) == Some(1.0) => {
            (!matches!(graph.op(y), Op::Binary(Binary::Mul | Binary::Div, ..))).then_some(y)
        }
        _ => None,
    };
    let found = factors.iter().enumerate().find_map(|(at, &id)| Some((at, complement(graph, id)?)));
    match found {
        Some((at, y)) if group == 0 && factors.len() > 1 => {
            factors.remove(at);
            let others = product(graph, factors, group)?;
            let part = graph.product(others, y);
            Some(graph.difference(others, part))
        }
        _ => factors.into_iter().reduce(|a, b| graph.product(a, b)),
    }
}

fn negate(graph: &mut Graph, id: NodeId) -> NodeId {
    match graph.as_float(id) {
        Some(value) => graph.float(-value),
        None => graph.unary(Unary::Neg, id),
    }
}

const GROUPS: usize = 4;

/// Which group a factor of this rate belongs to.
fn group(rate: Rate) -> usize {
    if rate.is_tile() {
        3
    } else if rate.is_row() {
        2
    } else if rate.is_column() {
        1
    } else {
        0
    }
}

/// The normal form of a product, a quotient or a negation of floats.
pub(super) fn normalize(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    let is_chain = matches!(graph.op(id), Op::Binary(Binary::Mul | Binary::Div, ..) | Op::Unary(Unary::Neg, _));
    if !is_chain || graph.ty(id) != Type::Float {
        return None;
    }
    let mut chain = Chain::of(graph, id)?;
    chain.cancel();
    chain.merge_exponentials(graph);
    Some(chain.build(graph))
}

/// `factor * id` for a positive constant, moved to the products inside sums, negations, selects, minima and maxima, where it
/// meets other constants. Not simplified.
pub(crate) fn distribute(graph: &mut Graph, id: NodeId, factor: f64) -> NodeId {
    if graph.tree_size(id) > super::LARGEST_TREE {
        let factor = graph.float(factor);
        return graph.product(id, factor);
    }
    distribute_into(graph, id, factor)
}

fn distribute_into(graph: &mut Graph, id: NodeId, factor: f64) -> NodeId {
    match *graph.op(id) {
        Op::Binary(op @ (Binary::Add | Binary::Sub | Binary::Min | Binary::Max), a, b) => {
            let (a, b) = (distribute_into(graph, a, factor), distribute_into(graph, b, factor));
            graph.binary(op, a, b)
        }
        Op::Select { condition, then, otherwise } => {
            let (then, otherwise) = (distribute_into(graph, then, factor), distribute_into(graph, otherwise, factor));
            graph.select(condition, then, otherwise)
        }
        Op::Unary(Unary::Neg, a) => {
            let a = distribute_into(graph, a, factor);
            graph.unary(Unary::Neg, a)
        }
        _ => {
            let factor = graph.float(factor);
            graph.product(id, factor)
        }
    }
}

/// `x f + y f = (x + y) f` for what `x` and `y` share, where that includes a factor that varies with the pair and where both
/// sides have another one: `f + f y` is one fused multiply-add as it is.
pub(super) fn factor_sum(graph: &mut Graph, id: NodeId) -> Option<NodeId> {
    let Op::Binary(op @ (Binary::Add | Binary::Sub), a, b) = *graph.op(id) else { return None };
    if graph.ty(id) != Type::Float || group(graph.rate(id)) != 0 {
        return None;
    }
    let (mut of_a, mut of_b) = (Chain::of(graph, a)?, Chain::of(graph, b)?);
    let mut shared = Chain { constant: 1.0, over: Vec::new(), under: Vec::new() };
    take_common(&mut of_a.over, &mut of_b.over, &mut shared.over);
    take_common(&mut of_a.under, &mut of_b.under, &mut shared.under);
    let varies = |factors: &[NodeId]| factors.iter().any(|&id| group(graph.rate(id)) == 0);
    if !varies(&shared.over) || !varies(&of_a.over) || !varies(&of_b.over) {
        return None;
    }
    let (x, y) = (of_a.build(graph), of_b.build(graph));
    shared.over.push(graph.binary(op, x, y));
    Some(shared.build(graph))
}

fn take_common(a: &mut Vec<NodeId>, b: &mut Vec<NodeId>, shared: &mut Vec<NodeId>) {
    a.retain(|id| match b.iter().position(|other| other == id) {
        Some(at) => {
            shared.push(b.remove(at));
            false
        }
        None => true,
    });
}
