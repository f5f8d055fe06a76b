//! What the README says about the gallery is what the gallery holds.

use attn::compiler::definition::{Axis, Parameter};
use attn::compiler::ir::Type;
use attn::gallery::{self, Entry};

const START: &str = "<!-- gallery -->\n";
const END: &str = "<!-- /gallery -->";

#[test]
fn the_gallery_table_is_the_gallery() {
    let readme = include_str!("../README.md");
    let start = readme.find(START).expect("the table's start is marked") + START.len();
    let end = readme.find(END).expect("the table's end is marked");
    let expected = table();
    assert!(readme[start..end] == expected, "put this between the marks in README.md:\n\n{expected}");
}

fn table() -> String {
    let mut table = String::from("| name | what it computes | parameters | source |\n|---|---|---|---|\n");
    for entry in gallery::all() {
        let definition = (entry.definition)();
        let parameters: Vec<String> =
            definition.parameters.iter().map(|p| format!("`{}`", declaration(p, &definition.sizes))).collect();
        let cells = [format!("`{}`", entry.name), formula(entry), parameters.join(", "), entry.citation.to_owned()];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        table += &format!("| {} |\n", cells.join(" | "));
    }
    table
}

/// The documentation up to the citation in parentheses.
fn formula(entry: &Entry) -> String {
    let docs = (entry.definition)().docs.split_whitespace().collect::<Vec<_>>().join(" ");
    let author = entry.citation.split([' ', ',']).next().expect("a citation begins with an author");
    let cited = ["", "after ", "as in "].iter().find_map(|lead| docs.find(&format!(" ({lead}{author}")));
    let end = cited.unwrap_or_else(|| panic!("the documentation of {} cites {author} in parentheses", entry.name));
    docs[..end].trim_end_matches(',').to_owned()
}

fn declaration(parameter: &Parameter, sizes: &[String]) -> String {
    let axis = |axis: &Axis| match axis {
        Axis::Batch => "b".to_owned(),
        Axis::Head => "h".to_owned(),
        Axis::Query => "q".to_owned(),
        Axis::Key => "kv".to_owned(),
        Axis::Fixed(extent) => extent.to_string(),
        Axis::Named(size) => sizes[size.0 as usize].clone(),
    };
    let axes: Vec<String> = parameter.axes.iter().map(axis).collect();
    let constant = if parameter.learnable || parameter.ty == Type::Int { "" } else { "const " };
    let element = if parameter.ty == Type::Int { "i32" } else { "f32" };
    let shape = if axes.is_empty() { String::new() } else { format!("[{}]", axes.join(", ")) };
    format!("{constant}{}: {element}{shape}", parameter.name)
}
