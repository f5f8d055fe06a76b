//! Softmax attention and its gradients, naively in f64, for inputs that are exact in bf16.

use super::random::Random;

/// Extents of a problem; tensors are `[batch, heads, rows, head_dim]`, contiguous.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Batches.
    pub batches: usize,
    /// Heads of q.
    pub heads: usize,
    /// Query heads that share a head of k and v.
    pub group: usize,
    /// Queries.
    pub q_len: usize,
    /// Keys.
    pub kv_len: usize,
    /// Columns of q, k and v.
    pub head_dim: usize,
    /// Whether query q sees keys up to `q + kv_len - q_len` only.
    pub causal: bool,
}

impl Shape {
    /// Heads of k and v.
    pub fn kv_heads(&self) -> usize {
        self.heads / self.group
    }

    /// What scores are multiplied by.
    pub fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn is_live(&self, q: usize, kv: usize) -> bool {
        !self.causal || kv + self.q_len <= q + self.kv_len
    }
}

/// Inputs and everything that follows from them.
pub struct Attention {
    /// Inputs, and the gradient of the output.
    pub q: Vec<f32>,
    /// Keys.
    pub k: Vec<f32>,
    /// Values.
    pub v: Vec<f32>,
    /// The gradient of the output.
    pub o_grad: Vec<f32>,
    /// The output.
    pub o: Vec<f32>,
    /// Natural logarithm of the sum of exponentials; minus infinity for a row without keys.
    pub lse: Vec<f32>,
    /// Row sums of `o * o_grad`.
    pub delta: Vec<f32>,
    /// Gradients.
    pub q_grad: Vec<f32>,
    /// Of the keys.
    pub k_grad: Vec<f32>,
    /// Of the values.
    pub v_grad: Vec<f32>,
}

impl Attention {
    /// Random inputs and their results.
    pub fn random(shape: &Shape, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut normal =
            |count: usize| -> Vec<f32> { (0..count).map(|_| half::bf16::from_f32(random.normal()).to_f32()).collect() };
        let queries = shape.batches * shape.heads * shape.q_len * shape.head_dim;
        let keys = shape.batches * shape.kv_heads() * shape.kv_len * shape.head_dim;
        let [q, o_grad] = [(); 2].map(|()| normal(queries));
        let [k, v] = [(); 2].map(|()| normal(keys));
        let rows = queries / shape.head_dim;
        let mut attention = Self {
            q,
            k,
            v,
            o_grad,
            o: vec![0.0; queries],
            lse: vec![f32::NEG_INFINITY; rows],
            delta: vec![0.0; rows],
            q_grad: vec![0.0; queries],
            k_grad: vec![0.0; keys],
            v_grad: vec![0.0; keys],
        };
        for head in 0..shape.batches * shape.heads {
            attention.head(shape, head);
        }
        attention
    }

    fn head(&mut self, shape: &Shape, head: usize) {
        let (d, scale) = (shape.head_dim, f64::from(shape.scale()));
        let (batch, kv_head) = (head / shape.heads, head % shape.heads / shape.group);
        let queries = head * shape.q_len;
        let keys = (batch * shape.kv_heads() + kv_head) * shape.kv_len;
        let mut k_grad = vec![0.0; shape.kv_len * d];
        let mut v_grad = vec![0.0; shape.kv_len * d];
        let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
        let row_of = |tensor: &[f32], row: usize| -> Vec<f32> { tensor[row * d..(row + 1) * d].to_vec() };
        for q in 0..shape.q_len {
            let (query, o_grad) = (row_of(&self.q, queries + q), row_of(&self.o_grad, queries + q));
            let live: Vec<usize> = (0..shape.kv_len).filter(|&kv| shape.is_live(q, kv)).collect();
            let scores: Vec<f64> =
                live.iter().map(|kv| scale * dot(&query, &self.k[(keys + kv) * d..(keys + kv + 1) * d])).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            if live.is_empty() {
                continue;
            }
            self.lse[queries + q] = (max + sum.ln()) as f32;
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp() / sum).collect();
            let mut o = vec![0.0; d];
            for (kv, weight) in live.iter().zip(&weights) {
                (0..d).for_each(|c| o[c] += weight * f64::from(self.v[(keys + kv) * d + c]));
            }
            let delta: f64 = (0..d).map(|c| o[c] * f64::from(o_grad[c])).sum();
            self.delta[queries + q] = delta as f32;
            let mut q_grad = vec![0.0; d];
            for (&kv, weight) in live.iter().zip(&weights) {
                let weight_grad = dot(&o_grad, &self.v[(keys + kv) * d..(keys + kv + 1) * d]);
                let score_grad = weight * (weight_grad - delta) * scale;
                for c in 0..d {
                    q_grad[c] += score_grad * f64::from(self.k[(keys + kv) * d + c]);
                    k_grad[kv * d + c] += score_grad * f64::from(query[c]);
                    v_grad[kv * d + c] += weight * f64::from(o_grad[c]);
                }
            }
            for c in 0..d {
                self.o[(queries + q) * d + c] = o[c] as f32;
                self.q_grad[(queries + q) * d + c] = q_grad[c] as f32;
            }
        }
        for index in 0..shape.kv_len * d {
            self.k_grad[keys * d + index] += k_grad[index] as f32;
            self.v_grad[keys * d + index] += v_grad[index] as f32;
        }
    }
}
