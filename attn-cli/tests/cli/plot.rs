//! Pictures of rows that `attn bench` made.

use super::support::attn;

#[test]
fn bench_rows_become_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (rows, picture) = (path("rows.jsonl"), path("picture.svg"));
    let only = ["--only", "/(softmax|sink)-causal/fwd/"];
    for run in ["first", "second"] {
        let bench = ["bench", "--device", "cpu", "--quick", "--rounds", "1", "--run", run, "--out", &rows];
        attn(&[&bench[..], &only].concat()).ended(0);
    }
    let base = ["plot", "bench", "--rows", &rows, "--length", "256", "--head-dim", "64"];
    let plot = |more: &[&str]| attn(&[&base[..], more].concat());
    attn(&["plot", "--help"]).ended(0).says("bench ").says("Draws what was measured");
    attn(&["plot", "bench", "--help"]).ended(0).says("[default: bench/results.jsonl]").says("-o, --output <FILE>");

    let shown = plot(&["--dtype", "bf16"]).ended(0).says("<svg ").says(">softmax-causal<").says(">sink-causal<");
    let shown = shown.says("Median of 1 round of run second.").says("FLOP: 4 b h s").out;
    assert!(
        !shown.contains("cuDNN") && !shown.contains("document"),
        "only what was measured is in the legend:\n{shown}"
    );
    plot(&["-o", &picture]).ended(0).says(&picture);
    assert_eq!(std::fs::read_to_string(&picture).unwrap(), shown, "equal rows give equal bytes");
    plot(&["--run", "first"]).ended(0).says("of run first.");

    plot(&["--run", "third"]).ended(1).complains("has no run `third`; it has first, second");
    plot(&["--pass", "bwd"]).ended(1).complains("no attn row of bwd bf16 s256 d64").complains("fwd bf16 s256 d64");
    plot(&["--pass", "forward"]).ended(2).complains("possible values: bwd, fwd");
    plot(&["--head-dim", "64,x"]).ended(2).complains("--head-dim");
    attn(&["plot", "bench", "--rows", "missing.jsonl"]).ended(1).complains("cannot read missing.jsonl");
    attn(&["plot"]).ended(2).complains("Usage");
    let text = std::fs::read_to_string(&rows).unwrap();
    std::fs::write(&rows, text + "{\"run\": \"second\"}\n").unwrap();
    plot(&[]).ended(1).complains("rows.jsonl:5: `device` is missing and must be a text; mend the line or take it out");
}
