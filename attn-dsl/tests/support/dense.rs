//! A variant as its definition says, dense, in f64, from the products on; and its gradients by finite differences.

use attn_dsl::definition::{Axis, Definition};
use attn_dsl::ir::evaluate::{Environment, Value, evaluate};
use attn_dsl::ir::{Input, ParameterId, Reduction, Type};

pub(crate) const BATCH: usize = 1;
pub(crate) const HEADS: usize = 2;
pub(crate) const QUERIES: usize = 5;
pub(crate) const KEYS: usize = 4;
pub(crate) const WIDTH: usize = 2;
pub(crate) const SCALE: f64 = 0.4;

/// Inputs and upstream gradients. One batch, so rows are `[h][q]`.
#[derive(Clone)]
pub(crate) struct Problem {
    pub(crate) products: Vec<f64>,
    pub(crate) values: Vec<f64>,
    pub(crate) output_grad: Vec<f64>,
    pub(crate) statistic_grad: Vec<f64>,
    pub(crate) parameters: Vec<Vec<f64>>,
}

/// What is compared.
#[derive(Clone, Debug)]
pub(crate) struct Gradients {
    pub(crate) products: Vec<f64>,
    pub(crate) values: Vec<f64>,
    pub(crate) parameters: Vec<Vec<f64>>,
}

/// Which row statistic enters the loss.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Statistic {
    None,
    Z,
    LogZ,
}

pub(crate) fn extent(axis: &Axis) -> usize {
    match axis {
        Axis::Batch => BATCH,
        Axis::Head => HEADS,
        Axis::Query => QUERIES,
        Axis::Key => KEYS,
        Axis::Fixed(n) => *n as usize,
        Axis::Named(_) => panic!("no named lengths in these tests"),
    }
}

pub(crate) fn flat_index(definition: &Definition, parameter: ParameterId, index: &[i64]) -> usize {
    definition.parameter(parameter).axes.iter().zip(index).fold(0, |flat, (axis, &at)| {
        let extent = extent(axis);
        flat * extent + at.clamp(0, extent as i64 - 1) as usize
    })
}

impl Problem {
    /// Numbers from a small generator, away from kinks of the variants used; parameters are positive.
    pub(crate) fn new(definition: &Definition, seed: u64, spread: f64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0
        };
        let mut draw = |n: usize, spread: f64| (0..n).map(|_| next() * spread).collect::<Vec<f64>>();
        let products = draw(HEADS * QUERIES * KEYS, spread);
        let values = draw(HEADS * KEYS * WIDTH, 1.0);
        let output_grad = draw(HEADS * QUERIES * WIDTH, 1.0);
        let statistic_grad = draw(HEADS * QUERIES, 1.0);
        let parameters = definition
            .parameters
            .iter()
            .map(|p| draw(p.axes.iter().map(extent).product(), 0.4).iter().map(|x| 0.8 + x).collect())
            .collect();
        Self { products, values, output_grad, statistic_grad, parameters }
    }
}

/// The place of one pair or row, without what lowering introduces.
pub(crate) struct Place<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) problem: &'a Problem,
    pub(crate) head: usize,
    pub(crate) query: usize,
    pub(crate) key: Option<usize>,
    pub(crate) score: Option<f64>,
    pub(crate) reductions: Option<[f64; 3]>,
    pub(crate) live: usize,
}

impl Place<'_> {
    pub(crate) fn pair(&self) -> usize {
        (self.head * QUERIES + self.query) * KEYS + self.key.expect("a pair has a key")
    }
}

pub(crate) fn reduction_at(reductions: [f64; 3], reduction: Reduction) -> f64 {
    match reduction {
        Reduction::Sum => reductions[0],
        Reduction::Max => reductions[1],
        Reduction::SumSquares => reductions[2],
    }
}

impl Environment for Place<'_> {
    fn input(&self, input: Input) -> Value {
        match input {
            Input::Product => Value::Float(self.problem.products[self.pair()]),
            Input::Score => Value::Float(self.score.expect("a score")),
            Input::Batch => Value::Int(0),
            Input::Head => Value::Int(self.head as i64),
            Input::Query => Value::Int(self.query as i64),
            Input::Key => Value::Int(self.key.expect("a pair has a key") as i64),
            Input::Scale => Value::Float(SCALE),
            Input::HeadDim => Value::Int(8),
            Input::QueryLen => Value::Int(QUERIES as i64),
            Input::KeyLen => Value::Int(KEYS as i64),
            Input::LiveKeys => Value::Int(self.live as i64),
            Input::Reduction(r) => Value::Float(reduction_at(self.reductions.expect("reductions"), r)),
            other => panic!("{other:?} is not part of a definition"),
        }
    }

    fn parameter(&self, parameter: ParameterId, index: &[i64]) -> Value {
        assert_eq!(self.definition.parameter(parameter).ty, Type::Float);
        let values = &self.problem.parameters[parameter.0 as usize];
        Value::Float(values[flat_index(self.definition, parameter, index)])
    }
}

/// The outputs `[h][q][width]` and the row normalizers `[h][q]` (NaN in rows without a live key).
pub(crate) fn forward(definition: &Definition, problem: &Problem) -> (Vec<f64>, Vec<f64>) {
    let graph = &definition.graph;
    let (mut outputs, mut normalizers) = (Vec::new(), Vec::new());
    for head in 0..HEADS {
        for query in 0..QUERIES {
            let mut place =
                Place { definition, problem, head, query, key: None, score: None, reductions: None, live: 0 };
            let mut live = Vec::new();
            for key in 0..KEYS {
                place.key = Some(key);
                if definition.mask.is_none_or(|mask| evaluate(graph, mask, &place).bool()) {
                    live.push(key);
                }
            }
            place.live = live.len();
            let mut output = [0.0; WIDTH];
            let mut reductions = [0.0, f64::NEG_INFINITY, 0.0];
            for &key in &live {
                place.key = Some(key);
                place.score = None;
                place.score = Some(evaluate(graph, definition.score, &place).float());
                let w = evaluate(graph, definition.activation, &place).float();
                reductions = [reductions[0] + w, reductions[1].max(w), reductions[2] + w * w];
                for (at, output) in output.iter_mut().enumerate() {
                    *output += w * problem.values[(head * KEYS + key) * WIDTH + at];
                }
            }
            place.key = None;
            place.reductions = Some(reductions);
            let z = match definition.normalizer {
                _ if live.is_empty() => f64::NAN,
                Some(z) => evaluate(graph, z, &place).float(),
                None => 1.0,
            };
            let divisor = if live.is_empty() || z == 0.0 { 1.0 } else { z };
            outputs.extend(output.map(|o| o / divisor));
            normalizers.push(z);
        }
    }
    (outputs, normalizers)
}

fn loss(definition: &Definition, problem: &Problem, statistic: Statistic) -> f64 {
    let (outputs, normalizers) = forward(definition, problem);
    let outputs: f64 = outputs.iter().zip(&problem.output_grad).map(|(o, g)| o * g).sum();
    let rows = normalizers.iter().zip(&problem.statistic_grad).filter(|(z, _)| !z.is_nan());
    let statistics: f64 = match statistic {
        Statistic::None => 0.0,
        Statistic::Z => rows.map(|(z, g)| z * g).sum(),
        Statistic::LogZ => rows.map(|(z, g)| z.ln() * g).sum(),
    };
    outputs + statistics
}

/// Central differences of the loss.
pub(crate) fn gradients(definition: &Definition, problem: &Problem, statistic: Statistic) -> Gradients {
    let numeric = |select: &dyn Fn(&mut Problem) -> &mut Vec<f64>| -> Vec<f64> {
        let count = select(&mut problem.clone()).len();
        let at = |i: usize, step: f64| {
            let mut moved = problem.clone();
            select(&mut moved)[i] += step;
            loss(definition, &moved, statistic)
        };
        let step = 1e-5;
        (0..count).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect()
    };
    Gradients {
        products: numeric(&|p| &mut p.products),
        values: numeric(&|p| &mut p.values),
        parameters: (0..problem.parameters.len()).map(|k| numeric(&move |p| &mut p.parameters[k])).collect(),
    }
}
