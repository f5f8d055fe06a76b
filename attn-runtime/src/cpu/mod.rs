//! The tiled, multi-threaded CPU executor.
//!
//! It runs a lowered program as the GPU does: tiles of query rows by key columns, nothing of size q x kv in memory, the
//! backward pass recomputed from the row statistics. All arithmetic is f32, whatever the type of the tensors. A packed batch is
//! run sequence by sequence, each in parallel.
//!
//! Invariant: results do not depend on the number of threads. Each tile of a result is computed by one task in a fixed order;
//! sums over tasks are added in the order of the tasks.

mod backward;
mod context;
mod evaluate;
mod extremes;
mod feature;
mod forward;
mod found;
mod linear;
mod mask;
mod math;
mod matrix;
mod parameter_gradient;
mod program;
mod rows;

use std::sync::Arc;

use attn_dsl::lower::{Class, Linear, Lowered, NotLinear};
use attn_dsl::plan::PlanError;

use self::feature::FeatureMaps;
use self::forward::Programs;
use self::linear::LinearPlan;
use self::mask::MaskProgram;
use self::parameter_gradient::GradientPlan;
use self::program::Program;
use crate::attention::{Executor, Gradients, Output};
use crate::call::{BackwardCall, Call, Problem};
use crate::error::Error;
use crate::packing;
use crate::plan::{Plan, Schedule};
use crate::tensor::Tensor;

/// Query rows of a tile.
const ROWS: usize = 64;
/// Key columns of a tile.
const COLUMNS: usize = 64;

/// A lowered variant and its programs.
pub(crate) struct CpuExecutor {
    lowered: Arc<Lowered>,
    mask: Option<MaskProgram>,
    passes: Vec<rows::Pass>,
    main: Programs,
    /// Of the second output.
    second: Option<Programs>,
    /// Roots 0 and 1: probability and product gradient.
    key_pass: Program,
    /// Root 0: the factor of the product gradient.
    grad_scale: Option<Program>,
    /// The gradients of parameters, and the product gradient of the query pass.
    gradient: GradientPlan,
    /// Of elements of q and k.
    features: FeatureMaps,
    /// The weight in parts, or why it has none.
    linear: Result<LinearPlan, NotLinear>,
}

impl CpuExecutor {
    pub(crate) fn new(lowered: Arc<Lowered>) -> Self {
        let graph = &lowered.graph;
        let program = |roots: &[_]| Program::new(graph, roots);
        let backward = &lowered.backward;
        CpuExecutor {
            mask: lowered.mask.map(|mask| MaskProgram::new(&lowered, mask)),
            passes: lowered.row_passes.iter().map(|pass| rows::Pass::new(&lowered, pass)).collect(),
            main: Programs::new(lowered.as_ref().clone()),
            second: lowered.second_output.as_ref().map(|second| Programs::new(lowered.with_program(second))),
            key_pass: program(&[backward.probability, backward.product_grad]),
            grad_scale: backward.product_grad_scale.map(|root| program(&[root])),
            gradient: GradientPlan::new(&lowered),
            features: FeatureMaps::new(&lowered),
            linear: Linear::of(&lowered).map(|linear| LinearPlan::new(&lowered, &linear)),
            lowered,
        }
    }
}

impl CpuExecutor {
    /// What a call is computed with in linear time, if it is.
    fn linear(&self, schedule: Schedule, problem: &Problem, backward: bool) -> Result<Option<&LinearPlan>, Error> {
        let refused = |reason: String| Error::from(PlanError::NotLinear { reason });
        let plan = match (&self.linear, problem.packing) {
            (Err(why), _) => Err(refused(why.to_string())),
            (Ok(_), Some(_)) => Err(refused("packed batches are computed by the quadratic schedule".to_owned())),
            (Ok(plan), None) => Ok(plan),
        };
        let is_empty = [problem.q_len, problem.kv_len, problem.heads, problem.batch].contains(&0);
        match schedule {
            Schedule::Quadratic => Ok(None),
            // a gradient that is a difference of large sums is more exact pair by pair
            Schedule::Auto => Ok(plan.ok().filter(|plan| !(is_empty || backward && plan.cancels))),
            Schedule::Linear => Ok(Some(plan?).filter(|_| !is_empty)),
        }
    }
}

impl Executor for CpuExecutor {
    fn has_statistic(&self) -> bool {
        self.lowered.class != Class::Elementwise
    }

    fn saved_rows(&self) -> usize {
        self.lowered.forward.saved.len()
    }

    fn has_second_output(&self) -> bool {
        self.lowered.second_output.is_some()
    }

    fn forward(&self, call: &Call, _plan: Plan, schedule: Schedule) -> Result<Output, Error> {
        let call = &self.features.call(call)?;
        if let Some(plan) = self.linear(schedule, &call.problem, false)? {
            return Ok(linear::forward(self, plan, call, None)?.0);
        }
        match &call.packing {
            Some(packing) => {
                packing::forward(&self.lowered.definition, call, packing, |own| forward::forward(self, own))
            }
            None => forward::forward(self, call),
        }
    }

    fn backward(&self, call: &BackwardCall, _deterministic: bool, schedule: Schedule) -> Result<Gradients, Error> {
        let mapped = &self.features.backward_call(call)?;
        if let Some(plan) = self.linear(schedule, &call.call.problem, true)? {
            return self.features.chain(&call.call, linear::backward(self, plan, mapped, None, None)?.0);
        }
        let gradients = match &mapped.call.packing {
            Some(packing) => {
                packing::backward(&self.lowered.definition, mapped, packing, |own| backward::backward(self, own))
            }
            None => backward::backward(self, mapped),
        }?;
        self.features.chain(&call.call, gradients)
    }

    fn state_forward(&self, call: &Call, initial: Option<&Tensor>) -> Result<(Output, Tensor), Error> {
        let mapped = self.features.call(call)?;
        let plan = self.linear.as_ref().map_err(|why| PlanError::NotLinear { reason: why.to_string() })?;
        linear::forward(self, plan, &mapped, initial)
    }

    fn state_backward(
        &self,
        call: &BackwardCall,
        initial: &Tensor,
        state_grad: Option<&Tensor>,
    ) -> Result<(Gradients, Tensor), Error> {
        let mapped = self.features.backward_call(call)?;
        let plan = self.linear.as_ref().map_err(|why| PlanError::NotLinear { reason: why.to_string() })?;
        let (gradients, state) = linear::backward(self, plan, &mapped, Some(initial), state_grad)?;
        Ok((self.features.chain(&call.call, gradients)?, state))
    }
}
