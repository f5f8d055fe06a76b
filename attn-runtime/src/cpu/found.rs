//! What row passes found, as programs read it.
//!
//! Invariant: every list has a value for each row of the call.

use attn_dsl::ir::{Row, Type};

/// What row passes found of all rows, in the order of the rows.
#[derive(Debug, Default)]
pub(super) struct FoundRows {
    floats: Vec<(Row, Vec<f32>)>,
    ints: Vec<(Row, Vec<i32>)>,
}

/// The same from a row on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found<'a> {
    rows: Option<&'a FoundRows>,
    start: usize,
}

impl FoundRows {
    pub(super) fn add_floats(&mut self, row: Row, values: Vec<f32>) {
        self.floats.push((row, values));
    }

    pub(super) fn add_ints(&mut self, row: Row, values: Vec<i32>) {
        self.ints.push((row, values));
    }

    /// Adds what was saved: an integer is stored in the bits of a float.
    pub(super) fn add_bits(&mut self, row: Row, values: &[f32]) {
        match row.value.ty() {
            Type::Int => self.add_ints(row, values.iter().map(|x| x.to_bits() as i32).collect()),
            _ => self.add_floats(row, values.to_vec()),
        }
    }

    /// What is saved of a row's value.
    pub(super) fn bits(&self, row: Row) -> Vec<f32> {
        match row.value.ty() {
            Type::Int => self.ints(row).iter().map(|&x| f32::from_bits(x as u32)).collect(),
            _ => self.floats(row).to_vec(),
        }
    }

    pub(super) fn from(&self, start: usize) -> Found<'_> {
        Found { rows: Some(self), start }
    }

    fn floats(&self, row: Row) -> &[f32] {
        self.floats.iter().find(|(own, _)| *own == row).map_or(&[], |(_, values)| values)
    }

    fn ints(&self, row: Row) -> &[i32] {
        self.ints.iter().find(|(own, _)| *own == row).map_or(&[], |(_, values)| values)
    }
}

impl<'a> Found<'a> {
    pub(super) fn floats(self, row: Row, count: usize) -> &'a [f32] {
        self.rows.map_or(&[], |rows| &rows.floats(row)[self.start..][..count])
    }

    pub(super) fn ints(self, row: Row, count: usize) -> &'a [i32] {
        self.rows.map_or(&[], |rows| &rows.ints(row)[self.start..][..count])
    }
}
