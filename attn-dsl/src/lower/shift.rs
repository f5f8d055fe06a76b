//! The normalizer of a shifted exponential: `Z' = 2^-m Z`, over reductions of the weights `2^(t - m)`.
//!
//! Every part of the normalizer has a *degree*: it grows as the weights to that power. `sum` and `max` have degree 1,
//! `sum_squares` 2; what reads no reduction is *free* and can be brought to any degree that is not negative. A part is
//! rewritten *at* a degree `d`: to an expression that equals `2^(-d m)` times the part. For sums and maxima both operands
//! are rewritten at the same degree, for products the degrees add, a root halves them.
//!
//! Invariants:
//! * No rewritten part overflows: a power of two is multiplied in with a non-positive exponent only, which the floors see
//!   to: a free part at a degree above 0 has `m >= 0` for a floor, or `m >= g / d` when it is `2^g`.
//! * At `m` = any value not below the floors the result is exactly `2^-m Z`.

use std::collections::HashMap;
use std::f64::consts::{LN_2, LOG2_E};

use crate::ir::{Binary, Compare, Graph, Input, NodeId, Op, Reduction, Type, Unary, print_expression_with};
use crate::simplify::{distribute, simplify};

use super::{LowerError, REDUCTIONS, forward::with_names};
use crate::definition::Definition;

/// The shifted normalizer and the floors of the shift, in log2 units; neither is simplified.
pub(super) fn shifted_normalizer(
    graph: &mut Graph,
    definition: &Definition,
    normalizer: NodeId,
) -> Result<(NodeId, Vec<NodeId>), LowerError> {
    let shift = graph.input(Input::Shift);
    let mut shifter =
        Shifter { graph, definition, shift, floors: Vec::new(), degrees: HashMap::new(), images: HashMap::new() };
    let shifted = shifter.at(normalizer, 1.0)?;
    Ok((shifted, shifter.floors))
}

/// The largest free part, written out as a tree, that exponentials are looked for in.
const LARGEST_FREE: usize = 1 << 10;

struct Shifter<'a> {
    graph: &'a mut Graph,
    definition: &'a Definition,
    shift: NodeId,
    floors: Vec<NodeId>,
    /// Degrees that are known.
    degrees: HashMap<NodeId, Option<f64>>,
    /// Parts that are rewritten, by node and degree.
    images: HashMap<(NodeId, u64), NodeId>,
}

impl Shifter<'_> {
    fn is_free(&self, node: NodeId) -> bool {
        !REDUCTIONS.iter().any(|&reduction| self.graph.reads(node, Input::Reduction(reduction)))
    }

    /// How `node` grows with the weights; `None` when it is free.
    fn degree(&mut self, node: NodeId) -> Result<Option<f64>, LowerError> {
        if let Some(&degree) = self.degrees.get(&node) {
            return Ok(degree);
        }
        let degree = self.find_degree(node)?;
        self.degrees.insert(node, degree);
        Ok(degree)
    }

    fn find_degree(&mut self, node: NodeId) -> Result<Option<f64>, LowerError> {
        if self.is_free(node) {
            return Ok(None);
        }
        let sum = |a: Option<f64>, b: Option<f64>, sign: f64| a.unwrap_or(0.0) + sign * b.unwrap_or(0.0);
        let larger = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        let degree = match *self.graph.op(node) {
            Op::Input(Input::Reduction(Reduction::SumSquares)) => 2.0,
            Op::Input(Input::Reduction(Reduction::Sum | Reduction::Max)) => 1.0,
            Op::Unary(Unary::Neg | Unary::Abs, a) => return self.degree(a),
            Op::Unary(Unary::Sqrt, a) => self.degree(a)?.unwrap_or(0.0) / 2.0,
            Op::Unary(Unary::Ln | Unary::Log2, a) => {
                self.degree(a)?;
                0.0
            }
            Op::Binary(Binary::Add | Binary::Sub | Binary::Min | Binary::Max, a, b) => {
                return Ok(larger(self.degree(a)?, self.degree(b)?));
            }
            Op::Binary(Binary::Mul, a, b) => sum(self.degree(a)?, self.degree(b)?, 1.0),
            Op::Binary(Binary::Div, a, b) => sum(self.degree(a)?, self.degree(b)?, -1.0),
            // Arms that are both free are chosen between by reductions.
            Op::Select { then, otherwise, .. } => larger(self.degree(then)?, self.degree(otherwise)?).unwrap_or(0.0),
            Op::Cast(_, a) if self.graph.ty(a) == Type::Bool => 0.0,
            _ => return Err(self.not_homogeneous(node)),
        };
        Ok(Some(degree))
    }

    /// `2^(-degree * m) * node`.
    fn at(&mut self, node: NodeId, degree: f64) -> Result<NodeId, LowerError> {
        let key = (node, degree.to_bits());
        if let Some(&image) = self.images.get(&key) {
            return Ok(image);
        }
        let image = match self.degree(node)? {
            Some(own) => self.reducing_at(node, own, degree)?,
            None => self.free_at(node, node, degree)?,
        };
        self.images.insert(key, image);
        Ok(image)
    }

    /// A part that reads reductions and has degree `own`, at a degree.
    fn reducing_at(&mut self, node: NodeId, own: f64, degree: f64) -> Result<NodeId, LowerError> {
        if degree < own {
            let expression = self.print(node);
            return Err(LowerError::Unstable { node, expression, degree: own, allowed: degree });
        }
        match *self.graph.op(node) {
            Op::Binary(op @ (Binary::Add | Binary::Sub | Binary::Min | Binary::Max), a, b) => {
                let (a, b) = (self.at(a, degree)?, self.at(b, degree)?);
                Ok(self.graph.binary(op, a, b))
            }
            Op::Select { condition, then, otherwise } => {
                let condition = self.condition(condition)?;
                let (then, otherwise) = (self.at(then, degree)?, self.at(otherwise, degree)?);
                Ok(self.graph.select(condition, then, otherwise))
            }
            Op::Unary(Unary::Neg, a) => {
                let a = self.at(a, degree)?;
                Ok(self.graph.unary(Unary::Neg, a))
            }
            Op::Unary(Unary::Abs, a) => {
                let shifted = self.at(a, degree)?;
                // Reductions of exponentials are not negative.
                let is_positive = matches!(self.graph.op(a), Op::Input(Input::Reduction(_)));
                Ok(if is_positive { shifted } else { self.graph.unary(Unary::Abs, shifted) })
            }
            Op::Unary(Unary::Sqrt, a) => {
                let a = self.at(a, 2.0 * degree)?;
                Ok(self.graph.unary(Unary::Sqrt, a))
            }
            Op::Binary(Binary::Mul, a, b) => {
                let (of_a, of_b) = match (self.degree(a)?, self.degree(b)?) {
                    // A free factor takes what the other leaves: an exponential may hold it without a floor at 0.
                    (Some(own), None) => (own, degree - own),
                    (None, Some(own)) => (degree - own, own),
                    (own_a, own_b) => (own_a.unwrap_or(0.0), own_b.unwrap_or(0.0)),
                };
                let (a, b) = (self.at(a, of_a)?, self.at(b, of_b)?);
                let product = self.graph.product(a, b);
                Ok(self.lowered(product, degree - of_a - of_b))
            }
            Op::Binary(Binary::Div, a, b) => {
                let of_b = self.degree(b)?.unwrap_or(0.0);
                let (a, b) = (self.at(a, degree + of_b)?, self.at(b, of_b)?);
                Ok(self.graph.quotient(a, b))
            }
            Op::Unary(op @ (Unary::Ln | Unary::Log2), a) => {
                let of_a = self.degree(a)?.unwrap_or(0.0);
                let a = self.at(a, of_a)?;
                let logarithm = self.graph.unary(op, a);
                let unit = self.graph.float(if op == Unary::Ln { of_a * LN_2 } else { of_a });
                let shift = self.graph.product(self.shift, unit);
                let sum = self.graph.sum(logarithm, shift);
                Ok(self.lowered(sum, degree))
            }
            Op::Cast(ty, a) => {
                let condition = self.condition(a)?;
                let cast = self.graph.cast(ty, condition);
                Ok(self.lowered(cast, degree))
            }
            _ => Ok(self.lowered(node, degree - own)),
        }
    }

    /// A comparison of reductions, of their shifted values: both sides at one degree.
    fn condition(&mut self, node: NodeId) -> Result<NodeId, LowerError> {
        if self.is_free(node) {
            return Ok(node);
        }
        match *self.graph.op(node) {
            Op::Compare(op, a, b) => self.comparison(op, a, b),
            Op::Binary(op @ (Binary::And | Binary::Or), a, b) => {
                let (a, b) = (self.condition(a)?, self.condition(b)?);
                Ok(self.graph.binary(op, a, b))
            }
            Op::Unary(Unary::Not, a) => {
                let a = self.condition(a)?;
                Ok(self.graph.unary(Unary::Not, a))
            }
            _ => Err(self.not_homogeneous(node)),
        }
    }

    fn comparison(&mut self, op: Compare, a: NodeId, b: NodeId) -> Result<NodeId, LowerError> {
        let degree = self.degree(a)?.unwrap_or(0.0).max(self.degree(b)?.unwrap_or(0.0));
        let (a, b) = (self.at(a, degree)?, self.at(b, degree)?);
        Ok(self.graph.compare(op, a, b))
    }

    /// A part that reads no reduction, at a degree. `named` is the node that an error speaks of.
    fn free_at(&mut self, node: NodeId, named: NodeId, degree: f64) -> Result<NodeId, LowerError> {
        if degree < 0.0 {
            let expression = self.print(named);
            return Err(LowerError::Unstable { node: named, expression, degree: 0.0, allowed: degree });
        }
        let node = simplify(self.graph, node);
        if self.graph.tree_size(node) > LARGEST_FREE {
            return Ok(self.lowered(node, degree));
        }
        if degree == 0.0 || self.graph.as_float(node) == Some(0.0) {
            return Ok(node);
        }
        match *self.graph.op(node) {
            Op::Unary(op @ (Unary::Exp | Unary::Exp2), exponent) => {
                let unit = if op == Unary::Exp { LOG2_E } else { 1.0 };
                let floor = distribute(self.graph, exponent, unit / degree);
                self.floor(floor);
                let exponent = distribute(self.graph, exponent, unit);
                let degree = self.graph.float(degree);
                let shift = self.graph.product(self.shift, degree);
                let shifted = self.graph.difference(exponent, shift);
                Ok(self.graph.unary(Unary::Exp2, shifted))
            }
            Op::Binary(op @ (Binary::Add | Binary::Sub | Binary::Min | Binary::Max), a, b) => {
                let (a, b) = (self.free_at(a, named, degree)?, self.free_at(b, named, degree)?);
                Ok(self.graph.binary(op, a, b))
            }
            Op::Select { condition, then, otherwise } => {
                let (then, otherwise) = (self.free_at(then, named, degree)?, self.free_at(otherwise, named, degree)?);
                Ok(self.graph.select(condition, then, otherwise))
            }
            Op::Unary(op @ (Unary::Neg | Unary::Abs), a) => {
                let a = self.free_at(a, named, degree)?;
                Ok(self.graph.unary(op, a))
            }
            Op::Unary(Unary::Sqrt, a) => {
                let a = self.free_at(a, named, 2.0 * degree)?;
                Ok(self.graph.unary(Unary::Sqrt, a))
            }
            Op::Binary(Binary::Mul, a, b) if self.holds_exponential(a) => {
                let a = self.free_at(a, named, degree)?;
                Ok(self.graph.product(a, b))
            }
            Op::Binary(Binary::Mul, a, b) if self.holds_exponential(b) => {
                let b = self.free_at(b, named, degree)?;
                Ok(self.graph.product(a, b))
            }
            Op::Binary(Binary::Div, a, b) if self.holds_exponential(a) => {
                let a = self.free_at(a, named, degree)?;
                Ok(self.graph.quotient(a, b))
            }
            _ => Ok(self.lowered(node, degree)),
        }
    }

    /// Whether a factor of the part is an exponential, whose exponent can take the shift.
    fn holds_exponential(&self, node: NodeId) -> bool {
        match *self.graph.op(node) {
            Op::Unary(Unary::Exp | Unary::Exp2, _) => true,
            Op::Unary(Unary::Neg | Unary::Sqrt, a) | Op::Binary(Binary::Div, a, _) => self.holds_exponential(a),
            Op::Binary(Binary::Mul, a, b) => self.holds_exponential(a) || self.holds_exponential(b),
            _ => false,
        }
    }

    /// `2^(-degree * m) * node`, with `m` kept at 0 or above.
    fn lowered(&mut self, node: NodeId, degree: f64) -> NodeId {
        debug_assert!(degree >= 0.0);
        if degree == 0.0 {
            return node;
        }
        let zero = self.graph.float(0.0);
        self.floor(zero);
        let minus = self.graph.float(-degree);
        let exponent = self.graph.product(self.shift, minus);
        let power = self.graph.unary(Unary::Exp2, exponent);
        self.graph.product(node, power)
    }

    fn floor(&mut self, floor: NodeId) {
        let floor = simplify(self.graph, floor);
        if !self.floors.contains(&floor) {
            self.floors.push(floor);
        }
    }

    fn not_homogeneous(&self, node: NodeId) -> LowerError {
        LowerError::NotHomogeneous { node, expression: self.print(node) }
    }

    fn print(&self, node: NodeId) -> String {
        with_names(self.definition, |names| print_expression_with(self.graph, node, names))
    }
}
