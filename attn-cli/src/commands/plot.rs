//! `attn plot`: pictures of what was measured, one subcommand each.
//!
//! Invariant: a picture is a function of the rows and the command line: equal ones give equal bytes, on every machine.

mod bench;
mod canvas;

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Subcommand;

use crate::Verdict;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    plot: Plot,
}

#[derive(Subcommand)]
enum Plot {
    /// Speeds of variants beside those of other programs: bars, a panel for each head dimension.
    Bench(bench::Args),
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict> {
    match &args.plot {
        Plot::Bench(args) => bench::run(args, out)?,
    }
    Ok(Verdict::Good)
}

/// Writes a picture to a file and says so, or to standard output.
fn write(picture: &str, file: Option<&Path>, out: &mut dyn Write) -> Result<()> {
    match file {
        Some(file) => {
            fs::write(file, picture).with_context(|| format!("cannot write {}", file.display()))?;
            writeln!(out, "{}", file.display())?;
        }
        None => out.write_all(picture.as_bytes())?,
    }
    Ok(())
}
