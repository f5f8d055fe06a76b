//! `attn plot bench`: the speeds of our variants in one run, beside those of other programs.
//!
//! `chart.rs` says what is in the picture, `draw.rs` where.

mod chart;
mod draw;
mod peers;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use attn_cli::measurements::{Pass, Run};

use self::chart::Chart;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A file of rows, as `attn bench --json` makes them
    #[arg(long, value_name = "FILE", default_value = "bench/results.jsonl")]
    rows: PathBuf,
    /// The run whose rows are drawn; the last of the file if not given
    #[arg(long, value_name = "ID")]
    run: Option<String>,
    /// The pass
    #[arg(long, default_value = "fwd")]
    pass: Pass,
    /// The number of queries, and of keys
    #[arg(long, value_name = "N", default_value_t = 16384)]
    length: usize,
    /// The head dimensions, one panel each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64,128,256")]
    head_dim: Vec<usize>,
    /// The type of q, k and v
    #[arg(long, value_name = "TYPE", default_value = "bf16")]
    dtype: String,
    /// The SVG that is written; standard output gets it if not given
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<()> {
    let file = args.rows.display().to_string();
    let rows = fs::read_to_string(&args.rows).with_context(|| format!("cannot read {file}"))?;
    let run = Run::read(&rows, &file, args.run.as_deref())?;
    let chart = Chart::new(&run, args)?;
    super::write(&draw::svg(&chart), args.output.as_deref(), out)
}
