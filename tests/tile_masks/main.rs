//! Masks that are more than bounds, in all kernels that ask what a mask leaves of a tile: both schedules and both passes, on a simulated
//! GPU, against the oracle.
//!
//! Invariant: every mask here is more than bounds.

mod backward;
mod forward;

use attn::Definition;
use attn::testing::Shape;

/// Each with parameters that it may read: integers rise along their last axis, as ids of documents do.
pub(crate) const MASKS: &[&str] = &[
    "document(ids)",
    "document(ids) & causal",
    "|b, h, q, kv| ids[b, q] != ids[b, kv] && q != kv",
    "|b, h, q, kv| abs(q - kv) < 70 && (q - kv) % 3 == 0",
    "|b, h, q, kv| q / 48 == kv / 48",
    "|b, h, q, kv| abs(q / 16 - kv / 16) <= 1 && abs(q % 16 - kv % 16) <= 2",
    "|b, h, q, kv| q < 3 || kv < 5 || abs(q - kv) <= 20",
    "|b, h, q, kv| kv < 4 || kv >= kv_len - 4 + h",
    "|b, h, q, kv| rows[h, q] % 4 == kv / 32 % 4",
    "|b, h, q, kv| kv % 64 < 0 || q < 0",
    "blocks(pattern, 64, 128)",
    "blocks(pattern, 32, 24) & causal",
    "|b, h, q, kv| pattern[b, h, rows[h, q], kv / 64] != 0 || kv == q",
];

/// Few queries and so many keys that the first 32 tiles are not all; several tiles of both; one query.
pub(crate) const SHAPES: [Shape; 3] = [
    Shape { batch: 1, heads: 1, kv_heads: 1, q_len: 5, kv_len: 2500, head_dim: 16, value_dim: 16 },
    Shape { batch: 2, heads: 2, kv_heads: 1, q_len: 150, kv_len: 170, head_dim: 16, value_dim: 16 },
    Shape { batch: 2, heads: 1, kv_heads: 1, q_len: 1, kv_len: 140, head_dim: 16, value_dim: 16 },
];

pub(crate) fn definition(mask: &str, rest: &str) -> Definition {
    let text =
        format!("struct Masked {{ ids: i32[b, kv], rows: i32[h, q], pattern: i32[b, h, 5, 7], {rest} mask: {mask} }}");
    attn::compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "mask.attn")))
}
