//! Rows as they leave the command: JSON lines on standard output and in a file, or a table.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use attn::Device;
use comfy_table::Table;
use serde_json::{Map, Value, json};

use super::Args;
use super::cases::{Shape, dtype_name};
use crate::Verdict;
use crate::commands::table;
use crate::device::hardware_name;

/// A measurement of time.
pub(super) struct Row {
    pub(super) workload: &'static str,
    pub(super) pass: &'static str,
    pub(super) shape: Shape,
    /// Milliseconds, tera operations a second, relative error.
    pub(super) found: Result<(f64, f64, f64)>,
}

/// A measurement of memory.
pub(super) struct MemoryRow {
    pub(super) workload: &'static str,
    pub(super) shape: Shape,
    /// The peak, and the part of it that q, k, v and the gradient of the output take, in bytes.
    pub(super) found: Result<(usize, usize)>,
}

/// What was measured: as cells of the table, and as members of the JSON object.
struct Numbers {
    shown: Vec<String>,
    named: Vec<(&'static str, Value)>,
}

/// Where rows go.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    file: Option<File>,
    /// Filled where rows are not printed as JSON.
    table: Option<Table>,
    /// What every row begins with.
    common: Map<String, Value>,
    rows: usize,
    errors: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(args: &Args, device: &Device, out: &'a mut dyn Write) -> Result<Report<'a>> {
        let open = |path: &std::path::PathBuf| {
            let file = OpenOptions::new().create(true).append(true).open(path);
            file.with_context(|| format!("cannot write {}", path.display()))
        };
        let header: &[&str] = if args.memory {
            &["variant", "dtype", "b", "h", "s", "d", "peak MiB", "arguments MiB", "bytes a token"]
        } else {
            &["variant", "pass", "dtype", "b", "h", "s", "d", "ms", "TFLOPS", "error"]
        };
        let mut common = Map::new();
        common.insert("run".into(), json!(args.run));
        common.insert("device".into(), json!(hardware_name(device)));
        common.insert("commit".into(), json!(args.commit.clone().unwrap_or_else(commit)));
        common.insert("peer".into(), json!("attn"));
        let file = args.out.as_ref().map(open).transpose()?;
        let table = (!args.json).then(|| table(header));
        Ok(Report { out, file, table, common, rows: 0, errors: 0 })
    }

    /// Says what is being measured, where rows come only at the end.
    pub(super) fn begin(&self, case: &str) {
        if self.table.is_some() {
            eprintln!("{case}");
        }
    }

    pub(super) fn add(&mut self, row: &Row) -> Result<()> {
        let numbers = row.found.as_ref().map(|&(ms, tflops, err)| {
            // A CPU's few would all round to 0.
            let digits = if tflops < 10.0 { 4 } else { 1 };
            let named = [("ms", rounded(ms, 4)), ("tflops", rounded(tflops, digits)), ("err", significant(err))];
            let shown = vec![format!("{ms:.4}"), format!("{tflops:.digits$}"), format!("{err:.1e}")];
            Numbers { shown, named: named.to_vec() }
        });
        self.write(row.workload, Some(row.pass), &row.shape, numbers)
    }

    pub(super) fn add_memory(&mut self, row: &MemoryRow) -> Result<()> {
        let numbers = row.found.as_ref().map(|&(peak, arguments)| {
            let tokens = row.shape.batch * row.shape.length;
            let mebibytes = |bytes: usize| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
            let shown = vec![mebibytes(peak), mebibytes(arguments), format!("{:.0}", peak as f64 / tokens as f64)];
            Numbers { shown, named: vec![("peak_bytes", json!(peak)), ("argument_bytes", json!(arguments))] }
        });
        self.write(row.workload, None, &row.shape, numbers)
    }

    fn write(
        &mut self,
        variant: &str,
        pass: Option<&str>,
        shape: &Shape,
        numbers: Result<Numbers, &anyhow::Error>,
    ) -> Result<()> {
        let &Shape { dtype, batch, heads, length, head_dim } = shape;
        let extents = [("b", batch), ("h", heads), ("s", length), ("d", head_dim)];
        let mut object = self.common.clone();
        object.insert("variant".into(), json!(variant));
        object.insert("pass".into(), json!(pass.unwrap_or("memory")));
        object.insert("dtype".into(), json!(dtype_name(dtype)));
        object.extend(extents.map(|(key, extent)| (key.to_owned(), json!(extent))));
        let mut cells = vec![variant.to_owned()];
        cells.extend(pass.map(str::to_owned));
        cells.push(dtype_name(dtype).to_owned());
        cells.extend(extents.map(|(_, extent)| extent.to_string()));
        self.rows += 1;
        match numbers {
            Ok(Numbers { shown, named }) => {
                cells.extend(shown);
                object.extend(named.into_iter().map(|(key, value)| (key.to_owned(), value)));
            }
            Err(error) => {
                let message = format!("{error:#}");
                let first = message.lines().next().unwrap_or_default().to_owned();
                self.errors += 1;
                cells.push(first.clone());
                object.insert("error".into(), json!(first));
            }
        }
        let line = Value::Object(object).to_string();
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}").context("cannot write a row")?;
        }
        match &mut self.table {
            Some(table) => {
                table.add_row(cells);
            }
            None => {
                writeln!(self.out, "{line}")?;
                self.out.flush()?;
            }
        }
        Ok(())
    }

    /// Prints the table. Bad if nothing could be measured; a row with an error is a result beside others.
    pub(super) fn finish(self) -> Result<Verdict> {
        if self.rows == 0 {
            eprintln!("nothing was measured: --only matches no case of this device and effort");
            return Ok(Verdict::Bad);
        }
        if let Some(table) = self.table {
            writeln!(self.out, "{table}")?;
        }
        Ok(if self.errors < self.rows { Verdict::Good } else { Verdict::Bad })
    }
}

fn rounded(number: f64, digits: usize) -> Value {
    let unit = 10f64.powi(digits as i32);
    json!((number * unit).round() / unit)
}

/// Three digits; an error has no more.
fn significant(number: f64) -> Value {
    json!(format!("{number:.2e}").parse::<f64>().unwrap_or(number))
}

/// The commit of the sources that this program was built from, or its version where they are no longer a checkout.
fn commit() -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    let describe = ["describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"];
    let output = Command::new("git").arg("-C").arg(sources).args(describe).output();
    let text =
        output.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    text.unwrap_or_else(|| format!("v{}", env!("CARGO_PKG_VERSION")))
}
