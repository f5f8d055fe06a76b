//! Truth values of a mask as cases.
//!
//! Absolute values, minima, maxima and choices in a comparison are taken apart, so that what is left is linear:
//! `|x| + y <= 0` is `x + y <= 0` and `-x + y <= 0`.

use std::rc::Rc;

use super::Analysis;
use super::cases::{Cases, Congruence, anything, at_most_zero, truth};
use super::linear::Linear;
use crate::ir::{Binary, Compare, NodeId, Op, Type, Unary};

/// How many atoms of one comparison are taken apart.
const PARTS: usize = 5;
/// Below it f32 holds every integer.
const EXACT: i64 = 1 << 24;

impl Analysis<'_> {
    /// Finds the cases in which a condition is false, and true.
    pub(super) fn read_condition(&mut self, id: NodeId) {
        let cases = if self.is_point(id) {
            let opposite = match self.graph.op(id) {
                Op::Bool(value) => {
                    let value = *value;
                    self.graph.bool(!value)
                }
                _ => self.graph.unary(Unary::Not, id),
            };
            [truth(opposite), truth(id)]
        } else {
            match *self.graph.op(id) {
                Op::Unary(Unary::Not, a) => {
                    let [fails, holds] = self.conditions[&a].clone();
                    [holds, fails]
                }
                Op::Binary(op @ (Binary::And | Binary::Or), a, b) => {
                    let ([a_fails, a_holds], [b_fails, b_holds]) =
                        (self.conditions[&a].clone(), self.conditions[&b].clone());
                    if op == Binary::And {
                        [self.either(&a_fails, &b_fails), self.both(&a_holds, &b_holds)]
                    } else {
                        [self.both(&a_fails, &b_fails), self.either(&a_holds, &b_holds)]
                    }
                }
                Op::Select { condition, then, otherwise } => {
                    let [c_fails, c_holds] = self.conditions[&condition].clone();
                    let (then, otherwise) = (self.conditions[&then].clone(), self.conditions[&otherwise].clone());
                    [0, 1].map(|outcome| {
                        let first = self.both(&c_holds, &then[outcome]);
                        let second = self.both(&c_fails, &otherwise[outcome]);
                        self.either(&first, &second)
                    })
                }
                Op::Compare(op, a, b) => match self.difference(a, b) {
                    Some(difference) => {
                        [op.opposite(), op].map(|op| self.compared(op, &difference).unwrap_or_else(anything))
                    }
                    None => [anything(), anything()],
                },
                _ => [anything(), anything()],
            }
        };
        self.conditions.insert(id, cases);
    }

    /// Whether a condition may be false in the tile, and whether it may be true.
    pub(super) fn outcomes(&mut self, condition: NodeId) -> [NodeId; 2] {
        let cases = self.conditions[&condition].clone();
        cases.map(|cases| self.feasible(&cases))
    }

    fn difference(&self, a: NodeId, b: NodeId) -> Option<Linear> {
        let (a, b) = match self.graph.ty(a) {
            Type::Int => (self.numbers[&a].clone(), self.numbers[&b].clone()),
            _ => (self.whole(a)?, self.whole(b)?),
        };
        a.combined(1, &b, -1)
    }

    /// A float that is an integer which f32 holds.
    fn whole(&self, id: NodeId) -> Option<Linear> {
        let number = match *self.graph.op(id) {
            Op::Cast(Type::Float, a) => self.numbers.get(&a)?.clone(),
            Op::Float(bits) => {
                let value = f64::from_bits(bits);
                #[allow(clippy::cast_possible_truncation, reason = "a small integer")]
                let number = (value.fract() == 0.0 && value.abs() <= EXACT as f64).then_some(value as i64)?;
                Linear::constant(number)
            }
            Op::Unary(Unary::Neg, a) => self.whole(a)?.scaled(-1, 0)?,
            Op::Binary(Binary::Add, a, b) => self.whole(a)?.combined(1, &self.whole(b)?, 1)?,
            Op::Binary(Binary::Sub, a, b) => self.whole(a)?.combined(1, &self.whole(b)?, -1)?,
            _ => return None,
        };
        let (least, largest) = self.extent_of(&number);
        (-EXACT <= least && largest <= EXACT).then_some(number)
    }

    /// `difference op 0`; `None` where a number is too large.
    fn compared(&mut self, op: Compare, difference: &Linear) -> Option<Cases> {
        let at_most = |constant: i64| difference.scaled(1, constant);
        let at_least = |constant: i64| difference.scaled(-1, constant);
        Some(match op {
            Compare::Le => self.at_most_zero(at_most(0)?, PARTS),
            Compare::Lt => self.at_most_zero(at_most(1)?, PARTS),
            Compare::Ge => self.at_most_zero(at_least(0)?, PARTS),
            Compare::Gt => self.at_most_zero(at_least(1)?, PARTS),
            Compare::Eq => {
                let (a, b) = (self.at_most_zero(at_most(0)?, PARTS), self.at_most_zero(at_least(0)?, PARTS));
                let equal = self.both(&a, &b);
                match self.residue_class(difference) {
                    Some(class) => self.both(&equal, &class),
                    None => equal,
                }
            }
            Compare::Ne => {
                let (a, b) = (self.at_most_zero(at_most(1)?, PARTS), self.at_most_zero(at_least(1)?, PARTS));
                self.either(&a, &b)
            }
        })
    }

    /// `linear <= 0`.
    fn at_most_zero(&mut self, linear: Linear, parts: usize) -> Cases {
        let Some((atom, coefficient)) = linear
            .terms
            .iter()
            .map(|(&atom, &coefficient)| (atom, coefficient))
            .find(|&(atom, _)| parts > 0 && self.has_parts(atom))
        else {
            return at_most_zero(linear);
        };
        let rest = linear.without(atom);
        let with = |part: &Linear, sign: i64| rest.combined(1, part, sign * coefficient);
        let number = |id: NodeId| self.numbers[&id].clone();
        // the parts, and whether the larger or the smaller of them counts
        let (first, second, is_larger) = match *self.graph.op(atom) {
            Op::Unary(_, a) => (with(&number(a), 1), with(&number(a), -1), true),
            Op::Binary(op, a, b) => (with(&number(a), 1), with(&number(b), 1), op == Binary::Max),
            Op::Select { condition, then, otherwise } => {
                let (then, otherwise) = (with(&number(then), 1), with(&number(otherwise), 1));
                return self.chosen(condition, then, otherwise, parts);
            }
            Op::Cast(_, condition) => {
                let (one, zero) = (with(&Linear::constant(1), 1), with(&Linear::constant(0), 1));
                return self.chosen(condition, one, zero, parts);
            }
            _ => unreachable!("only these have parts"),
        };
        let Some((first, second)) = first.zip(second) else { return at_most_zero(linear) };
        let (first, second) = (self.at_most_zero(first, parts - 1), self.at_most_zero(second, parts - 1));
        if is_larger == (coefficient > 0) { self.both(&first, &second) } else { self.either(&first, &second) }
    }

    fn has_parts(&self, atom: NodeId) -> bool {
        !self.is_point(atom)
            && match *self.graph.op(atom) {
                Op::Unary(Unary::Abs, _) | Op::Binary(Binary::Min | Binary::Max, ..) | Op::Select { .. } => true,
                Op::Cast(_, a) => self.graph.ty(a) == Type::Bool,
                _ => false,
            }
    }

    /// `then <= 0` where the condition holds, `otherwise <= 0` where it does not; a part that is absent says nothing.
    fn chosen(&mut self, condition: NodeId, then: Option<Linear>, otherwise: Option<Linear>, parts: usize) -> Cases {
        let [fails, holds] = self.conditions[&condition].clone();
        let mut arm = |condition: &Cases, linear: Option<Linear>| {
            let cases = linear.map_or_else(anything, |linear| self.at_most_zero(linear, parts - 1));
            self.both(condition, &cases)
        };
        let (then, otherwise) = (arm(&holds, then), arm(&fails, otherwise));
        self.either(&then, &otherwise)
    }

    /// What `x % n == c` says of `x`.
    fn residue_class(&mut self, difference: &Linear) -> Option<Cases> {
        let mut terms = difference.terms.iter();
        let (Some((&atom, &sign)), None) = (terms.next(), terms.next()) else { return None };
        let Op::Binary(Binary::Rem, dividend, divisor) = *self.graph.op(atom) else { return None };
        let modulus = self.numbers[&divisor].as_constant()?.abs();
        if sign.abs() != 1 || modulus == 0 {
            return None;
        }
        let residue = -difference.constant * sign;
        let mut dividend = self.numbers[&dividend].clone();
        for (&atom, &limit) in &difference.guards {
            dividend.guard(atom, limit);
        }
        // a remainder has the sign of its dividend
        let sign = residue.signum();
        let mut cases = if sign == 0 { anything() } else { at_most_zero(dividend.scaled(-sign, 1)?) };
        for case in &mut cases {
            case.congruences.push(Rc::new(Congruence { dividend: dividend.clone(), modulus, residue }));
        }
        Some(cases)
    }
}
