//! The oracle: attention in f64 from the definition alone, quadratic and naive, as the reference of every other executor.
//!
//! It shares nothing with them beyond the expression graph of the definition: it does not see lowered programs, it
//! differentiates by dual numbers, and it forms each weight as defined, without a shift. A score of an exponential must
//! therefore stay below about 700 in absolute value (350 where squares are summed), where f64 overflows.

mod calls;
mod dual;
mod feature;
#[cfg(test)]
mod golden;
#[cfg(feature = "testing")]
mod magnitude;
mod naive;
mod place;
mod row;

use std::sync::Arc;

use attn_dsl::definition::Definition;

use crate::attention::{Executor, Gradients, Output};
use crate::call::{BackwardCall, Call};
use crate::error::Error;
use crate::parameter::Parameters;
use crate::plan::{Plan, Schedule};
use crate::tensor::{DType, Tensor};

pub(crate) use calls::Calls;
#[cfg(feature = "testing")]
pub(crate) use magnitude::Magnitudes;
pub(crate) use naive::NaiveOutput;
#[cfg(feature = "testing")]
pub(crate) use naive::{Naive, NaiveGradients, StatisticKind, statistic_kind};

/// The oracle as an executor: results rounded to the types that the other devices return.
pub(crate) struct OracleExecutor {
    definition: Arc<Definition>,
}

impl OracleExecutor {
    pub(crate) fn new(definition: Arc<Definition>) -> Self {
        OracleExecutor { definition }
    }
}

impl Executor for OracleExecutor {
    fn has_statistic(&self) -> bool {
        naive::statistic_kind(&self.definition).is_some()
    }

    fn saved_rows(&self) -> usize {
        0
    }

    fn has_second_output(&self) -> bool {
        false
    }

    fn forward(&self, call: &Call, _plan: Plan, _schedule: Schedule) -> Result<Output, Error> {
        let problem = &call.problem;
        let NaiveOutput { output, statistic, .. } = Calls::new(&self.definition, call)?.forward()?;
        let statistic =
            statistic.map(|values| Tensor::from_f64(DType::F32, &problem.row_shape(), &values)).transpose()?;
        let output = Tensor::from_f64(problem.dtype, &problem.output_shape(), &output)?;
        Ok(Output { output, statistic, saved: Vec::new(), second: None })
    }

    fn backward(&self, backward: &BackwardCall, _deterministic: bool, _schedule: Schedule) -> Result<Gradients, Error> {
        let call = &backward.call;
        let output_grad = backward.output_grad.to_f64_vec()?;
        let statistic_grad = backward.statistic_grad.as_ref().map(Tensor::to_f64_vec).transpose()?;
        let gradients = Calls::new(&self.definition, call)?.backward(&output_grad, statistic_grad.as_deref())?;
        let round = |like: &Tensor, values: &[f64]| Tensor::from_f64(like.dtype(), like.shape(), values);
        let mut parameters = Parameters::new();
        for ((declared, tensor), gradient) in
            self.definition.parameters.iter().zip(&call.parameters).zip(&gradients.parameters)
        {
            if let Some(values) = gradient {
                parameters.insert(declared.name.clone(), Tensor::from_f64(DType::F32, tensor.shape(), values)?);
            }
        }
        Ok(Gradients {
            q: round(&call.q, &gradients.q)?,
            k: round(&call.k, &gradients.k)?,
            v: round(&call.v, &gradients.v)?,
            parameters,
        })
    }
}
