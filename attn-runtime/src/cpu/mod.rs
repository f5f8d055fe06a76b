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
mod forward;
mod found;
mod mask;
mod math;
mod matrix;
mod parameter_gradient;
mod program;
mod rows;

use std::sync::Arc;

use attn_dsl::lower::{Class, Lowered};

use self::forward::Programs;
use self::mask::MaskProgram;
use self::parameter_gradient::GradientPlan;
use self::program::Program;
use crate::attention::{Executor, Gradients, Output};
use crate::call::{BackwardCall, Call};
use crate::error::Error;
use crate::packing;
use crate::plan::Plan;

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
            lowered,
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

    fn forward(&self, call: &Call, _plan: Plan) -> Result<Output, Error> {
        match &call.packing {
            Some(packing) => {
                packing::forward(&self.lowered.definition, call, packing, |own| forward::forward(self, own))
            }
            None => forward::forward(self, call),
        }
    }

    fn backward(&self, call: &BackwardCall, _deterministic: bool) -> Result<Gradients, Error> {
        match &call.call.packing {
            Some(packing) => {
                packing::backward(&self.lowered.definition, call, packing, |own| backward::backward(self, own))
            }
            None => backward::backward(self, call),
        }
    }
}
