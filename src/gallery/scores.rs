//! Softmax of changed scores, wherever query and key stand.

use crate::attention;

attention! {
    /// Softmax of `cap tanh(s / cap)` (Gemma Team, Gemma 2: Improving Open Language Models at a Practical Size, 2024).
    #[derive(Clone, Debug)]
    pub struct Softcap {
        /// The largest magnitude of a score; not zero.
        const cap: f32,
        score: |s| cap * tanh(s / cap),
    }

    /// Softmax of `cap_h tanh(s / cap_h)` with a learnable cap (after Gemma Team, Gemma 2: Improving Open Language Models at a
    /// Practical Size, 2024).
    #[derive(Clone, Debug)]
    pub struct LearnableSoftcap {
        /// The cap of each head; not zero.
        cap: f32[h],
        score: |s, b, h| cap[h] * tanh(s / cap[h]),
    }

    /// Softmax of `tau_h q . k`, for queries and keys that the caller has normalised to length 1 (Henry et al., Query-Key
    /// Normalization for Transformers, 2020). The scale has no influence.
    #[derive(Clone, Debug)]
    pub struct Cosine {
        /// The factor of each head.
        tau: f32[h],
        score: |s, b, h| tau[h] * (s / scale),
    }
}
