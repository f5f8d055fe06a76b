//! What a row's weights add up to, in the Hopper schedule: a forward pass that makes nothing of values, in tiles of row passes.
//!
//! Invariant: a weight is what the forward kernel of the same program has (`templates/forward_hopper_weigh.cu`).

use minijinja::context;

use super::arguments::{Argument, Length, RowArray, TensorRole};
use super::assemble::{Columns, Machinery, Variant, file_name};
use super::extremes::{self, extremes};
use super::forward::{demand_pair, positive_scale, row_inputs, save};
use super::mask::TileMask;
use super::part::Part;
use super::rows::row_arrays;
use super::rows_hopper::{describe, row_index, shape_constants};
use super::sequence_maps;
use super::values::function;
use super::{Kernel, KernelKind};
use crate::ir::{Binary, Input, Reduction};
use crate::lower::{Class, Program, SavedRow};
use crate::plan::{Candidates, hopper_rows, work_bytes};

/// The kernel of a row pass, and those before it, or why the schedule has none.
pub(super) fn kernels(variant: &mut Variant<'_>, program: &Program, number: u8) -> Result<Vec<Kernel>, &'static str> {
    let pass = &program.forward;
    let shifted = program.class == Class::ShiftedExponential;
    let largest = pass.arg_max || pass.reductions.contains(&Reduction::Max);
    let scale = shifted.then(|| positive_scale(&variant.graph, pass.pair)).flatten();
    let floor = pass.shift_floors.iter().copied().reduce(|a, b| variant.graph.binary(Binary::Max, a, b));
    let residual = variant.lowered.mask.filter(|_| variant.bounds.residual);
    let tile_mask = residual.and_then(|mask| TileMask::of(&mut variant.graph, mask));
    let (variant, tile_mask) = (&*variant, tile_mask.as_ref());
    let Some(normalizer) = pass.normalizer else { return Err("a row has nothing to add up") };
    let tiles = hopper_rows(variant.shape, variant.target, Candidates::Sums, tile_mask.is_some())?;

    let inputs = row_inputs(pass.reductions.as_slice(), shifted);
    let given: Vec<Input> = inputs.iter().map(|(input, _)| *input).collect();
    let mut values = variant.values();
    demand_pair(&mut values, pass.pair, scale);
    if variant.bounds.residual {
        variant.demand_mask(&mut values);
    } else {
        variant.demand_bounds(&mut values);
    }
    values.demand(normalizer, &given);
    floor.into_iter().for_each(|root| values.demand(root, &[]));
    tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));
    let read = row_arrays(variant, &values);
    if !read.is_empty() || (variant.counts_live_keys() && values.reads(Input::LiveKeys)) {
        variant.name_row_indices(&mut values);
    }

    let tensors = [(TensorRole::Q, tiles.block_q as u32), (TensorRole::K, tiles.block_kv as u32)];
    let mut members = sequence_maps::arguments(variant, &tensors);
    members.push(Argument::WorksTaken);
    members.extend(variant.head_members(Length::HeadGroup));
    let array = |&saved: &SavedRow| Some((saved, Part::Rows(number).array(saved)?));
    let saved: Vec<(SavedRow, SavedRow)> = pass.saved.iter().filter_map(array).collect();
    members.extend(saved.iter().map(|&(_, array)| Argument::Rows(RowArray::Saved(array))));
    members.extend(read);
    if variant.counts_live_keys() {
        members.push(Argument::Rows(RowArray::LiveKeys));
    }
    let mut functions = String::new();
    let ranges = TileMask::add(tile_mask, &values, &mut members, &mut functions);
    if scale.is_none() {
        let name = if shifted { "exponent" } else { "weight" };
        functions.push_str(&variant.pair_function(&values, "float", name, &[pass.pair], false));
    }
    if let Some(floor) = floor {
        let (statements, texts) = values.body(&[floor], &[]);
        let signature = "float shift_floor(const Tile& tile, const Query& query)";
        functions.push_str(&function(signature, &statements, &texts[0]));
    }
    let (statements, texts) = values.body(&[normalizer], &inputs);
    let parameters: Vec<String> = inputs.iter().map(|(_, name)| format!(", float {name}")).collect();
    let signature = format!("float normalizer(const Tile& tile, const Query& query{})", parameters.concat());
    functions.push_str(&function(&signature, &statements, &texts[0]));
    let mut roots = vec![pass.pair, normalizer];
    roots.extend(floor);
    members.extend(variant.common_arguments(&roots));
    let own = variant.own_part(&values, &mut members, &functions, variant.bounds.residual);

    let columns = Columns::in_place(&values);
    let packed = variant.shape.is_packed();
    let has = |reduction| pass.reductions.contains(&reduction);
    let arguments: Vec<String> = inputs.iter().map(|(_, name)| format!(", {name}")).collect();
    let statements =
        saved.iter().map(|&(saved, array)| save(saved, array, shifted, variant.precise(), "[r]")).collect::<Vec<_>>();
    let machine = context! {
        exact => false,
        visited => false,
        shifted,
        scaled => scale.is_some(),
        sigmoid => false,
        relatives => false,
        relative_argument => "",
        // tiles of one kind of code: it branches
        tile_branch => true,
        sum => has(Reduction::Sum),
        sum_squares => has(Reduction::SumSquares),
        largest,
        dead => if shifted || largest { "-INFINITY" } else { "0.f" },
        row_max_start => match (floor, scale) {
            (None, _) => "-INFINITY",
            (Some(_), None) => "shift_floor(tile, query[r])",
            (Some(_), Some(_)) => "shift_floor(tile, query[r]) / tile.exponent_scale",
        },
        normalizer_arguments => arguments.concat(),
        saved => statements,
        row_index => row_index(variant),
        inline_keys => columns.inline,
        key_columns => columns.snippet,
        pair_arguments => variant.pair_arguments(&[pass.pair]),
        mask_arguments => variant.mask_arguments(),
        masked => variant.lowered.mask.is_some(),
        residual => variant.bounds.residual,
        tile_mask => tile_mask.is_some(),
        begins => variant.bounds.moves_first_key(),
        longest_first => !variant.bounds.expressions().is_empty(),
        q_map => sequence_maps::map_of(variant, TensorRole::Q),
        k_map => sequence_maps::map_of(variant, TensorRole::K),
        map_batch => if packed { "0" } else { "batch" },
        work_bytes => work_bytes(variant.shape, tile_mask.is_some()),
    };
    let mut constants = shape_constants(variant.shape, &tiles);
    constants.push_str(&extremes::constant(&ranges));
    let mut kernels: Vec<Kernel> = ranges.into_iter().map(|range| extremes(variant, range)).collect();
    if packed {
        constants.push_str(&sequence_maps::constants(&tensors));
        kernels.push(sequence_maps::kernel(variant, &tensors, &format!("rows_{number}")));
    }
    let summary = describe("what the weights of each row add up to", &tiles);
    let machinery = Machinery::HopperRows(tiles.block_kv);
    let source = variant.source("rows_weights", &summary, &constants, &own, machine, machinery);
    kernels.push(Kernel {
        entry: "attn_rows",
        kind: KernelKind::RowPass(number),
        file_name: file_name(variant, &format!("rows_{number}")),
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
    });
    Ok(kernels)
}
