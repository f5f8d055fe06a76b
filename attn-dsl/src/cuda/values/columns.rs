//! Values of a tile's columns in shared memory: one array a field, two columns a read.
//!
//! Invariant: what is stored and what is loaded have the same fields in the same order, 4 bytes each.

use std::fmt::Write;

use super::{Place, Values};
use crate::ir::Type;

impl Values<'_> {
    /// Functions that keep a place's values of a tile's columns in shared memory: one array a field, two columns a read.
    pub(crate) fn column_functions(&self, place: Place, block: &str) -> String {
        let load = if place == Place::Query { "load_queries" } else { "load_keys" };
        self.column_store(place, block) + &self.column_loader(place, block, load, |_| true)
    }

    /// The first of them, which writes a column.
    pub(crate) fn column_store(&self, place: Place, block: &str) -> String {
        let store = if place == Place::Query { "store_query" } else { "store_key" };
        let structure = place.structure();
        let fields = self.fields.get(&place).map_or(&[][..], Vec::as_slice);
        let mut text =
            format!("__device__ __forceinline__ void {store}(u32 ring, int column, const {structure}& value) {{\n");
        for (index, field) in fields.iter().enumerate() {
            let cast = if self.graph.ty(field.node) == Type::Bool { "(int)" } else { "" };
            writeln!(text, "    store_shared(ring + ({index} * {block} + column) * 4, {cast}value.{});", field.name)
                .expect("writing to a string");
        }
        text.push_str("}\n");
        text
    }

    /// A function that reads those fields of two columns that `is_read`; it leaves the others as they are.
    pub(crate) fn column_loader(
        &self,
        place: Place,
        block: &str,
        name: &str,
        is_read: impl Fn(&str) -> bool,
    ) -> String {
        let structure = place.structure();
        let fields = self.fields.get(&place).map_or(&[][..], Vec::as_slice);
        let mut text =
            format!("__device__ __forceinline__ void {name}({structure} (&values)[2], u32 ring, int column) {{\n");
        for (index, field) in fields.iter().enumerate().filter(|(_, field)| is_read(&field.name)) {
            let (pair, read) = match self.graph.ty(field.node) {
                Type::Float => ("float2", "load_shared_floats"),
                Type::Int | Type::Bool => ("int2", "load_shared_ints"),
            };
            let name = &field.name;
            writeln!(text, "    const {pair} pair{index} = {read}(ring + ({index} * {block} + column) * 4);")
                .expect("writing to a string");
            writeln!(text, "    values[0].{name} = pair{index}.x, values[1].{name} = pair{index}.y;")
                .expect("writing to a string");
        }
        text.push_str("}\n");
        text
    }
}
