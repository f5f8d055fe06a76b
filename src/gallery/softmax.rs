//! Softmax and its kin: exponential weights over a sum, with something added to the sum or multiplied to the scores.

use crate::attention;

attention! {
    /// `O = sum_j exp(s_j) v_j / sum_j exp(s_j)` (Vaswani et al., Attention Is All You Need, 2017).
    #[derive(Clone, Debug)]
    pub struct Softmax {
        score: |s| s,
        activation: exp,
        normalizer: softmax,
    }

    /// Softmax of `factor * s`, the factor an inverse temperature (Hinton et al., Distilling the Knowledge in a Neural Network,
    /// 2015).
    #[derive(Clone, Debug)]
    pub struct ScaledSoftmax {
        /// The factor.
        const factor: f32,
        score: |s| factor * s,
    }

    /// Softmax of `s / temperature_h`, learnable for each head (Touvron et al., Going Deeper with Image Transformers, 2021, learn
    /// it as a scale of the logits).
    #[derive(Clone, Debug)]
    pub struct TemperatureSoftmax {
        /// The temperature of each head; not zero.
        temperature: f32[h],
        score: |s, b, h| s / temperature[h],
    }

    /// `w_j = exp(s_j) / (1 + sum_k exp(s_k))`: a row may attend to nothing (Miller, Attention Is Off By One, 2023).
    #[derive(Clone, Debug)]
    pub struct SoftmaxOne {
        normalizer: sum + 1,
    }

    /// `w_j = exp(s_j) / (n_h + sum_k exp(s_k))` with a learnable `n` for each head (after Miller, Attention Is Off By One, 2023).
    #[derive(Clone, Debug)]
    pub struct SoftmaxN {
        /// What each head adds to the sum; not negative.
        n: f32[h],
        normalizer: sum + n[h],
    }

    /// `w_j = exp(s_j) / (exp(sink_h) + sum_k exp(s_k))`: a learnable logit without a value (OpenAI, gpt-oss-120b & gpt-oss-20b
    /// Model Card, 2025).
    #[derive(Clone, Debug)]
    pub struct Sink {
        /// The logit of each head.
        sink: f32[h],
        normalizer: sum + exp(sink[h]),
    }

    /// Softmax of `w_h ln(n) s`: the weights do not flatten as rows grow (Nakanishi, Scalable-Softmax Is Superior for Attention,
    /// 2025).
    #[derive(Clone, Debug)]
    pub struct ScalableSoftmax {
        /// The factor of each head.
        w: f32[h],
        score: |s, b, h| w[h] * ln(live_keys) * s,
    }
}
