//! Feature maps: expressions of one element of q or of k.
//!
//! Invariant: a feature map reads nothing but the element, so that mapping a tensor knows nothing of positions or parameters.

use super::{Checker, Place};
use crate::diagnostics::{Code, Problem};
use crate::ir::{Input, NodeId, Op};
use crate::syntax::ast::{Expr, Variant};

impl Checker<'_> {
    /// The maps of q and of k; `None` if anything was reported.
    pub(super) fn features(&mut self, variant: &Variant) -> Option<[Option<NodeId>; 2]> {
        self.place = Place::Feature;
        let both = variant.feature.as_ref();
        let mut maps = [None; 2];
        for (map, (own, name)) in
            maps.iter_mut().zip([(&variant.feature_q, "feature_q"), (&variant.feature_k, "feature_k")])
        {
            if let (Some(own), Some(both)) = (own, both) {
                let problem = Problem::new(Code::Duplicate, format!("`feature` is `{name}` too"), own.span)
                    .also(both.span, "`feature`")
                    .help("write `feature` alone, or `feature_q` and `feature_k`");
                self.report(problem);
                return None;
            }
            if let Some(expr) = own.as_ref().or(both) {
                *map = Some(self.feature(expr)?);
            }
        }
        // the element itself is no map
        let element = self.graph.input(Input::Score);
        Some(maps.map(|map| map.filter(|&map| map != element)))
    }

    fn feature(&mut self, expr: &Expr) -> Option<NodeId> {
        let root = self.pair_closure(expr)?;
        let other = self.graph.reachable(&[root]).into_iter().find(|&id| match self.graph.op(id) {
            Op::Input(input) => *input != Input::Score,
            Op::Parameter { .. } => true,
            _ => false,
        });
        if let Some(other) = other {
            let place = self.spans.get(&other).copied().unwrap_or(expr.span);
            let problem = Problem::new(Code::OutOfPlace, "a feature map reads the element `x` alone", place)
                .help("a factor of a row or a key goes into `score`: `score: |s, b, h, q, kv| s * gate[b, h, kv]`");
            self.report(problem);
            return None;
        }
        Some(root)
    }
}
