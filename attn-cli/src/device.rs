//! Devices and element types by name, and what commands need of a device beyond attention itself.
//!
//! Invariant: this is the only place of the command that tells devices apart.

use std::str::FromStr;
use std::time::Instant;

use anyhow::{Result, bail};
use attn::{DType, Device};
use attn_dsl::plan::ElementType;
use attn_runtime::cuda::{CudaDevice, Event};
use clap::ValueEnum;

/// A device on a command line: `cpu`, `cuda` or `cuda:1`, `oracle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    /// The tiled, multi-threaded executor.
    Cpu,
    /// A GPU by its number.
    Cuda(u32),
    /// The naive f64 reference: slow, quadratic in memory.
    Oracle,
}

impl FromStr for DeviceName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<DeviceName> {
        match text {
            "cpu" => Ok(DeviceName::Cpu),
            "cuda" => Ok(DeviceName::Cuda(0)),
            "oracle" => Ok(DeviceName::Oracle),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => Ok(DeviceName::Cuda(ordinal)),
                _ => bail!("a device is cpu, cuda, cuda:NUMBER or oracle"),
            },
        }
    }
}

impl DeviceName {
    /// The device of a name; without one, the best there is.
    pub(crate) fn open(name: Option<DeviceName>) -> Result<Device> {
        match name {
            None => Ok(best()),
            Some(DeviceName::Cpu) => Ok(Device::Cpu),
            Some(DeviceName::Oracle) => Ok(Device::Oracle),
            Some(DeviceName::Cuda(ordinal)) => Ok(Device::cuda(ordinal)?),
        }
    }
}

/// The best device; says why it is no GPU if it is none.
fn best() -> Device {
    let (device, why) = Device::best_and_why();
    if let Some(error) = why {
        let reason = error.to_string();
        eprintln!("running on the CPU: {}", reason.lines().next().unwrap_or_default().trim_end_matches(" Searched:"));
    }
    device
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
        Device::Cuda(device) => Some(device),
        _ => None,
    }
}

/// What a device is called in measurements: the GPU's name, or `cpu`.
pub(crate) fn hardware_name(device: &Device) -> String {
    gpu(device).map_or_else(|| device.to_string(), |gpu| gpu.name().to_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_have_names() {
        let parse = |text: &str| text.parse::<DeviceName>().ok();
        assert_eq!(parse("cpu"), Some(DeviceName::Cpu));
        assert_eq!(parse("oracle"), Some(DeviceName::Oracle));
        assert_eq!(parse("cuda"), Some(DeviceName::Cuda(0)));
        assert_eq!(parse("cuda:3"), Some(DeviceName::Cuda(3)));
        assert_eq!([parse("cuda:"), parse("cuda:x"), parse("gpu"), parse("")], [None; 4]);
    }
}
