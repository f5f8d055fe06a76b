//! A GPU as a machine: kernels from NVRTC through the cache, launches on the device's stream without waiting.

use std::fmt;
use std::sync::Arc;

use attn_dsl::plan::Target;

use super::{Clock, Decision, DeviceMemory, KernelLaunch, KernelSource, LoadedKernel, Machine};
use crate::cuda::cache::{CompilerIdentity, Question};
use crate::cuda::{
    Buffer, CudaDevice, Event, Kernel, KernelArgument, KernelCache, KernelRequest, Launch, LoadError, Module,
    TensorDescription, TensorMap,
};
use crate::error::Error;
use crate::tensor::Location;

impl Machine for CudaDevice {
    fn target(&self) -> Result<Target, Error> {
        let (major, minor) = self.compute_capability();
        Ok(Target::of_compute_capability(major, minor)?)
    }

    fn multiprocessors(&self) -> u32 {
        CudaDevice::multiprocessors(self)
    }

    fn location(&self) -> Location {
        Location::Cuda(self.ordinal() as usize)
    }

    fn allocate(&self, _name: &str, bytes: usize) -> Result<Box<dyn DeviceMemory>, Error> {
        Ok(Box::new(CudaDevice::allocate(self, bytes)?))
    }

    fn zeroed(&self, _name: &str, bytes: usize) -> Result<Box<dyn DeviceMemory>, Error> {
        Ok(Box::new(CudaDevice::zeroed(self, bytes)?))
    }

    fn upload(&self, _name: &str, bytes: &[u8]) -> Result<Box<dyn DeviceMemory>, Error> {
        Ok(Box::new(CudaDevice::upload(self, bytes)?))
    }

    fn tensor_map(&self, description: &TensorDescription<'_>) -> Result<[u8; 128], Error> {
        Ok(TensorMap::encode(self, description)?.to_bytes())
    }

    fn clock(&self) -> Option<&dyn Clock> {
        Some(self)
    }

    fn compile(&self, source: &KernelSource<'_>) -> Result<Arc<dyn LoadedKernel>, Error> {
        let cache = KernelCache::shared()?;
        let request = KernelRequest::new(source.text, source.file_name, source.target.name());
        let module = Module::compile(self, cache, &request).map_err(|error| match error {
            LoadError::Compile(error) => Error::from(error),
            LoadError::Cuda(error) => Error::from(error),
        })?;
        let kernel = module.kernel(source.entry)?;
        kernel.set_dynamic_shared_memory(source.shared_memory as usize)?;
        Ok(Arc::new(CudaKernel { kernel, device: self.clone() }))
    }
}

impl Clock for CudaDevice {
    fn is_running(&self) -> bool {
        // a driver that refuses to say is recording another stream's work
        !self.is_capturing().unwrap_or(true)
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<(), Error>) -> Result<f64, Error> {
        let (start, end) = (Event::new(self)?, Event::new(self)?);
        start.record()?;
        work()?;
        end.record()?;
        Ok(f64::from(start.elapsed_ms(&end)?))
    }

    fn decision(&self, question: &[&str]) -> Option<Decision> {
        let cache = KernelCache::shared().ok()?;
        cache.decision(&on_device(self, cache.identity(), question))
    }

    fn keep_decision(&self, question: &[&str], decision: &Decision) {
        if let Ok(cache) = KernelCache::shared() {
            cache.keep_decision(&on_device(self, cache.identity(), question), decision);
        }
    }
}

/// A question, asked of such a device with its driver and the compiler of its kernels.
fn on_device(device: &CudaDevice, compiler: &CompilerIdentity, question: &[&str]) -> Question {
    let (major, minor) = device.driver_version();
    let driver = format!("driver for CUDA {major}.{minor}");
    let multiprocessors = format!("{} multiprocessors", device.multiprocessors());
    Question::new(compiler, &[&[device.name(), &driver, &multiprocessors], question].concat())
}

impl DeviceMemory for Buffer {
    fn address(&self) -> u64 {
        Buffer::address(self)
    }

    fn len(&self) -> usize {
        Buffer::len(self)
    }

    fn download(&self) -> Result<Vec<u8>, Error> {
        Ok(self.device().download(self)?)
    }

    fn machine(&self) -> &dyn Machine {
        self.device()
    }
}

/// A kernel and the device object that loaded it.
struct CudaKernel {
    kernel: Kernel,
    device: CudaDevice,
}

impl LoadedKernel for CudaKernel {
    unsafe fn launch(&self, launch: KernelLaunch, argument: Vec<u8>, _call: &dyn fmt::Display) -> Result<(), Error> {
        let KernelLaunch { grid, threads, shared_memory } = launch;
        let launch = Launch { grid, block: [threads, 1, 1], shared_memory };
        // SAFETY: the caller vouches for the argument and for what the kernel reaches through it.
        unsafe { self.kernel.launch(&self.device, launch, &[KernelArgument::bytes(argument)]) }?;
        Ok(())
    }
}
