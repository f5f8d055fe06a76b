//! The kernels of the backward pass: delta, dk and dv, dq, tables and dense parameters.

use minijinja::{Value, context};

use super::arguments::{Argument, Length, RowArray, TensorRole};
use super::assemble::{Columns, Machinery, Variant, describe, file_name, kernel};
use super::extremes::{self, extremes};
use super::forward::live_keys;
use super::gradients::{Gradient, GradientKind, gradients, sums_by_position};
use super::mask::TileMask;
use super::values::{Place, Values, function};
use super::{Kernel, KernelKind, backward_hopper, gradient_hopper};
use crate::definition::Axis;
use crate::ir::{Binary, Input, NodeId, Rate, Type};
use crate::lower::{Class, Lowered};
use crate::plan::{Pass, PlanError, Shape, TABLE_CHUNK, Target, Tiles, tiles};

pub(crate) fn kernels(
    lowered: &Lowered,
    shape: Shape,
    target: Target,
    deterministic: bool,
) -> Result<Vec<Kernel>, PlanError> {
    let mut variant = Variant::new(lowered, shape, target);
    let gradients = gradients(&mut variant.graph, lowered)?;
    let tables: Vec<TableReads> = gradients
        .iter()
        .filter(|gradient| gradient.kind == GradientKind::Table)
        .map(|gradient| TableReads::new(&mut variant, gradient))
        .collect();
    let residual = lowered.mask.filter(|_| variant.bounds.residual);
    let tile_mask = residual.and_then(|mask| TileMask::of(&mut variant.graph, mask));
    let (variant, tile_mask) = (&variant, tile_mask.as_ref());
    let mut kernels = vec![];
    let joint = backward_hopper::kernels(variant, &gradients, &tables, tile_mask, deterministic);
    let counts_rows = joint.is_ok() && backward_hopper::needs_live_rows(variant, &gradients);
    let hopper = joint.or_else(|why| Ok((gradient_hopper::kernels(variant, &gradients, tile_mask, why)?, vec![])));
    if let Some(mask) = tile_mask {
        kernels.extend(mask.ranges(&variant.graph).into_iter().map(|range| extremes(variant, range)));
    }
    let mut summed = vec![];
    if variant.counts_live_keys() || counts_rows {
        kernels.push(live_keys(variant, tile_mask));
    }
    if lowered.backward.needs_delta {
        kernels.push(delta(variant));
    }
    match hopper {
        Ok((passes, tables_summed)) => {
            kernels.extend(passes);
            summed = tables_summed;
        }
        Err(why) => portable_passes(variant, &gradients, tile_mask, why, &mut kernels)?,
    }
    for table in tables.iter().filter(|table| !summed.contains(&table.gradient.parameter)) {
        kernels.push(table_pass(variant, table, tile_mask)?);
    }
    for gradient in gradients.iter().filter(|gradient| gradient.kind == GradientKind::Dense) {
        kernels.push(dense_pass(variant, gradient, tile_mask)?);
    }
    Ok(kernels)
}

/// The kernels of dk and dv and of dq in the portable schedule; `why` not in another.
fn portable_passes(
    variant: &Variant<'_>,
    gradients: &[Gradient],
    tile_mask: Option<&TileMask>,
    why: &'static str,
    kernels: &mut Vec<Kernel>,
) -> Result<(), PlanError> {
    match key_pass(variant, gradients, tile_mask, Pass::BackwardKv, why) {
        // dk and dv together fit no tile
        Err(PlanError::SharedMemory { .. }) => {
            kernels.push(key_pass(variant, gradients, tile_mask, Pass::BackwardV, why)?);
            kernels.push(key_pass(variant, gradients, tile_mask, Pass::BackwardK, why)?);
        }
        joint => kernels.push(joint?),
    }
    kernels.push(query_pass(variant, gradients, tile_mask, why)?);
    Ok(())
}

/// A kernel's plan in the portable schedule, and why not in that of the target.
fn describe_instead(variant: &Variant<'_>, pass: Pass, planned: &Tiles, why: &str) -> String {
    let mut summary = describe(pass, planned, planned.shared_memory);
    if variant.target == Target::Sm90a {
        summary.push_str(&format!(", since {why}"));
    }
    summary
}

pub(super) fn delta(variant: &Variant<'_>) -> Kernel {
    let class = variant.lowered.class;
    let mut members = vec![Argument::Tensor(TensorRole::Output), Argument::Tensor(TensorRole::OutputGrad)];
    members.push(Argument::Rows(RowArray::Delta));
    if class != Class::Elementwise {
        members.push(Argument::Rows(RowArray::StatisticGrad));
    }
    if class == Class::Streaming {
        members.push(Argument::Rows(RowArray::Saved(crate::lower::SavedRow::Statistic)));
    }
    members.push(Argument::Length(Length::QueryLen));
    let own = super::arguments::declare(variant.definition(), [&variant.names, &variant.size_names], &mut members);
    let machine = context! { class => variant.class_name() };
    let constants = format!("constexpr int VALUE_DIM = {}, THREADS = 128;\n", variant.shape.value_dim());
    let source = variant.source("delta", "delta of each row", &constants, &own, machine, Machinery::Plain);
    let chunks = variant.shape.value_dim() * variant.shape.element().bytes() / 16;
    let lanes = chunks.next_power_of_two().clamp(2, 32);
    Kernel {
        entry: "attn_delta",
        kind: KernelKind::Delta,
        file_name: file_name(variant, "delta"),
        source,
        variant_part: own,
        arguments: members,
        threads: 128,
        shared_memory: 0,
        block_q: (128 / lanes) as u32,
        block_kv: 0,
        table_chunk: 0,
        persistent: false,
        tiles: None,
    }
}

/// Row arrays that the fields read, and the lengths, scale and parameters of `roots`.
pub(super) fn row_members(variant: &Variant<'_>, values: &mut Values<'_>, roots: &[NodeId]) -> Vec<Argument> {
    let mut members = vec![];
    let saved = variant.lowered.forward.saved.iter();
    let saved = saved.filter(|row| values.reads(row.input())).map(|row| RowArray::Saved(*row));
    let mut rows: Vec<RowArray> = saved.collect();
    if values.reads(Input::Delta) {
        rows.push(RowArray::Delta);
    }
    if variant.counts_live_keys() && values.reads(Input::LiveKeys) {
        rows.push(RowArray::LiveKeys);
    }
    if !rows.is_empty() {
        variant.name_row_indices(values);
    }
    members.extend(rows.into_iter().map(Argument::Rows));
    members.extend(variant.common_arguments(roots));
    members
}

/// `struct Pair` and `backward_pair`.
pub(super) fn pair_part(variant: &Variant<'_>, values: &Values<'_>, members: &[(String, NodeId)]) -> String {
    let names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    let roots: Vec<NodeId> = members.iter().map(|(_, root)| *root).collect();
    let mut text = format!("struct Pair {{ float {}; }};\n", names.join(", "));
    text.push_str(&variant.pair_function(values, "Pair", "backward_pair", &roots, true));
    text
}

pub(super) fn scale_function(variant: &Variant<'_>, values: &Values<'_>) -> String {
    let Some(root) = variant.lowered.backward.product_grad_scale else { return String::new() };
    let (statements, texts) = values.tile_body(&[root], &[]);
    function("float product_grad_scale(const Tile& tile)", &statements, &texts[0])
}

/// Whether the factor of all gradients of products differs between heads that share keys, so that kernels which sum over these
/// heads multiply pairs by it.
pub(super) fn scales_pairs(variant: &Variant<'_>) -> bool {
    let scale = variant.lowered.backward.product_grad_scale;
    scale.is_some_and(|root| variant.graph.rate(root).contains(Rate::HEAD))
}

/// `row_grad_...`, what the normalizer adds to the gradients of parameters, of those that it reads.
pub(super) fn row_functions(variant: &Variant<'_>, values: &Values<'_>, gradients: &[&Gradient]) -> String {
    let of_row = |gradient: &&Gradient| {
        let (statements, texts) = values.body(&[gradient.row?], &[]);
        let name = variant.name_of(gradient.parameter);
        let signature = format!("float row_grad_{name}(const Tile& tile, const Query& query)");
        Some(function(&signature, &statements, &texts[0]))
    };
    gradients.iter().filter_map(of_row).collect()
}

fn key_pass(
    variant: &Variant<'_>,
    gradients: &[Gradient],
    tile_mask: Option<&TileMask>,
    pass: Pass,
    why: &str,
) -> Result<Kernel, PlanError> {
    let backward = &variant.lowered.backward;
    let (want_dv, want_dk) = (pass != Pass::BackwardK, pass != Pass::BackwardV);
    let columns: Vec<&Gradient> = gradients
        .iter()
        .filter(|gradient| want_dk && gradient.kind == GradientKind::Column && gradient.pair.is_some())
        .collect();
    let name_of = |gradient: &Gradient| variant.name_of(gradient.parameter);

    let mut pair: Vec<(String, NodeId)> = vec![];
    if want_dk {
        if want_dv {
            pair.push(("probability".into(), backward.probability));
        }
        pair.push(("product_grad".into(), backward.product_grad));
        pair.extend(
            columns.iter().map(|gradient| (format!("grad_{}", name_of(gradient)), gradient.pair.expect("of a pair"))),
        );
    }
    let mut roots: Vec<NodeId> = pair.iter().map(|(_, root)| *root).collect();
    if !want_dk {
        roots.push(backward.probability);
    }
    let mut values = variant.values();
    roots.iter().for_each(|&root| values.demand(root, &[]));
    let scale = backward.product_grad_scale.filter(|_| want_dk);
    scale.into_iter().for_each(|root| values.demand(root, &[]));
    variant.demand_mask(&mut values);
    tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));

    let mut all = roots.clone();
    all.extend(scale);
    let mut members: Vec<Argument> =
        [TensorRole::Q, TensorRole::K, TensorRole::V, TensorRole::OutputGrad].map(Argument::Tensor).to_vec();
    members.extend(want_dk.then_some(Argument::Tensor(TensorRole::KGrad)));
    members.extend(want_dv.then_some(Argument::Tensor(TensorRole::VGrad)));
    members.extend(columns.iter().map(|gradient| Argument::Partial(gradient.parameter)));
    if variant.shape.is_packed() && !columns.is_empty() {
        members.push(Argument::Length(Length::MaxSeqlenKv));
    }
    members.extend(row_members(variant, &mut values, &all));

    let planned = tiles(pass, variant.shape, variant.target, !columns.is_empty(), values.staged_fields(Place::Query))?;
    let stage = if planned.stages > 1 { "stage" } else { "0" };
    let within = if planned.column_warps > 1 { "column_warp * WARP_COLUMNS + " } else { "" };
    let queries = Columns::of(&values, Place::Query, stage, within);
    let mut functions = String::new();
    if want_dk {
        functions.push_str(&pair_part(variant, &values, &pair));
        functions.push_str(&scale_function(variant, &values));
    } else {
        functions.push_str(&variant.pair_function(
            &values,
            "float",
            "backward_probability",
            &[backward.probability],
            false,
        ));
    }
    functions.push_str(&queries.functions);
    let found = TileMask::add(tile_mask, &values, &mut members, &mut functions);
    let own = variant.own_part(&values, &mut members, &functions, true);

    let entry = match pass {
        Pass::BackwardV => "attn_backward_v",
        Pass::BackwardK => "attn_backward_k",
        _ => "attn_backward_kv",
    };
    let comment = match (want_dv, want_dk) {
        (true, true) => "s becomes the probabilities, dp the gradient of the products",
        (true, false) => "s becomes the probabilities",
        _ => "dp becomes the gradient of the products",
    };
    let gradient_names: Vec<Value> = columns.iter().map(|gradient| context! { name => name_of(gradient) }).collect();
    let machine = context! {
        entry => entry,
        blocks_per_sm => planned.blocks_per_multiprocessor,
        stages => planned.stages,
        stage => stage,
        stage_queries => queries.staged,
        inline_queries => queries.inline,
        query_columns => queries.snippet,
        column_warps => planned.column_warps,
        want_dk => want_dk,
        want_dv => want_dv,
        masked => variant.lowered.mask.is_some(),
        tile_mask => tile_mask.is_some(),
        mask_arguments => variant.mask_arguments(),
        pair_arguments => variant.pair_arguments(&roots),
        product_grad_scale => scale.is_some(),
        scale_pairs => want_dk && scales_pairs(variant),
        column_gradients => gradient_names,
        pairs_comment => comment,
    };
    let constants = variant.constants(pass, &planned, 0, queries.fields) + &extremes::constant(&found);
    let summary = describe_instead(variant, pass, &planned, why);
    let source = variant.source("backward_kv", &summary, &constants, &own, machine, Machinery::Portable(&planned));
    let name = &entry["attn_".len()..];
    Ok(kernel(variant, entry, name, KernelKind::BackwardKv, source, own, members, (pass, planned)))
}

fn query_pass(
    variant: &Variant<'_>,
    gradients: &[Gradient],
    tile_mask: Option<&TileMask>,
    why: &str,
) -> Result<Kernel, PlanError> {
    let backward = &variant.lowered.backward;
    let pass = Pass::BackwardQ;
    let rows: Vec<&Gradient> = gradients.iter().filter(|gradient| gradient.kind == GradientKind::Row).collect();
    let name_of = |gradient: &Gradient| variant.name_of(gradient.parameter);
    let mut pair = vec![("product_grad".to_owned(), backward.product_grad)];
    for gradient in &rows {
        pair.extend(gradient.pair.map(|root| (format!("grad_{}", name_of(gradient)), root)));
    }
    let roots: Vec<NodeId> = pair.iter().map(|(_, root)| *root).collect();
    let mut values = variant.values();
    roots.iter().for_each(|&root| values.demand(root, &[]));
    let row_roots: Vec<NodeId> = rows.iter().filter_map(|gradient| gradient.row).collect();
    row_roots.iter().for_each(|&root| values.demand(root, &[]));
    backward.product_grad_scale.into_iter().for_each(|root| values.demand(root, &[]));
    variant.demand_mask(&mut values);
    tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));

    let mut all = roots.clone();
    all.extend(row_roots.iter().chain(&backward.product_grad_scale));
    let mut members: Vec<Argument> =
        [TensorRole::Q, TensorRole::K, TensorRole::V, TensorRole::OutputGrad, TensorRole::QGrad]
            .map(Argument::Tensor)
            .to_vec();
    members.extend(rows.iter().map(|gradient| Argument::Partial(gradient.parameter)));
    let by_position = |gradient: &Gradient| {
        variant.shape.is_packed() && sums_by_position(variant.definition().parameter(gradient.parameter))
    };
    if rows.iter().any(|gradient| by_position(gradient)) {
        members.push(Argument::Length(Length::MaxSeqlenQ));
    }
    members.extend(row_members(variant, &mut values, &all));

    let planned = tiles(pass, variant.shape, variant.target, false, values.staged_fields(Place::Key))?;
    let stage = if planned.stages > 1 { "stage" } else { "0" };
    let keys = Columns::of(&values, Place::Key, stage, "");
    let mut functions = pair_part(variant, &values, &pair);
    functions.push_str(&scale_function(variant, &values));
    functions.push_str(&row_functions(variant, &values, &rows));
    functions.push_str(&keys.functions);
    let found = TileMask::add(tile_mask, &values, &mut members, &mut functions);
    let own = variant.own_part(&values, &mut members, &functions, true);

    let (q_order, q_order_comment) = variant.query_order();
    let row_gradients: Vec<Value> = rows
        .iter()
        .map(|gradient| {
            let place = if by_position(gradient) { "position" } else { "row" };
            context! { name => name_of(gradient), place, per_pair => gradient.pair.is_some(), per_row => gradient.row.is_some() }
        })
        .collect();
    let machine = context! {
        blocks_per_sm => planned.blocks_per_multiprocessor,
        stages => planned.stages,
        stage => stage,
        stage_keys => keys.staged,
        inline_keys => keys.inline,
        key_columns => keys.snippet,
        q_order => q_order,
        q_order_comment => q_order_comment,
        masked => variant.lowered.mask.is_some(),
        tile_mask => tile_mask.is_some(),
        mask_arguments => variant.mask_arguments(),
        pair_arguments => variant.pair_arguments(&roots),
        product_grad_scale => backward.product_grad_scale.is_some(),
        per_row => rows.iter().any(|gradient| gradient.row.is_some()),
        sums_by_row => rows.iter().any(|gradient| !by_position(gradient)),
        sums_by_position => rows.iter().any(|gradient| by_position(gradient)),
        row_gradients => row_gradients,
    };
    let constants = variant.constants(pass, &planned, keys.fields, 0) + &extremes::constant(&found);
    let summary = describe_instead(variant, pass, &planned, why);
    let source = variant.source("backward_q", &summary, &constants, &own, machine, Machinery::Portable(&planned));
    Ok(kernel(variant, "attn_backward_q", "backward_q", KernelKind::BackwardQ, source, own, members, (pass, planned)))
}

/// A table's reads with flat entries: the indices of the axes that are computed, clamped and joined.
pub(super) struct TableReads {
    pub(super) gradient: Gradient,
    /// Flat entry and contribution of each read.
    pub(super) reads: Vec<(NodeId, NodeId)>,
}

/// The axes of a parameter that are indexed by expressions.
pub(super) fn table_axes(variant: &Variant<'_>, gradient: &Gradient) -> Vec<usize> {
    let axes = &variant.definition().parameter(gradient.parameter).axes;
    (0..axes.len()).filter(|&axis| matches!(axes[axis], Axis::Fixed(_) | Axis::Named(_))).collect()
}

fn axis_extent(variant: &mut Variant<'_>, gradient: &Gradient, axis: usize) -> NodeId {
    match variant.definition().parameter(gradient.parameter).axes[axis] {
        Axis::Fixed(extent) => variant.graph.int(i32::try_from(extent).unwrap_or(i32::MAX)),
        Axis::Named(size) => variant.graph.input(Input::Size(size)),
        _ => unreachable!("only computed axes are asked for"),
    }
}

impl TableReads {
    fn new(variant: &mut Variant<'_>, gradient: &Gradient) -> TableReads {
        let mut reads = vec![];
        for (index, value) in &gradient.reads {
            let mut entry = variant.graph.int(0);
            for axis in table_axes(variant, gradient) {
                let extent = axis_extent(variant, gradient, axis);
                let graph = &mut variant.graph;
                let (zero, one) = (graph.int(0), graph.int(1));
                let last = graph.difference(extent, one);
                let low = graph.binary(Binary::Max, index[axis], zero);
                let clamped = graph.binary(Binary::Min, low, last);
                let scaled = graph.product(entry, extent);
                entry = graph.sum(scaled, clamped);
            }
            let entry = crate::simplify::simplify(&mut variant.graph, entry);
            debug_assert_eq!(variant.graph.ty(entry), Type::Int);
            reads.push((entry, *value));
        }
        TableReads { gradient: gradient.clone(), reads }
    }
}

fn table_pass(variant: &Variant<'_>, table: &TableReads, tile_mask: Option<&TileMask>) -> Result<Kernel, PlanError> {
    let pass = Pass::Table;
    let id = table.gradient.parameter;
    let name = variant.name_of(id);
    let roots: Vec<NodeId> = table.reads.iter().flat_map(|(entry, value)| [*entry, *value]).collect();
    let mut values = variant.values();
    roots.iter().for_each(|&root| values.demand(root, &[]));
    variant.demand_mask(&mut values);
    tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));
    let mut members: Vec<Argument> =
        [TensorRole::Q, TensorRole::K, TensorRole::V, TensorRole::OutputGrad].map(Argument::Tensor).to_vec();
    members.push(Argument::Partial(id));
    let by_sequence = sums_by_position(variant.definition().parameter(id));
    if variant.shape.is_packed() && by_sequence {
        members.push(Argument::Length(Length::MaxSeqlenQ));
    }
    members.extend(row_members(variant, &mut values, &roots));
    if !members.contains(&Argument::Parameter(id)) {
        members.push(Argument::Parameter(id));
    }

    let planned = tiles(pass, variant.shape, variant.target, false, values.staged_fields(Place::Key))?;
    let keys = Columns::of(&values, Place::Key, "0", "");
    let fields: Vec<String> = (0..table.reads.len()).map(|i| format!("int entry{i}; float value{i};")).collect();
    let given = [(Input::Product, "product"), (Input::OutputGradProduct, "output_grad_product")];
    let (statements, texts) = values.body(&roots, &given);
    let mut functions = format!("struct TablePair {{ {} }};\n", fields.join(" "));
    functions.push_str(&function(
        "TablePair table_pair(const Arguments& arguments, float product, float output_grad_product, const Tile& tile, const Query& query, const Key& key)",
        &statements,
        &format!("{{{}}}", texts.join(", ")),
    ));
    let extents: Vec<String> =
        table_axes(variant, &table.gradient).iter().map(|axis| format!("arguments.{name}.extent[{axis}]")).collect();
    functions.push_str(&function("int table_entries(const Arguments& arguments)", &[], &extents.join(" * ")));
    functions.push_str(&keys.functions);
    let found = TileMask::add(tile_mask, &values, &mut members, &mut functions);
    let own = variant.own_part(&values, &mut members, &functions, true);
    let reads: Vec<usize> = (0..table.reads.len()).collect();
    let machine = context! {
        blocks_per_sm => planned.blocks_per_multiprocessor,
        stage_keys => keys.staged,
        inline_keys => keys.inline,
        key_columns => keys.snippet,
        masked => variant.lowered.mask.is_some(),
        tile_mask => tile_mask.is_some(),
        mask_arguments => variant.mask_arguments(),
        reads => reads,
        by_sequence => by_sequence,
        parameter => name,
    };
    let mut constants = variant.constants(pass, &planned, keys.fields, 0) + &extremes::constant(&found);
    constants.push_str(&format!("constexpr int TABLE_CHUNK = {TABLE_CHUNK};\n"));
    let summary = describe(pass, &planned, planned.shared_memory);
    let source = variant.source("table", &summary, &constants, &own, machine, Machinery::Portable(&planned));
    let file = format!("table_grad_{name}");
    let mut kernel =
        kernel(variant, "attn_table_grad", &file, KernelKind::Table(id), source, own, members, (pass, planned));
    kernel.table_chunk = TABLE_CHUNK as u32;
    Ok(kernel)
}

fn dense_pass(variant: &Variant<'_>, gradient: &Gradient, tile_mask: Option<&TileMask>) -> Result<Kernel, PlanError> {
    let pass = Pass::Dense;
    let id = gradient.parameter;
    let name = variant.name_of(id);
    let root = gradient.pair.expect("a dense parameter is read by pairs");
    let mut values = variant.values();
    values.demand(root, &[]);
    variant.demand_mask(&mut values);
    tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));
    let mut members: Vec<Argument> =
        [TensorRole::Q, TensorRole::K, TensorRole::V, TensorRole::OutputGrad].map(Argument::Tensor).to_vec();
    members.push(Argument::DenseGrad(id));
    if variant.shape.is_packed() {
        members.extend([Length::MaxSeqlenQ, Length::MaxSeqlenKv].map(Argument::Length));
    } else {
        members.push(Argument::Length(Length::Batches));
    }
    members.extend(row_members(variant, &mut values, &[root]));

    let planned = tiles(pass, variant.shape, variant.target, false, values.staged_fields(Place::Key))?;
    let keys = Columns::of(&values, Place::Key, "0", "");
    let mut functions = variant.pair_function(&values, "float", "dense_pair", &[root], true);
    functions.push_str(&keys.functions);
    let found = TileMask::add(tile_mask, &values, &mut members, &mut functions);
    let own = variant.own_part(&values, &mut members, &functions, true);
    let machine = context! {
        blocks_per_sm => planned.blocks_per_multiprocessor,
        stage_keys => keys.staged,
        inline_keys => keys.inline,
        key_columns => keys.snippet,
        masked => variant.lowered.mask.is_some(),
        tile_mask => tile_mask.is_some(),
        mask_arguments => variant.mask_arguments(),
        pair_arguments => variant.pair_arguments(&[root]),
        parameter => name,
    };
    let constants = variant.constants(pass, &planned, keys.fields, 0) + &extremes::constant(&found);
    let summary = describe(pass, &planned, planned.shared_memory);
    let source = variant.source("dense", &summary, &constants, &own, machine, Machinery::Portable(&planned));
    let file = format!("dense_grad_{name}");
    Ok(kernel(variant, "attn_dense_grad", &file, KernelKind::Dense(id), source, own, members, (pass, planned)))
}
