//! `attn selftest`: every gallery variant, forward and backward, against the naive f64 reference.
//!
//! Invariant: what could not be computed at all counts as a miss.

mod cases;

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result, bail};
use attn::gallery::{self, Entry};
use attn::testing::gallery_arguments;
use attn::{Attention, Device};
use attn_runtime::testing::{Comparison, Expected};
use rayon::prelude::*;
use regex::Regex;
use serde_json::{Value, json};

use self::cases::{Effort, TestCase};
use super::table;
use crate::Verdict;
use crate::device::{DeviceArgs, ElementName, is_simulated, name_of_all};
use crate::variant::with_mask;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    device: DeviceArgs,
    /// With --device sim: how many seeds every case is tried at, counted up from --seed; 1 if not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    seeds: Option<u32>,
    /// One JSON object for each variant and type instead of the table
    #[arg(long)]
    json: bool,
    /// Only what matches, as VARIANT/DTYPE: `^softmax/`, `bf16`
    #[arg(long, value_name = "REGEX")]
    only: Option<Regex>,
    /// Types of q, k and v; all if not given
    #[arg(long, value_delimiter = ',')]
    dtype: Vec<ElementName>,
    /// Multiplies every tolerance: below 1 is stricter
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    tolerance: f64,
    /// Backward passes that add sums over keys in any order, where a schedule is faster so: equal calls need not give equal bits
    #[arg(long)]
    nondeterministic: bool,
    /// Two small shapes a variant
    #[arg(long, conflicts_with = "thorough")]
    quick: bool,
    /// Every head dimension for every variant
    #[arg(long)]
    thorough: bool,
}

/// The worst error of one tensor over all cases.
#[derive(Clone, Copy, Debug)]
struct Worst {
    error: f64,
    tolerance: f64,
}

/// What was found for one variant in one type.
#[derive(Debug)]
struct Finding {
    variant: &'static str,
    dtype: String,
    /// Of the tolerances.
    factor: f64,
    cases: usize,
    worst: BTreeMap<String, Worst>,
    misses: Vec<String>,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict> {
    let devices = args.device.open_seeds(args.seeds)?;
    let effort = match (args.quick, args.thorough) {
        (true, _) => Effort::Quick,
        (false, false) if devices.iter().any(is_simulated) => Effort::Simulated,
        (false, false) => Effort::Usual,
        (false, true) => Effort::Thorough,
    };
    let all = [ElementName::F32, ElementName::F16, ElementName::Bf16];
    let types = if args.dtype.is_empty() { &all[..] } else { &args.dtype };
    let wanted = |entry: &Entry, element: ElementName| {
        args.only.as_ref().is_none_or(|only| only.is_match(&format!("{}/{}", entry.name, element.dtype())))
    };
    let jobs: Vec<(usize, &Entry, ElementName)> = gallery::all()
        .iter()
        .enumerate()
        .flat_map(|(at, entry)| types.iter().map(move |&element| (at, entry, element)))
        .filter(|&(_, entry, element)| wanted(entry, element))
        .collect();
    if jobs.is_empty() {
        bail!("nothing matches; `attn list` shows the variants, and the types are f32, f16 and bf16");
    }
    let findings: Vec<Finding> = jobs
        .par_iter()
        .map(|&(at, entry, element)| {
            let cases = cases::cases(at, effort, element.dtype());
            test(args, entry, element, &cases, &devices)
        })
        .collect();

    if args.json {
        for finding in &findings {
            writeln!(out, "{}", finding.json(&name_of_all(&devices)))?;
        }
    } else {
        print(&findings, &name_of_all(&devices), out)?;
    }
    let good = findings.iter().all(|finding| finding.misses.is_empty());
    Ok(if good { Verdict::Good } else { Verdict::Bad })
}

fn test(args: &Args, entry: &'static Entry, element: ElementName, cases: &[TestCase], devices: &[Device]) -> Finding {
    let mut finding = Finding {
        variant: entry.name,
        dtype: element.dtype().to_string(),
        factor: args.tolerance,
        cases: cases.len() * devices.len(),
        worst: BTreeMap::new(),
        misses: Vec::new(),
    };
    let mut prepared = None;
    for test in cases {
        if let Err(error) = finding.add(entry, test, devices, !args.nondeterministic, &mut prepared) {
            finding.misses.push(format!("{test}: {error:#}"));
        }
    }
    finding
}

/// The attentions of a mask, one a device.
type Prepared = (Option<&'static str>, Vec<Attention>);

impl Finding {
    /// Runs one case on every device. `prepared` is what the last one ran on, for its mask.
    fn add(
        &mut self,
        entry: &Entry,
        test: &TestCase,
        devices: &[Device],
        deterministic: bool,
        prepared: &mut Option<Prepared>,
    ) -> Result<()> {
        let attentions = match prepared {
            Some((mask, attentions)) if *mask == test.mask => attentions,
            _ => {
                let definition = match test.mask {
                    Some(mask) => &with_mask((entry.definition)(), mask)?,
                    None => (entry.definition)(),
                };
                let prepare = |device| Ok(Attention::new(definition, device)?.deterministic(deterministic));
                let attentions = devices.iter().map(prepare);
                &prepared.insert((test.mask, attentions.collect::<Result<_>>()?)).1
            }
        };
        let first = attentions.first().context("there is a device")?;
        let arguments = gallery_arguments(first.definition(), &test.case).context("making the arguments")?;
        let expected = Expected::new(first, &arguments)?;
        for attention in attentions {
            let on = if devices.len() > 1 { format!(" on {}", attention.device()) } else { String::new() };
            match expected.compare(attention) {
                Ok(comparisons) => comparisons.into_iter().for_each(|found| self.count(&format!("{test}{on}"), found)),
                Err(error) => self.misses.push(format!("{test}{on}: {:#}", anyhow::Error::from(error))),
            }
        }
        Ok(())
    }

    /// Takes up one comparison of a case.
    fn count(&mut self, test: &str, mut comparison: Comparison) {
        comparison.tolerance *= self.factor;
        if !comparison.passed() {
            self.misses.push(format!("{test}: {comparison}"));
        }
        let found = Worst { error: comparison.rms_relative, tolerance: comparison.tolerance };
        let worst = self.worst.entry(comparison.name).or_insert(found);
        // An error that is no number must not be lost to a later one.
        if found.error > worst.error || found.error.is_nan() {
            *worst = found;
        }
    }

    /// The worst error of the tensors that `which` holds for.
    fn error(&self, which: impl Fn(&str) -> bool) -> String {
        let errors = self.worst.iter().filter(|(name, _)| which(name)).map(|(_, worst)| worst.error);
        let worst = errors.reduce(|worst, error| if error <= worst { worst } else { error });
        worst.map_or_else(String::new, |error| format!("{error:.1e}"))
    }

    fn json(&self, device: &str) -> Value {
        let number = |of: fn(&Worst) -> f64| -> serde_json::Map<String, Value> {
            self.worst.iter().map(|(name, worst)| (name.clone(), json!(of(worst)))).collect()
        };
        json!({
            "variant": self.variant,
            "dtype": self.dtype,
            "device": device,
            "cases": self.cases,
            "errors": number(|worst| worst.error),
            "tolerances": number(|worst| worst.tolerance),
            "passed": self.misses.is_empty(),
            "misses": self.misses,
        })
    }
}

fn print(findings: &[Finding], device: &str, out: &mut dyn Write) -> Result<()> {
    let tensors = ["o", "statistic", "dq", "dk", "dv"];
    let mut header = vec!["variant", "dtype", "cases"];
    header.extend(tensors);
    header.extend(["parameters", "verdict"]);
    let mut rows = table(&header);
    for finding in findings {
        let mut row = vec![finding.variant.to_owned(), finding.dtype.clone(), finding.cases.to_string()];
        row.extend(tensors.map(|tensor| finding.error(|name| name == tensor)));
        row.push(finding.error(|name| name.starts_with("d_")));
        row.push(match finding.misses.len() {
            0 => "ok".to_owned(),
            misses => format!("{misses} MISSED"),
        });
        rows.add_row(row);
    }
    writeln!(out, "{rows}")?;
    for finding in findings {
        for miss in &finding.misses {
            writeln!(out, "{} {miss}", finding.variant)?;
        }
    }
    let cases: usize = findings.iter().map(|finding| finding.cases).sum();
    let missed = findings.iter().filter(|finding| !finding.misses.is_empty()).count();
    writeln!(
        out,
        "{device}: {} variants and types, {cases} cases forward and backward, {missed} missed; errors are RMS, relative",
        findings.len()
    )?;
    Ok(())
}
