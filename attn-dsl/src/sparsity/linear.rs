//! Integer expressions as sums of multiples of atoms.
//!
//! An atom is what a sum cannot be taken through: a position, a length, a parameter, a quotient. Terms of the same atom are
//! collected, so that `2 * q - q` is `q` before anything is said about ranges.
//!
//! Invariant: where every guard holds (`-limit <= atom <= limit`), 32-bit arithmetic gives the value of the sum; no coefficient is 0.

use std::collections::BTreeMap;

use crate::ir::NodeId;

/// The largest coefficient or constant that is followed; larger ones make an expression an atom.
const LARGEST: i64 = 1 << 32;

/// `sum of coefficient * atom + constant`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Linear {
    pub(super) terms: BTreeMap<NodeId, i64>,
    pub(super) constant: i64,
    /// Atoms and the magnitude up to which nothing that is computed from them wraps.
    pub(super) guards: BTreeMap<NodeId, i64>,
}

impl Linear {
    pub(super) fn constant(constant: i64) -> Linear {
        Linear { constant, ..Linear::default() }
    }

    pub(super) fn atom(atom: NodeId) -> Linear {
        Linear { terms: [(atom, 1)].into(), ..Linear::default() }
    }

    /// `factor * self + other_factor * other`; `None` where a number is too large.
    pub(super) fn combined(&self, factor: i64, other: &Linear, other_factor: i64) -> Option<Linear> {
        let scaled = |value: i64, factor: i64| value.checked_mul(factor);
        let mut sum = Linear {
            terms: BTreeMap::new(),
            constant: scaled(self.constant, factor)?.checked_add(scaled(other.constant, other_factor)?)?,
            guards: self.guards.clone(),
        };
        for (&atom, &limit) in &other.guards {
            sum.guard(atom, limit);
        }
        for (terms, factor) in [(&self.terms, factor), (&other.terms, other_factor)] {
            for (&atom, &coefficient) in terms {
                let entry = sum.terms.entry(atom).or_default();
                *entry = entry.checked_add(scaled(coefficient, factor)?)?;
            }
        }
        sum.terms.retain(|_, coefficient| *coefficient != 0);
        let is_small = |value: i64| value.abs() <= LARGEST;
        (is_small(sum.constant) && sum.terms.values().all(|&c| is_small(c))).then_some(sum)
    }

    /// `factor * self + constant`, of small numbers.
    pub(super) fn scaled(&self, factor: i64, constant: i64) -> Option<Linear> {
        self.combined(factor, &Linear::constant(constant), 1)
    }

    /// Requires `-limit <= atom <= limit`.
    pub(super) fn guard(&mut self, atom: NodeId, limit: i64) {
        let entry = self.guards.entry(atom).or_insert(limit);
        *entry = limit.min(*entry);
    }

    /// The coefficient of an atom.
    pub(super) fn of(&self, atom: NodeId) -> i64 {
        self.terms.get(&atom).copied().unwrap_or(0)
    }

    /// `self` without a term.
    pub(super) fn without(&self, atom: NodeId) -> Linear {
        let mut rest = self.clone();
        rest.terms.remove(&atom);
        rest
    }

    /// The value, where nothing varies and nothing is guarded.
    pub(super) fn as_constant(&self) -> Option<i64> {
        (self.terms.is_empty() && self.guards.is_empty()).then_some(self.constant)
    }

    /// The form of `self <= 0` with coprime coefficients: integers make its bound an integer.
    pub(super) fn tightened(mut self) -> Linear {
        let divisor = self.terms.values().fold(0, |divisor, &c| gcd(divisor, c));
        if divisor > 1 {
            self.terms.values_mut().for_each(|c| *c /= divisor);
            self.constant = -(-self.constant).div_euclid(divisor);
        }
        self
    }
}

/// The greatest common divisor, not negative.
pub(super) fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.abs(), b.abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
