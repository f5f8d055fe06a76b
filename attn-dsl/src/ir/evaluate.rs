//! Scalar evaluation of a graph in f64: the meaning of every operation, written once.
//!
//! Tests, oracles and the constant folder use it; executors that care for speed compile expressions instead and are compared
//! with it.
//!
//! Invariants: evaluation never panics on any value (an [`Environment`] may); integer arithmetic saturates at the bounds of
//! i64, so that no intermediate result wraps; division and remainder by zero are 0.

use super::{Binary, Compare, Extreme, Graph, Input, NodeId, Op, ParameterId, Type, Unary};

/// A value of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Of [`Type::Float`].
    Float(f64),
    /// Of [`Type::Int`].
    Int(i64),
    /// Of [`Type::Bool`].
    Bool(bool),
}

impl Value {
    /// The type of the value.
    pub fn ty(self) -> Type {
        match self {
            Value::Float(_) => Type::Float,
            Value::Int(_) => Type::Int,
            Value::Bool(_) => Type::Bool,
        }
    }

    /// The real number.
    ///
    /// # Panics
    /// When the value is not a float.
    pub fn float(self) -> f64 {
        match self {
            Value::Float(value) => value,
            other => panic!("{other:?} is not a float"),
        }
    }

    /// The integer.
    ///
    /// # Panics
    /// When the value is not an int.
    pub fn int(self) -> i64 {
        match self {
            Value::Int(value) => value,
            other => panic!("{other:?} is not an int"),
        }
    }

    /// The truth value.
    ///
    /// # Panics
    /// When the value is not a bool.
    pub fn bool(self) -> bool {
        match self {
            Value::Bool(value) => value,
            other => panic!("{other:?} is not a bool"),
        }
    }
}

/// The place of evaluation: what inputs and parameters are there.
pub trait Environment {
    /// The value of an input, of the type [`Input::ty`].
    fn input(&self, input: Input) -> Value;

    /// The element of a parameter at `index`, one entry per axis. The implementation clamps each entry into its axis.
    fn parameter(&self, parameter: ParameterId, index: &[i64]) -> Value;

    /// A bound of the elements of a parameter from `first` to `last`, one entry per axis, see [`Op::Extreme`]; the implementation
    /// clamps each entry into its axis. A place where no expression reads ranges has none.
    fn extreme(
        &self,
        extreme: Extreme,
        parameter: ParameterId,
        first: &[i64],
        last: &[i64],
        blocks: Option<usize>,
    ) -> Value {
        panic!("{extreme:?} of {parameter:?} from {first:?} to {last:?} ({blocks:?}): this place has no ranges")
    }
}

/// The value of `root`.
pub fn evaluate(graph: &Graph, root: NodeId, environment: &impl Environment) -> Value {
    Evaluator::new(graph, &[root]).evaluate(environment)[0]
}

/// Evaluates some nodes of a graph at many places, with the order of evaluation found once.
#[derive(Clone, Debug)]
pub struct Evaluator<'graph> {
    graph: &'graph Graph,
    order: Vec<NodeId>,
    slots: Vec<Value>,
    roots: Vec<NodeId>,
    results: Vec<Value>,
    index: Vec<i64>,
}

impl<'graph> Evaluator<'graph> {
    /// Prepares the evaluation of `roots`.
    pub fn new(graph: &'graph Graph, roots: &[NodeId]) -> Self {
        let order = graph.reachable(roots);
        let slots = vec![Value::Bool(false); order.last().map_or(0, |id| id.index() + 1)];
        Self { graph, order, slots, roots: roots.to_vec(), results: Vec::with_capacity(roots.len()), index: Vec::new() }
    }

    /// The values of the roots at one place, in their order. Both sides of a select are evaluated and one is taken.
    pub fn evaluate(&mut self, environment: &impl Environment) -> &[Value] {
        for &id in &self.order {
            let at = |id: NodeId| self.slots[id.index()];
            let value = match self.graph.op(id) {
                Op::Float(bits) => Value::Float(f64::from_bits(*bits)),
                Op::Int(value) => Value::Int(i64::from(*value)),
                Op::Bool(value) => Value::Bool(*value),
                Op::Input(input) => environment.input(*input),
                Op::Parameter { parameter, index, .. } => {
                    self.index.clear();
                    self.index.extend(index.iter().map(|&i| self.slots[i.index()].int()));
                    environment.parameter(*parameter, &self.index)
                }
                Op::Extreme { extreme, parameter, first, last, blocks } => {
                    self.index.clear();
                    self.index.extend(first.iter().chain(last).map(|&i| self.slots[i.index()].int()));
                    let (first, last) = self.index.split_at(first.len());
                    environment.extreme(*extreme, *parameter, first, last, *blocks)
                }
                Op::Unary(op, a) => unary(*op, at(*a)),
                Op::Binary(op, a, b) => binary(*op, at(*a), at(*b)),
                Op::Compare(op, a, b) => Value::Bool(compare(*op, at(*a), at(*b))),
                Op::Select { condition, then, otherwise } => at(if at(*condition).bool() { *then } else { *otherwise }),
                Op::Cast(ty, a) => cast(*ty, at(*a)),
            };
            debug_assert_eq!(value.ty(), self.graph.ty(id), "{:?}", self.graph.op(id));
            self.slots[id.index()] = value;
        }
        self.results.clear();
        self.results.extend(self.roots.iter().map(|id| self.slots[id.index()]));
        &self.results
    }
}

/// An operation of one operand.
///
/// # Panics
/// When the operand is not of the operation's type.
pub fn unary(op: Unary, a: Value) -> Value {
    match (op, a) {
        (Unary::Not, a) => Value::Bool(!a.bool()),
        (Unary::Neg, Value::Int(a)) => Value::Int(a.saturating_neg()),
        (Unary::Abs, Value::Int(a)) => Value::Int(a.saturating_abs()),
        (op, a) => Value::Float(float_unary(op, a.float())),
    }
}

fn float_unary(op: Unary, a: f64) -> f64 {
    match op {
        Unary::Neg => -a,
        Unary::Abs => a.abs(),
        Unary::Exp => a.exp(),
        Unary::Exp2 => a.exp2(),
        Unary::Ln => a.ln(),
        Unary::Log2 => a.log2(),
        Unary::Sqrt => a.sqrt(),
        Unary::Tanh => a.tanh(),
        Unary::Sigmoid => sigmoid(a),
        Unary::Softplus => softplus(a),
        Unary::Erf => libm::erf(a),
        Unary::Sin => a.sin(),
        Unary::Cos => a.cos(),
        Unary::Floor => a.floor(),
        Unary::Not => unreachable!("`not` is of bools"),
    }
}

/// `1 / (1 + e^-a)`; the exponential is never of a positive number, so that it keeps its relative accuracy.
fn sigmoid(a: f64) -> f64 {
    let e = (-a.abs()).exp();
    if a >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// `ln(1 + e^a) = max(a, 0) + ln(1 + e^-|a|)`.
fn softplus(a: f64) -> f64 {
    if a.is_nan() { a } else { a.max(0.0) + (-a.abs()).exp().ln_1p() }
}

/// An operation of two operands.
///
/// # Panics
/// When the operands are not of the operation's type.
pub fn binary(op: Binary, a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => Value::Float(match op {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::Rem | Binary::And | Binary::Or => panic!("{op:?} is not of floats"),
        }),
        (Value::Int(a), Value::Int(b)) => Value::Int(match op {
            Binary::Add => a.saturating_add(b),
            Binary::Sub => a.saturating_sub(b),
            Binary::Mul => a.saturating_mul(b),
            Binary::Div if b == 0 => 0,
            Binary::Div => a.saturating_div(b),
            Binary::Rem if b == 0 => 0,
            Binary::Rem => a.wrapping_rem(b),
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::And | Binary::Or => panic!("{op:?} is not of ints"),
        }),
        (Value::Bool(a), Value::Bool(b)) => Value::Bool(match op {
            Binary::And => a & b,
            Binary::Or => a | b,
            _ => panic!("{op:?} is not of bools"),
        }),
        (a, b) => panic!("{op:?}: {a:?} and {b:?} are of two types"),
    }
}

/// A comparison. Every one but `Ne` is false where an operand is NaN.
///
/// # Panics
/// When the operands are not two floats or two ints.
pub fn compare(op: Compare, a: Value, b: Value) -> bool {
    fn by<T: PartialOrd>(op: Compare, a: T, b: T) -> bool {
        match op {
            Compare::Lt => a < b,
            Compare::Le => a <= b,
            Compare::Gt => a > b,
            Compare::Ge => a >= b,
            Compare::Eq => a == b,
            Compare::Ne => a != b,
        }
    }
    match (a, b) {
        (Value::Float(a), Value::Float(b)) => by(op, a, b),
        (Value::Int(a), Value::Int(b)) => by(op, a, b),
        (a, b) => panic!("{op:?}: {a:?} and {b:?} cannot be compared"),
    }
}

/// A conversion. Floats beyond i32 become its bounds and NaN becomes 0, as in Rust.
///
/// # Panics
/// When `ty` is `Bool`.
pub fn cast(ty: Type, a: Value) -> Value {
    match (ty, a) {
        (Type::Float, Value::Float(_)) | (Type::Int, Value::Int(_)) => a,
        (Type::Float, Value::Int(a)) => Value::Float(a as f64),
        (Type::Float, Value::Bool(a)) => Value::Float(f64::from(u8::from(a))),
        (Type::Int, Value::Float(a)) => Value::Int(i64::from(a as i32)),
        (Type::Int, Value::Bool(a)) => Value::Int(i64::from(a)),
        (Type::Bool, _) => panic!("a cast never makes a bool"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct At(f64);

    impl Environment for At {
        fn input(&self, input: Input) -> Value {
            match input {
                Input::Product => Value::Float(self.0),
                Input::Key => Value::Int(7),
                other => panic!("{other:?} is not here"),
            }
        }

        fn parameter(&self, parameter: ParameterId, index: &[i64]) -> Value {
            Value::Float(f64::from(parameter.0) * 100.0 + index.iter().sum::<i64>() as f64)
        }
    }

    #[test]
    fn selects_take_one_side_and_ignore_the_other() {
        let mut graph = Graph::new();
        let x = graph.input(Input::Product);
        let zero = graph.float(0.0);
        let positive = graph.compare(Compare::Gt, x, zero);
        let root = graph.unary(Unary::Sqrt, x);
        let select = graph.select(positive, root, zero);
        assert_eq!(evaluate(&graph, select, &At(4.0)), Value::Float(2.0));
        assert_eq!(evaluate(&graph, select, &At(-4.0)), Value::Float(0.0));
    }

    #[test]
    fn integers_neither_wrap_nor_trap() {
        let int = Value::Int;
        assert_eq!(binary(Binary::Div, int(5), int(0)), int(0));
        assert_eq!(binary(Binary::Rem, int(5), int(0)), int(0));
        assert_eq!(binary(Binary::Div, int(-7), int(2)), int(-3));
        assert_eq!(binary(Binary::Rem, int(-7), int(2)), int(-1));
        assert_eq!(binary(Binary::Div, int(i64::MIN), int(-1)), int(i64::MAX));
        assert_eq!(binary(Binary::Rem, int(i64::MIN), int(-1)), int(0));
        assert_eq!(cast(Type::Int, Value::Float(f64::NAN)), int(0));
        assert_eq!(cast(Type::Int, Value::Float(-2.9)), int(-2));
        assert_eq!(cast(Type::Int, Value::Float(1e30)), int(i64::from(i32::MAX)));
    }

    #[test]
    fn functions_keep_their_accuracy_at_the_ends() {
        assert!((sigmoid(-700.0) / (-700.0f64).exp() - 1.0).abs() < 1e-12);
        assert_eq!((sigmoid(f64::NEG_INFINITY), sigmoid(f64::INFINITY)), (0.0, 1.0));
        assert_eq!((softplus(f64::NEG_INFINITY), softplus(1e6)), (0.0, 1e6));
        assert!(softplus(f64::NAN).is_nan() && sigmoid(f64::NAN).is_nan());
        assert!((softplus(-50.0) / (-50.0f64).exp() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn min_and_max_drop_a_nan() {
        let (nan, one) = (Value::Float(f64::NAN), Value::Float(1.0));
        assert_eq!(binary(Binary::Max, nan, one), one);
        assert_eq!(binary(Binary::Min, one, nan), one);
    }

    #[test]
    fn parameters_are_read_at_their_indices() {
        let mut graph = Graph::new();
        let key = graph.input(Input::Key);
        let two = graph.int(2);
        let read = graph.parameter(ParameterId(3), vec![key, two], Type::Float);
        assert_eq!(evaluate(&graph, read, &At(0.0)), Value::Float(309.0));
    }
}
