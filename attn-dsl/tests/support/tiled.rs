//! A lowered program, executed as its documentation says, one row at a time.
//!
//! Reading a row that the forward pass did not save is a panic: the contract between the passes is part of what is tested.

use attn_dsl::ir::evaluate::{Environment, Value, evaluate};
use attn_dsl::ir::{Input, NodeId, ParameterId, Reduction};
use attn_dsl::lower::{Class, Lowered, SavedRow};

use super::dense::{Gradients, HEADS, KEYS, Place, Problem, QUERIES, WIDTH, flat_index, reduction_at};

/// What lowering's inputs are at a place.
#[derive(Clone, Copy, Default)]
struct Extra {
    reductions: [Option<f64>; 3],
    shift: Option<f64>,
    statistic: Option<f64>,
    arg_max: Option<usize>,
    delta: Option<f64>,
    output_grad_product: Option<f64>,
}

struct At<'a> {
    place: Place<'a>,
    extra: Extra,
}

impl Environment for At<'_> {
    fn input(&self, input: Input) -> Value {
        let there = |value: Option<f64>| Value::Float(value.unwrap_or_else(|| panic!("{input:?} is not here")));
        match input {
            Input::Score => panic!("lowering left a score"),
            Input::Reduction(r) => {
                let known = self.extra.reductions.map(|r| r.unwrap_or(f64::NAN));
                let value = reduction_at(known, r);
                assert!(!value.is_nan(), "{input:?} is not here");
                Value::Float(value)
            }
            Input::Shift => there(self.extra.shift),
            Input::Statistic => there(self.extra.statistic),
            Input::Delta => there(self.extra.delta),
            Input::OutputGradProduct => there(self.extra.output_grad_product),
            Input::ArgMax => Value::Int(self.extra.arg_max.expect("the arg max is not here") as i64),
            other => self.place.input(other),
        }
    }

    fn parameter(&self, parameter: ParameterId, index: &[i64]) -> Value {
        self.place.parameter(parameter, index)
    }
}

/// One row after the forward pass.
struct Row {
    live: Vec<usize>,
    output: [f64; WIDTH],
    extra: Extra,
    z: f64,
}

/// Outputs, statistics (NaN where there is none) and gradients.
pub(crate) fn run(lowered: &Lowered, problem: &Problem) -> (Vec<f64>, Vec<f64>, Gradients) {
    let (mut outputs, mut statistics) = (Vec::new(), Vec::new());
    let mut gradients = Gradients {
        products: vec![0.0; problem.products.len()],
        values: vec![0.0; problem.values.len()],
        parameters: problem.parameters.iter().map(|p| vec![0.0; p.len()]).collect(),
    };
    for head in 0..HEADS {
        for query in 0..QUERIES {
            let row = forward(lowered, problem, head, query);
            outputs.extend(row.output);
            statistics.push(if row.live.is_empty() { f64::NAN } else { row.extra.statistic.unwrap_or(f64::NAN) });
            if !row.live.is_empty() {
                backward(lowered, problem, head, query, row, &mut gradients);
            }
        }
    }
    (outputs, statistics, gradients)
}

fn at<'a>(lowered: &'a Lowered, problem: &'a Problem, head: usize, query: usize, live: usize) -> At<'a> {
    let definition = &lowered.definition;
    let place = Place { definition, problem, head, query, key: None, score: None, reductions: None, live };
    At { place, extra: Extra::default() }
}

fn forward(lowered: &Lowered, problem: &Problem, head: usize, query: usize) -> Row {
    let graph = &lowered.graph;
    let float = |node: NodeId, at: &At<'_>| evaluate(graph, node, at).float();
    let mut here = at(lowered, problem, head, query, 0);
    let live: Vec<usize> = (0..KEYS)
        .filter(|&key| {
            here.place.key = Some(key);
            lowered.mask.is_none_or(|mask| evaluate(graph, mask, &here).bool())
        })
        .collect();
    here.place.live = live.len();
    if live.is_empty() {
        return Row { live, output: [0.0; WIDTH], extra: Extra::default(), z: f64::NAN };
    }
    let pairs: Vec<f64> = live
        .iter()
        .map(|&key| {
            here.place.key = Some(key);
            float(lowered.forward.pair, &here)
        })
        .collect();
    here.place.key = None;
    let shifted = lowered.class == Class::ShiftedExponential;
    assert!(shifted || lowered.forward.shift_floors.is_empty());
    let floors: Vec<f64> = lowered.forward.shift_floors.iter().map(|&floor| float(floor, &here)).collect();
    let shift = floors.iter().chain(&pairs).copied().fold(f64::NEG_INFINITY, f64::max);
    let shift = if shift == f64::NEG_INFINITY { 0.0 } else { shift };
    let weights: Vec<f64> = if shifted { pairs.iter().map(|t| (t - shift).exp2()).collect() } else { pairs };
    for &reduction in &lowered.forward.reductions {
        let (slot, value) = match reduction {
            Reduction::Sum => (0, weights.iter().sum()),
            Reduction::Max => (1, weights.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
            Reduction::SumSquares => (2, weights.iter().map(|w| w * w).sum()),
        };
        here.extra.reductions[slot] = Some(value);
    }
    here.extra.shift = shifted.then_some(shift);
    let z = lowered.forward.normalizer.map_or(1.0, |z| float(z, &here));
    let mut output = [0.0; WIDTH];
    for (&key, w) in live.iter().zip(&weights) {
        for (at, output) in output.iter_mut().enumerate() {
            *output += w * problem.values[(head * KEYS + key) * WIDTH + at] / if z == 0.0 { 1.0 } else { z };
        }
    }
    let largest = (0..live.len()).rev().max_by(|&a, &b| weights[a].total_cmp(&weights[b]));
    here.extra.arg_max = largest.filter(|_| lowered.forward.arg_max).map(|at| live[at]);
    here.extra.statistic = match lowered.class {
        Class::Elementwise => None,
        Class::Streaming => Some(z),
        Class::ShiftedExponential => Some(std::f64::consts::LN_2 * (shift + z.log2())),
    };
    let extra = keep(here.extra, &lowered.forward.saved);
    Row { live, output, extra, z }
}

/// Only what is saved.
fn keep(all: Extra, saved: &[SavedRow]) -> Extra {
    let mut extra = Extra::default();
    for row in saved {
        match row {
            SavedRow::Statistic => extra.statistic = all.statistic,
            SavedRow::Shift => extra.shift = all.shift,
            SavedRow::Reduction(Reduction::Sum) => extra.reductions[0] = all.reductions[0],
            SavedRow::Reduction(Reduction::Max) => extra.reductions[1] = all.reductions[1],
            SavedRow::Reduction(Reduction::SumSquares) => extra.reductions[2] = all.reductions[2],
            SavedRow::ArgMax => extra.arg_max = all.arg_max,
            SavedRow::Row(row) => panic!("{row}: these variants have no row passes"),
        }
    }
    extra
}

fn backward(lowered: &Lowered, problem: &Problem, head: usize, query: usize, row: Row, gradients: &mut Gradients) {
    let (graph, backward) = (&lowered.graph, &lowered.backward);
    let float = |node: NodeId, at: &At<'_>| evaluate(graph, node, at).float();
    let mut here = at(lowered, problem, head, query, row.live.len());
    here.extra = row.extra;
    let output_grad = &problem.output_grad[(head * QUERIES + query) * WIDTH..][..WIDTH];
    let statistic_grad = problem.statistic_grad[head * QUERIES + query];
    let from_statistic = match lowered.class {
        Class::Elementwise => 0.0,
        Class::Streaming => row.z * statistic_grad,
        Class::ShiftedExponential => statistic_grad,
    };
    let inner: f64 = output_grad.iter().zip(&row.output).map(|(g, o)| g * o).sum();
    here.extra.delta = backward.needs_delta.then_some(inner - from_statistic);
    for gradient in backward.parameters.iter().filter(|gradient| !gradient.per_pair) {
        add(lowered, gradients, gradient.parameter, &gradient.index, float(gradient.value, &here), &here);
    }
    let scale = backward.product_grad_scale.map_or(1.0, |scale| float(scale, &here));
    for &key in &row.live {
        here.place.key = Some(key);
        let values = &problem.values[(head * KEYS + key) * WIDTH..][..WIDTH];
        here.extra.output_grad_product = Some(output_grad.iter().zip(values).map(|(g, v)| g * v).sum());
        let probability = float(backward.probability, &here);
        for (at, grad) in output_grad.iter().enumerate() {
            gradients.values[(head * KEYS + key) * WIDTH + at] += probability * grad;
        }
        gradients.products[here.place.pair()] = float(backward.product_grad, &here) * scale;
        for gradient in backward.parameters.iter().filter(|gradient| gradient.per_pair) {
            add(lowered, gradients, gradient.parameter, &gradient.index, float(gradient.value, &here), &here);
        }
    }
}

fn add(
    lowered: &Lowered,
    gradients: &mut Gradients,
    parameter: ParameterId,
    index: &[NodeId],
    value: f64,
    here: &At<'_>,
) {
    let index: Vec<i64> = index.iter().map(|&i| evaluate(&lowered.graph, i, here).int()).collect();
    gradients.parameters[parameter.0 as usize][flat_index(&lowered.definition, parameter, &index)] += value;
}
