//! A dual-number evaluator of expression graphs: values and forward-mode derivatives in f64.
//!
//! Each node carries its value and one tangent per direction. Derivatives at kinks are those that `attn_dsl::ir` documents.
//! A tangent of 0 stays 0 under an infinite derivative, so that an unused direction never turns into NaN.

use attn_dsl::ir::{Binary, Compare, Graph, Input, NodeId, Op, ParameterId, Type, Unary};

/// A value of any type. Integers are i32 and wrap; a division by zero is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Float(f64),
    Int(i32),
    Bool(bool),
}

impl Value {
    pub(crate) fn float(self) -> f64 {
        match self {
            Value::Float(x) => x,
            other => unreachable!("graphs are well typed: {other:?} is no float"),
        }
    }

    pub(crate) fn int(self) -> i32 {
        match self {
            Value::Int(x) => x,
            other => unreachable!("graphs are well typed: {other:?} is no int"),
        }
    }

    pub(crate) fn bool(self) -> bool {
        match self {
            Value::Bool(x) => x,
            other => unreachable!("graphs are well typed: {other:?} is no bool"),
        }
    }
}

/// Where an expression is evaluated: what inputs and parameter reads are worth.
pub(crate) trait Place {
    fn input(&self, input: Input) -> Value;
    fn parameter(&self, parameter: ParameterId, index: &[i32]) -> Value;
}

/// A leaf that derivatives are taken with respect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Input(Input),
    /// A read of a parameter: the node of the read.
    Read(NodeId),
}

/// An expression with its directions, ready to be evaluated at many places.
pub(crate) struct Expression<'a> {
    graph: &'a Graph,
    root: NodeId,
    order: Vec<NodeId>,
    directions: Vec<Direction>,
    /// By node index: which direction the node is.
    seed: Vec<Option<usize>>,
}

/// The memory of an evaluation, reused from place to place.
#[derive(Default)]
pub(crate) struct Scratch {
    values: Vec<Value>,
    tangents: Vec<f64>,
}

impl<'a> Expression<'a> {
    pub(crate) fn new(graph: &'a Graph, root: NodeId, directions: &[Direction]) -> Self {
        let order = graph.reachable(&[root]);
        let mut seed = vec![None; graph.len()];
        for &id in &order {
            seed[id.index()] = directions.iter().position(|direction| match (direction, graph.op(id)) {
                (Direction::Input(input), Op::Input(own)) => input == own,
                (Direction::Read(node), Op::Parameter { .. }) => *node == id,
                _ => false,
            });
        }
        Expression { graph, root, order, directions: directions.to_vec(), seed }
    }

    /// The reads of parameters that satisfy `learnable`, in topological order.
    pub(crate) fn reads(graph: &Graph, root: NodeId, learnable: impl Fn(ParameterId) -> bool) -> Vec<NodeId> {
        let read = |id: &NodeId| matches!(graph.op(*id), Op::Parameter { parameter, .. } if learnable(*parameter));
        graph.reachable(&[root]).into_iter().filter(read).collect()
    }

    /// The value at a place; `scratch` holds the tangents of the root until the next evaluation.
    ///
    /// `given` overrides the value and tangents of one input: the score, as the activation sees it.
    pub(crate) fn evaluate(
        &self,
        place: &impl Place,
        given: Option<(Input, f64, &[f64])>,
        scratch: &mut Scratch,
    ) -> Value {
        let width = self.directions.len();
        scratch.values.resize(self.graph.len(), Value::Bool(false));
        scratch.tangents.resize(self.graph.len() * width, 0.0);
        for &id in &self.order {
            let at = id.index();
            if let (Op::Input(input), Some((own, value, tangents))) = (self.graph.op(id), given)
                && *input == own
            {
                scratch.values[at] = Value::Float(value);
                scratch.tangents[at * width..(at + 1) * width].copy_from_slice(tangents);
                continue;
            }
            let value = self.step(id, place, scratch);
            scratch.values[at] = value;
            if let Some(direction) = self.seed[at] {
                scratch.tangents[at * width + direction] = 1.0;
            }
        }
        scratch.values[self.root.index()]
    }

    /// The tangents of the root after an evaluation, one per direction.
    pub(crate) fn tangents<'s>(&self, scratch: &'s Scratch) -> &'s [f64] {
        let width = self.directions.len();
        &scratch.tangents[self.root.index() * width..][..width]
    }

    /// The clamped position of a read in its parameter, after an evaluation.
    pub(crate) fn read_index(&self, read: NodeId, scratch: &Scratch) -> Vec<i32> {
        self.graph.op(read).operands().iter().map(|a| scratch.values[a.index()].int()).collect()
    }

    fn step(&self, id: NodeId, place: &impl Place, scratch: &mut Scratch) -> Value {
        let width = self.directions.len();
        let at = id.index() * width;
        scratch.tangents[at..at + width].fill(0.0);
        let value = |a: NodeId| scratch.values[a.index()];
        match self.graph.op(id) {
            Op::Float(bits) => Value::Float(f64::from_bits(*bits)),
            Op::Int(x) => Value::Int(*x),
            Op::Bool(x) => Value::Bool(*x),
            Op::Input(input) => place.input(*input),
            Op::Parameter { parameter, index, .. } => {
                let index: Vec<i32> = index.iter().map(|&a| value(a).int()).collect();
                place.parameter(*parameter, &index)
            }
            Op::Extreme { .. } => unreachable!("a definition reads elements, not ranges"),
            Op::Unary(op, a) => match value(*a) {
                Value::Float(x) => {
                    let (y, derivative) = unary(*op, x);
                    scratch.chain(width, at, &[(*a, derivative)]);
                    Value::Float(y)
                }
                Value::Int(x) => Value::Int(if *op == Unary::Neg { x.wrapping_neg() } else { x.wrapping_abs() }),
                Value::Bool(x) => Value::Bool(!x),
            },
            Op::Binary(op, a, b) => match (value(*a), value(*b)) {
                (Value::Float(x), Value::Float(y)) => {
                    let (z, dx, dy) = binary(*op, x, y);
                    scratch.chain(width, at, &[(*a, dx), (*b, dy)]);
                    Value::Float(z)
                }
                (Value::Int(x), Value::Int(y)) => Value::Int(binary_int(*op, x, y)),
                (Value::Bool(x), Value::Bool(y)) => Value::Bool(if *op == Binary::And { x && y } else { x || y }),
                (x, y) => unreachable!("graphs are well typed: {op:?} of {x:?} and {y:?}"),
            },
            Op::Compare(op, a, b) => Value::Bool(match (value(*a), value(*b)) {
                (Value::Float(x), Value::Float(y)) => compare(*op, x, y),
                (x, y) => compare(*op, x.int(), y.int()),
            }),
            Op::Select { condition, then, otherwise } => {
                let taken = if value(*condition).bool() { *then } else { *otherwise };
                scratch.chain(width, at, &[(taken, 1.0)]);
                scratch.values[taken.index()]
            }
            Op::Cast(ty, a) => match (ty, value(*a)) {
                (Type::Float, Value::Int(x)) => Value::Float(f64::from(x)),
                (Type::Float, Value::Bool(x)) => Value::Float(f64::from(u8::from(x))),
                (Type::Int, Value::Float(x)) => Value::Int(x as i32),
                (Type::Int, Value::Bool(x)) => Value::Int(i32::from(x)),
                (_, same) => same,
            },
        }
    }
}

impl Scratch {
    /// Adds each operand's tangents times its derivative to those at `at`.
    fn chain(&mut self, width: usize, at: usize, operands: &[(NodeId, f64)]) {
        for direction in 0..width {
            for &(operand, derivative) in operands {
                let tangent = self.tangents[operand.index() * width + direction];
                if tangent != 0.0 && derivative != 0.0 {
                    self.tangents[at + direction] += tangent * derivative;
                }
            }
        }
    }
}

/// The value and the derivative.
fn unary(op: Unary, x: f64) -> (f64, f64) {
    match op {
        Unary::Neg => (-x, -1.0),
        Unary::Abs => (x.abs(), if x == 0.0 { 0.0 } else { x.signum() }),
        Unary::Exp => (x.exp(), x.exp()),
        Unary::Exp2 => (x.exp2(), x.exp2() * std::f64::consts::LN_2),
        Unary::Ln => (x.ln(), 1.0 / x),
        Unary::Log2 => (x.log2(), 1.0 / (x * std::f64::consts::LN_2)),
        Unary::Sqrt => (x.sqrt(), 0.5 / x.sqrt()),
        Unary::Tanh => (x.tanh(), 1.0 / (x.cosh() * x.cosh())),
        Unary::Sigmoid => (sigmoid(x), sigmoid(x) * sigmoid(-x)),
        Unary::Softplus => (x.max(0.0) + (-x.abs()).exp().ln_1p(), sigmoid(x)),
        Unary::Erf => (libm::erf(x), std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()),
        Unary::Sin => (x.sin(), x.cos()),
        Unary::Cos => (x.cos(), -x.sin()),
        Unary::Floor => (x.floor(), 0.0),
        Unary::Not => unreachable!("graphs are well typed: `!` of a float"),
    }
}

fn sigmoid(x: f64) -> f64 {
    // e^-|x| never overflows, and for negative x the quotient keeps its relative accuracy.
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// The value and the derivative in each operand.
fn binary(op: Binary, x: f64, y: f64) -> (f64, f64, f64) {
    let first = |yes: bool| if yes { (1.0, 0.0) } else { (0.0, 1.0) };
    match op {
        Binary::Add => (x + y, 1.0, 1.0),
        Binary::Sub => (x - y, 1.0, -1.0),
        Binary::Mul => (x * y, y, x),
        Binary::Div => (x / y, 1.0 / y, -x / (y * y)),
        Binary::Min => {
            let (dx, dy) = first(x < y);
            (x.min(y), dx, dy)
        }
        Binary::Max => {
            let (dx, dy) = first(x > y);
            (x.max(y), dx, dy)
        }
        Binary::Rem | Binary::And | Binary::Or => unreachable!("graphs are well typed: {op:?} of floats"),
    }
}

fn binary_int(op: Binary, x: i32, y: i32) -> i32 {
    match op {
        Binary::Add => x.wrapping_add(y),
        Binary::Sub => x.wrapping_sub(y),
        Binary::Mul => x.wrapping_mul(y),
        Binary::Div if y == 0 => 0,
        Binary::Div => x.wrapping_div(y),
        Binary::Rem if y == 0 => 0,
        Binary::Rem => x.wrapping_rem(y),
        Binary::Min => x.min(y),
        Binary::Max => x.max(y),
        Binary::And | Binary::Or => unreachable!("graphs are well typed: {op:?} of ints"),
    }
}

fn compare<T: PartialOrd>(op: Compare, x: T, y: T) -> bool {
    match op {
        Compare::Lt => x < y,
        Compare::Le => x <= y,
        Compare::Gt => x > y,
        Compare::Ge => x >= y,
        Compare::Eq => x == y,
        Compare::Ne => x != y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(f64);
    impl Place for At {
        fn input(&self, _: Input) -> Value {
            Value::Float(self.0)
        }
        fn parameter(&self, _: ParameterId, _: &[i32]) -> Value {
            Value::Float(0.0)
        }
    }

    /// Value and derivative of `op` applied to the product at `x`.
    fn at(op: Unary, x: f64) -> (f64, f64) {
        let mut graph = Graph::new();
        let input = graph.input(Input::Product);
        let root = graph.unary(op, input);
        let expression = Expression::new(&graph, root, &[Direction::Input(Input::Product)]);
        let mut scratch = Scratch::default();
        let value = expression.evaluate(&At(x), None, &mut scratch).float();
        (value, expression.tangents(&scratch)[0])
    }

    #[test]
    fn derivatives_match_central_differences() {
        use Unary::*;
        for op in [Neg, Abs, Exp, Exp2, Ln, Log2, Sqrt, Tanh, Sigmoid, Softplus, Erf, Sin, Cos, Floor] {
            for x in [0.3, 0.9, 1.7, 4.2] {
                let h = 1e-5;
                let numeric = (at(op, x + h).0 - at(op, x - h).0) / (2.0 * h);
                let exact = at(op, x).1;
                assert!((numeric - exact).abs() <= 1e-8 * exact.abs().max(1.0), "{op:?} at {x}: {exact} {numeric}");
            }
        }
        assert_eq!(at(Abs, 0.0).1, 0.0);
        assert_eq!(at(Sqrt, 0.0).1, f64::INFINITY);
        assert!((at(Sigmoid, -700.0).0 / (-700f64).exp() - 1.0).abs() < 1e-12);
        assert_eq!(at(Softplus, 800.0), (800.0, 1.0));
    }
}
