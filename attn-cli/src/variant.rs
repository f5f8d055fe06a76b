//! What a command line calls a variant: an entry of the gallery or a text file, with a mask on top.
//!
//! Invariant: an error says where it is: in the file's lines, in the mask, or in the name.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use attn::{Definition, gallery};
use attn_dsl::definition::{Axis, Parameter};
use attn_dsl::ir::Type;

/// A variant on a command line.
#[derive(clap::Args)]
pub(crate) struct VariantArgs {
    /// A variant of the gallery (see `attn list`), a file FILE.attn, or FILE.attn:NAME where the file has several
    #[arg(value_name = "VARIANT|FILE.attn")]
    pub(crate) variant: String,
    /// A mask on top of the variant's own: `causal`, `window(512, 0)`, `prefix(16) | causal`, `|b, h, q, kv| kv != 0`
    #[arg(long, value_name = "TEXT")]
    pub(crate) mask: Option<String>,
}

impl VariantArgs {
    /// The definition, with the mask.
    pub(crate) fn resolve(&self) -> Result<Definition> {
        let definition = match split_file(&self.variant) {
            Some((path, name)) => from_file(&path, name)?,
            None => from_gallery(&self.variant)?.clone(),
        };
        match &self.mask {
            Some(mask) => with_mask(&definition, mask),
            None => Ok(definition),
        }
    }
}

/// A definition with one more mask.
pub(crate) fn with_mask(definition: &Definition, mask: &str) -> Result<Definition> {
    definition
        .with_mask(mask)
        .map_err(|errors| anyhow!("the mask is wrong\n{}", errors.render(mask, "--mask").trim_end()))
}

/// The path and the name behind it, if `text` is about a file.
fn split_file(text: &str) -> Option<(PathBuf, Option<&str>)> {
    if let Some((path, name)) = text.rsplit_once(".attn:") {
        return Some((PathBuf::from(format!("{path}.attn")), Some(name)));
    }
    let path = Path::new(text);
    (path.extension().is_some() || path.components().count() > 1 || path.is_file()).then(|| (path.into(), None))
}

fn from_file(path: &Path, name: Option<&str>) -> Result<Definition> {
    let source = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut definitions = attn::compile_text(&source).map_err(|errors| {
        anyhow!("{} is wrong\n{}", path.display(), errors.render(&source, &path.display().to_string()))
    })?;
    let names = definitions.iter().map(|definition| definition.name.clone()).collect::<Vec<_>>().join(", ");
    match name {
        Some(name) => match definitions.into_iter().find(|definition| definition.name == name) {
            Some(definition) => Ok(definition),
            None => bail!("{} has no variant `{name}`; it has {names}", path.display()),
        },
        None if definitions.len() == 1 => Ok(definitions.remove(0)),
        None if definitions.is_empty() => {
            bail!("{} has no variant; write `struct Name {{ ... }}` in it", path.display())
        }
        None => bail!("{0} has several variants ({names}); choose one as {0}:NAME", path.display()),
    }
}

/// An entry of the gallery by its name on the command line or by that of its Rust type.
fn from_gallery(name: &str) -> Result<&'static Definition> {
    let entries = gallery::all();
    let by_type = || entries.iter().find(|entry| (entry.definition)().name == name);
    if let Some(entry) = gallery::find(name).or_else(by_type) {
        return Ok((entry.definition)());
    }
    let distance = |entry: &&gallery::Entry| strsim::damerau_levenshtein(name, entry.name);
    let nearest = entries.iter().min_by_key(distance).filter(|entry| distance(entry) <= 1 + name.len() / 3);
    match nearest {
        Some(entry) => bail!("the gallery has no variant `{name}`; did you mean `{}`?", entry.name),
        None => bail!("the gallery has no variant `{name}`; `attn list` shows all, and a file's name ends in .attn"),
    }
}

/// A parameter as it is declared: `const slope: f32[h]`.
pub(crate) fn declaration(definition: &Definition, parameter: &Parameter) -> String {
    let constant = parameter.ty == Type::Float && !parameter.learnable;
    format!("{}{}: {}", if constant { "const " } else { "" }, parameter.name, type_of(definition, parameter))
}

/// The type of a parameter as it is declared: `f32[h, 32]`.
pub(crate) fn type_of(definition: &Definition, parameter: &Parameter) -> String {
    let element = if parameter.ty == Type::Int { "i32" } else { "f32" };
    if parameter.axes.is_empty() {
        return element.to_owned();
    }
    let axis = |axis: &Axis| match axis {
        Axis::Batch => "b".to_owned(),
        Axis::Head => "h".to_owned(),
        Axis::Query => "q".to_owned(),
        Axis::Key => "kv".to_owned(),
        Axis::Fixed(extent) => extent.to_string(),
        Axis::Named(id) => definition.sizes[id.0 as usize].clone(),
    };
    format!("{element}[{}]", parameter.axes.iter().map(axis).collect::<Vec<_>>().join(", "))
}

/// All declarations, separated by commas; empty if there is none.
pub(crate) fn declarations(definition: &Definition) -> String {
    definition.parameters.iter().map(|p| declaration(definition, p)).collect::<Vec<_>>().join(", ")
}
