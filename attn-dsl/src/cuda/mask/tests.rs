//! Bounds against brute force: random masks, evaluated pair by pair.
//!
//! [`range`] computes in integers what the emitted functions compute: both follow [`MaskBounds::steps`].

use proptest::prelude::*;
use proptest::sample::select;

use super::{MaskBounds, Offset, Side};
use crate::compile_one;
use crate::ir::evaluate::{Environment, Evaluator, Value};
use crate::ir::{Graph, Input, NodeId, ParameterId};
use crate::lower::lower;

/// Lengths, indices and the entries of `limit: i32[b]`.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    b: i64,
    h: i64,
    q: i64,
    kv: i64,
    q_len: i64,
    kv_len: i64,
    limit: i64,
}

impl Environment for Place {
    fn input(&self, input: Input) -> Value {
        Value::Int(match input {
            Input::Batch => self.b,
            Input::Head => self.h,
            Input::Query => self.q,
            Input::Key => self.kv,
            Input::QueryLen => self.q_len,
            Input::KeyLen => self.kv_len,
            other => panic!("a mask of this test reads {other:?}"),
        })
    }

    fn parameter(&self, _: ParameterId, _: &[i64]) -> Value {
        Value::Int(self.limit)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    begin: i64,
    end: i64,
    full_begin: i64,
    full_end: i64,
}

/// The range of one index for `first..end` of the other.
fn range(bounds: &MaskBounds, values: &[i64], of_keys: bool, len: i64, [first, end]: [i64; 2]) -> Range {
    let at = |value: i64, offset: Offset| match offset {
        Offset::Nothing => value,
        Offset::MinusFirst => value - first,
        Offset::MinusLast => value - (end - 1),
        Offset::PlusFirst => value + first,
        Offset::PlusLast => value + (end - 1),
    };
    let mut range = Range { begin: 0, end: len, full_begin: 0, full_end: len };
    for (step, &value) in bounds.steps(of_keys).zip(values) {
        let (loose, tight) = (at(value, step.loose), at(value, step.tight));
        match step.side {
            Side::End => {
                range.end = range.end.min(loose + 1);
                range.full_end = range.full_end.min(tight + 1);
            }
            Side::Begin => {
                range.begin = range.begin.max(-loose);
                range.full_begin = range.full_begin.max(-tight);
            }
            Side::All => {
                range.end = if loose < 0 { 0 } else { range.end };
                range.full_end = if tight < 0 { 0 } else { range.full_end };
            }
        }
    }
    if bounds.residual {
        range.full_end = 0;
    }
    range
}

struct Mask {
    graph: Graph,
    mask: Option<NodeId>,
    bounds: MaskBounds,
}

fn compile(mask: &str) -> Mask {
    let text = format!("struct Masked {{ limit: i32[b], mask: {mask} }}");
    let definition = compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "mask.attn")));
    let lowered = lower(&definition).expect("softmax lowers");
    let mut graph = lowered.graph.clone();
    let bounds = MaskBounds::of(&mut graph, lowered.mask);
    Mask { graph, mask: lowered.mask, bounds }
}

impl Mask {
    fn is_live(&self, place: Place) -> bool {
        self.mask.is_none_or(|mask| Evaluator::new(&self.graph, &[mask]).evaluate(&place)[0].bool())
    }

    fn bound_values(&self, place: Place) -> Vec<i64> {
        let roots = self.bounds.expressions();
        Evaluator::new(&self.graph, &roots).evaluate(&place).iter().map(|value| value.int()).collect()
    }

    /// No live pair is outside of the range, no dead pair in the full one; without a residual a single row is exact.
    fn check(&self, mask: &str, tile: Place, block: i64) {
        let live: Vec<Vec<bool>> = (0..tile.q_len)
            .map(|q| (0..tile.kv_len).map(|kv| self.is_live(Place { q, kv, ..tile })).collect())
            .collect();
        let values = self.bound_values(tile);
        for of_keys in [true, false] {
            let (len, other_len) = if of_keys { (tile.kv_len, tile.q_len) } else { (tile.q_len, tile.kv_len) };
            let is_live = |own: i64, other: i64| {
                let (q, kv) = if of_keys { (other, own) } else { (own, other) };
                live[q as usize][kv as usize]
            };
            for first in (0..other_len).step_by(block as usize) {
                let end = (first + block).min(other_len);
                let range = range(&self.bounds, &values, of_keys, len, [first, end]);
                for own in 0..len {
                    let any = (first..end).any(|other| is_live(own, other));
                    let all = (first..end).all(|other| is_live(own, other));
                    let inside = (range.begin..range.end).contains(&own);
                    let full = (range.full_begin..range.full_end).contains(&own);
                    let context = || format!("{mask}: {own} of keys: {of_keys}, {first}..{end}, {range:?}, {tile:?}");
                    assert!(inside || !any, "a live pair is left out: {}", context());
                    assert!(all || !full, "a dead pair is in a full tile: {}", context());
                    if block == 1 && !self.bounds.residual {
                        assert_eq!(inside, any, "a single row is not exact: {}", context());
                        assert_eq!(full, any, "a single row is not exact: {}", context());
                    }
                }
            }
        }
    }
}

/// Sums and differences of indices, lengths, a parameter and small numbers, some of them no bounds.
fn side() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => select(&["q", "kv"][..]).prop_map(str::to_owned),
        2 => select(&["q_len", "kv_len", "kv_len - q_len", "limit[b]", "h", "b"][..]).prop_map(str::to_owned),
        2 => (-6i32..12).prop_map(|n| n.to_string()),
    ];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} - {b})")),
            1 => inner.clone().prop_map(|a| format!("(-({a}))")),
            1 => (inner, select(&["* 2", "/ 3", "% 4"][..])).prop_map(|(a, op)| format!("(({a}) {op})")),
        ]
    })
}

fn mask() -> impl Strategy<Value = String> {
    let symbol = select(&["<", "<=", ">", ">=", "==", "!="][..]);
    let comparison = (side(), symbol.clone(), side()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})"));
    let distance = (side(), symbol, side()).prop_map(|(a, op, b)| format!("abs({a}) {op} ({b})"));
    let closure = prop_oneof![4 => comparison, 1 => distance].prop_map(|body| format!("(|b, h, q, kv| {body})"));
    let leaf = prop_oneof![
        4 => closure,
        1 => Just("causal".to_owned()),
        1 => (-1i32..8, -1i32..6).prop_map(|(left, right)| format!("window({left}, {right})")),
        1 => (0i32..9).prop_map(|n| format!("prefix({n})")),
    ];
    leaf.prop_recursive(2, 5, 2, |inner| {
        prop_oneof![
            4 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) & ({b})")),
            1 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) | ({b})")),
            1 => inner.prop_map(|a| format!("!({a})")),
        ]
    })
}

fn tiles() -> impl Strategy<Value = Place> {
    (0i64..2, 0i64..3, 0i64..14, 0i64..14, -4i64..16).prop_map(|(b, h, q_len, kv_len, limit)| Place {
        b,
        h,
        q_len,
        kv_len,
        limit,
        ..Place::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn bounds_are_sound_for_every_mask(mask in mask(), tiles in prop::collection::vec(tiles(), 4)) {
        let compiled = compile(&mask);
        for tile in tiles {
            for block in [1, 3, 4, 16] {
                compiled.check(&mask, tile, block);
            }
        }
    }
}

/// The masks that matter are bounds and nothing else: only their edges are checked pair by pair.
#[test]
fn named_masks_are_bounds() {
    for (mask, bounds) in [
        ("causal", 1),
        ("window(3, 2)", 2),
        ("causal & window(4, 0)", 2),
        ("window(-1, 2)", 1),
        ("prefix(4)", 1),
        ("|b, h, q, kv| abs(q - kv) < 3", 2),
        ("|b, h, q, kv| kv == q", 2),
        ("|b, h, q, kv| q < limit[b] && kv < limit[b]", 2),
        ("!(|b, h, q, kv| kv > q)", 1),
    ] {
        let compiled = compile(mask);
        assert!(!compiled.bounds.residual, "{mask} is not only bounds");
        assert_eq!(compiled.bounds.bounds.len(), bounds, "{mask}");
        let tile = Place { q_len: 9, kv_len: 13, limit: 5, ..Place::default() };
        [1, 4].into_iter().for_each(|block| compiled.check(mask, tile, block));
    }
    for mask in ["prefix(2) | causal", "|b, h, q, kv| (q + kv) % 3 != 0", "|b, h, q, kv| q + kv < 9"] {
        assert!(compile(mask).bounds.residual, "{mask}");
    }
}

/// A parameter that means no limit by its size leaves room for the sums that the emitted functions form.
#[test]
fn bounds_of_parameters_do_not_overflow() {
    for mask in ["|b, h, q, kv| kv <= limit[b]", "|b, h, q, kv| kv - limit[b] <= q", "|b, h, q, kv| -kv <= limit[b]"] {
        let compiled = compile(mask);
        for limit in [i64::from(i32::MAX), i64::from(i32::MIN) + 1] {
            let tile = Place { q_len: 5, kv_len: 7, limit, ..Place::default() };
            let values = compiled.bound_values(tile);
            assert!(values.iter().all(|value| value.abs() <= 1 << 30), "{mask}: {values:?}");
            compiled.check(mask, tile, 4);
        }
    }
}
