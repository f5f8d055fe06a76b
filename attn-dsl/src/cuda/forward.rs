//! The forward kernel, and the kernel that counts live keys.

use minijinja::context;

use super::arguments::{Argument, Length, RowArray, TensorRole};
use super::assemble::{Columns, Machinery, Variant, describe, file_name, kernel};
use super::extremes::{self, extremes};
use super::hopper;
use super::mask::TileMask;
use super::part::Part;
use super::relative::{self, Relatives};
use super::rows;
use super::sequence_maps;
use super::terms::Terms;
use super::values::{Place, Values, function};
use super::{Kernel, KernelKind};
use crate::ir::{Binary, Graph, Input, NodeId, Op, Reduction, Type, Unary};
use crate::lower::{Class, Lowered, SavedRow};
use crate::plan::{
    ElementType, HopperNeeds, HopperTiles, PlanError, Shape, Target, Tiles, hopper_choices, hopper_forward, tiles,
    work_bytes,
};
use crate::simplify::simplify;

pub(crate) fn kernels(lowered: &Lowered, shape: Shape, target: Target) -> Result<Vec<Kernel>, PlanError> {
    Ok(choice(lowered, shape, target, 0)?.0)
}

/// The kernels of every choice of tiles; those of [`kernels`] first.
pub(crate) fn choices(lowered: &Lowered, shape: Shape, target: Target) -> Result<Vec<Vec<Kernel>>, PlanError> {
    let (first, count) = choice(lowered, shape, target, 0)?;
    let others = (1..count).map(|number| Ok(choice(lowered, shape, target, number)?.0));
    std::iter::once(Ok(first)).chain(others).collect()
}

/// The kernels of a choice of tiles by its number, and how many choices there are.
fn choice(lowered: &Lowered, shape: Shape, target: Target, number: usize) -> Result<(Vec<Kernel>, usize), PlanError> {
    let mut variant = Variant::new(lowered, shape, target);
    let mut kernels: Vec<Kernel> = vec![];
    if variant.counts_live_keys() {
        let tile_mask = lowered.mask.and_then(|mask| TileMask::of(&mut variant.graph, mask));
        let ranges = tile_mask.iter().flat_map(|mask| mask.ranges(&variant.graph));
        kernels.extend(ranges.map(|range| extremes(&variant, range)));
        kernels.push(live_keys(&variant, tile_mask.as_ref()));
    }
    kernels.extend(rows::kernels(lowered, shape, target)?);
    let (passes, count) = forward(&mut variant, Part::Main, true, number)?;
    kernels.extend(passes);
    // several kernels may look up the same extremes
    let mut found: Vec<KernelKind> = vec![];
    kernels.retain(|kernel| {
        let is_there = matches!(kernel.kind, KernelKind::Extremes(..)) && found.contains(&kernel.kind);
        found.push(kernel.kind);
        !is_there
    });
    Ok((kernels, count))
}

/// The kernels of a forward pass beside the main one, without those that count live keys.
pub(super) fn forward_of(
    lowered: &Lowered,
    shape: Shape,
    target: Target,
    part: Part,
) -> Result<Vec<Kernel>, PlanError> {
    let mut variant = Variant::new(lowered, shape, target);
    Ok(forward(&mut variant, part, true, 0)?.0)
}

/// Keys of a tile whose live ones are counted at once: four a lane.
const COUNTED_KEYS: usize = 128;

/// One warp a row; see the template.
pub(crate) fn live_keys(variant: &Variant<'_>, tile_mask: Option<&TileMask>) -> Kernel {
    let mut values = variant.values();
    variant.demand_mask(&mut values);
    tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));
    let mut members = variant.common_arguments(&[]);
    members.push(Argument::Rows(RowArray::LiveKeys));
    let mut functions = String::new();
    let ranges = TileMask::add(tile_mask, &values, &mut members, &mut functions);
    let own = variant.own_part(&values, &mut members, &functions, true);
    let machine = context! { mask_arguments => variant.mask_arguments(), tile_mask => tile_mask.is_some() };
    let mut constants = "constexpr int THREADS = 128;\n".to_owned();
    if tile_mask.is_some() {
        constants.push_str(&format!("constexpr int BLOCK_KV = {COUNTED_KEYS};   // keys of a tile\n"));
    }
    constants.push_str(&extremes::constant(&ranges));
    let summary = "the number of live keys of each row";
    let source = variant.source("live_keys", summary, &constants, &own, machine, Machinery::Plain);
    Kernel {
        entry: "attn_live_keys",
        kind: KernelKind::LiveKeys,
        file_name: file_name(variant, "live_keys"),
        source,
        variant_part: own,
        arguments: members,
        threads: 128,
        shared_memory: 0,
        block_q: 4,
        block_kv: 0,
        table_chunk: 0,
        persistent: false,
        tiles: None,
    }
}

/// The factor `u` of an exponent that is `u * product` with a positive `u` of tile rate: the maximum may then be taken of the
/// raw products, and scaling rides in the FMA that subtracts the shift.
pub(super) fn positive_scale(graph: &Graph, pair: NodeId) -> Option<NodeId> {
    let Op::Binary(Binary::Mul, a, b) = *graph.op(pair) else { return None };
    let is_product = |id| *graph.op(id) == Op::Input(Input::Product);
    let scale = match (is_product(a), is_product(b)) {
        (true, false) => b,
        (false, true) => a,
        _ => return None,
    };
    (graph.rate(scale).is_tile() && is_positive(graph, scale)).then_some(scale)
}

/// Whether an exponent is `u * product + row` with a positive `u` of tile rate: its largest value of a row is then that of the
/// largest product.
fn rises_with_product(graph: &Graph, exponent: NodeId) -> bool {
    match *graph.op(exponent) {
        Op::Binary(Binary::Sub, a, b) => graph.rate(b).is_row() && rises_with_product(graph, a),
        Op::Binary(Binary::Add, a, b) => {
            (graph.rate(b).is_row() && rises_with_product(graph, a))
                || (graph.rate(a).is_row() && rises_with_product(graph, b))
        }
        _ => positive_scale(graph, exponent).is_some(),
    }
}

pub(super) fn is_positive(graph: &Graph, id: NodeId) -> bool {
    match graph.op(id) {
        Op::Float(bits) => f64::from_bits(*bits) > 0.0,
        Op::Input(Input::Scale) => true,
        Op::Unary(Unary::Exp | Unary::Exp2, _) => true,
        Op::Binary(Binary::Mul | Binary::Div | Binary::Add, a, b) => is_positive(graph, *a) && is_positive(graph, *b),
        Op::Cast(Type::Float, a) => *graph.op(*a) == Op::Input(Input::HeadDim),
        _ => false,
    }
}

/// `log2(e) x`, with the factor inside of sums, where it joins other constants.
pub(super) fn in_log2_units(graph: &mut Graph, x: NodeId) -> NodeId {
    match *graph.op(x) {
        Op::Binary(op @ (Binary::Add | Binary::Sub), a, b) => {
            let (a, b) = (in_log2_units(graph, a), in_log2_units(graph, b));
            graph.binary(op, a, b)
        }
        _ => {
            let log2e = graph.float(std::f64::consts::LOG2_E);
            let scaled = graph.product(x, log2e);
            simplify(graph, scaled)
        }
    }
}

/// The kernel and those before it, in the tiles of a choice by its number, and how many choices there are; `split`: whether the
/// terms of row and key may be taken out of the exponent.
fn forward(
    variant: &mut Variant<'_>,
    part: Part,
    split: bool,
    choice: usize,
) -> Result<(Vec<Kernel>, usize), PlanError> {
    let lowered = variant.lowered;
    let pass = &lowered.forward;
    let shifted = lowered.class == Class::ShiftedExponential;
    let streams = lowered.class != Class::Elementwise;
    let largest = pass.arg_max || pass.reductions.contains(&Reduction::Max);
    let scale = shifted.then(|| positive_scale(&variant.graph, pass.pair)).flatten();
    let takes_hopper = part.takes_hopper();
    // regrouped, a score that decides may have other bits
    let may_regroup = takes_hopper && variant.exact.is_empty();
    let has_wgmma = variant.target == Target::Sm90a && !variant.precise() && may_regroup;
    let terms = (split && shifted && scale.is_none() && !largest && has_wgmma)
        .then(|| Terms::of(&mut variant.graph, pass.pair))
        .flatten()
        .filter(|terms| terms.row.is_some() || terms.key.is_some());
    let scale = scale.or(terms.map(|terms| terms.scale));
    let (row_bias, key_bias) = (terms.and_then(|terms| terms.row), terms.and_then(|terms| terms.key));
    // a weight that is a sigmoid has a form without reciprocal where it is small: t of 1 / (1 + 2^-t)
    let sigmoid = match (*variant.graph.op(pass.pair)).clone() {
        Op::Unary(Unary::Sigmoid, inner) if !streams && !variant.precise() => {
            Some(in_log2_units(&mut variant.graph, inner))
        }
        _ => None,
    };
    let pair = sigmoid.unwrap_or(pass.pair);
    let pair = if may_regroup { keep_relatives(variant, pair, scale) } else { pair };
    let sigmoid = sigmoid.map(|_| pair);
    let floor = pass.shift_floors.iter().copied().reduce(|a, b| variant.graph.binary(Binary::Max, a, b));
    let residual = lowered.mask.filter(|_| variant.bounds.residual);
    let tile_mask = residual.and_then(|mask| TileMask::of(&mut variant.graph, mask));
    let whole = variant;
    let variant = &*whole;
    let row_inputs = row_inputs(pass.reductions.as_slice(), shifted);
    let given: Vec<Input> = row_inputs.iter().map(|(input, _)| *input).collect();

    // where a mask is nothing but bounds, the Hopper schedule finds the first and the last key of each row instead of asking of
    // every pair whether it is live
    let demands = |pairs_masked: bool| {
        let mut values = variant.values();
        demand_pair(&mut values, pair, scale);
        row_bias.into_iter().for_each(|root| values.demand_own(root, Place::Query));
        key_bias.into_iter().for_each(|root| values.demand_own(root, Place::Key));
        if pairs_masked {
            variant.demand_mask(&mut values);
        } else {
            variant.demand_bounds(&mut values);
        }
        pass.normalizer.into_iter().for_each(|root| values.demand(root, &given));
        floor.into_iter().for_each(|root| values.demand(root, &[]));
        let reads_live_keys = variant.counts_live_keys() && values.reads(Input::LiveKeys);
        if reads_live_keys || !rows::row_arrays(variant, &values).is_empty() {
            variant.name_row_indices(&mut values);
        }
        values
    };
    let mut values = demands(variant.bounds.residual);
    let needs =
        HopperNeeds { key_bias: key_bias.is_some(), live_tiles: tile_mask.is_some(), ..needs(&values, pair, scale) };
    let mut choices = 1;
    let hopper =
        if takes_hopper { hopper_choices(variant.shape, variant.target, needs) } else { Err(rows::ROWS_ALONE) };
    let schedule = match hopper {
        Ok(planned) => {
            choices = planned.len();
            tile_mask.iter().for_each(|mask| mask.demand(&mut values));
            Schedule::Hopper(planned[choice])
        }
        Err(_) if terms.is_some() => return forward(whole, part, false, choice),
        Err(why) => {
            values = demands(true);
            tile_mask.iter().for_each(|mask| mask.demand(&mut values));
            let key_fields = values.staged_fields(Place::Key);
            Schedule::Portable(tiles(part.pass(), variant.shape, variant.target, false, key_fields)?, why)
        }
    };

    let mut members: Vec<Argument> = match &schedule {
        Schedule::Portable(..) => {
            let mut tensors = vec![TensorRole::Q, TensorRole::K];
            if !matches!(part, Part::Rows(_)) {
                tensors.extend([TensorRole::V, part.output()]);
            }
            tensors.into_iter().map(Argument::Tensor).collect()
        }
        Schedule::Hopper(planned) => {
            let mut members = sequence_maps::arguments(variant, &hopper::tensors(planned, part.output()));
            members.push(Argument::WorksTaken);
            members.extend(variant.head_members(Length::HeadGroup));
            members
        }
    };
    let saved: Vec<(SavedRow, SavedRow)> = pass.saved.iter().filter_map(|&row| Some((row, part.array(row)?))).collect();
    members.extend(saved.iter().map(|&(_, array)| Argument::Rows(RowArray::Saved(array))));
    members.extend(rows::row_arrays(variant, &values));
    if variant.counts_live_keys() {
        members.push(Argument::Rows(RowArray::LiveKeys));
    }
    let mut functions = String::new();
    let ranges = TileMask::add(tile_mask.as_ref(), &values, &mut members, &mut functions);
    let relative_fields = values.count(Place::Relative);
    let positions = terms.and_then(|terms| terms.positions);
    let biases = [
        (row_bias, Place::Query, "row_bias", positions.map(|[of_row, _]| of_row)),
        (key_bias, Place::Key, "key_bias", positions.map(|[_, of_key]| of_key)),
    ];
    for (root, place, name, relative) in biases {
        functions.extend(root.map(|root| values.own_function(root, place, name, relative)));
    }
    // where a block's first query stands among the keys
    let first = positions.map(|[of_row, _]| variant.graph.op(of_row).operands());
    let origin = first.map(|first| values.tile_body(&first, &[(Input::Query, "q_begin")]));
    match (scale, sigmoid) {
        (Some(_), _) => {}
        (None, Some(exponent)) => {
            functions.push_str(&variant.pair_function(&values, "float", "sigmoid_exponent", &[exponent], false));
            // the Hopper schedule weighs what the exponents make of a tile all at once
            if let Schedule::Portable(..) = schedule {
                let passed = variant.pair_arguments(&[exponent]);
                let arguments = if passed.is_empty() { "" } else { "const Arguments& arguments, " };
                functions.push_str(&function(
                    &format!(
                        "float weight({arguments}float product, const Tile& tile, const Query& query, const Key& key)"
                    ),
                    &[],
                    &format!(
                        "reciprocal_approx(1.f + exp2_approx(-sigmoid_exponent({passed}product, tile, query, key)))"
                    ),
                ));
            }
        }
        (None, None) => {
            let name = if shifted { "exponent" } else { "weight" };
            functions.push_str(&variant.pair_function(&values, "float", name, &[pair], false));
        }
    }
    if let Some(floor) = floor {
        let (statements, texts) = values.body(&[floor], &[]);
        functions.push_str(&function(
            "float shift_floor(const Tile& tile, const Query& query)",
            &statements,
            &texts[0],
        ));
    }
    if let Some(root) = pass.normalizer {
        let (statements, texts) = values.body(&[root], &row_inputs);
        let parameters: Vec<String> = row_inputs.iter().map(|(_, name)| format!(", float {name}")).collect();
        let signature = format!("float normalizer(const Tile& tile, const Query& query{})", parameters.concat());
        functions.push_str(&function(&signature, &statements, &texts[0]));
    }

    let stage = if schedule.stages() > 1 { "stage" } else { "0" };
    let columns = Columns::of(&values, Place::Key, stage, "");
    functions.push_str(&columns.functions);
    if let (1.., Schedule::Hopper(planned)) = (relative_fields, &schedule) {
        functions.push_str(&relative::functions(&values, planned.relative_copies));
        functions.push_str(relative::NEXT_TABLE);
    }

    let mut roots = vec![pass.pair];
    roots.extend(pass.normalizer.iter().chain(&floor));
    members.extend(variant.common_arguments(&roots));
    let pairs_masked = matches!(schedule, Schedule::Portable(..)) || variant.bounds.residual;
    let own = variant.own_part(&values, &mut members, &functions, pairs_masked);

    // which of a thread's rows: a warp of the portable schedule has several tiles of 16
    let row = if let Schedule::Portable(..) = schedule { "[m][r]" } else { "[r]" };
    let row_max_start = match (floor, scale) {
        // the row's end has them all: its term, the keys' and the floor
        _ if terms.is_some() => "-INFINITY".to_owned(),
        (None, _) => "-INFINITY".to_owned(),
        (Some(_), None) => format!("shift_floor(tile, query{row})"),
        (Some(_), Some(_)) => format!("shift_floor(tile, query{row}) / tile.exponent_scale"),
    };
    let arguments: Vec<String> = row_inputs.iter().map(|(_, name)| format!(", {name}")).collect();
    let saved: Vec<String> =
        saved.iter().map(|&(saved, array)| save(saved, array, shifted, variant.precise(), row)).collect();
    let (q_order, q_order_comment) = variant.query_order();
    let has = |reduction| pass.reductions.contains(&reduction);
    let machine = context! {
        entry => if let Part::Rows(_) = part { "attn_rows" } else { "attn_forward" },
        values => !matches!(part, Part::Rows(_)),
        blocks_per_sm => schedule.blocks_per_multiprocessor(),
        stages => schedule.stages(),
        stage => stage,
        stage_keys => columns.staged,
        inline_keys => columns.inline,
        key_columns => columns.snippet,
        relatives => relative_fields > 0,
        relative_argument => if relative_fields > 0 { ", relative[e / 2][e % 2]" } else { "" },
        relative_copies => schedule.relative_copies(),
        q_order => q_order,
        q_order_comment => q_order_comment,
        shifted => shifted,
        scaled => scale.is_some(),
        key_bias => key_bias.is_some(),
        row_bias => row_bias.is_some(),
        origin => origin.is_some(),
        origin_statements => origin.map(|(statements, texts)| {
            format!("{}const int origin = {};   // of positions: the first query's", statements.concat(), texts[0])
        }),
        keys => columns.staged || key_bias.is_some() || relative_fields > 0,
        late_floor => terms.is_some() && floor.is_some(),
        rescaled_end => terms.is_some_and(|terms| floor.is_some() || terms.may_drop_rows(&variant.graph)),
        sigmoid => sigmoid.is_some(),
        rises_with_product => sigmoid.is_some_and(|exponent| rises_with_product(&variant.graph, exponent)),
        // y - y^2 is right to y^2: half of what rounding a weight loses
        small_y => if variant.shape.element() == ElementType::Bf16 { "1/32" } else { "1/64" },
        small_squares => hopper::small_squares(variant.shape.element()),
        dtype => variant.shape.element().name(),
        sum => has(Reduction::Sum),
        sum_squares => has(Reduction::SumSquares),
        largest => largest,
        row_max_start => row_max_start,
        masked => lowered.mask.is_some(),
        residual => variant.bounds.residual,
        tile_mask => tile_mask.is_some(),
        begins => variant.bounds.moves_first_key(),
        longest_first => !variant.bounds.expressions().is_empty(),
        q_map => sequence_maps::map_of(variant, TensorRole::Q),
        k_map => sequence_maps::map_of(variant, TensorRole::K),
        v_map => sequence_maps::map_of(variant, TensorRole::V),
        o_map => sequence_maps::map_of(variant, part.output()),
        map_batch => if variant.shape.is_packed() { "0" } else { "batch" },
        work_bytes => work_bytes(variant.shape, tile_mask.is_some()),
        // where a step is long, one that branches is as fast as two
        tile_branch => tile_mask.is_some() && streams,
        own_output_tile => matches!(schedule, Schedule::Hopper(HopperTiles { own_output_tile: true, .. })),
        dead => if shifted || largest { "-INFINITY" } else { "0.f" },
        mask_arguments => variant.mask_arguments(),
        pair_arguments => variant.pair_arguments(&[pair]),
        q_in_registers => matches!(schedule, Schedule::Portable(Tiles { q_in_registers: true, .. }, _)),
        has_normalizer => pass.normalizer.is_some(),
        normalizer_arguments => arguments.concat(),
        saved => saved,
    };
    let (entry, name, kind) = match part {
        Part::Main => ("attn_forward", "forward".to_owned(), KernelKind::Forward),
        Part::Second => ("attn_forward", "second_output".to_owned(), KernelKind::SecondOutput),
        Part::Rows(number) => ("attn_rows", format!("rows_{number}"), KernelKind::RowPass(number)),
    };
    match schedule {
        Schedule::Portable(planned, why) => {
            let mut constants = variant.constants(part.pass(), &planned, columns.fields, 0);
            constants.push_str(&extremes::constant(&ranges));
            let mut summary = describe(part.pass(), &planned, planned.shared_memory);
            if part == Part::Second {
                summary = format!("the second output, {summary}");
            }
            if variant.target == Target::Sm90a {
                summary.push_str(&format!(", since {why}"));
            }
            let machinery = Machinery::Portable(&planned);
            let source = variant.source("forward", &summary, &constants, &own, machine, machinery);
            let mut kernels: Vec<Kernel> = ranges.into_iter().map(|range| extremes(variant, range)).collect();
            kernels.push(kernel(variant, entry, &name, kind, source, own, members, (part.pass(), planned)));
            Ok((kernels, choices))
        }
        Schedule::Hopper(planned) => {
            let tensors = hopper::tensors(&planned, part.output());
            let mut constants = hopper::constants(variant.shape, &planned, columns.fields, relative_fields);
            constants.push_str(&extremes::constant(&ranges));
            let mut kernels: Vec<Kernel> = ranges.into_iter().map(|range| extremes(variant, range)).collect();
            if variant.shape.is_packed() {
                constants.push_str(&sequence_maps::constants(&tensors));
                kernels.push(sequence_maps::kernel(variant, &tensors, &name));
            }
            let machinery = Machinery::Hopper(&planned);
            let summary = match part {
                Part::Second => format!("the second output, {}", hopper::describe(&planned)),
                Part::Main | Part::Rows(_) => hopper::describe(&planned),
            };
            let source = variant.source("forward_hopper", &summary, &constants, &own, machine, machinery);
            let name = match choice {
                0 => name,
                _ => format!("{name}_{}x{}", planned.block_q, planned.block_kv),
            };
            kernels.push(Kernel {
                entry,
                kind,
                file_name: file_name(variant, &name),
                source,
                variant_part: own,
                arguments: members,
                threads: 128 * (1 + planned.consumers as u32),
                shared_memory: planned.shared_memory as u32,
                block_q: planned.block_q as u32,
                block_kv: planned.block_kv as u32,
                table_chunk: 0,
                persistent: true,
                tiles: None,
            });
            Ok((kernels, choices))
        }
    }
}

/// Finds what of a pair's expression is kept by distance, where the schedule can. Returns the expression, regrouped.
fn keep_relatives(variant: &mut Variant<'_>, pair: NodeId, scale: Option<NodeId>) -> NodeId {
    if variant.target != Target::Sm90a || variant.precise() || scale.is_some() {
        return pair;
    }
    let (regrouped, relatives) = relative::find(&mut variant.graph, &[pair]);
    let regrouped = regrouped[0];
    variant.relatives = relatives;
    let needs = {
        let mut values = variant.values();
        demand_pair(&mut values, regrouped, scale);
        if variant.bounds.residual {
            variant.demand_mask(&mut values);
        }
        // whether tiles are told apart is not known yet: room for it
        HopperNeeds { live_tiles: variant.bounds.residual, ..needs(&values, regrouped, scale) }
    };
    if hopper_forward(variant.shape, variant.target, needs).is_err() {
        variant.relatives = Relatives::new();
        return pair;
    }
    regrouped
}

pub(super) fn demand_pair(values: &mut Values<'_>, pair: NodeId, scale: Option<NodeId>) {
    match scale {
        Some(scale) => values.named_field(scale, Place::Tile, "exponent_scale"),
        None => values.demand_of_pair(pair, None),
    }
}

fn needs(values: &Values<'_>, pair: NodeId, scale: Option<NodeId>) -> HopperNeeds {
    HopperNeeds {
        pair_cost: if scale.is_some() { 0 } else { values.pair_cost(pair) },
        key_bias: false,
        key_fields: values.staged_fields(Place::Key),
        relative_fields: values.count(Place::Relative),
        live_tiles: false,
    }
}

/// How the forward kernel is computed.
enum Schedule {
    /// And why not the other.
    Portable(Tiles, &'static str),
    Hopper(HopperTiles),
}

impl Schedule {
    fn stages(&self) -> usize {
        match self {
            Schedule::Portable(tiles, _) => tiles.stages,
            Schedule::Hopper(tiles) => tiles.stages,
        }
    }

    fn blocks_per_multiprocessor(&self) -> usize {
        match self {
            Schedule::Portable(tiles, _) => tiles.blocks_per_multiprocessor,
            Schedule::Hopper(_) => 1,
        }
    }

    fn relative_copies(&self) -> usize {
        match self {
            Schedule::Portable(..) => 0,
            Schedule::Hopper(tiles) => tiles.relative_copies,
        }
    }
}

/// What the normalizer is given, by the machinery's names.
pub(super) fn row_inputs(reductions: &[Reduction], shifted: bool) -> Vec<(Input, &'static str)> {
    let mut inputs: Vec<(Input, &'static str)> = reductions
        .iter()
        .map(|reduction| {
            let name = match reduction {
                Reduction::Sum => "sum",
                Reduction::Max => "max_weight",
                Reduction::SumSquares => "sum_squares",
            };
            (Input::Reduction(*reduction), name)
        })
        .collect();
    if shifted {
        inputs.push((Input::Shift, "shift"));
    }
    inputs
}

/// The statement that saves a row's value to an array.
pub(super) fn save(saved: SavedRow, array: SavedRow, shifted: bool, precise: bool, place: &str) -> String {
    let arg_max = format!("__int_as_float(largest_at{place})");
    let value = match saved {
        SavedRow::Statistic if shifted && precise => "LN2 * (shift + log2f(z))",
        SavedRow::Statistic if shifted => "LN2 * (shift + log2_approx(z))",
        SavedRow::Statistic => "z",
        SavedRow::Shift => "shift",
        SavedRow::Reduction(Reduction::Sum) => "sum",
        SavedRow::Reduction(Reduction::Max) => "max_weight",
        SavedRow::Reduction(Reduction::SumSquares) => "sum_squares",
        SavedRow::ArgMax => &arg_max,
        SavedRow::Row(_) => unreachable!("a row pass has written it"),
    };
    let array = match array {
        SavedRow::Statistic => "statistic".to_owned(),
        SavedRow::Shift => "shift".to_owned(),
        SavedRow::Reduction(Reduction::Sum) => "sum".to_owned(),
        SavedRow::Reduction(Reduction::Max) => "max_weight".to_owned(),
        SavedRow::Reduction(Reduction::SumSquares) => "sum_squares".to_owned(),
        SavedRow::ArgMax => "arg_max".to_owned(),
        SavedRow::Row(row) => row.to_string(),
    };
    format!("arguments.{array}[row] = {value};")
}
