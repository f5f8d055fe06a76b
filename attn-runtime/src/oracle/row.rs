//! One row of attention: which of its pairs are kept, how their weights are normalized, and what becomes of them.
//!
//! Thresholds are found as they are defined: the first k by sorting, an entmax's by bisection.
//!
//! Invariant: a pair that is not kept has weight 0 and no derivative, and a dead row (no live key, or nothing to divide by) has
//! neither.

use attn_dsl::definition::{Definition, Keep};
use attn_dsl::ir::{Input, NodeId, ParameterId, Reduction};

use super::dual::{Direction, Expression, Scratch};
use super::place::{PairPlace, Reductions};

/// The parameter of a read and its position there; none if the parameter is empty.
pub(super) type Read = (usize, Option<usize>);

/// One live pair and its derivatives.
pub(super) struct Pair {
    pub(super) key: usize,
    pub(super) score: f64,
    /// Before normalization, where the row divides by something.
    pub(super) weight: f64,
    /// Of the weight (of an entmax: of the score) in the product, then in each read of a learnable parameter.
    pub(super) derivatives: Vec<f64>,
    /// Parameter and position of each read.
    pub(super) reads: Vec<Read>,
    /// The normalized weight.
    pub(super) probability: f64,
    /// What v is multiplied by: the normalized weight, mapped.
    pub(super) outcome: f64,
    /// The derivative of the map in the normalized weight.
    pub(super) outcome_slope: f64,
    /// Each read in the map, and its derivative there.
    pub(super) outcome_reads: Vec<(Read, f64)>,
}

/// The derivatives of an entmax, by pair.
pub(super) struct EntmaxRow {
    /// Of the weight in the score, the threshold held.
    slopes: Vec<f64>,
    slope_sum: f64,
    /// Of the weight in alpha, the threshold moving.
    alpha_slopes: Vec<f64>,
    /// Of the weight in alpha as programs sum it: up to a multiple of `slopes`.
    pub(super) alpha_terms: Vec<f64>,
    /// Each read in alpha, and its derivative there.
    pub(super) alpha_reads: Vec<(Read, f64)>,
}

/// One evaluated row.
pub(super) struct Row {
    pub(super) pairs: Vec<Pair>,
    /// The position in `pairs` of the largest weight.
    arg_max: Option<usize>,
    /// What weights are divided by; 1 for an entmax, 0 where no pair of it has a weight.
    pub(super) z: f64,
    /// dZ by sum, max and sum of squares.
    z_reductions: [f64; 3],
    /// Parameter, position and dZ of each read in the normalizer.
    pub(super) z_reads: Vec<(usize, Option<usize>, f64)>,
    pub(super) entmax: Option<EntmaxRow>,
}

impl Row {
    /// Whether the output and every gradient is 0.
    pub(super) fn is_dead(&self) -> bool {
        self.pairs.is_empty() || self.z == 0.0
    }

    /// What the gradient of a pair's normalized weight is multiplied by, on its way to the weight (the score of an entmax).
    pub(super) fn own_factor(&self, pair: usize) -> f64 {
        self.entmax.as_ref().map_or(1.0 / self.z, |entmax| entmax.slopes[pair])
    }

    /// What the row's term is multiplied by in the gradient of a pair's weight (score).
    pub(super) fn shared_factor(&self, pair: usize) -> f64 {
        if let Some(entmax) = &self.entmax {
            return entmax.slopes[pair];
        }
        let [sum, max, squares] = self.z_reductions;
        let is_max = if self.arg_max == Some(pair) { 1.0 } else { 0.0 };
        sum + 2.0 * self.pairs[pair].weight * squares + is_max * max
    }

    /// What `dO . v` of a pair counts in the row's term.
    pub(super) fn term_factor(&self, pair: usize) -> f64 {
        let Pair { probability, outcome_slope, .. } = self.pairs[pair];
        match &self.entmax {
            Some(entmax) => entmax.slopes[pair] * outcome_slope / entmax.slope_sum,
            None => probability * outcome_slope / self.z,
        }
    }

    /// The derivative of the loss in alpha, given those in the normalized weights.
    pub(super) fn alpha_grad(&self, weight_grads: &[f64]) -> f64 {
        let slopes = self.entmax.iter().flat_map(|entmax| &entmax.alpha_slopes);
        slopes.zip(weight_grads).map(|(slope, grad)| slope * grad).sum()
    }
}

const REDUCTIONS: [Reduction; 3] = [Reduction::Sum, Reduction::Max, Reduction::SumSquares];

/// What a definition says of whole rows.
pub(super) struct RowRules<'a> {
    definition: &'a Definition,
    normalizer: Option<Expression<'a>>,
    row_reads: Vec<NodeId>,
    alpha: Option<Expression<'a>>,
    alpha_reads: Vec<NodeId>,
    /// The number of kept keys, or the condition on them.
    keep: Option<Expression<'a>>,
    post: Option<Expression<'a>>,
    post_reads: Vec<NodeId>,
}

impl<'a> RowRules<'a> {
    pub(super) fn new(definition: &'a Definition) -> Self {
        let graph = &definition.graph;
        let learnable = |id: ParameterId| definition.parameter(id).learnable;
        let reads =
            |root: Option<NodeId>| root.map(|root| Expression::reads(graph, root, learnable)).unwrap_or_default();
        let expression = |root: Option<NodeId>, inputs: &[Input], reads: &[NodeId]| {
            let inputs = inputs.iter().map(|&input| Direction::Input(input));
            let directions: Vec<Direction> = inputs.chain(reads.iter().map(|&read| Direction::Read(read))).collect();
            root.map(|root| Expression::new(graph, root, &directions))
        };
        let [row_reads, alpha_reads, post_reads] =
            [definition.normalizer, definition.entmax, definition.post].map(reads);
        let keep = definition.keep.map(|keep| match keep {
            Keep::TopK { k, .. } => k,
            Keep::Where(condition) => condition,
        });
        RowRules {
            definition,
            normalizer: expression(definition.normalizer, &REDUCTIONS.map(Input::Reduction), &row_reads),
            row_reads,
            alpha: expression(definition.entmax, &[], &alpha_reads),
            alpha_reads,
            keep: expression(keep, &[], &[]),
            post: expression(definition.post, &[Input::Probability], &post_reads),
            post_reads,
        }
    }

    /// The row of live pairs whose weights are known.
    pub(super) fn row(&self, place: &mut PairPlace<'_>, pairs: Vec<Pair>, scratch: &mut Scratch) -> Row {
        let kept = self.kept(place, &pairs, scratch);
        let mut row = self.normalized(place, pairs, &kept, scratch);
        if let Some(post) = &self.post {
            let is_dead = row.is_dead();
            for (pair, _) in row.pairs.iter_mut().zip(&kept).filter(|(_, kept)| **kept && !is_dead) {
                (place.key, place.probability) = (pair.key, pair.probability);
                pair.outcome = post.evaluate(place, None, scratch).float();
                let tangents = post.tangents(scratch).to_vec();
                pair.outcome_slope = tangents[0];
                let reads = self.post_reads.iter().map(|&read| self.read_position(place, post, read, scratch));
                pair.outcome_reads = reads.zip(tangents[1..].iter().copied()).collect();
            }
        }
        row
    }

    /// Which pairs have a weight.
    fn kept(&self, place: &mut PairPlace<'_>, pairs: &[Pair], scratch: &mut Scratch) -> Vec<bool> {
        let Some((keep, expression)) = self.definition.keep.zip(self.keep.as_ref()) else {
            return vec![true; pairs.len()];
        };
        match keep {
            Keep::TopK { ties, .. } => {
                let k = expression.evaluate(place, None, scratch).int();
                first_k(pairs, usize::try_from(k).unwrap_or(0), ties)
            }
            Keep::Where(condition) => {
                place.greatest = pairs.iter().map(|pair| pair.score).fold(f64::NEG_INFINITY, f64::max);
                let reads_probability = self.definition.graph.reads(condition, Input::Probability);
                let everything = if reads_probability {
                    let copies = pairs.iter().map(Pair::without_derivatives).collect();
                    Some(self.normalized(place, copies, &vec![true; pairs.len()], scratch))
                } else {
                    None
                };
                let mut holds = Vec::with_capacity(pairs.len());
                for (at, pair) in pairs.iter().enumerate() {
                    place.key = pair.key;
                    place.probability = everything.as_ref().map_or(0.0, |row| row.pairs[at].probability);
                    let condition = expression.evaluate(place, Some((Input::Score, pair.score, &[])), scratch).bool();
                    holds.push(condition || pair.score.is_nan());
                }
                holds
            }
        }
    }

    /// Weights of what is kept, normalized among themselves.
    fn normalized(&self, place: &mut PairPlace<'_>, mut pairs: Vec<Pair>, kept: &[bool], scratch: &mut Scratch) -> Row {
        for (pair, _) in pairs.iter_mut().zip(kept).filter(|(_, kept)| !**kept) {
            pair.weight = 0.0;
            pair.derivatives.iter_mut().for_each(|derivative| *derivative = 0.0);
        }
        let mut arg_max = None;
        for (at, pair) in pairs.iter().enumerate() {
            if arg_max.is_none_or(|best: usize| pair.weight > pairs[best].weight) {
                arg_max = Some(at);
            }
        }
        place.reductions = Reductions {
            sum: pairs.iter().map(|pair| pair.weight).sum(),
            max: arg_max.map_or(0.0, |at| pairs[at].weight),
            sum_squares: pairs.iter().map(|pair| pair.weight * pair.weight).sum(),
        };
        let mut row = Row { pairs, arg_max, z: 1.0, z_reductions: [0.0; 3], z_reads: Vec::new(), entmax: None };
        if let Some(normalizer) = &self.normalizer {
            row.z = normalizer.evaluate(place, None, scratch).float();
            let tangents = normalizer.tangents(scratch).to_vec();
            row.z_reductions.copy_from_slice(&tangents[..3]);
            for (&read, &derivative) in self.row_reads.iter().zip(&tangents[3..]) {
                let (parameter, position) = self.read_position(place, normalizer, read, scratch);
                row.z_reads.push((parameter, position, derivative));
            }
        }
        if let Some(alpha) = &self.alpha {
            let value = alpha.evaluate(place, None, scratch).float();
            let tangents = alpha.tangents(scratch).to_vec();
            let reads = self.alpha_reads.iter().map(|&read| self.read_position(place, alpha, read, scratch));
            entmax(&mut row, kept, value, reads.zip(tangents).collect());
        } else {
            let z = row.z;
            row.pairs.iter_mut().for_each(|pair| pair.probability = if z == 0.0 { 0.0 } else { pair.weight / z });
        }
        row.pairs.iter_mut().for_each(|pair| pair.outcome = pair.probability);
        row
    }

    pub(super) fn read_position(
        &self,
        place: &PairPlace<'_>,
        expression: &Expression<'_>,
        read: NodeId,
        scratch: &Scratch,
    ) -> Read {
        let attn_dsl::ir::Op::Parameter { parameter, .. } = self.definition.graph.op(read) else {
            unreachable!("only reads are listed");
        };
        let parameter = parameter.0 as usize;
        (parameter, place.tables[parameter].position(&expression.read_index(read, scratch)))
    }
}

impl Pair {
    fn without_derivatives(&self) -> Pair {
        let derivatives = vec![0.0; self.derivatives.len()];
        Pair { derivatives, reads: Vec::new(), outcome_reads: Vec::new(), ..*self }
    }
}

/// Which pairs are the first k by falling score, the lowest key first among equals; with `ties` all whose score is that of the last.
fn first_k(pairs: &[Pair], k: usize, ties: bool) -> Vec<bool> {
    // a NaN is greater than anything
    let rank = |at: usize| (!pairs[at].score.is_nan(), -pairs[at].score);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|&a, &b| {
        let ((a_number, a_score), (b_number, b_score)) = (rank(a), rank(b));
        a_number.cmp(&b_number).then(a_score.partial_cmp(&b_score).unwrap_or(std::cmp::Ordering::Equal)).then(a.cmp(&b))
    });
    let mut kept = vec![false; pairs.len()];
    order.iter().take(k).for_each(|&at| kept[at] = true);
    if let Some(&last) = order.iter().take(k).next_back().filter(|_| ties) {
        (0..pairs.len()).filter(|&at| pairs[at].score >= pairs[last].score).for_each(|at| kept[at] = true);
    }
    kept
}

/// The `t` at which `(z - t)^exponent`, summed over those above it, is 1; `z` are relative to the greatest, which is 0.
fn threshold(z: &[f64], exponent: f64) -> f64 {
    let mass = |t: f64| z.iter().map(|z| (z - t).max(0.0).powf(exponent)).sum::<f64>();
    // the greatest alone has 1 at -1, and 0 at 0
    let (mut low, mut high) = (-1.0, 0.0);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return low;
        }
        if mass(middle) >= 1.0 {
            low = middle;
        } else {
            high = middle;
        }
    }
}

/// `p_j = z_j^(1 / (alpha - 1))` above the threshold, of `z_j = (alpha - 1) s_j - tau`, and its derivatives.
fn entmax(row: &mut Row, kept: &[bool], alpha: f64, alpha_reads: Vec<(Read, f64)>) {
    let factor = alpha - 1.0;
    let count = row.pairs.len();
    let mut found = EntmaxRow {
        slopes: vec![0.0; count],
        slope_sum: 1.0,
        alpha_slopes: vec![0.0; count],
        alpha_terms: vec![0.0; count],
        alpha_reads,
    };
    let scores: Vec<(usize, f64)> = (0..count).filter(|&at| kept[at]).map(|at| (at, row.pairs[at].score)).collect();
    let greatest = scores.iter().map(|(_, s)| *s).fold(f64::NEG_INFINITY, f64::max);
    let is_undefined = greatest == f64::INFINITY || scores.iter().any(|(_, s)| s.is_nan());
    if is_undefined {
        row.pairs.iter_mut().for_each(|pair| pair.probability = f64::NAN);
        found.slopes.fill(f64::NAN);
        row.entmax = Some(found);
        return;
    }
    if greatest == f64::NEG_INFINITY {
        row.pairs.iter_mut().for_each(|pair| pair.probability = 0.0);
        row.z = 0.0;
        row.entmax = Some(found);
        return;
    }
    let z: Vec<f64> = scores.iter().map(|(_, s)| factor * (s - greatest)).collect();
    let t = threshold(&z, 1.0 / factor);
    let above: Vec<(usize, f64, f64)> =
        scores.iter().zip(&z).map(|((at, s), z)| (*at, s - greatest, z - t)).filter(|(_, _, r)| *r > 0.0).collect();
    for &(at, _, r) in &above {
        row.pairs[at].probability = r.powf(1.0 / factor);
        found.slopes[at] = r.powf(1.0 / factor - 1.0);
        found.alpha_terms[at] = row.pairs[at].probability * (1.0 - r.ln()) / (factor * factor);
    }
    found.slope_sum = found.slopes.iter().sum();
    // p = e^(ln r / (alpha - 1)), r = (alpha - 1) s - tau: with tau' such that the derivatives sum to 0
    let slope_of_r = |at: usize| found.slopes[at] / factor;
    let fixed =
        |at: usize, s: f64, r: f64| -row.pairs[at].probability * r.ln() / (factor * factor) + slope_of_r(at) * s;
    let moved: f64 = above.iter().map(|&(at, s, r)| fixed(at, s, r)).sum();
    let tau_slope = moved / above.iter().map(|&(at, _, _)| slope_of_r(at)).sum::<f64>();
    for &(at, s, r) in &above {
        found.alpha_slopes[at] = fixed(at, s, r) - slope_of_r(at) * tau_slope;
    }
    row.entmax = Some(found);
}
