//! Masks with the parameters of these tests, and the places where they are evaluated.
//!
//! Parameters: `limit: i32[b]`, `ids: i32[b, kv]`, `rows: i32[b, q]`, `table: i32[8]`, `grid: i32[13, 13]`.

use crate::compile_one;
use crate::ir::evaluate::{Environment, Evaluator, Value, binary, cast, compare, unary};
use crate::ir::{Extreme, Graph, Input, NodeId, Op, ParameterId, RANGE_ELEMENTS, Type};
use crate::sparsity::Sparsity;

/// Lengths, the values of the parameters (of one batch), and where an expression is evaluated.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) b: i64,
    pub(super) h: i64,
    pub(super) q_len: i64,
    pub(super) kv_len: i64,
    pub(super) limit: i32,
    pub(super) ids: Vec<i32>,
    pub(super) rows: Vec<i32>,
    pub(super) table: Vec<i32>,
    pub(super) grid: Vec<i32>,
    /// First and last.
    pub(super) queries: [i64; 2],
    pub(super) keys: [i64; 2],
    pub(super) q: i64,
    pub(super) kv: i64,
}

/// Rows and columns of `grid`.
pub(super) const GRID: usize = 13;

fn clamped(index: i64, len: usize) -> usize {
    usize::try_from(index.max(0)).expect("it is not negative").min(len - 1)
}

impl Place {
    /// Rows of elements.
    fn elements(&self, parameter: ParameterId) -> Vec<&[i32]> {
        match parameter.0 {
            0 => vec![std::slice::from_ref(&self.limit)],
            1 => vec![&self.ids],
            2 => vec![&self.rows],
            3 => vec![&self.table],
            _ => self.grid.chunks(GRID).collect(),
        }
    }
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
            Input::FirstQuery => self.queries[0],
            Input::LastQuery => self.queries[1],
            Input::FirstKey => self.keys[0],
            Input::LastKey => self.keys[1],
            other => panic!("a mask of this test reads {other:?}"),
        })
    }

    fn parameter(&self, parameter: ParameterId, index: &[i64]) -> Value {
        let elements = self.elements(parameter);
        let row = if elements.len() > 1 { clamped(index[0], elements.len()) } else { 0 };
        Value::Int(i64::from(elements[row][clamped(*index.last().expect("there is an axis"), elements[row].len())]))
    }

    fn extreme(
        &self,
        extreme: Extreme,
        parameter: ParameterId,
        first: &[i64],
        last: &[i64],
        blocks: Option<usize>,
    ) -> Value {
        let elements = self.elements(parameter);
        let ends = |axis: usize, extent: usize| clamped(first[axis], extent)..=clamped(last[axis], extent);
        let rows = if elements.len() > 1 { ends(0, elements.len()) } else { 0..=0 };
        let columns = ends(first.len() - 1, elements[0].len());
        assert!(blocks.is_none_or(|axis| axis + 1 == first.len() || columns.clone().count() == 1));
        let few = rows.clone().count() * columns.clone().count() <= RANGE_ELEMENTS;
        let range = rows.flat_map(|row| &elements[row][columns.clone()]).copied();
        // where a range wraps it may be empty, and what it says is not used
        let element = match extreme {
            _ if !few && blocks.is_none() => None,
            Extreme::Least => range.min(),
            Extreme::Greatest => range.max(),
        };
        Value::Int(i64::from(element.unwrap_or(if extreme == Extreme::Least { i32::MIN } else { i32::MAX })))
    }
}

/// How much of a tile is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coverage {
    Empty,
    Full,
    Partial,
}

/// A mask and what is known of its tiles.
pub(super) struct Mask {
    pub(super) graph: Graph,
    pub(super) mask: NodeId,
    pub(super) sparsity: Sparsity,
}

impl Mask {
    pub(super) fn new(mask: &str) -> Mask {
        let text = format!(
            "struct Masked {{ limit: i32[b], ids: i32[b, kv], rows: i32[b, q], table: i32[8], grid: i32[{GRID}, {GRID}], mask: {mask} }}"
        );
        let definition = compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "mask.attn")));
        let mut graph = definition.graph.clone();
        let mask = definition.mask.unwrap_or_else(|| graph.bool(true));
        let sparsity = Sparsity::of(&mut graph, Some(mask));
        Mask { graph, mask, sparsity }
    }

    pub(super) fn evaluators(&self) -> Evaluators<'_> {
        Evaluators {
            pair: Evaluator::new(&self.graph, &[self.mask]),
            tile: Evaluator::new(&self.graph, &[self.sparsity.may_live, self.sparsity.all_live]),
        }
    }

    /// The mask and both truth values of the tile in 32 bits that wrap, as executors compute.
    pub(super) fn wrapping(&self, place: &Place) -> [bool; 3] {
        let roots = [self.mask, self.sparsity.may_live, self.sparsity.all_live];
        let mut values = vec![Value::Bool(false); self.graph.len()];
        for id in self.graph.reachable(&roots) {
            let at = |id: NodeId| values[id.index()];
            let index = |index: &[NodeId]| index.iter().map(|&i| at(i).int()).collect::<Vec<_>>();
            let value = match self.graph.op(id) {
                Op::Float(bits) => Value::Float(f64::from_bits(*bits)),
                Op::Int(value) => Value::Int(i64::from(*value)),
                Op::Bool(value) => Value::Bool(*value),
                Op::Input(input) => place.input(*input),
                Op::Parameter { parameter, index: i, .. } => place.parameter(*parameter, &index(i)),
                Op::Extreme { extreme, parameter, first, last, blocks } => {
                    place.extreme(*extreme, *parameter, &index(first), &index(last), *blocks)
                }
                Op::Unary(op, a) => unary(*op, at(*a)),
                Op::Binary(op, a, b) => binary(*op, at(*a), at(*b)),
                Op::Compare(op, a, b) => Value::Bool(compare(*op, at(*a), at(*b))),
                Op::Select { condition, then, otherwise } => at(if at(*condition).bool() { *then } else { *otherwise }),
                Op::Cast(ty, a) => cast(*ty, at(*a)),
            };
            assert!(self.graph.ty(id) == Type::Float || value.ty() == self.graph.ty(id));
            values[id.index()] = match value {
                #[allow(clippy::cast_possible_truncation, reason = "that is wrapping")]
                Value::Int(value) => Value::Int(i64::from(value as i32)),
                other => other,
            };
        }
        roots.map(|root| values[root.index()].bool())
    }
}

pub(super) struct Evaluators<'a> {
    pair: Evaluator<'a>,
    tile: Evaluator<'a>,
}

impl Evaluators<'_> {
    /// Whether each pair of the sequences is live, by query and then by key.
    pub(super) fn live_pairs(&mut self, place: &Place) -> Vec<bool> {
        let pairs = (0..place.q_len).flat_map(|q| (0..place.kv_len).map(move |kv| (q, kv)));
        let mut place = place.clone();
        pairs
            .map(|(q, kv)| {
                (place.q, place.kv) = (q, kv);
                self.pair.evaluate(&place)[0].bool()
            })
            .collect()
    }

    /// Pair by pair.
    pub(super) fn coverage(&mut self, place: &Place) -> Coverage {
        let (mut any, mut all) = (false, true);
        let mut place = place.clone();
        for q in place.queries[0]..=place.queries[1] {
            for kv in place.keys[0]..=place.keys[1] {
                (place.q, place.kv) = (q, kv);
                let live = self.pair.evaluate(&place)[0].bool();
                (any, all) = (any | live, all & live);
                if any && !all {
                    return Coverage::Partial;
                }
            }
        }
        if any { Coverage::Full } else { Coverage::Empty }
    }

    /// From the ends of the tile.
    pub(super) fn bound(&mut self, place: &Place) -> Coverage {
        let values = self.tile.evaluate(place);
        match (values[0].bool(), values[1].bool()) {
            (false, _) => Coverage::Empty,
            (true, true) => Coverage::Full,
            (true, false) => Coverage::Partial,
        }
    }
}
