//! `attn bench`: times of variants, forward and backward, as rows that stand beside those of other programs.
//!
//! Invariants: one JSON object a row, with the keys run, device, commit, peer, variant, pass, dtype, b, h, s, d, ms (the median),
//! tflops and err; what cannot be measured is a row with `error` instead of numbers.

mod cases;
mod measure;
mod memory;
mod report;

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use attn::{Attention, Plan};
use attn_cli::measurements::Pass;
use regex::Regex;

use self::cases::{Shape, Workload, shapes};
use self::measure::{Errors, Inputs};
use self::report::{Report, Row};
use crate::Verdict;
use crate::device::{DeviceName, ScheduleName, gpu};
use crate::variant::with_mask;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object a row, as soon as it is measured, instead of the table
    #[arg(long)]
    json: bool,
    /// Only what matches, as attn/VARIANT/PASS/DTYPE/sLENGTH/dDIM: `attn/softmax/fwd/bf16/s4096/d128`
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// An id in every row, so that rows of one run can be compared
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// The commit in every row, where git cannot tell
    #[arg(long, value_name = "ID")]
    commit: Option<String>,
    /// Where to run: cpu, cuda, cuda:NUMBER or oracle; the best device there is if not given
    #[arg(long, value_name = "NAME")]
    device: Option<DeviceName>,
    /// A shape to time instead of the usual ones, in bf16; may be given more than once
    #[arg(long, value_name = "B,H,S,D", conflicts_with_all = ["quick", "memory"])]
    shape: Vec<Shape>,
    /// Fewer shapes, and bf16 alone
    #[arg(long)]
    quick: bool,
    /// A file that rows are appended to as JSON
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How often each pass is timed, after three times to warm up; the median counts
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// The plan of forward passes by its number, as `attn emit --plan list` counts them; if not given, that of the rules, or the
    /// fastest with ATTN_AUTOTUNE=1
    #[arg(long, value_name = "N", conflicts_with = "memory")]
    plan: Option<usize>,
    /// The schedule of variants whose weights factorise: quadratic or linear; linear if not given
    #[arg(long, value_name = "NAME", conflicts_with = "memory")]
    schedule: Option<ScheduleName>,
    /// Backward passes that add sums over keys in any order, where a schedule is faster so: equal calls need not give equal bits
    #[arg(long)]
    nondeterministic: bool,
    /// Forward passes with all that a backward pass needs of them: the second output of an entmax or of a map after normalization
    #[arg(long)]
    training: bool,
    /// Measures the peak of a GPU's memory over forward and backward pass at growing lengths instead of times
    #[arg(long)]
    memory: bool,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict> {
    let device = DeviceName::open_to_time(args.device)?;
    let mut report = Report::new(args, &device, out)?;
    if args.memory {
        memory::run(args, &device, &mut report)?;
        return report.finish();
    }
    let mut errors = Errors::new(&device, !args.nondeterministic);
    let mut prepared: HashMap<&str, Result<Attention>> = HashMap::new();
    let usual = || shapes(gpu(&device).is_some(), args.quick);
    for shape in if args.shape.is_empty() { usual() } else { args.shape.clone() } {
        let wanted: Vec<(&Workload, Vec<Pass>)> = cases::WORKLOADS
            .iter()
            .filter(|workload| workload.is_timed_in(&shape) && workload.has(&shape))
            .map(|workload| {
                let wants = |pass: &Pass| args.wants(workload, *pass, &shape);
                (workload, Pass::BOTH.into_iter().filter(wants).collect::<Vec<_>>())
            })
            .filter(|(_, passes)| !passes.is_empty())
            .collect();
        if wanted.is_empty() {
            continue;
        }
        let inputs = Inputs::new(&shape, &device);
        for (workload, passes) in wanted {
            // One for all shapes: what it compiled serves every length.
            let prepare = || {
                let attention = Attention::new(&workload.definition()?, &device)?
                    .deterministic(!args.nondeterministic)
                    .schedule(ScheduleName::schedule(args.schedule));
                Ok(match args.plan {
                    Some(number) => attention.plan(Plan::Choice(number)),
                    None => attention,
                })
            };
            let attention = prepared.entry(workload.name).or_insert_with(prepare);
            for pass in passes {
                report.begin(&case_name(workload, pass, &shape));
                let measured = match (&*attention, &inputs) {
                    (Ok(attention), Ok(inputs)) => {
                        let known = attention.tunings().len();
                        let packed = measure::packed(attention, workload, &shape);
                        let measured =
                            packed.and_then(|packed| measure::pass(&packed, inputs, pass, args.training, args.rounds));
                        // what ATTN_AUTOTUNE=1 decided for this case
                        attention.tunings()[known..].iter().for_each(|tuning| eprintln!("  plan {tuning}"));
                        measured
                    }
                    (Err(error), _) | (_, Err(error)) => Err(anyhow::anyhow!("{error:#}")),
                };
                let found = measured.and_then(|ms| {
                    let tflops = cases::flops(&shape, workload, pass) / ms / 1e9;
                    Ok((ms, tflops, errors.of(workload, &shape, pass)?))
                });
                report.add(&Row { workload: workload.name, pass: pass.name(), shape, found })?;
            }
        }
    }
    report.finish()
}

impl Args {
    fn wants(&self, workload: &Workload, pass: Pass, shape: &cases::Shape) -> bool {
        self.only.as_ref().is_none_or(|only| only.is_match(&case_name(workload, pass, shape)))
    }
}

/// What `--only` is matched with.
fn case_name(workload: &Workload, pass: Pass, shape: &cases::Shape) -> String {
    let dtype = cases::dtype_name(shape.dtype);
    format!("attn/{}/{}/{dtype}/s{}/d{}", workload.name, pass.name(), shape.length, shape.head_dim)
}

impl Workload {
    fn definition(&self) -> Result<attn::Definition> {
        let entry = attn::gallery::find(self.entry)
            .ok_or_else(|| anyhow::anyhow!("the gallery has no variant `{}`", self.entry))?;
        match self.mask {
            Some(mask) => with_mask((entry.definition)(), mask),
            None => Ok((entry.definition)().clone()),
        }
    }
}
