//! Row passes: what must be known of a whole row before its weights are.
//!
//! A task holds the scores of a tile of rows with all of their keys. Thresholds of an entmax are found by Newton's method from
//! the left, which never overshoots (its function is convex and falls); what is kept of a row by selection.
//!
//! Invariant: scores are computed as the main pass computes them, tile by tile, so that a decision by score is the same there.

use attn_dsl::ir::{NodeId, Row, RowValue};
use attn_dsl::lower::{Lowered, RowPass, SavedRow};
use rayon::prelude::*;

use super::context::{Context, RowTile, ranges};
use super::evaluate::{Inputs, Registers, RowInputs};
use super::forward::{Programs, run_tiles};
use super::found::FoundRows;
use super::mask::{Coverage, MaskTile};
use super::matrix::{Matrix, gemm};
use super::program::Program;
use super::{COLUMNS, ROWS};
use crate::tensor::TensorError;

/// A row pass, compiled.
pub(super) enum Pass {
    /// Root 0 of the scores is the score, of the other program alpha.
    Entmax {
        scores: Program,
        alpha: Program,
    },
    /// Root 0 of the other program is k.
    TopK {
        scores: Program,
        k: Program,
    },
    Weights(Box<Programs>),
}

impl Pass {
    pub(super) fn new(lowered: &Lowered, pass: &RowPass) -> Pass {
        let program = |root: &NodeId| Program::new(&lowered.graph, &[*root]);
        match pass {
            RowPass::Entmax { score, alpha } => Pass::Entmax { scores: program(score), alpha: program(alpha) },
            RowPass::TopK { score, k, .. } => Pass::TopK { scores: program(score), k: program(k) },
            RowPass::Weights(weights) => Pass::Weights(Box::new(Programs::new(lowered.with_program(weights)))),
        }
    }
}

/// Runs all passes of a call in order.
pub(super) fn find(context: &Context<'_>) -> Result<FoundRows, TensorError> {
    let mut found = FoundRows::default();
    for (pass, number) in context.executor.passes.iter().zip(0u8..) {
        let row = |value: RowValue| Row { pass: number, value };
        match pass {
            Pass::Entmax { scores, alpha } => {
                let tiles = context.row_tiles().into_par_iter().map_init(
                    || Strip::new(context, scores),
                    |strip, tile| {
                        let live_keys = strip.load(context, tile, &found);
                        let rows = RowInputs { live_keys: &live_keys, ..RowInputs::default() };
                        let mut alphas = vec![0.0; tile.rows];
                        row_values(context, tile, alpha, rows, |registers, inputs| {
                            registers.float_rows(alpha, 0, inputs, &mut alphas);
                        });
                        strip.rows().zip(alphas).map(|(scores, alpha)| entmax(scores, alpha)).collect::<Vec<_>>()
                    },
                );
                let tiles: Vec<Vec<(f32, f32)>> = tiles.collect();
                let (greatest, threshold) = tiles.into_iter().flatten().unzip();
                found.add_floats(row(RowValue::Greatest), greatest);
                found.add_floats(row(RowValue::Threshold), threshold);
            }
            Pass::TopK { scores, k } => {
                let tiles = context.row_tiles().into_par_iter().map_init(
                    || Strip::new(context, scores),
                    |strip, tile| {
                        let live_keys = strip.load(context, tile, &found);
                        let rows = RowInputs { live_keys: &live_keys, ..RowInputs::default() };
                        let mut counts = vec![0; tile.rows];
                        row_values(context, tile, k, rows, |registers, inputs| {
                            registers.int_rows(k, 0, inputs, &mut counts);
                        });
                        strip.rows().zip(counts).map(|(scores, k)| top_k(scores, k)).collect::<Vec<_>>()
                    },
                );
                let tiles: Vec<Vec<(f32, i32)>> = tiles.collect();
                let (kth, last): (Vec<f32>, Vec<i32>) = tiles.into_iter().flatten().unzip();
                found.add_floats(row(RowValue::KthScore), kth);
                found.add_ints(row(RowValue::LastKept), last);
            }
            Pass::Weights(programs) => {
                let tiles = run_tiles(context, programs, &found, 0);
                let program = &programs.lowered.forward;
                for (at, saved) in program.saved.iter().enumerate() {
                    let values: Vec<f32> = tiles.iter().flat_map(|tile| tile.saved[at].iter().copied()).collect();
                    match saved {
                        SavedRow::Statistic => found.add_floats(row(RowValue::Statistic), values),
                        SavedRow::Shift => found.add_floats(row(RowValue::Shift), values),
                        SavedRow::Reduction(of) => found.add_floats(row(RowValue::Reduction(*of)), values),
                        SavedRow::ArgMax => found.add_bits(row(RowValue::ArgMax), &values),
                        SavedRow::Row(_) => unreachable!("a pass finds rows of its own"),
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Runs a program of rows.
fn row_values(
    context: &Context<'_>,
    tile: RowTile,
    program: &Program,
    rows: RowInputs<'_>,
    take: impl FnOnce(&Registers, &Inputs<'_>),
) {
    let inputs = context.inputs(tile, (0, 0), rows);
    let mut registers = Registers::new(program, tile.rows, 0);
    registers.run_all(program, &inputs);
    take(&registers, &inputs);
}

/// The scores of a tile of rows with all of their keys, and the memory to compute them.
struct Strip<'a> {
    program: &'a Program,
    registers: Registers,
    mask: MaskTile<'a>,
    q: Vec<f32>,
    k: Vec<f32>,
    product: Vec<f32>,
    score: Vec<f32>,
    /// The live keys of each row and their scores, in the order of the keys.
    rows: Vec<Vec<(i32, f32)>>,
}

impl<'a> Strip<'a> {
    fn new(context: &Context<'a>, program: &'a Program) -> Self {
        let head_dim = context.problem.head_dim;
        Strip {
            program,
            registers: Registers::new(program, ROWS, COLUMNS),
            mask: MaskTile::new(context.executor.mask.as_ref()),
            q: vec![0.0; ROWS * head_dim],
            k: vec![0.0; COLUMNS * head_dim],
            product: vec![0.0; ROWS * COLUMNS],
            score: vec![0.0; ROWS * COLUMNS],
            rows: Vec::new(),
        }
    }

    fn rows(&self) -> impl Iterator<Item = &[(i32, f32)]> {
        self.rows.iter().map(Vec::as_slice)
    }

    /// Computes the scores of a tile of rows; returns the number of live keys of each row, where it is read.
    fn load(&mut self, context: &Context<'a>, tile: RowTile, found: &FoundRows) -> Vec<i32> {
        let problem = &context.problem;
        let (d, kv_head) = (problem.head_dim, context.kv_head(tile.head));
        let lowered = &context.executor.lowered;
        let live_keys = if lowered.needs_live_keys { context.count_live(tile, &mut self.mask) } else { Vec::new() };
        let row_inputs =
            RowInputs { live_keys: &live_keys, found: found.from(context.row_base(tile)), ..RowInputs::default() };
        self.rows = vec![Vec::new(); tile.rows];
        context.q.load(tile.batch, tile.head, tile.start, tile.rows, &mut self.q);
        for keys in ranges(problem.kv_len, COLUMNS) {
            let columns = keys.1;
            let inputs = context.inputs(tile, keys, row_inputs);
            let coverage = self.mask.cover(&inputs);
            if coverage == Coverage::Empty {
                continue;
            }
            context.k.load(tile.batch, kv_head, keys.0, columns, &mut self.k);
            let (q, k) = (Matrix::new(&self.q, tile.rows, d), Matrix::new(&self.k, columns, d));
            gemm(q, k.transposed(), 0.0, &mut self.product);
            let inputs = Inputs { product: &self.product, ..inputs };
            self.registers.run_all(self.program, &inputs);
            let score = &mut self.score[..tile.rows * columns];
            self.registers.float_tile(self.program, 0, &inputs, score);
            for (row, (scores, live)) in score.chunks_exact(columns).zip(&mut self.rows).enumerate() {
                for (column, &score) in scores.iter().enumerate() {
                    if coverage == Coverage::Full || self.mask.is_live(row * columns + column) {
                        live.push(((keys.0 + column) as i32, score));
                    }
                }
            }
        }
        live_keys
    }
}

/// More steps than any row needs: where alpha is none that an entmax has, a method that makes no sense ends.
const STEPS: usize = 200;

/// The greatest score, and the threshold of the others relative to it (Peters et al., 2019).
fn entmax(scores: &[(i32, f32)], alpha: f32) -> (f32, f32) {
    let mut greatest = f32::NEG_INFINITY;
    for &(_, score) in scores {
        if score.is_nan() || score == f32::INFINITY {
            return (0.0, f32::NAN);
        }
        greatest = greatest.max(score);
    }
    if greatest == f32::NEG_INFINITY {
        return (0.0, f32::INFINITY);
    }
    // what the main pass has: rounded alike
    let factor = alpha - 1.0;
    let relative: Vec<f64> =
        scores.iter().map(|(_, score)| f64::from((score - greatest) * factor)).filter(|z| *z > -1.0).collect();
    let exponent = 1.0 / f64::from(factor);
    let mut threshold = -1.0;
    for _ in 0..STEPS {
        let (mut mass, mut slope) = (0.0, 0.0);
        for above in relative.iter().map(|z| z - threshold).filter(|above| *above > 0.0) {
            let power = power(above, exponent);
            mass += power;
            slope += power / above;
        }
        let next = threshold + (mass - 1.0) / (exponent * slope);
        let is_done = !(next > threshold && mass > 1.0 + 1e-12);
        if is_done {
            break;
        }
        threshold = next;
    }
    (greatest, threshold as f32)
}

fn power(x: f64, exponent: f64) -> f64 {
    if exponent == 1.0 {
        x
    } else if exponent == 2.0 {
        x * x
    } else {
        x.powf(exponent)
    }
}

/// The k-th greatest score and the last key that is kept among those of this score. A NaN is greater than any score.
fn top_k(scores: &[(i32, f32)], k: i32) -> (f32, i32) {
    let Some(k) = usize::try_from(k).ok().filter(|&k| k > 0) else { return (f32::INFINITY, -1) };
    if scores.len() <= k {
        return (f32::NEG_INFINITY, i32::MAX);
    }
    let rank = |score: f32| if score.is_nan() { f32::INFINITY } else { score };
    let mut ranked: Vec<f32> = scores.iter().map(|(_, score)| rank(*score)).collect();
    let (_, kth, _) = ranked.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let kth = *kth;
    let above = scores.iter().filter(|(_, score)| rank(*score) > kth).count();
    let mut equal = scores.iter().filter(|(_, score)| rank(*score) == kth);
    (kth, equal.nth(k - above - 1).map_or(-1, |(key, _)| *key))
}
