//! What is particular to kernels of the Hopper schedule: their constants and their head.

use std::fmt::Write;

use super::arguments::TensorRole;
use crate::plan::{ElementType, HopperTiles, Shape, relative_copy_bytes};

/// Barriers of `bar.sync`: the first of those by which consumers take turns, and of those of the warps of each.
const TURN: usize = 1;
const OWN_WARPS: usize = 4;
/// Warps of the producer that compute what varies by key or by distance.
const KEY_WARPS: usize = 3;

/// The constants of a kernel. `key_fields` is the number of 4-byte fields of a key in shared memory, `relative_fields` that of a
/// distance.
pub(crate) fn constants(shape: Shape, tiles: &HopperTiles, key_fields: usize, relative_fields: usize) -> String {
    let mut text = String::from("// ---------------------------------------------------------------- shape\n");
    let mut line = |declaration: String| writeln!(text, "constexpr int {declaration};").expect("writing to a string");
    line(format!("HEAD_DIM = {}, VALUE_DIM = {}", shape.head_dim(), shape.value_dim()));
    line(format!("BLOCK_Q = {}, BLOCK_KV = {}, STAGES = {}", tiles.block_q, tiles.block_kv, tiles.stages));
    line(format!("CONSUMERS = {}, THREADS = 128 * (1 + CONSUMERS)", tiles.consumers));
    let [producer, consumer] = tiles.registers;
    line(format!("PRODUCER_REGISTERS = {producer}, CONSUMER_REGISTERS = {consumer}"));
    line("Q_CHUNK_BYTES = BLOCK_Q * CHUNK_ROW_BYTES, KV_CHUNK_BYTES = BLOCK_KV * CHUNK_ROW_BYTES".to_owned());
    if tiles.own_output_tile {
        line("Q_BYTES = chunks(HEAD_DIM) * Q_CHUNK_BYTES, O_TILE_BYTES = chunks(VALUE_DIM) * Q_CHUNK_BYTES".to_owned());
    } else {
        let widest = if shape.value_dim() > shape.head_dim() { "VALUE_DIM" } else { "HEAD_DIM" };
        line(format!("Q_BYTES = chunks(HEAD_DIM) * Q_CHUNK_BYTES, Q_TILE_BYTES = chunks({widest}) * Q_CHUNK_BYTES"));
    }
    line(
        "K_TILE_BYTES = chunks(HEAD_DIM) * KV_CHUNK_BYTES, V_TILE_BYTES = chunks(VALUE_DIM) * KV_CHUNK_BYTES"
            .to_owned(),
    );
    if key_fields > 0 {
        line(format!("KEY_RING_BYTES = BLOCK_KV * {}", 4 * key_fields));
    }
    if relative_fields > 0 {
        let bytes = relative_copy_bytes(tiles.block_q, tiles.block_kv);
        relative_constants(relative_fields, tiles.relative_copies, bytes).into_iter().for_each(&mut line);
    }
    if tiles.key_bias {
        // one warp: the offset of a tile follows from that of the tile before
        line("ONES_BYTES = 64 * 32, BIAS_TILE_BYTES = BLOCK_KV * 32, KEY_WARPS = 1".to_owned());
    } else if key_fields + relative_fields > 0 {
        line(format!("KEY_WARPS = {KEY_WARPS}"));
    }
    line(format!("TURN = {TURN}, OWN_WARPS = {OWN_WARPS}   /* barriers, one a consumer */"));
    text
}

/// The constants of tables of distances: `fields` values of each, `copies` of each field in `bytes` bytes.
pub(crate) fn relative_constants(fields: usize, copies: usize, bytes: usize) -> Vec<String> {
    let mut lines = vec![
        "RELATIVE_VALUES = BLOCK_Q + BLOCK_KV   /* of a tile's table, one a distance; the first is not read */"
            .to_owned(),
    ];
    if copies > 1 {
        lines.push(format!("RELATIVE_COPY_BYTES = {bytes}   /* two copies are half of the banks apart */"));
        lines.push(format!("RELATIVE_FIELD_BYTES = {copies} * RELATIVE_COPY_BYTES"));
    } else {
        lines.push(format!("RELATIVE_FIELD_BYTES = {bytes}"));
    }
    lines.push(format!("RELATIVE_TABLE_BYTES = {fields} * RELATIVE_FIELD_BYTES"));
    lines
}

/// Up to which sum of their squares several y are small: a sigmoid y / (1 + y) is y - y^2 up to y^2, and that may be half of what
/// rounding a weight loses.
pub(crate) fn small_squares(element: ElementType) -> &'static str {
    if element == ElementType::Bf16 { "1.f / 1024" } else { "1.f / 4096" }
}

/// The tensors of a forward kernel, each with the rows of its boxes.
pub(crate) fn tensors(tiles: &HopperTiles, output: TensorRole) -> [(TensorRole, u32); 4] {
    let (q, kv) = (tiles.block_q as u32, tiles.block_kv as u32);
    // each consumer stores its own queries
    let o = (tiles.block_q / tiles.consumers) as u32;
    [(TensorRole::Q, q), (TensorRole::K, kv), (TensorRole::V, kv), (output, o)]
}

/// The schedule, in one line of the head comment.
pub(crate) fn describe(tiles: &HopperTiles) -> String {
    format!(
        "forward, Hopper schedule, tile {} queries x {} keys, one producer and {} consumer warpgroups that take turns, rings of {} for k and v, {}{} KiB of shared memory",
        tiles.block_q,
        tiles.block_kv,
        tiles.consumers,
        tiles.stages,
        if tiles.key_bias { "the keys' term as one more slice of q k^T, " } else { "" },
        tiles.shared_memory.div_ceil(1024),
    )
}
