//! `attn check`: what is wrong with the variants of files, and what the compiler makes of those that are right.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use attn::Definition;
use attn_dsl::lower::lower;

use crate::Verdict;
use crate::variant::declaration;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Files with variants
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Also prints the derived program: mask, weights, normalizer and every gradient
    #[arg(long)]
    derivative: bool,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict> {
    let mut verdict = Verdict::Good;
    for file in &args.files {
        // Every file is looked at, whatever is wrong with those before.
        if check(file, args.derivative, out)? == Verdict::Bad {
            verdict = Verdict::Bad;
        }
    }
    Ok(verdict)
}

fn check(file: &Path, derivative: bool, out: &mut dyn Write) -> Result<Verdict> {
    let name = file.display().to_string();
    let source = match fs::read_to_string(file) {
        Ok(source) => source,
        Err(error) => {
            eprintln!("error: cannot read {name}: {error}");
            return Ok(Verdict::Bad);
        }
    };
    let definitions = match attn::compile_text(&source) {
        Ok(definitions) => definitions,
        Err(errors) => {
            eprintln!("{}", errors.render(&source, &name));
            let count = errors.len();
            eprintln!("{name}: {count} error{}", if count == 1 { "" } else { "s" });
            return Ok(Verdict::Bad);
        }
    };
    let mut verdict = Verdict::Good;
    for definition in &definitions {
        if describe(definition, &name, derivative, out)? == Verdict::Bad {
            verdict = Verdict::Bad;
        }
    }
    Ok(verdict)
}

fn describe(definition: &Definition, file: &str, derivative: bool, out: &mut dyn Write) -> Result<Verdict> {
    let lowered = match lower(definition) {
        Ok(lowered) => lowered,
        Err(error) => {
            eprintln!("error: {file}: `{}` cannot be computed: {error}", definition.name);
            return Ok(Verdict::Bad);
        }
    };
    writeln!(out, "{file}: {}: {:?}", definition.name, lowered.class)?;
    for parameter in &definition.parameters {
        let gradient = if parameter.learnable { "learnable" } else { "no gradient" };
        writeln!(out, "  {} ({gradient})", declaration(definition, parameter))?;
    }
    if derivative {
        // The first line is the class again.
        for line in lowered.to_string().lines().skip(1) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(Verdict::Good)
}
