//! States of a caller's: `[d, dv]` of a head, with a column more where the normalizer reads the sum, to and from those of sums.
//!
//! Invariant: a state of a caller's that begins counts from an exponent of 0, one that ends from that behind the last key; gradients
//! are of the former.

use super::super::math::exp2;
use super::sum::State;
use super::{Head, LinearPlan};
use crate::call::Problem;

/// What a head's states are relative to.
pub(super) struct Ends {
    d: usize,
    dv: usize,
    columns: usize,
    /// None where nothing has an exponent.
    end: Option<f32>,
    shared: f32,
}

impl Ends {
    pub(super) fn new(plan: &LinearPlan, head: &Head<'_>, problem: &Problem) -> Ends {
        let inputs = LinearPlan::rows_inputs(head);
        let exponents = plan.query_exponent.is_some() || plan.key_exponent.is_some();
        let end = plan.end_exponent.as_ref().map_or(0.0, |roots| roots.floats(head, inputs)[0]);
        Ends {
            d: problem.head_dim,
            dv: problem.value_dim,
            columns: problem.value_dim + usize::from(plan.streaming),
            end: exponents.then_some(end),
            shared: plan.shared.floats(head, inputs)[0],
        }
    }

    /// The part of a head.
    pub(super) fn of_head<'a>(&self, all: &'a [f32], head: &Head<'_>) -> &'a [f32] {
        let size = self.d * self.columns;
        &all[(head.batch * head.context.problem.heads + head.head) * size..][..size]
    }

    /// The state that a sum over keys begins with: of columns of v by rows of k where transposed.
    pub(super) fn begin(&self, own: &[f32], transposed: bool) -> State {
        self.taken(own, transposed, 1.0, 0.0)
    }

    /// The gradient that a sum over queries begins with, from the end.
    pub(super) fn end(&self, own: &[f32], transposed: bool) -> State {
        self.taken(own, transposed, 1.0 / self.shared, -self.end.unwrap_or(0.0))
    }

    /// The state behind the last key.
    pub(super) fn last(&self, state: &State) -> Vec<f32> {
        self.given(state, false, self.decay(state, -self.end.unwrap_or(0.0)))
    }

    /// The gradient of the state before the first key, of a sum whose rows are those of v.
    pub(super) fn first_grad(&self, state: &State) -> Vec<f32> {
        self.given(state, true, self.shared * self.decay(state, 0.0))
    }

    fn decay(&self, state: &State, exponent: f32) -> f32 {
        match self.end {
            None => 1.0,
            Some(_) if state.reference == f32::NEG_INFINITY => 0.0,
            Some(_) => exp2(state.reference + exponent),
        }
    }

    fn taken(&self, own: &[f32], transposed: bool, scale: f32, reference: f32) -> State {
        let (d, dv) = (self.d, self.dv);
        let mut matrix = vec![0.0; d * dv];
        let mut sum = vec![0.0; d];
        for (row, values) in own.chunks_exact(self.columns).enumerate() {
            for (column, value) in values[..dv].iter().enumerate() {
                matrix[if transposed { column * d + row } else { row * dv + column }] = scale * value;
            }
            sum[row] = values.get(dv).map_or(0.0, |value| scale * value);
        }
        let (b_sum, c_sum) = if transposed { (vec![0.0; dv], sum) } else { (sum, vec![0.0; dv]) };
        State { reference, matrix, b_sum, c_sum }
    }

    fn given(&self, state: &State, transposed: bool, scale: f32) -> Vec<f32> {
        let (d, dv) = (self.d, self.dv);
        let mut own = vec![0.0; d * self.columns];
        for (row, values) in own.chunks_exact_mut(self.columns).enumerate() {
            for (column, value) in values[..dv].iter_mut().enumerate() {
                *value = scale * state.matrix[if transposed { column * d + row } else { row * dv + column }];
            }
            let sum = if transposed { &state.c_sum } else { &state.b_sum };
            if let Some(value) = values.get_mut(dv) {
                *value = scale * sum[row];
            }
        }
        own
    }
}
