//! The subcommands, one module each: `Args` is its command line, `run` does it.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod emit;
pub(crate) mod list;
pub(crate) mod plot;
pub(crate) mod run;
pub(crate) mod selftest;

use comfy_table::{Table, presets};

/// An empty table in the one style of all commands, which Markdown understands too.
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header.to_vec());
    table
}
