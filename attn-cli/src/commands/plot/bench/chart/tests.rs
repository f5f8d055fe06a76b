//! What is shown of a run, from rows.

use super::*;

/// One row: peer, variant, head dimension, milliseconds or none if it failed.
fn row((peer, variant, head_dim, ms): (&str, &str, usize, Option<f64>)) -> String {
    let heads = 2048 / head_dim;
    let found = match ms {
        Some(ms) => format!(r#""ms":{ms},"tflops":{}"#, 1000.0 / ms),
        None => r#""error":"no kernel""#.to_owned(),
    };
    format!(
        r#"{{"run":"r","device":"gpu","peer":"{peer}","variant":"{variant}","pass":"fwd","dtype":"bf16","b":1,"h":{heads},"s":512,"d":{head_dim},{found}}}"#
    )
}

pub(in super::super) fn args(head_dim: &[usize]) -> Args {
    Args {
        rows: "rows.jsonl".into(),
        run: None,
        pass: Pass::Forward,
        length: 512,
        head_dim: head_dim.to_vec(),
        dtype: "bf16".to_owned(),
        output: None,
    }
}

/// The chart of these rows, and of more lines.
pub(in super::super) fn chart(rows: &[(&str, &str, usize, Option<f64>)], more: &[&str], args: &Args) -> Result<Chart> {
    let rows: Vec<String> = rows.iter().copied().map(row).chain(more.iter().map(|&line| line.to_owned())).collect();
    Chart::new(&Run::read(&rows.join("\n"), "rows.jsonl", None)?, args)
}

const ROWS: [(&str, &str, usize, Option<f64>); 17] = [
    ("attn", "softmax-causal", 64, Some(2.0)),
    ("attn", "softmax-causal", 64, Some(20.0)),
    ("attn", "softmax-causal", 64, Some(2.5)),
    ("attn", "alibi-causal", 64, Some(4.0)),
    ("attn", "relu", 64, Some(1.0)),
    ("attn", "window1024", 64, Some(8.0)),
    ("attn", "softmax-causal", 128, Some(2.0)),
    ("attn", "relu", 128, None),
    ("attn", "relu", 256, Some(1.0)),
    ("fa2", "softmax-causal", 64, Some(6.25)),
    ("cudnn", "softmax-causal", 64, Some(4.0)),
    ("cudnn", "softmax-causal", 64, Some(20.0)),
    ("cudnn", "softmax-causal", 64, Some(5.0)),
    ("cudnn", "softmax", 64, Some(2.0)),
    ("cudnn", "softmax", 128, None),
    ("fa2", "entmax", 64, Some(1.0)),
    ("adasplash", "entmax", 64, Some(1.0)),
];

#[test]
fn groups_are_our_variants_and_bars_are_those_who_have_them() {
    let chart = chart(&ROWS, &[], &args(&[64, 128])).unwrap();
    let names: Vec<&str> = chart.peers.iter().map(|peer| peer.name.as_str()).collect();
    assert_eq!(names, ["attn", "cudnn", "fa2"], "who has none of our variants is not in the legend");
    let groups: Vec<(&str, &[usize])> =
        chart.groups.iter().map(|group| (group.variant.as_str(), &group.bars[..])).collect();
    let expected: [(&str, &[usize]); 4] =
        [("softmax-causal", &[0, 1, 2]), ("alibi-causal", &[0]), ("relu", &[0]), ("window1024", &[0])];
    assert_eq!(groups, expected);
    assert_eq!(
        chart.panels.iter().map(|panel| panel.title.as_str()).collect::<Vec<_>>(),
        ["head_dim 64", "head_dim 128"]
    );
    assert_eq!(chart.panels[1].extents, "b = 1, h = 16");
    assert_eq!(chart.title, "Forward pass, length 512, bf16, gpu");
    assert_eq!(chart.subtitle, "TFLOP/s: longer bars are faster. Median of 1 to 3 rounds of run r.");
}

#[test]
fn bars_are_medians_and_ratios_are_of_the_fastest_round_by_round() {
    let chart = chart(&ROWS, &[], &args(&[64, 128])).unwrap();
    let bar = |tflops, ratio| Bar::Measured { tflops, ratio };
    let [small, large] = &chart.panels[..] else { panic!("two panels") };
    // Beside cuDNN: 2, 1 and 2, although one round was slow for both.
    assert_eq!(small.cells[0].bars, [bar(400.0, Some(2.0)), bar(200.0, None), bar(160.0, None)]);
    assert_eq!(large.cells[0].bars, [bar(500.0, None), Bar::Absent, Bar::Absent]);
    assert_eq!((&large.cells[1].bars[..], &large.cells[2].bars[..]), (&[Bar::Absent][..], &[Bar::Failed][..]));
    let notes = chart.notes.join(" ");
    assert!(notes.contains("4 b h s\u{b2} d ") && notes.contains("the window's pairs for window1024."), "{notes}");
    assert!(notes.contains("No bar: not measured. Failed: ended with an error."), "{notes}");
}

#[test]
fn other_variants_stand_beside_the_fastest_softmax_of_their_mask() {
    let chart = chart(&ROWS, &[], &args(&[64, 128])).unwrap();
    let marks = |panel: usize| chart.panels[panel].cells.iter().map(|cell| cell.softmax).collect::<Vec<_>>();
    assert_eq!(marks(0), [None, Some(200.0), Some(500.0), None]);
    assert_eq!(marks(1), [None; 4], "a softmax that failed is no mark");
}

#[test]
fn the_axis_holds_all_but_what_counts_masked_pairs() {
    let gemm = r#"{"run":"r","device":"gpu","peer":"cublas","variant":"gemm8192","ms":1.0,"tflops":1100.0}"#;
    let torn = [("attn", "relu", 64, Some(1.0)), ("attn", "document8", 64, Some(0.2))];
    let with = chart(&torn, &[gemm], &args(&[64])).unwrap();
    assert_eq!((with.gemm, with.top()), (Some(1100.0), 1.03 * 1100.0));
    assert!(with.notes[1].starts_with("A torn bar is longer than the axis"), "{:?}", with.notes);
    assert_eq!(chart(&torn, &[], &args(&[64])).unwrap().top(), 1.03 * 1000.0);
    let alone = chart(&torn[1..], &[], &args(&[64])).unwrap();
    assert_eq!(alone.top(), 1.03 * 5000.0, "nothing else to measure it by");
    assert_eq!(alone.notes.len(), 1, "{:?}", alone.notes);
}

#[test]
fn what_cannot_be_shown_is_refused_with_what_can() {
    let error = |args: &Args| chart(&ROWS, &[], args).err().unwrap().to_string();
    let there = "fwd bf16 s512 d128, fwd bf16 s512 d256, fwd bf16 s512 d64";
    let message = error(&args(&[64, 96]));
    assert!(
        message.starts_with("run `r` has no attn row of fwd bf16 s512 d96; ") && message.ends_with(there),
        "{message}"
    );
    assert!(error(&Args { pass: Pass::Backward, ..args(&[64]) }).contains("no attn row of bwd"));
    assert!(error(&Args { length: 1024, ..args(&[64]) }).contains("s1024"));
    assert!(error(&Args { dtype: "fp16".to_owned(), ..args(&[64]) }).contains("fwd fp16"));
    assert!(error(&args(&[64; 5])).contains("room for 4 head dimensions"));
    let other = row(("attn", "sink", 64, Some(1.0))).replace("\"h\":32", "\"h\":8");
    let message = chart(&ROWS, &[&other], &args(&[64])).err().unwrap().to_string();
    assert!(message.ends_with("at head_dim 64, which are no one panel: b 1, h 8; b 1, h 32"), "{message}");
}
