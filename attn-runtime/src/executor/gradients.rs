//! Gradients of parameters on the machine: partial sums that kernels leave, and the sums of them.
//!
//! Invariant: every learnable parameter gets a gradient of its own shape, zero where nothing contributes.

use attn_dsl::cuda::{Argument, GradientKind, KernelKind, REDUCE_AXES, REDUCE_THREADS, gradient_kind};
use attn_dsl::definition::Axis;
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
    extents: [usize; REDUCE_AXES],
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
        let Problem { batch, heads, q_len, kv_len, .. } = call.problem;
        let declared = || kernels.iter().flat_map(|compiled| &compiled.source.arguments);
        let written = |argument: &Argument| declared().any(|other| other == argument);
        let mut entries = vec![];
        for (index, parameter) in definition.parameters.iter().enumerate().filter(|(_, p)| p.learnable) {
            let id = ParameterId(u32::try_from(index).expect("few parameters"));
            let shape = call.parameters[index].shape();
            let name = format!("gradient of {}", parameter.name);
            let bytes = shape.iter().product::<usize>() * DType::F32.size();
            let gradient = Tensor::from_device(DType::F32, shape, self.machine.zeroed(&name, bytes)?)?;
            let kind = gradient_kind(parameter)?;
            let of_pairs = match kind {
                GradientKind::Row | GradientKind::Column if !written(&Argument::Partial(id)) => {
                    tile_partial(kernels, id)
                        .map(|(block_kv, warps)| [batch, heads, kv_len.div_ceil(block_kv), warps, 1, 1])
                }
                _ if !written(&Argument::Partial(id)) => None,
                GradientKind::Row => Some([batch, heads, q_len, 1, 1, 1]),
                GradientKind::Column => Some([batch, heads, kv_len, 1, 1, 1]),
                GradientKind::Table => {
                    let table = kernels.iter().find(|compiled| compiled.source.kind == KernelKind::Table(id));
                    let block = table.map_or(1, |compiled| compiled.source.block_q.max(1) as usize);
                    let mut extents = [batch, heads, q_len.div_ceil(block), 1, 1, 1];
                    let computed = parameter.axes.iter().zip(shape).filter(|(axis, _)| is_computed(axis));
                    computed.zip(&mut extents[3..]).for_each(|((_, &extent), slot)| *slot = extent);
                    Some(extents)
                }
                GradientKind::Dense => None,
            };
            let of_rows = written(&Argument::RowPartial(id)).then_some([batch, heads, q_len, 1, 1, 1]);
            let mut partials = vec![];
            for (of_rows, extents) in [(false, of_pairs), (true, of_rows)] {
                let Some(extents) = extents else { continue };
                let bytes = extents.iter().product::<usize>() * DType::F32.size();
                let memory = self.machine.allocate(&format!("partial sums of the {name}"), bytes)?;
                partials.push(Partial { of_rows, memory, extents });
            }
            entries.push(Entry { id, gradient, kind, partials });
        }
        let axes = definition.parameters.iter().map(|parameter| parameter.axes.clone()).collect();
        Ok(ParameterGradients { entries, axes })
    }

    /// Adds up partial sums into a gradient.
    fn reduce(&self, call: &Call, entry: &Entry, axes: &[Axis]) -> Result<(), Error> {
        let mut strides = [0i64; REDUCE_AXES];
        let mut keep = [0i32; REDUCE_AXES];
        let mut computed = 3;
        for (axis, (&extent, &stride)) in axes.iter().zip(entry.gradient.shape().iter().zip(entry.gradient.strides())) {
            let place = match axis {
                Axis::Batch => 0,
                Axis::Head => 1,
                Axis::Query | Axis::Key => 2,
                Axis::Fixed(_) | Axis::Named(_) => {
                    computed += 1;
                    computed - 1
                }
            };
            // an axis of one entry is summed over, unless the sum has one term anyway
            if extent > 1 {
                strides[place] = stride as i64;
                keep[place] = 1;
            }
        }
        let elements = entry.gradient.element_count();
        if elements == 0 {
            return Ok(());
        }
        for (number, Partial { memory, extents, .. }) in entry.partials.iter().enumerate() {
            let mut bytes = vec![];
            bytes.extend(memory.address().to_ne_bytes());
            bytes.extend(entry.gradient.device_address()?.to_ne_bytes());
            strides.iter().for_each(|stride| bytes.extend(stride.to_ne_bytes()));
            extents.iter().for_each(|&extent| bytes.extend((extent as i32).to_ne_bytes()));
            keep.iter().for_each(|keep| bytes.extend(keep.to_ne_bytes()));
            let launch = KernelLaunch {
                grid: [u32::try_from(elements).unwrap_or(u32::MAX), 1, 1],
                threads: REDUCE_THREADS,
                shared_memory: 0,
            };
            debug_assert_eq!(number, 0);
            let kernel = self.library.reduce()?;
            // SAFETY: the bytes are `struct Arguments` of attn_reduce; both buffers have the extents that it is given.
            unsafe { kernel.launch(launch, bytes, &self.named(call)) }?;
        }
        Ok(())
    }
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

fn is_computed(axis: &Axis) -> bool {
    matches!(axis, Axis::Fixed(_) | Axis::Named(_))
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
                let Partial { extents, .. } = self.entry(id)?.partials.first()?;
                let entries: usize = extents[3..].iter().product();
                let chunks = tiles(entries, source.table_chunk);
                Some([extents[2], chunks, problem.batch * problem.heads])
            }
            KernelKind::Dense(id) => {
                let [batch, head, ..] = self.dense_strides(self.entry(id)?);
                let batches = if batch == 0 { problem.batch.min(1) } else { problem.batch };
                let heads = if head == 0 { problem.heads.min(1) } else { problem.heads };
                Some([tiles(problem.kv_len, source.block_kv), tiles(problem.q_len, source.block_q), batches * heads])
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
            executor.reduce(call, &entry, &self.axes[entry.id.0 as usize])?;
            parameters.insert(&definition.parameter(entry.id).name, entry.gradient);
        }
        Ok(parameters)
    }
}
