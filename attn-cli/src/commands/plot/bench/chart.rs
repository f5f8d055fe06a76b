//! What the picture of a run shows: which bars, in which order, how long, and what is said about them.
//!
//! Invariants: only times of one pass, length and type meet in a chart, and of one batch and number of heads in a panel; every
//! panel has every group, and a group the same bars in all panels, measured or not.

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use attn_cli::measurements::{Case, OURS, Pass, Round, Run, is_a_mask, ratio, softmax_beside, tflops};

use super::Args;
use super::peers::{Peer, peers};

/// More would be too narrow to read in a page.
const MOST_PANELS: usize = 4;

pub(super) struct Chart {
    pub(super) title: String,
    pub(super) subtitle: String,
    /// All that have a bar, in the order of the legend.
    pub(super) peers: Vec<Peer>,
    pub(super) groups: Vec<Group>,
    pub(super) panels: Vec<Panel>,
    /// What cuBLAS reaches in a product of matrices.
    pub(super) gemm: Option<f64>,
    /// How to read it, a sentence each.
    pub(super) notes: Vec<String>,
}

/// A variant.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    pub(super) variant: String,
    /// Whose bars it has, from the top, as indices into the chart's peers.
    pub(super) bars: Vec<usize>,
}

/// A head dimension.
pub(super) struct Panel {
    pub(super) title: String,
    /// Batch and heads.
    pub(super) extents: String,
    /// By group.
    pub(super) cells: Vec<Cell>,
}

/// A group in a panel.
#[derive(Debug, PartialEq)]
pub(super) struct Cell {
    /// By bar of the group.
    pub(super) bars: Vec<Bar>,
    /// The fastest softmax of a peer under the same mask, in TFLOP/s.
    pub(super) softmax: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bar {
    /// Was not tried.
    Absent,
    /// Was tried, and ended with an error.
    Failed,
    Measured {
        tflops: f64,
        /// Ours alone: the time of the fastest peer that has the variant over ours.
        ratio: Option<f64>,
    },
}

impl Chart {
    pub(super) fn new(run: &Run, args: &Args) -> Result<Chart> {
        if args.head_dim.len() > MOST_PANELS {
            bail!("a picture has room for {MOST_PANELS} head dimensions; give fewer with --head-dim");
        }
        let wanted = |case: &Case| {
            case.pass == args.pass
                && case.length == args.length
                && case.dtype == args.dtype
                && args.head_dim.contains(&case.head_dim)
        };
        let ours: Vec<&Case> =
            run.cases().filter(|(peer, case, _)| *peer == OURS && wanted(case)).map(|(_, case, _)| case).collect();
        let extents = args.head_dim.iter().map(|&head_dim| extents(run, &ours, head_dim, args));
        let extents = extents.collect::<Result<Vec<_>>>()?;
        let tried = |peer: &str, variant: &str| {
            run.cases().any(|(name, case, _)| name == peer && case.variant == variant && wanted(case))
        };
        let variants: Vec<&String> = run.variants().iter().filter(|variant| tried(OURS, variant)).collect();
        let names = run.cases().map(|(peer, ..)| peer);
        let peers = peers(names.filter(|peer| variants.iter().any(|variant| tried(peer, variant))))?;
        let groups: Vec<Group> = variants
            .iter()
            .map(|variant| Group {
                variant: (*variant).clone(),
                bars: (0..peers.len()).filter(|&peer| tried(&peers[peer].name, variant)).collect(),
            })
            .collect();
        let panels = args.head_dim.iter().zip(extents).map(|(&head_dim, (batch, heads))| {
            let cell = |group: &Group| {
                let (variant, dtype) = (group.variant.clone(), args.dtype.clone());
                let case = Case { variant, pass: args.pass, length: args.length, head_dim, dtype, batch, heads };
                Cell::new(run, &peers, group, &case)
            };
            let (title, extents) = (format!("head_dim {head_dim}"), format!("b = {batch}, h = {heads}"));
            Panel { title, extents, cells: groups.iter().map(cell).collect() }
        });
        let panels: Vec<Panel> = panels.collect();
        let gemm = run.yardstick("cublas", "gemm8192");
        let shown = run.cases().filter(|(_, case, _)| wanted(case) && variants.contains(&&case.variant));
        let rounds = rounds(shown.map(|(_, _, rounds)| rounds));
        let pass = if args.pass == Pass::Forward { "Forward" } else { "Backward" };
        let mut chart = Chart {
            title: format!("{pass} pass, length {}, {}, {}", args.length, args.dtype, run.device()),
            subtitle: format!("TFLOP/s: longer bars are faster. Median of {rounds} of run {}.", run.id()),
            notes: Vec::new(),
            peers,
            groups,
            panels,
            gemm,
        };
        chart.notes = notes(args.pass, &chart);
        Ok(chart)
    }

    /// Where the axis ends. A mask that kernels may skip pairs of, while all are counted, can exceed every real speed: its bars
    /// are cut instead.
    pub(super) fn top(&self) -> f64 {
        let mut top: f64 = self.gemm.unwrap_or(0.0);
        let mut cut: f64 = 0.0;
        for panel in &self.panels {
            for (group, cell) in self.groups.iter().zip(&panel.cells) {
                let speeds = cell.bars.iter().filter_map(Bar::tflops).chain(cell.softmax);
                let longest = speeds.fold(0.0, f64::max);
                let end = if counts_masked_pairs(&group.variant) { &mut cut } else { &mut top };
                *end = end.max(longest);
            }
        }
        1.03 * if top > 0.0 { top } else { cut.max(1.0) }
    }
}

impl Cell {
    fn new(run: &Run, peers: &[Peer], group: &Group, case: &Case) -> Cell {
        let ours = run.rounds(OURS, case).unwrap_or_default();
        let others = group.bars.iter().map(|&peer| peers[peer].name.as_str()).filter(|&peer| peer != OURS);
        let fastest = others
            .filter_map(|peer| run.rounds(peer, case))
            .max_by(|a, b| tflops(a).unwrap_or(0.0).total_cmp(&tflops(b).unwrap_or(0.0)));
        let bar = |&peer: &usize| {
            let peer = peers[peer].name.as_str();
            match run.rounds(peer, case).map(tflops) {
                None => Bar::Absent,
                Some(None) => Bar::Failed,
                Some(Some(tflops)) => {
                    let theirs = fastest.filter(|_| peer == OURS);
                    Bar::Measured { tflops, ratio: theirs.and_then(|theirs| ratio(ours, theirs)) }
                }
            }
        };
        Cell { bars: group.bars.iter().map(bar).collect(), softmax: softmax(run, case) }
    }
}

impl Bar {
    pub(super) fn tflops(&self) -> Option<f64> {
        match *self {
            Bar::Measured { tflops, .. } => Some(tflops),
            Bar::Absent | Bar::Failed => None,
        }
    }
}

/// The fastest softmax of a peer under the mask of a variant that is not softmax itself.
fn softmax(run: &Run, case: &Case) -> Option<f64> {
    let softmax = softmax_beside(&case.variant);
    if is_a_mask(&case.variant) || case.variant == softmax {
        return None;
    }
    let softmax = Case { variant: softmax.to_owned(), ..case.clone() };
    let theirs = run.cases().filter(|&(peer, case, _)| peer != OURS && *case == softmax);
    theirs.filter_map(|(_, _, rounds)| tflops(rounds)).max_by(f64::total_cmp)
}

/// Batch and heads of our rows at a head dimension.
fn extents(run: &Run, ours: &[&Case], head_dim: usize, args: &Args) -> Result<(usize, usize)> {
    let cases = ours.iter().filter(|case| case.head_dim == head_dim);
    let extents: BTreeSet<_> = cases.map(|case| (case.batch, case.heads)).collect();
    let all: Vec<_> = extents.into_iter().collect();
    match all[..] {
        [one] => Ok(one),
        [] => {
            let (pass, id, length, dtype) = (args.pass.name(), run.id(), args.length, &args.dtype);
            let shape =
                |case: &Case| format!("{} {} s{} d{}", case.pass.name(), case.dtype, case.length, case.head_dim);
            let there = run.cases().filter(|(peer, ..)| *peer == OURS).map(|(_, case, _)| shape(case));
            let there: Vec<String> = there.collect::<BTreeSet<_>>().into_iter().collect();
            bail!(
                "run `{id}` has no {OURS} row of {pass} {dtype} s{length} d{head_dim}; choose --pass, --dtype, --length and \
                 --head-dim of those it has: {}",
                there.join(", ")
            )
        }
        _ => bail!(
            "run `{}` has rows of several batches and heads at head_dim {head_dim}, which are no one panel: {}",
            run.id(),
            all.iter().map(|(batch, heads)| format!("b {batch}, h {heads}")).collect::<Vec<_>>().join("; ")
        ),
    }
}

/// How many rounds cases have that did not fail.
fn rounds<'a>(cases: impl Iterator<Item = &'a [Round]>) -> String {
    let counts: BTreeSet<usize> = cases.map(<[_]>::len).filter(|&count| count > 0).collect();
    match (counts.first(), counts.last()) {
        (Some(1), Some(1)) => "1 round".to_owned(),
        (Some(least), Some(most)) if least == most => format!("{most} rounds"),
        (Some(least), Some(most)) => format!("{least} to {most} rounds"),
        _ => "no round".to_owned(),
    }
}

/// Whether the count of operations has all pairs although the mask leaves few.
fn counts_masked_pairs(variant: &str) -> bool {
    variant.starts_with("document")
}

/// How operations are counted, as `attn bench` and those who time others do, and what else is to know of what is shown.
fn notes(pass: Pass, chart: &Chart) -> Vec<String> {
    let named = |prefix: &str| chart.groups.iter().map(|group| &group.variant).find(|name| name.starts_with(prefix));
    let factor = if pass == Pass::Forward { 4 } else { 10 };
    let mut count = format!("FLOP: {factor} b h s\u{b2} d for b sequences of length s and h heads, half when causal");
    if let Some(window) = named("window") {
        count += &format!(", the window's pairs for {window}");
    }
    if let Some(document) = named("document") {
        count += &format!(", all pairs for {document}");
    }
    let mut notes = vec![count + "."];
    let any = |test: &dyn Fn(&Bar) -> bool| {
        chart.panels.iter().flat_map(|panel| &panel.cells).any(|cell| cell.bars.iter().any(test))
    };
    if any(&|bar| matches!(bar, Bar::Measured { ratio: Some(_), .. })) {
        let factor = "the time of the fastest other program that has the variant over ours, round by round";
        notes.push(format!("Factors at our bars: {factor}; above 1x ours is faster."));
    }
    let mut signs = Vec::new();
    if any(&|bar| bar.tflops() > Some(chart.top())) {
        signs.push("A torn bar is longer than the axis: its kernel skips pairs that are counted.");
    }
    if any(&|bar| *bar == Bar::Absent) {
        signs.push("No bar: not measured.");
    }
    if any(&|bar| *bar == Bar::Failed) {
        signs.push("Failed: ended with an error.");
    }
    if !signs.is_empty() {
        notes.push(signs.join(" "));
    }
    notes
}
