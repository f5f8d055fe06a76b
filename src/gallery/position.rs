//! Scores that know where query and key stand. Queries are aligned with the last keys.

use crate::attention;

attention! {
    /// Softmax of `s_j - slope_h |i - j|` (Press et al., Train Short, Test Long: Attention with Linear Biases, 2021). For 8 heads
    /// the slopes are 1/2, 1/4, ..., 1/256.
    #[derive(Clone, Debug)]
    pub struct Alibi {
        /// The slope of each head.
        const slope: f32[h],
        score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv),
    }

    /// Softmax of `s_j - slope_h |i - j|` with learnable slopes (after Press et al., Train Short, Test Long: Attention with Linear
    /// Biases, 2021).
    #[derive(Clone, Debug)]
    pub struct LearnableAlibi {
        /// The slope of each head.
        slope: f32[h],
        score: |s, b, h, q, kv| s - slope[h] * abs(q + kv_len - q_len - kv),
    }

    /// Softmax of `s_j + table_h[bucket(i - j)]`, the buckets of T5's decoder: one for each distance below 16, then
    /// logarithmically wider ones up to 128 (Raffel et al., Exploring the Limits of Transfer Learning, 2020). T5 runs it with
    /// scale 1.
    #[derive(Clone, Debug)]
    pub struct T5Bias {
        /// The bias of each head and bucket.
        table: f32[h, 32],
        score: |s, b, h, q, kv| {
            let distance = max(q + kv_len - q_len - kv, 0);
            // 16 buckets for a factor of 8. The small term keeps rounding from moving a distance to the bucket before.
            let far = 16 + floor(16 * log2(max(distance, 16) / 16.0) / 3 + 0.001) as i32;
            s + table[h, if distance < 16 { distance } else { min(far, 31) }]
        },
    }

    /// Softmax of `s_j + table_h[bucket(i - j)]`, the buckets of T5's encoder: 16 for keys before the query, 16 for keys behind
    /// it (Raffel et al., Exploring the Limits of Transfer Learning, 2020). T5 runs it with scale 1.
    #[derive(Clone, Debug)]
    pub struct T5BiasBidirectional {
        /// The bias of each head and bucket.
        table: f32[h, 32],
        score: |s, b, h, q, kv| {
            let ahead = kv - (q + kv_len - q_len);
            let distance = abs(ahead);
            let far = 8 + floor(2 * log2(max(distance, 8) / 8.0) + 0.001) as i32;
            let side = if ahead > 0 { 16 } else { 0 };
            s + table[h, side + if distance < 8 { distance } else { min(far, 15) }]
        },
    }

    /// Softmax of `s_j + bias_ij`, a dense bias shared by batches or heads where its extent is 1 (as in Jumper et al., Highly
    /// Accurate Protein Structure Prediction with AlphaFold, 2021).
    #[derive(Clone, Debug)]
    pub struct DenseBias {
        /// The bias of each pair.
        bias: f32[b, h, q, kv],
        score: |s, b, h, q, kv| s + bias[b, h, q, kv],
    }

    /// `w_j = gamma_h^(i - j) s_j` for keys up to the query, the parallel form of retention (Sun et al., Retentive Network: A
    /// Successor to Transformer, 2023).
    #[derive(Clone, Debug)]
    pub struct Retention {
        /// The logarithm of each head's decay; not positive.
        ln_gamma: f32[h],
        score: |s, b, h, q, kv| s * exp(ln_gamma[h] * (q + kv_len - q_len - kv)),
        activation: identity,
        normalizer: none,
        mask: causal,
    }
}
