//! The dense layers, each with a backward pass written by hand: embedding, linear, layer norm, SiLU, cross-entropy.
//!
//! A layer keeps what its last forward pass saw. Invariant: `backward` is called once after each `forward`, adds to the
//! weights' gradients and returns the gradient of the layer's input.

use ndarray::{Array1, Array2, Axis, Zip};

use crate::weight::Weight;

/// `x W + bias`.
pub(crate) struct Linear {
    pub(crate) weight: Weight,
    pub(crate) bias: Weight,
    input: Array2<f32>,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize, gain: f32, random: &mut fastrand::Rng) -> Linear {
        Linear {
            weight: Weight::normal((inputs, outputs), gain / (inputs as f32).sqrt(), random),
            bias: Weight::constant((1, outputs), 0.0),
            input: Array2::zeros((0, 0)),
        }
    }

    pub(crate) fn forward(&mut self, x: Array2<f32>) -> Array2<f32> {
        self.input = x;
        self.input.dot(&self.weight.value) + &self.bias.value
    }

    pub(crate) fn backward(&mut self, grad: &Array2<f32>) -> Array2<f32> {
        self.weight.grad += &self.input.t().dot(grad);
        self.bias.grad += &grad.sum_axis(Axis(0)).insert_axis(Axis(0));
        grad.dot(&self.weight.value.t())
    }

    pub(crate) fn weights(&mut self) -> Vec<&mut Weight> {
        vec![&mut self.weight, &mut self.bias]
    }
}

/// `(x - mean) / deviation * gain + bias` over each row.
pub(crate) struct LayerNorm {
    gain: Weight,
    bias: Weight,
    normalized: Array2<f32>,
    inverse_deviation: Array1<f32>,
}

impl LayerNorm {
    pub(crate) fn new(width: usize) -> LayerNorm {
        LayerNorm {
            gain: Weight::constant((1, width), 1.0),
            bias: Weight::constant((1, width), 0.0),
            normalized: Array2::zeros((0, 0)),
            inverse_deviation: Array1::zeros(0),
        }
    }

    pub(crate) fn forward(&mut self, x: &Array2<f32>) -> Array2<f32> {
        let width = x.ncols() as f32;
        let centered = x - &(x.sum_axis(Axis(1)) / width).insert_axis(Axis(1));
        let variance = (&centered * &centered).sum_axis(Axis(1)) / width;
        self.inverse_deviation = variance.mapv(|v| 1.0 / (v + 1e-5).sqrt());
        self.normalized = centered * self.inverse_deviation.view().insert_axis(Axis(1));
        &self.normalized * &self.gain.value + &self.bias.value
    }

    pub(crate) fn backward(&mut self, grad: &Array2<f32>) -> Array2<f32> {
        self.gain.grad += &(grad * &self.normalized).sum_axis(Axis(0)).insert_axis(Axis(0));
        self.bias.grad += &grad.sum_axis(Axis(0)).insert_axis(Axis(0));
        let inner = grad * &self.gain.value;
        // The row's mean and deviation move with x: their share of the gradient goes.
        let width = inner.ncols() as f32;
        let mean = (inner.sum_axis(Axis(1)) / width).insert_axis(Axis(1));
        let along = ((&inner * &self.normalized).sum_axis(Axis(1)) / width).insert_axis(Axis(1));
        (inner - mean - &self.normalized * &along) * self.inverse_deviation.view().insert_axis(Axis(1))
    }

    pub(crate) fn weights(&mut self) -> Vec<&mut Weight> {
        vec![&mut self.gain, &mut self.bias]
    }
}

/// `W2 silu(W1 x)`.
pub(crate) struct Mlp {
    up: Linear,
    down: Linear,
    hidden: Array2<f32>,
}

impl Mlp {
    pub(crate) fn new(width: usize, gain: f32, random: &mut fastrand::Rng) -> Mlp {
        let (up, down) = (Linear::new(width, 4 * width, 1.0, random), Linear::new(4 * width, width, gain, random));
        Mlp { up, down, hidden: Array2::zeros((0, 0)) }
    }

    pub(crate) fn forward(&mut self, x: Array2<f32>) -> Array2<f32> {
        self.hidden = self.up.forward(x);
        self.down.forward(self.hidden.mapv(|x| x * sigmoid(x)))
    }

    pub(crate) fn backward(&mut self, grad: &Array2<f32>) -> Array2<f32> {
        let mut grad = self.down.backward(grad);
        Zip::from(&mut grad).and(&self.hidden).for_each(|grad, &x| {
            let s = sigmoid(x);
            *grad *= s * (1.0 + x * (1.0 - s));
        });
        self.up.backward(&grad)
    }

    pub(crate) fn weights(&mut self) -> Vec<&mut Weight> {
        self.up.weights().into_iter().chain(self.down.weights()).collect()
    }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// A vector for each character plus one for each position.
pub(crate) struct Embedding {
    characters: Weight,
    positions: Weight,
    tokens: Vec<usize>,
}

impl Embedding {
    pub(crate) fn new(vocabulary: usize, context: usize, width: usize, random: &mut fastrand::Rng) -> Embedding {
        let characters = Weight::normal((vocabulary, width), 0.5, random);
        Embedding { characters, positions: Weight::normal((context, width), 0.1, random), tokens: Vec::new() }
    }

    /// Of whole sequences, one after the other.
    pub(crate) fn forward(&mut self, tokens: &[usize]) -> Array2<f32> {
        self.tokens = tokens.to_vec();
        let mut x = self.characters.value.select(Axis(0), tokens);
        for (row, mut x) in x.rows_mut().into_iter().enumerate() {
            x += &self.positions.value.row(row % self.positions.value.nrows());
        }
        x
    }

    pub(crate) fn backward(&mut self, grad: &Array2<f32>) {
        let context = self.positions.value.nrows();
        for (row, grad) in grad.rows().into_iter().enumerate() {
            let mut character = self.characters.grad.row_mut(self.tokens[row]);
            character += &grad;
            let mut position = self.positions.grad.row_mut(row % context);
            position += &grad;
        }
    }

    pub(crate) fn weights(&mut self) -> Vec<&mut Weight> {
        vec![&mut self.characters, &mut self.positions]
    }
}

/// The mean of `-ln p(target)`, in nats a character, and its gradient in the logits.
pub(crate) fn cross_entropy(logits: &Array2<f32>, targets: &[usize]) -> (f32, Array2<f32>) {
    let count = targets.len() as f32;
    let mut grad = logits.clone();
    let mut loss = 0.0;
    for (mut row, &target) in grad.rows_mut().into_iter().zip(targets) {
        let largest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        row.mapv_inplace(|x| (x - largest).exp());
        let sum = row.sum();
        loss -= (row[target] / sum).ln() / count;
        row.mapv_inplace(|x| x / (sum * count));
        row[target] -= 1.0 / count;
    }
    (loss, grad)
}
