//! What the README says about speed is what `bench/results.jsonl` holds: the table is made from its rows.

use std::collections::BTreeMap;

use serde_json::Value;

const START: &str = "<!-- measured -->\n";
const END: &str = "<!-- /measured -->";

/// Variant, pass, length and head dimension.
type Case = (String, String, u64, u64);
/// Milliseconds, TFLOP/s and error of every round, by peer and case.
type Rounds = BTreeMap<(String, Case), Vec<(f64, f64, f64)>>;

/// The rounds of the file's last run.
fn rounds() -> Rounds {
    let text = include_str!("../bench/results.jsonl");
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("a row is JSON")).collect();
    let run = rows.iter().rev().find_map(|row| row["run"].as_str()).expect("a run has an id").to_owned();
    let mut rounds = Rounds::new();
    for row in rows.iter().filter(|row| row["run"] == run.as_str() && row["ms"].is_f64() && row["pass"].is_string()) {
        let text = |key: &str| row[key].as_str().expect("a text").to_owned();
        let number = |key: &str| row[key].as_u64().expect("a length");
        let case = (text("variant"), text("pass"), number("s"), number("d"));
        let measured =
            (row["ms"].as_f64().unwrap(), row["tflops"].as_f64().unwrap(), row["err"].as_f64().unwrap_or(f64::NAN));
        rounds.entry((text("peer"), case)).or_default().push(measured);
    }
    rounds
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The peer's time over ours, round by round, on softmax with the same mask: no peer has the other variants.
fn ratio(rounds: &Rounds, peer: &str, case: &Case) -> String {
    let softmax = if case.0.ends_with("-causal") { "softmax-causal" } else { "softmax" };
    let theirs = rounds.get(&(peer.to_owned(), (softmax.to_owned(), case.1.clone(), case.2, case.3)));
    let ours = &rounds[&("attn".to_owned(), case.clone())];
    match theirs {
        Some(theirs) => format!("{:.2}", median(ours.iter().zip(theirs).map(|(a, b)| b.0 / a.0).collect())),
        None => String::new(),
    }
}

/// Softmax at every head dimension, sigmoid at two, others at one: the file has the rest.
fn is_shown((variant, _, _, head_dim): &Case) -> bool {
    match variant.trim_end_matches("-causal") {
        "softmax" => true,
        "sigmoid" => *head_dim <= 128,
        _ => *head_dim == 128,
    }
}

fn table() -> String {
    let rounds = rounds();
    let mut table = String::from(
        "| variant | pass | length | head_dim | TFLOP/s | x FlashAttention-2 | x cuDNN | error |\n|---|---|---|---|---|---|---|---|\n",
    );
    for ((_, case), measured) in rounds.iter().filter(|((peer, case), _)| peer == "attn" && is_shown(case)) {
        let (variant, pass, length, head_dim) = case;
        let speed = median(measured.iter().map(|round| round.1).collect());
        let (flash, cudnn) = (ratio(&rounds, "fa2", case), ratio(&rounds, "cudnn", case));
        let error = measured[0].2;
        table +=
            &format!("| {variant} | {pass} | {length} | {head_dim} | {speed:.0} | {flash} | {cudnn} | {error:.1e} |\n");
    }
    table
}

#[test]
fn the_speed_table_is_the_last_run() {
    let readme = include_str!("../README.md");
    let start = readme.find(START).expect("the table's start is marked") + START.len();
    let end = readme.find(END).expect("the table's end is marked");
    let expected = table();
    assert!(readme[start..end] == expected, "put this between the marks in README.md:\n\n{expected}");
}
