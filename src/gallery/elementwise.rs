//! Weights that depend on their own pair alone: nothing is normalised but by the number of keys.

use crate::attention;

attention! {
    /// `w_j = sigmoid(s_j - ln n)` (Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention, 2024).
    #[derive(Clone, Debug)]
    pub struct Sigmoid {
        score: |s| s - ln(live_keys),
        activation: sigmoid,
        normalizer: none,
    }

    /// `w_j = sigmoid(s_j + bias_h)` with a learnable bias (after Ramapuram et al., Theory, Analysis, and Best Practices for
    /// Sigmoid Self-Attention, 2024).
    #[derive(Clone, Debug)]
    pub struct SigmoidBias {
        /// The bias of each head; begin with `-ln n`.
        bias: f32[h],
        score: |s, b, h| s + bias[h],
        activation: sigmoid,
        normalizer: none,
    }

    /// `w_j = sigmoid(s_j - slope_h |i - j| - ln n)` (Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid
    /// Self-Attention, 2024; Press et al., Train Short, Test Long, 2021). The whole distance counts: sigmoid is not invariant to
    /// a shift of its row.
    #[derive(Clone, Debug)]
    pub struct SigmoidAlibi {
        /// The slope of each head.
        const slope: f32[h],
        score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv) - ln(live_keys),
        activation: sigmoid,
        normalizer: none,
    }

    /// `w_j = max(s_j, 0) / n` (Wortsman et al., Replacing Softmax with ReLU in Vision Transformers, 2023).
    #[derive(Clone, Debug)]
    pub struct Relu {
        activation: relu,
        normalizer: count,
    }

    /// `w_j = max(s_j, 0)^2 / n` (Hua et al., Transformer Quality in Linear Time, 2022).
    #[derive(Clone, Debug)]
    pub struct ReluSquared {
        activation: relu_squared,
        normalizer: count,
    }

    /// `w_j = s_j sigmoid(s_j) / n` (Zhai et al., Actions Speak Louder than Words (HSTU), 2024).
    #[derive(Clone, Debug)]
    pub struct Silu {
        activation: silu,
        normalizer: count,
    }

    /// `w_j = ln(1 + exp(s_j)) / n` (Wortsman et al., Replacing Softmax with ReLU in Vision Transformers, 2023).
    #[derive(Clone, Debug)]
    pub struct Softplus {
        activation: softplus,
        normalizer: count,
    }

    /// `w_j = (1 + erf((s_j - mean) / (deviation sqrt 2))) / 2`, mean `sqrt(1/2)`, deviation `sqrt(1/(4 pi))`: close to the
    /// squared relu, but bounded (Ma et al., Mega: Moving Average Equipped Gated Attention, 2022).
    #[derive(Clone, Debug)]
    pub struct Laplace {
        activation: |s| {
            let mean = 0.7071067811865476;
            let deviation = 0.28209479177387814;
            0.5 * (1 + erf((s - mean) / (deviation * 1.4142135623730951)))
        },
        normalizer: none,
    }
}
