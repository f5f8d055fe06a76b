//! `--device sim`: the kernels of a GPU without one, their timelines, and where its options do not belong.

use super::support::{attn, difference, inputs, read, write};
use attn::DType;

#[test]
fn run_agrees_with_the_oracle_and_leaves_a_timeline() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (input, timeline) = (path("in.safetensors"), path("timeline.txt"));
    write(folder.path().join("in.safetensors").as_path(), &inputs(DType::F16));
    let run = |device: &str, more: &[&str]| {
        let out = path(&format!("{device}.safetensors"));
        let base = ["run", "softmax-1", "--backward", "--mask", "causal", "--inputs", &input, "--out", &out];
        let run = attn(&[&base[..], &["--device", device], more].concat()).ended(0);
        (run, read(out.as_ref()))
    };
    let (said, simulated) = run("sim", &["--seed", "3", "--trace", &timeline]);
    said.says("SoftmaxOne on sim (seed 3)");
    let (_, exact) = run("oracle", &[]);
    assert_eq!(simulated.keys().collect::<Vec<_>>(), ["dk", "dq", "dv", "o", "statistic"]);
    for (name, (shape, values)) in &simulated {
        assert_eq!(shape, &exact[name].0, "{name}");
        let error = difference(values, &exact[name].1);
        assert!(error < 2e-3, "{name}: {error}");
    }
    let text = std::fs::read_to_string(&timeline).unwrap();
    let kernels: Vec<&str> = text.lines().filter(|line| line.starts_with("==== ")).collect();
    assert!(kernels.contains(&"==== SoftmaxOne_forward_f16_d16_dv8_sm_90a.cu"), "{kernels:?}");
    assert!(kernels.len() >= 4 && text.lines().count() > 2 * kernels.len(), "{text}");
    run("sim", &["--trace", "-"]).0.complains("==== SoftmaxOne_forward_f16");
}

#[test]
fn selftest_tries_several_seeds() {
    let base = ["selftest", "--device", "sim", "--quick", "--only", "^softmax/bf16"];
    let with = |more: &[&str]| attn(&[&base, more].concat()).ended(0);
    with(&["--seed", "5", "--seeds", "2"]).says("sim (seeds 5 to 6): 1 variants and types, 6 cases");
    with(&["--json"]).says(r#""device":"sim (seed 0)""#);
}

#[test]
fn options_of_the_simulator_need_it() {
    let refused = |arguments: &[&str], reason: &str| {
        attn(arguments).ended(1).complains(reason);
    };
    let run = ["run", "softmax", "--inputs", "in", "--out", "out", "--device", "cpu"];
    refused(&[&run[..], &["--seed", "1"]].concat(), "--seed is an option of the simulator: add --device sim");
    refused(&[&run[..], &["--trace", "-"]].concat(), "--trace is an option of the simulator");
    refused(&["selftest", "--device", "oracle", "--seeds", "2"], "--seeds is an option of the simulator");
    refused(&["selftest", "--seed", "2"], "--seed is an option of the simulator");
    refused(&["bench", "--device", "sim"], "the simulator's time says nothing about a GPU's");
    attn(&["bench", "--device", "cpu", "--seed", "1"]).ended(2);
    attn(&["selftest", "--device", "sim", "--seeds", "0"]).ended(2);
}
