//! The table of rules.
//!
//! Invariants: the first rule that matches a node is applied; every rule brings an expression nearer to its normal form, so
//! that simplification ends. The tests hold one example per rule that this rule, and none before it, rewrites.

use crate::ir::evaluate::Value;
use crate::ir::{Binary, Compare, Graph, NodeId, Op, Type, Unary};

use super::fold::{fold, is};
use super::{positions, products, sums};

/// A rewriting of one node whose operands are already simple.
pub(super) struct Rule {
    /// The identity.
    pub(super) name: &'static str,
    apply: fn(&mut Graph, NodeId) -> Option<NodeId>,
}

/// The first rule that matches, and what it makes of the node; `exact`: of those that do not round.
pub(super) fn apply(graph: &mut Graph, id: NodeId, exact: bool) -> Option<(&'static str, NodeId)> {
    RULES.iter().filter(|rule| !exact || !ROUNDING.contains(&rule.name)).find_map(|rule| {
        let next = (rule.apply)(graph, id).filter(|&next| next != id)?;
        Some((rule.name, next))
    })
}

macro_rules! rules {
    ($($name:literal => $apply:expr;)*) => {
        &[$(Rule { name: $name, apply: $apply }),*]
    };
}

/// The rules that may round differently from what they replace.
const ROUNDING: [&str; 6] =
    ["float terms", "x f + y f = (x + y) f", "float factors", "ln(e^x) = x", "log2(2^x) = x", "e^(x ln 2) = 2^x"];

/// Every rule. Its name is the identity; the line is the rewriting.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = rules! {
    // An operation on constants is its value.
    "constants" => fold;

    // Sums.
    "x + 0 = x" => |g, n| { let (a, b) = add(g, n)?; zero(g, b).then_some(a) };
    "x - 0 = x" => |g, n| { let (a, b) = sub(g, n)?; zero(g, b).then_some(a) };
    "0 - x = -x" => |g, n| { let (a, b) = sub(g, n)?; zero(g, a).then(|| g.unary(Unary::Neg, b)) };
    // Of floats: integer terms have an order of their own.
    "c + x = x + c" => |g, n| { let (a, b) = add(g, n)?; (float(g, a) && constant(g, a) && !constant(g, b)).then(|| g.sum(b, a)) };
    "x + -y = x - y" => |g, n| { let (a, b) = add(g, n)?; let b = negated(g, b)?; Some(g.difference(a, b)) };
    "x - -y = x + y" => |g, n| { let (a, b) = sub(g, n)?; let b = negated(g, b)?; Some(g.sum(a, b)) };
    "-x + y = y - x" => |g, n| { let (a, b) = add(g, n)?; let a = neg(g, a)?; Some(g.difference(b, a)) };
    "-x - y = -(x + y)" => |g, n| { let (a, b) = sub(g, n)?; let a = neg(g, a)?; let sum = g.sum(a, b); Some(g.unary(Unary::Neg, sum)) };
    "-(x - y) = y - x" => |g, n| { let (a, b) = sub(g, neg(g, n)?)?; Some(g.difference(b, a)) };
    "x + x = 2 x" => |g, n| { let (a, b) = add(g, n)?; (a == b && float(g, a)).then(|| { let two = g.float(2.0); g.product(a, two) }) };
    // (x + c) + d = x + (c + d), (x + y) - x = y: constants are folded and equal terms cancelled, x - x = 0.
    "float terms" => sums::cancel_float_terms;
    // Only of what varies with the pair: see there.
    "x f + y f = (x + y) f" => products::factor_sum;
    // Integer terms are exact: folded, cancelled, and grouped as what varies by row, then by key.
    "int terms" => sums::group_int_terms;

    // Products, quotients and negations of floats, as one chain: see `products`.
    "float factors" => products::normalize;
    "x * 0 = 0 (int)" => |g, n| { let (_, b) = mul(g, n)?; is(g, b, Value::Int(0)).then_some(b) };
    "x * 1 = x (int)" => |g, n| { let (a, b) = mul(g, n)?; is(g, b, Value::Int(1)).then_some(a) };
    "c * x = x * c (int)" => |g, n| { let (a, b) = mul(g, n)?; (int(g, a) && constant(g, a) && !constant(g, b)).then(|| g.product(b, a)) };
    "x / 1 = x (int)" => |g, n| { let (a, b) = binary(g, n, Binary::Div)?; is(g, b, Value::Int(1)).then_some(a) };
    "x % 1 = 0" => |g, n| { let (_, b) = binary(g, n, Binary::Rem)?; is(g, b, Value::Int(1)).then(|| g.int(0)) };

    // Functions.
    "|-x| = |x|" => |g, n| { let a = neg(g, unary(g, n, Unary::Abs)?)?; Some(g.unary(Unary::Abs, a)) };
    "||x|| = |x|" => |g, n| { let a = unary(g, n, Unary::Abs)?; unary(g, a, Unary::Abs).map(|_| a) };
    "ln(e^x) = x" => |g, n| unary(g, unary(g, n, Unary::Ln)?, Unary::Exp);
    "log2(2^x) = x" => |g, n| unary(g, unary(g, n, Unary::Log2)?, Unary::Exp2);
    "e^(x ln 2) = 2^x" => |g, n| { let (x, c) = mul(g, unary(g, n, Unary::Exp)?)?; (g.as_float(c)? == std::f64::consts::LN_2).then(|| g.unary(Unary::Exp2, x)) };
    "min(x, x) = x" => |g, n| { let (a, b) = binary(g, n, Binary::Min)?; (a == b).then_some(a) };
    "max(x, x) = x" => |g, n| { let (a, b) = binary(g, n, Binary::Max)?; (a == b).then_some(a) };

    // Truth values.
    "!!x = x" => |g, n| unary(g, unary(g, n, Unary::Not)?, Unary::Not);
    "x & true = x" => |g, n| other(g, n, Binary::And, true);
    "x & false = false" => |g, n| other(g, n, Binary::And, false).map(|_| g.bool(false));
    "x | false = x" => |g, n| other(g, n, Binary::Or, false);
    "x | true = true" => |g, n| other(g, n, Binary::Or, true).map(|_| g.bool(true));
    "x & x = x" => |g, n| { let (a, b) = binary(g, n, Binary::And)?; (a == b).then_some(a) };
    "x | x = x" => |g, n| { let (a, b) = binary(g, n, Binary::Or)?; (a == b).then_some(a) };
    // Of integers alone: a float x may be NaN.
    "x <= x" => |g, n| { let Op::Compare(op, a, b) = *g.op(n) else { return None }; (a == b && int(g, a)).then(|| g.bool(reflexive(op))) };
    "!(x < y) = x >= y (int)" => |g, n| { let Op::Compare(op, a, b) = *g.op(unary(g, n, Unary::Not)?) else { return None }; int(g, a).then(|| g.compare(op.opposite(), a, b)) };

    // Selects.
    "if true { x } else { y } = x" => |g, n| { let (c, a, b) = select(g, n)?; if let Op::Bool(c) = g.op(c) { Some(if *c { a } else { b }) } else { None } };
    "if c { x } else { x } = x" => |g, n| { let (_, a, b) = select(g, n)?; (a == b).then_some(a) };
    "if !c { x } else { y } = if c { y } else { x }" => |g, n| { let (c, a, b) = select(g, n)?; let c = unary(g, c, Unary::Not)?; Some(g.select(c, b, a)) };
    "if c { if c { x } else { y } } else { z } = if c { x } else { z }" => |g, n| { let (c, a, b) = select(g, n)?; let (same, x, _) = select(g, a)?; (c == same).then(|| g.select(c, x, b)) };
    "if c { x } else { if c { y } else { z } } = if c { x } else { z }" => |g, n| { let (c, a, b) = select(g, n)?; let (same, _, z) = select(g, b)?; (c == same).then(|| g.select(c, a, z)) };

    // Casts.
    // Exact for positions: see `positions`.
    "float(q - kv) = float(q) - float(kv)" => positions::split_cast;
    "float(if c { x } else { y })" => |g, n| { let Op::Cast(ty, a) = *g.op(n) else { return None }; let (c, x, y) = select(g, a)?; (constant(g, x) && constant(g, y)).then(|| { let (x, y) = (g.cast(ty, x), g.cast(ty, y)); g.select(c, x, y) }) };
    "float(float(x)) = float(x)" => |g, n| { let Op::Cast(ty, a) = *g.op(n) else { return None }; (g.ty(a) == ty).then_some(a) };
};

fn unary(g: &Graph, n: NodeId, op: Unary) -> Option<NodeId> {
    match *g.op(n) {
        Op::Unary(found, a) if found == op => Some(a),
        _ => None,
    }
}

fn neg(g: &Graph, n: NodeId) -> Option<NodeId> {
    unary(g, n, Unary::Neg)
}

/// `-n` where it is simpler than `n`: a negation or a negative constant.
fn negated(g: &mut Graph, n: NodeId) -> Option<NodeId> {
    match g.op(n) {
        Op::Float(bits) if f64::from_bits(*bits) < 0.0 => {
            let value = -f64::from_bits(*bits);
            Some(g.float(value))
        }
        _ => neg(g, n),
    }
}

fn binary(g: &Graph, n: NodeId, op: Binary) -> Option<(NodeId, NodeId)> {
    match *g.op(n) {
        Op::Binary(found, a, b) if found == op => Some((a, b)),
        _ => None,
    }
}

fn add(g: &Graph, n: NodeId) -> Option<(NodeId, NodeId)> {
    binary(g, n, Binary::Add)
}

fn sub(g: &Graph, n: NodeId) -> Option<(NodeId, NodeId)> {
    binary(g, n, Binary::Sub)
}

fn mul(g: &Graph, n: NodeId) -> Option<(NodeId, NodeId)> {
    binary(g, n, Binary::Mul)
}

fn select(g: &Graph, n: NodeId) -> Option<(NodeId, NodeId, NodeId)> {
    match *g.op(n) {
        Op::Select { condition, then, otherwise } => Some((condition, then, otherwise)),
        _ => None,
    }
}

/// The operand beside the truth value `value`.
fn other(g: &Graph, n: NodeId, op: Binary, value: bool) -> Option<NodeId> {
    let (a, b) = binary(g, n, op)?;
    let value = Value::Bool(value);
    if is(g, b, value) { Some(a) } else { is(g, a, value).then_some(b) }
}

fn zero(g: &Graph, n: NodeId) -> bool {
    is(g, n, Value::Float(0.0)) || is(g, n, Value::Int(0))
}

fn constant(g: &Graph, n: NodeId) -> bool {
    super::fold::constant(g, n).is_some()
}

fn float(g: &Graph, n: NodeId) -> bool {
    g.ty(n) == Type::Float
}

fn int(g: &Graph, n: NodeId) -> bool {
    g.ty(n) == Type::Int
}

fn reflexive(op: Compare) -> bool {
    matches!(op, Compare::Le | Compare::Ge | Compare::Eq)
}
