//! Gradients of tables that are read at a function of `kv - q`: a relative position bias.
//!
//! All pairs of a diagonal of a tile add to one entry of such a table. Where what they add is the gradient of the product, which the
//! joint Hopper kernel has in shared memory as a tile, spare warps of its producer sum the tile along its diagonals, and then few
//! sums go to entries. Other tables have a kernel of their own, which computes the gradients again.
//!
//! Invariants: every read of a table that is taken has an entry that depends on the distance alone, and adds what stands in the tile.

use minijinja::{Value, context};

use super::assemble::Variant;
use super::backward::{TableReads, scales_pairs, table_axes};
use super::gradients::Gradient;
use super::relative::of_distance;
use super::values::{Place, Values, function};
use crate::ir::{NodeId, Op, ParameterId, Unary};

/// A table whose gradient is summed along diagonals.
pub(super) struct DiagonalTable<'a> {
    gradient: &'a Gradient,
    reads: Vec<Read>,
}

/// A read of a table.
struct Read {
    /// The flat entry, at the query 0 and the key that is the distance.
    entry: NodeId,
    /// Whether the table's value was subtracted.
    negative: bool,
}

/// Those of the tables that are; their entries go to the variant's graph.
pub(super) fn of<'a>(variant: &mut Variant<'_>, tables: &'a [TableReads]) -> Vec<DiagonalTable<'a>> {
    // the tile holds gradients of the product, multiplied by what differs between heads
    if scales_pairs(variant) {
        return vec![];
    }
    let added = variant.lowered.backward.product_grad;
    let mut take = |table: &'a TableReads| {
        let read = |&(entry, value): &(NodeId, NodeId)| {
            let negative = *variant.graph.op(value) == Op::Unary(Unary::Neg, added);
            let is_added = value == added || negative;
            let entry = is_added.then(|| of_distance(&mut variant.graph, entry)).flatten()?;
            Some(Read { entry, negative })
        };
        let reads: Option<Vec<Read>> = table.reads.iter().map(read).collect();
        Some(DiagonalTable { gradient: &table.gradient, reads: reads? })
    };
    tables.iter().filter_map(&mut take).collect()
}

impl DiagonalTable<'_> {
    pub(super) fn parameter(&self) -> ParameterId {
        self.gradient.parameter
    }

    /// Makes fields of what entries need.
    pub(super) fn demand(&self, values: &mut Values<'_>) {
        self.reads.iter().for_each(|read| values.demand_own(read.entry, Place::Relative));
    }

    pub(super) fn roots(&self) -> impl Iterator<Item = NodeId> {
        self.reads.iter().map(|read| read.entry)
    }

    fn entry_name(&self, variant: &Variant<'_>, at: usize) -> String {
        format!(
            "entry{}_of_{}",
            if at == 0 { String::new() } else { format!("_{}", at + 1) },
            variant.name_of(self.parameter())
        )
    }

    /// Functions: the entries of a distance, and how many there are.
    pub(super) fn functions(&self, variant: &Variant<'_>, values: &Values<'_>) -> String {
        let name = variant.name_of(self.parameter());
        let axes = table_axes(variant, self.gradient);
        let extents: Vec<String> = axes.iter().map(|axis| format!("arguments.{name}.extent[{axis}]")).collect();
        let mut text =
            function(&format!("int entries_of_{name}(const Arguments& arguments)"), &[], &extents.join(" * "));
        for (at, read) in self.reads.iter().enumerate() {
            text.push_str(&values.distance_function(read.entry, &self.entry_name(variant, at)));
        }
        text
    }

    /// What the template is given.
    pub(super) fn context(&self, variant: &Variant<'_>) -> Value {
        let read =
            |(at, read): (usize, &Read)| context! { entry => self.entry_name(variant, at), negative => read.negative };
        let reads: Vec<Value> = self.reads.iter().enumerate().map(read).collect();
        context! { name => variant.name_of(self.parameter()), reads }
    }
}
