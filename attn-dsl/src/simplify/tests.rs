//! Every rule by an example, and the whole against the evaluator.

use proptest::prelude::*;

use super::{rules, simplify, split_tile_factor};
use crate::ir::evaluate::evaluate;
use crate::ir::random::{Place, draw, is_regular, places, steps};
use crate::ir::{Binary, Compare, Graph, Input, NodeId, Op, ParameterId, Type, Unary, print_expression as print};

/// A graph with short names for leaves and operations.
#[derive(Default)]
struct Build {
    graph: Graph,
}

impl Build {
    /// A value of the pair.
    fn x(&mut self) -> NodeId {
        self.graph.input(Input::Product)
    }

    /// Another one.
    fn y(&mut self) -> NodeId {
        self.graph.input(Input::OutputGradProduct)
    }

    fn scale(&mut self) -> NodeId {
        self.graph.input(Input::Scale)
    }

    fn q(&mut self) -> NodeId {
        self.graph.input(Input::Query)
    }

    fn kv(&mut self) -> NodeId {
        self.graph.input(Input::Key)
    }

    fn f(&mut self, value: f64) -> NodeId {
        self.graph.float(value)
    }

    fn i(&mut self, value: i32) -> NodeId {
        self.graph.int(value)
    }

    /// A truth value that is not constant.
    fn c(&mut self) -> NodeId {
        let (x, y) = (self.x(), self.y());
        self.graph.compare(Compare::Lt, x, y)
    }

    fn un(&mut self, op: Unary, a: NodeId) -> NodeId {
        self.graph.unary(op, a)
    }

    fn bin(&mut self, op: Binary, a: NodeId, b: NodeId) -> NodeId {
        self.graph.binary(op, a, b)
    }
}

type Example = (&'static str, fn(&mut Build) -> NodeId, &'static str);

/// A rule's name, an expression that it is the first to rewrite, and what it makes of it.
#[rustfmt::skip]
const EXAMPLES: &[Example] = &[
    ("constants", |b| { let (a, c) = (b.f(2.0), b.f(3.0)); b.bin(Binary::Mul, a, c) }, "6.0"),
    ("constants", |b| { let c = b.i(-2); b.graph.cast(Type::Float, c) }, "-2.0"),
    ("constants", |b| { let (a, c) = (b.i(7), b.i(0)); b.bin(Binary::Div, a, c) }, "0"),
    ("x + 0 = x", |b| { let (x, c) = (b.x(), b.f(0.0)); b.bin(Binary::Add, x, c) }, "x"),
    ("x - 0 = x", |b| { let (x, c) = (b.x(), b.f(0.0)); b.bin(Binary::Sub, x, c) }, "x"),
    ("0 - x = -x", |b| { let (x, c) = (b.x(), b.f(0.0)); b.bin(Binary::Sub, c, x) }, "-x"),
    ("c + x = x + c", |b| { let (x, c) = (b.x(), b.f(2.0)); b.bin(Binary::Add, c, x) }, "x + 2.0"),
    ("x + -y = x - y", |b| { let (x, y) = (b.x(), b.y()); let y = b.un(Unary::Neg, y); b.bin(Binary::Add, x, y) }, "x - dp"),
    ("x + -y = x - y", |b| { let (x, c) = (b.x(), b.f(-2.0)); b.bin(Binary::Add, x, c) }, "x - 2.0"),
    ("x - -y = x + y", |b| { let (x, y) = (b.x(), b.y()); let y = b.un(Unary::Neg, y); b.bin(Binary::Sub, x, y) }, "x + dp"),
    ("-x + y = y - x", |b| { let (x, y) = (b.x(), b.y()); let x = b.un(Unary::Neg, x); b.bin(Binary::Add, x, y) }, "dp - x"),
    ("-x - y = -(x + y)", |b| { let (x, y) = (b.x(), b.y()); let x = b.un(Unary::Neg, x); b.bin(Binary::Sub, x, y) }, "-(x + dp)"),
    ("-(x - y) = y - x", |b| { let (x, y) = (b.x(), b.y()); let d = b.bin(Binary::Sub, x, y); b.un(Unary::Neg, d) }, "dp - x"),
    ("x + x = 2 x", |b| { let x = b.x(); b.bin(Binary::Add, x, x) }, "x * 2.0"),
    ("float terms", |b| { let (x, one, two) = (b.x(), b.f(1.0), b.f(2.0)); let s = b.bin(Binary::Add, x, one); b.bin(Binary::Add, s, two) }, "x + 3.0"),
    ("float terms", |b| { let (x, y) = (b.x(), b.y()); let s = b.bin(Binary::Add, x, y); b.bin(Binary::Sub, s, x) }, "dp"),
    ("float terms", |b| { let x = b.x(); b.bin(Binary::Sub, x, x) }, "0.0"),
    ("x f + y f = (x + y) f", |b| {
        let (x, y) = (b.x(), b.y());
        let (e, s) = (b.un(Unary::Erf, x), b.un(Unary::Sin, x));
        let (a, c) = (b.bin(Binary::Mul, e, y), b.bin(Binary::Mul, s, y));
        b.bin(Binary::Add, a, c)
    }, "dp * (erf(x) + sin(x))"),
    ("int terms", |b| { let (q, kv) = (b.q(), b.kv()); let (one, two) = (b.i(1), b.i(2)); let s = b.bin(Binary::Add, kv, one); let s = b.bin(Binary::Add, s, q); b.bin(Binary::Add, s, two) }, "q + 3 + kv"),
    ("int terms", |b| { let q = b.q(); b.bin(Binary::Sub, q, q) }, "0"),
    ("float factors", |b| { let (x, c) = (b.x(), b.f(0.0)); b.bin(Binary::Mul, x, c) }, "0.0"),
    ("float factors", |b| { let (x, c) = (b.x(), b.f(1.0)); b.bin(Binary::Div, x, c) }, "x"),
    ("float factors", |b| { let x = b.x(); let n = b.un(Unary::Neg, x); b.un(Unary::Neg, n) }, "x"),
    ("float factors", |b| { let (x, s, c) = (b.x(), b.scale(), b.f(2.0)); let p = b.bin(Binary::Mul, s, x); b.bin(Binary::Mul, c, p) }, "x * (scale * 2.0)"),
    ("float factors", |b| { let (x, s) = (b.x(), b.scale()); b.bin(Binary::Div, x, s) }, "x * (1.0 / scale)"),
    ("float factors", |b| { let (x, c) = (b.x(), b.f(4.0)); b.bin(Binary::Div, x, c) }, "x * 0.25"),
    ("float factors", |b| { let (x, y) = (b.x(), b.y()); let p = b.bin(Binary::Mul, x, y); b.bin(Binary::Div, p, x) }, "dp"),
    ("float factors", |b| { let (x, y) = (b.x(), b.y()); let (e, d) = (b.un(Unary::Exp2, x), b.un(Unary::Exp2, y)); b.bin(Binary::Div, e, d) }, "exp2(x - dp)"),
    ("float factors", |b| { let (x, y, one) = (b.x(), b.y(), b.f(1.0)); let t = b.un(Unary::Tanh, x); let d = b.bin(Binary::Sub, one, t); b.bin(Binary::Mul, y, d) }, "dp - dp * tanh(x)"),
    ("x * 0 = 0 (int)", |b| { let (q, c) = (b.q(), b.i(0)); b.bin(Binary::Mul, q, c) }, "0"),
    ("x * 1 = x (int)", |b| { let (q, c) = (b.q(), b.i(1)); b.bin(Binary::Mul, q, c) }, "q"),
    ("c * x = x * c (int)", |b| { let (q, c) = (b.q(), b.i(3)); b.bin(Binary::Mul, c, q) }, "q * 3"),
    ("x / 1 = x (int)", |b| { let (q, c) = (b.q(), b.i(1)); b.bin(Binary::Div, q, c) }, "q"),
    ("x % 1 = 0", |b| { let (q, c) = (b.q(), b.i(1)); b.bin(Binary::Rem, q, c) }, "0"),
    ("|-x| = |x|", |b| { let x = b.x(); let n = b.un(Unary::Neg, x); b.un(Unary::Abs, n) }, "abs(x)"),
    ("||x|| = |x|", |b| { let x = b.x(); let n = b.un(Unary::Abs, x); b.un(Unary::Abs, n) }, "abs(x)"),
    ("ln(e^x) = x", |b| { let x = b.x(); let n = b.un(Unary::Exp, x); b.un(Unary::Ln, n) }, "x"),
    ("log2(2^x) = x", |b| { let x = b.x(); let n = b.un(Unary::Exp2, x); b.un(Unary::Log2, n) }, "x"),
    ("e^(x ln 2) = 2^x", |b| { let (x, c) = (b.x(), b.f(std::f64::consts::LN_2)); let p = b.bin(Binary::Mul, x, c); b.un(Unary::Exp, p) }, "exp2(x)"),
    ("min(x, x) = x", |b| { let x = b.x(); b.bin(Binary::Min, x, x) }, "x"),
    ("max(x, x) = x", |b| { let x = b.q(); b.bin(Binary::Max, x, x) }, "q"),
    ("!!x = x", |b| { let c = b.c(); let n = b.un(Unary::Not, c); b.un(Unary::Not, n) }, "x < dp"),
    ("x & true = x", |b| { let c = b.c(); let t = b.graph.bool(true); b.bin(Binary::And, t, c) }, "x < dp"),
    ("x & false = false", |b| { let c = b.c(); let t = b.graph.bool(false); b.bin(Binary::And, c, t) }, "false"),
    ("x | false = x", |b| { let c = b.c(); let t = b.graph.bool(false); b.bin(Binary::Or, c, t) }, "x < dp"),
    ("x | true = true", |b| { let c = b.c(); let t = b.graph.bool(true); b.bin(Binary::Or, t, c) }, "true"),
    ("x & x = x", |b| { let c = b.c(); b.bin(Binary::And, c, c) }, "x < dp"),
    ("x | x = x", |b| { let c = b.c(); b.bin(Binary::Or, c, c) }, "x < dp"),
    ("x <= x", |b| { let q = b.q(); b.graph.compare(Compare::Le, q, q) }, "true"),
    ("x <= x", |b| { let q = b.q(); b.graph.compare(Compare::Ne, q, q) }, "false"),
    ("!(x < y) = x >= y (int)", |b| { let (q, kv) = (b.q(), b.kv()); let c = b.graph.compare(Compare::Lt, q, kv); b.un(Unary::Not, c) }, "q >= kv"),
    ("if true { x } else { y } = x", |b| { let (c, x, y) = (b.graph.bool(false), b.x(), b.y()); b.graph.select(c, x, y) }, "dp"),
    ("if c { x } else { x } = x", |b| { let (c, x) = (b.c(), b.x()); b.graph.select(c, x, x) }, "x"),
    ("if !c { x } else { y } = if c { y } else { x }", |b| { let (c, x, y) = (b.c(), b.x(), b.y()); let n = b.un(Unary::Not, c); b.graph.select(n, x, y) }, "if x < dp { dp } else { x }"),
    ("if c { if c { x } else { y } } else { z } = if c { x } else { z }", |b| { let (c, x, y, z) = (b.c(), b.x(), b.y(), b.scale()); let s = b.graph.select(c, x, y); b.graph.select(c, s, z) }, "if x < dp { x } else { scale }"),
    ("if c { x } else { if c { y } else { z } } = if c { x } else { z }", |b| { let (c, x, y, z) = (b.c(), b.x(), b.y(), b.scale()); let s = b.graph.select(c, y, z); b.graph.select(c, x, s) }, "if x < dp { x } else { scale }"),
    ("float(q - kv) = float(q) - float(kv)", |b| { let (q, kv) = (b.q(), b.kv()); let d = b.bin(Binary::Sub, q, kv); b.graph.cast(Type::Float, d) }, "float(q) - float(kv)"),
    ("float(q - kv) = float(q) - float(kv)", |b| { let (q, kv) = (b.q(), b.kv()); let d = b.bin(Binary::Sub, q, kv); let d = b.un(Unary::Abs, d); b.graph.cast(Type::Float, d) }, "abs(float(q - kv))"),
    ("float(if c { x } else { y })", |b| { let (c, one, two) = (b.c(), b.i(1), b.i(2)); let s = b.graph.select(c, one, two); b.graph.cast(Type::Float, s) }, "if x < dp { float(1) } else { float(2) }"),
    ("float(float(x)) = float(x)", |b| { let x = b.x(); b.graph.add(Op::Cast(Type::Float, x)) }, "x"),
];

#[test]
fn each_example_is_rewritten_by_its_rule_and_no_earlier_one() {
    for (name, build, expected) in EXAMPLES {
        let mut b = Build::default();
        let node = build(&mut b);
        let (fired, next) = rules::apply(&mut b.graph, node, false).unwrap_or_else(|| panic!("`{name}` does not fire"));
        assert_eq!((fired, &*print(&b.graph, next)), (*name, *expected), "of {}", print(&b.graph, node));
    }
}

#[test]
fn each_rule_has_an_example() {
    for rule in rules::RULES {
        assert!(EXAMPLES.iter().any(|(name, ..)| *name == rule.name), "`{}` has none", rule.name);
    }
}

#[test]
fn casts_of_positions_end_as_one_subtraction_a_pair() {
    let mut b = Build::default();
    let (q, kv) = (b.q(), b.kv());
    let (q_len, kv_len) = (b.graph.input(Input::QueryLen), b.graph.input(Input::KeyLen));
    let difference = b.graph.difference(q, kv);
    let aligned = b.graph.sum(difference, kv_len);
    let aligned = b.graph.difference(aligned, q_len);
    let distance = b.un(Unary::Abs, aligned);
    let cast = b.graph.cast(Type::Float, distance);
    let simple = simplify(&mut b.graph, cast);
    assert_eq!(print(&b.graph, simple), "abs(float(q + kv_len - q_len) - float(kv))");
}

#[test]
fn nothing_rounds_below_a_floor() {
    let mut b = Build::default();
    let kv = b.kv();
    let (position, size) = (b.graph.cast(Type::Float, kv), b.f(49.0));
    let ratio = b.bin(Binary::Div, position, size);
    let bucket = b.un(Unary::Floor, ratio);
    let bucket = b.graph.cast(Type::Int, bucket);
    let simple = simplify(&mut b.graph, bucket);
    assert_eq!(print(&b.graph, simple), "int(floor(float(kv) / 49.0))");
    let plain = simplify(&mut b.graph, ratio);
    assert_eq!(print(&b.graph, plain), format!("float(kv) * {:?}", 1.0 / 49.0));
}

#[test]
fn tile_factors_come_out_of_products_sums_and_selects() {
    let mut b = Build::default();
    let (x, y, scale) = (b.x(), b.y(), b.scale());
    let slope = b.graph.parameter(ParameterId(0), vec![], Type::Float);
    let negative = b.un(Unary::Neg, x);
    let product = b.bin(Binary::Mul, negative, scale);
    let product = b.bin(Binary::Div, product, slope);
    let other = b.bin(Binary::Mul, y, scale);
    let other = b.bin(Binary::Mul, other, slope);
    let (condition, zero) = (b.c(), b.f(0.0));
    let select = b.graph.select(condition, product, zero);
    let sum = b.bin(Binary::Add, product, other);
    let mut split = |node| {
        let (factor, rest) = split_tile_factor(&mut b.graph, node);
        (factor.map(|factor| print(&b.graph, factor)), print(&b.graph, rest))
    };
    assert_eq!(split(product), (Some("-(scale / p0)".to_owned()), "x".to_owned()));
    assert_eq!(split(select), (Some("-(scale / p0)".to_owned()), "if x < dp { x } else { 0.0 }".to_owned()));
    assert_eq!(split(sum), (Some("scale".to_owned()), "dp * p0 - x * (1.0 / p0)".to_owned()));
    assert_eq!(split(x), (None, "x".to_owned()));
    assert_eq!(split(zero), (None, "0.0".to_owned()));
}

/// Whether a place is regular and the value barely moves when the inputs do: rounding and the
/// choice of a branch may then not matter.
fn is_well_conditioned(graph: &Graph, root: NodeId, place: &Place) -> bool {
    let value = evaluate(graph, root, place).float();
    let agrees = |by: f64| {
        let moved = Place {
            product: place.product + by,
            scale: place.scale + 0.7 * by,
            parameter: place.parameter - 0.3 * by,
            row: place.row.map(|row| row - 0.9 * by),
            ..place.clone()
        };
        is_regular(graph, root, &moved)
            && (evaluate(graph, root, &moved).float() - value).abs() <= 1e-5 * (1.0 + value.abs())
    };
    is_regular(graph, root, place) && agrees(1e-8) && agrees(-1e-8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_global_rejects: 8000, ..ProptestConfig::default() })]

    #[test]
    fn simplified_expressions_have_the_same_value(steps in steps(), place in places()) {
        let mut drawn = draw(&steps);
        let simple = simplify(&mut drawn.graph, drawn.root);
        let graph = &drawn.graph;
        prop_assert!(graph.rate(drawn.root).contains(graph.rate(simple)));
        prop_assume!(is_well_conditioned(graph, drawn.root, &place));
        let expected = evaluate(graph, drawn.root, &place).float();
        let found = evaluate(graph, simple, &place).float();
        prop_assert!(
            (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
            "{found} instead of {expected}: {} of {}", print(graph, simple), print(graph, drawn.root),
        );
        let (factor, rest) = split_tile_factor(&mut drawn.graph, drawn.root);
        let graph = &drawn.graph;
        prop_assert!(factor.is_none_or(|factor| graph.rate(factor).is_tile()));
        let scale = factor.map_or(1.0, |factor| evaluate(graph, factor, &place).float());
        let found = scale * evaluate(graph, rest, &place).float();
        prop_assert!(
            (found - expected).abs() <= 1e-6 * (1.0 + expected.abs()),
            "{found} instead of {expected}: {scale} * {} of {}", print(graph, rest), print(graph, drawn.root),
        );
    }

    #[test]
    fn simplification_is_idempotent(steps in steps()) {
        let mut drawn = draw(&steps);
        let simple = simplify(&mut drawn.graph, drawn.root);
        let again = simplify(&mut drawn.graph, simple);
        prop_assert_eq!(simple, again, "{} became {}", print(&drawn.graph, simple), print(&drawn.graph, again));
    }
}
