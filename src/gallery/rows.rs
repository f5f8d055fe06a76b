//! Weights that depend on a whole row: which keys are kept, thresholds that make weights sum to 1, maps after normalization.

use crate::attention;

attention! {
    /// Softmax over the `k_h` keys with the greatest scores, the first among equals (Gupta et al., Memory-efficient Transformers via
    /// Top-k Attention, 2021).
    #[derive(Clone, Debug)]
    pub struct TopK {
        /// How many keys a row of each head keeps.
        k: i32[h],
        keep: top_k(k[h]),
    }

    /// Softmax over the keys whose weight is at least `e^-reach` of the largest (Yuan et al., BLASST: Dynamic Blocked Attention
    /// Sparsity via Softmax Thresholding, 2025, skip what is below a share of the running maximum).
    #[derive(Clone, Debug)]
    pub struct ThresholdSoftmax {
        /// How far below the greatest score of its row a score may be; not negative.
        const reach: f32,
        keep: |s, max| s >= max - reach,
    }

    /// `w_j = max(s_j - tau, 0)`, the `tau` that makes them sum to 1: the projection of the scores onto the simplex (Martins and
    /// Astudillo, From Softmax to Sparsemax, 2016).
    #[derive(Clone, Debug)]
    pub struct Sparsemax {
        normalizer: sparsemax,
    }

    /// `w_j = max(s_j / 2 - tau, 0)^2`, the `tau` that makes them sum to 1 (Peters et al., Sparse Sequence-to-Sequence Models, 2019).
    #[derive(Clone, Debug)]
    pub struct Entmax15 {
        normalizer: entmax15,
    }

    /// `w_j = max((alpha_h - 1) s_j - tau, 0)^(1 / (alpha_h - 1))` with a learnable `alpha_h`, the `tau` that makes them sum to 1
    /// (Correia et al., Adaptively Sparse Transformers, 2019).
    #[derive(Clone, Debug)]
    pub struct AlphaEntmax {
        /// Alpha is `1 + sigmoid(shape)`: near softmax far below 0, near sparsemax far above.
        shape: f32[h],
        normalizer: entmax(1 + sigmoid(shape[h])),
    }

    /// `clamp((zeta - gamma) softmax(s)_j + gamma, 0, 1)`: weights that are small vanish, and a row may attend to nothing
    /// (Bondarenko et al., Quantizable Transformers: Removing Outliers by Helping Attention Heads Do Nothing, 2023).
    #[derive(Clone, Debug)]
    pub struct ClippedSoftmax {
        /// What a weight of 0 is stretched to, at most 0; `-0.03`, or `-4 / n`.
        const gamma: f32,
        /// What a weight of 1 is stretched to, at least 1.
        const zeta: f32,
        post: |p| clamp((zeta - gamma) * p + gamma, 0, 1),
    }
}
