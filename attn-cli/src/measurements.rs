//! Rows of measurements, as `attn bench --json` and programs that time other kernels write them, read back.
//!
//! Invariants: all rows of a [`Run`] have its id and its device; a case that was timed several times keeps its rounds in the order
//! of the file, so that the n-th rounds of two programs are those that ran beside each other.

mod row;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::{Result, bail};
use clap::ValueEnum;

/// The name that rows of this project have as their peer.
pub const OURS: &str = "attn";

/// A pass, in the order of the names that it has in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Pass {
    /// dq, dk, dv and the gradients of parameters.
    #[value(name = "bwd")]
    Backward,
    /// The output and what the backward pass needs.
    #[value(name = "fwd")]
    Forward,
}

impl Pass {
    /// Both, in the order in which they run.
    pub const BOTH: [Pass; 2] = [Pass::Forward, Pass::Backward];

    /// The name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Pass::Forward => "fwd",
            Pass::Backward => "bwd",
        }
    }
}

/// What was timed, whoever did it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// The variant and its mask.
    pub variant: String,
    /// Which kernels.
    pub pass: Pass,
    /// Queries, and as many keys.
    pub length: usize,
    /// Of q, k and v.
    pub head_dim: usize,
    /// The type of q, k and v.
    pub dtype: String,
    /// Sequences.
    pub batch: usize,
    /// Heads of a sequence.
    pub heads: usize,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { variant, pass, length, head_dim, dtype, batch, heads } = self;
        write!(f, "{variant}/{}/{dtype}/b{batch}/h{heads}/s{length}/d{head_dim}", pass.name())
    }
}

/// One time of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// Milliseconds.
    pub ms: f64,
    /// Tera operations a second.
    pub tflops: f64,
    /// The error relative to the oracle; peers are not compared with it.
    pub error: Option<f64>,
}

/// The measurements of one run on one device.
#[derive(Debug, PartialEq)]
pub struct Run {
    id: String,
    device: String,
    /// By peer and case; a case that failed has none.
    rounds: BTreeMap<(String, Case), Vec<Round>>,
    /// What is no attention, by peer and name: a matrix product that shows what the device can do.
    yardsticks: BTreeMap<(String, String), Vec<Round>>,
    /// Our variants, as they come in the file.
    variants: Vec<String>,
}

impl Run {
    /// Reads the run with this id, or the last one, from JSON lines; `file` is what errors call the text.
    pub fn read(text: &str, file: &str, id: Option<&str>) -> Result<Run> {
        let lines = row::lines(text, file)?;
        let ids: Vec<&str> = lines.iter().filter_map(row::Line::run).collect();
        let Some(id) = id.or(ids.last().copied()) else {
            bail!("{file} has no row with a run's id; make rows with `attn bench --json --run ID --out {file}`");
        };
        if !ids.contains(&id) {
            let ids: BTreeSet<&str> = ids.into_iter().collect();
            bail!("{file} has no run `{id}`; it has {}", Vec::from_iter(ids).join(", "));
        }
        let mut run = Run {
            id: id.to_owned(),
            device: String::new(),
            rounds: BTreeMap::new(),
            yardsticks: BTreeMap::new(),
            variants: Vec::new(),
        };
        for line in lines.iter().filter(|line| line.run() == Some(id)) {
            run.add(line.parse()?, line)?;
        }
        Ok(run)
    }

    fn add(&mut self, row: row::Row, line: &row::Line<'_>) -> Result<()> {
        if self.device.is_empty() {
            self.device.clone_from(&row.device);
        } else if self.device != row.device {
            let (row, run) = (&row.device, &self.device);
            let message = format!("`device` is `{row}` and that of the run `{run}`: times of two cannot be compared");
            return Err(line.wrong(&message));
        }
        match row.what {
            row::What::Case(case, round) => {
                if row.peer == OURS && !self.variants.contains(&case.variant) {
                    self.variants.push(case.variant.clone());
                }
                self.rounds.entry((row.peer, case)).or_default().extend(round);
            }
            row::What::Yardstick(name, round) => {
                self.yardsticks.entry((row.peer, name)).or_default().extend(round);
            }
            row::What::Memory => {}
        }
        Ok(())
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Our variants, as they come in the file.
    pub fn variants(&self) -> &[String] {
        &self.variants
    }

    /// All that was tried, with its rounds, ordered by peer and case; none where it failed.
    pub fn cases(&self) -> impl Iterator<Item = (&str, &Case, &[Round])> {
        self.rounds.iter().map(|((peer, case), rounds)| (peer.as_str(), case, rounds.as_slice()))
    }

    /// The rounds of a case: `None` if it was not tried, none if it failed.
    pub fn rounds(&self, peer: &str, case: &Case) -> Option<&[Round]> {
        self.rounds.get(&(peer.to_owned(), case.clone())).map(Vec::as_slice)
    }

    /// The median speed of what is no attention.
    pub fn yardstick(&self, peer: &str, name: &str) -> Option<f64> {
        tflops(self.yardsticks.get(&(peer.to_owned(), name.to_owned()))?)
    }
}

/// The median; of an even number of values, the mean of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The median speed.
pub fn tflops(rounds: &[Round]) -> Option<f64> {
    median(rounds.iter().map(|round| round.tflops))
}

/// Their time over ours, the median of the ratios round by round: what slowed a whole round slowed both.
pub fn ratio(ours: &[Round], theirs: &[Round]) -> Option<f64> {
    median(ours.iter().zip(theirs).map(|(ours, theirs)| theirs.ms / ours.ms))
}

/// The softmax that a variant is compared with where a peer has no such variant: causal if it is.
pub fn softmax_beside(variant: &str) -> &'static str {
    if variant.ends_with("-causal") { "softmax-causal" } else { "softmax" }
}

/// Whether the mask is the variant: the softmax beside it sees other pairs.
pub fn is_a_mask(variant: &str) -> bool {
    ["window", "document", "packed"].iter().any(|prefix| variant.starts_with(prefix))
}
