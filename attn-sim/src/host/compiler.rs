//! The system's C++ compiler.
//!
//! The kernel is compiled with `-fsanitize=thread`, so that every load and store calls a hook of `hooks.hpp`, and linked without
//! the sanitizer's library. Optimisation is light: enough to inline primitives, not enough to merge accesses or lines.
//!
//! Invariants: float arithmetic is IEEE without contraction; aggregates are copied whole (`-fno-tree-sra`), so that a hook sees
//! a 16 byte access as one; every call returns to its own line (no sibling calls).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::BuildError;

/// A compiler that can be called.
#[derive(Clone, Debug)]
struct Compiler {
    program: String,
    is_clang: bool,
}

const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O1",
    "-g1",
    "-fPIC",
    "-w",
    "-fsanitize=thread",
    "-fno-strict-aliasing",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-optimize-sibling-calls",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
];
const GCC_FLAGS: &[&str] = &[
    "--param",
    "tsan-instrument-func-entry-exit=0",
    "-fno-tree-sra",
    "-Wno-psabi",
    "-fno-diagnostics-show-caret",
    "-fmax-errors=5",
    "-fdiagnostics-color=never",
];
const CLANG_FLAGS: &[&str] = &[
    "-mllvm",
    "-tsan-instrument-func-entry-exit=0",
    "-fno-caret-diagnostics",
    "-ferror-limit=5",
    "-fno-color-diagnostics",
];

/// The compiler that `ATTN_SIM_CXX` names, or the first of the usual ones. Looked for once.
fn compiler() -> Result<&'static Compiler, BuildError> {
    static COMPILER: OnceLock<Result<Compiler, String>> = OnceLock::new();
    COMPILER
        .get_or_init(|| match std::env::var("ATTN_SIM_CXX") {
            Ok(program) if !program.is_empty() => find(&[&program]),
            _ => find(&["c++", "g++", "clang++"]),
        })
        .as_ref()
        .map_err(|tried| BuildError::NoCompiler { tried: tried.clone() })
}

fn find(programs: &[&str]) -> Result<Compiler, String> {
    programs
        .iter()
        .find_map(|program| {
            let output =
                Command::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
            let is_clang = String::from_utf8_lossy(&output.stdout).contains("clang");
            Some(Compiler { program: (*program).to_owned(), is_clang })
        })
        .ok_or_else(|| programs.join(", "))
}

/// Whether a fused multiply-add is one instruction here; without it `fmaf` calls libm.
fn machine_flags() -> &'static [&'static str] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("fma") {
        return &["-mfma"];
    }
    &[]
}

/// Compiles `text` in `folder` to a shared object, whose path it gives.
pub(super) fn compile(text: &str, folder: &Path) -> Result<PathBuf, BuildError> {
    let compiler = compiler()?;
    let (source, object, library) = (folder.join("kernel.cpp"), folder.join("kernel.o"), folder.join("kernel.so"));
    std::fs::write(&source, text)?;
    let mut command = Command::new(&compiler.program);
    command.args(FLAGS).args(machine_flags()).args(if compiler.is_clang { CLANG_FLAGS } else { GCC_FLAGS });
    check(compiler, command.arg("-c").arg(&source).arg("-o").arg(&object).output()?)?;
    let mut command = Command::new(&compiler.program);
    check(compiler, command.arg("-shared").arg("-o").arg(&library).arg(&object).arg("-lm").output()?)?;
    std::fs::remove_file(&object)?;
    Ok(library)
}

fn check(compiler: &Compiler, output: Output) -> Result<(), BuildError> {
    if output.status.success() {
        return Ok(());
    }
    Err(BuildError::Compiler {
        compiler: compiler.program.clone(),
        messages: shorten(&String::from_utf8_lossy(&output.stderr)),
    })
}

/// Lines about errors and what they refer to in the kernel, at most 20.
fn shorten(messages: &str) -> String {
    let told = |line: &&str| line.contains("error") || line.contains("note:") || line.contains("undefined");
    let lines: Vec<&str> = messages.lines().filter(told).collect();
    if lines.is_empty() {
        return messages.lines().take(20).collect::<Vec<_>>().join("\n");
    }
    let rest = lines.len().saturating_sub(20);
    let mut text = lines.iter().take(20).map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n");
    if rest > 0 {
        text.push_str(&format!("\n  and {rest} more lines"));
    }
    text
}
