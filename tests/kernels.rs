//! Snapshots of generated kernels: what each variant of the gallery adds to them, and the shared machinery once.
//!
//! After a change of templates or tiles: `INSTA_UPDATE=always cargo test -p attn --test kernels`, and review the difference.

use std::panic::{AssertUnwindSafe, catch_unwind};

use attn::compiler::cuda::Kernel;
use attn::testing::{ElementType, KernelShape, Target, generated_kernels, kernel_snapshot};
use attn::{Definition, gallery};

/// Variants that are also snapshot under masks of a caller's.
const MASKED: [&str; 4] = ["softmax", "sigmoid", "alibi", "sink"];
const MASKS: [&str; 2] = ["causal", "causal & window(128, 0)"];

/// A kernel of the machinery beside that of a plain forward pass, and a variant whose kernel shows it.
const MACHINERY: [(&str, &str, &str, Target); 24] = [
    ("machinery_delta", "attn_delta", "softcap", Target::Sm90a),
    ("machinery_backward_kv", "attn_backward_kv", "softcap", Target::Sm80),
    ("machinery_backward_q", "attn_backward_q", "softcap", Target::Sm80),
    ("machinery_backward_hopper", "attn_backward", "softcap", Target::Sm90a),
    ("machinery_backward_hopper_diagonals", "attn_backward", "t5bias", Target::Sm90a),
    ("machinery_backward_hopper_tile_mask", "attn_backward", "document", Target::Sm90a),
    ("machinery_query_gradients", "attn_query_gradients", "sink", Target::Sm90a),
    ("machinery_table_grad", "attn_table_grad", "t5bias", Target::Sm80),
    ("machinery_dense_grad", "attn_dense_grad", "dense-bias", Target::Sm90a),
    ("machinery_extremes", "attn_extremes", "document", Target::Sm80),
    ("machinery_forward_tile_mask", "attn_forward", "document", Target::Sm80),
    ("machinery_backward_q_tile_mask", "attn_backward_q", "document", Target::Sm80),
    ("machinery_backward_kv_tile_mask", "attn_backward_kv", "document", Target::Sm80),
    ("machinery_rows_entmax_hopper", "attn_rows", "entmax15", Target::Sm90a),
    ("machinery_rows_top_k_hopper", "attn_rows", "top-k", Target::Sm90a),
    ("machinery_rows_exact_hopper", "attn_rows_exact", "top-k", Target::Sm90a),
    ("machinery_rows_weights_hopper", "attn_rows", "clipped-softmax", Target::Sm90a),
    ("machinery_live_keys", "attn_live_keys", "live-keys", Target::Sm90a),
    ("machinery_linear_state", "attn_linear_state", "gated-linear", Target::Sm90a),
    ("machinery_linear_prefix", "attn_linear_prefix", "gated-linear", Target::Sm90a),
    ("machinery_linear_forward", "attn_linear_forward", "linear-elu-causal", Target::Sm90a),
    ("machinery_linear_dk", "attn_linear_dk", "gated-linear", Target::Sm80),
    ("machinery_linear_table_grad", "attn_linear_table_grad", "gated-linear", Target::Sm90a),
    ("machinery_feature_grad", "attn_feature_q_grad", "linear-elu", Target::Sm80),
];

fn shape() -> KernelShape {
    KernelShape::new(ElementType::Bf16, 128, 128).expect("a shape of the kernels")
}

/// A variant of the gallery; `query-gate` has a sum by query, `live-keys` is a row of counted keys: a document mask has no closed form.
fn variant(name: &str) -> Definition {
    let find = |name| (gallery::find(name).expect("a variant of the gallery").definition)();
    match name {
        "query-gate" => {
            let text = "struct Gated { gate: f32[q], score: |s, b, h, q, kv| s * gate[q] }";
            attn::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "gated.attn")))
        }
        "linear-elu-causal" => find("linear-elu").with_mask("causal").expect("a mask"),
        "live-keys" => find("relu").with_mask("document(documents)").expect("a mask"),
        _ => find(name).clone(),
    }
}

/// Compares every text with its snapshot before the first mismatch fails the test.
fn assert_snapshots(folder: &str, texts: Vec<(String, String)>) {
    let mut failed = vec![];
    for (name, text) in texts {
        let check = || {
            insta::with_settings!({ snapshot_path => folder, prepend_module_to_snapshot => false, omit_expression => true }, {
                insta::assert_snapshot!(name.as_str(), text);
            });
        };
        if catch_unwind(AssertUnwindSafe(check)).is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "snapshots differ: {}", failed.join(", "));
}

/// The variant's own part, as it is and under further masks.
fn own_parts(name: &str) -> String {
    let definition = variant(name);
    let snapshot = |definition: &Definition| kernel_snapshot(definition, shape(), Target::Sm90a).expect(name);
    let mut text = snapshot(&definition);
    for mask in MASKS.into_iter().filter(|_| MASKED.contains(&name)) {
        text.push_str(&format!("\n######## with mask {mask}\n"));
        text.push_str(&snapshot(&definition.with_mask(mask).expect("a mask")));
    }
    text
}

#[test]
fn the_own_part_of_every_gallery_variant() {
    let names = gallery::all().iter().map(|entry| entry.name);
    assert_snapshots("kernels", names.map(|name| (name.to_owned(), own_parts(name))).collect());
}

#[test]
fn the_shared_machinery_once() {
    let mut texts = vec![("machinery_reduce".to_owned(), attn::compiler::cuda::reduce_source().to_owned())];
    for (name, entry, of, target) in MACHINERY {
        let kernels = generated_kernels(&variant(of), shape(), target).expect(of);
        let found = kernels.distinct().find(|kernel| kernel.entry == entry).expect("the variant has this kernel");
        texts.push((name.to_owned(), found.source.clone()));
    }
    // the forward kernel has two schedules, and one of them keeps values by distance
    for (name, of, target) in [
        ("machinery_forward", "softcap", Target::Sm80),
        ("machinery_forward_hopper", "softcap", Target::Sm90a),
        ("machinery_forward_hopper_relative", "retention", Target::Sm90a),
    ] {
        let kernels = generated_kernels(&variant(of), shape(), target).expect(of);
        texts.push((name.to_owned(), kernels.forward[0].source.clone()));
    }
    // blocks of packed batches look for their sequence
    for (name, entry, of, target) in [
        ("machinery_forward_packed", "attn_forward", "softcap", Target::Sm80),
        ("machinery_forward_hopper_packed", "attn_forward", "softcap", Target::Sm90a),
        ("machinery_sequence_maps", "attn_sequence_maps", "softcap", Target::Sm90a),
        ("machinery_live_keys_packed", "attn_live_keys", "live-keys", Target::Sm90a),
        ("machinery_backward_hopper_packed", "attn_backward", "softcap", Target::Sm90a),
        ("machinery_query_gradients_packed", "attn_query_gradients", "sink", Target::Sm90a),
        ("machinery_table_grad_packed", "attn_table_grad", "t5bias", Target::Sm80),
        ("machinery_dense_grad_packed", "attn_dense_grad", "dense-bias", Target::Sm90a),
    ] {
        let kernels = generated_kernels(&variant(of), shape().packed(), target).expect(of);
        let found = kernels.distinct().find(|kernel| kernel.entry == entry).expect("the variant has this kernel");
        texts.push((name.to_owned(), found.source.clone()));
    }
    // where dk and dv do not fit one kernel, f32 is its own machinery
    let shape = KernelShape::new(ElementType::F32, 256, 256).expect("a shape of the kernels");
    let kernels = generated_kernels(&variant("softcap"), shape, Target::Sm90a).expect("softcap");
    for entry in ["attn_backward_v", "attn_backward_k"] {
        let found = kernels.backward.iter().find(|kernel| kernel.entry == entry).expect("dk and dv apart");
        texts.push((format!("machinery_{}_f32", &entry["attn_".len()..]), found.source.clone()));
    }
    // and where they do not fit the registers of one on Hopper, dv has a kernel; sums by query leave each gradient one
    let shape = KernelShape::new(ElementType::Bf16, 256, 256).expect("a shape of the kernels");
    let wide = [("softcap", "attn_backward_kq"), ("softcap", "attn_backward_v"), ("query-gate", "attn_backward_q")];
    for (name, entry) in wide {
        let kernels = generated_kernels(&variant(name), shape, Target::Sm90a).expect(name);
        let found = kernels.backward.iter().find(|kernel| kernel.entry == entry).expect("a gradient a kernel");
        texts.push((format!("machinery_{}_hopper", &entry["attn_".len()..]), found.source.clone()));
    }
    assert_snapshots("kernels", texts);
}

/// Neither the order of generation nor what was generated before it changes a source.
#[test]
fn generation_is_reproducible() {
    let generate = |name: &str| -> Vec<String> {
        let sources = |target| {
            let kernels = generated_kernels(&variant(name), shape(), target).expect(name);
            kernels.distinct().map(|kernel| kernel.source.clone()).collect::<Vec<_>>()
        };
        [sources(Target::Sm90a), sources(Target::Sm86)].concat()
    };
    let names: Vec<&str> = gallery::all().iter().map(|entry| entry.name).chain(["live-keys"]).collect();
    let first: Vec<Vec<String>> = names.iter().map(|name| generate(name)).collect();
    let mut again: Vec<Vec<String>> = names.iter().rev().map(|name| generate(name)).collect();
    again.reverse();
    for (index, name) in names.iter().enumerate() {
        assert!(first[index] == again[index], "{name} differs between two generations");
        // another thread hashes with other keys
        let elsewhere = std::thread::scope(|scope| scope.spawn(|| generate(name)).join().expect("a thread"));
        assert!(first[index] == elsewhere, "{name} differs on another thread");
    }
}

/// Every column of a streamed tile keeps its values in shared memory, however many parameters a variant has.
#[test]
fn shared_memory_holds_all_values_of_columns() {
    const MANY: usize = 40;
    let variant = |axis: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("p{i}")).collect();
        let declared: String = names.iter().map(|name| format!("{name}: f32[{axis}],")).collect();
        let sum: String = names.iter().map(|name| format!(" + abs(s - {name}[{axis}])")).collect();
        attn::compile_one(&format!("pub struct Many {{ {declared} score: |s, b, h, q, kv| s{sum} }}")).unwrap()
    };
    let needed = |kernel: &Kernel, fields: usize| {
        let (_, tiles) = kernel.tiles.expect("a kernel of tiles");
        let (row, columns) = (2 * (128 * 2 + 16), kernel.block_q.min(kernel.block_kv) as usize);
        let rows = kernel.block_q.max(kernel.block_kv) as usize;
        // forward keeps no tile of dO
        let held = if kernel.entry == "attn_forward" { row / 2 } else { row };
        rows * held + tiles.stages * columns * (row + 4 * fields)
    };
    for (axis, entry) in [("kv", "attn_forward"), ("kv", "attn_backward_q"), ("q", "attn_backward_kv")] {
        let kernels = generated_kernels(&variant(axis, MANY), shape(), Target::Sm100a).unwrap();
        let kernel = kernels.forward.iter().chain(&kernels.backward).find(|kernel| kernel.entry == entry).unwrap();
        assert!(kernel.variant_part.contains(&format!("value.p{}", MANY - 1)), "{entry} stages its columns");
        let needed = needed(kernel, MANY);
        assert!(kernel.shared_memory as usize >= needed, "{entry}: {} of {needed} bytes", kernel.shared_memory);
    }
}
