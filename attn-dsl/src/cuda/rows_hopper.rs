//! Thresholds of rows in the Hopper schedule: one kernel that finds what it can in one pass over the keys, and one that visits the keys of
//! the rows that are left again and again.
//!
//! The first keeps of each row the scores that may still count, see `templates/rows_hopper.cu`. It marks the rows that have too many,
//! or a NaN, or more keys of the k-th greatest score than are kept; the second looks for its marks and does those alone.
//!
//! Invariants: both evaluate the score as every other kernel of the variant does, from products of the same instructions; the marks
//! of rows depend on the scores alone, so that equal inputs give equal bits.

use std::fmt::Write;

use minijinja::context;

use super::arguments::{Argument, Length, RowArray, TensorRole};
use super::assemble::{Columns, Machinery, Variant, file_name};
use super::extremes::{self, extremes};
use super::forward::positive_scale;
use super::mask::TileMask;
use super::sequence_maps;
use super::values::{Place, Values, function};
use super::{Kernel, KernelKind, rows_weights};
use crate::ir::{Input, NodeId, Op, Row};
use crate::lower::{RowPass, SavedRow};
use crate::plan::{Candidates, HopperRowTiles, Shape, hopper_rows, work_bytes};
use crate::simplify::simplify;

/// The bits of a NaN that no arithmetic makes: a row that is left to the second kernel.
const PENDING: &str = "0x7fd1ead1";
/// The barrier of `bar.sync` of all consumers.
const CONSUMERS_TOGETHER: usize = 1;

/// What a pass looks for.
#[derive(Clone, Copy)]
enum Wanted {
    /// The node is `alpha - 1`, and alpha where it is a constant.
    Entmax(NodeId, Option<f64>),
    /// How many, and whether equal ones are kept.
    TopK(NodeId, bool),
}

/// The kernels of a row pass, in the order of their launches, or why the schedule has none.
pub(super) fn kernels(variant: &mut Variant<'_>, number: u8) -> Result<Vec<Kernel>, &'static str> {
    let pass = variant.lowered.row_passes[usize::from(number)].clone();
    let (score, wanted) = match pass {
        RowPass::Entmax { score, alpha } => {
            let one = variant.graph.float(1.0);
            let factor = variant.graph.difference(alpha, one);
            let factor = simplify(&mut variant.graph, factor);
            (score, Wanted::Entmax(factor, variant.graph.as_float(alpha)))
        }
        RowPass::TopK { score, k, ties } => (score, Wanted::TopK(k, ties)),
        RowPass::Weights(program) => return rows_weights::kernels(variant, &program, number),
    };
    let rows: Vec<Row> = pass.values().into_iter().map(|value| Row { pass: number, value }).collect();
    let candidates = match wanted {
        Wanted::Entmax(..) => Candidates::Few,
        Wanted::TopK(k, _) => {
            // of the four lanes of a row
            Candidates::About(match *variant.graph.op(k) {
                Op::Int(k) => usize::try_from(k).unwrap_or(0).div_ceil(4),
                _ => 16,
            })
        }
    };
    let residual = variant.lowered.mask.filter(|_| variant.bounds.residual);
    let tile_mask = residual.and_then(|mask| TileMask::of(&mut variant.graph, mask));
    let (variant, tile_mask) = (&*variant, tile_mask.as_ref());
    let mut kernels = vec![];
    for exact in [false, true] {
        let candidates = if exact { Candidates::None } else { candidates };
        let tiles = hopper_rows(variant.shape, variant.target, candidates, tile_mask.is_some())?;
        let part = Part { variant, tile_mask, tiles, score, wanted, rows: &rows, number, exact };
        for kernel in part.kernels() {
            let known = |other: &Kernel| matches!(kernel.kind, KernelKind::Extremes(..)) && other.kind == kernel.kind;
            if !kernels.iter().any(known) {
                kernels.push(kernel);
            }
        }
    }
    Ok(kernels)
}

/// One of the two kernels.
struct Part<'a> {
    variant: &'a Variant<'a>,
    tile_mask: Option<&'a TileMask>,
    tiles: HopperRowTiles,
    score: NodeId,
    wanted: Wanted,
    rows: &'a [Row],
    number: u8,
    exact: bool,
}

impl Part<'_> {
    /// The kernel, and those before it.
    fn kernels(&self) -> Vec<Kernel> {
        let Part { variant, tile_mask, tiles, exact, .. } = *self;
        // a bound of the raw products serves where the score rises with them; the second kernel is about scores themselves
        let scale = positive_scale(&variant.graph, self.score).filter(|_| !exact);
        let values = self.values(scale);
        let tensors = [(TensorRole::Q, tiles.block_q as u32), (TensorRole::K, tiles.block_kv as u32)];
        let mut members = sequence_maps::arguments(variant, &tensors);
        members.push(Argument::WorksTaken);
        members.extend(variant.head_members(Length::HeadGroup));
        members.extend(self.rows.iter().map(|&row| Argument::Rows(RowArray::Saved(SavedRow::Row(row)))));
        let earlier = variant.lowered.rows().into_iter().filter(|row| row.pass < self.number);
        let read = earlier.filter(|row| values.reads(Input::Row(*row)));
        members.extend(read.map(|row| Argument::Rows(RowArray::Saved(SavedRow::Row(row)))));
        if variant.counts_live_keys() {
            members.push(Argument::Rows(RowArray::LiveKeys));
        }
        let mut functions = String::new();
        let ranges = TileMask::add(tile_mask, &values, &mut members, &mut functions);
        functions.push_str(&variant.pair_function(&values, "float", "score", &[self.score], false));
        let parameter = match self.wanted {
            Wanted::Entmax(factor, _) => factor,
            Wanted::TopK(k, _) => k,
        };
        if let Wanted::TopK(k, _) = self.wanted {
            let (statements, texts) = values.body(&[k], &[]);
            let signature = "int kept_keys(const Tile& tile, const Query& query)";
            functions.push_str(&function(signature, &statements, &texts[0]));
        }
        members.extend(variant.common_arguments(&[self.score, parameter]));
        let own = variant.own_part(&values, &mut members, &functions, variant.bounds.residual);

        let mut constants = self.constants();
        constants.push_str(&extremes::constant(&ranges));
        let mut kernels: Vec<Kernel> = ranges.into_iter().map(|range| extremes(variant, range)).collect();
        if variant.shape.is_packed() {
            constants.push_str(&sequence_maps::constants(&tensors));
            let of = format!("{}_{}", if exact { "rows_exact" } else { "rows" }, self.number);
            kernels.push(sequence_maps::kernel(variant, &tensors, &of));
        }
        let template = if exact { "rows_exact" } else { "rows_hopper" };
        let machine = self.machine(&values, scale.is_some());
        let source =
            variant.source(template, &self.summary(), &constants, &own, machine, Machinery::HopperRows(tiles.block_kv));
        let name = if exact { "rows_exact" } else { "rows" };
        kernels.push(Kernel {
            entry: if exact { "attn_rows_exact" } else { "attn_rows" },
            kind: KernelKind::RowPass(self.number),
            file_name: file_name(variant, &format!("{name}_{}", self.number)),
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
        kernels
    }

    /// What the score, the mask and the wanted number read.
    fn values(&self, scale: Option<NodeId>) -> Values<'_> {
        let variant = self.variant;
        let mut values = variant.values();
        if let Some(scale) = scale {
            values.named_field(scale, Place::Tile, "score_scale");
        }
        values.demand_of_pair(self.score, None);
        match self.wanted {
            Wanted::Entmax(factor, _) => values.demand(factor, &[]),
            Wanted::TopK(k, _) => values.demand(k, &[]),
        }
        if variant.bounds.residual {
            variant.demand_mask(&mut values);
        } else {
            variant.demand_bounds(&mut values);
        }
        self.tile_mask.into_iter().for_each(|mask| mask.demand(&mut values));
        let rows = variant.lowered.rows();
        let reads_rows = rows.iter().any(|row| values.reads(Input::Row(*row)));
        if reads_rows || (variant.counts_live_keys() && values.reads(Input::LiveKeys)) {
            variant.name_row_indices(&mut values);
        }
        values
    }

    fn constants(&self) -> String {
        let mut text = shape_constants(self.variant.shape, &self.tiles);
        let mut line =
            |declaration: String| writeln!(text, "constexpr int {declaration};").expect("writing to a string");
        let slots = self.tiles.slots;
        if self.exact {
            line(format!("CONSUMERS_TOGETHER = {CONSUMERS_TOGETHER}   /* a barrier */"));
        } else {
            line(format!("CAPACITY = {slots}   /* candidates of a row that a lane has slots for */"));
        }
        line(format!("PENDING = {PENDING}   /* bits of a NaN: a row that the next kernel finds */"));
        if let Wanted::TopK(_, false) = self.wanted {
            line("FIRST_EQUALS = -1   /* less so many: how many of the k-th score a row keeps, and the next kernel finds the last */".to_owned());
        }
        text
    }

    fn summary(&self) -> String {
        let what = match (self.wanted, self.exact) {
            (Wanted::Entmax(..), false) => "the greatest score and the threshold of each row",
            (Wanted::TopK(..), false) => "the k-th greatest score of each row",
            (_, true) => "the same for rows that are left",
        };
        describe(what, &self.tiles)
    }

    fn machine(&self, values: &Values<'_>, scaled: bool) -> minijinja::Value {
        let Part { variant, tile_mask, exact, .. } = *self;
        let packed = variant.shape.is_packed();
        // what a key reads is read in place: most of a row's scores are looked at once
        let columns = Columns::in_place(values);
        let (q_order, q_order_comment) = variant.query_order();
        let row = |at: usize| self.rows.get(at).map(ToString::to_string).unwrap_or_default();
        let (solver, power, factor, formula) = match self.wanted {
            Wanted::Entmax(factor, alpha) => {
                let (power, formula) = match alpha {
                    Some(2.0) => ("linear", "rest"),
                    Some(1.5) => ("square", "rest^2"),
                    _ => ("general", "rest^(1 / (alpha - 1))"),
                };
                let (statements, texts) = values.tile_body(&[factor], &[]);
                debug_assert!(statements.is_empty(), "what varies by tile is a field");
                (if exact { "rows_entmax_passes" } else { "rows_entmax_candidates" }, power, texts[0].clone(), formula)
            }
            Wanted::TopK(..) => {
                (if exact { "rows_top_k_passes" } else { "rows_top_k_candidates" }, "", String::new(), "")
            }
        };
        let entmax = matches!(self.wanted, Wanted::Entmax(..));
        context! {
            exact,
            entmax,
            ties => matches!(self.wanted, Wanted::TopK(_, true)),
            solver,
            power,
            factor,
            weight_formula => formula,
            greatest => row(0),
            threshold => row(1),
            kth_score => row(0),
            last_kept => row(1),
            // the array that says which rows are left
            marked => row(self.rows.len() - 1),
            row_index => row_index(variant),
            visited => true,
            scaled,
            evaluated => !scaled,
            inline_keys => columns.inline,
            key_columns => columns.snippet,
            pair_arguments => variant.pair_arguments(&[self.score]),
            mask_arguments => variant.mask_arguments(),
            masked => variant.lowered.mask.is_some(),
            residual => variant.bounds.residual,
            tile_mask => tile_mask.is_some(),
            begins => variant.bounds.moves_first_key(),
            longest_first => !variant.bounds.expressions().is_empty(),
            q_order,
            q_order_comment,
            q_map => sequence_maps::map_of(variant, TensorRole::Q),
            k_map => sequence_maps::map_of(variant, TensorRole::K),
            map_batch => if packed { "0" } else { "batch" },
            work_bytes => work_bytes(variant.shape, tile_mask.is_some()),
        }
    }
}

/// The constants of a kernel of these tiles.
pub(super) fn shape_constants(shape: Shape, tiles: &HopperRowTiles) -> String {
    let HopperRowTiles { block_q, block_kv, consumers, stages, registers: [producer, consumer], .. } = *tiles;
    let mut text = String::from("// ---------------------------------------------------------------- shape\n");
    let mut line = |declaration: String| writeln!(text, "constexpr int {declaration};").expect("writing to a string");
    line(format!("HEAD_DIM = {}", shape.head_dim()));
    line(format!("BLOCK_Q = {block_q}, BLOCK_KV = {block_kv}, STAGES = {stages}"));
    line(format!("CONSUMERS = {consumers}, THREADS = 128 * (1 + CONSUMERS)"));
    line(format!("PRODUCER_REGISTERS = {producer}, CONSUMER_REGISTERS = {consumer}"));
    line("Q_CHUNK_BYTES = BLOCK_Q * CHUNK_ROW_BYTES, KV_CHUNK_BYTES = BLOCK_KV * CHUNK_ROW_BYTES".to_owned());
    line("Q_BYTES = chunks(HEAD_DIM) * Q_CHUNK_BYTES, K_TILE_BYTES = chunks(HEAD_DIM) * KV_CHUNK_BYTES".to_owned());
    text
}

/// What a kernel of these tiles finds and how, in one line of its head.
pub(super) fn describe(what: &str, tiles: &HopperRowTiles) -> String {
    let HopperRowTiles { block_q, block_kv, consumers, stages, slots, shared_memory, .. } = *tiles;
    let slots = if slots == 0 { String::new() } else { format!("{slots} candidates of a row a lane, ") };
    format!(
        "{what}, Hopper schedule, tile {block_q} queries x {block_kv} keys, one producer and {consumers} consumer warpgroups, a ring of {stages} for k, {slots}{} KiB of shared memory",
        shared_memory.div_ceil(1024),
    )
}

/// The C++ expression of the place of a row `q` of a block's work in an array of rows.
pub(super) fn row_index(variant: &Variant<'_>) -> &'static str {
    if variant.shape.is_packed() {
        "(i64)head * arguments.total_q + work.q_start + q"
    } else {
        "((i64)batch * arguments.heads + head) * q_len + q"
    }
}
