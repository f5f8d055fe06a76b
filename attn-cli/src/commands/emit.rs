//! `attn emit`: the generated CUDA of a variant.
use crate::Verdict;
use crate::variant::VariantArgs;
use anyhow::Result;
use std::io::Write;
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    variant: VariantArgs,
}
pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict> {
    writeln!(out, "{}", args.variant.resolve()?.text)?;
    Ok(Verdict::Good)
}
