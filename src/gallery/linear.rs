//! Weights that are a product of what belongs to the query and what belongs to the key: attention in linear time.

use crate::attention;

attention! {
    /// `w_j = phi(q) . phi(k_j)`, divided by their sum and `1e-6`, `phi(x) = elu(x) + 1` of each element (Katharopoulos et al.,
    /// Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention, 2020).
    #[derive(Clone, Debug)]
    pub struct LinearElu {
        feature: |x| elu(x) + 1,
        activation: identity,
        normalizer: sum + 1e-6,
    }

    /// `w_j = exp(gates_i - gates_j) s_j` for keys up to the query: linear attention with a scalar gate a token, given as running sums
    /// of the gates' logarithms (Dao & Gu, Transformers are SSMs (Mamba-2), 2024; Yang et al., Gated Linear Attention
    /// Transformers with Hardware-Efficient Training, 2024).
    #[derive(Clone, Debug)]
    pub struct GatedLinear {
        /// The sum of the logarithms of all gates up to each token; it does not rise.
        gates: f32[b, h, tokens],
        score: |s, b, h, q, kv| s * exp(gates[b, h, q + kv_len - q_len] - gates[b, h, kv]),
        activation: identity,
        normalizer: none,
        mask: causal,
    }
}
