//! Integers of a mask as sums of atoms, and the ranges of atoms over a tile.
//!
//! Invariants: in every pair of a tile an atom lies between its ends, unless a guard of its linear form is broken; an atom of tile
//! rate is both of its ends. An end that is not known is absent.

use super::linear::Linear;
use super::{Analysis, End};
use crate::ir::{Binary, Compare, Extreme, Input, NodeId, Op, ParameterId, Type, Unary};

/// The largest position, and a length at most.
const POSITION: i64 = 1 << 24;
/// What 32 bits hold.
const INT: (i64, i64) = (i32::MIN as i64, i32::MAX as i64);
/// Blocks of positions so large that their numbers in a tile are read one by one.
const FEW_IN_A_TILE: i64 = 16;

/// The range of an atom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Atom {
    /// In the tile.
    pub(super) low: Option<NodeId>,
    pub(super) high: Option<NodeId>,
    /// In any tile.
    pub(super) extent: (i64, i64),
}

const UNKNOWN: Atom = Atom { low: None, high: None, extent: INT };

impl Analysis<'_> {
    /// Finds the linear form of an integer.
    pub(super) fn read_number(&mut self, id: NodeId) {
        let is_point = self.is_point(id);
        let fits = |(least, largest): (i64, i64)| INT.0 <= least && largest <= INT.1;
        let sum = self.sum(id).filter(|linear| !is_point || fits(self.extent_of(linear)));
        let number = match sum {
            Some(mut linear) => {
                if !fits(self.extent_of(&linear)) {
                    self.guard(&mut linear);
                }
                linear
            }
            None => self.read_atom(id),
        };
        self.numbers.insert(id, number);
    }

    /// An integer that is a sum.
    fn sum(&self, id: NodeId) -> Option<Linear> {
        let number = |id: NodeId| &self.numbers[&id];
        match *self.graph.op(id) {
            Op::Int(value) => Some(Linear::constant(i64::from(value))),
            Op::Unary(Unary::Neg, a) => number(a).scaled(-1, 0),
            Op::Binary(Binary::Add, a, b) => number(a).combined(1, number(b), 1),
            Op::Binary(Binary::Sub, a, b) => number(a).combined(1, number(b), -1),
            Op::Binary(Binary::Mul, a, b) => match (number(a).as_constant(), number(b).as_constant()) {
                (Some(factor), _) => number(b).scaled(factor, 0),
                (_, Some(factor)) => number(a).scaled(factor, 0),
                _ => None,
            },
            _ => None,
        }
    }

    /// Requires of each term that it leaves room for the others.
    fn guard(&self, linear: &mut Linear) {
        let terms: Vec<(NodeId, i64)> = linear.terms.iter().map(|(&atom, &coefficient)| (atom, coefficient)).collect();
        let share = (INT.1 - linear.constant.abs()).max(0) / terms.len().max(1) as i64;
        for (atom, coefficient) in terms {
            let (least, largest) = self.extent(atom);
            let limit = share / coefficient.abs();
            if least < -limit || largest > limit {
                linear.guard(atom, limit);
            }
        }
    }

    /// Finds the range of what is no sum.
    fn read_atom(&mut self, id: NodeId) -> Linear {
        let mut linear = Linear::atom(id);
        for operand in self.graph.op(id).operands() {
            if let Some(number) = self.numbers.get(&operand) {
                for (&atom, &limit) in &number.guards {
                    linear.guard(atom, limit);
                }
            }
        }
        let mut atom = match self.graph.op(id).clone() {
            Op::Input(input) => self.input(input),
            Op::Parameter { parameter, index, ty: Type::Int } => self.lookup(parameter, &index),
            Op::Unary(Unary::Abs, a) => self.abs(a, &mut linear),
            Op::Binary(op @ (Binary::Min | Binary::Max), a, b) => self.min_or_max(op, a, b),
            Op::Binary(Binary::Mul, a, b) => self.product(a, b),
            Op::Binary(op @ (Binary::Div | Binary::Rem), a, b) => self.division(op, a, b),
            Op::Select { condition, then, otherwise } => self.choice(condition, then, otherwise),
            Op::Cast(_, a) if self.graph.ty(a) == Type::Bool => self.zero_or_one(a),
            _ => UNKNOWN,
        };
        if self.is_point(id) {
            (atom.low, atom.high) = (Some(id), Some(id));
        }
        self.described(id, linear, atom)
    }

    fn described(&mut self, id: NodeId, linear: Linear, mut atom: Atom) -> Linear {
        atom.extent = (atom.extent.0.max(INT.0), atom.extent.1.min(INT.1));
        self.atoms.insert(id, atom);
        linear
    }

    fn input(&mut self, input: Input) -> Atom {
        let mut range = |first: Input, last: Input| Atom {
            low: Some(self.graph.input(first)),
            high: Some(self.graph.input(last)),
            extent: (0, POSITION),
        };
        match input {
            Input::Query => range(Input::FirstQuery, Input::LastQuery),
            Input::Key => range(Input::FirstKey, Input::LastKey),
            _ => Atom { extent: (0, POSITION), ..UNKNOWN },
        }
    }

    /// Among the elements at the indices of the tile.
    fn lookup(&mut self, parameter: ParameterId, index: &[NodeId]) -> Atom {
        let varying: Vec<usize> = (0..index.len()).filter(|&axis| !self.is_point(index[axis])).collect();
        let blocks = match varying[..] {
            [axis] => (!self.has_few_values(index[axis])).then_some(axis),
            // of two axes that positions run along there are as many elements as pairs
            [a, b] if !(self.follows_positions(index[a]) && self.follows_positions(index[b])) => None,
            _ => return UNKNOWN,
        };
        let (mut first, mut last) = (index.to_vec(), index.to_vec());
        for axis in varying {
            let number = self.numbers[&index[axis]].clone();
            let ends = (self.end_of(&number, End::Low), self.end_of(&number, End::High));
            let (Some(low), Some(high)) = ends else { return UNKNOWN };
            (first[axis], last[axis]) = (low, high);
        }
        let [low, high] = [Extreme::Least, Extreme::Greatest].map(|extreme| {
            self.graph.add(Op::Extreme { extreme, parameter, first: first.clone(), last: last.clone(), blocks })
        });
        Atom { low: Some(low), high: Some(high), extent: INT }
    }

    /// Whether an index changes with each position.
    fn follows_positions(&self, index: NodeId) -> bool {
        let is_position = |atom: &NodeId| matches!(self.graph.op(*atom), Op::Input(Input::Query | Input::Key));
        self.numbers[&index].terms.keys().any(is_position)
    }

    /// Whether an index is the number of a block of positions, so that a tile has few.
    fn has_few_values(&self, index: NodeId) -> bool {
        let varying = self.numbers[&index].terms.iter().filter(|&(&atom, _)| !self.is_point(atom));
        let [(&atom, 1 | -1)] = varying.collect::<Vec<_>>()[..] else { return false };
        let Op::Binary(Binary::Div, position, block) = *self.graph.op(atom) else { return false };
        let is_position = |(atom, &coefficient): (&NodeId, &i64)| self.is_point(*atom) || coefficient.abs() == 1;
        self.numbers[&block].as_constant().is_some_and(|block| block.abs() >= FEW_IN_A_TILE)
            && self.follows_positions(position)
            && self.numbers[&position].terms.iter().all(is_position)
    }

    /// Both ends of an integer in the tile.
    fn range(&mut self, id: NodeId) -> (Option<NodeId>, Option<NodeId>, (i64, i64)) {
        let number = self.numbers[&id].clone();
        let (least, largest) = self.extent_of(&number);
        let extent = (least.max(INT.0), largest.min(INT.1));
        (self.end_of(&number, End::Low), self.end_of(&number, End::High), extent)
    }

    fn abs(&mut self, a: NodeId, linear: &mut Linear) -> Atom {
        // the least integer has no magnitude in 32 bits
        if let Some(mut opposite) = self.numbers[&a].scaled(-1, 0)
            && self.extent_of(&opposite).1 > INT.1
        {
            self.guard(&mut opposite);
            opposite.guards.iter().for_each(|(&atom, &limit)| linear.guard(atom, limit));
        }
        let (low, high, (least, largest)) = self.range(a);
        let largest_magnitude = largest.max(-least);
        let least_magnitude = least.max(-largest).max(0);
        let mut atom = Atom { low: None, high: None, extent: (least_magnitude, largest_magnitude) };
        let zero = self.graph.int(0);
        let Some((low, high)) = low.zip(high) else { return Atom { low: Some(zero), ..atom } };
        let (minus_low, minus_high) = (self.graph.unary(Unary::Neg, low), self.graph.unary(Unary::Neg, high));
        let nearest = self.graph.binary(Binary::Max, low, minus_high);
        atom.low = Some(self.graph.binary(Binary::Max, nearest, zero));
        atom.high = Some(self.graph.binary(Binary::Max, high, minus_low));
        atom
    }

    fn min_or_max(&mut self, op: Binary, a: NodeId, b: NodeId) -> Atom {
        let (a_low, a_high, a_extent) = self.range(a);
        let (b_low, b_high, b_extent) = self.range(b);
        let mut both = |a: Option<NodeId>, b: Option<NodeId>| Some(self.graph.binary(op, a?, b?));
        let (low, high) = (both(a_low, b_low), both(a_high, b_high));
        // one known end is enough on the side that the operation limits
        if op == Binary::Min {
            let extent = (a_extent.0.min(b_extent.0), a_extent.1.min(b_extent.1));
            Atom { low, high: high.or(a_high).or(b_high), extent }
        } else {
            let extent = (a_extent.0.max(b_extent.0), a_extent.1.max(b_extent.1));
            Atom { low: low.or(a_low).or(b_low), high, extent }
        }
    }

    /// Of numbers so small that no product of their ends wraps.
    fn product(&mut self, a: NodeId, b: NodeId) -> Atom {
        let (a_low, a_high, a_extent) = self.range(a);
        let (b_low, b_high, b_extent) = self.range(b);
        let corners = [a_extent.0, a_extent.1].map(|a| [a * b_extent.0, a * b_extent.1]);
        let corners = corners.as_flattened();
        let extent =
            (corners.iter().copied().fold(i64::MAX, i64::min), corners.iter().copied().fold(i64::MIN, i64::max));
        let known = [a_low, a_high, b_low, b_high].into_iter().collect::<Option<Vec<_>>>();
        let Some(ends) = known.filter(|_| extent.0 >= INT.0 && extent.1 <= INT.1) else { return UNKNOWN };
        let products: Vec<_> = ends[..2].iter().flat_map(|&a| ends[2..].iter().map(move |&b| (a, b))).collect();
        let products: Vec<_> = products.into_iter().map(|(a, b)| self.graph.product(a, b)).collect();
        let mut fold = |op: Binary| products[1..].iter().fold(products[0], |a, &b| self.graph.binary(op, a, b));
        Atom { low: Some(fold(Binary::Min)), high: Some(fold(Binary::Max)), extent }
    }

    /// By a number of tile rate: a quotient rises or falls with its dividend; a remainder does as long as the quotient stays.
    fn division(&mut self, op: Binary, a: NodeId, b: NodeId) -> Atom {
        let (low, high, (least, largest)) = self.range(a);
        let divisor = self.numbers[&b].as_constant();
        // the one quotient that wraps
        let may_wrap = least == INT.0 && divisor.is_none_or(|divisor| divisor == -1);
        if !self.is_point(b) || may_wrap {
            return UNKNOWN;
        }
        let magnitude = least.abs().max(largest.abs());
        let ends = low.zip(high);
        if op == Binary::Div {
            let extent = match divisor {
                Some(divisor) if divisor > 0 => (least / divisor, largest / divisor),
                _ => (-magnitude, magnitude),
            };
            let Some((low, high)) = ends else { return Atom { extent, ..UNKNOWN } };
            let (low, high) = (self.graph.quotient(low, b), self.graph.quotient(high, b));
            return if divisor.is_some_and(|divisor| divisor >= 0) {
                Atom { low: Some(low), high: Some(high), extent }
            } else {
                let (least, largest) =
                    (self.graph.binary(Binary::Min, low, high), self.graph.binary(Binary::Max, low, high));
                Atom { low: Some(least), high: Some(largest), extent }
            };
        }
        let period = divisor.map_or(INT.1, i64::abs).max(1);
        let extent = (-((-least).max(0).min(period - 1)), largest.max(0).min(period - 1));
        let (zero, one) = (self.graph.int(0), self.graph.int(1));
        // the least divisor has no magnitude, but its opposite less one has: -(|b| - 1) is b + 1 of a negative b
        let positive = self.graph.compare(Compare::Gt, b, zero);
        let (below, above) = (self.graph.difference(b, one), self.graph.sum(b, one));
        let minus_above = self.graph.unary(Unary::Neg, above);
        let largest_rest = self.graph.select(positive, below, minus_above);
        let largest_rest = self.graph.binary(Binary::Max, largest_rest, zero);
        let least_rest = self.graph.unary(Unary::Neg, largest_rest);
        let (mut low_rest, mut high_rest) = (least_rest, largest_rest);
        if least >= 0 {
            low_rest = zero;
        }
        if largest <= 0 {
            high_rest = zero;
        }
        let Some((low, high)) = ends else {
            return Atom { low: Some(low_rest), high: Some(high_rest), extent };
        };
        if least < 0 && largest > 0 {
            let (is_below, is_above) =
                (self.graph.compare(Compare::Lt, low, zero), self.graph.compare(Compare::Gt, high, zero));
            low_rest = self.graph.select(is_below, low_rest, zero);
            high_rest = self.graph.select(is_above, high_rest, zero);
        }
        let (low_quotient, high_quotient) = (self.graph.quotient(low, b), self.graph.quotient(high, b));
        let is_one_period = self.graph.compare(Compare::Eq, low_quotient, high_quotient);
        let (low, high) = (self.graph.binary(Binary::Rem, low, b), self.graph.binary(Binary::Rem, high, b));
        let low = self.graph.select(is_one_period, low, low_rest);
        let high = self.graph.select(is_one_period, high, high_rest);
        Atom { low: Some(low), high: Some(high), extent }
    }

    fn choice(&mut self, condition: NodeId, then: NodeId, otherwise: NodeId) -> Atom {
        let (a_low, a_high, a_extent) = self.range(then);
        let (b_low, b_high, b_extent) = self.range(otherwise);
        let [may_fail, may_hold] = self.outcomes(condition);
        let mut chosen = |op: Binary, a: Option<NodeId>, b: Option<NodeId>| {
            let (a, b) = a.zip(b)?;
            let either = self.graph.binary(op, a, b);
            let held = self.graph.select(may_fail, either, a);
            Some(self.graph.select(may_hold, held, b))
        };
        let (low, high) = (chosen(Binary::Min, a_low, b_low), chosen(Binary::Max, a_high, b_high));
        Atom { low, high, extent: (a_extent.0.min(b_extent.0), a_extent.1.max(b_extent.1)) }
    }

    fn zero_or_one(&mut self, condition: NodeId) -> Atom {
        let [may_fail, may_hold] = self.outcomes(condition);
        let holds = self.graph.unary(Unary::Not, may_fail);
        Atom {
            low: Some(self.graph.cast(Type::Int, holds)),
            high: Some(self.graph.cast(Type::Int, may_hold)),
            extent: (0, 1),
        }
    }
}
