//! `attn run`: a variant on tensors of a file.
//!
//! In: `q`, `k`, `v`, for the backward pass `do` and optionally `dstatistic`, of a packed batch `cu_seqlens_q` and `cu_seqlens_kv`, and
//! the parameters by name. Out: `o`, `statistic` where the variant has one, and `dq`, `dk`, `dv` and `d_NAME` of every learnable
//! parameter.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use attn::{Attention, Definition, Device, Parameters, Tensor};

use super::table;
use crate::Verdict;
use crate::device::{DeviceArgs, ScheduleName, timelines};
use crate::tensors;
use crate::variant::VariantArgs;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    variant: VariantArgs,
    /// Tensors by name: q [b, h, q, d], k [b, h_kv, kv, d], v [b, h_kv, kv, dv], do [b, h, q, dv], dstatistic [b, h, q], and the
    /// variant's parameters; with cu_seqlens_q and cu_seqlens_kv [sequences + 1], integers, b is 1 and the sequences are packed
    #[arg(long, value_name = "FILE")]
    inputs: PathBuf,
    /// Where the results go
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also computes the gradients
    #[arg(long)]
    backward: bool,
    #[command(flatten)]
    device: DeviceArgs,
    /// With --device sim: where the timeline of every kernel goes, also if one fails; `-` is standard error
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Whether attention is computed pair by pair or in linear time; linear where the weights factorise if not given
    #[arg(long, value_name = "NAME")]
    schedule: Option<ScheduleName>,
    /// The factor of q . k; 1 / sqrt(d) if not given
    #[arg(long)]
    scale: Option<f32>,
}

/// The names that are no parameters.
const ARGUMENTS: [&str; 7] = ["q", "k", "v", "do", "dstatistic", "cu_seqlens_q", "cu_seqlens_kv"];

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict> {
    let definition = args.variant.resolve()?;
    if let Some(taken) = definition.parameters.iter().find(|parameter| ARGUMENTS.contains(&parameter.name.as_str())) {
        bail!("parameter `{}` has the name of an argument; rename it in the variant", taken.name);
    }
    let device = args.device.open(args.trace.is_some())?;
    let results = compute(args, &definition, &device);
    if let Some(file) = &args.trace {
        write_timelines(file, &timelines(&device))?;
    }
    let results = results?;

    let notes = [("variant", definition.text.clone()), ("device", device.to_string())];
    let notes: HashMap<String, String> = notes.map(|(key, value)| (key.to_owned(), value)).into();
    tensors::write(&args.out, &results, notes)?;
    let mut rows = table(&["tensor", "dtype", "shape"]);
    for (name, tensor) in &results {
        rows.add_row([name, &tensor.dtype().to_string(), &format!("{:?}", tensor.shape())]);
    }
    writeln!(out, "{} on {device}: {}\n{rows}", definition.name, args.out.display())?;
    Ok(Verdict::Good)
}

fn write_timelines(file: &Path, text: &str) -> Result<()> {
    if file == Path::new("-") {
        eprint!("{text}");
        return Ok(());
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The results by name, in the memory of the host.
fn compute(args: &Args, definition: &Definition, device: &Device) -> Result<Vec<(String, Tensor)>> {
    let mut attention = Attention::new(definition, device)?.schedule(ScheduleName::schedule(args.schedule));
    if let Some(scale) = args.scale {
        attention = attention.scale(scale)?;
    }

    let mut inputs = BTreeMap::new();
    for (name, tensor) in tensors::read(&args.inputs)? {
        let tensor = tensor.to_device(device).with_context(|| format!("tensor `{name}`"))?;
        inputs.insert(name, tensor);
    }
    let mut argument = |name: &str| inputs.remove(name);
    let [q, k, v, output_grad, statistic_grad, cu_seqlens_q, cu_seqlens_kv] = ARGUMENTS.map(&mut argument);
    let needed = |tensor: Option<Tensor>, name: &str| {
        tensor.with_context(|| format!("{} has no tensor `{name}`; add it", args.inputs.display()))
    };
    let (q, k, v) = (needed(q, "q")?, needed(k, "k")?, needed(v, "v")?);
    let parameters: Parameters = inputs.into_iter().collect();
    if cu_seqlens_q.is_some() || cu_seqlens_kv.is_some() {
        let lists = [needed(cu_seqlens_q, "cu_seqlens_q")?, needed(cu_seqlens_kv, "cu_seqlens_kv")?];
        attention = attention.packed(&lists[0], &lists[1])?;
    }

    let output = attention.forward(&q, &k, &v, &parameters)?;
    let mut results = vec![("o".to_owned(), output.output.clone())];
    results.extend(output.statistic.clone().map(|statistic| ("statistic".to_owned(), statistic)));
    if args.backward {
        let output_grad = needed(output_grad, "do")?;
        let gradients = attention.backward(&q, &k, &v, &parameters, &output, &output_grad, statistic_grad.as_ref())?;
        let named = [("dq", gradients.q), ("dk", gradients.k), ("dv", gradients.v)];
        results.extend(named.map(|(name, tensor)| (name.to_owned(), tensor)));
        results.extend(gradients.parameters.iter().map(|(name, tensor)| (format!("d_{name}"), tensor.clone())));
    }
    for (_, tensor) in &mut results {
        *tensor = tensor.to_host()?;
    }
    Ok(results)
}
