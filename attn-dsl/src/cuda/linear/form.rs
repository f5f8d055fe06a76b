//! The sums of the linear-time schedule, and what each has of what a sum may have: scales, exponents, a bias.
//!
//! Invariant: a column beyond the last one adds nothing, whatever a form has: its factor or its weight is 0.

use crate::cuda::TensorRole;
use crate::ir::NodeId;
use crate::lower::{Class, Linear, Lowered, Side};
use crate::plan::Shape;

/// One of the sums that the linear-time schedule computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinearSum {
    /// The output, of the weights of v.
    Output,
    /// dq.
    QueryGrad,
    /// dk.
    KeyGrad,
    /// dv.
    ValueGrad,
}

impl LinearSum {
    /// `a`, `b`, `c` and the result.
    pub(super) fn tensors(self) -> [TensorRole; 4] {
        use TensorRole::{K, KGrad, Output, OutputGrad, Q, QGrad, V, VGrad};
        match self {
            LinearSum::Output => [Q, K, V, Output],
            LinearSum::QueryGrad => [OutputGrad, V, K, QGrad],
            LinearSum::KeyGrad => [V, OutputGrad, Q, KGrad],
            LinearSum::ValueGrad => [K, Q, OutputGrad, VGrad],
        }
    }

    /// What its rows are.
    pub(super) fn rows(self) -> Side {
        match self {
            LinearSum::Output | LinearSum::QueryGrad => Side::Query,
            LinearSum::KeyGrad | LinearSum::ValueGrad => Side::Key,
        }
    }

    /// As kernels are called after it: forward, dq, dk or dv.
    pub fn name(self) -> &'static str {
        match self {
            LinearSum::Output => "forward",
            LinearSum::QueryGrad => "dq",
            LinearSum::KeyGrad => "dk",
            LinearSum::ValueGrad => "dv",
        }
    }

    pub(super) fn entry(self) -> &'static str {
        match self {
            LinearSum::Output => "attn_linear_forward",
            LinearSum::QueryGrad => "attn_linear_dq",
            LinearSum::KeyGrad => "attn_linear_dk",
            LinearSum::ValueGrad => "attn_linear_dv",
        }
    }

    /// The head dimensions of `a` and `b`, and of `c`.
    pub(super) fn dims(self, shape: Shape) -> [usize; 2] {
        match self {
            LinearSum::Output | LinearSum::ValueGrad => [shape.head_dim(), shape.value_dim()],
            LinearSum::QueryGrad | LinearSum::KeyGrad => [shape.value_dim(), shape.head_dim()],
        }
    }
}

/// What a sum has of what a sum may have.
pub(super) struct Form<'a> {
    pub(super) sum: LinearSum,
    pub(super) linear: &'a Linear,
    pub(super) lowered: &'a Lowered,
}

impl Form<'_> {
    pub(super) fn exponents(&self) -> bool {
        self.linear.query_exponent.is_some() || self.linear.key_exponent.is_some()
    }

    /// Whether the rows are divided by a sum that is found here.
    pub(super) fn normalized(&self) -> bool {
        self.sum == LinearSum::Output && self.lowered.class == Class::Streaming
    }

    pub(super) fn has_bias(&self) -> bool {
        matches!(self.sum, LinearSum::QueryGrad | LinearSum::KeyGrad) && self.linear.bias.is_some()
    }

    pub(super) fn row_bias(&self) -> bool {
        self.has_bias() && self.sum == LinearSum::QueryGrad
    }

    pub(super) fn column_bias(&self) -> bool {
        self.has_bias() && self.sum == LinearSum::KeyGrad
    }

    pub(super) fn is_one(&self, factor: NodeId) -> bool {
        self.linear.graph.as_float(factor) == Some(1.0)
    }

    /// Whether a factor of rows differs between them.
    pub(super) fn scales_by_row(&self, factor: NodeId) -> bool {
        !self.is_one(factor) && !self.linear.graph.rate(factor).is_tile()
    }

    /// The C++ factor of row `AT` of a chunk, where rows have one.
    pub(super) fn row_scale(&self) -> Option<&'static str> {
        let (factor, of_tile) = match self.sum.rows() {
            Side::Query => (self.linear.query_scale, "query_scale(tile, Query{})"),
            Side::Key => (self.linear.key_scale, "key_scale(tile, Key{})"),
        };
        if self.is_one(factor) {
            return None;
        }
        Some(if self.scales_by_row(factor) { "values.row_scale[AT]" } else { of_tile })
    }

    /// Whether `1 / z` is a value of a query.
    pub(super) fn divides(&self) -> bool {
        self.linear.inverse.is_some() && !self.normalized()
    }

    /// The C++ factor of a column, of its query or key.
    pub(super) fn column_factor(&self) -> Option<String> {
        let (factor, call) = match self.sum.rows() {
            Side::Query => (self.linear.key_factor, "key_factor(tile, key_column)"),
            Side::Key => (self.linear.query_factor, "query_factor(tile, query_column)"),
        };
        let mut text: Vec<&str> = vec![];
        if !self.is_one(factor) {
            text.push(call);
        }
        if self.sum.rows() == Side::Key && self.divides() {
            text.push("query_inverse(tile, query_column)");
        }
        // a column that is none has neither exponent nor bias
        (!text.is_empty()).then(|| text.join(" * "))
    }

    /// Values of rows: names and C++ expressions.
    pub(super) fn row_values(&self) -> Vec<(&'static str, &'static str)> {
        let mut values = vec![];
        match self.sum.rows() {
            Side::Query => {
                if self.exponents() {
                    values.push(("row_exponent", "query_exponent(tile, query_row)"));
                }
                if self.scales_by_row(self.linear.query_scale) {
                    values.push(("row_scale", "query_scale(tile, query_row)"));
                }
                if self.divides() {
                    values.push(("row_inverse", "query_inverse(tile, query_row)"));
                }
                if self.row_bias() {
                    values.push(("row_bias", "query_bias(tile, query_row)"));
                }
            }
            Side::Key => {
                if self.exponents() {
                    values.push(("row_exponent", "key_exponent(tile, key_row)"));
                }
                if self.scales_by_row(self.linear.key_scale) {
                    values.push(("row_scale", "key_scale(tile, key_row)"));
                }
            }
        }
        values
    }

    /// Values of columns by name.
    pub(super) fn column_values(&self) -> Vec<&'static str> {
        let mut values = vec![];
        if self.exponents() {
            values.push("column_exponent");
        }
        if self.column_factor().is_some() {
            values.push("column_factor");
        }
        if self.column_bias() {
            values.push("column_bias");
        }
        values
    }

    /// Whether gradients of parameters take the rows' sums.
    pub(super) fn leaves_sums(&self) -> bool {
        let side = match self.sum {
            LinearSum::QueryGrad => Side::Query,
            LinearSum::KeyGrad => Side::Key,
            LinearSum::Output | LinearSum::ValueGrad => return false,
        };
        self.linear.parameters.iter().any(|gradient| gradient.side == side)
    }
}
