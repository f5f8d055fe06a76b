//! Reading rows, medians, ratios.

use super::*;

const FILE: &str = "rows.jsonl";

fn row(run: &str, peer: &str, variant: &str, pass: &str, ms: f64) -> String {
    let tflops = 1000.0 / ms;
    format!(
        r#"{{"run":"{run}","device":"gpu","peer":"{peer}","variant":"{variant}","pass":"{pass}","dtype":"bf16","b":1,"h":16,"s":4096,"d":128,"ms":{ms},"tflops":{tflops}}}"#
    )
}

fn case(variant: &str, pass: Pass) -> Case {
    let (variant, dtype) = (variant.to_owned(), "bf16".to_owned());
    Case { variant, pass, length: 4096, head_dim: 128, dtype, batch: 1, heads: 16 }
}

fn complaint(lines: &[String]) -> String {
    format!("{:#}", Run::read(&lines.join("\n"), FILE, None).unwrap_err())
}

#[test]
fn the_last_run_is_read_unless_another_is_named() {
    let text = [
        row("first", "attn", "sigmoid", "fwd", 9.0),
        row("last", "attn", "softmax", "fwd", 2.0),
        row("last", "attn", "relu", "bwd", 5.0),
        row("last", "attn", "softmax", "fwd", 4.0),
        String::new(),
        row("last", "attn", "softmax", "fwd", 3.0).replace(",\"tflops", ",\"err\":0.001,\"tflops"),
    ];
    let run = Run::read(&text.join("\n"), FILE, None).unwrap();
    assert_eq!((run.id(), run.device()), ("last", "gpu"));
    assert_eq!(run.variants(), ["softmax", "relu"]);
    let rounds = run.rounds(OURS, &case("softmax", Pass::Forward)).unwrap();
    assert_eq!(rounds.iter().map(|round| round.ms).collect::<Vec<_>>(), [2.0, 4.0, 3.0]);
    assert_eq!((rounds[0].error, rounds[2].error), (None, Some(0.001)));
    assert_eq!(run.rounds(OURS, &case("sigmoid", Pass::Forward)), None);
    assert_eq!(run.rounds("cudnn", &case("softmax", Pass::Forward)), None);
    assert_eq!(run.cases().map(|(_, case, _)| case.variant.as_str()).collect::<Vec<_>>(), ["relu", "softmax"]);

    let first = Run::read(&text.join("\n"), FILE, Some("first")).unwrap();
    assert_eq!(first.variants(), ["sigmoid"]);
    let error = Run::read(&text.join("\n"), FILE, Some("second")).unwrap_err().to_string();
    assert_eq!(error, "rows.jsonl has no run `second`; it has first, last");
    assert!(complaint(&[row("x", "attn", "relu", "fwd", 1.0).replace("\"x\"", "null")]).contains("--run ID"));
    assert!(complaint(&[]).contains("no row with a run's id"));
}

#[test]
fn failures_yardsticks_and_memory_are_rows_too() {
    let ours = row("r", "attn", "softmax", "fwd", 2.0);
    let (failed, _) = ours.split_once(",\"ms").unwrap();
    let product = |tflops: f64| {
        format!(r#"{{"run":"r","device":"gpu","peer":"cublas","variant":"gemm8192","ms":1.0,"tflops":{tflops}}}"#)
    };
    let text = [
        failed.replace("attn", "fa2") + r#","error":"out of memory"}"#,
        product(700.0),
        product(780.0),
        product(740.0),
        r#"{"run":"r","device":"gpu","peer":"attn","variant":"softmax","pass":"memory","peak_bytes":1}"#.to_owned(),
    ];
    let run = Run::read(&text.join("\n"), FILE, None).unwrap();
    assert_eq!(run.rounds("fa2", &case("softmax", Pass::Forward)), Some(&[][..]));
    assert_eq!(run.yardstick("cublas", "gemm8192"), Some(740.0));
    assert_eq!(run.yardstick("cublas", "gemm4096"), None);
    assert_eq!(run.cases().count(), 1);
}

#[test]
fn malformed_rows_are_named() {
    let good = row("r", "attn", "softmax", "fwd", 2.0);
    let second = |from: &str, to: &str| {
        assert!(good.contains(from));
        complaint(&[good.clone(), good.replace(from, to)])
    };
    let mend = "; mend the line or take it out";
    let cases = [
        ("\"ms\":2", "\"ms\":\"2\"", "`ms` is \"2\" and must be a number above 0"),
        ("\"ms\":2", "\"ms\":0", "`ms` is 0 and must be a number above 0"),
        ("\"tflops\"", "\"flops\"", "`tflops` is missing: a time needs `ms` and `tflops`, a failure `error`"),
        ("\"fwd\"", "\"both\"", "`pass` is \"both\" and must be fwd, bwd or memory"),
        ("\"s\":4096", "\"s\":-1", "`s` is -1 and must be a whole number above 0"),
        ("\"h\":16,", "", "`h` is missing and must be a whole number above 0"),
        ("\"variant\"", "\"name\"", "`variant` is missing and must be a text"),
        ("\"dtype\":\"bf16\"", "\"dtype\":16", "`dtype` is 16 and must be a text"),
    ];
    for (from, to, message) in cases {
        assert_eq!(second(from, to), format!("rows.jsonl:2: {message}{mend}"));
    }
    assert!(second("{", "").starts_with("rows.jsonl:2: not a JSON object ("));
    assert!(second("\"gpu\"", "\"cpu\"").starts_with("rows.jsonl:2: `device` is `cpu` and that of the run `gpu`: "));
    // What another run did wrong is no matter of this one.
    let other = row("q", "attn", "softmax", "fwd", 2.0).replace("\"ms\"", "\"s\"");
    assert!(Run::read(&[other, good].join("\n"), FILE, None).is_ok());
}

#[test]
fn medians_stand_in_the_middle() {
    assert_eq!(median([]), None);
    assert_eq!(median([3.0]), Some(3.0));
    assert_eq!(median([9.0, 1.0, 2.0]), Some(2.0));
    assert_eq!(median([9.0, 1.0, 2.0, 4.0]), Some(3.0));
}

#[test]
fn ratios_are_taken_round_by_round() {
    let rounds = |times: &[f64]| times.iter().map(|&ms| Round { ms, tflops: 1.0, error: None }).collect::<Vec<_>>();
    // The second round was slow for both: the medians' ratio would be 2.
    assert_eq!(ratio(&rounds(&[1.0, 10.0, 1.0]), &rounds(&[3.0, 30.0, 2.0])), Some(3.0));
    assert_eq!(ratio(&rounds(&[1.0, 2.0]), &rounds(&[3.0])), Some(3.0), "rounds without a partner do not count");
    assert_eq!(ratio(&rounds(&[]), &rounds(&[3.0])), None);
}

#[test]
fn variants_stand_beside_the_softmax_of_their_mask() {
    assert_eq!(softmax_beside("sink-causal"), "softmax-causal");
    assert_eq!(softmax_beside("relu"), "softmax");
    assert!(is_a_mask("window1024") && is_a_mask("document8") && !is_a_mask("alibi-causal"));
}
