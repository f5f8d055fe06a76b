//! Self-attention of any variant: the projections are dense layers, everything between them is attn's.
//!
//! q, k and v are views into the one tensor that the projection wrote, `[b, n, 3 h, d]`: attn takes any strides with a
//! contiguous last axis, so that nothing is transposed in memory. The variant's learnable parameters are trained beside the
//! weights: attn returns their gradients by name.

use std::collections::BTreeMap;

use attn::{Attention, Error, Output, Parameters, Tensor};
use ndarray::{Array2, Axis, concatenate};

use crate::layers::Linear;
use crate::variant::Initial;
use crate::weight::Weight;

/// A self-attention layer.
pub(crate) struct SelfAttention {
    attention: Attention,
    heads: usize,
    context: usize,
    project: Linear,
    output: Linear,
    /// The variant's constants, and shapes and names of all its parameters.
    initial: Vec<Initial>,
    learnable: BTreeMap<String, Weight>,
    seen: Option<Seen>,
}

/// What the backward pass needs of the forward pass.
struct Seen {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    parameters: Parameters,
    output: Output,
}

impl SelfAttention {
    pub(crate) fn new(
        attention: &Attention,
        initial: &[Initial],
        (width, heads, context): (usize, usize, usize),
        gain: f32,
        random: &mut fastrand::Rng,
    ) -> SelfAttention {
        let learnable = initial.iter().filter_map(|parameter| {
            let values = parameter.learnable_values()?;
            let value = Array2::from_shape_vec((1, values.len()), values).expect("one row of all values");
            Some((parameter.name.clone(), Weight::new(value)))
        });
        SelfAttention {
            attention: attention.clone(),
            heads,
            context,
            project: Linear::new(width, 3 * width, 1.0, random),
            output: Linear::new(width, width, gain, random),
            learnable: learnable.collect(),
            initial: initial.to_vec(),
            seen: None,
        }
    }

    pub(crate) fn forward(&mut self, x: Array2<f32>) -> Result<Array2<f32>, Error> {
        let qkv = self.project.forward(x);
        let (rows, width) = (qkv.nrows(), qkv.ncols() / 3);
        let (batch, head_dim) = (rows / self.context, width / self.heads);
        let shape = [batch, self.context, 3 * self.heads, head_dim];
        let device = self.attention.device();
        let qkv = Tensor::from_f32(&shape, qkv.into_iter().collect())?.to_device(device)?;
        let part = |at: usize| qkv.narrow(2, at * self.heads, self.heads)?.transpose(1, 2);
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let parameters = self.parameters()?.to_device(device)?;
        let output = self.attention.forward(&q, &k, &v, &parameters)?;
        let mixed = rows_of(&output.output, rows, width)?;
        self.seen = Some(Seen { q, k, v, parameters, output });
        Ok(self.output.forward(mixed))
    }

    pub(crate) fn backward(&mut self, grad: &Array2<f32>) -> Result<Array2<f32>, Error> {
        let Seen { q, k, v, parameters, output } = self.seen.take().expect("a forward pass came before");
        let grad = self.output.backward(grad);
        let (rows, width) = grad.dim();
        let shape = [rows / self.context, self.context, self.heads, width / self.heads];
        let grad = Tensor::from_f32(&shape, grad.into_iter().collect())?.to_device(self.attention.device())?;
        let grad = grad.transpose(1, 2)?;
        let gradients = self.attention.backward(&q, &k, &v, &parameters, &output, &grad, None)?.to_host()?;
        for (name, grad) in gradients.parameters.iter() {
            let weight = self.learnable.get_mut(name).expect("gradients are those of the learnable parameters");
            weight.grad.iter_mut().zip(grad.to_f32_vec()?).for_each(|(sum, grad)| *sum += grad);
        }
        let parts = [&gradients.q, &gradients.k, &gradients.v].map(|grad| rows_of(grad, rows, width));
        let [q, k, v] = parts;
        let qkv = concatenate(Axis(1), &[q?.view(), k?.view(), v?.view()]).expect("three blocks of equal height");
        Ok(self.project.backward(&qkv))
    }

    /// The variant's parameters as they are now.
    fn parameters(&self) -> Result<Parameters, Error> {
        let mut parameters = Parameters::new();
        for initial in &self.initial {
            let tensor = match self.learnable.get(&initial.name) {
                Some(weight) => Tensor::from_f32(&initial.shape, weight.value.iter().copied().collect())?,
                None => initial.tensor()?,
            };
            parameters.insert(initial.name.clone(), tensor);
        }
        Ok(parameters)
    }

    /// Names and values of the learnable parameters.
    pub(crate) fn learned(&self) -> impl Iterator<Item = (&str, Vec<f32>)> {
        self.learnable.iter().map(|(name, weight)| (name.as_str(), weight.value.iter().copied().collect()))
    }

    pub(crate) fn weights(&mut self) -> Vec<&mut Weight> {
        let dense = self.project.weights().into_iter().chain(self.output.weights());
        dense.chain(self.learnable.values_mut()).collect()
    }
}

/// `[b, h, n, d]` as the rows of a matrix, heads side by side.
fn rows_of(tensor: &Tensor, rows: usize, width: usize) -> Result<Array2<f32>, Error> {
    let values = tensor.to_host()?.transpose(1, 2)?.to_f32_vec()?;
    Ok(Array2::from_shape_vec((rows, width), values).expect("b n rows of h d values"))
}
