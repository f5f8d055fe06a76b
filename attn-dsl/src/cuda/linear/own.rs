//! The variant's own part of a kernel of rows and keys: no function of it is of pairs.
//!
//! Invariant: a function of a row reads the fields of the tile and of the row; one of a key those of the tile and of the key.

use crate::cuda::arguments::{Argument, RowArray, declare};
use crate::cuda::assemble::Variant;
use crate::cuda::values::{Place, Values, function};
use crate::ir::{Input, NodeId};
use crate::lower::{SavedRow, Side};

/// What of the variant's values a kernel reads.
pub(in crate::cuda) struct Own<'v> {
    pub(in crate::cuda) values: Values<'v>,
    pub(in crate::cuda) functions: String,
    pub(in crate::cuda) roots: Vec<NodeId>,
}

impl<'v> Own<'v> {
    pub(in crate::cuda) fn new(variant: &'v Variant<'_>) -> Own<'v> {
        Own { values: variant.values(), functions: String::new(), roots: vec![] }
    }

    /// Demands the roots of functions of rows or keys, then writes these.
    pub(in crate::cuda) fn functions_of(&mut self, wanted: &[(&str, Side, NodeId)]) {
        for &(_, _, root) in wanted {
            self.values.demand(root, &[]);
            self.roots.push(root);
        }
        for (name, side, root) in wanted {
            let (statements, texts) = self.values.body(&[*root], &[]);
            let place = match side {
                Side::Query => "const Query& query",
                Side::Key => "const Key& key",
            };
            self.functions.push_str(&function(
                &format!("float {name}(const Tile& tile, {place})"),
                &statements,
                &texts[0],
            ));
        }
    }

    /// Members that the fields read, the declarations, and the functions.
    pub(in crate::cuda) fn text(&mut self, variant: &Variant<'_>, members: &mut Vec<Argument>) -> String {
        let values = &mut self.values;
        let mut rows = vec![];
        if values.reads(Input::Statistic) {
            rows.push(RowArray::Saved(SavedRow::Statistic));
        }
        if values.reads(Input::Delta) {
            rows.push(RowArray::Delta);
        }
        if !rows.is_empty() {
            variant.name_row_indices(values);
        }
        let counts = values.reads(Input::LiveKeys);
        if counts {
            variant.demand_bounds(values);
        }
        for row in rows {
            if !members.contains(&Argument::Rows(row)) {
                members.push(Argument::Rows(row));
            }
        }
        members.extend(variant.common_arguments(&self.roots));
        let mut text = declare(variant.definition(), [&variant.names, &variant.size_names], members);
        for place in [Place::Tile, Place::Query, Place::Key] {
            text.push_str(&values.declare(place));
        }
        text.push('\n');
        text.push_str(&values.loader(Place::Tile));
        if counts {
            text.push_str(&variant.bounds.functions(values));
            text.push_str(&variant.live_key_count(values));
        }
        text.push_str(&values.loader(Place::Query));
        text.push_str(&values.loader(Place::Key));
        text.push_str(&self.functions);
        text
    }
}
