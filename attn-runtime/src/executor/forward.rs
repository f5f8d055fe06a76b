//! The forward pass: its memory, its arguments, its launches.
//!
//! Invariant: what was prepared for a call serves the kernels of every plan of that call, any number of times; each launch writes
//! all of the output and of the saved rows.

use attn_dsl::cuda::{KernelKind, RowArray, TensorRole};
use attn_dsl::lower::SavedRow;

use super::compiled::Compiled;
use super::extremes::CallExtremes;
use super::pack::Bindings;
use super::{KernelExecutor, Ready, bind_call, saved_name};
use crate::attention::Output;
use crate::call::Call;
use crate::error::Error;
use crate::machine::DeviceMemory;
use crate::tensor::{DType, Tensor};

/// Everything that the kernels of a forward pass reach.
pub(super) struct Forward<'a> {
    call: &'a Call,
    bindings: Bindings<'a>,
    output: Tensor,
    /// What the backward pass needs, in the order of the lowered program.
    saved: Vec<Tensor>,
    second: Option<Tensor>,
    extremes: CallExtremes,
    /// What else the bindings have addresses in.
    _memory: Vec<Box<dyn DeviceMemory>>,
    _rows: Vec<Tensor>,
}

impl KernelExecutor {
    /// Memory and arguments of a call, for kernels that count live keys and take tiles as these do; there is a second output where
    /// there are kernels of it.
    pub(super) fn prepare_forward<'a>(
        &self,
        call: &'a Call,
        kernels: &[Compiled],
        second_kernels: &[Compiled],
    ) -> Result<Forward<'a>, Error> {
        let problem = &call.problem;
        let output = self.allocate("output", problem.dtype, &problem.output_shape())?;
        // what is saved, and what row passes find for the main pass alone
        let mut rows = self.lowered.forward.saved.clone();
        let found = self.lowered.rows().into_iter().map(SavedRow::Row);
        rows.extend(found.filter(|row| !self.lowered.forward.saved.contains(row)));
        let mut saved: Vec<Tensor> = rows
            .iter()
            .map(|row| self.allocate(saved_name(*row), DType::F32, &problem.row_shape()))
            .collect::<Result<_, _>>()?;
        let wants_second = !second_kernels.is_empty();
        let second =
            wants_second.then(|| self.allocate("second output", problem.dtype, &problem.output_shape())).transpose()?;
        let live_keys = self.live_keys(kernels, problem)?;
        let zero = self.zero(call)?;

        let (q, k, v) =
            (self.aligned(call, "q", &call.q)?, self.aligned(call, "k", &call.k)?, self.aligned(call, "v", &call.v)?);
        let mut bindings = Bindings::default();
        bind_call(&mut bindings, call, [&q, &k, &v])?;
        bindings.zero = zero.as_ref().map(|memory| memory.address());
        bindings.tensor(TensorRole::Output, &output);
        if let Some(second) = &second {
            bindings.tensor(TensorRole::SecondOutput, second);
        }
        for (row, tensor) in rows.iter().zip(&saved) {
            bindings.row(RowArray::Saved(*row), tensor.device_address()?);
        }
        let unsaved = saved.split_off(self.lowered.forward.saved.len());
        if let Some(buffer) = &live_keys {
            bindings.row(RowArray::LiveKeys, buffer.address());
        }
        let mut memory: Vec<Box<dyn DeviceMemory>> = live_keys.into_iter().chain(zero).collect();
        memory.extend(self.bind_sequence_maps(&mut bindings, kernels, problem)?);
        memory.extend(self.bind_sequence_maps(&mut bindings, second_kernels, problem)?);
        let extremes = self.bind_extremes(&mut bindings, call, kernels)?;
        let persistent = kernels.iter().chain(second_kernels).any(|compiled| compiled.source.persistent);
        bindings.works_taken = persistent.then(|| self.works_taken()).transpose()?;
        Ok(Forward { call, bindings, output, saved, second, extremes, _memory: memory, _rows: unsaved })
    }

    /// The launches of a plan's kernels, ready to be issued.
    pub(super) fn forward_launches<'k>(
        &self,
        forward: &Forward<'_>,
        kernels: &'k [Compiled],
    ) -> Result<Vec<Ready<'k>>, Error> {
        let ready = kernels.iter().map(|compiled| {
            let grid = forward.extremes.grid(compiled, forward.call);
            let grid = grid.unwrap_or_else(|| self.grid(compiled, &forward.call.problem));
            self.ready(compiled, grid, &forward.bindings)
        });
        ready.filter_map(Result::transpose).collect()
    }

    pub(super) fn run_forward(&self, call: &Call, kernels: &[Compiled]) -> Result<Output, Error> {
        debug_assert!(kernels.iter().any(|compiled| compiled.source.kind == KernelKind::Forward));
        let wants_second = self.lowered.second_output.is_some() && call.gradients;
        let second_kernels = wants_second.then(|| self.library.second_output(&call.problem)).transpose()?;
        let second_kernels = second_kernels.as_ref().map_or(&[][..], |kernels| kernels.as_slice());
        let forward = self.prepare_forward(call, kernels, second_kernels)?;
        for ready in self.forward_launches(&forward, kernels)? {
            self.issue(call, ready)?;
        }
        for ready in self.forward_launches(&forward, second_kernels)? {
            self.issue(call, ready)?;
        }
        let Forward { output, saved, second, extremes, .. } = forward;
        self.keep_extremes(extremes, call);
        let has_statistic = self.lowered.forward.saved.first() == Some(&SavedRow::Statistic);
        let statistic = has_statistic.then(|| saved[0].clone());
        Ok(Output { output, statistic, saved, second })
    }
}
