//! Where attention runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::cuda::{CudaDevice, Nvrtc};
use crate::error::Error;
use crate::machine::Machine;
#[cfg(feature = "sim")]
use crate::sim::{SimDevice, SimOptions};
use crate::tensor::Location;

/// Where attention runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Device {
    /// The tiled, multi-threaded executor on the host's CPU.
    Cpu,
    /// The naive f64 evaluator on the host's CPU: slow and quadratic in memory, but written from the definitions alone. For tests.
    Oracle,
    /// A GPU, through generated CUDA kernels.
    Cuda(CudaDevice),
    /// A simulated GPU, which runs the same kernels thread by thread on the host's CPU and finds races, early reads and missing
    /// fences: very slow. For tests. Never the best device.
    #[cfg(feature = "sim")]
    Sim(SimDevice),
}

impl Device {
    /// The GPU with this number, from 0. One device object serves the process, so that all work on it is in one order.
    ///
    /// # Errors
    /// When there is no driver or no such GPU: the error says what was searched.
    pub fn cuda(ordinal: u32) -> Result<Device, Error> {
        static OPEN: Mutex<BTreeMap<u32, CudaDevice>> = Mutex::new(BTreeMap::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = open.get(&ordinal) {
            return Ok(Device::Cuda(device.clone()));
        }
        let device = CudaDevice::new(ordinal)?;
        open.insert(ordinal, device.clone());
        Ok(Device::Cuda(device))
    }

    /// A new simulated GPU. The seed decides the order of threads, and when asynchronous work completes: a mistake that hides at
    /// one may show at another. [`SimDevice::new`] has further options.
    #[cfg(feature = "sim")]
    pub fn sim(seed: u64) -> Device {
        Device::Sim(SimDevice::new(SimOptions::new(seed)))
    }

    /// The first GPU if its kernels can be compiled, else the CPU.
    pub fn best() -> Device {
        Self::best_and_why().0
    }

    /// The device that [`Device::best`] gives, and why it is not a GPU if it is none.
    pub fn best_and_why() -> (Device, Option<Error>) {
        match Self::cuda(0).and_then(|device| Ok((Nvrtc::load()?, device))) {
            Ok((_, device)) => (device, None),
            Err(error) => {
                tracing::debug!(target: "attn::device", "running on the CPU: {error}");
                (Device::Cpu, Some(error))
            }
        }
    }

    /// Where the tensors of a call on this device must be.
    pub fn location(&self) -> Location {
        self.machine().map_or(Location::Host, Machine::location)
    }

    /// The machine whose memory the tensors of a call must be in, unless that is the host's.
    pub(crate) fn machine(&self) -> Option<&dyn Machine> {
        match self {
            Device::Cpu | Device::Oracle => None,
            Device::Cuda(device) => Some(device),
            #[cfg(feature = "sim")]
            Device::Sim(device) => Some(device),
        }
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Oracle => f.write_str("oracle"),
            Device::Cuda(device) => write!(f, "cuda:{} ({})", device.ordinal(), device.name()),
            #[cfg(feature = "sim")]
            Device::Sim(device) => device.fmt(f),
        }
    }
}
