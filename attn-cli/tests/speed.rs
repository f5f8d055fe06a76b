//! What the README says and shows of speed is what `bench/results.jsonl` holds: table and chart are made from its rows.

use std::path::Path;
use std::process::Command;

use attn_cli::measurements::{Case, OURS, Run, median, ratio, softmax_beside, tflops};

const START: &str = "<!-- measured -->\n";
const END: &str = "<!-- /measured -->";
const ROWS: &str = include_str!("../../bench/results.jsonl");
const README: &str = include_str!("../../README.md");
const ROWS_START: &str = "<!-- measured rows -->\n";
const ROWS_END: &str = "<!-- /measured rows -->";
/// The run of variants that need whole rows first, or run in linear time.
const ROWS_RUN: &str = "h100-2026-11-23-b";
/// Makes the chart, from the root of the checkout.
const PLOT: &str = "plot bench -o bench/forward.svg";

/// The peer's time over ours on softmax with the same mask: no peer of the table has the other variants.
fn ratio_to(run: &Run, peer: &str, case: &Case) -> String {
    let softmax = Case { variant: softmax_beside(&case.variant).to_owned(), ..case.clone() };
    let rounds = |peer: &str, case: &Case| run.rounds(peer, case).unwrap_or_default().to_vec();
    ratio(&rounds(OURS, case), &rounds(peer, &softmax)).map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
}

/// In bf16, softmax at every head dimension, sigmoid at two, others at one: the file has the rest.
fn is_shown(Case { variant, head_dim, dtype, .. }: &Case) -> bool {
    let is_shown = match variant.trim_end_matches("-causal") {
        "softmax" => true,
        "sigmoid" => *head_dim <= 128,
        _ => *head_dim == 128,
    };
    is_shown && dtype == "bf16"
}

fn table() -> String {
    let run = Run::read(ROWS, "bench/results.jsonl", None).expect("the rows are read");
    let mut table = String::from(
        "| variant | pass | length | head_dim | TFLOP/s | x FlashAttention-2 | x cuDNN | error |\n|---|---|---|---|---|---|---|---|\n",
    );
    for (_, case, measured) in run.cases().filter(|(peer, case, _)| *peer == OURS && is_shown(case)) {
        let Some(speed) = tflops(measured) else { continue };
        let Case { variant, pass, length, head_dim, .. } = case;
        let (flash, cudnn) = (ratio_to(&run, "fa2", case), ratio_to(&run, "cudnn", case));
        let (pass, error) = (pass.name(), measured[0].error.expect("ours are compared with the oracle"));
        table +=
            &format!("| {variant} | {pass} | {length} | {head_dim} | {speed:.0} | {flash} | {cudnn} | {error:.1e} |\n");
    }
    table
}

/// Of each case the time, that of softmax beside it and of the one other program that has the variant.
fn rows_table() -> String {
    let run = Run::read(ROWS, "bench/results.jsonl", Some(ROWS_RUN)).expect("the rows are read");
    let mut table = String::from(
        "| variant | pass | length | ms | x our softmax | other program | its ms | x | error |\n|---|---|---|---|---|---|---|---|---|\n",
    );
    for (_, case, ours) in run.cases().filter(|(peer, case, _)| *peer == OURS && !case.variant.starts_with("softmax")) {
        let Some(ms) = median(ours.iter().map(|round| round.ms)) else { continue };
        let Case { variant, pass, length, .. } = case;
        let plain = variant.trim_end_matches("-training");
        let softmax = Case { variant: softmax_beside(plain).to_owned(), ..case.clone() };
        let beside = run.rounds(OURS, &softmax).and_then(|softmax| ratio(ours, softmax));
        let beside = beside.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let same = Case { variant: plain.to_owned(), ..case.clone() };
        let other = run.cases().find(|(peer, other, rounds)| *peer != OURS && **other == same && !rounds.is_empty());
        let other = other.map_or_else(String::new, |(peer, _, theirs)| {
            let theirs_ms = median(theirs.iter().map(|round| round.ms)).expect("there are rounds");
            format!("{peer} | {theirs_ms:.2} | {:.2}", ratio(ours, theirs).expect("there are rounds"))
        });
        let other = if other.is_empty() { " |  | ".to_owned() } else { other };
        let error = ours[0].error.expect("ours are compared with the oracle");
        let pass = pass.name();
        table += &format!("| {variant} | {pass} | {length} | {ms:.2} | {beside} | {other} | {error:.1e} |\n");
    }
    table
}

/// What stands between two marks is what is expected there.
#[track_caller]
fn check(start: &str, end: &str, expected: &str) {
    let start = README.find(start).expect("the table's start is marked") + start.len();
    let end = README.find(end).expect("the table's end is marked");
    assert!(&README[start..end] == expected, "put this between the marks in README.md:\n\n{expected}");
}

#[test]
fn the_speed_table_is_the_last_run() {
    check(START, END, &table());
}

#[test]
fn the_table_of_rows_is_their_run() {
    check(ROWS_START, ROWS_END, &rows_table());
}

#[test]
fn the_chart_is_the_last_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the checkout");
    let command: Vec<&str> = PLOT.split(' ').collect();
    let (file, to_output) = (command[3], &command[..2]);
    let made =
        Command::new(env!("CARGO_BIN_EXE_attn")).args(to_output).current_dir(root).output().expect("attn starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let found = std::fs::read(root.join(file)).unwrap_or_default();
    let run = format!("cargo run -p attn-cli -- {PLOT}");
    assert!(found == made.stdout, "{file} is not what bench/results.jsonl gives; run `{run}`");
    for said in [format!("]({file})"), format!("attn {PLOT}")] {
        assert!(README.contains(&said), "README.md shows the chart, and says how it is made: `{said}`");
    }
}
