//! Lists, checks, self-tests and measurements, and how each of them ends.

use super::support::attn;
use attn::gallery;
use serde_json::Value;

#[test]
fn list_shows_every_variant() {
    let shown = attn(&["list"]).ended(0).says("ShiftedExponential").says("const slope: f32[h]").out;
    let listed: Value = serde_json::from_str(&attn(&["list", "--json"]).ended(0).out).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), gallery::all().len());
    for (entry, row) in gallery::all().iter().zip(listed) {
        assert!(shown.contains(&format!("| {} ", entry.name)), "{}", entry.name);
        assert_eq!(row["name"], entry.name);
        assert_eq!(row["citation"], entry.citation);
        let text = row["text"].as_str().unwrap();
        assert_eq!(attn::compile_one(text).unwrap().name, row["type"].as_str().unwrap());
    }
    let table = listed.iter().find(|row| row["name"] == "t5bias").unwrap();
    assert_eq!(table["parameters"][0]["type"], "f32[h, 32]");
    assert_eq!(table["parameters"][0]["learnable"], true);
}

#[test]
fn check_describes_what_is_right_and_shows_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = file(
        "good.attn",
        "struct Cap { cap: f32, const w: f32[h, n], score: |s, b, h| cap * tanh(s / cap) * w[h, 0] }",
    );
    let bad = file("bad.attn", "struct Cap {\n    score: |s| cpa * tanh(s),\n    mask: causl,\n}\n");
    let run = attn(&["check", &good]).ended(0);
    run.says("Cap: ShiftedExponential").says("cap: f32 (learnable)").says("const w: f32[h, n] (no gradient)");
    attn(&["check", &good, "--derivative"]).ended(0).says("backward:").says("d cap");
    let run = attn(&["check", &bad, &good]).ended(1).says("Cap: ShiftedExponential");
    run.complains("bad.attn:2:16")
        .complains("^^^")
        .complains("`cpa`")
        .complains("help: write `causal`")
        .complains("2 errors");
    attn(&["check", &good, "missing.attn"]).ended(1).complains("cannot read missing.attn");
    attn(&["check"]).ended(2);
}

#[test]
fn variants_without_a_stable_form_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("unstable.attn");
    std::fs::write(&path, "struct A { normalizer: sum * sum }").unwrap();
    attn(&["check", path.to_str().unwrap()]).ended(1).complains("no stable form");
}

#[test]
fn emit_prints_or_writes_kernels() {
    let shown = attn(&["emit", "sink", "--pass", "forward", "--mask", "causal"]).ended(0).says("__global__").out;
    let shape = ["--dtype", "f16", "--head-dim", "64", "--value-dim", "32", "--target", "sm_80"];
    let other = attn(&[&["emit", "sink", "--pass", "forward"], &shape[..]].concat()).ended(0).says("__global__").out;
    assert_ne!(shown, other);
    attn(&["emit", "sink", "--pass", "backward", "--packed"]).ended(0).says("cu_seqlens_q").says("packed batch");

    let folder = tempfile::tempdir().unwrap();
    let kernels = folder.path().join("kernels");
    let output = ["-o", kernels.to_str().unwrap()];
    let run = attn(&[&["emit", "sink", "--pass", "backward"], &shape[..], &output[..]].concat()).ended(0);
    let files: Vec<_> = std::fs::read_dir(&kernels).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 1, "dq and dk, dv are kernels of their own: {files:?}");
    for file in &files {
        let source = std::fs::read_to_string(file).unwrap();
        assert!(source.contains("__global__") && run.out.contains(file.to_str().unwrap()), "{}", file.display());
    }

    let backward = ["emit", "softmax", "--pass", "backward", "--head-dim", "64"];
    let ordered = attn(&backward).ended(0).says("dq added in the order of the keys").out;
    assert_ne!(ordered, attn(&[&backward[..], &["--nondeterministic"]].concat()).ended(0).says("in any order").out);

    let softmax = |plan| attn(&["emit", "softmax", "--pass", "forward", "--head-dim", "64", "--plan", plan]);
    softmax("list").ended(0).says("| 0 ").says("1: ").says("tile 128 queries x 128 keys");
    assert_eq!(softmax("0").ended(0).out, attn(&["emit", "softmax", "--pass", "forward", "--head-dim", "64"]).out);
    softmax("1").ended(0).says("forward_128x128_").says("BLOCK_Q = 128, BLOCK_KV = 128");
    softmax("9").ended(1).complains("there is no plan 9");
    softmax("fast").ended(2).complains("a plan is a number from 0, or list");
    let others = ["emit", "softmax", "--pass", "forward", "--target", "sm_80", "--plan", "list"];
    assert!(!attn(&others).ended(0).says("0: ").out.contains("1: "), "the portable schedule has one plan");
    attn(&["emit", "softmax", "--pass", "backward", "--plan", "0"]).ended(1).complains("leave --plan out");

    let wrong = |more: &[&str]| attn(&[&["emit", "sink", "--pass", "forward"], more].concat()).ended(1);
    wrong(&["--target", "sm_70"]).complains("`sm_70` is not a target; use one of sm_80");
    wrong(&["--head-dim", "20"]).complains("multiples of 8");
    attn(&["emit", "sink"]).ended(2).complains("--pass");
}

#[test]
fn selftest_passes_on_the_cpu() {
    let run = attn(&["selftest", "--quick", "--only", "^softmax/", "--device", "cpu"]).ended(0);
    let run = run.says("| softmax | f32 ").says("| softmax | bf16 ").says("cpu: 3 variants and types, 9 cases");
    assert!(!run.out.contains("softmax-1"), "{}", run.out);
    let run = attn(&["selftest", "--only", "^(prefix-lm|retention)/", "--dtype", "f32", "--device", "cpu", "--json"])
        .ended(0);
    let rows: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["passed"] == true && row["dtype"] == "f32" && row["cases"] == 12), "{}", run.out);
    let error = rows[0]["errors"]["dq"].as_f64().unwrap();
    assert!(error > 0.0 && error <= rows[0]["tolerances"]["dq"].as_f64().unwrap());
    let strict = ["selftest", "--quick", "--only", "^sink/f16", "--device", "cpu", "--tolerance", "1e-6"];
    attn(&strict).ended(1).says("MISSED |").says("sink f16 b2 h2/1").says("1 missed");
    attn(&["selftest", "--only", "nothing", "--device", "cpu"]).ended(1).complains("nothing matches");
}

#[test]
fn bench_prints_rows() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rows.jsonl");
    let only = "/(softmax|t5bias-causal|window1024)/";
    let base =
        ["bench", "--device", "cpu", "--quick", "--rounds", "1", "--run", "r1", "--commit", "c1", "--only", only];
    let with = |more: &[&str]| attn(&[&base, more].concat()).ended(0);
    let run = with(&["--json", "--out", file.to_str().unwrap()]);
    let rows: Vec<Value> = run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 6, "three variants, two passes");
    let keys =
        ["run", "device", "commit", "peer", "variant", "pass", "dtype", "b", "h", "s", "d", "ms", "tflops", "err"];
    for row in &rows {
        assert_eq!(row.as_object().unwrap().keys().collect::<Vec<_>>(), keys);
        assert_eq!((&row["run"], &row["commit"], &row["peer"]), (&"r1".into(), &"c1".into(), &"attn".into()));
        assert!(row["ms"].as_f64().unwrap() > 0.0);
        let error = row["err"].as_f64().unwrap();
        assert!(error > 0.0 && error < 8e-3, "{row}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), run.out);
    with(&["--out", file.to_str().unwrap()]).says("| t5bias-causal | bwd  | bf16 ");
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 12, "rows are appended");
    attn(&["bench", "--device", "cpu", "--only", "nothing"]).ended(1).complains("nothing was measured");
    attn(&["bench", "--device", "cpu", "--memory"]).ended(1).complains("measured on GPUs");
    attn(&["bench", "--rounds", "0"]).ended(2);
}

#[test]
fn bench_times_a_shape_of_the_users() {
    let only = "/(packed64-causal|document8-causal)/bwd";
    let base = ["bench", "--device", "cpu", "--rounds", "1", "--json", "--only", only];
    let rows = |shape: &str, more: &[&str]| -> Vec<Value> {
        let run = attn(&[&base[..], &["--shape", shape], more].concat()).ended(0);
        run.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let variants =
        |rows: &[Value]| rows.iter().map(|row| row["variant"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let found = rows("1,2,200,16", &[]);
    assert_eq!(variants(&found), ["document8-causal", "packed64-causal"]);
    assert!(
        found.iter().all(|row| row["s"] == 200 && row["h"] == 2 && row["err"].as_f64().unwrap() < 8e-3),
        "{found:?}"
    );
    let found = rows("2,1,64,16", &["--shape", "1,1,70,16"]);
    assert_eq!(variants(&found), ["document8-causal", "document8-causal", "packed64-causal"], "one entry is packed");
    attn(&["bench", "--shape", "1,2,3"]).ended(2).complains("batch,heads,length,head_dim");
}

#[test]
fn wrong_command_lines_end_with_2() {
    attn(&[]).ended(2).complains("Usage");
    attn(&["lits"]).ended(2).complains("list");
    attn(&["selftest", "--only", "("]).ended(2).complains("regex");
    attn(&["--version"]).ended(0).says("attn ");
}
