//! Gradients of parameters on the machine: partial sums that kernels leave, and the sums of them.
//!
//! Invariant: every learnable parameter gets a gradient of its own shape, zero where nothing contributes.

use attn_dsl::cuda::{
    Argument, GradientKind, KernelKind, PartialSums, REDUCE_THREADS, gradient_kind, sums_by_position,
};
use attn_dsl::definition::{Axis, Parameter};
use attn_dsl::ir::ParameterId;

use super::KernelExecutor;
use super::compiled::Compiled;
use super::pack::Bindings;
use crate::call::{Call, Problem};
use crate::error::Error;
use crate::machine::{DeviceMemory, KernelLaunch};
use crate::parameter::Parameters;
use crate::tensor::{DType, Tensor};

/// The gradient of one parameter on its way.
struct Entry {
    id: ParameterId,
    gradient: Tensor,
    kind: GradientKind,
    /// What kernels leave of it, in the order in which it is added up.
    partials: Vec<Partial>,
}

/// An array of partial sums.
struct Partial {
    /// Whether its sums are of rows that the normalizer adds to.
    of_rows: bool,
    memory: Box<dyn DeviceMemory>,
    sums: PartialSums,
}

/// The gradients of a call's learnable parameters.
pub(super) struct ParameterGradients {
    entries: Vec<Entry>,
    axes: Vec<Vec<Axis>>,
}

impl KernelExecutor {
    /// Memory for every learnable parameter's gradient and for what the kernels leave of it.
    pub(super) fn parameter_gradients(&self, kernels: &[Compiled], call: &Call) -> Result<ParameterGradients, Error> {
        let definition = &self.lowered.definition;
        let Problem { heads, packing, .. } = call.problem;
        let declared = || kernels.iter().flat_map(|compiled| &compiled.source.arguments);
        let written = |argument: &Argument| declared().any(|other| other == argument);
        let mut entries = vec![];
        for (index, parameter) in definition.parameters.iter().enumerate().filter(|(_, p)| p.learnable) {
            let id = ParameterId(u32::try_from(index).expect("few parameters"));
            let shape = call.parameters[index].shape();
            let name = format!("gradient of {}", parameter.name);
            let kind = gradient_kind(parameter)?;
            let [batch, q_len, kv_len] = summed_extents(&call.problem, parameter);
            let is_linear = kernels.iter().any(|compiled| matches!(compiled.source.kind, KernelKind::LinearWalk(_)));
            let of_pairs = match kind {
                // by key, or one sum an entry
                _ if is_linear => {
                    let positions = if kind == GradientKind::Table { 1 } else { kv_len };
                    written(&Argument::Partial(id)).then_some(positions)
                }
                GradientKind::Dense => None,
                _ if !written(&Argument::Partial(id)) => {
                    let places = |block: usize| match packing.filter(|_| !sums_by_position(parameter)) {
                        Some(packing) => kv_len / block + packing.sequences,
                        None => kv_len.div_ceil(block),
                    };
                    tile_partial(kernels, id).map(|(block_kv, warps)| places(block_kv) * warps)
                }
                GradientKind::Row => Some(q_len),
                GradientKind::Column => Some(kv_len),
                GradientKind::Table => {
                    let table = kernels.iter().find(|compiled| compiled.source.kind == KernelKind::Table(id));
                    let block = table.map_or(1, |compiled| compiled.source.block_q.max(1) as usize);
                    let is_packed = packing.filter(|_| !sums_by_position(parameter));
                    Some(is_packed.map_or_else(|| q_len.div_ceil(block), |packing| q_len / block + packing.sequences))
                }
            };
            let of_rows = written(&Argument::RowPartial(id)).then_some(q_len);
            let bytes = shape.iter().product::<usize>() * DType::F32.size();
            // every element is the sum of its partial sums; what has none, some kernel may leave out, and parameters of a packed
            // batch may be longer than its sequences
            let memory = if of_pairs.or(of_rows).is_some() && packing.is_none() {
                self.machine.allocate(&name, bytes)
            } else {
                self.machine.zeroed(&name, bytes)
            };
            let gradient = Tensor::from_device(DType::F32, shape, memory?)?;
            let mut partials = vec![];
            for (of_rows, positions) in [(false, of_pairs), (true, of_rows)] {
                let Some(positions) = positions else { continue };
                let sums = partial_sums([batch, heads, positions], &parameter.axes, &gradient);
                let bytes = sums.count() * DType::F32.size();
                let name = format!("partial sums of the {name}");
                // a sequence that is shorter than the longest leaves gaps, and so do tiles that no sequence has
                let memory = if packing.is_some() {
                    self.machine.zeroed(&name, bytes)
                } else {
                    self.machine.allocate(&name, bytes)
                }?;
                partials.push(Partial { of_rows, memory, sums });
            }
            entries.push(Entry { id, gradient, kind, partials });
        }
        let axes = definition.parameters.iter().map(|parameter| parameter.axes.clone()).collect();
        Ok(ParameterGradients { entries, axes })
    }

    /// Adds up partial sums into a gradient: beside what it holds, if asked to.
    fn reduce(&self, call: &Call, partial: &Partial, gradient: &Tensor, adds: bool) -> Result<(), Error> {
        let reduction = partial.sums.reduction();
        if reduction.blocks == 0 {
            return Ok(());
        }
        let bytes = reduction.argument(partial.memory.address(), gradient.device_address()?, adds);
        let launch = KernelLaunch { grid: [reduction.blocks, 1, 1], threads: REDUCE_THREADS, shared_memory: 0 };
        let kernel = self.library.reduce()?;
        // SAFETY: the bytes are `struct Arguments` of attn_reduce; both buffers have the extents that it is given.
        unsafe { kernel.launch(launch, bytes, &self.named(call)) }
    }
}

/// The entries of the batch, and the positions of queries and of keys of each; sequences of a packed batch as if all were as long as
/// the longest.
fn positions(problem: &Problem) -> [usize; 3] {
    let Problem { batch, q_len, kv_len, packing, .. } = *problem;
    packing.map_or([batch, q_len, kv_len], |of| [of.sequences, of.max_seqlen_q, of.max_seqlen_kv])
}

/// What the partial sums of a parameter have room for.
fn summed_extents(problem: &Problem, parameter: &Parameter) -> [usize; 3] {
    let Problem { batch, q_len, kv_len, .. } = *problem;
    if sums_by_position(parameter) { positions(problem) } else { [batch, q_len, kv_len] }
}

/// The tiles of keys of the kernel whose warps leave sums of a parameter's gradient, and how many each tile has.
fn tile_partial(kernels: &[Compiled], id: ParameterId) -> Option<(usize, usize)> {
    kernels.iter().find_map(|compiled| {
        let warps = compiled.source.arguments.iter().find_map(|argument| match argument {
            Argument::TilePartial(of, warps) if *of == id => Some(*warps as usize),
            _ => None,
        });
        warps.map(|warps| (compiled.source.block_kv.max(1) as usize, warps))
    })
}

/// Partial sums by batch, head and position, and by the axes of a table, of a gradient with these axes.
fn partial_sums(extents: [usize; 3], axes: &[Axis], gradient: &Tensor) -> PartialSums {
    let mut sums = PartialSums { extents, strides: [None; 3], table: vec![] };
    for (axis, (&extent, &stride)) in axes.iter().zip(gradient.shape().iter().zip(gradient.strides())) {
        let place = match axis {
            Axis::Batch => 0,
            Axis::Head => 1,
            Axis::Query | Axis::Key => 2,
            Axis::Fixed(_) | Axis::Named(_) => {
                sums.table.push((extent, stride));
                continue;
            }
        };
        // an axis of one entry is summed over, unless the sum has one term anyway
        sums.strides[place] = (extent != 1).then_some(stride);
    }
    sums
}

impl ParameterGradients {
    fn entry(&self, id: ParameterId) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.id == id)
    }

    /// Strides of b, h, q and kv in a dense gradient; 0 broadcasts.
    fn dense_strides(&self, entry: &Entry) -> [usize; 4] {
        let mut strides = [0; 4];
        let axes = self.axes[entry.id.0 as usize].iter();
        for (axis, (&extent, &stride)) in axes.zip(entry.gradient.shape().iter().zip(entry.gradient.strides())) {
            let place = match axis {
                Axis::Batch => 0,
                Axis::Head => 1,
                Axis::Query => 2,
                Axis::Key => 3,
                Axis::Fixed(_) | Axis::Named(_) => continue,
            };
            strides[place] = if extent == 1 { 0 } else { stride };
        }
        strides
    }

    pub(super) fn bind(&mut self, bindings: &mut Bindings<'_>) {
        for entry in &self.entries {
            for partial in &entry.partials {
                let by_id = if partial.of_rows { &mut bindings.row_partials } else { &mut bindings.partials };
                by_id.insert(entry.id, partial.memory.address());
            }
            if entry.kind == GradientKind::Dense
                && let Ok(address) = entry.gradient.device_address()
            {
                let [batch, head, query, key] = self.dense_strides(entry).map(|stride| stride as u64);
                bindings.dense.insert(entry.id, [address, batch, head, query, key]);
            }
        }
    }

    /// The blocks of a kernel whose number depends on a parameter's shape.
    pub(super) fn grid(&self, compiled: &Compiled, problem: &Problem) -> Option<[usize; 3]> {
        let source = &compiled.source;
        let tiles = |length: usize, block: u32| length.div_ceil(block.max(1) as usize);
        match source.kind {
            KernelKind::Table(id) => {
                let sums = &self.entry(id)?.partials.first()?.sums;
                let entries: usize = sums.table.iter().map(|(extent, _)| extent).product();
                let chunks = tiles(entries, source.table_chunk);
                if let Some(packing) = problem.packing {
                    let places = problem.q_len / source.block_q.max(1) as usize + packing.sequences;
                    return Some([places, chunks, problem.heads]);
                }
                Some([sums.extents[2], chunks, problem.batch * problem.heads])
            }
            KernelKind::Dense(id) => {
                let [batch, head, ..] = self.dense_strides(self.entry(id)?);
                let [batches, q_len, kv_len] = positions(problem);
                let batches = if batch == 0 { batches.min(1) } else { batches };
                let heads = if head == 0 { problem.heads.min(1) } else { problem.heads };
                Some([tiles(kv_len, source.block_kv), tiles(q_len, source.block_q), batches * heads])
            }
            _ => None,
        }
    }

    /// Adds up what the kernels left.
    pub(super) fn finish(self, executor: &KernelExecutor, call: &Call) -> Result<Parameters, Error> {
        debug_assert_eq!(call.parameters.len(), self.axes.len());
        let definition = &executor.lowered.definition;
        let mut parameters = Parameters::new();
        for entry in self.entries {
            for (at, partial) in entry.partials.iter().enumerate() {
                executor.reduce(call, partial, &entry.gradient, at > 0)?;
            }
            parameters.insert(&definition.parameter(entry.id).name, entry.gradient);
        }
        Ok(parameters)
    }
}
