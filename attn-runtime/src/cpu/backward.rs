//! The backward pass: a pass over query tiles for dq and the parameters, a pass over key tiles for dk and dv.
//!
//! Both recompute products and weights from q, k and the saved rows. A key tile's task walks all query heads of its group, so
//! that dk and dv are summed over the group by one task in a fixed order.

use attn_dsl::ir::Reduction;
use attn_dsl::lower::{Class, SavedRow};
use rayon::prelude::*;

use super::context::{Context, RowTile, ranges};
use super::evaluate::{Inputs, Registers, RowInputs};
use super::found::FoundRows;
use super::mask::{Coverage, MaskTile};
use super::matrix::{HeadRows, Matrix, gemm};
use super::parameter_gradient::Partials;
use super::program::Program;
use super::{COLUMNS, CpuExecutor, ROWS};
use crate::attention::Gradients;
use crate::call::BackwardCall;
use crate::error::Error;
use crate::parameter::Parameters;
use crate::tensor::{DType, Tensor};

/// Partial gradients of parameters that exist at one time take about this much memory.
const PARTIAL_BYTES: usize = 64 << 20;

/// What the backward pass knows of every row, in the order of the rows.
#[derive(Default)]
struct Rows {
    delta: Vec<f32>,
    live_keys: Vec<i32>,
    /// Whether the row has no gradient because its normalizer is 0.
    dead: Vec<bool>,
    statistic: Vec<f32>,
    shift: Vec<f32>,
    sum: Vec<f32>,
    max: Vec<f32>,
    sum_squares: Vec<f32>,
    arg_max: Vec<i32>,
    found: FoundRows,
}

impl Rows {
    fn inputs(&self, start: usize, rows: usize) -> RowInputs<'_> {
        fn part<T>(values: &[T], start: usize, rows: usize) -> &[T] {
            if values.is_empty() { values } else { &values[start..start + rows] }
        }
        RowInputs {
            live_keys: part(&self.live_keys, start, rows),
            sum: part(&self.sum, start, rows),
            max: part(&self.max, start, rows),
            sum_squares: part(&self.sum_squares, start, rows),
            shift: part(&self.shift, start, rows),
            statistic: part(&self.statistic, start, rows),
            delta: part(&self.delta, start, rows),
            arg_max: part(&self.arg_max, start, rows),
            found: self.found.from(start),
        }
    }
}

pub(super) fn backward(executor: &CpuExecutor, call: &BackwardCall) -> Result<Gradients, Error> {
    let context = Context::new(executor, &call.call)?;
    let output_grad = HeadRows::new(&call.output_grad)?;
    let rows = prepare(&context, call, output_grad)?;
    let pass = Pass { context: &context, output_grad, rows: &rows };
    let (q, totals) = pass.queries();
    let (k, v) = pass.keys();
    let like = |tensor: &Tensor, values| Tensor::rounded(tensor.dtype(), tensor.shape(), values);
    let mut parameters = Parameters::new();
    for (index, total) in executor.gradient.by_parameter(totals) {
        let name = &executor.lowered.definition.parameters[index].name;
        let shape = call.call.parameters[index].shape();
        parameters.insert(name.clone(), Tensor::from_f64(DType::F32, shape, &total)?);
    }
    Ok(Gradients { q: like(&call.call.q, q)?, k: like(&call.call.k, k)?, v: like(&call.call.v, v)?, parameters })
}

/// Computes delta, live keys and dead rows, and unpacks what the forward pass saved.
fn prepare(context: &Context<'_>, call: &BackwardCall, output_grad: HeadRows<'_>) -> Result<Rows, Error> {
    let executor = context.executor;
    let lowered = &executor.lowered;
    let mut rows = Rows::default();
    for (saved, tensor) in lowered.forward.saved.iter().zip(&call.saved) {
        let values = tensor.to_elements::<f32>()?;
        match saved {
            SavedRow::Statistic => rows.statistic = values,
            SavedRow::Shift => rows.shift = values,
            SavedRow::Reduction(Reduction::Sum) => rows.sum = values,
            SavedRow::Reduction(Reduction::Max) => rows.max = values,
            SavedRow::Reduction(Reduction::SumSquares) => rows.sum_squares = values,
            SavedRow::Row(row) => rows.found.add_bits(*row, &values),
            SavedRow::ArgMax => rows.arg_max = values.into_iter().map(|x| x.to_bits() as i32).collect(),
        }
    }
    let output = HeadRows::new(call.second.as_ref().unwrap_or(&call.output))?;
    let statistic_grad = call.statistic_grad.as_ref().map(|tensor| tensor.to_elements::<f32>()).transpose()?;
    let statistic = &rows.statistic;
    let width = context.problem.value_dim;
    let tiles: Vec<(Vec<f32>, Vec<i32>, Vec<bool>)> = context
        .row_tiles()
        .into_par_iter()
        .map(|tile| {
            let mut o = vec![0.0; tile.rows * width];
            let mut grad = vec![0.0; tile.rows * width];
            output.load(tile.batch, tile.head, tile.start, tile.rows, &mut o);
            output_grad.load(tile.batch, tile.head, tile.start, tile.rows, &mut grad);
            let base = context.row_base(tile);
            let products = o.chunks_exact(width).zip(grad.chunks_exact(width));
            let delta = products.enumerate().map(|(row, (o, grad))| {
                let product: f64 = o.iter().zip(grad).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                let statistic_term = statistic_grad.as_ref().map_or(0.0, |all| {
                    let grad = f64::from(all[base + row]);
                    match lowered.class {
                        Class::ShiftedExponential => grad,
                        Class::Streaming => grad * f64::from(statistic[base + row]),
                        Class::Elementwise => 0.0,
                    }
                });
                (product - statistic_term) as f32
            });
            let delta = delta.collect();
            let live_keys = if lowered.needs_live_keys {
                context.count_live(tile, &mut MaskTile::new(executor.mask.as_ref()))
            } else {
                Vec::new()
            };
            let dead = match lowered.class {
                Class::ShiftedExponential => {
                    statistic[base..][..tile.rows].iter().map(|&s| s == f32::NEG_INFINITY).collect()
                }
                Class::Streaming => statistic[base..][..tile.rows].iter().map(|&z| z == 0.0).collect(),
                Class::Elementwise => zero_normalizer(context, tile, &live_keys),
            };
            (delta, live_keys, dead)
        })
        .collect();
    for (delta, live_keys, dead) in tiles {
        rows.delta.extend(delta);
        rows.live_keys.extend(live_keys);
        rows.dead.extend(dead);
    }
    Ok(rows)
}

/// The rows whose normalizer, which reduces nothing, is 0.
fn zero_normalizer(context: &Context<'_>, tile: RowTile, live_keys: &[i32]) -> Vec<bool> {
    let Some(program) = &context.executor.main.normalizer else {
        return vec![false; tile.rows];
    };
    let inputs = context.inputs(tile, (0, 0), RowInputs { live_keys, ..RowInputs::default() });
    let mut registers = Registers::new(program, tile.rows, 0);
    registers.run_all(program, &inputs);
    let mut z = vec![0.0; tile.rows];
    registers.float_rows(program, 0, &inputs, &mut z);
    z.into_iter().map(|z| z == 0.0).collect()
}

/// What the tasks of both passes share.
struct Pass<'a> {
    context: &'a Context<'a>,
    output_grad: HeadRows<'a>,
    rows: &'a Rows,
}

/// The memory of a task, reused by the next one on the same thread.
struct Scratch<'a> {
    mask: MaskTile<'a>,
    program: &'a Program,
    registers: Registers,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    output_grad: Vec<f32>,
    product: Vec<f32>,
    output_grad_product: Vec<f32>,
    /// Values of pairs, on their way into a product.
    pair: Vec<f32>,
}

impl<'a> Scratch<'a> {
    fn new(context: &'a Context<'a>, program: &'a Program) -> Self {
        let problem = &context.problem;
        Scratch {
            mask: MaskTile::new(context.executor.mask.as_ref()),
            program,
            registers: Registers::new(program, ROWS, COLUMNS),
            q: vec![0.0; ROWS * problem.head_dim],
            k: vec![0.0; COLUMNS * problem.head_dim],
            v: vec![0.0; COLUMNS * problem.value_dim],
            output_grad: vec![0.0; ROWS * problem.value_dim],
            product: vec![0.0; ROWS * COLUMNS],
            output_grad_product: vec![0.0; ROWS * COLUMNS],
            pair: vec![0.0; ROWS * COLUMNS],
        }
    }

    fn load_queries(&mut self, pass: &Pass<'_>, tile: RowTile) {
        pass.context.q.load(tile.batch, tile.head, tile.start, tile.rows, &mut self.q);
        pass.output_grad.load(tile.batch, tile.head, tile.start, tile.rows, &mut self.output_grad);
    }

    fn load_keys(&mut self, pass: &Pass<'_>, batch: usize, kv_head: usize, keys: (usize, usize)) {
        pass.context.k.load(batch, kv_head, keys.0, keys.1, &mut self.k);
        pass.context.v.load(batch, kv_head, keys.0, keys.1, &mut self.v);
    }

    /// Computes the products of a tile from what is loaded and runs the program on it.
    fn run(&mut self, inputs: &Inputs<'_>, head_dim: usize, value_dim: usize) {
        let (rows, columns) = (inputs.queries.len(), inputs.keys.len());
        let (q, k) = (Matrix::new(&self.q, rows, head_dim), Matrix::new(&self.k, columns, head_dim));
        gemm(q, k.transposed(), 0.0, &mut self.product);
        let (grad, v) = (Matrix::new(&self.output_grad, rows, value_dim), Matrix::new(&self.v, columns, value_dim));
        gemm(grad, v.transposed(), 0.0, &mut self.output_grad_product);
        let inputs = Inputs { product: &self.product, output_grad_product: &self.output_grad_product, ..*inputs };
        self.registers.run_all(self.program, &inputs);
    }

    /// Brings a root of the program to `pair`: 0 where masked or dead, times `factor` elsewhere.
    fn take(&mut self, root: usize, inputs: &Inputs<'_>, coverage: Coverage, dead: &[bool], factor: f32) {
        let inputs = Inputs { product: &self.product, output_grad_product: &self.output_grad_product, ..*inputs };
        let pair = &mut self.pair[..inputs.queries.len() * inputs.keys.len()];
        self.registers.float_tile(self.program, root, &inputs, pair);
        clear(pair, &self.mask, coverage, dead, inputs.keys.len());
        if factor != 1.0 {
            pair.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// Makes the values of masked pairs and of dead rows 0.
fn clear(values: &mut [f32], mask: &MaskTile<'_>, coverage: Coverage, dead: &[bool], columns: usize) {
    if coverage == Coverage::Partial {
        mask.apply(values, 0.0);
    }
    for (values, _) in values.chunks_exact_mut(columns).zip(dead).filter(|(_, dead)| **dead) {
        values.fill(0.0);
    }
}

impl Pass<'_> {
    /// The factor of the product gradient in a head.
    fn grad_scale(&self, tile: RowTile) -> f32 {
        let Some(program) = &self.context.executor.grad_scale else {
            return 1.0;
        };
        let inputs = self.context.inputs(RowTile { rows: 1, ..tile }, (0, 0), RowInputs::default());
        let mut registers = Registers::new(program, 1, 0);
        registers.run_all(program, &inputs);
        let mut factor = [1.0];
        registers.float_rows(program, 0, &inputs, &mut factor);
        factor[0]
    }

    /// dq in the order of the rows, and the gradients of the parameters.
    fn queries(&self) -> (Vec<f32>, Vec<Vec<f64>>) {
        let context = self.context;
        let plan = &context.executor.gradient;
        let parameters = &context.launch.parameters;
        let tiles = context.row_tiles();
        let mut totals = plan.totals(parameters);
        let mut grad = Vec::with_capacity(context.problem.batch * context.problem.heads * context.problem.q_len);
        let bytes = tiles.first().map_or(0, |&tile| plan.partial_bytes(context, tile));
        // Tasks of one wave run at the same time. The order of addition does not depend on its length.
        let wave = (PARTIAL_BYTES / bytes.max(1)).max(8);
        for tiles in tiles.chunks(wave) {
            let results: Vec<(Vec<f32>, Partials)> = tiles
                .par_iter()
                .map_init(|| Scratch::new(context, &plan.pair_program), |scratch, &tile| self.query_tile(scratch, tile))
                .collect();
            for (part, partials) in results {
                grad.extend(part);
                plan.merge(&mut totals, parameters, &partials);
            }
        }
        (grad, totals)
    }

    fn query_tile(&self, scratch: &mut Scratch<'_>, tile: RowTile) -> (Vec<f32>, Partials) {
        let context = self.context;
        let plan = &context.executor.gradient;
        let (d, dv) = (context.problem.head_dim, context.problem.value_dim);
        let base = context.row_base(tile);
        let row_inputs = self.rows.inputs(base, tile.rows);
        let dead = &self.rows.dead[base..][..tile.rows];
        let factor = self.grad_scale(tile);
        let mut grad = vec![0.0; tile.rows * d];
        let mut partials = plan.partials(context, tile);
        let mut live = vec![0; tile.rows];
        scratch.load_queries(self, tile);
        for keys in ranges(context.problem.kv_len, COLUMNS) {
            let columns = keys.1;
            let inputs = context.inputs(tile, keys, row_inputs);
            let coverage = scratch.mask.cover(&inputs);
            if coverage == Coverage::Empty {
                continue;
            }
            scratch.mask.count(coverage, columns, &mut live);
            scratch.load_keys(self, tile.batch, context.kv_head(tile.head), keys);
            scratch.run(&inputs, d, dv);
            scratch.take(0, &inputs, coverage, dead, factor);
            gemm(Matrix::new(&scratch.pair, tile.rows, columns), Matrix::new(&scratch.k, columns, d), 1.0, &mut grad);
            if plan.has_pairs() {
                let inputs =
                    Inputs { product: &scratch.product, output_grad_product: &scratch.output_grad_product, ..inputs };
                plan.add_pairs(&mut partials, &scratch.registers, &inputs, |values| {
                    clear(values, &scratch.mask, coverage, dead, columns);
                });
            }
        }
        let live: Vec<bool> = live.iter().zip(dead).map(|(&count, &dead)| count > 0 && !dead).collect();
        plan.add_rows(&mut partials, &context.inputs(tile, (0, 0), row_inputs), &live);
        (grad, partials)
    }

    /// dk and dv in the order of their rows.
    fn keys(&self) -> (Vec<f32>, Vec<f32>) {
        let context = self.context;
        let problem = &context.problem;
        let heads = (0..problem.batch).flat_map(|batch| (0..problem.kv_heads).map(move |head| (batch, head)));
        let tasks: Vec<_> =
            heads.flat_map(|head| ranges(problem.kv_len, COLUMNS).map(move |keys| (head, keys))).collect();
        let results: Vec<(Vec<f32>, Vec<f32>)> = tasks
            .into_par_iter()
            .map_init(
                || Scratch::new(context, &context.executor.key_pass),
                |scratch, ((batch, kv_head), keys)| self.key_tile(scratch, batch, kv_head, keys),
            )
            .collect();
        let (k, v): (Vec<_>, Vec<_>) = results.into_iter().unzip();
        (k.concat(), v.concat())
    }

    fn key_tile(
        &self,
        scratch: &mut Scratch<'_>,
        batch: usize,
        kv_head: usize,
        keys: (usize, usize),
    ) -> (Vec<f32>, Vec<f32>) {
        let context = self.context;
        let problem = &context.problem;
        let (d, dv, columns) = (problem.head_dim, problem.value_dim, keys.1);
        let mut k_grad = vec![0.0; columns * d];
        let mut v_grad = vec![0.0; columns * dv];
        scratch.load_keys(self, batch, kv_head, keys);
        for head in kv_head * problem.group()..(kv_head + 1) * problem.group() {
            let factor = self.grad_scale(RowTile { batch, head, start: 0, rows: problem.q_len.min(1) });
            for (start, rows) in ranges(problem.q_len, ROWS) {
                let tile = RowTile { batch, head, start, rows };
                let base = context.row_base(tile);
                let inputs = context.inputs(tile, keys, self.rows.inputs(base, rows));
                let dead = &self.rows.dead[base..][..rows];
                let coverage = scratch.mask.cover(&inputs);
                if coverage == Coverage::Empty {
                    continue;
                }
                scratch.load_queries(self, tile);
                scratch.run(&inputs, d, dv);
                scratch.take(0, &inputs, coverage, dead, 1.0);
                let pair = Matrix::new(&scratch.pair, rows, columns).transposed();
                gemm(pair, Matrix::new(&scratch.output_grad, rows, dv), 1.0, &mut v_grad);
                scratch.take(1, &inputs, coverage, dead, factor);
                let pair = Matrix::new(&scratch.pair, rows, columns).transposed();
                gemm(pair, Matrix::new(&scratch.q, rows, d), 1.0, &mut k_grad);
            }
        }
        (k_grad, v_grad)
    }
}
