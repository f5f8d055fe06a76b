//! The kernels of the Hopper schedule that compute one gradient each: dv and dk by tiles of keys, dq by tiles of queries.
//!
//! They recompute scores for each other, eight products instead of five, but nothing is added across blocks: dq is a sum in
//! registers, and so is what pairs add to a parameter by query. That serves head dimensions whose dk and dv do not fit the registers
//! of one block together, and gradients of parameters with an axis of queries.
//!
//! Invariants: every dead pair is selected to 0, whatever its expressions are; all sums are added in a fixed order.

use std::fmt::Write;

use minijinja::{Value, context};

use super::arguments::{Argument, Length, TensorRole};
use super::assemble::{Columns, Machinery, Variant, file_name};
use super::backward::{pair_part, row_functions, row_members, scale_function, scales_pairs};
use super::extremes;
use super::gradients::{Gradient, GradientKind, sums_by_position};
use super::mask::TileMask;
use super::sequence_maps;
use super::values::Place;
use super::{Kernel, KernelKind};
use crate::ir::NodeId;
use crate::plan::{GradientOf, HopperGradientTiles, hopper_gradient};

/// Barriers of `bar.sync`: the first of those by which consumers take turns, and of those of the warps of each.
const TURN: usize = 1;
const OWN_WARPS: usize = 3;
/// Warps of the producer that compute what varies by column.
const COLUMN_WARPS: usize = 2;

/// The three kernels, or why the schedule does not take the variant; `why` not one kernel for all gradients.
pub(super) fn kernels(
    variant: &Variant<'_>,
    gradients: &[Gradient],
    tile_mask: Option<&TileMask>,
    why: &'static str,
) -> Result<Vec<Kernel>, &'static str> {
    let mut found = vec![];
    for of in [GradientOf::Values, GradientOf::Keys, GradientOf::Queries] {
        found.extend(kernels_of(variant, gradients, tile_mask, of, why)?);
    }
    Ok(found)
}

/// Those of dv alone, beside one for dk and dq.
pub(super) fn values_kernels(
    variant: &Variant<'_>,
    gradients: &[Gradient],
    tile_mask: Option<&TileMask>,
) -> Result<Vec<Kernel>, &'static str> {
    let why = "dk and dv of more than 128 columns do not fit the registers together";
    kernels_of(variant, gradients, tile_mask, GradientOf::Values, why)
}

/// What a kernel calls things.
struct Words {
    entry: &'static str,
    file: &'static str,
    result: &'static str,
    formula: &'static str,
    own: TensorRole,
    own_grad: TensorRole,
    other: TensorRole,
    other_grad: TensorRole,
    gradient: TensorRole,
    result_dim: &'static str,
}

impl Words {
    fn of(of: GradientOf) -> Words {
        use TensorRole::{K, KGrad, OutputGrad, Q, QGrad, V, VGrad};
        let (own, own_grad, other, other_grad) = match of {
            GradientOf::Queries => (Q, OutputGrad, K, V),
            GradientOf::Keys | GradientOf::Values => (K, V, Q, OutputGrad),
        };
        let (entry, file, result, formula, gradient, result_dim) = match of {
            GradientOf::Values => {
                ("attn_backward_v", "backward_v", "dv", "s^T = k q^T, dv += p^T do", VGrad, "VALUE_DIM")
            }
            GradientOf::Keys => {
                let formula = "s^T = k q^T, dp^T = v do^T, dk += ds^T q";
                ("attn_backward_k", "backward_k", "dk", formula, KGrad, "HEAD_DIM")
            }
            GradientOf::Queries => {
                ("attn_backward_q", "backward_q", "dq", "s = q k^T, dp = do v^T, dq += ds k", QGrad, "HEAD_DIM")
            }
        };
        Words { entry, file, result, formula, own, own_grad, other, other_grad, gradient, result_dim }
    }
}

/// The contributions to parameters that a kernel adds up: by key beside dk, by query beside dq.
fn sums_of(gradients: &[Gradient], of: GradientOf) -> Vec<&Gradient> {
    let is_summed = |gradient: &&Gradient| match of {
        GradientOf::Values => false,
        GradientOf::Keys => gradient.kind == GradientKind::Column && gradient.pair.is_some(),
        GradientOf::Queries => gradient.kind == GradientKind::Row,
    };
    gradients.iter().filter(is_summed).collect()
}

/// The kernel of a gradient, and in a packed batch the one before that writes tensor maps for it.
fn kernels_of(
    variant: &Variant<'_>,
    gradients: &[Gradient],
    tile_mask: Option<&TileMask>,
    of: GradientOf,
    why: &'static str,
) -> Result<Vec<Kernel>, &'static str> {
    let words = Words::of(of);
    let backward = &variant.lowered.backward;
    let (of_keys, want_ds) = (of != GradientOf::Queries, of != GradientOf::Values);
    let sums = sums_of(gradients, of);
    let name_of = |gradient: &Gradient| variant.name_of(gradient.parameter);
    let mut pair: Vec<(String, NodeId)> = vec![];
    if want_ds {
        pair.push(("product_grad".into(), backward.product_grad));
        pair.extend(sums.iter().filter_map(|sum| sum.pair.map(|root| (format!("grad_{}", name_of(sum)), root))));
    }
    let mut roots: Vec<NodeId> = pair.iter().map(|(_, root)| *root).collect();
    if !want_ds {
        roots.push(backward.probability);
    }
    let row_roots: Vec<NodeId> = sums.iter().filter_map(|sum| sum.row).collect();
    let scale = backward.product_grad_scale.filter(|_| want_ds);

    let pairs_masked = variant.bounds.residual;
    let mut values = variant.values();
    roots.iter().chain(&row_roots).chain(&scale).for_each(|&root| values.demand(root, &[]));
    if pairs_masked {
        variant.demand_mask(&mut values);
        tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));
    } else {
        variant.demand_bounds(&mut values);
    }
    let mut all = roots.clone();
    all.extend(row_roots.iter().chain(&scale));
    let rows = row_members(variant, &mut values, &all);
    let column_place = if of_keys { Place::Query } else { Place::Key };
    let tiles =
        hopper_gradient(variant.shape, variant.target, of, values.staged_fields(column_place), tile_mask.is_some())?;
    let tensors = tensors(&words, &tiles, want_ds);
    let mut members = sequence_maps::arguments(variant, &tensors);
    members.push(Argument::WorksTaken);
    let mut functions = String::new();
    let ranges = TileMask::add(tile_mask, &values, &mut members, &mut functions);
    members.extend(sums.iter().map(|sum| Argument::Partial(sum.parameter)));
    members.extend(rows);
    let group = if of_keys { Length::KeyHeadGroup } else { Length::HeadGroup };
    members.extend(variant.head_members(group));
    let packed = variant.shape.is_packed();
    let by_position = |sum: &Gradient| sums_by_position(variant.definition().parameter(sum.parameter));
    if packed && sums.iter().any(|sum| by_position(sum)) {
        members.push(Argument::Length(if of_keys { Length::MaxSeqlenKv } else { Length::MaxSeqlenQ }));
    }

    if want_ds {
        functions.push_str(&pair_part(variant, &values, &pair));
        functions.push_str(&scale_function(variant, &values));
    } else {
        let roots = [backward.probability];
        functions.push_str(&variant.pair_function(&values, "float", "backward_probability", &roots, false));
    }
    functions.push_str(&row_functions(variant, &values, &sums));
    let columns = Columns::of(&values, column_place, "stage", "");
    functions.push_str(&columns.functions);
    let own = variant.own_part(&values, &mut members, &functions, pairs_masked);

    let per_row = sums.iter().any(|sum| sum.row.is_some());
    let parameters: Vec<Value> = sums
        .iter()
        .map(|sum| {
            // where the sums of a head begin
            let first = match (packed, by_position(sum), of_keys) {
                (false, _, true) => "((i64)batch * arguments.heads + head) * kv_len",
                (false, _, false) => "((i64)batch * arguments.heads + head) * q_len",
                (true, true, true) => "((i64)batch * arguments.heads + head) * arguments.max_seqlen_kv",
                (true, true, false) => "((i64)batch * arguments.heads + head) * arguments.max_seqlen_q",
                (true, false, _) => "(i64)head * arguments.total_q + work.q_start",
            };
            let (per_pair, per_row) = (sum.pair.is_some(), sum.row.is_some());
            context! { name => name_of(sum), per_pair, per_row, first }
        })
        .collect();
    let map = |role| sequence_maps::map_of(variant, role);
    let machine = context! {
        entry => words.entry,
        result => words.result,
        formula => words.formula,
        own => words.own.name(),
        own_grad => words.own_grad.name(),
        other => words.other.name(),
        other_grad => words.other_grad.name(),
        result_map => map(words.gradient),
        own_map => map(words.own),
        own_grad_map => map(words.own_grad),
        other_map => map(words.other),
        other_grad_map => map(words.other_grad),
        map_batch => sequence_maps::batch_of(variant),
        row_side => if of_keys { "kv" } else { "q" },
        result_dim => words.result_dim,
        of_keys,
        want_ds,
        rows => if of_keys { "key" } else { "query" },
        rows_name => if of_keys { "keys" } else { "queries" },
        row_structure => if of_keys { "Key" } else { "Query" },
        row_len => if of_keys { "kv_len" } else { "q_len" },
        columns => if of_keys { "query" } else { "key" },
        columns_name => if of_keys { "queries" } else { "keys" },
        column_short => if of_keys { "q" } else { "kv" },
        column_len => if of_keys { "q_len" } else { "kv_len" },
        ring => if of_keys { "query_ring" } else { "key_ring" },
        ring_bytes => if of_keys { "QUERY_RING_BYTES" } else { "KEY_RING_BYTES" },
        head_group => if of_keys { "kv_head_group" } else { "head_group" },
        live_of => if of_keys { "live_queries_of" } else { "live_keys_of" },
        pair_of => if of_keys { "query[e % 2], key[e / 2]" } else { "query[e / 2], key[e % 2]" },
        staged => columns.staged,
        inline_columns => columns.inline,
        column_values => columns.snippet,
        masked => variant.lowered.mask.is_some(),
        residual => pairs_masked,
        tile_mask => tile_mask.is_some(),
        skips => tile_mask.is_some(),
        finds_before => false,
        own_name => if of_keys { "keys" } else { "queries" },
        walked_name => if of_keys { "queries" } else { "keys" },
        own_tile => if of_keys { "kv_tile" } else { "q_tile" },
        walked_tile => if of_keys { "q_tile" } else { "kv_tile" },
        q_block => if of_keys { "BLOCK_COLUMNS" } else { "BLOCK_ROWS" },
        kv_block => if of_keys { "BLOCK_ROWS" } else { "BLOCK_COLUMNS" },
        longest_first => !variant.bounds.expressions().is_empty(),
        mask_arguments => variant.mask_arguments(),
        pair_arguments => variant.pair_arguments(&roots),
        product_grad_scale => scale.is_some(),
        scale_pairs => of_keys && want_ds && scales_pairs(variant),
        counts_live_rows => per_row && pairs_masked,
        sums => parameters,
    };
    let mut constants = constants(variant, &tiles, &words, of_keys, columns.fields);
    constants.push_str(&extremes::constant(&ranges));
    if packed {
        constants.push_str(&sequence_maps::constants(&tensors));
    }
    let summary = format!("{}, since {why}", describe(&tiles, words.result, of_keys));
    let result_columns = if want_ds { variant.shape.padded_head_dim() } else { variant.shape.padded_value_dim() };
    let machinery = Machinery::HopperGradient([tiles.block_columns, result_columns]);
    let source = variant.source("gradient_hopper", &summary, &constants, &own, machine, machinery);
    let (block_q, block_kv) =
        if of_keys { (tiles.block_columns, tiles.block_rows) } else { (tiles.block_rows, tiles.block_columns) };
    let mut kernels = vec![];
    kernels.extend(packed.then(|| sequence_maps::kernel(variant, &tensors, words.file)));
    kernels.push(Kernel {
        entry: words.entry,
        kind: if of_keys { KernelKind::BackwardKv } else { KernelKind::BackwardQ },
        file_name: file_name(variant, words.file),
        source,
        variant_part: own,
        arguments: members,
        threads: 128 * (1 + tiles.consumers as u32),
        shared_memory: tiles.shared_memory as u32,
        block_q: block_q as u32,
        block_kv: block_kv as u32,
        table_chunk: 0,
        persistent: true,
        tiles: None,
    });
    Ok(kernels)
}

/// The tensors of a kernel; each consumer stores its own rows of the result.
fn tensors(words: &Words, tiles: &HopperGradientTiles, want_ds: bool) -> Vec<(TensorRole, u32)> {
    let (rows, columns) = (tiles.block_rows as u32, tiles.block_columns as u32);
    let own_rows = rows / tiles.consumers as u32;
    let mut maps =
        vec![(words.own, rows), (words.other, columns), (words.other_grad, columns), (words.gradient, own_rows)];
    maps.extend(want_ds.then_some((words.own_grad, rows)));
    maps
}

fn constants(
    variant: &Variant<'_>,
    tiles: &HopperGradientTiles,
    words: &Words,
    of_keys: bool,
    column_fields: usize,
) -> String {
    let shape = variant.shape;
    let mut text = String::from("// ---------------------------------------------------------------- shape\n");
    let mut line = |declaration: String| writeln!(text, "constexpr int {declaration};").expect("writing to a string");
    line(format!("HEAD_DIM = {}, VALUE_DIM = {}", shape.head_dim(), shape.value_dim()));
    let (rows, columns) = (tiles.block_rows, tiles.block_columns);
    line(format!(
        "BLOCK_ROWS = {rows}, BLOCK_COLUMNS = {columns}, STAGES = {}, GRAD_STAGES = {}",
        tiles.stages, tiles.grad_stages
    ));
    line(format!("CONSUMERS = {}, THREADS = 128 * (1 + CONSUMERS)", tiles.consumers));
    let [producer, consumer] = tiles.registers;
    line(format!("PRODUCER_REGISTERS = {producer}, CONSUMER_REGISTERS = {consumer}"));
    line(
        "OWN_CHUNK_BYTES = BLOCK_ROWS * CHUNK_ROW_BYTES, OTHER_CHUNK_BYTES = BLOCK_COLUMNS * CHUNK_ROW_BYTES"
            .to_owned(),
    );
    let widest =
        if words.result_dim == "VALUE_DIM" && shape.value_dim() > shape.head_dim() { "VALUE_DIM" } else { "HEAD_DIM" };
    line(format!(
        "OWN_TILE_BYTES = chunks({widest}) * OWN_CHUNK_BYTES, OWN_GRAD_TILE_BYTES = chunks(VALUE_DIM) * OWN_CHUNK_BYTES"
    ));
    line("OTHER_TILE_BYTES = chunks(HEAD_DIM) * OTHER_CHUNK_BYTES, OTHER_GRAD_TILE_BYTES = chunks(VALUE_DIM) * OTHER_CHUNK_BYTES".to_owned());
    let block = if of_keys { "BLOCK_Q" } else { "BLOCK_KV" };
    line(format!("{block} = BLOCK_COLUMNS"));
    if column_fields > 0 {
        let ring = if of_keys { "QUERY_RING_BYTES" } else { "KEY_RING_BYTES" };
        line(format!("{ring} = BLOCK_COLUMNS * {}, COLUMN_WARPS = {COLUMN_WARPS}", 4 * column_fields));
    }
    line(format!("TURN = {TURN}, OWN_WARPS = {OWN_WARPS}   /* barriers, one a consumer */"));
    text
}

fn describe(tiles: &HopperGradientTiles, result: &str, of_keys: bool) -> String {
    let (rows, columns) = if of_keys { ("keys", "queries") } else { ("queries", "keys") };
    format!(
        "backward ({result}), Hopper schedule, tile {} {rows} x {} {columns}, one producer and {} consumer warpgroups that take turns, {} KiB of shared memory",
        tiles.block_rows,
        tiles.block_columns,
        tiles.consumers,
        tiles.shared_memory.div_ceil(1024),
    )
}
