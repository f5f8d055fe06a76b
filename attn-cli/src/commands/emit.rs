//! `attn emit`: the generated CUDA of a variant.
//!
//! Invariant: the source is what the runtime compiles for the same variant, shape and target, byte for byte.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use attn_dsl::cuda::{self, Kernel, KernelKind};
use attn_dsl::lower::{Linear, lower};
use attn_dsl::plan::{Shape, Target, linear_fits};
use clap::ValueEnum;

use super::table;
use crate::Verdict;
use crate::device::{ElementName, ScheduleName};
use crate::variant::VariantArgs;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Pass {
    Forward,
    Backward,
}

/// A plan on a command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlanName {
    List,
    Number(usize),
}

impl FromStr for PlanName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<PlanName> {
        match (text, text.parse()) {
            ("list", _) => Ok(PlanName::List),
            (_, Ok(number)) => Ok(PlanName::Number(number)),
            _ => bail!("a plan is a number from 0, or list"),
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    variant: VariantArgs,
    /// The pass whose kernels are printed
    #[arg(long)]
    pass: Pass,
    /// The architecture: sm_80, sm_86, sm_89, sm_90a, sm_100a or sm_120a
    #[arg(long, value_name = "NAME", default_value = "sm_90a")]
    target: String,
    /// The type of q, k and v
    #[arg(long, default_value = "bf16")]
    dtype: ElementName,
    /// The last extent of q and k
    #[arg(long, value_name = "N", default_value_t = 128)]
    head_dim: usize,
    /// The last extent of v; that of q if not given
    #[arg(long, value_name = "N")]
    value_dim: Option<usize>,
    /// Kernels of packed batches: sequences of different lengths one after the other, without padding
    #[arg(long)]
    packed: bool,
    /// The kernels of a schedule: quadratic or linear; linear where the weights factorise if not given
    #[arg(long, value_name = "NAME")]
    schedule: Option<ScheduleName>,
    /// The plan of the forward pass by its number, 0 if not given; `list` prints the plans there are
    #[arg(long, value_name = "N|list")]
    plan: Option<PlanName>,
    /// A backward pass that adds sums over keys in any order, where a schedule is faster so
    #[arg(long)]
    nondeterministic: bool,
    /// A folder that gets a file for each kernel; standard output gets one after the other
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict> {
    let definition = args.variant.resolve()?;
    let target = Target::parse(&args.target)?;
    let shape = Shape::new(args.dtype.element(), args.head_dim, args.value_dim.unwrap_or(args.head_dim))?;
    let shape = if args.packed { shape.packed() } else { shape };
    let lowered = lower(&definition).with_context(|| format!("`{}` cannot be computed", definition.name))?;
    let linear = match args.schedule {
        Some(ScheduleName::Quadratic) => false,
        Some(ScheduleName::Linear) => true,
        None => {
            let fits = |linear: &Linear| {
                args.pass == Pass::Forward
                    || linear.cancelling().is_none() && cuda::linear_backward_fits(&lowered, linear, shape).is_ok()
            };
            args.plan.is_none() && linear_fits(shape).is_ok() && Linear::of(&lowered).is_ok_and(|linear| fits(&linear))
        }
    };
    if linear && args.plan.is_some() {
        bail!("the linear-time schedule has one plan: leave --plan out");
    }
    let kernels = match (args.pass, args.plan) {
        (Pass::Forward, _) if linear => cuda::linear_forward(&lowered, shape, target)?,
        (Pass::Backward, None) if linear => cuda::linear_backward(&lowered, shape, target)?,
        (Pass::Forward, None) => {
            let mut kernels = cuda::forward(&lowered, shape, target)?;
            kernels.extend(cuda::second_output(&lowered, shape, target)?);
            kernels
        }
        (Pass::Forward, Some(PlanName::List)) => {
            write!(out, "{}", plans(&cuda::forward_choices(&lowered, shape, target)?))?;
            return Ok(Verdict::Good);
        }
        (Pass::Forward, Some(PlanName::Number(number))) => {
            let mut plans = cuda::forward_choices(&lowered, shape, target)?;
            if number >= plans.len() {
                bail!("there is no plan {number}: the forward pass has {}, see --plan list", plans.len());
            }
            plans.swap_remove(number)
        }
        (Pass::Backward, None) => cuda::backward(&lowered, shape, target, !args.nondeterministic)?,
        (Pass::Backward, Some(_)) => bail!("the backward pass has one plan: leave --plan out"),
    };
    let mut files: Vec<SourceFile> = vec![];
    if !linear {
        let chains = args.pass == Pass::Backward;
        let features = cuda::features(&lowered, shape, target).into_iter();
        let of_pass = |kernel: &Kernel| chains || matches!(kernel.kind, KernelKind::Feature(_));
        files.extend(features.filter(of_pass).map(SourceFile::from));
    }
    files.extend(kernels.into_iter().map(SourceFile::from));
    if args.pass == Pass::Backward && !lowered.backward.parameters.is_empty() {
        files.push(reduce());
    }
    match &args.output {
        Some(folder) => write(folder, &files, out)?,
        None => {
            for (at, file) in files.iter().enumerate() {
                let SourceFile { name, entry, threads, shared_memory, source } = file;
                let gap = if at == 0 { "" } else { "\n" };
                let launch = format!("{entry}, {threads} threads, {shared_memory} bytes of dynamic shared memory");
                writeln!(out, "{gap}// ---- {name}: {launch}\n{}", source.trim_end())?;
            }
        }
    }
    Ok(Verdict::Good)
}

/// The plans of a forward pass, the one of the rules first, and below each other what the heads of their kernels say.
fn plans(plans: &[Vec<Kernel>]) -> String {
    let mut rows = table(&["plan", "queries", "keys", "threads", "shared memory"]);
    let mut heads = String::new();
    for (number, kernel) in plans.iter().enumerate().filter_map(|(number, plan)| Some((number, plan.last()?))) {
        let Kernel { block_q, block_kv, threads, shared_memory, .. } = *kernel;
        let cells = [block_q, block_kv, threads, shared_memory].map(|cell| cell.to_string());
        rows.add_row(std::iter::once(number.to_string()).chain(cells));
        let head = kernel.source.lines().next().unwrap_or_default().trim_start_matches("// ");
        let head = head.trim_end_matches(" Written by attn from:");
        heads.push_str(&format!("{number}: {head}\n"));
    }
    format!("{rows}\n\n{heads}")
}

/// A kernel in a file of its own, and what its launch needs to know.
struct SourceFile {
    name: String,
    entry: &'static str,
    threads: u32,
    shared_memory: u32,
    source: String,
}

impl From<Kernel> for SourceFile {
    fn from(kernel: Kernel) -> Self {
        let Kernel { entry, file_name, source, threads, shared_memory, .. } = kernel;
        SourceFile { name: file_name, entry, threads, shared_memory, source }
    }
}

/// The kernel that adds the partial sums of parameters' gradients.
fn reduce() -> SourceFile {
    SourceFile {
        name: "attn_reduce.cu".to_owned(),
        entry: "attn_reduce",
        threads: cuda::REDUCE_THREADS,
        shared_memory: 0,
        source: cuda::reduce_source().to_owned(),
    }
}

fn write(folder: &Path, files: &[SourceFile], out: &mut dyn Write) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut rows = table(&["file", "kernel", "threads", "shared memory"]);
    for (at, file) in files.iter().enumerate() {
        if files[..at].iter().any(|other| other.name == file.name) {
            bail!("two kernels would be written to {}", file.name);
        }
        let path = folder.join(&file.name);
        fs::write(&path, &file.source).with_context(|| format!("cannot write {}", path.display()))?;
        let numbers = [file.threads.to_string(), file.shared_memory.to_string()];
        rows.add_row([&path.display().to_string(), file.entry, &numbers[0], &numbers[1]]);
    }
    writeln!(out, "{rows}")?;
    Ok(())
}
