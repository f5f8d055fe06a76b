//! Kernels of row passes: what must be known of whole rows before the main pass.
//!
//! A pass that needs nothing but what a forward pass accumulates is the forward kernel without values. A threshold of scores has a
//! kernel of its own (`templates/rows.cu`), which computes the scores several times: exact, and with memory for a tile alone.
//!
//! Invariant: a score is written with the same operations, rounded alike, in every kernel that decides by it whether a pair has a
//! weight (`Lowered::decisions`), so that all agree on every pair. Products of 16-bit types have the same bits whichever
//! instruction computes them, `mma.sync` or `wgmma`, and with keys in the place of queries: on an H100 none of 2^25 differed (bf16,
//! depth 128).

use std::collections::HashSet;

use minijinja::context;

use super::arguments::{Argument, RowArray, TensorRole};
use super::assemble::{Columns, Machinery, Variant, describe, kernel};
use super::extremes::{self, extremes};
use super::forward::forward_of;
use super::mask::TileMask;
use super::part::Part;
use super::values::{Place, Values, function};
use super::{Kernel, KernelKind, rows_hopper};
use crate::ir::{Graph, Input, NodeId, Row, RowValue};
use crate::lower::{Lowered, RowPass, SavedRow};
use crate::plan::{Pass, PlanError, Shape, Target, tiles};

/// Why a forward pass without values has not the Hopper schedule of those with them.
pub(super) const ROWS_ALONE: &str = "the Hopper schedule of a forward pass makes an output";

/// The kernels of all row passes, in the order of their launches.
pub(super) fn kernels(lowered: &Lowered, shape: Shape, target: Target) -> Result<Vec<Kernel>, PlanError> {
    let mut kernels: Vec<Kernel> = vec![];
    for (pass, number) in lowered.row_passes.iter().zip(0u8..) {
        let hopper = rows_hopper::kernels(&mut Variant::new(lowered, shape, target), number);
        kernels.extend(match (hopper, pass) {
            (Ok(hopper), _) => hopper,
            (Err(_), RowPass::Weights(program)) => {
                forward_of(&lowered.with_program(program), shape, target, Part::Rows(number))?
            }
            (Err(why), _) => threshold(lowered, shape, target, (pass, number), why)?,
        });
    }
    Ok(kernels)
}

/// The arrays of what row passes found that fields read.
pub(super) fn row_arrays(variant: &Variant<'_>, values: &Values<'_>) -> Vec<Argument> {
    let read = variant.lowered.rows().into_iter().filter(|row| values.reads(Input::Row(*row)));
    read.map(|row| Argument::Rows(RowArray::Saved(SavedRow::Row(row)))).collect()
}

/// The nodes that decide whether a pair has a weight, and all that they are computed of.
pub(super) fn exact_nodes(graph: &Graph, lowered: &Lowered) -> HashSet<NodeId> {
    graph.reachable(&lowered.decisions).into_iter().collect()
}

fn threshold(
    lowered: &Lowered,
    shape: Shape,
    target: Target,
    (row_pass, number): (&RowPass, u8),
    why: &str,
) -> Result<Vec<Kernel>, PlanError> {
    let pass = Pass::Rows;
    let mut variant = Variant::new(lowered, shape, target);
    let residual = lowered.mask.filter(|_| variant.bounds.residual);
    let tile_mask = residual.and_then(|mask| TileMask::of(&mut variant.graph, mask));
    let (score, row_root) = match *row_pass {
        RowPass::Entmax { score, alpha } => {
            let one = variant.graph.float(1.0);
            let factor = variant.graph.difference(alpha, one);
            (score, crate::simplify::simplify(&mut variant.graph, factor))
        }
        RowPass::TopK { score, k, .. } => (score, k),
        RowPass::Weights(_) => unreachable!("it is a forward pass"),
    };
    let variant = &variant;
    let mut values = variant.values();
    values.demand(score, &[]);
    values.demand(row_root, &[]);
    variant.demand_mask(&mut values);
    tile_mask.iter().for_each(|mask| mask.demand(&mut values));
    let read = row_arrays(variant, &values);
    if !read.is_empty() || (variant.counts_live_keys() && values.reads(Input::LiveKeys)) {
        variant.name_row_indices(&mut values);
    }

    let planned = tiles(pass, shape, target, false, values.staged_fields(Place::Key))?;
    let stage = if planned.stages > 1 { "stage" } else { "0" };
    let columns = Columns::of(&values, Place::Key, stage, "");
    let mut functions = variant.pair_function(&values, "float", "score", &[score], false);
    functions.push_str(&columns.functions);
    let (is_entmax, power) = match *row_pass {
        RowPass::Entmax { alpha, .. } => {
            let (statements, texts) = values.tile_body(&[row_root], &[]);
            functions.push_str(&function("float entmax_factor(const Tile& tile)", &statements, &texts[0]));
            let power = match variant.graph.as_float(alpha) {
                Some(2.0) => "1",
                Some(1.5) => "2",
                _ => "any",
            };
            (true, power)
        }
        _ => {
            let (statements, texts) = values.body(&[row_root], &[]);
            let signature = "int kept_keys(const Tile& tile, const Query& query)";
            functions.push_str(&function(signature, &statements, &texts[0]));
            (false, "any")
        }
    };

    let mut members: Vec<Argument> = [TensorRole::Q, TensorRole::K].map(Argument::Tensor).to_vec();
    members.extend(read);
    let row = |value: RowValue| Row { pass: number, value };
    let written = row_pass.values().into_iter().map(|value| Argument::Rows(RowArray::Saved(SavedRow::Row(row(value)))));
    members.extend(written);
    if variant.counts_live_keys() {
        members.push(Argument::Rows(RowArray::LiveKeys));
    }
    members.extend(variant.common_arguments(&[score, row_root]));
    let ranges = TileMask::add(tile_mask.as_ref(), &values, &mut members, &mut functions);
    let own = variant.own_part(&values, &mut members, &functions, true);
    let (q_order, q_order_comment) = variant.query_order();
    let machine = context! {
        blocks_per_sm => planned.blocks_per_multiprocessor,
        stages => planned.stages,
        stage => stage,
        stage_keys => columns.staged,
        inline_keys => columns.inline,
        key_columns => columns.snippet,
        q_order => q_order,
        q_order_comment => q_order_comment,
        masked => lowered.mask.is_some(),
        tile_mask => tile_mask.is_some(),
        mask_arguments => variant.mask_arguments(),
        pair_arguments => variant.pair_arguments(&[score]),
        dtype => shape.element().name(),
        entmax => is_entmax,
        power => power,
        ties => matches!(row_pass, RowPass::TopK { ties: true, .. }),
        greatest => row(RowValue::Greatest).to_string(),
        threshold => row(RowValue::Threshold).to_string(),
        kth_score => row(RowValue::KthScore).to_string(),
        last_kept => row(RowValue::LastKept).to_string(),
    };
    let constants = variant.constants(pass, &planned, columns.fields, 0) + &extremes::constant(&ranges);
    let mut summary = describe(pass, &planned, planned.shared_memory);
    if target == Target::Sm90a {
        summary.push_str(&format!(", since {why}"));
    }
    let machinery = Machinery::Portable(&planned);
    let source = variant.source("rows", &summary, &constants, &own, machine, machinery);
    let mut kernels: Vec<Kernel> = ranges.into_iter().map(|range| extremes(variant, range)).collect();
    let name = format!("rows_{number}");
    let kind = KernelKind::RowPass(number);
    kernels.push(kernel(variant, "attn_rows", &name, kind, source, own, members, (pass, planned)));
    Ok(kernels)
}
