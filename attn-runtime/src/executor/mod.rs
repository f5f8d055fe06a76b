//! The executor of generated kernels, on whatever machine runs them: compiled on first use, launched in order.
//!
//! Kernels are made for an element type and head dimensions; lengths, batch, heads and strides are arguments. A call issues
//! its kernels to the machine and returns: nothing here waits for it.
//!
//! Invariants: every launch's arguments come from the list that declared the kernel's parameter, so types and order agree;
//! every buffer that a kernel reaches is as large as the checked call says.

mod align;
mod backward;
mod compiled;
mod extremes;
mod feature;
mod forward;
mod gradients;
mod linear;
mod pack;
mod tune;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use attn_dsl::cuda::{Argument, KernelKind, Length, TensorRole};
use attn_dsl::lower::{Class, Linear, Lowered, NotLinear, SavedRow};

use self::compiled::{Compiled, Library};
use self::extremes::KnownExtremes;
use self::pack::{Bindings, Packed};
use self::tune::Tuned;
use crate::attention::{Executor, Gradients, Output};
use crate::call::{BackwardCall, Call, Problem};
use crate::error::Error;
use crate::machine::{DeviceMemory, KernelLaunch, Machine};
use crate::packing::PackedLengths;
use crate::plan::{Plan, Schedule, Tuning};
use crate::tensor::{DType, Tensor};

/// Runs one lowered variant on one machine.
pub(crate) struct KernelExecutor {
    lowered: Arc<Lowered>,
    machine: Arc<dyn Machine>,
    library: Library,
    works_taken: OnceLock<Box<dyn DeviceMemory>>,
    tuned: Mutex<Tuned>,
    extremes: KnownExtremes,
    /// The weight in parts, or why it has none.
    linear: Result<Linear, NotLinear>,
}

/// A launch with its arguments, which can be issued more than once.
#[derive(Clone)]
struct Ready<'a> {
    compiled: &'a Compiled,
    launch: KernelLaunch,
    argument: Vec<u8>,
}

impl KernelExecutor {
    pub(crate) fn new(lowered: Arc<Lowered>, machine: Arc<dyn Machine>) -> Self {
        let linear = Linear::of(&lowered);
        KernelExecutor {
            linear,
            library: Library::new(lowered.clone(), machine.clone()),
            lowered,
            machine,
            works_taken: OnceLock::new(),
            tuned: Mutex::default(),
            extremes: KnownExtremes::default(),
        }
    }

    fn allocate(&self, name: &str, dtype: DType, shape: &[usize]) -> Result<Tensor, Error> {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        Tensor::from_device(dtype, shape, self.machine.allocate(name, bytes)?)
    }

    /// What reports call a call.
    fn named<'a>(&'a self, call: &'a Call) -> CallName<'a> {
        CallName { variant: &self.lowered.definition.name, problem: &call.problem }
    }

    /// Launches one kernel of a pass.
    fn launch(&self, call: &Call, compiled: &Compiled, grid: [usize; 3], bindings: &Bindings<'_>) -> Result<(), Error> {
        self.ready(compiled, grid, bindings)?.map_or(Ok(()), |ready| self.issue(call, ready))
    }

    /// The launch of a kernel; none where there is nothing to compute.
    fn ready<'a>(
        &self,
        compiled: &'a Compiled,
        grid: [usize; 3],
        bindings: &Bindings<'_>,
    ) -> Result<Option<Ready<'a>>, Error> {
        if grid.contains(&0) {
            return Ok(None);
        }
        let packed = Packed::of(&compiled.source.arguments, &self.lowered.definition, bindings, &*self.machine)?;
        let launch = KernelLaunch {
            grid: grid.map(|extent| u32::try_from(extent).unwrap_or(u32::MAX)),
            threads: compiled.source.threads,
            shared_memory: compiled.source.shared_memory,
        };
        Ok(Some(Ready { compiled, launch, argument: packed.into_bytes() }))
    }

    /// Issues a launch to the machine.
    fn issue(&self, call: &Call, ready: Ready<'_>) -> Result<(), Error> {
        let Ready { compiled, launch, argument } = ready;
        // SAFETY: the bytes follow the list that declared the kernel's parameter, and the addresses are those of tensors and
        // buffers whose extents the call's validation and the allocations of this module fix.
        unsafe { compiled.kernel.launch(launch, argument, &self.named(call)) }
    }

    /// The blocks of a kernel that takes tile after tile.
    fn persistent(&self, tiles: usize) -> [usize; 3] {
        [tiles.min(self.machine.multiprocessors() as usize), 1, 1]
    }

    /// The blocks of a kernel, by what it computes.
    fn grid(&self, compiled: &Compiled, problem: &Problem) -> [usize; 3] {
        let source = &compiled.source;
        let tiles = |length: usize, block: u32| length.div_ceil(block.max(1) as usize);
        let Problem { batch, heads, kv_heads, q_len, kv_len, packing, .. } = *problem;
        if let Some(PackedLengths { sequences, .. }) = packing {
            // every sequence's last tile may be one that is not whole
            let places = |total: usize, block: u32| total / block.max(1) as usize + sequences;
            match source.kind {
                KernelKind::SequenceMaps => return [sequences.div_ceil(source.threads as usize), 1, 1],
                KernelKind::RowPass(_) | KernelKind::Forward | KernelKind::SecondOutput | KernelKind::BackwardQ
                    if source.persistent =>
                {
                    return self.persistent(places(q_len, source.block_q) * heads);
                }
                KernelKind::BackwardKv if source.persistent => {
                    return self.persistent(places(kv_len, source.block_kv) * kv_heads);
                }
                KernelKind::RowPass(_) | KernelKind::Forward | KernelKind::SecondOutput | KernelKind::BackwardQ => {
                    return [places(q_len, source.block_q), heads, 1];
                }
                KernelKind::BackwardKv => return [places(kv_len, source.block_kv), kv_heads, 1],
                // a row is a tile here, and a block has several
                KernelKind::LiveKeys => return [tiles(places(q_len, 1), source.block_q), heads, 1],
                // rows are rows
                KernelKind::Delta => {}
                // these depend on a parameter's shape: see `gradients` and below
                KernelKind::Table(_) | KernelKind::Dense(_) | KernelKind::Extremes(..) => {}
                // nor have these kernels of packed batches
                _ => {}
            }
        }
        match source.kind {
            KernelKind::RowPass(_) | KernelKind::Forward | KernelKind::SecondOutput | KernelKind::BackwardQ
                if source.persistent =>
            {
                self.persistent(tiles(q_len, source.block_q) * heads * batch)
            }
            KernelKind::BackwardKv if source.persistent => {
                self.persistent(tiles(kv_len, source.block_kv) * kv_heads * batch)
            }
            KernelKind::LiveKeys
            | KernelKind::RowPass(_)
            | KernelKind::Forward
            | KernelKind::SecondOutput
            | KernelKind::Delta
            | KernelKind::BackwardQ => [tiles(q_len, source.block_q), heads, batch],
            KernelKind::BackwardKv => [tiles(kv_len, source.block_kv), kv_heads, batch],
            KernelKind::Extremes(..) => unreachable!("its blocks follow a parameter's shape: see `CallExtremes`"),
            KernelKind::SequenceMaps => unreachable!("a batch that is not packed has no sequences"),
            // these two depend on a parameter's shape: see `gradients`
            KernelKind::Table(_) => [tiles(q_len, source.block_q), 1, batch * heads],
            KernelKind::Dense(_) => [tiles(kv_len, source.block_kv), tiles(q_len, source.block_q), 1],
            KernelKind::Feature(_)
            | KernelKind::FeatureGrad(_)
            | KernelKind::GroupSum
            | KernelKind::LinearState(_)
            | KernelKind::LinearPrefix(_)
            | KernelKind::LinearWalk(_)
            | KernelKind::LinearGradients(_)
            | KernelKind::LinearTable(_) => unreachable!("their blocks are counted where they are launched"),
        }
    }
}

/// What reports call the memory of a saved row.
fn saved_name(row: SavedRow) -> &'static str {
    match row {
        SavedRow::Statistic => "statistic",
        SavedRow::Shift => "saved shifts",
        SavedRow::Reduction(_) => "saved reductions",
        SavedRow::ArgMax => "saved positions of maxima",
        SavedRow::Row(_) => "values of rows",
    }
}

/// A call in a report: the variant, the type and the extents.
struct CallName<'a> {
    variant: &'a str,
    problem: &'a Problem,
}

impl fmt::Display for CallName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { dtype, batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim, packing } = self.problem;
        let variant = self.variant;
        write!(f, "{variant} {dtype} b{batch} h{heads}/{kv_heads} q{q_len} kv{kv_len} d{head_dim}/{value_dim}")?;
        packing.map_or(Ok(()), |packing| write!(f, " packed {}", packing.sequences))
    }
}

/// Bytes of a tensor map.
const TENSOR_MAP_BYTES: usize = 128;

/// Bytes of keys and values that are meant to stay in the L2 cache while queries of several heads run: of the 50 MB of an H100,
/// what leaves room for queries and outputs that stream by.
const CACHED_BYTES: usize = 32 << 20;

/// Heads, over all batches, whose keys and values stay in the L2 cache together; of a packed batch those of a sequence, since sequences
/// follow one another.
fn head_group(problem: &Problem) -> usize {
    let keys = problem.packing.map_or(problem.kv_len, |lengths| lengths.max_seqlen_kv);
    let head = keys * (problem.head_dim + problem.value_dim) * problem.dtype.size();
    let shared = (CACHED_BYTES / head.max(1)).clamp(1, (problem.batch * problem.kv_heads).max(1));
    shared * problem.group()
}

/// Heads that are worked on together where tiles of keys take turns to add to dq: at the start of a group as many blocks of a head
/// wait for each other as it has blocks, which is worth more than the L2 cache (an H100, causal, length 16384, head_dim 128: 527,
/// 558, 568, 569 and 544 TFLOP/s with 1, 2, 4, 8 and 16).
const HEADS_IN_TURNS: usize = 4;

/// Heads of k and v, over all batches, whose queries stay in the L2 cache together, q, do and the sums of dq; at least these.
fn key_head_group(problem: &Problem, at_least: usize) -> usize {
    let row = (problem.head_dim + problem.value_dim) * problem.dtype.size() + problem.head_dim * DType::F32.size();
    let queries = problem.packing.map_or(problem.q_len, |lengths| lengths.max_seqlen_q);
    let head = queries * row * problem.group();
    (CACHED_BYTES / head.max(1)).max(at_least).min((problem.batch * problem.kv_heads).max(1))
}

/// What both passes bind.
fn bind_call<'a>(bindings: &mut Bindings<'a>, call: &'a Call, [q, k, v]: [&Tensor; 3]) -> Result<(), Error> {
    let problem = &call.problem;
    bindings.tensor(TensorRole::Q, q);
    bindings.tensor(TensorRole::K, k);
    bindings.tensor(TensorRole::V, v);
    bindings.parameters = &call.parameters;
    bindings.scale = call.scale;
    bindings.length(Length::Batches, problem.batch);
    bindings.length(Length::Heads, problem.heads);
    bindings.length(Length::Group, problem.group());
    bindings.length(Length::QueryLen, problem.q_len);
    bindings.length(Length::KeyLen, problem.kv_len);
    bindings.length(Length::HeadGroup, head_group(problem));
    if let (Some(packing), Some(lengths)) = (&call.packing, problem.packing) {
        let PackedLengths { sequences, max_seqlen_q, max_seqlen_kv } = lengths;
        bindings.cu_seqlens = Some([packing.cu_seqlens_q.device_address()?, packing.cu_seqlens_kv.device_address()?]);
        bindings.length(Length::Sequences, sequences);
        bindings.length(Length::TotalQueries, problem.q_len);
        bindings.length(Length::MaxSeqlenQ, max_seqlen_q);
        bindings.length(Length::MaxSeqlenKv, max_seqlen_kv);
    }
    for (index, &size) in call.sizes.iter().enumerate() {
        bindings.length(Length::Size(u32::try_from(index).expect("few sizes")), size);
    }
    Ok(())
}

impl Executor for KernelExecutor {
    fn has_statistic(&self) -> bool {
        self.lowered.class != Class::Elementwise
    }

    fn saved_rows(&self) -> usize {
        self.lowered.forward.saved.len()
    }

    fn has_second_output(&self) -> bool {
        self.lowered.second_output.is_some()
    }

    fn forward(&self, call: &Call, plan: Plan, schedule: Schedule) -> Result<Output, Error> {
        if self.is_linear(schedule, &call.problem, false)? {
            return Ok(self.run_linear_forward(call, None, false)?.0);
        }
        let mapped = self.mapped(call)?;
        let call = mapped.as_ref().unwrap_or(call);
        let kernels = match plan {
            Plan::Rules => self.library.forward(&call.problem)?,
            Plan::Autotune => self.tuned_forward(call)?,
            Plan::Choice(number) => self.library.forward_choice(&call.problem, number)?,
        };
        self.run_forward(call, &kernels)
    }

    fn tunings(&self) -> Vec<Tuning> {
        self.tunings()
    }

    fn backward(&self, call: &BackwardCall, deterministic: bool, schedule: Schedule) -> Result<Gradients, Error> {
        if self.is_linear(schedule, &call.call.problem, true)? {
            return Ok(self.run_linear_backward(call, None, None)?.0);
        }
        let Some(mapped) = self.mapped(&call.call)? else { return self.run_backward(call, deterministic) };
        let gradients = self.run_backward(&BackwardCall { call: mapped, ..call.clone() }, deterministic)?;
        self.chain(&call.call, &gradients)?;
        Ok(gradients)
    }

    fn state_forward(&self, call: &Call, initial: Option<&Tensor>) -> Result<(Output, Tensor), Error> {
        self.is_linear(Schedule::Linear, &call.problem, false)?;
        let initial = initial.map(Tensor::to_contiguous).transpose()?;
        let (output, state) = self.run_linear_forward(call, initial.as_ref(), true)?;
        Ok((output, state.ok_or_else(|| Error::Internal("a state was wanted".to_owned()))?))
    }

    fn state_backward(
        &self,
        call: &BackwardCall,
        initial: &Tensor,
        state_grad: Option<&Tensor>,
    ) -> Result<(Gradients, Tensor), Error> {
        self.is_linear(Schedule::Linear, &call.call.problem, true)?;
        let initial = initial.to_contiguous()?;
        let state_grad = state_grad.map(Tensor::to_contiguous).transpose()?;
        let (gradients, initial_grad) = self.run_linear_backward(call, Some(&initial), state_grad.as_ref())?;
        Ok((gradients, initial_grad.ok_or_else(|| Error::Internal("a state's gradient was wanted".to_owned()))?))
    }
}

impl KernelExecutor {
    /// The counter of the tiles that blocks have taken: a launch leaves it 0, and launches follow one another.
    fn works_taken(&self) -> Result<u64, Error> {
        if let Some(memory) = self.works_taken.get() {
            return Ok(memory.address());
        }
        let memory = self.machine.zeroed("the counter of tiles taken", DType::I32.size())?;
        Ok(self.works_taken.get_or_init(|| memory).address())
    }

    /// Binds memory for the tensor maps of sequences that kernels of a packed batch have; returns what must live as long.
    fn bind_sequence_maps(
        &self,
        bindings: &mut Bindings<'_>,
        kernels: &[Compiled],
        problem: &Problem,
    ) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
        let sequences = problem.packing.map_or(0, |packing| packing.sequences);
        let mut memory = vec![];
        for argument in kernels.iter().flat_map(|compiled| &compiled.source.arguments) {
            let Argument::SequenceMaps(tensors) = argument else { continue };
            if !bindings.sequence_maps.contains_key(tensors) {
                let bytes = sequences * tensors.len() * TENSOR_MAP_BYTES;
                let maps = self.machine.allocate("tensor maps of sequences", bytes)?;
                bindings.sequence_maps.insert(tensors.clone(), maps.address());
                memory.push(maps);
            }
        }
        Ok(memory)
    }

    /// What every index of an empty parameter reads, where a parameter is empty.
    fn zero(&self, call: &Call) -> Result<Option<Box<dyn DeviceMemory>>, Error> {
        let is_empty = call.parameters.iter().any(|tensor| tensor.element_count() == 0);
        // an element, or the extremes of a block
        is_empty.then(|| self.machine.zeroed("the zero of empty parameters", 2 * DType::F32.size())).transpose()
    }

    /// The array of live keys, where one of the kernels counts them.
    fn live_keys(&self, kernels: &[Compiled], problem: &Problem) -> Result<Option<Box<dyn DeviceMemory>>, Error> {
        let counted = kernels.iter().any(|compiled| compiled.source.kind == KernelKind::LiveKeys);
        let bytes = problem.row_shape().iter().product::<usize>() * DType::I32.size();
        counted.then(|| self.machine.allocate("live keys", bytes)).transpose()
    }
}

/// An argument that the executor forgot to bind: a mistake in this crate.
fn unbound(argument: &Argument) -> Error {
    Error::Internal(format!("the kernel's argument {argument:?} has no value"))
}
