//! The `attn` command: lists, checks, emits, runs, tests, times and plots attention variants.
//!
//! Invariants: results go to standard output, everything else to standard error; the exit status is 0 when all went well, 1 when
//! a variant is wrong, a test misses or a command fails, and 2 for a wrong command line.

mod commands;
mod device;
mod recipe;
mod tensors;
mod variant;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A compiler for attention: states a variant as mathematics, gets fused kernels, forward and backward.
#[derive(Parser)]
#[command(name = "attn", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Lists the gallery: every variant that ships, with its class, parameters and source.
    List(commands::list::Args),
    /// Checks variants in files and says what is wrong with them.
    Check(commands::check::Args),
    /// Prints the CUDA kernels generated for a variant.
    Emit(commands::emit::Args),
    /// Runs a variant on tensors of a safetensors file.
    Run(commands::run::Args),
    /// Compares every gallery variant, forward and backward, with a naive f64 reference.
    Selftest(commands::selftest::Args),
    /// Times variants, forward and backward.
    Bench(commands::bench::Args),
    /// Draws what was measured, as SVG.
    Plot(commands::plot::Args),
}

/// How a command ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// All is well.
    Good,
    /// The command did its work and found something wrong.
    Bad,
}

impl Command {
    fn run(&self, out: &mut dyn Write) -> anyhow::Result<Verdict> {
        match self {
            Command::List(args) => commands::list::run(args, out),
            Command::Check(args) => commands::check::run(args, out),
            Command::Emit(args) => commands::emit::run(args, out),
            Command::Run(args) => commands::run::run(args, out),
            Command::Selftest(args) => commands::selftest::run(args, out),
            Command::Bench(args) => commands::bench::run(args, out),
            Command::Plot(args) => commands::plot::run(args, out),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout().lock();
    let verdict = cli.command.run(&mut out).and_then(|verdict| Ok(out.flush().map(|()| verdict)?));
    match verdict {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Bad) => ExitCode::FAILURE,
        // A reader that has seen enough, such as `head`, is not a failure.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
