//! A simulated GPU: its options, its memory, the traces of its launches; and how the executor reaches them.

use std::borrow::Cow;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use attn_dsl::plan::Target;
use attn_sim::{Buffer, ElementType, Kernel, Launch, Memory, Swizzle, TensorMap};

use super::error::{SimError, SimFault};
use super::kernels;
use crate::cuda::{TensorDescription, TensorElement, TensorSwizzle};
use crate::error::Error;
use crate::machine::{DeviceMemory, KernelLaunch, KernelSource, LoadedKernel, Machine};
use crate::tensor::Location;

/// What a simulated GPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SimOptions {
    /// Decides the order of threads, and when asynchronous work completes.
    pub seed: u64,
    /// Whether launches leave a timeline, for [`SimDevice::take_traces`].
    pub trace: bool,
    /// The GPU whose kernels are run.
    pub target: Target,
    /// How many blocks at most a kernel has whose blocks take tile after tile. What each of several blocks takes depends on the
    /// host's threads, unless there is a block for every tile.
    pub multiprocessors: u32,
    /// A mistake made on purpose: what stands for a text in every kernel that has it. A run must report it.
    pub mistake: Option<(&'static str, &'static str)>,
}

impl SimOptions {
    /// A seed, no traces, the kernels of an H100; one multiprocessor for even seeds, and as many as there are tiles for odd ones.
    pub fn new(seed: u64) -> SimOptions {
        let multiprocessors = if seed.is_multiple_of(2) { 1 } else { u32::MAX };
        SimOptions { seed, trace: false, target: Target::Sm90a, multiprocessors, mistake: None }
    }

    /// The same, with a timeline of every launch.
    #[must_use]
    pub fn traced(self) -> SimOptions {
        SimOptions { trace: true, ..self }
    }

    /// The same, with `wrong` for `right` in every kernel that has it: to see that a run reports the mistake.
    #[must_use]
    pub fn mistaken(self, right: &'static str, wrong: &'static str) -> SimOptions {
        SimOptions { mistake: Some((right, wrong)), ..self }
    }

    /// The same for the kernels of another GPU.
    #[must_use]
    pub fn target(self, target: Target) -> SimOptions {
        SimOptions { target, ..self }
    }
}

impl Default for SimOptions {
    fn default() -> SimOptions {
        SimOptions::new(0)
    }
}

/// A simulated GPU. It is a handle; clones are the same device, with the same memory.
#[derive(Clone)]
pub struct SimDevice {
    inner: Arc<Inner>,
}

struct Inner {
    options: SimOptions,
    /// Tells the memories of a process apart.
    number: usize,
    memory: Memory,
    traces: Mutex<Vec<(String, String)>>,
}

impl SimDevice {
    /// A GPU with memory of its own.
    pub fn new(options: SimOptions) -> SimDevice {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        SimDevice { inner: Arc::new(Inner { options, number, memory: Memory::new(), traces: Mutex::default() }) }
    }

    /// What it does.
    pub fn options(&self) -> SimOptions {
        self.inner.options
    }

    /// The timelines of the launches that ended since the last time, with the names of the kernels' texts, in the order in which
    /// they ended; that of a launch that failed is among them. Empty unless [`SimOptions::trace`] is set.
    pub fn take_traces(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.inner.traces.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn memory(&self, buffer: Buffer) -> Box<dyn DeviceMemory> {
        Box::new(SimMemory { buffer, device: self.clone() })
    }

    fn keep_trace(&self, file_name: &str, trace: Option<String>) {
        if let Some(trace) = trace {
            self.inner.traces.lock().unwrap_or_else(PoisonError::into_inner).push((file_name.to_owned(), trace));
        }
    }
}

impl fmt::Debug for SimDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { options, number, .. } = &*self.inner;
        f.debug_struct("SimDevice").field("options", options).field("number", number).finish_non_exhaustive()
    }
}

impl fmt::Display for SimDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sim (seed {})", self.inner.options.seed)
    }
}

/// The seed of a kernel's launches. It depends on nothing that happened before, so that a call is the same beside others.
fn launch_seed(seed: u64, file_name: &str) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()).update(file_name.as_bytes());
    let mut first = [0; 8];
    hasher.finalize_xof().fill(&mut first);
    u64::from_le_bytes(first)
}

impl Machine for SimDevice {
    fn target(&self) -> Result<Target, Error> {
        Ok(self.inner.options.target)
    }

    fn multiprocessors(&self) -> u32 {
        self.inner.options.multiprocessors
    }

    fn location(&self) -> Location {
        Location::Sim(self.inner.number)
    }

    fn allocate(&self, name: &str, bytes: usize) -> Result<Box<dyn DeviceMemory>, Error> {
        Ok(self.memory(self.inner.memory.allocate(name, bytes)))
    }

    fn zeroed(&self, name: &str, bytes: usize) -> Result<Box<dyn DeviceMemory>, Error> {
        self.upload(name, &vec![0; bytes])
    }

    fn upload(&self, name: &str, bytes: &[u8]) -> Result<Box<dyn DeviceMemory>, Error> {
        let buffer = self.inner.memory.allocate(name, bytes.len());
        buffer.write(0, bytes);
        Ok(self.memory(buffer))
    }

    fn tensor_map(&self, description: &TensorDescription<'_>) -> Result<[u8; 128], Error> {
        let element = match description.element {
            TensorElement::F16 => ElementType::F16,
            TensorElement::Bf16 => ElementType::Bf16,
            TensorElement::F32 => ElementType::F32,
        };
        let swizzle = match description.swizzle {
            TensorSwizzle::None => Swizzle::None,
            TensorSwizzle::Bytes32 => Swizzle::Bytes32,
            TensorSwizzle::Bytes64 => Swizzle::Bytes64,
            TensorSwizzle::Bytes128 => Swizzle::Bytes128,
        };
        let TensorDescription { address, extents, strides, box_extents, .. } = *description;
        let map = TensorMap::new(element, address, extents, strides, box_extents, swizzle);
        Ok(map.map_err(SimError::TensorMap)?.to_bytes())
    }

    fn compile(&self, source: &KernelSource<'_>) -> Result<Arc<dyn LoadedKernel>, Error> {
        let file_name = source.file_name.to_owned();
        let (requested, target) = (source.shared_memory as usize, source.target);
        let limit = target.shared_memory_per_block();
        if requested > limit {
            return Err(SimError::SharedMemory { file_name, requested, target, limit }.into());
        }
        let text = match self.inner.options.mistake {
            Some((right, wrong)) => Cow::Owned(source.text.replace(right, wrong)),
            None => Cow::Borrowed(source.text),
        };
        match kernels::kernel(&text, source.entry) {
            Ok(kernel) => Ok(Arc::new(SimKernel { kernel, file_name, device: self.clone() })),
            Err(error) => Err(SimError::Build { file_name, error }.into()),
        }
    }
}

/// Memory of a simulated GPU.
#[derive(Debug)]
struct SimMemory {
    buffer: Buffer,
    device: SimDevice,
}

impl DeviceMemory for SimMemory {
    fn address(&self) -> u64 {
        self.buffer.address()
    }

    fn len(&self) -> usize {
        self.buffer.len()
    }

    fn download(&self) -> Result<Vec<u8>, Error> {
        Ok(self.buffer.read())
    }

    fn machine(&self) -> &dyn Machine {
        &self.device
    }
}

/// A kernel that runs on a simulated GPU.
struct SimKernel {
    kernel: Kernel,
    file_name: String,
    device: SimDevice,
}

impl LoadedKernel for SimKernel {
    unsafe fn launch(&self, launch: KernelLaunch, argument: Vec<u8>, call: &dyn fmt::Display) -> Result<(), Error> {
        let Inner { options, memory, .. } = &*self.device.inner;
        let KernelLaunch { grid, threads, shared_memory } = launch;
        let seed = launch_seed(options.seed, &self.file_name);
        let launch = Launch { grid, block: [threads, 1, 1], shared_memory, seed, trace: options.trace };
        match self.kernel.launch(memory, &launch, &[&argument]) {
            Ok(run) => {
                self.device.keep_trace(&self.file_name, run.trace);
                Ok(())
            }
            Err(failure) => {
                self.device.keep_trace(&self.file_name, failure.trace.clone());
                let file_name = self.file_name.clone();
                let fault = SimFault { file_name, call: call.to_string(), options: *options, failure };
                Err(SimError::Fault(Box::new(fault)).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use attn_sim::FaultKind;

    use super::*;

    #[test]
    fn seeds_follow_from_device_and_kernel() {
        assert_eq!(launch_seed(1, "a.cu"), launch_seed(1, "a.cu"));
        assert_ne!(launch_seed(1, "a.cu"), launch_seed(2, "a.cu"));
        assert_ne!(launch_seed(1, "a.cu"), launch_seed(1, "b.cu"));
    }

    #[test]
    fn memories_are_apart_and_keep_their_bytes() {
        let [first, second] = [1, 1].map(|seed| SimDevice::new(SimOptions::new(seed)));
        assert_ne!(first.location(), second.location());
        assert_eq!(first.location(), first.clone().location());
        let uploaded = first.upload("a", &[1, 2, 3]).unwrap();
        assert_eq!(uploaded.download().unwrap(), [1, 2, 3]);
        assert!(uploaded.address().is_multiple_of(256));
        assert_eq!(uploaded.machine().location(), first.location());
        assert_eq!(first.zeroed("b", 5).unwrap().download().unwrap(), [0; 5]);
        assert_eq!(first.allocate("c", 4).unwrap().download().unwrap(), [0xff; 4], "NaN until written");
    }

    #[test]
    fn blocks_larger_than_the_target_are_refused() {
        let device = SimDevice::new(SimOptions::default().target(Target::Sm86));
        let source = KernelSource {
            text: "",
            file_name: "a.cu",
            entry: "a",
            target: device.target().unwrap(),
            shared_memory: 100 << 10,
        };
        let error = device.compile(&source).err().unwrap().to_string();
        assert!(error.contains("a.cu asks for 102400 bytes") && error.contains("sm_86 allows 101376"), "{error}");
    }

    #[test]
    fn a_fault_names_kernel_call_and_seed() {
        let device = SimDevice::new(SimOptions::new(7).traced());
        let text = "struct Arguments { float* values; };\n\
            extern \"C\" __global__ void outside(Arguments arguments) { arguments.values[threadIdx.x] = 1.0f; }\n";
        let target = device.target().unwrap();
        let source = KernelSource { text, file_name: "outside.cu", entry: "outside", target, shared_memory: 0 };
        let kernel = device.compile(&source).unwrap();
        let memory = device.allocate("values", 32 * 4).unwrap();
        let launch = |threads| {
            let launch = KernelLaunch { grid: [1; 3], threads, shared_memory: 0 };
            // SAFETY: the simulator stops a kernel before an access outside of its memory.
            unsafe { kernel.launch(launch, memory.address().to_ne_bytes().to_vec(), &"the call") }
        };
        launch(32).unwrap();
        assert_eq!(memory.download().unwrap(), 1f32.to_ne_bytes().repeat(32));
        let error = launch(64).unwrap_err();
        assert!(
            matches!(&error, Error::Sim(SimError::Fault(fault)) if fault.kind() == FaultKind::OutOfBounds),
            "{error}"
        );
        let report = error.to_string();
        for part in ["outside.cu is wrong, in the call, on sim (seed 7)", "`values`", "--device sim --seed 7"] {
            assert!(report.contains(part), "{part}: {report}");
        }
        let traces = device.take_traces();
        assert_eq!(traces.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["outside.cu"; 2]);
        assert!(device.take_traces().is_empty());
    }
}
