//! What kernels of packed batches have instead of entries of a batch: sequences, each with its own rows and lengths.
//!
//! A block finds the sequence that it works on (`find_tile`); from there on its rows begin at 0, as in any other kernel, and its
//! lengths are fields of `Tile`.
//!
//! Invariant: kernels of batches that are not packed are what they would be without this file.

use minijinja::{Value, context};

use super::arguments::{Argument, Length};
use super::assemble::Variant;
use super::names::Names;
use super::values::Values;
use crate::ir::{Graph, Input};
use crate::plan::Shape;

/// Members of the arguments' structure.
const MEMBERS: [&str; 6] = ["cu_seqlens_q", "cu_seqlens_kv", "sequences", "total_q", "max_seqlen_q", "max_seqlen_kv"];

/// Makes room for what kernels of a packed shape need, whether the variant reads it or not.
pub(super) fn prepare(shape: Shape, graph: &mut Graph, names: &mut Names) {
    if shape.is_packed() {
        graph.input(Input::QueryLen);
        graph.input(Input::KeyLen);
        names.take(&MEMBERS);
    }
}

impl Variant<'_> {
    /// Makes a sequence's lengths fields of `Tile`.
    pub(super) fn name_lengths(&self, values: &mut Values<'_>) {
        if self.shape.is_packed() {
            values.packed = true;
            self.name_inputs(values, &[(Input::QueryLen, "q_len"), (Input::KeyLen, "kv_len")]);
        }
    }

    /// What every kernel that reads a mask or pairs is told of the extents of a call.
    pub(super) fn length_members(&self) -> Vec<Argument> {
        if !self.shape.is_packed() {
            return [Length::Heads, Length::Group, Length::QueryLen, Length::KeyLen].map(Argument::Length).to_vec();
        }
        let lengths = [Length::Sequences, Length::Heads, Length::Group, Length::TotalQueries].map(Argument::Length);
        [Argument::CuSeqlensQ, Argument::CuSeqlensKv].into_iter().chain(lengths).collect()
    }

    /// The C++ expression of a block's tile of queries, and why.
    pub(super) fn query_order(&self) -> (&'static str, &'static str) {
        let packed = self.shape.is_packed();
        if self.bounds.expressions().is_empty() {
            (if packed { "place.tile" } else { "blockIdx.x" }, "one block a tile of queries")
        } else {
            let why = "under a causal mask the last queries see the most keys: they go first";
            (if packed { "(q_tiles - 1 - place.tile)" } else { "(gridDim.x - 1 - blockIdx.x)" }, why)
        }
    }

    /// What a template is told, and where in it the rows of a batch or of a sequence begin.
    pub(super) fn with_rows(&self, machine: Value) -> Value {
        let packed = self.shape.is_packed();
        context! {
            packed,
            q_rows => if packed { "q_start" } else { "batch" },
            kv_rows => if packed { "kv_start" } else { "batch" },
            lengths_of => if packed { "tile" } else { "arguments" },
            lengths => if packed { ", q_len, kv_len" } else { "" },
            ..machine
        }
    }
}
