//! The names of the language and the search for the one that was meant.

use crate::ir::{Binary, Graph, Input, NodeId, Reduction, Unary};

/// What the arguments of a function may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signature {
    /// So many numbers: all integers give an integer, else all become floats.
    Numbers(usize),
    /// One float; an integer becomes one.
    Float,
}

/// A function of the language.
#[derive(Clone, Copy)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) signature: Signature,
    pub(super) build: fn(&mut Graph, &[NodeId]) -> NodeId,
}

macro_rules! unary {
    ($name:literal, $op:ident) => {
        Function { name: $name, signature: Signature::Float, build: |g, a| g.unary(Unary::$op, a[0]) }
    };
}

/// Functions, as calls or methods.
pub(super) const FUNCTIONS: &[Function] = &[
    Function { name: "min", signature: Signature::Numbers(2), build: |g, a| g.binary(Binary::Min, a[0], a[1]) },
    Function { name: "max", signature: Signature::Numbers(2), build: |g, a| g.binary(Binary::Max, a[0], a[1]) },
    Function {
        name: "clamp",
        signature: Signature::Numbers(3),
        build: |g, a| {
            let low = g.binary(Binary::Max, a[0], a[1]);
            g.binary(Binary::Min, low, a[2])
        },
    },
    Function { name: "abs", signature: Signature::Numbers(1), build: |g, a| g.unary(Unary::Abs, a[0]) },
    unary!("exp", Exp),
    unary!("exp2", Exp2),
    unary!("ln", Ln),
    unary!("log2", Log2),
    unary!("sqrt", Sqrt),
    unary!("tanh", Tanh),
    unary!("sigmoid", Sigmoid),
    Function { name: "relu", signature: Signature::Float, build: |g, a| relu(g, a[0]) },
    Function { name: "relu_squared", signature: Signature::Float, build: |g, a| relu_squared(g, a[0]) },
    unary!("softplus", Softplus),
    unary!("erf", Erf),
    Function { name: "silu", signature: Signature::Float, build: |g, a| silu(g, a[0]) },
    Function { name: "gelu", signature: Signature::Float, build: |g, a| gelu(g, a[0]) },
    Function { name: "elu", signature: Signature::Float, build: |g, a| elu(g, a[0]) },
    Function { name: "elu_plus_one", signature: Signature::Float, build: |g, a| elu_plus_one(g, a[0]) },
    unary!("sin", Sin),
    unary!("cos", Cos),
    unary!("floor", Floor),
];

/// What `activation: name` may be.
pub(super) const ACTIVATIONS: &[&str] =
    &["exp", "sigmoid", "relu", "relu_squared", "silu", "gelu", "softplus", "tanh", "elu_plus_one", "identity"];

/// Masks with a name.
pub(super) const MASKS: &[&str] = &["causal", "window", "prefix", "document", "blocks"];

/// Values that are known everywhere (`live_keys` not in a mask).
pub(super) const INPUTS: &[(&str, Input)] = &[
    ("scale", Input::Scale),
    ("head_dim", Input::HeadDim),
    ("q_len", Input::QueryLen),
    ("kv_len", Input::KeyLen),
    ("live_keys", Input::LiveKeys),
];

/// Values of a normalizer, beside [`INPUTS`].
pub(super) const ROW_INPUTS: &[(&str, Input)] = &[
    ("sum", Input::Reduction(Reduction::Sum)),
    ("max", Input::Reduction(Reduction::Max)),
    ("sum_squares", Input::Reduction(Reduction::SumSquares)),
    ("count", Input::LiveKeys),
    ("b", Input::Batch),
    ("h", Input::Head),
    ("q", Input::Query),
];

/// The indices of a row.
pub(super) const ROW_INDICES: &[(&str, Input)] = &[("b", Input::Batch), ("h", Input::Head), ("q", Input::Query)];

/// The indices of a pair.
pub(super) const INDICES: &[(&str, Input)] =
    &[("b", Input::Batch), ("h", Input::Head), ("q", Input::Query), ("kv", Input::Key)];

/// Whether a parameter or a length may not have this name, because it means something already.
pub(super) fn is_reserved(name: &str) -> bool {
    let inputs = INPUTS.iter().chain(ROW_INPUTS).chain(INDICES).map(|(name, _)| *name);
    let functions = FUNCTIONS.iter().map(|function| function.name);
    let fields = ["score", "activation", "normalizer", "keep", "post", "mask", "feature", "feature_q", "feature_k"];
    let others = ["s", "none", "softmax", "identity", "sparsemax", "entmax15", "entmax", "top_k", "ties"];
    let names = inputs.chain(functions).chain(MASKS.iter().copied()).chain(fields).chain(others);
    names.into_iter().any(|reserved| reserved == name)
}

/// A function by name.
pub(super) fn function(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// What to write for functions of other languages.
pub(super) fn foreign_function(name: &str) -> Option<&'static str> {
    Some(match name {
        "pow" | "powf" => "a power is `exp(y * ln(x))`; a square is `x * x`",
        "powi" => "multiply: `x * x`",
        "log" => "the natural logarithm is `ln`",
        "fabs" => "write `abs`",
        "fmin" => "write `min`",
        "fmax" => "write `max`",
        "where" | "select" => "write `if condition { a } else { b }`",
        "ceil" => "write `-floor(-x)`",
        "round" => "write `floor(x + 0.5)`",
        "recip" => "write `1 / x`",
        "rsqrt" => "write `1 / sqrt(x)`",
        "softmax" => "softmax is `activation: exp` and `normalizer: softmax`",
        "sparsemax" | "entmax15" | "entmax" => "it is a normalizer: `normalizer: entmax15`",
        "top_k" | "topk" | "threshold" => "keys are kept by `keep: top_k(64)`, or by a condition, `keep: |s| s >= 0.0`",
        "identity" => "it is the value itself: leave the call out",
        _ => return None,
    })
}

pub(super) fn relu(g: &mut Graph, x: NodeId) -> NodeId {
    let zero = g.float(0.0);
    g.binary(Binary::Max, x, zero)
}

fn relu_squared(g: &mut Graph, x: NodeId) -> NodeId {
    let relu = relu(g, x);
    g.product(relu, relu)
}

fn silu(g: &mut Graph, x: NodeId) -> NodeId {
    let sigmoid = g.unary(Unary::Sigmoid, x);
    g.product(x, sigmoid)
}

fn gelu(g: &mut Graph, x: NodeId) -> NodeId {
    let root = g.float(std::f64::consts::SQRT_2);
    let argument = g.quotient(x, root);
    let erf = g.unary(Unary::Erf, argument);
    let one = g.float(1.0);
    let sum = g.sum(one, erf);
    let half = g.float(0.5);
    let half = g.product(half, x);
    g.product(half, sum)
}

fn elu(g: &mut Graph, x: NodeId) -> NodeId {
    let (zero, one) = (g.float(0.0), g.float(1.0));
    let condition = g.compare(crate::ir::Compare::Gt, x, zero);
    let exponential = g.unary(Unary::Exp, x);
    let otherwise = g.difference(exponential, one);
    g.select(condition, x, otherwise)
}

fn elu_plus_one(g: &mut Graph, x: NodeId) -> NodeId {
    let (zero, one) = (g.float(0.0), g.float(1.0));
    let condition = g.compare(crate::ir::Compare::Gt, x, zero);
    let then = g.sum(x, one);
    let otherwise = g.unary(Unary::Exp, x);
    g.select(condition, then, otherwise)
}

/// The candidate that `name` most likely was meant to be: within a third of its length in edits.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = name.chars().count().max(3) / 3;
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit && !candidate.is_empty())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
