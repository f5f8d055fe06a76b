//! Conditions as disjunctions of conjunctions.
//!
//! Invariants: wherever the condition holds, one of its cases does (a case may forget what it was made of, never add to it);
//! there are at most [`CASES`] of them, each with at most [`CONSTRAINTS`] constraints. What would be more is decided at once
//! and goes on as a truth value of the tile.

use std::rc::Rc;

use super::Analysis;
use super::linear::Linear;
use crate::ir::NodeId;

/// The most cases of one condition.
const CASES: usize = 16;
/// The most constraints of one case.
const CONSTRAINTS: usize = 12;

/// `dividend` leaves `residue` when it is divided by `modulus`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Congruence {
    pub(super) dividend: Linear,
    pub(super) modulus: i64,
    pub(super) residue: i64,
}

/// What must hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Case {
    /// Each is at most 0.
    pub(super) constraints: Vec<Rc<Linear>>,
    pub(super) congruences: Vec<Rc<Congruence>>,
    /// Truth values of tile rate.
    pub(super) truths: Vec<NodeId>,
}

/// A condition: none of them is false, one without constraints is true.
pub(super) type Cases = Vec<Case>;

/// The condition that says nothing.
pub(super) fn anything() -> Cases {
    vec![Case::default()]
}

/// A condition of tile rate.
pub(super) fn truth(node: NodeId) -> Cases {
    vec![Case { truths: vec![node], ..Case::default() }]
}

/// `linear <= 0`, as it stands.
pub(super) fn at_most_zero(linear: Linear) -> Cases {
    match linear.as_constant() {
        Some(value) if value <= 0 => anything(),
        Some(_) => vec![],
        None => vec![Case { constraints: vec![Rc::new(linear.tightened())], ..Case::default() }],
    }
}

impl Case {
    fn and(&self, other: &Case) -> Case {
        let mut both = self.clone();
        for constraint in &other.constraints {
            // of two in one direction the tighter one
            match both
                .constraints
                .iter_mut()
                .find(|own| own.terms == constraint.terms && own.guards == constraint.guards)
            {
                Some(own) if own.constant >= constraint.constant => {}
                Some(own) => *own = constraint.clone(),
                None => both.constraints.push(constraint.clone()),
            }
        }
        for congruence in &other.congruences {
            if !both.congruences.contains(congruence) {
                both.congruences.push(congruence.clone());
            }
        }
        for &truth in &other.truths {
            if !both.truths.contains(&truth) {
                both.truths.push(truth);
            }
        }
        both
    }
}

impl Analysis<'_> {
    /// Both conditions.
    pub(super) fn both(&mut self, a: &Cases, b: &Cases) -> Cases {
        let (mut a, mut b) = (a.clone(), b.clone());
        while a.len() * b.len() > CASES {
            let larger = if a.len() >= b.len() { &mut a } else { &mut b };
            *larger = self.decided(larger);
        }
        let mut cases = Cases::new();
        for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
            let case = a.and(b);
            let case = if case.constraints.len() > CONSTRAINTS { self.decided_case(&case) } else { case };
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    /// One of the conditions, or both.
    pub(super) fn either(&mut self, a: &Cases, b: &Cases) -> Cases {
        let (mut a, mut b) = (a.clone(), b.clone());
        while a.len() + b.len() > CASES {
            let larger = if a.len() >= b.len() { &mut a } else { &mut b };
            *larger = self.decided(larger);
        }
        for case in b {
            if !a.contains(&case) {
                a.push(case);
            }
        }
        a
    }

    /// A condition as one truth value of the tile.
    fn decided(&mut self, cases: &Cases) -> Cases {
        let feasible = self.feasible(cases);
        truth(feasible)
    }

    fn decided_case(&mut self, case: &Case) -> Case {
        let feasible = self.feasible(std::slice::from_ref(case));
        Case { truths: vec![feasible], ..Case::default() }
    }
}
