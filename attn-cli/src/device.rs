//! Devices and element types by name, and what commands need of a device beyond attention itself.
//!
//! Invariant: this is the only place of the command that tells devices apart.

use std::str::FromStr;
use std::time::Instant;

use anyhow::{Result, bail};
use attn::sim::{SimDevice, SimOptions};
use attn::{DType, Device, Schedule};
use attn_dsl::plan::ElementType;
use attn_runtime::cuda::{CudaDevice, Event};
use clap::ValueEnum;

/// A device on a command line: `cpu`, `cuda` or `cuda:1`, `oracle`, `sim`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceName {
    /// The tiled, multi-threaded executor.
    Cpu,
    /// A GPU by its number.
    Cuda(u32),
    /// The naive f64 reference: slow, quadratic in memory.
    Oracle,
    /// A simulated GPU: the kernels of a GPU, thread by thread.
    Sim,
}

impl FromStr for DeviceName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<DeviceName> {
        match text {
            "cpu" => Ok(DeviceName::Cpu),
            "cuda" => Ok(DeviceName::Cuda(0)),
            "oracle" => Ok(DeviceName::Oracle),
            "sim" => Ok(DeviceName::Sim),
            _ => match text.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(ordinal)) => Ok(DeviceName::Cuda(ordinal)),
                _ => bail!("a device is cpu, cuda, cuda:NUMBER, oracle or sim"),
            },
        }
    }
}

impl DeviceName {
    /// The device of a name; without one, the best there is. `options` are those of a simulated GPU.
    fn open(name: Option<DeviceName>, options: SimOptions) -> Result<Device> {
        match name {
            None => Ok(best()),
            Some(DeviceName::Cpu) => Ok(Device::Cpu),
            Some(DeviceName::Oracle) => Ok(Device::Oracle),
            Some(DeviceName::Cuda(ordinal)) => Ok(Device::cuda(ordinal)?),
            Some(DeviceName::Sim) => Ok(Device::Sim(SimDevice::new(options))),
        }
    }

    /// The device of a name for measurements of time; without one, the best there is.
    pub(crate) fn open_to_time(name: Option<DeviceName>) -> Result<Device> {
        if name == Some(DeviceName::Sim) {
            bail!("the simulator's time says nothing about a GPU's; choose --device cuda, or cpu");
        }
        DeviceName::open(name, SimOptions::default())
    }
}

/// A schedule on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScheduleName {
    /// Pair by pair.
    Quadratic,
    /// In linear time; an error where the weights do not factorise.
    Linear,
}

impl ScheduleName {
    /// The schedule of a name; without one, linear where it can be.
    pub(crate) fn schedule(name: Option<ScheduleName>) -> Schedule {
        match name {
            None => Schedule::Auto,
            Some(ScheduleName::Quadratic) => Schedule::Quadratic,
            Some(ScheduleName::Linear) => Schedule::Linear,
        }
    }
}

/// The options that say where attention runs.
#[derive(clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to run: cpu, cuda, cuda:NUMBER, oracle, or sim (the GPU's kernels, simulated on the CPU); the best device there is if
    /// not given
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceName>,
    /// With --device sim: what the order of threads and the time of copies follow from; 0 if not given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl DeviceArgs {
    /// The device, which keeps timelines if `traced`.
    pub(crate) fn open(&self, traced: bool) -> Result<Device> {
        self.only_with_sim("--trace", traced)?;
        self.only_with_sim("--seed", self.seed.is_some())?;
        let options = SimOptions { trace: traced, ..SimOptions::new(self.seed.unwrap_or(0)) };
        DeviceName::open(self.device, options)
    }

    /// One device, or simulated ones with as many seeds in a row.
    pub(crate) fn open_seeds(&self, seeds: Option<u32>) -> Result<Vec<Device>> {
        self.only_with_sim("--seeds", seeds.is_some())?;
        let first = self.open(false)?;
        let further =
            (1..u64::from(seeds.unwrap_or(1))).map(|step| Device::sim(self.seed.unwrap_or(0).wrapping_add(step)));
        Ok(std::iter::once(first).chain(further).collect())
    }

    fn only_with_sim(&self, option: &str, given: bool) -> Result<()> {
        if given && self.device != Some(DeviceName::Sim) {
            bail!("{option} is an option of the simulator: add --device sim, or leave {option} out");
        }
        Ok(())
    }
}

/// Whether a device is a simulated GPU, on which only little work is done in reasonable time.
pub(crate) fn is_simulated(device: &Device) -> bool {
    matches!(device, Device::Sim(_))
}

/// What devices that differ in their seeds alone are called.
pub(crate) fn name_of_all(devices: &[Device]) -> String {
    match devices {
        [Device::Sim(first), .., Device::Sim(last)] => {
            format!("sim (seeds {} to {})", first.options().seed, last.options().seed)
        }
        _ => devices.iter().map(Device::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// The timelines that a simulated GPU kept, each under the name of its kernel's text.
pub(crate) fn timelines(device: &Device) -> String {
    let traces = match device {
        Device::Sim(device) => device.take_traces(),
        _ => Vec::new(),
    };
    traces.iter().map(|(file_name, trace)| format!("==== {file_name}\n{}\n", trace.trim_end())).collect()
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
    fn seeds_are_counted_up() {
        let open = |device, seed, seeds| DeviceArgs { device, seed }.open_seeds(seeds);
        let sim = open(Some(DeviceName::Sim), Some(7), Some(3)).unwrap();
        assert_eq!(
            sim.iter().map(Device::to_string).collect::<Vec<_>>(),
            ["sim (seed 7)", "sim (seed 8)", "sim (seed 9)"]
        );
        assert_eq!(name_of_all(&sim), "sim (seeds 7 to 9)");
        assert_eq!(name_of_all(&sim[..1]), "sim (seed 7)");
        assert_eq!(name_of_all(&open(Some(DeviceName::Cpu), None, None).unwrap()), "cpu");
        for (seed, seeds) in [(Some(1), None), (None, Some(1))] {
            let error = open(Some(DeviceName::Cpu), seed, seeds).unwrap_err().to_string();
            assert!(error.contains("add --device sim"), "{error}");
        }
    }

    #[test]
    fn devices_have_names() {
        let parse = |text: &str| text.parse::<DeviceName>().ok();
        assert_eq!(parse("cpu"), Some(DeviceName::Cpu));
        assert_eq!(parse("oracle"), Some(DeviceName::Oracle));
        assert_eq!(parse("sim"), Some(DeviceName::Sim));
        assert_eq!(parse("cuda"), Some(DeviceName::Cuda(0)));
        assert_eq!(parse("cuda:3"), Some(DeviceName::Cuda(3)));
        assert_eq!([parse("cuda:"), parse("cuda:x"), parse("sim:1"), parse("gpu"), parse("")], [None; 5]);
    }
}
