//! Forward and backward pass, row by row, pair by pair.
//!
//! ```text
//! w_j = activation(score(x_j)), 0 where masked      z = Z(sum w, max w, sum w^2)      O = sum_j w_j / z v_j
//! D = dO . O      dz = dstatistic/dz - D / z      dw_j = dO . v_j / z + dz (Z_sum + 2 w_j Z_sum_squares + [j = argmax] Z_max)
//! ```
//! A row without a live key, or with z = 0, has O = 0 and contributes no gradient. What is kept of a row, entmax and maps after
//! normalization are in `row.rs`.

use attn_dsl::definition::Definition;
use attn_dsl::ir::{Input, NodeId, Op, ParameterId, Unary};
use rayon::prelude::*;

use super::dual::{Direction, Expression, Scratch};
use super::feature::Mapped;
use super::place::{PairPlace, ParameterTable, Reductions};
pub(super) use super::row::Read;
use super::row::{Pair, Row, RowRules};
use crate::call::Call;
use crate::tensor::TensorError;

/// What the row statistic of a definition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatisticKind {
    /// `ln z`: the activation is an exponential.
    LogNormalizer,
    /// `z`.
    Normalizer,
}

/// The statistic of a definition: there is one where the normalizer reduces the weights.
pub(crate) fn statistic_kind(definition: &Definition) -> Option<StatisticKind> {
    let graph = &definition.graph;
    let reduces = |id: NodeId| graph.any(id, |op| matches!(op, Op::Input(Input::Reduction(_))));
    // An activation that hands the score on leaves the outermost operation to the score.
    let outermost = match graph.op(definition.activation) {
        Op::Input(Input::Score) => definition.score,
        _ => definition.activation,
    };
    // a map after normalization and an entmax hide it
    let normalizer = definition.normalizer.filter(|&id| reduces(id) && definition.post.is_none());
    normalizer.map(|_| match graph.op(outermost) {
        Op::Unary(Unary::Exp | Unary::Exp2, _) => StatisticKind::LogNormalizer,
        _ => StatisticKind::Normalizer,
    })
}

/// An unrounded output.
pub(crate) struct NaiveOutput {
    /// `[b, h, q, dv]`
    pub(crate) output: Vec<f64>,
    /// `[b, h, q]`
    pub(crate) statistic: Option<Vec<f64>>,
    /// `[b, h, q]`: whether the row has an output of 0 and no gradient by definition.
    #[cfg_attr(not(feature = "testing"), allow(dead_code, reason = "read by the test support"))]
    pub(crate) dead: Vec<bool>,
}

/// Unrounded gradients, in the shapes of what they are gradients of.
pub(crate) struct NaiveGradients {
    pub(crate) q: Vec<f64>,
    pub(crate) k: Vec<f64>,
    pub(crate) v: Vec<f64>,
    /// In the order of declaration; `None` where a parameter is not learnable.
    pub(crate) parameters: Vec<Option<Vec<f64>>>,
}

/// A definition and the arguments of one call that is not packed, in f64.
pub(crate) struct Naive<'a> {
    definition: &'a Definition,
    pub(super) call: &'a Call,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// q and k as products see them.
    pub(super) mapped: [Mapped; 2],
    tables: Vec<ParameterTable>,
    score: Expression<'a>,
    activation: Expression<'a>,
    mask: Option<Expression<'a>>,
    rules: RowRules<'a>,
    pair_reads: Vec<NodeId>,
}

impl<'a> Naive<'a> {
    pub(crate) fn new(definition: &'a Definition, call: &'a Call) -> Result<Self, TensorError> {
        let graph = &definition.graph;
        let learnable = |id: ParameterId| definition.parameter(id).learnable;
        let reads = |root: NodeId| Expression::reads(graph, root, learnable);
        let mut pair_reads = reads(definition.score);
        for read in reads(definition.activation) {
            if !pair_reads.contains(&read) {
                pair_reads.push(read);
            }
        }
        let pair_directions: Vec<Direction> = std::iter::once(Direction::Input(Input::Product))
            .chain(pair_reads.iter().map(|&read| Direction::Read(read)))
            .collect();
        let (q, k) = (call.q.to_f64_vec()?, call.k.to_f64_vec()?);
        let [of_q, of_k] = definition.features;
        let mapped = [Mapped::of(definition, of_q, &q), Mapped::of(definition, of_k, &k)];
        Ok(Naive {
            definition,
            call,
            q,
            k,
            mapped,
            v: call.v.to_f64_vec()?,
            tables: ParameterTable::all(call)?,
            score: Expression::new(graph, definition.score, &pair_directions),
            activation: Expression::new(graph, definition.activation, &pair_directions),
            mask: definition.mask.map(|root| Expression::new(graph, root, &[])),
            rules: RowRules::new(definition),
            pair_reads,
        })
    }

    /// Moves the values of one argument: `argument` is 0, 1, 2 for q, k, v, then the parameters in the order of declaration.
    #[cfg(feature = "testing")]
    pub(crate) fn shift_argument(&mut self, argument: usize, direction: &[f64], step: f64) {
        match argument {
            0 => add_scaled(&mut self.q, step, direction),
            1 => add_scaled(&mut self.k, step, direction),
            2 => add_scaled(&mut self.v, step, direction),
            parameter => self.tables[parameter - 3].shift(direction, step),
        }
        let [of_q, of_k] = self.definition.features;
        self.mapped = [Mapped::of(self.definition, of_q, &self.q), Mapped::of(self.definition, of_k, &self.k)];
    }

    /// The rows of each batch and query head, as (batch, head).
    fn heads(&self) -> Vec<(usize, usize)> {
        let problem = &self.call.problem;
        (0..problem.batch).flat_map(|b| (0..problem.heads).map(move |h| (b, h))).collect()
    }

    pub(super) fn q_row(&self, batch: usize, head: usize, query: usize) -> &[f64] {
        let p = &self.call.problem;
        &self.mapped[0].values[((batch * p.heads + head) * p.q_len + query) * p.head_dim..][..p.head_dim]
    }

    /// The first row of a head of k or v, counted in rows.
    fn kv_base(&self, batch: usize, head: usize) -> usize {
        let p = &self.call.problem;
        (batch * p.kv_heads + head / p.group()) * p.kv_len
    }

    pub(super) fn k_row(&self, batch: usize, head: usize, key: usize) -> &[f64] {
        let d = self.call.problem.head_dim;
        &self.mapped[1].values[(self.kv_base(batch, head) + key) * d..][..d]
    }

    pub(super) fn v_row(&self, batch: usize, head: usize, key: usize) -> &[f64] {
        let d = self.call.problem.value_dim;
        &self.v[(self.kv_base(batch, head) + key) * d..][..d]
    }

    pub(super) fn row(&self, batch: usize, head: usize, query: usize, scratch: &mut Scratch) -> Row {
        let call = self.call;
        let mut place = PairPlace {
            call,
            tables: &self.tables,
            batch,
            head,
            query,
            key: 0,
            product: 0.0,
            live_keys: 0,
            reductions: Reductions::default(),
            greatest: 0.0,
            probability: 0.0,
        };
        let mut live = Vec::new();
        for key in 0..call.problem.kv_len {
            place.key = key;
            if self.mask.as_ref().is_none_or(|mask| mask.evaluate(&place, None, scratch).bool()) {
                live.push(key);
            }
        }
        place.live_keys = live.len();
        let pairs: Vec<Pair> = live
            .into_iter()
            .map(|key| {
                place.key = key;
                place.product = dot(self.q_row(batch, head, query), self.k_row(batch, head, key));
                self.pair(&place, scratch)
            })
            .collect();
        self.rules.row(&mut place, pairs, scratch)
    }

    fn pair(&self, place: &PairPlace<'_>, scratch: &mut Scratch) -> Pair {
        let score = self.score.evaluate(place, None, scratch).float();
        let score_tangents = self.score.tangents(scratch).to_vec();
        let weight = self.activation.evaluate(place, Some((Input::Score, score, &score_tangents)), scratch).float();
        // The two expressions share their nodes' values, so the indices of both expressions' reads are still there.
        let derivatives = self.activation.tangents(scratch).to_vec();
        // The two expressions share their nodes' values, so the indices of both expressions' reads are still there.
        let reads = self.pair_reads.iter().map(|&read| self.rules.read_position(place, &self.score, read, scratch));
        Pair {
            key: place.key,
            score,
            weight,
            derivatives,
            reads: reads.collect(),
            probability: 0.0,
            outcome: 0.0,
            outcome_slope: 1.0,
            outcome_reads: Vec::new(),
        }
    }

    pub(crate) fn forward(&self) -> NaiveOutput {
        let problem = &self.call.problem;
        let kind = statistic_kind(self.definition);
        let heads: Vec<([Vec<f64>; 2], Vec<bool>)> = self
            .heads()
            .into_par_iter()
            .map(|(batch, head)| {
                let mut scratch = Scratch::default();
                let mut output = vec![0.0; problem.q_len * problem.value_dim];
                let mut statistic = Vec::with_capacity(problem.q_len);
                let mut dead = Vec::with_capacity(problem.q_len);
                for query in 0..problem.q_len {
                    let row = self.row(batch, head, query, &mut scratch);
                    statistic.push(if kind == Some(StatisticKind::LogNormalizer) { row.z.ln() } else { row.z });
                    dead.push(row.is_dead());
                    if !row.is_dead() {
                        let range = query * problem.value_dim..(query + 1) * problem.value_dim;
                        for pair in &row.pairs {
                            let v = self.v_row(batch, head, pair.key);
                            add_scaled(&mut output[range.clone()], pair.outcome, v);
                        }
                    }
                }
                ([output, statistic], dead)
            })
            .collect();
        let mut all = NaiveOutput { output: Vec::new(), statistic: kind.map(|_| Vec::new()), dead: Vec::new() };
        for ([output, statistic], dead) in heads {
            all.dead.extend(dead);
            all.output.extend(output);
            if let Some(all) = &mut all.statistic {
                all.extend(statistic);
            }
        }
        all
    }

    /// `output_grad` is `[b, h, q, dv]`, `statistic_grad` `[b, h, q]`, in row-major order.
    pub(crate) fn backward(&self, output_grad: &[f64], statistic_grad: Option<&[f64]>) -> NaiveGradients {
        let mut gradients = self.each_head(|batch, head| self.backward_head(batch, head, output_grad, statistic_grad));
        self.mapped[0].chain(&mut gradients.q);
        self.mapped[1].chain(&mut gradients.k);
        gradients
    }

    /// Runs a backward pass of each head and puts the parts together.
    pub(super) fn each_head(&self, run: impl Fn(usize, usize) -> NaiveGradients + Sync) -> NaiveGradients {
        let heads = self.heads();
        let parts: Vec<NaiveGradients> = heads.par_iter().map(|&(batch, head)| run(batch, head)).collect();
        self.add_heads(&heads, &parts)
    }

    /// Puts the heads' parts together: k and v are summed over the query heads of a group, parameters over all.
    fn add_heads(&self, heads: &[(usize, usize)], parts: &[NaiveGradients]) -> NaiveGradients {
        let problem = &self.call.problem;
        let mut total = NaiveGradients {
            q: Vec::with_capacity(self.q.len()),
            k: vec![0.0; self.k.len()],
            v: vec![0.0; self.v.len()],
            parameters: self.parameter_zeros(),
        };
        for (&(batch, head), part) in heads.iter().zip(parts) {
            let base = self.kv_base(batch, head);
            total.q.extend_from_slice(&part.q);
            add_scaled(&mut total.k[base * problem.head_dim..][..part.k.len()], 1.0, &part.k);
            add_scaled(&mut total.v[base * problem.value_dim..][..part.v.len()], 1.0, &part.v);
            for (sum, part) in total.parameters.iter_mut().zip(&part.parameters) {
                if let (Some(sum), Some(part)) = (sum, part) {
                    add_scaled(sum, 1.0, part);
                }
            }
        }
        total
    }

    fn parameter_zeros(&self) -> Vec<Option<Vec<f64>>> {
        let zeros = |(declared, table): (&attn_dsl::definition::Parameter, &ParameterTable)| {
            declared.learnable.then(|| vec![0.0; table.len()])
        };
        self.definition.parameters.iter().zip(&self.tables).map(zeros).collect()
    }

    fn backward_head(
        &self,
        batch: usize,
        head: usize,
        output_grad: &[f64],
        statistic_grad: Option<&[f64]>,
    ) -> NaiveGradients {
        let problem = &self.call.problem;
        let (d, dv) = (problem.head_dim, problem.value_dim);
        let mut grad = self.head_zeros();
        let mut scratch = Scratch::default();
        for query in 0..problem.q_len {
            let row = self.row(batch, head, query, &mut scratch);
            if row.is_dead() {
                continue;
            }
            let at = (batch * problem.heads + head) * problem.q_len + query;
            let output_grad = &output_grad[at * dv..][..dv];
            let products: Vec<f64> =
                row.pairs.iter().map(|pair| dot(output_grad, self.v_row(batch, head, pair.key))).collect();
            let weight_grads: Vec<f64> =
                row.pairs.iter().zip(&products).map(|(pair, dp)| pair.outcome_slope * dp).collect();
            let delta: f64 = products.iter().enumerate().map(|(index, dp)| row.term_factor(index) * dp).sum();
            let statistic_grad = statistic_grad.map_or(0.0, |all| all[at]);
            let row_term = statistic_grad * self.statistic_slope(&row) - delta;
            for &(parameter, position, derivative) in &row.z_reads {
                grad.add((parameter, position), row_term * derivative);
            }
            let alpha_grad = row.alpha_grad(&weight_grads);
            for &(read, derivative) in row.entmax.iter().flat_map(|entmax| &entmax.alpha_reads) {
                grad.add(read, alpha_grad * derivative);
            }
            for (index, (pair, dp)) in row.pairs.iter().zip(&products).enumerate() {
                let pair_grad = weight_grads[index] * row.own_factor(index) + row_term * row.shared_factor(index);
                let product_grad = pair_grad * pair.derivatives[0];
                add_scaled(&mut grad.q[query * d..][..d], product_grad, self.k_row(batch, head, pair.key));
                add_scaled(&mut grad.k[pair.key * d..][..d], product_grad, self.q_row(batch, head, query));
                add_scaled(&mut grad.v[pair.key * dv..][..dv], pair.outcome, output_grad);
                for (&read, derivative) in pair.reads.iter().zip(&pair.derivatives[1..]) {
                    grad.add(read, pair_grad * derivative);
                }
                for &(read, derivative) in &pair.outcome_reads {
                    grad.add(read, dp * derivative);
                }
            }
        }
        grad
    }

    /// The derivative of the statistic in z.
    pub(super) fn statistic_slope(&self, row: &Row) -> f64 {
        match statistic_kind(self.definition) {
            Some(StatisticKind::LogNormalizer) => 1.0 / row.z,
            Some(StatisticKind::Normalizer) | None => 1.0,
        }
    }

    /// Zero gradients of one query head: its rows of q, and its head of k and v.
    pub(super) fn head_zeros(&self) -> NaiveGradients {
        let problem = &self.call.problem;
        NaiveGradients {
            q: vec![0.0; problem.q_len * problem.head_dim],
            k: vec![0.0; problem.kv_len * problem.head_dim],
            v: vec![0.0; problem.kv_len * problem.value_dim],
            parameters: self.parameter_zeros(),
        }
    }
}

impl NaiveGradients {
    /// Adds to a parameter at a position, if it is learnable and has that position.
    pub(super) fn add(&mut self, (parameter, position): Read, value: f64) {
        if let (Some(sum), Some(at)) = (&mut self.parameters[parameter], position) {
            sum[at] += value;
        }
    }
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

pub(super) fn add_scaled(sum: &mut [f64], factor: f64, values: &[f64]) {
    for (s, v) in sum.iter_mut().zip(values) {
        *s += factor * v;
    }
}
