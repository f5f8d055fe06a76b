//! Softmax over some of the keys. Queries are aligned with the last keys.

use crate::attention;

attention! {
    /// Softmax over the query's own key and the 1023 before it (Beltagy et al., Longformer, 2020; Jiang et al., Mistral 7B, 2023).
    /// Other widths: [`Softmax`](crate::gallery::Softmax) with the mask `causal & window(width, 0)`.
    #[derive(Clone, Debug)]
    pub struct SlidingWindow {
        mask: window(1023, 0),
    }

    /// Softmax over all keys of the prefix and those up to the query (Raffel et al., Exploring the Limits of Transfer Learning,
    /// 2020).
    #[derive(Clone, Debug)]
    pub struct PrefixLm {
        /// The length of each batch's prefix.
        length: i32[b],
        mask: |b, h, q, kv| prefix(length[b]) | causal,
    }

    /// Softmax over the keys of the query's own document, for several documents packed into one sequence (Krell et al., Efficient
    /// Sequence Packing without Cross-contamination, 2021).
    #[derive(Clone, Debug)]
    pub struct Document {
        /// The document that each key belongs to.
        ids: i32[b, kv],
        mask: document(ids),
    }

    /// Softmax over blocks of 128 keys that each block of 128 queries chooses, by a table that is learned, searched or a pattern
    /// (Zaheer et al., Big Bird: Transformers for Longer Sequences, 2020; Child et al., Generating Long Sequences with Sparse
    /// Transformers, 2019). Tables from lists of blocks: [`block_table`](crate::block_table). Other sizes:
    /// [`Softmax`](crate::gallery::Softmax) with the mask `blocks(table, 64, 64)`.
    #[derive(Clone, Debug)]
    pub struct BlockSparse {
        /// Not 0 where the queries `128 row..128 row + 128` see the keys `128 column..128 column + 128`.
        table: i32[b, h, rows, columns],
        mask: blocks(table, 128, 128),
    }
}
