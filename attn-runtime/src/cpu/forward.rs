//! The forward pass: one task a query tile, keys streaming by.
//!
//! For a shifted exponential each row carries a shift `m`, the maximum so far of its exponents and floors; when it rises by a
//! tile, what was accumulated is rescaled by `2^(old - new)`. All other classes accumulate plain weights.

use std::f64::consts::LN_2;

use attn_dsl::ir::Reduction;
use attn_dsl::lower::{Class, Lowered, SavedRow};
use rayon::prelude::*;

use super::context::{Context, RowTile, ranges};
use super::evaluate::{Registers, RowInputs};
use super::found::FoundRows;
use super::mask::{Coverage, MaskTile};
use super::matrix::{Matrix, gemm};
use super::program::Program;
use super::{COLUMNS, CpuExecutor, ROWS, math, rows};
use crate::attention::Output;
use crate::call::Call;
use crate::error::Error;
use crate::tensor::Tensor;

/// The programs of a forward pass.
pub(super) struct Programs {
    /// The variant with this forward pass as its main one.
    pub(super) lowered: Lowered,
    /// Root 0: the weight, or the exponent.
    pair: Program,
    /// The floors of the shift.
    floors: Program,
    /// Root 0: the normalizer.
    pub(super) normalizer: Option<Program>,
}

impl Programs {
    pub(super) fn new(lowered: Lowered) -> Programs {
        let program = |roots: &[_]| Program::new(&lowered.graph, roots);
        Programs {
            pair: program(&[lowered.forward.pair]),
            floors: program(&lowered.forward.shift_floors),
            normalizer: lowered.forward.normalizer.map(|root| program(&[root])),
            lowered,
        }
    }
}

/// What a task returns.
pub(super) struct TileOutput {
    /// rows x dv
    output: Vec<f32>,
    statistic: Vec<f32>,
    /// One vector of rows for each saved row that is the pass's own.
    pub(super) saved: Vec<Vec<f32>>,
}

/// The memory of a task, reused by the next one on the same thread.
struct Scratch<'a> {
    programs: &'a Programs,
    found: &'a FoundRows,
    /// 0 where there is no output.
    value_dim: usize,
    mask: MaskTile<'a>,
    pair: Registers,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    product: Vec<f32>,
    weight: Vec<f32>,
}

/// The state of the rows of a tile.
struct Rows {
    live: Vec<bool>,
    shift: Vec<f32>,
    sum: Vec<f32>,
    sum_squares: Vec<f32>,
    /// The largest weight, or exponent.
    largest: Vec<f32>,
    arg_max: Vec<i32>,
    /// The numerator of the output, rows x dv.
    output: Vec<f32>,
}

pub(super) fn forward(executor: &CpuExecutor, call: &Call) -> Result<Output, Error> {
    let context = Context::new(executor, call)?;
    let problem = &call.problem;
    let found = rows::find(&context)?;
    let tiles = run_tiles(&context, &executor.main, &found, problem.value_dim);
    let row_shape = problem.row_shape();
    let rows = |of: &dyn Fn(&TileOutput) -> &Vec<f32>| {
        Tensor::from_f32(&row_shape, tiles.iter().flat_map(|tile| of(tile).iter().copied()).collect())
    };
    let saved = executor.lowered.forward.saved.iter().enumerate().map(|(at, saved)| match saved {
        // the pass's own rows come first
        SavedRow::Row(row) => Tensor::from_f32(&row_shape, found.bits(*row)),
        _ => rows(&|tile| &tile.saved[at]),
    });
    let saved = saved.collect::<Result<_, _>>()?;
    let statistic =
        if executor.lowered.class == Class::Elementwise { None } else { Some(rows(&|tile| &tile.statistic)?) };
    let output = |tiles: Vec<TileOutput>| {
        let values = tiles.into_iter().flat_map(|tile| tile.output).collect();
        Tensor::rounded(problem.dtype, &problem.output_shape(), values)
    };
    let second = executor.second.as_ref().filter(|_| call.gradients);
    let second = second.map(|programs| output(run_tiles(&context, programs, &found, problem.value_dim)));
    Ok(Output { output: output(tiles)?, statistic, saved, second: second.transpose()? })
}

/// Runs a forward pass; `value_dim` is 0 where its rows alone are wanted.
pub(super) fn run_tiles(
    context: &Context<'_>,
    programs: &Programs,
    found: &FoundRows,
    value_dim: usize,
) -> Vec<TileOutput> {
    let scratch = || Scratch::new(context, programs, found, value_dim);
    context.row_tiles().into_par_iter().map_init(scratch, |scratch, tile| scratch.tile(context, tile)).collect()
}

impl<'a> Scratch<'a> {
    fn new(context: &Context<'a>, programs: &'a Programs, found: &'a FoundRows, value_dim: usize) -> Self {
        let executor = context.executor;
        let problem = &context.problem;
        Scratch {
            programs,
            found,
            value_dim,
            mask: MaskTile::new(executor.mask.as_ref()),
            pair: Registers::new(&programs.pair, ROWS, COLUMNS),
            q: vec![0.0; ROWS * problem.head_dim],
            k: vec![0.0; COLUMNS * problem.head_dim],
            v: vec![0.0; COLUMNS * value_dim],
            product: vec![0.0; ROWS * COLUMNS],
            weight: vec![0.0; ROWS * COLUMNS],
        }
    }

    fn tile(&mut self, context: &Context<'a>, tile: RowTile) -> TileOutput {
        let programs = self.programs;
        let lowered = &programs.lowered;
        let problem = &context.problem;
        let (d, dv) = (problem.head_dim, self.value_dim);
        let kv_head = context.kv_head(tile.head);
        let live_keys = if lowered.needs_live_keys { context.count_live(tile, &mut self.mask) } else { Vec::new() };
        let found = self.found.from(context.row_base(tile));
        let row_inputs = RowInputs { live_keys: &live_keys, found, ..RowInputs::default() };
        let mut rows = Rows::new(tile.rows, dv);
        rows.raise_to_floors(context, programs, tile, row_inputs);
        context.q.load(tile.batch, tile.head, tile.start, tile.rows, &mut self.q);
        for keys in ranges(problem.kv_len, COLUMNS) {
            let columns = keys.1;
            let inputs = context.inputs(tile, keys, row_inputs);
            let coverage = self.mask.cover(&inputs);
            if coverage == Coverage::Empty {
                continue;
            }
            let mut counts = vec![0; tile.rows];
            self.mask.count(coverage, columns, &mut counts);
            rows.live.iter_mut().zip(&counts).for_each(|(live, &count)| *live |= count > 0);
            context.k.load(tile.batch, kv_head, keys.0, columns, &mut self.k);
            if dv > 0 {
                context.v.load(tile.batch, kv_head, keys.0, columns, &mut self.v);
            }
            let q = Matrix::new(&self.q, tile.rows, d);
            let k = Matrix::new(&self.k, columns, d);
            gemm(q, k.transposed(), 0.0, &mut self.product);
            let inputs = super::evaluate::Inputs { product: &self.product, ..inputs };
            self.pair.run_all(&programs.pair, &inputs);
            let weight = &mut self.weight[..tile.rows * columns];
            self.pair.float_tile(&programs.pair, 0, &inputs, weight);
            let shifted = lowered.class == Class::ShiftedExponential;
            if coverage == Coverage::Partial {
                self.mask.apply(weight, if shifted { f32::NEG_INFINITY } else { 0.0 });
            }
            if lowered.forward.arg_max || lowered.forward.reductions.contains(&Reduction::Max) {
                rows.track_largest(weight, columns, keys.0, |at| coverage == Coverage::Full || self.mask.is_live(at));
            }
            if shifted {
                rows.shift_weights(weight, columns, dv);
            }
            for (row, weights) in weight.chunks_exact(columns).enumerate() {
                rows.sum[row] += math::sum_of(weights, |w| w);
                rows.sum_squares[row] += math::sum_of(weights, |w| w * w);
            }
            gemm(Matrix::new(weight, tile.rows, columns), Matrix::new(&self.v, columns, dv), 1.0, &mut rows.output);
        }
        rows.finish(context, programs, tile, row_inputs)
    }
}

impl Rows {
    fn new(rows: usize, value_dim: usize) -> Self {
        Rows {
            live: vec![false; rows],
            shift: vec![f32::NEG_INFINITY; rows],
            sum: vec![0.0; rows],
            sum_squares: vec![0.0; rows],
            largest: vec![f32::NEG_INFINITY; rows],
            arg_max: vec![0; rows],
            output: vec![0.0; rows * value_dim],
        }
    }

    fn raise_to_floors(
        &mut self,
        context: &Context<'_>,
        programs: &Programs,
        tile: RowTile,
        row_inputs: RowInputs<'_>,
    ) {
        let inputs = context.inputs(tile, (0, 0), row_inputs);
        let mut registers = Registers::new(&programs.floors, tile.rows, 0);
        registers.run_all(&programs.floors, &inputs);
        let mut floor = vec![0.0; tile.rows];
        for root in 0..programs.lowered.forward.shift_floors.len() {
            registers.float_rows(&programs.floors, root, &inputs, &mut floor);
            self.shift.iter_mut().zip(&floor).for_each(|(shift, &floor)| *shift = shift.max(floor));
        }
    }

    /// Follows the largest weight (or exponent) among live pairs, the lowest key among equals.
    fn track_largest(&mut self, values: &[f32], columns: usize, first: usize, live: impl Fn(usize) -> bool) {
        for (at, &value) in values.iter().enumerate() {
            let row = at / columns;
            if value > self.largest[row] && live(at) {
                self.largest[row] = value;
                self.arg_max[row] = (first + at % columns) as i32;
            }
        }
    }

    /// Turns exponents into weights under the row's new shift, and rescales what was accumulated.
    fn shift_weights(&mut self, exponent: &mut [f32], columns: usize, value_dim: usize) {
        for (row, exponent) in exponent.chunks_exact_mut(columns).enumerate() {
            let old = self.shift[row];
            let shift = old.max(math::max_of(exponent));
            if shift == f32::NEG_INFINITY {
                // Every weight so far is 0; a NaN stays one.
                exponent.iter_mut().for_each(|t| *t = if t.is_nan() { f32::NAN } else { 0.0 });
                continue;
            }
            if shift > old {
                let factor = math::exp2(old - shift);
                self.shift[row] = shift;
                self.sum[row] *= factor;
                self.sum_squares[row] *= factor * factor;
                self.output[row * value_dim..][..value_dim].iter_mut().for_each(|o| *o *= factor);
            }
            exponent.iter_mut().for_each(|t| *t = math::exp2(*t - shift));
        }
    }

    fn finish(
        mut self,
        context: &Context<'_>,
        programs: &Programs,
        tile: RowTile,
        before: RowInputs<'_>,
    ) -> TileOutput {
        let lowered = &programs.lowered;
        let shifted = lowered.class == Class::ShiftedExponential;
        let max: Vec<f32> = (0..tile.rows)
            .map(|row| match (self.live[row], shifted) {
                (false, _) => 0.0,
                (true, false) => self.largest[row],
                (true, true) if self.shift[row] == f32::NEG_INFINITY => 0.0,
                (true, true) => math::exp2(self.largest[row] - self.shift[row]),
            })
            .collect();
        // any shift is right where all weights and floors are 0; minus infinity less itself would be a NaN
        self.shift.iter_mut().filter(|shift| **shift == f32::NEG_INFINITY).for_each(|shift| *shift = 0.0);
        let row_inputs = RowInputs {
            sum: &self.sum,
            max: &max,
            sum_squares: &self.sum_squares,
            shift: &self.shift,
            arg_max: &self.arg_max,
            ..before
        };
        let mut z = vec![1.0; tile.rows];
        if let Some(program) = &programs.normalizer {
            let inputs = context.inputs(tile, (0, 0), row_inputs);
            let mut registers = Registers::new(program, tile.rows, 0);
            registers.run_all(program, &inputs);
            registers.float_rows(program, 0, &inputs, &mut z);
        }
        let statistic: Vec<f32> = z
            .iter()
            .zip(&self.shift)
            .map(|(&z, &shift)| {
                let log = || (LN_2 * (f64::from(shift) + f64::from(z).log2())) as f32;
                if shifted { log() } else { z }
            })
            .collect();
        let value_dim = self.output.len() / tile.rows;
        for (row, output) in self.output.chunks_exact_mut(value_dim.max(1)).enumerate() {
            let dead = !self.live[row] || z[row] == 0.0;
            output.iter_mut().for_each(|o| *o = if dead { 0.0 } else { *o / z[row] });
        }
        let own = lowered.forward.saved.iter().filter(|saved| !matches!(saved, SavedRow::Row(_)));
        let saved = own.map(|saved| match saved {
            SavedRow::Statistic => statistic.clone(),
            SavedRow::Shift => self.shift.clone(),
            SavedRow::Reduction(Reduction::Sum) => self.sum.clone(),
            SavedRow::Reduction(Reduction::Max) => max.clone(),
            SavedRow::Reduction(Reduction::SumSquares) => self.sum_squares.clone(),
            SavedRow::Row(_) => unreachable!("left out"),
            SavedRow::ArgMax => self.arg_max.iter().map(|&key| f32::from_bits(key as u32)).collect(),
        });
        let saved = saved.collect();
        TileOutput { output: self.output, statistic, saved }
    }
}
