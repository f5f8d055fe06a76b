//! Other weights than exponentials, divided by their sum.

use crate::attention;

attention! {
    /// `w_j = max(s_j, 0) / sum_k max(s_k, 0)` (Shen et al., A Study on ReLU and Softmax in Transformer, 2023). A row without a
    /// positive score gives zero.
    #[derive(Clone, Debug)]
    pub struct NormalizedRelu {
        activation: relu,
        normalizer: sum,
    }

    /// `w_j = softplus(s_j) / sum_k softplus(s_k)` (Gao et al., Softplus Attention with Re-weighting, 2025).
    #[derive(Clone, Debug)]
    pub struct NormalizedSoftplus {
        activation: softplus,
        normalizer: sum,
    }
}
