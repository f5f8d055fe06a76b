//! The backward pass: what its kernels need besides the call's tensors, and their launches in order.
//!
//! Invariant: memory that kernels share among themselves lives until the last of them is issued, and is given back in stream order.

use attn_dsl::cuda::{Argument, Length, RowArray, TensorRole};

use super::compiled::Compiled;
use super::pack::Bindings;
use super::{HEADS_IN_TURNS, KernelExecutor, bind_call, key_head_group};
use crate::attention::Gradients;
use crate::call::{BackwardCall, Problem};
use crate::error::Error;
use crate::machine::DeviceMemory;
use crate::tensor::{DType, Tensor};

/// Sums of dq over tiles of keys, and whose turn it is to add, where the schedule has them.
struct QueryGradSums {
    sums: Box<dyn DeviceMemory>,
    turns: Option<Box<dyn DeviceMemory>>,
}

impl KernelExecutor {
    pub(super) fn run_backward(&self, backward: &BackwardCall, deterministic: bool) -> Result<Gradients, Error> {
        let call = &backward.call;
        let problem = &call.problem;
        let kernels = self.library.backward(problem, deterministic)?;
        let gradient = |name: &str, tensor: &Tensor| self.allocate(name, problem.dtype, tensor.shape());
        let (q_grad, k_grad, v_grad) = (gradient("dq", &call.q)?, gradient("dk", &call.k)?, gradient("dv", &call.v)?);
        let rows = problem.row_shape().iter().product::<usize>() * DType::F32.size();
        let delta = self.machine.allocate("delta", rows)?;
        let live_keys = self.live_keys(&kernels, problem)?;
        let query_grads = self.query_grad_sums(&kernels, problem)?;
        let zero = self.zero(call)?;
        let statistic_grad = backward.statistic_grad.as_ref().map(Tensor::to_contiguous).transpose()?;
        let mut parameter_gradients = self.parameter_gradients(&kernels, call)?;

        let (q, k, v) =
            (self.aligned(call, "q", &call.q)?, self.aligned(call, "k", &call.k)?, self.aligned(call, "v", &call.v)?);
        let output = self.aligned(call, "output", backward.second.as_ref().unwrap_or(&backward.output))?;
        let output_grad = self.aligned(call, "output_grad", &backward.output_grad)?;
        let mut bindings = Bindings::default();
        bind_call(&mut bindings, call, [&q, &k, &v])?;
        bindings.zero = zero.as_ref().map(|memory| memory.address());
        bindings.tensor(TensorRole::Output, &output);
        bindings.tensor(TensorRole::OutputGrad, &output_grad);
        bindings.tensor(TensorRole::QGrad, &q_grad);
        bindings.tensor(TensorRole::KGrad, &k_grad);
        bindings.tensor(TensorRole::VGrad, &v_grad);
        for (row, tensor) in self.lowered.forward.saved.iter().zip(&backward.saved) {
            bindings.row(RowArray::Saved(*row), tensor.device_address()?);
        }
        bindings.row(RowArray::Delta, delta.address());
        let statistic_address = statistic_grad.as_ref().map(Tensor::device_address).transpose()?;
        bindings.row(RowArray::StatisticGrad, statistic_address.unwrap_or(0));
        if let Some(buffer) = &live_keys {
            bindings.row(RowArray::LiveKeys, buffer.address());
        }
        if kernels.iter().any(|compiled| compiled.source.persistent) {
            bindings.works_taken = Some(self.works_taken()?);
        }
        let in_turns = query_grads.as_ref().is_some_and(|sums| sums.turns.is_some());
        let at_least = if in_turns { HEADS_IN_TURNS } else { 1 };
        bindings.length(Length::KeyHeadGroup, key_head_group(problem, at_least));
        if let Some(QueryGradSums { sums, turns }) = &query_grads {
            bindings.query_grad_sums = Some(sums.address());
            bindings.query_grad_turns = turns.as_ref().map(|memory| memory.address());
        }
        let _maps = self.bind_sequence_maps(&mut bindings, &kernels, problem)?;
        let extremes = self.bind_extremes(&mut bindings, call, &kernels)?;
        parameter_gradients.bind(&mut bindings);
        for compiled in kernels.iter() {
            let own_grid = parameter_gradients.grid(compiled, problem).or_else(|| extremes.grid(compiled, call));
            let grid = own_grid.unwrap_or_else(|| self.grid(compiled, problem));
            self.launch(call, compiled, grid, &bindings)?;
        }
        self.keep_extremes(extremes, call);
        let parameters = parameter_gradients.finish(self, call)?;
        Ok(Gradients { q: q_grad, k: k_grad, v: v_grad, parameters })
    }

    /// Memory for the sums of dq, where a kernel adds to them: a tile whose first addition replaces what was there needs no zeros.
    fn query_grad_sums(&self, kernels: &[Compiled], problem: &Problem) -> Result<Option<QueryGradSums>, Error> {
        let floats =
            |argument: &Argument| if let Argument::QueryGradSums(tile) = argument { Some(*tile) } else { None };
        let find = |compiled: &Compiled| {
            let source = &compiled.source;
            source.arguments.iter().find_map(floats).map(|tile| (tile as usize, source.block_q as usize))
        };
        let Some((tile, block_q)) = kernels.iter().find_map(find) else { return Ok(None) };
        let in_turn = kernels.iter().any(|compiled| compiled.source.arguments.contains(&Argument::QueryGradTurns));
        let block_q = block_q.max(1);
        let tiles = match problem.packing {
            // every sequence's last tile may be one that is not whole
            Some(packing) => (problem.q_len / block_q + packing.sequences) * problem.heads,
            None => problem.q_len.div_ceil(block_q) * problem.heads * problem.batch,
        };
        let (name, bytes) = ("sums of dq", tiles * tile * DType::F32.size());
        let sums = if in_turn { self.machine.allocate(name, bytes) } else { self.machine.zeroed(name, bytes) }?;
        let turns = in_turn.then(|| self.machine.zeroed("turns of the sums of dq", tiles * DType::I32.size()));
        Ok(Some(QueryGradSums { sums, turns: turns.transpose()? }))
    }
}
