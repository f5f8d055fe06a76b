//! `attn list`: the gallery.

use std::io::Write;

use anyhow::Result;
use attn::gallery::{self, Entry};
use attn_dsl::lower::lower;
use serde_json::{Value, json};

use super::table;
use crate::Verdict;
use crate::variant::{declarations, type_of};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON array with everything, the variants' text included
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, out: &mut dyn Write) -> Result<Verdict> {
    if args.json {
        let entries = gallery::all().iter().map(describe).collect::<Result<Vec<_>>>()?;
        writeln!(out, "{}", serde_json::to_string_pretty(&entries)?)?;
        return Ok(Verdict::Good);
    }
    let mut rows = table(&["variant", "class", "parameters", "from"]);
    for entry in gallery::all() {
        let definition = (entry.definition)();
        let class = format!("{:?}", lower(definition)?.class);
        rows.add_row([entry.name, &class, &declarations(definition), entry.citation]);
    }
    writeln!(out, "{rows}")?;
    Ok(Verdict::Good)
}

fn describe(entry: &Entry) -> Result<Value> {
    let definition = (entry.definition)();
    let parameters = definition.parameters.iter().map(|parameter| {
        json!({
            "name": parameter.name,
            "type": type_of(definition, parameter),
            "learnable": parameter.learnable,
            "docs": parameter.docs,
        })
    });
    Ok(json!({
        "name": entry.name,
        "type": definition.name,
        "class": format!("{:?}", lower(definition)?.class),
        "parameters": parameters.collect::<Vec<_>>(),
        "citation": entry.citation,
        "docs": definition.docs,
        "text": definition.text,
    }))
}
