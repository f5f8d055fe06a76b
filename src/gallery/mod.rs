//! Variants of attention from the literature, each with its formula and its source.
//!
//! A variant carries only the mask that belongs to it; any other mask is added by [`crate::Definition::with_mask`], so that one
//! entry serves all of them.
//!
//! In the formulas `s` is `scale * q . k`, `n` the number of live keys of the row, and sums run over the live keys.

#[cfg(feature = "testing")]
pub(crate) mod arguments;
mod elementwise;
mod linear;
mod masks;
mod normalized;
mod position;
mod rows;
mod scores;
mod softmax;

pub use elementwise::*;
pub use linear::*;
pub use masks::*;
pub use normalized::*;
pub use position::*;
pub use rows::*;
pub use scores::*;
pub use softmax::*;

use crate::{Definition, Variant};

/// A variant of the gallery.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name on the command line: `softmax-1`.
    pub name: &'static str,
    /// Its checked definition.
    pub definition: fn() -> &'static Definition,
    /// Where it was proposed.
    pub citation: &'static str,
}

const fn entry<V: Variant>(name: &'static str, citation: &'static str) -> Entry {
    Entry { name, definition: V::definition, citation }
}

static ENTRIES: &[Entry] = &[
    entry::<Softmax>("softmax", "Vaswani et al., Attention Is All You Need, 2017"),
    entry::<ScaledSoftmax>("scaled-softmax", "Hinton et al., Distilling the Knowledge in a Neural Network, 2015"),
    entry::<TemperatureSoftmax>("temperature-softmax", "Touvron et al., Going Deeper with Image Transformers, 2021"),
    entry::<SoftmaxOne>("softmax-1", "Miller, Attention Is Off By One, 2023"),
    entry::<SoftmaxN>("softmax-n", "Miller, Attention Is Off By One, 2023 (n learnable)"),
    entry::<Sink>("sink", "OpenAI, gpt-oss-120b & gpt-oss-20b Model Card, 2025"),
    entry::<ScalableSoftmax>("ssmax", "Nakanishi, Scalable-Softmax Is Superior for Attention, 2025"),
    entry::<Sigmoid>(
        "sigmoid",
        "Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention, 2024",
    ),
    entry::<SigmoidBias>(
        "sigmoid-bias",
        "Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention, 2024 (bias learnable)",
    ),
    entry::<SigmoidAlibi>(
        "sigmoid-alibi",
        "Ramapuram et al., Theory, Analysis, and Best Practices for Sigmoid Self-Attention, 2024, with Press et al., 2021",
    ),
    entry::<Relu>("relu", "Wortsman et al., Replacing Softmax with ReLU in Vision Transformers, 2023"),
    entry::<ReluSquared>("relu-squared", "Hua et al., Transformer Quality in Linear Time, 2022"),
    entry::<Silu>("silu", "Zhai et al., Actions Speak Louder than Words (HSTU), 2024"),
    entry::<Softplus>("softplus", "Wortsman et al., Replacing Softmax with ReLU in Vision Transformers, 2023"),
    entry::<Laplace>("laplace", "Ma et al., Mega: Moving Average Equipped Gated Attention, 2022"),
    entry::<NormalizedRelu>("normalized-relu", "Shen et al., A Study on ReLU and Softmax in Transformer, 2023"),
    entry::<NormalizedSoftplus>("normalized-softplus", "Gao et al., Softplus Attention with Re-weighting, 2025"),
    entry::<TopK>("top-k", "Gupta et al., Memory-efficient Transformers via Top-k Attention, 2021"),
    entry::<ThresholdSoftmax>(
        "threshold-softmax",
        "Yuan et al., BLASST: Dynamic Blocked Attention Sparsity via Softmax Thresholding, 2025",
    ),
    entry::<Sparsemax>("sparsemax", "Martins and Astudillo, From Softmax to Sparsemax, 2016"),
    entry::<Entmax15>("entmax15", "Peters et al., Sparse Sequence-to-Sequence Models, 2019"),
    entry::<AlphaEntmax>("entmax", "Correia et al., Adaptively Sparse Transformers, 2019"),
    entry::<ClippedSoftmax>(
        "clipped-softmax",
        "Bondarenko et al., Quantizable Transformers: Removing Outliers by Helping Attention Heads Do Nothing, 2023",
    ),
    entry::<Softcap>("softcap", "Gemma Team, Gemma 2: Improving Open Language Models at a Practical Size, 2024"),
    entry::<LearnableSoftcap>(
        "learnable-softcap",
        "Gemma Team, Gemma 2: Improving Open Language Models at a Practical Size, 2024 (cap learnable)",
    ),
    entry::<Cosine>("cosine", "Henry et al., Query-Key Normalization for Transformers, 2020"),
    entry::<Alibi>("alibi", "Press et al., Train Short, Test Long: Attention with Linear Biases, 2021"),
    entry::<LearnableAlibi>(
        "learnable-alibi",
        "Press et al., Train Short, Test Long: Attention with Linear Biases, 2021 (slopes learnable)",
    ),
    entry::<T5Bias>("t5bias", "Raffel et al., Exploring the Limits of Transfer Learning (T5), 2020, decoder"),
    entry::<T5BiasBidirectional>(
        "t5bias-bidirectional",
        "Raffel et al., Exploring the Limits of Transfer Learning (T5), 2020, encoder",
    ),
    entry::<DenseBias>(
        "dense-bias",
        "Jumper et al., Highly Accurate Protein Structure Prediction with AlphaFold, 2021",
    ),
    entry::<Retention>("retention", "Sun et al., Retentive Network: A Successor to Transformer, 2023"),
    entry::<LinearElu>(
        "linear-elu",
        "Katharopoulos et al., Transformers are RNNs: Fast Autoregressive Transformers with Linear Attention, 2020",
    ),
    entry::<GatedLinear>(
        "gated-linear",
        "Dao & Gu, Transformers are SSMs (Mamba-2), 2024; Yang et al., Gated Linear Attention Transformers, 2024 (scalar gates)",
    ),
    entry::<SlidingWindow>("sliding-window", "Beltagy et al., Longformer, 2020; Jiang et al., Mistral 7B, 2023"),
    entry::<PrefixLm>("prefix-lm", "Raffel et al., Exploring the Limits of Transfer Learning (T5), 2020"),
    entry::<Document>("document", "Krell et al., Efficient Sequence Packing without Cross-contamination, 2021"),
    entry::<BlockSparse>(
        "block-sparse",
        "Zaheer et al., Big Bird: Transformers for Longer Sequences, 2020; Child et al., Sparse Transformers, 2019",
    ),
];

/// Every variant of the gallery.
pub fn all() -> &'static [Entry] {
    ENTRIES
}

/// A variant by its name.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}
