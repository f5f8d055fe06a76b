//! What inputs and parameter reads are worth at one pair or row of a call, in f64.

use attn_dsl::ir::{Input, ParameterId, Reduction};

use super::dual::{Place, Value};
use crate::call::Call;
use crate::tensor::{DType, TensorError};

/// A parameter's values in row-major order.
enum Values {
    Float(Vec<f64>),
    Int(Vec<i32>),
}

pub(crate) struct ParameterTable {
    shape: Vec<usize>,
    values: Values,
}

impl ParameterTable {
    /// All parameters of a call, on the host.
    pub(crate) fn all(call: &Call) -> Result<Vec<ParameterTable>, TensorError> {
        let table = |tensor: &crate::Tensor| {
            let values = match tensor.dtype() {
                DType::I32 => Values::Int(tensor.to_i32_vec()?),
                _ => Values::Float(tensor.to_f64_vec()?),
            };
            Ok(ParameterTable { shape: tensor.shape().to_vec(), values })
        };
        call.parameters.iter().map(table).collect()
    }

    /// Adds `step` times a direction to the values of a float parameter.
    #[cfg(feature = "testing")]
    pub(crate) fn shift(&mut self, direction: &[f64], step: f64) {
        if let Values::Float(values) = &mut self.values {
            values.iter_mut().zip(direction).for_each(|(value, d)| *value += step * d);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The row-major position of an index, each component clamped into its axis; `None` if the parameter is empty.
    pub(crate) fn position(&self, index: &[i32]) -> Option<usize> {
        let mut position = 0;
        for (&extent, &i) in self.shape.iter().zip(index) {
            position = position * extent + usize::try_from(i).unwrap_or(0).min(extent.checked_sub(1)?);
        }
        Some(position)
    }

    fn value(&self, index: &[i32]) -> Value {
        let position = self.position(index);
        match &self.values {
            Values::Float(values) => Value::Float(position.map_or(0.0, |p| values[p])),
            Values::Int(values) => Value::Int(position.map_or(0, |p| values[p])),
        }
    }
}

/// Reductions of one row's weights.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reductions {
    pub(crate) sum: f64,
    pub(crate) max: f64,
    pub(crate) sum_squares: f64,
}

/// A place of evaluation. Fields that a stage has not computed yet hold zeros; no expression of that stage reads them.
pub(crate) struct PairPlace<'a> {
    pub(crate) call: &'a Call,
    pub(crate) tables: &'a [ParameterTable],
    pub(crate) batch: usize,
    pub(crate) head: usize,
    pub(crate) query: usize,
    pub(crate) key: usize,
    pub(crate) product: f64,
    pub(crate) live_keys: usize,
    pub(crate) reductions: Reductions,
    /// The greatest live score of the row.
    pub(crate) greatest: f64,
    /// The pair's normalized weight.
    pub(crate) probability: f64,
}

impl Place for PairPlace<'_> {
    fn input(&self, input: Input) -> Value {
        // Extents are below 2^24, so each fits.
        let int = |x: usize| Value::Int(x as i32);
        let problem = &self.call.problem;
        match input {
            Input::Product => Value::Float(self.product),
            Input::Batch => int(self.call.first_batch + self.batch),
            Input::Head => int(self.head),
            Input::Query => int(self.query),
            Input::Key => int(self.key),
            Input::Scale => Value::Float(f64::from(self.call.scale)),
            Input::HeadDim => int(problem.head_dim),
            Input::QueryLen => int(problem.q_len),
            Input::KeyLen => int(problem.kv_len),
            Input::LiveKeys => int(self.live_keys),
            Input::Size(id) => int(self.call.sizes[id.0 as usize]),
            Input::Reduction(Reduction::Sum) => Value::Float(self.reductions.sum),
            Input::Reduction(Reduction::Max) => Value::Float(self.reductions.max),
            Input::Reduction(Reduction::SumSquares) => Value::Float(self.reductions.sum_squares),
            Input::GreatestScore => Value::Float(self.greatest),
            Input::Probability => Value::Float(self.probability),
            Input::Score
            | Input::Row(_)
            | Input::Shift
            | Input::Statistic
            | Input::ArgMax
            | Input::Delta
            | Input::OutputGradProduct
            | Input::FirstQuery
            | Input::LastQuery
            | Input::FirstKey
            | Input::LastKey => unreachable!("{input:?} is not an input of a definition's expressions"),
        }
    }

    fn parameter(&self, parameter: ParameterId, index: &[i32]) -> Value {
        self.tables[parameter.0 as usize].value(index)
    }
}
