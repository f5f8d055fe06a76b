//! The peak of a GPU's memory over a forward and a backward pass at growing lengths: it grows as the length does, not as its
//! square.

use anyhow::{Context, Result};
use attn::{Attention, DType, Device};

use super::Args;
use super::cases::{Shape, WORKLOADS};
use super::measure::Inputs;
use super::report::{MemoryRow, Report};
use crate::device::gpu;

const LENGTHS: [usize; 5] = [4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10];

pub(super) fn run(args: &Args, device: &Device, report: &mut Report<'_>) -> Result<()> {
    let gpu = gpu(device).context("the peak of memory is measured on GPUs; choose one with --device cuda")?;
    let workload = WORKLOADS[0];
    let attention = Attention::new(&workload.definition()?, device)?.deterministic(!args.nondeterministic);
    for length in LENGTHS {
        let shape = Shape { dtype: DType::BF16, batch: 1, heads: 16, length, head_dim: 128 };
        if args
            .only
            .as_ref()
            .is_some_and(|only| !only.is_match(&format!("attn/{}/memory/bf16/s{length}/d128", workload.name)))
        {
            continue;
        }
        let measured = || -> Result<(usize, usize)> {
            let before = gpu.allocated();
            let inputs = Inputs::new(&shape, device)?;
            let arguments = gpu.allocated() - before;
            gpu.reset_peak_allocated();
            let parameters = inputs.parameters(&attention)?;
            let output = inputs.forward(&attention, &parameters)?;
            inputs.backward(&attention, &parameters, &output)?;
            gpu.synchronize()?;
            Ok((gpu.peak_allocated() - before, arguments))
        };
        report.add_memory(&MemoryRow { workload: workload.name, shape, found: measured() })?;
    }
    Ok(())
}
