//! What is timed: variants, shapes, and how many operations they are.
//!
//! Sizes follow the FlashAttention papers: 16384 tokens over batch and length, 2048 features over heads. So does the count of
//! operations: 4 b h s^2 d forward, half of it where causal, the window's pairs where there is one, those of the documents or sequences
//! where there are some, 2.5 times that backward.
//! `attn plot bench` says so under its pictures (`notes` in `plot/bench/chart.rs`).

use attn::DType;
use attn_cli::measurements::Pass;

/// A variant with a mask, under the name that it has in measurements.
#[derive(Clone, Copy, Debug)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// In the gallery.
    pub(super) entry: &'static str,
    pub(super) mask: Option<&'static str>,
    /// Whether half of the pairs count.
    causal: bool,
    /// How many keys a query sees at most.
    window: Option<usize>,
    /// How many documents of one length each entry of the batch has, told apart by the mask.
    documents: usize,
    /// How many sequences each entry of the batch packs.
    sequences: Option<usize>,
}

const fn workload(name: &'static str, entry: &'static str, causal: bool) -> Workload {
    Workload {
        name,
        entry,
        mask: if causal { Some("causal") } else { None },
        causal,
        window: None,
        documents: 1,
        sequences: None,
    }
}

pub(super) const WORKLOADS: [Workload; 21] = [
    workload("softmax", "softmax", false),
    workload("softmax-causal", "softmax", true),
    workload("sigmoid", "sigmoid", false),
    workload("sigmoid-causal", "sigmoid", true),
    workload("relu", "relu", false),
    workload("alibi-causal", "alibi", true),
    workload("sink-causal", "sink", true),
    workload("softcap-causal", "softcap", true),
    workload("t5bias-causal", "t5bias", true),
    Workload { window: Some(1024), mask: None, ..workload("window1024", "sliding-window", true) },
    Workload { documents: 8, ..workload("document8", "document", false) },
    Workload { documents: 8, mask: Some("document(ids) & causal"), ..workload("document8-causal", "document", true) },
    workload("entmax15", "entmax15", false),
    workload("entmax15-causal", "entmax15", true),
    workload("sparsemax-causal", "sparsemax", true),
    workload("top-k64-causal", "top-k", true),
    workload("clipped-softmax", "clipped-softmax", false),
    workload("linear-elu1-causal", "linear-elu", true),
    Workload { mask: None, ..workload("retention", "retention", true) },
    Workload { mask: None, ..workload("gated-linear", "gated-linear", true) },
    Workload { sequences: Some(64), ..workload("packed64-causal", "softmax", true) },
];

/// The lengths of the sequences that a packed batch of `tokens` tokens has: all from about none to twice the mean, in an order that
/// puts long ones beside short ones.
pub(super) fn sequence_lengths(sequences: usize, tokens: usize) -> Vec<usize> {
    /// Prime to the powers of two that numbers of sequences are.
    const STRIDE: usize = 27;
    let end = |at: usize| {
        // the sum of the first `at` odd numbers, in the order of the sequences, as a share of all
        let odd: usize = (0..at).map(|sequence| 2 * (sequence * STRIDE % sequences) + 1).sum();
        (odd as u128 * tokens as u128 / (sequences * sequences) as u128) as usize
    };
    (0..sequences).map(|sequence| end(sequence + 1) - end(sequence)).collect()
}

impl Workload {
    /// Whether a shape is timed for this variant: all of them in bf16, plain softmax alone in other types.
    pub(super) fn is_timed_in(&self, shape: &Shape) -> bool {
        shape.dtype == DType::BF16 || self.entry == "softmax"
    }

    /// The lengths of the sequences of a packed batch.
    pub(super) fn packed_lengths(&self, shape: &Shape) -> Option<Vec<usize>> {
        self.sequences.map(|sequences| sequence_lengths(sequences, shape.length))
    }

    /// Whether a shape can be had: only a batch of one entry is packed.
    pub(super) fn has(&self, shape: &Shape) -> bool {
        self.sequences.is_none() || shape.batch == 1
    }

    /// A length that tells the variant from others: beyond its window.
    pub(super) fn checked_length(&self) -> usize {
        self.window.map_or(512, |window| window + window / 2)
    }
}

/// The extents of a measurement; queries and keys are as many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) dtype: DType,
    pub(super) batch: usize,
    pub(super) heads: usize,
    pub(super) length: usize,
    pub(super) head_dim: usize,
}

/// A type as rows name it.
pub(super) fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "fp32",
        DType::F16 => "fp16",
        DType::BF16 => "bf16",
        DType::I32 => "int32",
    }
}

impl std::str::FromStr for Shape {
    type Err = String;

    /// Reads `B,H,S,D`: a shape in bf16.
    fn from_str(text: &str) -> Result<Shape, String> {
        let extents: Result<Vec<usize>, _> = text.split(',').map(|extent| extent.trim().parse::<usize>()).collect();
        match extents.as_deref() {
            Ok(&[batch, heads, length, head_dim]) if batch.min(heads).min(length).min(head_dim) > 0 => {
                Ok(Shape { dtype: DType::BF16, batch, heads, length, head_dim })
            }
            _ => Err("a shape is four whole numbers above 0: batch,heads,length,head_dim, as in 1,16,16384,128".into()),
        }
    }
}

/// The shapes for a GPU, or smaller ones that a CPU computes in reasonable time.
pub(super) fn shapes(gpu: bool, quick: bool) -> Vec<Shape> {
    let (tokens, features) = if gpu { (16384, 2048) } else { (1024, 128) };
    let pairs: &[(usize, usize)] = match (gpu, quick) {
        (true, true) => &[(4096, 128), (16384, 128), (4096, 64), (16384, 64)],
        (true, false) => &[
            (1024, 64),
            (4096, 64),
            (16384, 64),
            (1024, 128),
            (4096, 128),
            (16384, 128),
            (1024, 256),
            (4096, 256),
            (16384, 256),
        ],
        (false, true) => &[(256, 64)],
        (false, false) => &[(256, 64), (1024, 64), (256, 128), (1024, 128)],
    };
    let halves: &[(usize, usize)] = match (gpu, quick) {
        (_, true) => &[],
        (true, false) => &[(4096, 128), (16384, 128)],
        (false, false) => &[(1024, 64)],
    };
    let bf16 = pairs.iter().map(|&pair| (DType::BF16, pair));
    let f16 = halves.iter().map(|&pair| (DType::F16, pair));
    bf16.chain(f16)
        .map(|(dtype, (length, head_dim))| {
            let batch = (tokens / length).max(1);
            Shape { dtype, batch, heads: features / head_dim, length, head_dim }
        })
        .collect()
}

/// The operations that a pass counts as, whatever the kernels really do.
pub(super) fn flops(shape: &Shape, workload: &Workload, pass: Pass) -> f64 {
    let pairs_of = |length: usize| {
        let all = (length * length) as f64 / workload.documents as f64;
        match workload.window.map(|window| window.min(length)) {
            Some(window) => (window * (length - window)) as f64 + (window * window) as f64 / 2.0,
            None if workload.causal => all / 2.0,
            None => all,
        }
    };
    let lengths = workload.packed_lengths(shape).unwrap_or_else(|| vec![shape.length]);
    let pairs: f64 = lengths.into_iter().map(pairs_of).sum();
    let forward = 4.0 * (shape.batch * shape.heads * shape.head_dim) as f64 * pairs;
    forward * if pass == Pass::Backward { 2.5 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_follow_the_convention() {
        let shape = Shape { dtype: DType::BF16, batch: 4, heads: 16, length: 4096, head_dim: 128 };
        let of = |name: &str, pass| flops(&shape, WORKLOADS.iter().find(|w| w.name == name).unwrap(), pass);
        let all = 4.0 * 4.0 * 16.0 * 4096.0 * 4096.0 * 128.0;
        assert_eq!(of("softmax", Pass::Forward), all);
        assert_eq!(of("softmax-causal", Pass::Forward), all / 2.0);
        assert_eq!(of("document8", Pass::Backward), 2.5 * all / 8.0);
        assert_eq!(of("document8-causal", Pass::Forward), all / 16.0);
        let window = (1024.0 * 3072.0 + 1024.0 * 512.0) / (4096.0 * 4096.0);
        assert_eq!(of("window1024", Pass::Forward), all * window);
        let squares: usize = sequence_lengths(64, 4096).iter().map(|length| length * length).sum();
        assert_eq!(of("packed64-causal", Pass::Forward), all * squares as f64 / (2.0 * 4096.0 * 4096.0));
    }

    #[test]
    fn sequences_of_all_lengths_make_the_batch() {
        for (sequences, tokens) in [(64, 1 << 17), (64, 16384), (64, 512), (1, 77)] {
            let mut lengths = sequence_lengths(sequences, tokens);
            assert_eq!((lengths.len(), lengths.iter().sum::<usize>()), (sequences, tokens));
            let neighbours = lengths.windows(2).map(|pair| pair[0].abs_diff(pair[1])).max().unwrap_or(0);
            assert!(sequences == 1 || neighbours > tokens / sequences, "{lengths:?}");
            lengths.sort_unstable();
            let step = tokens.div_ceil(sequences * sequences);
            let expected = |at: usize| (2 * at + 1) * tokens / (sequences * sequences);
            assert!(
                lengths.iter().enumerate().all(|(at, &length)| length.abs_diff(expected(at)) <= step),
                "{lengths:?}"
            );
        }
    }

    #[test]
    fn shapes_hold_tokens_and_features() {
        let all = shapes(true, false);
        assert_eq!(all.iter().filter(|shape| shape.dtype == DType::BF16).count(), 9);
        for shape in all {
            assert_eq!(shape.batch * shape.length, 16384);
            assert_eq!(shape.heads * shape.head_dim, 2048);
        }
    }
}
