//! Invariants of the source tree itself: those of ARCHITECTURE.md that no other test can hold, and that its tests exist.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

use attn::compiler::plan::{ElementType, Shape, Target};
use attn::compiler::{cuda, lower};
use attn::gallery;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of an extension below a folder.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no .{extension} file");
    found.sort();
    found
}

/// A file's code without comment lines.
fn code(path: &Path) -> String {
    let text = read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_file_says_what_it_is_and_is_short() {
    let folders =
        ["src", "examples", "attn-dsl/src", "attn-macros/src", "attn-runtime/src", "attn-sim/src", "attn-cli/src"];
    for path in folders.iter().flat_map(|folder| files(folder, "rs")) {
        let text = read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} does not begin with a `//!` comment", path.display());
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines; split it by ideas", path.display());
    }
}

#[test]
fn the_compiler_is_safe_code() {
    for crate_root in ["attn-dsl/src/lib.rs", "src/lib.rs", "attn-macros/src/lib.rs"] {
        let folder = Path::new(crate_root).parent().unwrap().to_str().unwrap();
        for path in files(folder, "rs") {
            let code = code(&path);
            let unsafe_code =
                ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|form| code.contains(form));
            assert!(!unsafe_code, "{} has unsafe code", path.display());
        }
    }
    assert!(read_to_string(root().join("attn-dsl/src/lib.rs")).unwrap().contains("#![forbid(unsafe_code)]"));
}

#[test]
fn the_oracle_stands_alone() {
    for path in files("attn-runtime/src/oracle", "rs") {
        let code = code(&path);
        for foreign in [
            "lower::",
            "Lowered",
            "attn_dsl::diff",
            "attn_dsl::simplify",
            "crate::cpu",
            "crate::cuda",
            "crate::executor",
        ] {
            assert!(!code.contains(foreign), "{} reaches for {foreign}", path.display());
        }
    }
}

#[test]
fn the_cuda_layer_knows_nothing_of_attention() {
    for path in files("attn-runtime/src/cuda", "rs") {
        let code = code(&path);
        for foreign in
            ["attn_dsl", "crate::machine", "crate::executor", "crate::tensor", "crate::attention", "crate::sim"]
        {
            assert!(!code.contains(foreign), "{} reaches for {foreign}", path.display());
        }
    }
}

/// What one machine tests is what another runs: the executor asks for nothing but a machine.
#[test]
fn the_executor_knows_no_machine_in_particular() {
    for path in files("attn-runtime/src/executor", "rs") {
        let code = code(&path);
        for foreign in ["crate::cuda", "crate::sim", "attn_sim", "cfg("] {
            assert!(!code.contains(foreign), "{} reaches for {foreign}", path.display());
        }
    }
}

#[test]
fn assembly_stands_in_the_preludes_alone() {
    let is_prelude = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with("prelude");
    let uses_assembly = |path: &Path| code(path).contains("asm");
    let (preludes, others): (Vec<PathBuf>, Vec<PathBuf>) =
        files("attn-dsl/src/cuda/templates", "cu").into_iter().partition(|path| is_prelude(path));
    assert!(preludes.iter().any(|path| uses_assembly(path)));
    for path in others.iter().chain(&files("attn-dsl/src/cuda", "rs")) {
        assert!(!code(path).contains("asm volatile") && !code(path).contains("asm("), "{}", path.display());
    }
}

#[test]
fn sources_are_reproducible_and_self_contained() {
    let shape = Shape::new(ElementType::Bf16, 64, 64).unwrap();
    for entry in gallery::all() {
        let generate = || {
            let lowered = lower::lower((entry.definition)()).unwrap();
            let mut kernels = cuda::forward(&lowered, shape, Target::Sm90a).unwrap();
            kernels.extend(cuda::backward(&lowered, shape, Target::Sm90a, true).unwrap());
            kernels
        };
        for (first, second) in generate().iter().zip(&generate()) {
            assert!(first.source == second.source, "{} differs between two generations", first.file_name);
            assert!(!first.source.contains("#include"), "{} includes a file", first.file_name);
        }
    }
}

/// "Held by `path`: `test`, and `path`: `test`" after every invariant.
#[test]
fn the_named_tests_exist() {
    let text = read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let paragraphs: Vec<String> = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
    let invariants = paragraphs.iter().filter(|paragraph| paragraph.starts_with("**Architecture Invariant:**"));
    for invariant in invariants {
        assert!(!named_tests(invariant).is_empty(), "no test is named: {invariant}");
    }
    for (path, test) in paragraphs.iter().flat_map(|paragraph| named_tests(paragraph)) {
        let source = read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "{path} has no test `{test}`");
    }
}

/// The pairs of a text that look like `` `path.rs`: `test` ``.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let pieces: Vec<&str> = text.split('`').collect();
    let windows = pieces.windows(3);
    windows.filter(|w| w[0].ends_with(".rs") && w[1].trim() == ":").map(|w| (w[0], w[2])).collect()
}
