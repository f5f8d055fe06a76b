//! Attention in linear time on the CPU: variants whose weights factorise, head by head, with a state.
//!
//! Output and gradients are sums of one form (`sum.rs`). All arithmetic is f32; every exponential is relative to the largest exponent
//! so far. Heads are tasks; what they add to parameters is summed in f64 in their order, so that results do not depend on the
//! number of threads.

mod states;
mod sum;

use attn_dsl::definition::Axis;
use attn_dsl::ir::{Graph, NodeId};
use attn_dsl::lower::{Class, FactorGradient, Linear, Lowered, Side};
use rayon::prelude::*;

use self::states::Ends;
use self::sum::{Columns, Rows, Sum};
use super::CpuExecutor;
use super::context::Context;
use super::evaluate::{Inputs, Registers, RowInputs, clamp_index};
use super::matrix::HeadRows;
use super::program::Program;
use crate::attention::{Gradients, Output};
use crate::call::{BackwardCall, Call};
use crate::error::Error;
use crate::parameter::Parameters;
use crate::tensor::{DType, Tensor};

/// Programs of rows or of keys, one root each.
struct Roots {
    side: Side,
    program: Program,
}

/// A contribution to a parameter: of sums of products, or of the normalizer's rows.
struct Contribution {
    parameter: usize,
    of_sums: bool,
    value: Roots,
    index: Roots,
}

/// A variant that factorises, and its programs.
pub(super) struct LinearPlan {
    /// Whether a gradient of a parameter is a difference of large sums.
    pub(super) cancels: bool,
    causal: bool,
    streaming: bool,
    query_factor: Roots,
    query_scale: Roots,
    query_exponent: Option<Roots>,
    key_factor: Roots,
    key_scale: Roots,
    key_exponent: Option<Roots>,
    normalizer: Option<Roots>,
    inverse: Option<Roots>,
    bias: Option<Roots>,
    contributions: Vec<Contribution>,
    /// What is the same for all pairs of a head.
    shared: Roots,
    /// The exponent behind the last key.
    end_exponent: Option<Roots>,
}

impl Roots {
    fn new(graph: &Graph, side: Side, roots: &[NodeId]) -> Roots {
        Roots { side, program: Program::new(graph, roots) }
    }

    /// Runs the program over all positions of a head.
    fn run<'a>(&self, head: &Head<'a>, rows: RowInputs<'a>) -> (Registers, Inputs<'a>) {
        let (queries, keys): (&[i32], &[i32]) = match self.side {
            Side::Query => (head.queries, &[]),
            // columns are seen by one row
            Side::Key => (&head.keys[..1], head.keys),
        };
        let inputs = Inputs {
            launch: &head.context.launch,
            batch: head.number,
            head: head.head,
            queries,
            keys,
            product: &[],
            output_grad_product: &[],
            rows,
        };
        let mut registers = Registers::new(&self.program, queries.len(), keys.len().max(1));
        registers.run_all(&self.program, &inputs);
        (registers, inputs)
    }

    fn floats(&self, head: &Head<'_>, rows: RowInputs<'_>) -> Vec<f32> {
        let mut out = vec![0.0; head.length(self.side)];
        let (registers, inputs) = self.run(head, rows);
        match self.side {
            Side::Query => registers.float_rows(&self.program, 0, &inputs, &mut out),
            Side::Key => registers.float_tile(&self.program, 0, &inputs, &mut out),
        }
        out
    }

    /// All roots, integers each.
    fn ints(&self, head: &Head<'_>, count: usize) -> Vec<Vec<i32>> {
        let (registers, inputs) = self.run(head, RowInputs::default());
        let one = |root| {
            let mut out = vec![0; head.length(self.side)];
            match self.side {
                Side::Query => registers.int_rows(&self.program, root, &inputs, &mut out),
                Side::Key => registers.int_tile(&self.program, root, &inputs, &mut out),
            }
            out
        };
        (0..count).map(one).collect()
    }
}

/// One batch and query head of a call.
struct Head<'a> {
    context: &'a Context<'a>,
    batch: usize,
    /// What `b` is.
    number: usize,
    head: usize,
    queries: &'a [i32],
    keys: &'a [i32],
    live_keys: &'a [i32],
}

impl Head<'_> {
    fn length(&self, side: Side) -> usize {
        if side == Side::Query { self.queries.len() } else { self.keys.len() }
    }

    fn load(&self, rows: &HeadRows<'_>, head: usize, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count * rows.width];
        rows.load(self.batch, head, 0, count, &mut out);
        out
    }
}

/// What a head's backward pass leaves.
struct HeadGradients {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    parameters: Vec<Vec<f64>>,
    /// Of the initial state.
    state: Vec<f32>,
}

impl LinearPlan {
    pub(super) fn new(lowered: &Lowered, linear: &Linear) -> LinearPlan {
        let Linear { query_factor, query_scale, query_exponent, key_factor, key_scale, key_exponent, .. } = *linear;
        let Linear { normalizer, inverse, bias, .. } = *linear;
        let root = |side, node: NodeId| Roots::new(&linear.graph, side, &[node]);
        let of_pairs = linear.parameters.iter().map(|gradient| {
            let FactorGradient { parameter, side, index, slope } = gradient;
            Contribution {
                parameter: parameter.0 as usize,
                of_sums: true,
                value: root(*side, *slope),
                index: Roots::new(&linear.graph, *side, index),
            }
        });
        let rows = lowered.backward.parameters.iter().filter(|gradient| !gradient.per_pair);
        let of_rows = rows.map(|gradient| Contribution {
            parameter: gradient.parameter.0 as usize,
            of_sums: false,
            value: root(Side::Query, gradient.value),
            index: Roots::new(&linear.graph, Side::Query, &gradient.index),
        });
        let mut with_end = linear.graph.clone();
        let end = linear.end_exponent(&mut with_end);
        LinearPlan {
            shared: root(Side::Query, linear.shared),
            end_exponent: end.map(|node| Roots::new(&with_end, Side::Query, &[node])),
            cancels: linear.cancelling().is_some(),
            causal: linear.causal,
            streaming: lowered.class == Class::Streaming,
            query_factor: root(Side::Query, query_factor),
            query_scale: root(Side::Query, query_scale),
            query_exponent: query_exponent.map(|node| root(Side::Query, node)),
            key_factor: root(Side::Key, key_factor),
            key_scale: root(Side::Key, key_scale),
            key_exponent: key_exponent.map(|node| root(Side::Key, node)),
            normalizer: normalizer.map(|node| root(Side::Query, node)),
            inverse: inverse.map(|node| root(Side::Query, node)),
            bias: bias.map(|node| root(Side::Query, node)),
            contributions: of_pairs.chain(of_rows).collect(),
        }
    }

    /// Runs a task a batch and query head.
    fn each_head<T: Send>(&self, context: &Context<'_>, call: &Call, run: impl Fn(&Head<'_>) -> T + Sync) -> Vec<T> {
        let problem = &call.problem;
        let positions: Vec<i32> = (0..problem.q_len.max(problem.kv_len) as i32).collect();
        let (q_len, kv_len) = (problem.q_len as i32, problem.kv_len as i32);
        let live = |query: i32| if self.causal { (query + kv_len - q_len + 1).clamp(0, kv_len) } else { kv_len };
        let live_keys: Vec<i32> = (0..q_len).map(live).collect();
        let heads: Vec<(usize, usize)> =
            (0..problem.batch).flat_map(|batch| (0..problem.heads).map(move |head| (batch, head))).collect();
        let task = |(batch, head)| {
            run(&Head {
                context,
                batch,
                number: call.first_batch + batch,
                head,
                queries: &positions[..problem.q_len],
                keys: &positions[..problem.kv_len],
                live_keys: &live_keys,
            })
        };
        heads.into_par_iter().map(task).collect()
    }

    fn rows_inputs<'a>(head: &Head<'a>) -> RowInputs<'a> {
        RowInputs { live_keys: head.live_keys, ..RowInputs::default() }
    }

    /// Where column 0 stands among the rows, for sums whose rows are of a side; none where all columns count.
    fn offset(&self, rows: Side, call: &Call) -> Option<isize> {
        let offset = call.problem.kv_len as isize - call.problem.q_len as isize;
        self.causal.then_some(if rows == Side::Query { offset } else { -offset })
    }
}

/// `values`, each times the one of `factors` beside it.
fn multiplied(values: Vec<f32>, factors: Option<&[f32]>) -> Vec<f32> {
    match factors {
        Some(factors) => values.iter().zip(factors).map(|(value, factor)| value * factor).collect(),
        None => values,
    }
}

/// The output, and the state behind the last key.
pub(super) fn forward(
    executor: &CpuExecutor,
    plan: &LinearPlan,
    call: &Call,
    initial: Option<&Tensor>,
) -> Result<(Output, Tensor), Error> {
    let context = Context::new(executor, call)?;
    let problem = &call.problem;
    let initial = initial.map(Tensor::to_f32_vec).transpose()?;
    let heads = plan.each_head(&context, call, |head| {
        let kv_head = context.kv_head(head.head);
        let ends = Ends::new(plan, head, problem);
        let inputs = LinearPlan::rows_inputs(head);
        let [q, k, v] = [
            head.load(&context.q, head.head, problem.q_len),
            head.load(&context.k, kv_head, problem.kv_len),
            head.load(&context.v, kv_head, problem.kv_len),
        ];
        let row_exponent = plan.query_exponent.as_ref().map(|roots| roots.floats(head, inputs));
        let column_exponent = plan.key_exponent.as_ref().map(|roots| roots.floats(head, inputs));
        let column_factor = plan.key_factor.floats(head, inputs);
        let row_factor = plan.query_scale.floats(head, inputs);
        let sum = Sum {
            widths: [problem.head_dim, problem.value_dim],
            rows: Rows { values: &q, exponent: row_exponent.as_deref(), bias: None },
            columns: Columns { b: &k, c: &v, exponent: column_exponent.as_deref(), factor: &column_factor, bias: None },
            offset: plan.offset(Side::Query, call),
            reversed: false,
            initial: initial.as_ref().map(|all| ends.begin(ends.of_head(all, head), false)),
        };
        let (mut output, sums, state) = sum.run();
        let sums = multiplied(sums, Some(&row_factor));
        let z = match &plan.normalizer {
            Some(normalizer) => normalizer.floats(head, RowInputs { sum: &sums, ..inputs }),
            None => vec![1.0; problem.q_len],
        };
        for (row, output) in output.chunks_exact_mut(problem.value_dim).enumerate() {
            let dead = head.live_keys[row] == 0 || z[row] == 0.0;
            output.iter_mut().for_each(|o| *o = if dead { 0.0 } else { *o * row_factor[row] / z[row] });
        }
        (output, z, ends.last(&state))
    });
    let state: Vec<f32> = heads.iter().flat_map(|(_, _, state)| state.iter().copied()).collect();
    let state = Tensor::from_f32(&problem.state_shape(plan.streaming), state)?;
    let statistic: Vec<f32> = heads.iter().flat_map(|(_, z, _)| z.iter().copied()).collect();
    let statistic = plan.streaming.then(|| Tensor::from_f32(&problem.row_shape(), statistic)).transpose()?;
    let output: Vec<f32> = heads.into_iter().flat_map(|(output, ..)| output).collect();
    let output = Tensor::rounded(problem.dtype, &problem.output_shape(), output)?;
    Ok((Output { output, saved: statistic.iter().cloned().collect(), statistic, second: None }, state))
}

/// The gradients, and that of the initial state.
pub(super) fn backward(
    executor: &CpuExecutor,
    plan: &LinearPlan,
    backward: &BackwardCall,
    initial: Option<&Tensor>,
    state_grad: Option<&Tensor>,
) -> Result<(Gradients, Tensor), Error> {
    let call = &backward.call;
    let context = Context::new(executor, call)?;
    let problem = &call.problem;
    let (output, output_grad) = (HeadRows::new(&backward.output)?, HeadRows::new(&backward.output_grad)?);
    let statistic = backward.saved.first().map(|tensor| tensor.to_elements::<f32>()).transpose()?.unwrap_or_default();
    let statistic_grad = backward.statistic_grad.as_ref().map(|tensor| tensor.to_elements::<f32>()).transpose()?;
    let initial = initial.map(Tensor::to_f32_vec).transpose()?;
    let state_grad = state_grad.map(Tensor::to_f32_vec).transpose()?;
    let shapes: Vec<&[usize]> = call.parameters.iter().map(Tensor::shape).collect();
    let definition = &executor.lowered.definition;
    let heads = plan.each_head(&context, call, |head| {
        let kv_head = context.kv_head(head.head);
        let base = (head.batch * problem.heads + head.head) * problem.q_len;
        let [q, k, v, o, grad] = [
            head.load(&context.q, head.head, problem.q_len),
            head.load(&context.k, kv_head, problem.kv_len),
            head.load(&context.v, kv_head, problem.kv_len),
            head.load(&output, head.head, problem.q_len),
            head.load(&output_grad, head.head, problem.q_len),
        ];
        let own = if statistic.is_empty() { &[][..] } else { &statistic[base..][..problem.q_len] };
        let products = o.chunks_exact(problem.value_dim).zip(grad.chunks_exact(problem.value_dim));
        let delta: Vec<f32> = products
            .enumerate()
            .map(|(row, (o, grad))| {
                let product: f64 = o.iter().zip(grad).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                let term = match &statistic_grad {
                    Some(all) if plan.streaming => f64::from(all[base + row]) * f64::from(own[row]),
                    _ => 0.0,
                };
                (product - term) as f32
            })
            .collect();
        let inputs = RowInputs { statistic: own, delta: &delta, ..LinearPlan::rows_inputs(head) };
        let floats = |roots: &Option<Roots>| roots.as_ref().map(|roots| roots.floats(head, inputs));
        let (query_exponent, key_exponent) = (floats(&plan.query_exponent), floats(&plan.key_exponent));
        let (inverse, bias) = (floats(&plan.inverse), floats(&plan.bias));
        let (query_factor, key_factor) = (plan.query_factor.floats(head, inputs), plan.key_factor.floats(head, inputs));
        let (query_scale, key_scale) = (plan.query_scale.floats(head, inputs), plan.key_scale.floats(head, inputs));
        let divided = multiplied(query_factor.clone(), inverse.as_deref());
        let (d, dv) = (problem.head_dim, problem.value_dim);
        let ends = Ends::new(plan, head, problem);
        let last_grad = |transposed| state_grad.as_ref().map(|all| ends.end(ends.of_head(all, head), transposed));
        let dq = Sum {
            widths: [dv, d],
            rows: Rows { values: &grad, exponent: query_exponent.as_deref(), bias: bias.as_deref() },
            columns: Columns { b: &v, c: &k, exponent: key_exponent.as_deref(), factor: &key_factor, bias: None },
            offset: plan.offset(Side::Query, call),
            reversed: false,
            initial: initial.as_ref().map(|all| ends.begin(ends.of_head(all, head), true)),
        };
        let from_queries = |values, b, c, widths: [usize; 2], bias, transposed| Sum {
            widths,
            rows: Rows { values, exponent: key_exponent.as_deref(), bias: None },
            columns: Columns { b, c, exponent: query_exponent.as_deref(), factor: &divided, bias },
            offset: plan.offset(Side::Key, call),
            reversed: true,
            initial: last_grad(transposed),
        };
        let mut q_grad = dq.run().0;
        let (mut k_grad, _, first) = from_queries(&v, &grad, &q, [dv, d], bias.as_deref(), true).run();
        let mut v_grad = from_queries(&k, &q, &grad, [d, dv], None, false).run().0;
        // gradients without the factor of their own row
        let scale = |values: &mut [f32], width: usize, factors: &[f32]| {
            for (row, factor) in values.chunks_exact_mut(width).zip(factors) {
                row.iter_mut().for_each(|value| *value *= factor);
            }
        };
        if let Some(inverse) = &inverse {
            scale(&mut q_grad, d, inverse);
        }
        let sums = |a: &[f32], b: &[f32]| -> Vec<f32> {
            let rows = a.chunks_exact(d).zip(b.chunks_exact(d));
            rows.map(|(a, b)| a.iter().zip(b).map(|(x, y)| x * y).sum()).collect()
        };
        let products = [sums(&q, &q_grad), sums(&k, &k_grad)];
        scale(&mut q_grad, d, &query_scale);
        scale(&mut k_grad, d, &key_scale);
        scale(&mut v_grad, dv, &key_scale);
        let mut parameters: Vec<Vec<f64>> = definition
            .parameters
            .iter()
            .zip(&shapes)
            .map(|(parameter, shape)| vec![0.0; if parameter.learnable { shape.iter().product() } else { 0 }])
            .collect();
        for contribution in &plan.contributions {
            let side = contribution.value.side;
            let products = &products[usize::from(side == Side::Key)];
            let values = contribution.value.floats(head, inputs);
            let axes = &definition.parameters[contribution.parameter].axes;
            let index = contribution.index.ints(head, axes.len());
            let shape = shapes[contribution.parameter];
            if shape.contains(&0) {
                continue;
            }
            for (at, &value) in values.iter().enumerate() {
                let value = match contribution.of_sums {
                    true => f64::from(value) * f64::from(products[at]),
                    // rows without a live key add nothing
                    false if head.live_keys[at] == 0 => 0.0,
                    false => f64::from(value),
                };
                let place = |(axis, (&extent, index)): (&Axis, (&usize, &Vec<i32>))| {
                    let broadcast = extent == 1 && matches!(axis, Axis::Batch | Axis::Head);
                    (extent, if broadcast { 0 } else { clamp_index(index[at], extent) })
                };
                let places = axes.iter().zip(shape.iter().zip(&index)).map(place);
                let position = places.fold(0, |position, (extent, at)| position * extent + at);
                parameters[contribution.parameter][position] += value;
            }
        }
        HeadGradients { q: q_grad, k: k_grad, v: v_grad, parameters, state: ends.first_grad(&first) }
    });
    let state = heads.iter().flat_map(|head| head.state.iter().copied()).collect();
    let state = Tensor::from_f32(&problem.state_shape(plan.streaming), state)?;
    Ok((gathered(executor, backward, heads)?, state))
}

/// The gradients of a call from those of its heads: k and v summed over the query heads of a group, parameters over all.
fn gathered(executor: &CpuExecutor, backward: &BackwardCall, heads: Vec<HeadGradients>) -> Result<Gradients, Error> {
    let call = &backward.call;
    let problem = &call.problem;
    let group = problem.group();
    let sum_group = |of: fn(&HeadGradients) -> &Vec<f32>| -> Vec<f32> {
        let sums = heads.chunks(group).map(|heads| {
            let mut sum = of(&heads[0]).clone();
            for head in &heads[1..] {
                sum.iter_mut().zip(of(head)).for_each(|(sum, value)| *sum += value);
            }
            sum
        });
        sums.flatten().collect()
    };
    let (k, v) = (sum_group(|head| &head.k), sum_group(|head| &head.v));
    let q = heads.iter().flat_map(|head| head.q.iter().copied()).collect();
    let mut parameters = Parameters::new();
    for (at, declared) in executor.lowered.definition.parameters.iter().enumerate().filter(|(_, p)| p.learnable) {
        let shape = call.parameters[at].shape();
        let mut total = vec![0.0; shape.iter().product()];
        for head in &heads {
            total.iter_mut().zip(&head.parameters[at]).for_each(|(total, value)| *total += value);
        }
        parameters.insert(declared.name.clone(), Tensor::from_f64(DType::F32, shape, &total)?);
    }
    let like = |tensor: &Tensor, values| Tensor::rounded(tensor.dtype(), tensor.shape(), values);
    Ok(Gradients { q: like(&call.q, q)?, k: like(&call.k, k)?, v: like(&call.v, v)?, parameters })
}
