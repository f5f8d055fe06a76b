//! Both passes of a call in f64, whether it is packed or not: one naive attention a sequence, put together row by row.

use std::ops::Range;

use attn_dsl::definition::Definition;

#[cfg(feature = "testing")]
use super::magnitude::Magnitudes;
use super::naive::{Naive, NaiveGradients, NaiveOutput};
use crate::call::Call;
use crate::packing::add_corner;
use crate::tensor::TensorError;

/// The calls of the sequences of a call, with their rows among its queries and its keys.
pub(crate) struct Calls<'a> {
    definition: &'a Definition,
    call: &'a Call,
    parts: Vec<Part>,
}

struct Part {
    call: Call,
    queries: Range<usize>,
    keys: Range<usize>,
}

/// A part of an array `[heads, rows, width]`, on its way out of it or into it.
#[derive(Clone)]
struct Rows {
    heads: usize,
    all: usize,
    width: usize,
    range: Range<usize>,
}

impl Rows {
    fn of_head(&self, head: usize) -> Range<usize> {
        let at = |row| (head * self.all + row) * self.width;
        at(self.range.start)..at(self.range.end)
    }

    fn taken(&self, all: &[f64]) -> Vec<f64> {
        (0..self.heads).flat_map(|head| &all[self.of_head(head)]).copied().collect()
    }

    fn put<T: Copy>(&self, all: &mut [T], part: &[T]) {
        let len = self.range.len() * self.width;
        (0..self.heads).for_each(|head| all[self.of_head(head)].copy_from_slice(&part[head * len..][..len]));
    }
}

impl<'a> Calls<'a> {
    pub(crate) fn new(definition: &'a Definition, call: &'a Call) -> Result<Self, TensorError> {
        let Some(packing) = &call.packing else {
            // all batches as they are
            let part = Part { call: call.clone(), queries: 0..call.problem.q_len, keys: 0..call.problem.kv_len };
            return Ok(Calls { definition, call, parts: vec![part] });
        };
        let parts = packing.runs().map(|sequence| {
            let call = call.sequence(definition, packing, sequence)?;
            Ok(Part { call, queries: packing.queries(sequence), keys: packing.keys(sequence) })
        });
        Ok(Calls { definition, call, parts: parts.collect::<Result<_, TensorError>>()? })
    }

    fn queries(&self, part: &Part, width: usize) -> Rows {
        let problem = &self.call.problem;
        let heads = problem.batch * problem.heads;
        Rows { heads, all: problem.q_len, width, range: part.queries.clone() }
    }

    fn keys(&self, part: &Part, width: usize) -> Rows {
        let problem = &self.call.problem;
        let heads = problem.batch * problem.kv_heads;
        Rows { heads, all: problem.kv_len, width, range: part.keys.clone() }
    }

    pub(crate) fn forward(&self) -> Result<NaiveOutput, TensorError> {
        let problem = &self.call.problem;
        let rows = problem.row_shape().iter().product::<usize>();
        let mut all =
            NaiveOutput { output: vec![0.0; rows * problem.value_dim], statistic: None, dead: vec![false; rows] };
        for part in &self.parts {
            let own = Naive::new(self.definition, &part.call)?.forward();
            self.queries(part, problem.value_dim).put(&mut all.output, &own.output);
            self.queries(part, 1).put(&mut all.dead, &own.dead);
            if let Some(own) = own.statistic {
                self.queries(part, 1).put(all.statistic.get_or_insert_with(|| vec![0.0; rows]), &own);
            }
        }
        Ok(all)
    }

    /// `output_grad` is `[b, h, q, dv]`, `statistic_grad` `[b, h, q]`, in row-major order.
    pub(crate) fn backward(
        &self,
        output_grad: &[f64],
        statistic_grad: Option<&[f64]>,
    ) -> Result<NaiveGradients, TensorError> {
        let mut all = self.zeros();
        for part in &self.parts {
            let (output_grad, statistic_grad) = self.gradients_of(part, output_grad, statistic_grad);
            let own = Naive::new(self.definition, &part.call)?.backward(&output_grad, statistic_grad.as_deref());
            self.put(&mut all, part, &own);
        }
        Ok(all)
    }

    /// The magnitudes of both passes.
    #[cfg(feature = "testing")]
    pub(crate) fn magnitudes(
        &self,
        output_grad: &[f64],
        statistic_grad: Option<&[f64]>,
    ) -> Result<Magnitudes, TensorError> {
        let problem = &self.call.problem;
        let output = vec![0.0; problem.output_shape().iter().product()];
        let mut all = Magnitudes { output, gradients: self.zeros() };
        for part in &self.parts {
            let (output_grad, statistic_grad) = self.gradients_of(part, output_grad, statistic_grad);
            let mut own = Naive::new(self.definition, &part.call)?.magnitudes(&output_grad, statistic_grad.as_deref());
            self.queries(part, problem.value_dim).put(&mut all.output, &own.output);
            // sequences add to a parameter: so do the squares of their terms
            own.gradients.parameters.iter_mut().flatten().flatten().for_each(|x| *x *= *x);
            self.put(&mut all.gradients, part, &own.gradients);
        }
        all.gradients.parameters.iter_mut().flatten().flatten().for_each(|x| *x = x.sqrt());
        Ok(all)
    }

    fn zeros(&self) -> NaiveGradients {
        let Call { q, k, v, parameters, .. } = self.call;
        let zeros = |tensor: &crate::Tensor| vec![0.0; tensor.element_count()];
        let learnable = self.definition.parameters.iter().zip(parameters);
        let learnable = learnable.map(|(declared, tensor)| declared.learnable.then(|| zeros(tensor)));
        NaiveGradients { q: zeros(q), k: zeros(k), v: zeros(v), parameters: learnable.collect() }
    }

    /// What a part is given of the gradients of the results.
    fn gradients_of(
        &self,
        part: &Part,
        output_grad: &[f64],
        statistic_grad: Option<&[f64]>,
    ) -> (Vec<f64>, Option<Vec<f64>>) {
        let output_grad = self.queries(part, self.call.problem.value_dim).taken(output_grad);
        (output_grad, statistic_grad.map(|all| self.queries(part, 1).taken(all)))
    }

    /// Puts a part's gradients into its rows, and adds those of parameters.
    fn put(&self, all: &mut NaiveGradients, part: &Part, own: &NaiveGradients) {
        let problem = &self.call.problem;
        self.queries(part, problem.head_dim).put(&mut all.q, &own.q);
        self.keys(part, problem.head_dim).put(&mut all.k, &own.k);
        self.keys(part, problem.value_dim).put(&mut all.v, &own.v);
        let shapes = self.call.parameters.iter().zip(&part.call.parameters);
        for ((sum, own), (all, part)) in all.parameters.iter_mut().zip(&own.parameters).zip(shapes) {
            if let (Some(sum), Some(own)) = (sum, own) {
                add_corner(sum, all.shape(), own, part.shape());
            }
        }
    }
}
