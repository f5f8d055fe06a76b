//! The linear-time schedule: segments, their states, and the launches in order.
//!
//! Invariants: a segment is a whole number of chunks; one buffer of states serves all sums of a pass, which follow one another in
//! stream order; without queries, keys or heads there is nothing that this schedule would do, and the quadratic one runs.

use attn_dsl::cuda::{GROUP_SUM_THREADS, KernelKind, Length, LinearSum, RowArray, TensorRole, linear_backward_fits};
use attn_dsl::lower::{Class, SavedRow, Side};
use attn_dsl::plan::{PlanError, linear_fits};

use super::compiled::{Compiled, shape_of};
use super::pack::Bindings;
use super::{KernelExecutor, bind_call, saved_name};
use crate::attention::{Gradients, Output};
use crate::call::{BackwardCall, Call, Problem};
use crate::error::Error;
use crate::machine::{DeviceMemory, KernelLaunch};
use crate::plan::Schedule;
use crate::segments::{Segments, segments};
use crate::tensor::{DType, Tensor};

/// Addresses of the states of a pass, 0 where there is none: initial and final, and their gradients.
#[derive(Clone, Copy, Default)]
struct StateEnds {
    initial: u64,
    last: u64,
    initial_grad: u64,
    last_grad: u64,
}

impl StateEnds {
    /// The state that a sum begins with, and that which it leaves.
    fn of(self, sum: LinearSum) -> [u64; 2] {
        match sum {
            LinearSum::Output => [self.initial, self.last],
            LinearSum::QueryGrad => [self.initial, 0],
            LinearSum::KeyGrad => [self.last_grad, self.initial_grad],
            LinearSum::ValueGrad => [self.last_grad, 0],
        }
    }
}

fn address(tensor: Option<&Tensor>) -> Result<u64, Error> {
    Ok(tensor.map(Tensor::device_address).transpose()?.unwrap_or(0))
}

/// Memory that the kernels of a pass share.
struct States {
    states: Box<dyn DeviceMemory>,
    exponents: Box<dyn DeviceMemory>,
}

impl KernelExecutor {
    /// Whether a call has the linear-time schedule.
    ///
    /// # Errors
    /// When it is asked for and there is none.
    pub(super) fn is_linear(&self, schedule: Schedule, problem: &Problem, backward: bool) -> Result<bool, Error> {
        let fits = || -> Result<(), Error> {
            let shape = shape_of(problem)?;
            match &self.linear {
                Err(why) => return Err(PlanError::NotLinear { reason: why.to_string() }.into()),
                Ok(linear) if backward => linear_backward_fits(&self.lowered, linear, shape)?,
                Ok(_) => {}
            }
            Ok(linear_fits(shape)?)
        };
        let is_empty = [problem.q_len, problem.kv_len, problem.heads, problem.batch].contains(&0);
        match schedule {
            Schedule::Quadratic => Ok(false),
            Schedule::Auto => Ok(!(is_empty || backward && self.cancels()) && fits().is_ok()),
            Schedule::Linear => fits().map(|()| !is_empty),
        }
    }

    /// Whether a gradient is a difference of large sums, which loses digits in f32 as well: it is taken pair by pair unless the
    /// linear schedule is asked for.
    fn cancels(&self) -> bool {
        self.linear.as_ref().is_ok_and(|linear| linear.cancelling().is_some())
    }

    fn is_causal(&self) -> bool {
        self.linear.as_ref().is_ok_and(|linear| linear.causal)
    }

    /// The segments of the rows and of the columns of a sum.
    fn segments_of(&self, sum: LinearSum, problem: &Problem, block: usize) -> [Segments; 2] {
        let heads = problem.batch * problem.heads;
        let of = |positions| segments(positions, block, heads, self.machine.multiprocessors() as usize);
        if self.is_causal() {
            return [of(problem.q_len.max(problem.kv_len)); 2];
        }
        let [queries, keys] = [of(problem.q_len), of(problem.kv_len)];
        match sum {
            LinearSum::Output | LinearSum::QueryGrad => [queries, keys],
            LinearSum::KeyGrad | LinearSum::ValueGrad => [keys, queries],
        }
    }

    /// Memory for the states of every sum of a pass.
    fn states(&self, kernels: &[Compiled], problem: &Problem) -> Result<States, Error> {
        let heads = problem.batch * problem.heads;
        let (mut floats, mut slots) = (0, 0);
        for (at, compiled) in kernels.iter().enumerate() {
            if let KernelKind::LinearPrefix(sum) = compiled.source.kind {
                // the kernel before it has the chunks
                let block = kernels[at - 1].source.block_kv as usize;
                let own = heads * (self.segments_of(sum, problem, block)[1].count + 1);
                slots = slots.max(own);
                floats = floats.max(own * compiled.source.table_chunk as usize);
            }
        }
        Ok(States {
            states: self.machine.allocate("states of segments", floats * DType::F32.size())?,
            exponents: self.machine.allocate("exponents of states", 2 * slots * DType::F32.size())?,
        })
    }

    /// Launches the kernels of a pass.
    fn launch_linear(
        &self,
        call: &Call,
        kernels: &[Compiled],
        bindings: &mut Bindings<'_>,
        ends: StateEnds,
    ) -> Result<(), Error> {
        let problem = &call.problem;
        let (heads, batch) = (problem.heads, problem.batch);
        let mut columns = Segments { count: 1, chunks: 1 };
        for compiled in kernels {
            let source = &compiled.source;
            let grid = match source.kind {
                KernelKind::LinearState(sum) => {
                    columns = self.segments_of(sum, problem, source.block_kv as usize)[1];
                    bindings.length(Length::Segments, columns.count);
                    bindings.length(Length::SegmentChunks, columns.chunks);
                    [columns.count, heads, batch]
                }
                KernelKind::LinearPrefix(sum) => {
                    bindings.state_ends = ends.of(sum);
                    bindings.length(Length::Segments, columns.count);
                    [(source.table_chunk as usize).div_ceil(source.threads as usize), heads, batch]
                }
                KernelKind::LinearWalk(sum) => {
                    let rows = self.segments_of(sum, problem, source.block_q as usize)[0];
                    bindings.length(Length::Segments, rows.count);
                    bindings.length(Length::SegmentChunks, rows.chunks);
                    bindings.length(Length::ColumnSegments, columns.count);
                    [rows.count, heads, batch]
                }
                KernelKind::LinearGradients(side) => {
                    let length = if side == Side::Query { problem.q_len } else { problem.kv_len };
                    [length.div_ceil(source.threads as usize), heads, batch]
                }
                KernelKind::LinearTable(id) => {
                    let entries = self.table_entries(call, id);
                    [entries.div_ceil(source.threads as usize), heads, batch]
                }
                _ => self.grid(compiled, problem),
            };
            self.launch(call, compiled, grid, bindings)?;
        }
        Ok(())
    }

    /// The entries of a table along its axis of computed indices.
    fn table_entries(&self, call: &Call, id: attn_dsl::ir::ParameterId) -> usize {
        use attn_dsl::definition::Axis;
        let axes = self.lowered.definition.parameter(id).axes.iter();
        let axes = axes.zip(call.parameters[id.0 as usize].shape());
        axes.filter(|(axis, _)| matches!(axis, Axis::Fixed(_) | Axis::Named(_))).map(|(_, &extent)| extent).product()
    }

    /// The output, and the state behind the last key where it is wanted: then under a causal mask.
    pub(super) fn run_linear_forward(
        &self,
        call: &Call,
        initial: Option<&Tensor>,
        wants_state: bool,
    ) -> Result<(Output, Option<Tensor>), Error> {
        let problem = &call.problem;
        let kernels = self.library.linear_forward(problem)?;
        let output = self.allocate("output", problem.dtype, &problem.output_shape())?;
        let rows = self.lowered.forward.saved.iter();
        let saved: Vec<Tensor> = rows
            .map(|row| self.allocate(saved_name(*row), DType::F32, &problem.row_shape()))
            .collect::<Result<_, _>>()?;
        let zero = self.zero(call)?;
        let states = self.states(&kernels, problem)?;
        let (q, k, v) =
            (self.aligned(call, "q", &call.q)?, self.aligned(call, "k", &call.k)?, self.aligned(call, "v", &call.v)?);
        let mut bindings = Bindings::default();
        bind_call(&mut bindings, call, [&q, &k, &v])?;
        bindings.zero = zero.as_ref().map(|memory| memory.address());
        bindings.tensor(TensorRole::Output, &output);
        for (row, tensor) in self.lowered.forward.saved.iter().zip(&saved) {
            bindings.row(RowArray::Saved(*row), tensor.device_address()?);
        }
        bindings.states = Some([states.states.address(), states.exponents.address()]);
        let state =
            wants_state.then(|| self.allocate("final state", DType::F32, &self.state_shape(problem))).transpose()?;
        let ends = StateEnds { initial: address(initial)?, last: address(state.as_ref())?, ..StateEnds::default() };
        self.launch_linear(call, &kernels, &mut bindings, ends)?;
        let has_statistic = self.lowered.forward.saved.first() == Some(&SavedRow::Statistic);
        let statistic = has_statistic.then(|| saved[0].clone());
        Ok((Output { output, statistic, saved, second: None }, state))
    }

    /// The shape of a state of a call.
    fn state_shape(&self, problem: &Problem) -> [usize; 4] {
        problem.state_shape(self.lowered.class == Class::Streaming)
    }

    /// The gradients; and that of the initial state where the gradient of the final one is given or `initial` is.
    pub(super) fn run_linear_backward(
        &self,
        backward: &BackwardCall,
        initial: Option<&Tensor>,
        state_grad: Option<&Tensor>,
    ) -> Result<(Gradients, Option<Tensor>), Error> {
        let call = &backward.call;
        let problem = &call.problem;
        let kernels = self.library.linear_backward(problem)?;
        let gradient = |name: &str, tensor: &Tensor| self.allocate(name, problem.dtype, tensor.shape());
        let (q_grad, k_grad, v_grad) = (gradient("dq", &call.q)?, gradient("dk", &call.k)?, gradient("dv", &call.v)?);
        let shared = problem.group() > 1;
        let of_heads = |name: &str, tensor: &Tensor| {
            if !shared {
                return Ok::<_, Error>(tensor.clone());
            }
            let [batch, _, rows, columns] = [0, 1, 2, 3].map(|axis| tensor.shape()[axis]);
            self.allocate(name, problem.dtype, &[batch, problem.heads, rows, columns])
        };
        let k_heads = of_heads("dk of query heads", &k_grad)?;
        let v_heads = of_heads("dv of query heads", &v_grad)?;
        let row_bytes = problem.row_shape().iter().product::<usize>() * DType::F32.size();
        let key_bytes = problem.batch * problem.heads * problem.kv_len * DType::F32.size();
        let delta = self.machine.allocate("delta", row_bytes)?;
        let query_sums = self.machine.allocate("sums of queries", row_bytes)?;
        let key_sums = self.machine.allocate("sums of keys", key_bytes)?;
        let zero = self.zero(call)?;
        let states = self.states(&kernels, problem)?;
        let statistic_grad = backward.statistic_grad.as_ref().map(Tensor::to_contiguous).transpose()?;
        let mut parameter_gradients = self.parameter_gradients(&kernels, call)?;

        let (q, k, v) =
            (self.aligned(call, "q", &call.q)?, self.aligned(call, "k", &call.k)?, self.aligned(call, "v", &call.v)?);
        let output = self.aligned(call, "output", &backward.output)?;
        let output_grad = self.aligned(call, "output_grad", &backward.output_grad)?;
        let mut bindings = Bindings::default();
        bind_call(&mut bindings, call, [&q, &k, &v])?;
        bindings.zero = zero.as_ref().map(|memory| memory.address());
        bindings.tensor(TensorRole::Output, &output);
        bindings.tensor(TensorRole::OutputGrad, &output_grad);
        bindings.tensor(TensorRole::QGrad, &q_grad);
        bindings.tensor(TensorRole::KGrad, &k_heads);
        bindings.tensor(TensorRole::VGrad, &v_heads);
        for (row, tensor) in self.lowered.forward.saved.iter().zip(&backward.saved) {
            bindings.row(RowArray::Saved(*row), tensor.device_address()?);
        }
        bindings.row(RowArray::Delta, delta.address());
        let statistic_address = statistic_grad.as_ref().map(Tensor::device_address).transpose()?;
        bindings.row(RowArray::StatisticGrad, statistic_address.unwrap_or(0));
        bindings.states = Some([states.states.address(), states.exponents.address()]);
        bindings.product_sums = Some([query_sums.address(), key_sums.address()]);
        parameter_gradients.bind(&mut bindings);
        let initial_grad = initial
            .map(|state| self.allocate("gradient of the initial state", DType::F32, state.shape()))
            .transpose()?;
        let ends = StateEnds {
            initial: address(initial)?,
            last: 0,
            initial_grad: address(initial_grad.as_ref())?,
            last_grad: address(state_grad)?,
        };
        self.launch_linear(call, &kernels, &mut bindings, ends)?;
        if shared {
            self.sum_groups(call, &k_heads, &k_grad)?;
            self.sum_groups(call, &v_heads, &v_grad)?;
        }
        let parameters = parameter_gradients.finish(self, call)?;
        Ok((Gradients { q: q_grad, k: k_grad, v: v_grad, parameters }, initial_grad))
    }

    /// Adds up a gradient over the query heads that share a head of k and v.
    fn sum_groups(&self, call: &Call, from: &Tensor, to: &Tensor) -> Result<(), Error> {
        let [batch, kv_heads, rows, columns] = [0, 1, 2, 3].map(|axis| to.shape()[axis]);
        let elements = rows * columns;
        let mut bytes = vec![];
        bytes.extend(from.device_address()?.to_ne_bytes());
        bytes.extend(to.device_address()?.to_ne_bytes());
        bytes.extend((elements as i64).to_ne_bytes());
        bytes.extend((call.problem.group() as i32).to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let extent = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let launch = KernelLaunch {
            grid: [extent(elements.div_ceil(GROUP_SUM_THREADS as usize)), extent(batch * kv_heads), 1],
            threads: GROUP_SUM_THREADS,
            shared_memory: 0,
        };
        let kernels = self.library.group_sum(&call.problem)?;
        // SAFETY: the bytes are `struct Arguments` of the kernel; the tensors have a group's and one head's elements.
        unsafe { kernels[0].kernel.launch(launch, bytes, &self.named(call)) }
    }
}
