//! Random well-typed expressions and places to evaluate them at, for property tests.
//!
//! Invariant: an expression is built from a list of steps, each over what the earlier ones built, so that proptest shrinks it
//! by dropping steps.

use proptest::prelude::*;

use super::evaluate::{Environment, Value, evaluate};
use super::{Binary, Compare, Graph, Input, NodeId, Op, ParameterId, Type, Unary};

/// A place with random inputs.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) product: f64,
    pub(crate) scale: f64,
    pub(crate) parameter: f64,
    pub(crate) row: [f64; 2],
    pub(crate) query: i64,
    pub(crate) key: i64,
}

impl Environment for Place {
    fn input(&self, input: Input) -> Value {
        match input {
            Input::Product => Value::Float(self.product),
            Input::Scale => Value::Float(self.scale),
            Input::Statistic => Value::Float(self.row[0]),
            Input::Delta => Value::Float(self.row[1]),
            Input::Query => Value::Int(self.query),
            Input::Key => Value::Int(self.key),
            Input::KeyLen => Value::Int(17),
            other => panic!("{other:?} is not drawn"),
        }
    }

    fn parameter(&self, parameter: ParameterId, index: &[i64]) -> Value {
        Value::Float(self.parameter + f64::from(parameter.0) + index.iter().sum::<i64>() as f64 * 0.25)
    }
}

/// A place whose numbers are of moderate size.
pub(crate) fn places() -> impl Strategy<Value = Place> {
    let float = || -3.0f64..3.0;
    (float(), 0.1f64..1.0, float(), [float(), float()], 0i64..9, 0i64..9)
        .prop_map(|(product, scale, parameter, row, query, key)| Place { product, scale, parameter, row, query, key })
}

/// One step of building an expression: an operation and which operands of each type it takes.
pub(crate) type Step = (u8, usize, usize, usize);

/// Steps of which each adds one node.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0u8..38, 0usize..64, 0usize..64, 0usize..64), 1..14)
}

/// What steps made: the last float node is the expression.
pub(crate) struct Drawn {
    pub(crate) graph: Graph,
    pub(crate) root: NodeId,
    pub(crate) product: NodeId,
    pub(crate) read: NodeId,
}

const UNARY: [Unary; 13] = [
    Unary::Neg,
    Unary::Abs,
    Unary::Exp,
    Unary::Exp2,
    Unary::Ln,
    Unary::Log2,
    Unary::Sqrt,
    Unary::Tanh,
    Unary::Sigmoid,
    Unary::Softplus,
    Unary::Erf,
    Unary::Sin,
    Unary::Cos,
];
const BINARY: [Binary; 6] = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Min, Binary::Max];
const COMPARE: [Compare; 6] = [Compare::Lt, Compare::Le, Compare::Gt, Compare::Ge, Compare::Eq, Compare::Ne];

/// Builds the expression of some steps.
pub(crate) fn draw(steps: &[Step]) -> Drawn {
    let mut graph = Graph::new();
    let [product, scale, statistic, delta] =
        [Input::Product, Input::Scale, Input::Statistic, Input::Delta].map(|input| graph.input(input));
    let [query, key, key_len] = [Input::Query, Input::Key, Input::KeyLen].map(|input| graph.input(input));
    let head_read = graph.parameter(ParameterId(0), vec![], Type::Float);
    let read = graph.parameter(ParameterId(1), vec![key], Type::Float);
    let mut floats = vec![product, scale, statistic, delta, head_read, read];
    floats.extend([0.0, 1.0, 2.0, -1.5, std::f64::consts::LN_2].map(|c| graph.float(c)));
    let mut ints = vec![query, key, key_len, graph.int(0), graph.int(1), graph.int(-3)];
    let mut bools = vec![graph.bool(true), graph.bool(false)];
    for &(kind, a, b, c) in steps {
        let float = |at: usize| floats[floats.len() - 1 - at % floats.len()];
        let int = |at: usize| ints[ints.len() - 1 - at % ints.len()];
        let truth = |at: usize| bools[bools.len() - 1 - at % bools.len()];
        let kind = usize::from(kind);
        let node = match kind {
            0..=12 => graph.unary(UNARY[kind], float(a)),
            13..=20 => graph.binary(BINARY[(kind - 13) % 6], float(a), float(b)),
            21..=23 => graph.select(truth(c), float(a), float(b)),
            24 | 25 => graph.cast(Type::Float, int(a)),
            26 => graph.unary(Unary::Floor, float(a)),
            27 => graph.cast(Type::Int, float(a)),
            28 | 29 => graph.binary(BINARY[c % 6], int(a), int(b)),
            30 => graph.unary(if c % 2 == 0 { Unary::Neg } else { Unary::Abs }, int(a)),
            31 => graph.binary(Binary::Rem, int(a), int(b)),
            32 | 33 => graph.compare(COMPARE[c % 6], float(a), float(b)),
            34 => graph.compare(COMPARE[c % 6], int(a), int(b)),
            35 => graph.unary(Unary::Not, truth(a)),
            _ => graph.binary(if c % 2 == 0 { Binary::And } else { Binary::Or }, truth(a), truth(b)),
        };
        match graph.ty(node) {
            Type::Float => floats.push(node),
            Type::Int => ints.push(node),
            Type::Bool => bools.push(node),
        }
    }
    let root = *floats.last().expect("there are inputs");
    Drawn { graph, root, product, read }
}

/// Whether everything that `root` is computed from is a number of moderate size at a place, and nothing is at a kink there: no
/// root or absolute value of 0, no minimum, maximum or comparison of equals.
pub(crate) fn is_regular(graph: &Graph, root: NodeId, place: &impl Environment) -> bool {
    let at = |id: NodeId| evaluate(graph, id, place);
    graph.reachable(&[root]).into_iter().all(|id| {
        let is_kink = match *graph.op(id) {
            Op::Unary(Unary::Sqrt | Unary::Abs, a) => at(a) == Value::Float(0.0),
            Op::Binary(Binary::Min | Binary::Max, a, b) | Op::Compare(_, a, b) => {
                graph.ty(a) == Type::Float && a != b && at(a) == at(b)
            }
            _ => false,
        };
        let is_moderate = match at(id) {
            Value::Float(value) => value.abs() < 1e6,
            _ => true,
        };
        is_moderate && !is_kink
    })
}
