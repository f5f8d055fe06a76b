//! Weights that factorise: attention in linear time.
//!
//! ```text
//! w_ij = x_ij F_i G_j 2^(A_i + B_j)                      x_ij = phi(q_i) . phi(k_j)
//! O_i  = F_i / z_i sum_j 2^(A_i + B_j) G_j (phi(q_i) . phi(k_j)) v_j = F_i 2^A_i / z_i phi(q_i) S_i
//! S_i  = sum_j 2^B_j G_j phi(k_j) v_j^T                  over all keys, or those up to the query
//! ```
//! `F`, `A` are values of the query's row, `G`, `B` of the key: linear attention (Katharopoulos et al., 2020), retention (Sun et
//! al., 2023), scalar gates (Dao & Gu, 2024). Every gradient is a sum of the same form, of other tensors; with `Delta` as
//! [`super::Backward`] has it and `u_ij = dO_i . v_j - Delta_i dZ/dsum`
//! ```text
//! dphi(q)_i = F_i 2^A_i / z_i sum_j 2^B_j G_j u_ij phi(k_j)
//! dphi(k)_j = G_j 2^B_j sum_i 2^A_i F_i / z_i u_ij phi(q_i)
//! dv_j      = G_j 2^B_j sum_i 2^A_i F_i / z_i x_ij dO_i
//! ```
//! Exponents need not be of one sign, nor related: who sums keeps `2^-R S` with `R` the largest exponent so far.
//!
//! Invariants: the parts are found in the lowered graph, whatever way the variant is written; their product is the weight of
//! every live pair.

use std::f64::consts::LN_2;
use std::fmt;

use super::bounds::Bounds;
use super::forward::in_powers_of_two;
use super::sum::parts;
use super::{Class, Lowered, SavedRow};
use crate::definition::{Axis, Definition};
use crate::diff::derivative;
use crate::ir::{Affine, Binary, Compare, Graph, Input, NodeId, Op, ParameterId, Reduction, Unary};
use crate::simplify::simplify;

/// The largest weight, written out as a tree, that is taken apart.
const LARGEST_TREE: usize = 1 << 10;

/// Why a variant has no linear-time schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotLinear(String);

impl fmt::Display for NotLinear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotLinear {}

/// What a value belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The query's row.
    Query,
    /// The key.
    Key,
}

/// What a factor adds to the gradient of a learnable parameter that it reads.
#[derive(Clone, Debug)]
pub struct FactorGradient {
    /// Which parameter.
    pub parameter: ParameterId,
    /// Where the factor belongs.
    pub side: Side,
    /// The integer index expressions of the read, one per axis.
    pub index: Vec<NodeId>,
    /// A row or key expression: the contribution is this times `sum_j 2^(A_i + B_j) G_j u_ij x_ij / z_i` of a query, or the like
    /// sum of a key.
    pub slope: NodeId,
}

/// The parts of a weight that factorises, and of its gradients.
#[derive(Clone, Debug)]
pub struct Linear {
    /// The arena of all expressions below; what the lowered variant has keeps its place.
    pub graph: Graph,
    /// Whether a query sees the keys up to its own position, the last query being aligned with the last key; it sees all otherwise.
    pub causal: bool,
    /// `F` without what is the same for all pairs of a head: a row expression, which scales the query as one of many summed.
    pub query_factor: NodeId,
    /// `F`: a row expression, which scales the query's own sum.
    pub query_scale: NodeId,
    /// `A`, in log2 units: a row expression, where there is one.
    pub query_exponent: Option<NodeId>,
    /// `G`: a key expression.
    pub key_factor: NodeId,
    /// `G` times what is the same for all pairs of a head, which scales the key's own sum.
    pub key_scale: NodeId,
    /// `B`, in log2 units: a key expression, where there is one.
    pub key_exponent: Option<NodeId>,
    /// What is the same for all pairs of a head: a tile expression.
    pub shared: NodeId,
    /// The normalizer, over `Reduction::Sum` and row inputs, where there is one.
    pub normalizer: Option<NodeId>,
    /// `1 / z` as the backward pass has it, 0 where `z` is 0: over the saved rows.
    pub inverse: Option<NodeId>,
    /// `-Delta dZ/dsum`, where the normalizer reads the sum.
    pub bias: Option<NodeId>,
    /// What pairs add to parameters' gradients.
    pub parameters: Vec<FactorGradient>,
}

/// A weight on its way into parts.
#[derive(Default)]
struct Factors {
    product: bool,
    tile: Vec<NodeId>,
    query: Vec<NodeId>,
    key: Vec<NodeId>,
    query_terms: Vec<NodeId>,
    key_terms: Vec<NodeId>,
}

fn refuse<T>(why: &str) -> Result<T, NotLinear> {
    Err(NotLinear(why.to_owned()))
}

impl Linear {
    /// Takes the weight of a lowered variant apart.
    ///
    /// # Errors
    /// When the weight is no product of the scores' product, what belongs to the query and what belongs to the key, the mask is
    /// neither none nor causal, or the normalizer is more than the sum and values of its row.
    pub fn of(lowered: &Lowered) -> Result<Linear, NotLinear> {
        let mut graph = lowered.graph.clone();
        graph.float(0.0);
        if !lowered.row_passes.is_empty() {
            return refuse("its weights depend on all scores of their row");
        }
        if lowered.class == Class::ShiftedExponential {
            return refuse(
                "its weight is an exponential of the score, which is no product of a query's and a key's part",
            );
        }
        let causal = causal(&mut graph, lowered.mask)?;
        let pair = lowered.forward.pair;
        if graph.tree_size(pair) > LARGEST_TREE {
            return refuse("its weight is too large an expression to be taken apart");
        }
        let mut factors = Factors::default();
        factors.take(&mut graph, pair, false)?;
        if !factors.product {
            return refuse("its weight does not depend on q . k");
        }
        let Factors { tile, query, key, query_terms, key_terms, .. } = factors;
        let query_scale = [tile.clone(), query.clone()].concat();
        let key_scale = [tile.clone(), key.clone()].concat();
        let [query_factor, query_scale, key_factor, key_scale, shared] = [query, query_scale, key, key_scale, tile]
            .map(|factors| {
                let one = graph.float(1.0);
                let product = factors.into_iter().fold(one, |product, factor| graph.product(product, factor));
                in_powers_of_two(&mut graph, product)
            });
        let [query_exponent, key_exponent] = [query_terms, key_terms].map(|terms| {
            let sum = terms.into_iter().reduce(|sum, term| graph.sum(sum, term))?;
            let sum = in_powers_of_two(&mut graph, sum);
            (graph.as_float(sum) != Some(0.0)).then_some(sum)
        });
        let (inverse, bias) = normalized(&mut graph, lowered)?;
        let mut linear = Linear {
            graph,
            causal,
            query_factor,
            query_scale,
            query_exponent,
            key_factor,
            key_scale,
            key_exponent,
            shared,
            normalizer: lowered.forward.normalizer,
            inverse,
            bias,
            parameters: vec![],
        };
        linear.parameters = linear.gradients(lowered)?;
        Ok(linear)
    }

    /// `B` of the position behind the last key, with indices clamped: what a state that goes on behind it is relative to.
    pub fn end_exponent(&self, graph: &mut Graph) -> Option<NodeId> {
        let exponent = self.key_exponent?;
        let (key, end) = (graph.input(Input::Key), graph.input(Input::KeyLen));
        let at_end = graph.substitute(exponent, key, end);
        Some(simplify(graph, at_end))
    }

    /// The name of a learnable parameter that the exponents of keys read, where there is one.
    pub fn learnable_exponent<'d>(&self, definition: &'d Definition) -> Option<&'d str> {
        let exponent = self.key_exponent?;
        let reads = self.graph.reachable(&[exponent]).into_iter().find_map(|id| match self.graph.op(id) {
            Op::Parameter { parameter, .. } if definition.parameter(*parameter).learnable => Some(*parameter),
            _ => None,
        });
        reads.map(|id| definition.parameter(id).name.as_str())
    }

    /// A parameter that both a query's and a key's exponent read where no position stands, as the decay of a head: its gradient is
    /// a difference of sums that grow with positions, which tensors of 16 bits do not carry.
    pub fn cancelling(&self) -> Option<ParameterId> {
        let reads = |side: Side, id: ParameterId, exponent: Option<NodeId>| {
            let is_read = |op: &Op| matches!(op, Op::Parameter { parameter, .. } if *parameter == id);
            let of_tile = |gradient: &&FactorGradient| gradient.index.iter().all(|&at| self.graph.rate(at).is_tile());
            let own = self.parameters.iter().filter(|gradient| gradient.side == side && gradient.parameter == id);
            own.filter(of_tile).count() > 0 && exponent.is_some_and(|exponent| self.graph.any(exponent, is_read))
        };
        let both =
            |id: &ParameterId| reads(Side::Query, *id, self.query_exponent) && reads(Side::Key, *id, self.key_exponent);
        self.parameters.iter().map(|gradient| gradient.parameter).find(both)
    }

    /// The contributions of both sides to every learnable parameter.
    fn gradients(&mut self, lowered: &Lowered) -> Result<Vec<FactorGradient>, NotLinear> {
        let mut found = vec![];
        let sides =
            [(Side::Query, self.query_scale, self.query_exponent), (Side::Key, self.key_scale, self.key_exponent)];
        let shared = self.shared;
        for (side, factor, exponent) in sides {
            let graph = &mut self.graph;
            let roots: Vec<NodeId> = [Some(factor), exponent].into_iter().flatten().collect();
            let is_learnable = |id: &NodeId| match graph.op(*id) {
                Op::Parameter { parameter, .. } => lowered.definition.parameter(*parameter).learnable,
                _ => false,
            };
            let reads: Vec<NodeId> = graph.reachable(&roots).into_iter().filter(is_learnable).collect();
            let ln2 = graph.float(LN_2);
            let of_exponent = graph.product(factor, ln2);
            let one = graph.float(1.0);
            // what all pairs share counts once, on the queries' side
            let own = if side == Side::Query { factor } else { self.key_factor };
            let seed = if side == Side::Query { one } else { shared };
            let mut slopes = derivative(graph, own, &reads, seed);
            if let Some(exponent) = exponent {
                let more = derivative(graph, exponent, &reads, of_exponent);
                slopes = slopes.into_iter().zip(more).map(|(a, b)| graph.sum(a, b)).collect();
            }
            for (read, slope) in reads.into_iter().zip(slopes) {
                let slope = in_powers_of_two(graph, slope);
                if graph.as_float(slope) == Some(0.0) {
                    continue;
                }
                let Op::Parameter { parameter, index, .. } = graph.op(read).clone() else {
                    unreachable!("a read is a read")
                };
                let axes = &lowered.definition.parameter(parameter).axes;
                let tables: Vec<NodeId> = axes
                    .iter()
                    .zip(&index)
                    .filter(|(axis, _)| matches!(axis, Axis::Fixed(_) | Axis::Named(_)))
                    .map(|(_, &index)| index)
                    .collect();
                let steps = match tables[..] {
                    [] => true,
                    [at] if axes.contains(&Axis::Query) || axes.contains(&Axis::Key) => graph.rate(at).is_tile(),
                    [at] => {
                        Affine::of(graph, at).is_some_and(|affine| matches!((affine.q, affine.kv), (1, 0) | (0, 1)))
                    }
                    _ => false,
                };
                if !steps {
                    let name = &lowered.definition.parameter(parameter).name;
                    return Err(NotLinear(format!(
                        "the gradient of `{name}` is summed at indices that do not follow positions one by one"
                    )));
                }
                found.push(FactorGradient { parameter, side, index, slope });
            }
        }
        Ok(found)
    }
}

impl Factors {
    /// Multiplies by `id`, or divides by it.
    fn take(&mut self, graph: &mut Graph, id: NodeId, inverted: bool) -> Result<(), NotLinear> {
        match *graph.op(id) {
            Op::Input(Input::Product) => {
                if inverted || std::mem::replace(&mut self.product, true) {
                    return refuse("its weight is no multiple of q . k");
                }
                return Ok(());
            }
            Op::Binary(Binary::Mul, a, b) => {
                self.take(graph, a, inverted)?;
                return self.take(graph, b, inverted);
            }
            Op::Binary(Binary::Div, a, b) => {
                self.take(graph, a, inverted)?;
                return self.take(graph, b, !inverted);
            }
            Op::Unary(Unary::Neg, a) => {
                self.tile.push(graph.float(-1.0));
                return self.take(graph, a, inverted);
            }
            Op::Unary(Unary::Exp2, exponent) if !graph.rate(id).is_tile() => {
                return self.exponent(graph, exponent, inverted);
            }
            _ => {}
        }
        let rate = graph.rate(id);
        let one = graph.float(1.0);
        let factor = if inverted { graph.quotient(one, id) } else { id };
        if rate.is_tile() {
            self.tile.push(factor);
        } else if rate.is_row() {
            self.query.push(factor);
        } else if rate.is_column() {
            self.key.push(factor);
        } else {
            return refuse("its weight is no product of q . k, a factor of the query and a factor of the key");
        }
        Ok(())
    }

    /// Multiplies by `2^exponent`, or divides by it.
    fn exponent(&mut self, graph: &mut Graph, exponent: NodeId, inverted: bool) -> Result<(), NotLinear> {
        let sign = graph.float(if inverted { -1.0 } else { 1.0 });
        let mut left = vec![(exponent, sign)];
        while let Some((id, factor)) = left.pop() {
            let rate = graph.rate(id);
            let term = graph.product(id, factor);
            if rate.is_row() {
                self.query_terms.push(term);
            } else if rate.is_column() {
                self.key_terms.push(term);
            } else {
                match parts(graph, id, factor) {
                    Some(parts) => left.extend(parts.into_iter().rev()),
                    None => return refuse("an exponent is no sum of a term of the query and a term of the key"),
                }
            }
        }
        Ok(())
    }
}

/// `1 / z` and `-Delta dZ/dsum` of the backward pass.
fn normalized(graph: &mut Graph, lowered: &Lowered) -> Result<(Option<NodeId>, Option<NodeId>), NotLinear> {
    let Some(normalizer) = lowered.forward.normalizer else { return Ok((None, None)) };
    let one = graph.float(1.0);
    if lowered.class == Class::Elementwise {
        let zero = graph.float(0.0);
        let inverse = graph.quotient(one, normalizer);
        let is_zero = graph.compare(Compare::Eq, normalizer, zero);
        let inverse = graph.select(is_zero, zero, inverse);
        return Ok((Some(in_powers_of_two(graph, inverse)), None));
    }
    let sum = graph.input(Input::Reduction(Reduction::Sum));
    let slope = derivative(graph, normalizer, &[sum], one)[0];
    let slope = in_powers_of_two(graph, slope);
    let reads_reductions = graph.any(slope, |op| matches!(op, Op::Input(Input::Reduction(_))));
    if lowered.forward.reductions != [Reduction::Sum]
        || lowered.forward.saved != [SavedRow::Statistic]
        || reads_reductions
    {
        return refuse("its normalizer is more than the sum of the weights and values of the row");
    }
    let (statistic, zero) = (graph.input(Input::Statistic), graph.float(0.0));
    let is_zero = graph.compare(Compare::Eq, statistic, zero);
    let inverse = graph.quotient(one, statistic);
    let inverse = graph.select(is_zero, zero, inverse);
    let delta = graph.input(Input::Delta);
    let bias = graph.product(delta, slope);
    let bias = graph.unary(Unary::Neg, bias);
    Ok((Some(inverse), Some(in_powers_of_two(graph, bias))))
}

/// Whether the mask is `kv <= q + kv_len - q_len`; no mask is none.
fn causal(graph: &mut Graph, mask: Option<NodeId>) -> Result<bool, NotLinear> {
    if mask.is_none() {
        return Ok(false);
    }
    let bounds = Bounds::of(graph, mask);
    match bounds.bounds[..] {
        [bound]
            if !bounds.residual
                && (bound.q_sign, bound.kv_sign) == (-1, 1)
                && lengths(graph, bound.bound) == Some([1, -1, 0]) =>
        {
            Ok(true)
        }
        _ => refuse("its mask is neither none nor causal"),
    }
}

/// The multiples of `kv_len`, `q_len` and 1 whose sum an integer is.
fn lengths(graph: &Graph, id: NodeId) -> Option<[i64; 3]> {
    let both = |a: NodeId, b: NodeId, sign: i64| {
        let (a, b) = (lengths(graph, a)?, lengths(graph, b)?);
        Some([0, 1, 2].map(|at| a[at] + sign * b[at]))
    };
    match *graph.op(id) {
        Op::Input(Input::KeyLen) => Some([1, 0, 0]),
        Op::Input(Input::QueryLen) => Some([0, 1, 0]),
        Op::Int(value) => Some([0, 0, i64::from(value)]),
        Op::Binary(Binary::Add, a, b) => both(a, b, 1),
        Op::Binary(Binary::Sub, a, b) => both(a, b, -1),
        Op::Unary(Unary::Neg, a) => lengths(graph, a).map(|of| of.map(|multiple| -multiple)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile_one;
    use crate::ir::{Names, print_expression_with};
    use crate::lower::lower;

    const PARAMETERS: &str = "gate: f32[b, h, kv], past: f32[b, h, q], slope: f32[h], gates: f32[b, h, tokens]";

    fn linear(fields: &str) -> Result<Linear, String> {
        let text = format!("struct Factors {{ {PARAMETERS}, {fields} }}");
        let definition = compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "linear.attn")));
        Linear::of(&lower(&definition).expect("it lowers")).map_err(|why| why.to_string())
    }

    /// Factors and exponents of query and key.
    fn printed(fields: &str) -> [String; 4] {
        let linear = linear(fields).expect("it factorises");
        let parameters = ["gate", "past", "slope", "gates"];
        let print =
            |id| print_expression_with(&linear.graph, id, Names { parameters: &parameters, ..Names::default() });
        let exponent = |id: Option<NodeId>| id.map_or_else(|| "none".to_owned(), print);
        [
            print(linear.query_scale),
            exponent(linear.query_exponent),
            print(linear.key_factor),
            exponent(linear.key_exponent),
        ]
    }

    #[test]
    fn factors_are_found_however_they_are_written() {
        let plain = ["scale", "none", "1.0", "none"];
        assert_eq!(printed("activation: identity, normalizer: none"), plain);
        assert_eq!(printed("activation: identity, mask: causal"), plain);
        let decay = printed(
            "score: |s, b, h, q, kv| s * exp(slope[h] * (q + kv_len - q_len - kv)), activation: identity,
             normalizer: none, mask: causal",
        );
        assert_eq!([&decay[0], &decay[2]], ["scale", "1.0"]);
        assert!(decay[1].contains("slope[h]") && decay[1].contains('q'), "{decay:?}");
        assert!(decay[3].contains("slope[h]") && decay[3].contains("kv"), "{decay:?}");
        let gated = printed(
            "score: |s, b, h, q, kv| -s * past[b, h, q] / gate[b, h, kv] * exp(gates[b, h, q] - gates[b, h, kv]),
             activation: identity, normalizer: sum + 1 + past[b, h, q]",
        );
        assert!(gated[0].contains("past") && gated[2].contains("gate[b, h, kv]"), "{gated:?}");
        assert!(gated[1].contains("gates[b, h, q]") && gated[3].contains("gates[b, h, kv]"), "{gated:?}");
    }

    #[test]
    fn others_are_refused_with_a_reason() {
        for (fields, why) in [
            ("mask: causal", "exponential of the score"),
            ("activation: relu, normalizer: none", "no product"),
            ("activation: |s| s * s, normalizer: none", "no multiple"),
            ("activation: identity, normalizer: none, mask: window(4, 0)", "mask"),
            ("activation: identity, normalizer: none, mask: |b, h, q, kv| kv <= q", "mask"),
            ("activation: |s| s * s, normalizer: sum_squares", ""),
            ("activation: identity, normalizer: max + sum", "normalizer"),
            (
                "score: |s, b, h, q, kv| s * exp(sin(1.0 * (q - kv))), activation: identity, normalizer: none",
                "exponent",
            ),
            ("score: |s, b, h, q, kv| s * exp(gates[b, h, 2 * q]), activation: identity, normalizer: none", "gates"),
            ("score: |s, b, h, q, kv| gate[b, h, kv], activation: identity, normalizer: none", "q . k"),
        ] {
            let refused = linear(fields).map(|_| ()).expect_err(fields);
            assert!(refused.contains(why), "{fields}: {refused}");
        }
    }
}
