//! Devices and element types by name, and what commands need of a device beyond attention itself: moving tensors, timing.
//!
//! Invariant: this is the only place of the command that tells devices apart.

use std::time::Instant;

use anyhow::{Result, bail};
use attn::{DType, Device, Location, Tensor};
use attn_dsl::plan::ElementType;
use attn_runtime::cuda::{CudaDevice, Event};
use clap::ValueEnum;

/// A device on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceName {
    /// The tiled, multi-threaded executor
    Cpu,
    /// The first GPU
    Cuda,
    /// The naive f64 reference: slow, quadratic in memory
    Oracle,
}

impl DeviceName {
    /// The device of a name; without one, the best there is.
    pub(crate) fn open(name: Option<DeviceName>) -> Result<Device> {
        match name {
            None => Ok(Device::best()),
            Some(DeviceName::Cpu) => Ok(Device::Cpu),
            Some(DeviceName::Oracle) => Ok(Device::Oracle),
            Some(DeviceName::Cuda) => {
                let device = CudaDevice::new(0)?;
                bail!("{} was found, but this version computes attention on the CPU only", device.name())
            }
        }
    }
}

/// The type of q, k and v on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub(crate) enum ElementName {
    /// 32-bit floats
    F32,
    /// IEEE half precision
    F16,
    /// bfloat16
    Bf16,
}

impl ElementName {
    /// The type of a tensor.
    pub(crate) fn dtype(self) -> DType {
        match self {
            ElementName::F32 => DType::F32,
            ElementName::F16 => DType::F16,
            ElementName::Bf16 => DType::BF16,
        }
    }

    /// The type of a kernel.
    pub(crate) fn element(self) -> ElementType {
        match self {
            ElementName::F32 => ElementType::F32,
            ElementName::F16 => ElementType::F16,
            ElementName::Bf16 => ElementType::Bf16,
        }
    }
}

/// The GPU behind a device.
pub(crate) fn gpu(device: &Device) -> Option<&CudaDevice> {
    match device {
        Device::Cpu | Device::Oracle => None,
        _ => None,
    }
}

/// What a device is called in measurements: the GPU's name, or `cpu`.
pub(crate) fn hardware_name(device: &Device) -> String {
    gpu(device).map_or_else(|| device.to_string(), |gpu| gpu.name().to_owned())
}

/// A tensor in the memory of a device.
pub(crate) fn upload(tensor: &Tensor, device: &Device) -> Result<Tensor> {
    if tensor.location() == device.location() {
        return Ok(tensor.clone());
    }
    bail!("a tensor on {} cannot be moved to {device}", tensor.location())
}

/// A tensor in the host's memory.
pub(crate) fn download(tensor: &Tensor) -> Result<Tensor> {
    match tensor.location() {
        Location::Host => Ok(tensor.clone()),
        other => bail!("a tensor on {other} cannot be moved to the host"),
    }
}

/// Milliseconds that `work` takes on a device: between two events in a GPU's stream, by the clock elsewhere.
pub(crate) fn time(device: &Device, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let Some(gpu) = gpu(device) else {
        let start = Instant::now();
        work()?;
        return Ok(start.elapsed().as_secs_f64() * 1e3);
    };
    let (start, end) = (Event::new(gpu)?, Event::new(gpu)?);
    start.record()?;
    work()?;
    end.record()?;
    Ok(f64::from(start.elapsed_ms(&end)?))
}
