//! Whether a tile has a pair that satisfies a condition: linear programming by Fourier and Motzkin, done once, at compile time.
//!
//! Constraints are added up with positive factors so that atoms cancel; what is left is compared with the ends of the
//! atoms' ranges. In two variables, with constraints that do not depend on the tile but in their bounds, single constraints,
//! pairs without one variable and triples without both are all that can contradict a rectangle.
//!
//! Invariant: a pair of the tile that satisfies the condition makes the emitted truth value true. Without wrapping: where a
//! guard is broken, it is true.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::cases::{Case, Congruence};
use super::linear::{Linear, gcd};
use super::{Analysis, End};
use crate::ir::{Binary, Compare, NodeId};

/// The most sums of constraints that one case is tested by.
const SUMS: usize = 96;
/// What 32 bits hold.
const INT: i64 = i32::MAX as i64;

impl Analysis<'_> {
    /// A truth value of tile rate: false only where no pair of the tile satisfies one of the cases.
    pub(super) fn feasible(&mut self, cases: &[Case]) -> NodeId {
        let mut any = self.graph.bool(false);
        for case in cases {
            let case = self.feasible_case(case);
            any = self.or(any, case);
        }
        any
    }

    fn feasible_case(&mut self, case: &Case) -> NodeId {
        let mut tests: Vec<NodeId> = case.truths.clone();
        for linear in self.sums(&case.constraints) {
            tests.extend(self.test(&linear));
        }
        for congruence in &case.congruences {
            tests.extend(self.test_congruence(congruence, &case.constraints));
        }
        let mut seen = BTreeSet::new();
        tests.retain(|&test| seen.insert(test));
        let mut all = self.graph.bool(true);
        for test in tests {
            all = self.and(all, test);
        }
        all
    }

    /// The constraints, and the sums of two and three of them in which an atom cancels.
    fn sums(&self, constraints: &[Rc<Linear>]) -> Vec<Linear> {
        let mut sums: Vec<Linear> = constraints.iter().map(|linear| (**linear).clone()).collect();
        let mut seen: BTreeSet<Linear> = sums.iter().cloned().collect();
        let add = |sum: Linear, sums: &mut Vec<Linear>, seen: &mut BTreeSet<Linear>| {
            if sums.len() < SUMS && self.says_something(&sum) && seen.insert(sum.clone()) {
                sums.push(sum);
            }
        };
        let first = sums.clone();
        let mut atoms: Vec<NodeId> = first.iter().flat_map(|linear| linear.terms.keys().copied()).collect();
        atoms.retain(|&atom| !self.is_point(atom));
        atoms.sort_unstable();
        atoms.dedup();
        for &atom in &atoms {
            for sum in eliminate(&first, atom) {
                add(sum, &mut sums, &mut seen);
            }
        }
        if let [atom, others @ ..] = &atoms[..] {
            let mut rest: Vec<Linear> = first.iter().filter(|linear| linear.of(*atom) == 0).cloned().collect();
            rest.extend(eliminate(&first, *atom));
            for &other in others {
                for sum in eliminate(&rest, other) {
                    add(sum, &mut sums, &mut seen);
                }
            }
        }
        sums
    }

    /// Whether `linear <= 0` is not true of all numbers that its atoms can have.
    fn says_something(&self, linear: &Linear) -> bool {
        self.extent_of(linear).1 > 0
    }

    /// Whether `linear <= 0` is possible in the tile; `None` where that is always so.
    fn test(&mut self, linear: &Linear) -> Option<NodeId> {
        if !self.says_something(linear) {
            return None;
        }
        if linear.guards.is_empty() && self.extent_of(linear).0 > 0 {
            return Some(self.graph.bool(false));
        }
        let mut guards = linear.guards.clone();
        // x + 1 <= y is x < y, which needs no room
        let op = if linear.constant > 0 { Compare::Lt } else { Compare::Le };
        let constants = [(linear.constant - 1).max(0), (-linear.constant).max(0)];
        let mut sides = [Vec::new(), Vec::new()];
        for (&atom, &coefficient) in &linear.terms {
            let end = if coefficient > 0 { End::Low } else { End::High };
            sides[usize::from(coefficient < 0)].push((atom, self.end(atom, end)?, coefficient.abs()));
        }
        let mut sums = [self.graph.int(0); 2];
        for (at, side) in sides.iter().enumerate() {
            let constant = constants[at];
            if constant > INT / 2 {
                return None;
            }
            // a single unchanged value needs no room
            let is_plain = constant == 0 && side.len() == 1 && side[0].2 == 1;
            if !is_plain {
                for &(atom, _, coefficient) in side {
                    let limit = (INT - constant) / (side.len() as i64 * coefficient);
                    let extent = self.extent(atom);
                    if (extent.0 < -limit || extent.1 > limit)
                        && self.side_extent(side.iter().map(|&(atom, _, c)| (atom, c)), constant) > INT
                    {
                        let entry = guards.entry(atom).or_insert(limit);
                        *entry = limit.min(*entry);
                    }
                }
            }
            let terms: Vec<(NodeId, i64)> = side.iter().map(|&(_, end, coefficient)| (end, coefficient)).collect();
            sums[at] = self.sum_of(&terms, constant)?;
        }
        let test = self.graph.compare(op, sums[0], sums[1]);
        self.unless_broken(&guards, test)
    }

    /// The largest magnitude of a sum.
    fn side_extent(&self, terms: impl Iterator<Item = (NodeId, i64)>, constant: i64) -> i64 {
        terms.fold(constant, |sum, (atom, coefficient)| {
            let (low, high) = self.extent(atom);
            sum.saturating_add(low.abs().max(high.abs()).saturating_mul(coefficient))
        })
    }

    /// `test`, or true where a guarded atom leaves its range; `None` where that cannot be told.
    fn unless_broken(&mut self, guards: &BTreeMap<NodeId, i64>, test: NodeId) -> Option<NodeId> {
        let mut result = test;
        for (&atom, &limit) in guards {
            let (least, greatest) = self.extent(atom);
            let limit = i32::try_from(limit).unwrap_or(i32::MAX);
            let (low, high) = (self.end(atom, End::Low)?, self.end(atom, End::High)?);
            for (end, op, limit, is_possible) in [
                (low, Compare::Lt, -limit, least < -i64::from(limit)),
                (high, Compare::Gt, limit, greatest > i64::from(limit)),
            ] {
                if is_possible {
                    let limit = self.graph.int(limit);
                    let broken = self.graph.compare(op, end, limit);
                    result = self.graph.binary(Binary::Or, broken, result);
                }
            }
        }
        Some(result)
    }

    /// Whether a number of the residue class lies in the range that the tile and the constraints along the same direction
    /// leave; `None` where that is always so.
    fn test_congruence(&mut self, congruence: &Congruence, constraints: &[Rc<Linear>]) -> Option<NodeId> {
        let Congruence { dividend, modulus, residue } = congruence;
        let (modulus, varying) = (*modulus, self.varying(dividend));
        let divisor = varying.terms.values().fold(modulus, |divisor, &c| gcd(divisor, c));
        if divisor > 1 && varying.terms.len() == dividend.terms.len() && (dividend.constant - residue) % divisor != 0 {
            return dividend.guards.is_empty().then(|| self.graph.bool(false));
        }
        // (largest - residue) rounded down to a multiple of the modulus is at least smallest - residue
        let shifted = dividend.scaled(1, -residue)?;
        let (least, greatest) = self.extent_of(&shifted);
        let room = (-least).max(0).div_euclid(modulus) + 1;
        if greatest.max(-least) > INT / 4 || room * modulus > INT / 4 {
            return None;
        }
        let mut guards = shifted.guards.clone();
        let mut ends = [self.end_of(&shifted, End::Low)?, self.end_of(&shifted, End::High)?];
        for constraint in constraints {
            // `dividend + rest <= 0` and `-dividend + rest <= 0`, where the rest does not vary within the tile
            for (at, sign, op) in [(1, 1, Binary::Min), (0, -1, Binary::Max)] {
                let Some(rest) = constraint.combined(1, &shifted, -sign) else { continue };
                let extent = self.extent_of(&rest);
                if !self.varying(&rest).terms.is_empty() || extent.0 < -INT / 4 || extent.1 > INT / 4 {
                    continue;
                }
                for (&atom, &limit) in &rest.guards {
                    let entry = guards.entry(atom).or_insert(limit);
                    *entry = limit.min(*entry);
                }
                let bound = self.end_of(&rest.scaled(-sign, 0)?, End::Low)?;
                ends[at] = self.graph.binary(op, ends[at], bound);
            }
        }
        let (room, divisor) = (self.graph.int((room * modulus) as i32), self.graph.int(modulus as i32));
        // not negative, so that division rounds down; what the constraints push below the room has no multiple above it
        let zero = self.graph.int(0);
        let high = self.graph.sum(ends[1], room);
        let high = self.graph.binary(Binary::Max, high, zero);
        let low = self.graph.sum(ends[0], room);
        let multiple = self.graph.quotient(high, divisor);
        let multiple = self.graph.product(multiple, divisor);
        let in_range = self.graph.compare(Compare::Ge, multiple, low);
        self.unless_broken(&guards, in_range)
    }

    fn varying(&self, linear: &Linear) -> Linear {
        let mut varying = linear.clone();
        varying.terms.retain(|&atom, _| !self.is_point(atom));
        varying
    }
}

/// The sums of two constraints in which an atom cancels.
fn eliminate(constraints: &[Linear], atom: NodeId) -> Vec<Linear> {
    let with = |sign: i64| constraints.iter().filter(move |linear| linear.of(atom).signum() == sign);
    let mut sums = Vec::new();
    for (above, below) in with(1).flat_map(|above| with(-1).map(move |below| (above, below))) {
        let (a, b) = (above.of(atom), -below.of(atom));
        let divisor = gcd(a, b);
        sums.extend(above.combined(b / divisor, below, a / divisor).map(Linear::tightened));
    }
    sums
}
