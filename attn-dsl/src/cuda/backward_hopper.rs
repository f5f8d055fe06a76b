//! The kernels of the Hopper schedule's backward pass: one for dk, dv and the sums of dq, and one that makes dq of the sums. Where heads
//! are too wide for dk and dv in the registers of one block, dv has a kernel of its own: six products instead of five.
//!
//! # Gradients of parameters
//! A parameter with an axis of keys is summed by key in the first kernel, one without an axis of queries by warp and tile of keys.
//! What the normalizer adds is a value of each row, which the second kernel computes. A table that is read by distance alone is summed
//! along diagonals (`diagonals.rs`).
//!
//! Invariants: what this schedule does not take is refused with a reason before anything is generated; every dead pair is selected
//! to 0, whatever its expressions are.

use std::fmt::Write;

use minijinja::{Value, context};

use super::arguments::{Argument, Length, RowArray, TensorRole};
use super::assemble::{Columns, Machinery, Variant, file_name};
use super::backward::{TableReads, row_functions, row_members, scale_function, scales_pairs};
use super::diagonals::{self, DiagonalTable};
use super::extremes;
use super::gradients::{Gradient, GradientKind, sums_by_position};
use super::hopper::{relative_constants, small_squares};
use super::mask::TileMask;
use super::pairs::Pairs;
use super::relative::{self, Relatives};
use super::sequence_maps;
use super::values::{Place, Values};
use super::{Kernel, KernelKind, gradient_hopper};
use crate::definition::Axis;
use crate::ir::{NodeId, ParameterId};
use crate::plan::{DIAGONALS, HopperBackwardNeeds, HopperBackwardTiles, hopper_backward, relative_copy_bytes};

/// Barriers of `bar.sync`: of all consumers, and the first of those that hand parts of dq over and back.
const ALL_CONSUMERS: usize = 1;
const DQ_FULL: usize = 2;
const DQ_EMPTY: usize = 4;
/// That of the warps that sum tables' gradients.
const QUERY_WARPS_MEET: usize = 6;
/// Warps of the producer that compute what varies by query or by distance, and sum along diagonals.
const QUERY_WARPS: usize = 2;
/// Threads of the kernel that makes dq.
const QUERY_GRADIENT_THREADS: u32 = 256;

/// The kernels and the tables whose gradients they sum, or why the schedule does not take the variant. With `deterministic`, tiles of
/// keys add to dq in their order.
pub(super) fn kernels(
    variant: &Variant<'_>,
    gradients: &[Gradient],
    tables: &[TableReads],
    tile_mask: Option<&TileMask>,
    deterministic: bool,
) -> Result<(Vec<Kernel>, Vec<ParameterId>), &'static str> {
    // the shape first: what is refused anyway needs no other reason
    let with_values = hopper_backward(variant.shape, variant.target, HopperBackwardNeeds::default())?.with_values;
    let sums: Vec<&Gradient> = gradients.iter().filter(|gradient| is_summed_by_pair(gradient)).collect();
    if sums.iter().any(|gradient| {
        gradient.kind == GradientKind::Row
            && variant.definition().parameter(gradient.parameter).axes.contains(&Axis::Query)
    }) {
        return Err("pairs add to a parameter's gradient by query");
    }
    // what stands by distance, and the entries of tables, are expressions of the main kernel alone
    let mut own = variant.clone();
    let tables = if with_values { diagonals::of(&mut own, tables) } else { vec![] };
    let pairs = Pairs::of(&mut own, &sums);
    let pairs = keep_relatives(&mut own, pairs, &tables, tile_mask);
    let (tiles, main) = main_kernel(&own, &pairs, &sums, &tables, tile_mask, deterministic)?;
    let summed = tables.iter().map(DiagonalTable::parameter).collect();
    let packed = variant.shape.is_packed();
    let mut kernels = vec![];
    kernels.extend(packed.then(|| sequence_maps::kernel(variant, &tensors(&tiles), "backward")));
    kernels.push(main);
    if !with_values {
        kernels.extend(gradient_hopper::values_kernels(variant, gradients, tile_mask)?);
    }
    kernels.push(query_gradients(variant, gradients, &tiles, deterministic));
    Ok((kernels, summed))
}

/// Finds what is kept by distance, if there is room for it. Returns the expressions, regrouped.
fn keep_relatives(
    variant: &mut Variant<'_>,
    pairs: Pairs,
    tables: &[DiagonalTable<'_>],
    tile_mask: Option<&TileMask>,
) -> Pairs {
    if !variant.exact.is_empty() {
        // regrouped, a score may have other bits
        return pairs;
    }
    let (roots, relatives) = relative::find(&mut variant.graph, &pairs.roots());
    let regrouped = pairs.with_roots(&roots);
    variant.relatives = relatives;
    let needs = needs(&demanded(variant, &regrouped, tables, tile_mask), tables, tile_mask);
    if hopper_backward(variant.shape, variant.target, needs).is_err() {
        variant.relatives = Relatives::new();
        return pairs;
    }
    regrouped
}

/// The fields that the main kernel reads.
fn demanded<'a>(
    variant: &'a Variant<'_>,
    pairs: &Pairs,
    tables: &[DiagonalTable<'_>],
    tile_mask: Option<&TileMask>,
) -> Values<'a> {
    let mut values = variant.values();
    pairs.demand(&mut values);
    tables.iter().for_each(|table| table.demand(&mut values));
    variant.lowered.backward.product_grad_scale.into_iter().for_each(|root| values.demand(root, &[]));
    if variant.bounds.residual {
        variant.demand_mask(&mut values);
        tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));
    } else {
        variant.demand_bounds(&mut values);
    }
    values
}

fn needs(values: &Values<'_>, tables: &[DiagonalTable<'_>], tile_mask: Option<&TileMask>) -> HopperBackwardNeeds {
    HopperBackwardNeeds {
        query_fields: values.staged_fields(Place::Query),
        relative_fields: values.count(Place::Relative),
        sums_diagonals: !tables.is_empty(),
        finds_tiles: tile_mask.is_some(),
    }
}

/// Whether pairs contribute to a parameter that the main kernel sums; others have kernels of their own.
fn is_summed_by_pair(gradient: &Gradient) -> bool {
    matches!(gradient.kind, GradientKind::Row | GradientKind::Column) && gradient.pair.is_some()
}

/// Whether the text of a function reads a field of its query.
fn reads_field(text: &str, field: &str) -> bool {
    let name = format!("query.{field}");
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.match_indices(&name).any(|(at, _)| !text[at + name.len()..].starts_with(is_part))
}

fn main_kernel(
    variant: &Variant<'_>,
    pairs: &Pairs,
    sums: &[&Gradient],
    tables: &[DiagonalTable<'_>],
    tile_mask: Option<&TileMask>,
    deterministic: bool,
) -> Result<(HopperBackwardTiles, Kernel), &'static str> {
    let pairs_masked = variant.bounds.residual;
    let scale = variant.lowered.backward.product_grad_scale;
    let mut values = demanded(variant, pairs, tables, tile_mask);
    let mut all = pairs.roots();
    all.extend(scale);
    all.extend(tables.iter().flat_map(DiagonalTable::roots));
    let rows = row_members(variant, &mut values, &all);
    let needs = needs(&values, tables, tile_mask);
    let tiles = hopper_backward(variant.shape, variant.target, needs)?;
    let mut members = sequence_maps::arguments(variant, &tensors(&tiles));
    members.extend([Argument::WorksTaken, Argument::QueryGradSums(tiles.dq_tile() as u32)]);
    members.extend(deterministic.then_some(Argument::QueryGradTurns));
    members.extend(sums.iter().map(|sum| match sum.kind {
        GradientKind::Column => Argument::Partial(sum.parameter),
        _ => Argument::TilePartial(sum.parameter, 4 * tiles.consumers as u32),
    }));
    members.extend(tables.iter().map(|table| Argument::TilePartial(table.parameter(), QUERY_WARPS as u32)));
    // the extents of tables are asked of their parameters
    members.extend(
        tables.iter().map(|table| Argument::Parameter(table.parameter())).filter(|member| !rows.contains(member)),
    );
    members.extend(rows);
    let mut functions = String::new();
    let ranges = TileMask::add(tile_mask, &values, &mut members, &mut functions);
    members.extend(variant.head_members(Length::KeyHeadGroup));
    let is_column = |sum: &&Gradient| sum.kind == GradientKind::Column;
    let by_position = |id: ParameterId| sums_by_position(variant.definition().parameter(id));
    let mut summed = sums.iter().map(|sum| sum.parameter).chain(tables.iter().map(DiagonalTable::parameter));
    if variant.shape.is_packed() && summed.any(by_position) {
        members.push(Argument::Length(Length::MaxSeqlenKv));
    }

    let queries = Columns::of(&values, Place::Query, "stage", "");
    let is_split = pairs.is_split();
    let (weight, gradient) = pairs.functions(variant, &values);
    functions.push_str(&weight);
    functions.push_str(&gradient);
    let (mut weight_columns, mut gradient_columns) = (queries.snippet.clone(), queries.snippet.clone());
    let mut loaders = queries.functions;
    if is_split && queries.staged {
        // each half reads what it needs
        let masks = if pairs_masked { variant.mask_function(&values) } else { String::new() };
        let load = |name: &str, text: &str| {
            let reads = |field: &str| reads_field(text, field) || reads_field(&masks, field);
            values.column_loader(Place::Query, "BLOCK_Q", name, reads)
        };
        functions.push_str(&load("load_queries_of_gradients", &gradient));
        functions.push_str(&load("load_queries_of_weights", &weight));
        weight_columns = weight_columns.replace("load_queries(", "load_queries_of_weights(");
        gradient_columns = gradient_columns.replace("load_queries(", "load_queries_of_gradients(");
        loaders = values.column_store(Place::Query, "BLOCK_Q");
    }
    functions.push_str(&scale_function(variant, &values));
    functions.push_str(&loaders);
    if needs.relative_fields > 0 {
        functions.push_str(&relative::functions(&values, tiles.relative_copies));
    }
    functions.extend(tables.iter().map(|table| table.functions(variant, &values)));
    let own = variant.own_part(&values, &mut members, &functions, pairs_masked);

    let parameters: Vec<Value> = sums
        .iter()
        .map(|sum| {
            let tile = tile_of_sums(variant, sum.parameter);
            context! { name => variant.name_of(sum.parameter), column => is_column(sum), tile }
        })
        .collect();
    let skips = tile_mask.is_some() && tables.is_empty();
    let (entry, name) = match tiles.with_values {
        true => ("attn_backward", "backward"),
        false => ("attn_backward_kq", "backward_kq"),
    };
    let machine = context! {
        entry,
        deterministic,
        split => is_split,
        stage_queries => queries.staged,
        inline_queries => queries.inline,
        weight_columns,
        gradient_columns,
        // weights leave for dv before gradients are computed, where the registers are enough for both: not where every pair is
        // tested, nor for tiles of 128 queries
        early_weights => !tiles.dq_by_rows && (!pairs_masked || tile_mask.is_some()),
        dq_by_rows => tiles.dq_by_rows,
        wide => !tiles.with_values,
        two_rounds => tiles.dq_parts > 2,
        masked => variant.lowered.mask.is_some(),
        residual => pairs_masked,
        tile_mask => tile_mask.is_some(),
        // a walk that leaves tiles out would have to finish the sums of diagonals at each hole
        skips,
        finds_before => skips && deterministic,
        own_name => "keys",
        walked_name => "queries",
        own_tile => "kv_tile",
        walked_tile => "q_tile",
        q_block => "BLOCK_Q",
        kv_block => "BLOCK_KV",
        longest_first => !variant.bounds.expressions().is_empty(),
        mask_arguments => variant.mask_arguments(),
        sigmoid => pairs.is_sigmoid(),
        small_squares => small_squares(variant.shape.element()),
        weight_arguments => pairs.weight_arguments(variant),
        pair_arguments => pairs.gradient_arguments(variant),
        by_query => queries.staged || needs.relative_fields > 0,
        relatives => needs.relative_fields > 0,
        relative_copies => tiles.relative_copies,
        weight_relatives => weight.contains(relative::PARAMETER),
        gradient_relatives => gradient.contains(relative::PARAMETER),
        tables => tables
            .iter()
            .map(|table| context! { tile => tile_of_sums(variant, table.parameter()), ..table.context(variant) })
            .collect::<Vec<Value>>(),
        q_map => sequence_maps::map_of(variant, TensorRole::Q),
        k_map => sequence_maps::map_of(variant, TensorRole::K),
        v_map => sequence_maps::map_of(variant, TensorRole::V),
        output_grad_map => sequence_maps::map_of(variant, TensorRole::OutputGrad),
        k_grad_map => sequence_maps::map_of(variant, TensorRole::KGrad),
        v_grad_map => sequence_maps::map_of(variant, TensorRole::VGrad),
        map_batch => sequence_maps::batch_of(variant),
        product_grad_scale => scale.is_some(),
        scale_pairs => scales_pairs(variant),
        sums => parameters,
    };
    let mut constants = constants(variant, &tiles, needs);
    constants.push_str(&extremes::constant(&ranges));
    if variant.shape.is_packed() {
        constants.push_str(&sequence_maps::constants(&tensors(&tiles)));
    }
    let summary = describe(&tiles, deterministic);
    let machinery = Machinery::HopperBackward(&tiles, deterministic);
    let source = variant.source("backward_hopper", &summary, &constants, &own, machine, machinery);
    let kernel = Kernel {
        entry,
        kind: KernelKind::BackwardKv,
        file_name: file_name(variant, name),
        source,
        variant_part: own,
        arguments: members,
        threads: 128 * (1 + tiles.consumers as u32),
        shared_memory: tiles.shared_memory as u32,
        block_q: tiles.block_q as u32,
        block_kv: tiles.block_kv as u32,
        table_chunk: 0,
        persistent: true,
        tiles: None,
    };
    Ok((tiles, kernel))
}

/// The tensors of the main kernel, with the rows of their boxes.
fn tensors(tiles: &HopperBackwardTiles) -> Vec<(TensorRole, u32)> {
    let (block_q, block_kv) = (tiles.block_q as u32, tiles.block_kv as u32);
    let mut tensors = vec![
        (TensorRole::Q, block_q),
        (TensorRole::K, block_kv),
        (TensorRole::V, block_kv),
        (TensorRole::OutputGrad, block_q),
        (TensorRole::KGrad, block_kv),
    ];
    tensors.extend(tiles.with_values.then_some((TensorRole::VGrad, block_kv)));
    tensors
}

/// The C++ expression of the number of a tile of keys among those whose partial sums a parameter has: `row` is that of batch and head.
fn tile_of_sums(variant: &Variant<'_>, id: ParameterId) -> &'static str {
    if !variant.shape.is_packed() {
        "(row * ((kv_len + BLOCK_KV - 1) / BLOCK_KV) + work.kv_tile)"
    } else if sums_by_position(variant.definition().parameter(id)) {
        "((i64)(batch * arguments.heads + head) * ((arguments.max_seqlen_kv + BLOCK_KV - 1) / BLOCK_KV) + work.kv_tile)"
    } else {
        "((i64)head * kv_places(arguments) + work.kv_start / BLOCK_KV + batch + work.kv_tile)"
    }
}

fn query_gradients(
    variant: &Variant<'_>,
    gradients: &[Gradient],
    tiles: &HopperBackwardTiles,
    deterministic: bool,
) -> Kernel {
    let rows: Vec<&Gradient> =
        gradients.iter().filter(|gradient| gradient.kind == GradientKind::Row && gradient.row.is_some()).collect();
    let name_of = |gradient: &Gradient| variant.name_of(gradient.parameter);
    let scale = variant.lowered.backward.product_grad_scale.filter(|_| !scales_pairs(variant));
    let row_roots: Vec<NodeId> = rows.iter().filter_map(|gradient| gradient.row).collect();
    let mut values = variant.values();
    scale.iter().chain(&row_roots).for_each(|&root| values.demand(root, &[]));
    variant.demand_bounds(&mut values);
    let mut all = row_roots.clone();
    all.extend(scale);
    let mut members = vec![Argument::Tensor(TensorRole::QGrad), Argument::QueryGradSums(tiles.dq_tile() as u32)];
    members.extend(deterministic.then_some(Argument::QueryGradTurns));
    members.extend(rows.iter().map(|gradient| Argument::RowPartial(gradient.parameter)));
    let packed = variant.shape.is_packed();
    let by_position =
        |gradient: &Gradient| packed && sums_by_position(variant.definition().parameter(gradient.parameter));
    let any_by_position = rows.iter().any(|gradient| by_position(gradient));
    members.extend(any_by_position.then_some(Argument::Length(Length::MaxSeqlenQ)));
    members.extend(row_members(variant, &mut values, &all));
    let counted = Argument::Rows(RowArray::LiveKeys);
    if needs_live_rows(variant, gradients) && !members.contains(&counted) {
        members.push(counted);
    }
    let mut functions = if scale.is_some() { scale_function(variant, &values) } else { String::new() };
    functions.push_str(&row_functions(variant, &values, &rows));
    let own = variant.own_part(&values, &mut members, &functions, false);
    let row_gradients: Vec<Value> = rows
        .iter()
        .map(|gradient| {
            let place = if by_position(gradient) { "position" } else { "row" };
            context! { name => name_of(gradient), place }
        })
        .collect();
    let machine = context! {
        deterministic,
        dq_by_rows => tiles.dq_by_rows,
        dq_in_parts => tiles.dq_parts > 1,
        product_grad_scale => scale.is_some(),
        row_gradients,
        residual => variant.bounds.residual,
        sums_by_position => any_by_position,
        sums_by_row => variant.bounds.residual || rows.iter().any(|gradient| !by_position(gradient)),
    };
    let mut constants = format!(
        "constexpr int HEAD_DIM = {}, BLOCK_Q = {}, THREADS = {QUERY_GRADIENT_THREADS};\n",
        variant.shape.head_dim(),
        tiles.block_q
    );
    writeln!(constants, "constexpr int DQ_REGISTERS = {}, DQ_TILE_FLOATS = {};", tiles.dq_registers(), tiles.dq_tile())
        .expect("writing to a string");
    let source = variant.source("query_gradients", "dq of its sums", &constants, &own, machine, Machinery::Plain);
    Kernel {
        entry: "attn_query_gradients",
        kind: KernelKind::BackwardQ,
        file_name: file_name(variant, "query_gradients"),
        source,
        variant_part: own,
        arguments: members,
        threads: QUERY_GRADIENT_THREADS,
        shared_memory: 0,
        block_q: tiles.block_q as u32,
        block_kv: 0,
        table_chunk: 0,
        persistent: false,
        tiles: None,
    }
}

/// Whether rows must be known to have a live pair, and bounds do not tell.
pub(super) fn needs_live_rows(variant: &Variant<'_>, gradients: &[Gradient]) -> bool {
    let of_row = |gradient: &Gradient| gradient.kind == GradientKind::Row && gradient.row.is_some();
    variant.bounds.residual && gradients.iter().any(of_row)
}

fn constants(variant: &Variant<'_>, tiles: &HopperBackwardTiles, needs: HopperBackwardNeeds) -> String {
    let shape = variant.shape;
    let mut text = String::from("// ---------------------------------------------------------------- shape\n");
    let mut line = |declaration: String| writeln!(text, "constexpr int {declaration};").expect("writing to a string");
    line(format!("HEAD_DIM = {}, VALUE_DIM = {}", shape.head_dim(), shape.value_dim()));
    line(format!("BLOCK_Q = {}, BLOCK_KV = {}", tiles.block_q, tiles.block_kv));
    line(format!("CONSUMERS = {}, THREADS = 128 * (1 + CONSUMERS)", tiles.consumers));
    line(format!("STAGES = {}   /* tiles of q, of do and of ds */", tiles.stages));
    let [producer, consumer] = tiles.registers;
    line(format!("PRODUCER_REGISTERS = {producer}, CONSUMER_REGISTERS = {consumer}"));
    line("Q_CHUNK_BYTES = BLOCK_Q * CHUNK_ROW_BYTES, KV_CHUNK_BYTES = BLOCK_KV * CHUNK_ROW_BYTES".to_owned());
    line(
        "Q_TILE_BYTES = chunks(HEAD_DIM) * Q_CHUNK_BYTES, DO_TILE_BYTES = chunks(VALUE_DIM) * Q_CHUNK_BYTES".to_owned(),
    );
    let why = if tiles.dq_by_rows { "" } else { "   /* one for each consumer's columns of dq */" };
    line(format!("K_CHUNKS = {}{why}", tiles.k_chunks));
    line("K_TILE_BYTES = K_CHUNKS * KV_CHUNK_BYTES, V_TILE_BYTES = chunks(VALUE_DIM) * KV_CHUNK_BYTES".to_owned());
    line("DS_TILE_BYTES = chunks(BLOCK_KV) * Q_CHUNK_BYTES".to_owned());
    let registers = tiles.dq_registers();
    if tiles.with_values {
        line(format!("DQ_REGISTERS = {registers}, DQ_TILE_BYTES = CONSUMERS * 128 * DQ_REGISTERS * 4"));
    } else {
        line(format!(
            "DQ_REGISTERS = {registers}, DQ_PARTS = {}, DQ_PART_BYTES = CONSUMERS * 128 * DQ_REGISTERS * 4   /* of a tile of dq, of 32 columns each */",
            tiles.dq_parts
        ));
    }
    if needs.query_fields > 0 {
        line(format!("QUERY_RING_BYTES = BLOCK_Q * {}", 4 * needs.query_fields));
    }
    if needs.relative_fields > 0 {
        let bytes = relative_copy_bytes(tiles.block_q, tiles.block_kv);
        relative_constants(needs.relative_fields, tiles.relative_copies, bytes).into_iter().for_each(&mut line);
    }
    if needs.query_fields + needs.relative_fields > 0 || needs.sums_diagonals {
        line(format!("QUERY_WARPS = {QUERY_WARPS}"));
    }
    if needs.sums_diagonals {
        line(format!("DIAGONALS = {DIAGONALS}, QUERY_WARPS_MEET = {QUERY_WARPS_MEET}   /* a barrier */"));
    }
    line(format!(
        "ALL_CONSUMERS = {ALL_CONSUMERS}, DQ_FULL = {DQ_FULL}, DQ_EMPTY = {DQ_EMPTY}, DQ_THREADS = 128 + 32   /* barriers, the last two one a consumer */"
    ));
    text
}

fn describe(tiles: &HopperBackwardTiles, deterministic: bool) -> String {
    format!(
        "backward{}, Hopper schedule, tile {} queries x {} keys, one producer and {} consumer warpgroups, {} for q and do, dq added {}, {} KiB of shared memory",
        if tiles.with_values { "" } else { " (dk and dq)" },
        tiles.block_q,
        tiles.block_kv,
        tiles.consumers,
        if tiles.stages > 1 { format!("rings of {}", tiles.stages) } else { "one tile each".to_owned() },
        if deterministic { "in the order of the keys" } else { "in any order" },
        tiles.shared_memory.div_ceil(1024),
    )
}
