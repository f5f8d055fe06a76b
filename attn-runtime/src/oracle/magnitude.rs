//! How large rounding errors may be: a first-order model of both passes.
//!
//! Each result is a sum of terms, each with a relative error of its own; the magnitude of a result is the root of the sum of the
//! squares of its terms, so that an implementation with a relative error `u` an operation is expected within `u` times it. The
//! row term of the backward pass, dO . O, is one number that all pairs of the row share: its error enters their sum as a whole.

use std::collections::BTreeMap;

use super::dual::Scratch;
use super::naive::{Naive, NaiveGradients, Read, add_scaled};

/// The magnitudes of the output, `[b, h, q, dv]`, and of the gradients.
pub(crate) struct Magnitudes {
    pub(crate) output: Vec<f64>,
    pub(crate) gradients: NaiveGradients,
}

impl Naive<'_> {
    /// The magnitudes of both passes.
    pub(crate) fn magnitudes(&self, output_grad: &[f64], statistic_grad: Option<&[f64]>) -> Magnitudes {
        let mut gradients = self.each_head(|batch, head| self.head_squares(batch, head, output_grad, statistic_grad));
        let lists = [&mut gradients.q, &mut gradients.k, &mut gradients.v];
        lists.into_iter().chain(gradients.parameters.iter_mut().flatten()).for_each(|values| square_roots(values));
        self.mapped[0].chain_magnitudes(&mut gradients.q);
        self.mapped[1].chain_magnitudes(&mut gradients.k);
        Magnitudes { output: self.output_magnitude(), gradients }
    }

    fn output_magnitude(&self) -> Vec<f64> {
        let problem = &self.call.problem;
        let mut scratch = Scratch::default();
        let mut output = vec![0.0; problem.output_shape().iter().product()];
        let rows = (0..problem.batch).flat_map(|b| (0..problem.heads).map(move |h| (b, h)));
        let rows = rows.flat_map(|(b, h)| (0..problem.q_len).map(move |q| (b, h, q)));
        for ((batch, head, query), output) in rows.zip(output.chunks_exact_mut(problem.value_dim)) {
            let row = self.row(batch, head, query, &mut scratch);
            for pair in row.pairs.iter().filter(|_| !row.is_dead()) {
                add_squares(output, pair.outcome, self.v_row(batch, head, pair.key));
            }
        }
        square_roots(&mut output);
        output
    }

    /// The sums of squares of one head.
    fn head_squares(
        &self,
        batch: usize,
        head: usize,
        output_grad: &[f64],
        statistic_grad: Option<&[f64]>,
    ) -> NaiveGradients {
        let problem = &self.call.problem;
        let (d, dv) = (problem.head_dim, problem.value_dim);
        let mut squares = self.head_zeros();
        let mut scratch = Scratch::default();
        for query in 0..problem.q_len {
            let row = self.row(batch, head, query, &mut scratch);
            if row.is_dead() {
                continue;
            }
            let at = (batch * problem.heads + head) * problem.q_len + query;
            let output_grad = &output_grad[at * dv..][..dv];
            let mut output = vec![0.0; dv];
            for (index, pair) in row.pairs.iter().enumerate() {
                add_scaled(&mut output, row.term_factor(index), self.v_row(batch, head, pair.key));
            }
            let statistic_term = statistic_grad.map_or(0.0, |all| all[at]) * self.statistic_slope(&row);
            // The error of what the row shares, and what it is multiplied by in each sum.
            let shared = statistic_term.abs() + dot_magnitude(output_grad, &output);
            let mut q_shared = vec![0.0; d];
            let mut parameters_shared: BTreeMap<Read, f64> = BTreeMap::new();
            for &(parameter, position, derivative) in &row.z_reads {
                *parameters_shared.entry((parameter, position)).or_default() += derivative;
            }
            for (index, pair) in row.pairs.iter().enumerate() {
                let (q, k) = (self.q_row(batch, head, query), self.k_row(batch, head, pair.key));
                let (slope, derivative) = (row.shared_factor(index), pair.derivatives[0]);
                let product = dot_magnitude(output_grad, self.v_row(batch, head, pair.key));
                let own = product * (pair.outcome_slope * row.own_factor(index)).abs();
                add_scaled(&mut q_shared, slope * derivative, k);
                add_squares(&mut squares.q[query * d..][..d], own * derivative, k);
                let both = own + shared * slope.abs();
                add_squares(&mut squares.k[pair.key * d..][..d], both * derivative, q);
                add_squares(&mut squares.v[pair.key * dv..][..dv], pair.outcome, output_grad);
                for (&read, derivative) in pair.reads.iter().zip(&pair.derivatives[1..]) {
                    squares.add(read, (own * derivative).powi(2));
                    *parameters_shared.entry(read).or_default() += slope * derivative;
                }
                for &(read, derivative) in &pair.outcome_reads {
                    squares.add(read, (product * derivative).powi(2));
                }
                for (entmax, &(read, derivative)) in
                    row.entmax.iter().flat_map(|entmax| entmax.alpha_reads.iter().map(move |read| (entmax, read)))
                {
                    let term = entmax.alpha_terms[index] * derivative;
                    squares.add(read, (product * pair.outcome_slope * term).powi(2));
                    *parameters_shared.entry(read).or_default() += term;
                }
            }
            add_squares(&mut squares.q[query * d..][..d], shared, &q_shared);
            for (read, derivative) in parameters_shared {
                squares.add(read, (shared * derivative).powi(2));
            }
        }
        squares
    }
}

/// The root of the sum of the squares of the products.
fn dot_magnitude(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x * y).powi(2)).sum::<f64>().sqrt()
}

/// Adds the squares of the terms that [`add_scaled`] adds.
fn add_squares(sum: &mut [f64], factor: f64, values: &[f64]) {
    for (s, v) in sum.iter_mut().zip(values) {
        *s += (factor * v).powi(2);
    }
}

fn square_roots(values: &mut [f64]) {
    values.iter_mut().for_each(|x| *x = x.sqrt());
}
