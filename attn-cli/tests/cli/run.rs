//! `attn run`: round trips through safetensors files, on the CPU against the oracle.

use std::path::Path;

use super::support::{attn, difference, inputs, read, write};
use attn::{Attention, DType, Device, Parameters, Tensor};

/// Runs a variant on a device and reads what it wrote.
fn results(
    folder: &Path,
    device: &str,
    arguments: &[&str],
) -> std::collections::BTreeMap<String, (Vec<usize>, Vec<f64>)> {
    let (input, output) = (folder.join("in.safetensors"), folder.join(format!("{device}.safetensors")));
    let mut all = vec!["run"];
    all.extend(arguments);
    all.extend(["--inputs", input.to_str().unwrap(), "--out", output.to_str().unwrap(), "--device", device]);
    attn(&all).ended(0).says("| o ");
    read(&output)
}

#[test]
fn cpu_and_oracle_agree_in_both_passes() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = inputs(DType::F32);
    tensors.push(("sink", Tensor::from_f32(&[4], vec![0.5, -1.0, 0.0, 2.0]).unwrap()));
    write(&folder.path().join("in.safetensors"), &tensors);
    let arguments = ["sink", "--backward", "--mask", "causal & window(7, 0)", "--scale", "0.3"];
    let cpu = results(folder.path(), "cpu", &arguments);
    let oracle = results(folder.path(), "oracle", &arguments);
    let names: Vec<&str> = cpu.keys().map(String::as_str).collect();
    assert_eq!(names, ["d_sink", "dk", "dq", "dv", "o", "statistic"]);
    for (name, (shape, values)) in &cpu {
        assert_eq!(shape, &oracle[name].0, "{name}");
        let error = difference(values, &oracle[name].1);
        assert!(error < 2e-6, "{name}: {error}");
    }
    assert_eq!(cpu["d_sink"].0, [4]);
    assert_eq!(cpu["o"].0, [2, 4, 13, 8]);
}

#[test]
fn sequences_are_packed_where_the_file_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let rows = |heads: usize, width: usize, seed: usize| {
        let values = (0..heads * 11 * width).map(|i| ((i * 7 + seed) as f32).sin()).collect();
        Tensor::from_f32(&[1, heads, 11, width], values).unwrap()
    };
    let list = |starts: [i32; 4]| Tensor::from_i32(&[4], starts.to_vec()).unwrap();
    let (q, k, v) = (rows(4, 16, 1), rows(2, 16, 2), rows(2, 8, 3));
    let mut tensors = vec![("q", q.clone()), ("k", k.clone()), ("v", v.clone()), ("do", rows(4, 8, 4))];
    tensors.push(("cu_seqlens_q", list([0, 5, 5, 11])));
    let file = folder.path().join("in.safetensors");
    write(&file, &tensors);
    let run = ["run", "softmax", "--inputs", file.to_str().unwrap(), "--out", "none", "--device", "cpu"];
    attn(&run).ended(1).complains("has no tensor `cu_seqlens_kv`; add it");

    tensors.push(("cu_seqlens_kv", list([0, 2, 4, 11])));
    write(&file, &tensors);
    let cpu = results(folder.path(), "cpu", &["softmax", "--backward"]);
    let oracle = results(folder.path(), "oracle", &["softmax", "--backward"]);
    for name in ["o", "statistic", "dq", "dk", "dv"] {
        assert!(difference(&cpu[name].1, &oracle[name].1) < 2e-6, "{name}");
    }
    let attention = Attention::new((attn::gallery::find("softmax").unwrap().definition)(), &Device::Cpu).unwrap();
    let whole = attention.forward(&q, &k, &v, &Parameters::new()).unwrap();
    assert!(difference(&cpu["o"].1, &whole.output.to_f64_vec().unwrap()) > 0.1, "sequences see each other");
}

#[test]
fn results_are_those_of_the_library() {
    let folder = tempfile::tempdir().unwrap();
    let tensors = inputs(DType::BF16);
    write(&folder.path().join("in.safetensors"), &tensors);
    let written = results(folder.path(), "cpu", &["softmax-1", "--scale", "0.2"]);
    assert_eq!(written.keys().collect::<Vec<_>>(), ["o", "statistic"], "no gradient was asked for");
    let entry = attn::gallery::find("softmax-1").unwrap();
    let attention = Attention::new((entry.definition)(), &Device::Cpu).unwrap().scale(0.2).unwrap();
    let output = attention.forward(&tensors[0].1, &tensors[1].1, &tensors[2].1, &Parameters::new()).unwrap();
    assert_eq!(written["o"].1, output.output.to_f64_vec().unwrap());
    assert_eq!(written["statistic"].1, output.statistic.unwrap().to_f64_vec().unwrap());
}

#[test]
fn files_with_variants_run_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = inputs(DType::F16);
    // Relu has no row statistic.
    tensors.retain(|(name, _)| *name != "dstatistic");
    write(&folder.path().join("in.safetensors"), &tensors);
    let file = folder.path().join("two.attn");
    std::fs::write(&file, "struct A { normalizer: sum + 1 }\nstruct B { activation: relu, normalizer: count }")
        .unwrap();
    let named = format!("{}:B", file.display());
    let relu = results(folder.path(), "cpu", &[&named, "--backward"]);
    let gallery = results(folder.path(), "oracle", &["relu", "--backward"]);
    assert!(!relu.contains_key("statistic"), "an elementwise variant has none");
    for name in ["o", "dq", "dk", "dv"] {
        assert!(difference(&relu[name].1, &gallery[name].1) < 1e-3, "{name}");
    }
    let whole = file.display().to_string();
    attn(&["run", &whole, "--inputs", "x", "--out", "y"]).ended(1).complains("several variants (A, B)");
}

#[test]
fn wrong_arguments_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.safetensors");
    let (input, output) = (path.to_str().unwrap(), folder.path().join("out.safetensors"));
    let run = |variant: &str, more: &[&str]| {
        let mut all = vec!["run", variant, "--inputs", input, "--out", output.to_str().unwrap(), "--device", "cpu"];
        all.extend(more);
        attn(&all)
    };
    run("softmax", &[]).ended(1).complains("cannot read");
    let mut tensors = inputs(DType::F32);
    write(&path, &tensors);
    run("sink", &[]).ended(1).complains("parameter `sink: f32[h]` is missing");
    run("softmax", &["--scale", "0"]).ended(1).complains("scale is 0");
    run("softmax", &["--mask", "causl"]).ended(1).complains("help: write `causal`");
    run("sotfmax", &[]).ended(1).complains("did you mean `softmax`?");
    tensors.push(("slop", Tensor::from_f32(&[4], vec![0.0; 4]).unwrap()));
    write(&path, &tensors);
    run("alibi", &[]).ended(1).complains("no parameter `slop`; did you mean `slope`?");
    tensors.retain(|(name, _)| !["do", "slop"].contains(name));
    write(&path, &tensors);
    run("softmax", &["--backward"]).ended(1).complains("has no tensor `do`");
    assert!(!output.exists(), "nothing is written by a run that failed");
    attn(&["run", "softmax", "--inputs", input, "--out", "o", "--device", "tpu"])
        .ended(2)
        .complains("a device is cpu, cuda, cuda:NUMBER, oracle or sim");
}
