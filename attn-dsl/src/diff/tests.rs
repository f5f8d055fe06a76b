//! Derivatives against finite differences, and at kinks.

use proptest::prelude::*;

use super::derivative;
use crate::ir::evaluate::{Environment, Value, evaluate};
use crate::ir::random::{Place, draw, is_regular, places, steps};
use crate::ir::{Binary, Compare, Graph, Input, NodeId, ParameterId, Unary, print_expression};
use crate::simplify::simplify;

/// `d root / d target` by central differences with a given step, through `moved`.
fn difference(f: impl Fn(f64) -> f64, step: f64) -> f64 {
    (f(step) - f(-step)) / (2.0 * step)
}

/// The derivative, if it is well defined there: two steps agree.
fn numeric(f: impl Fn(f64) -> f64) -> Option<f64> {
    let (coarse, fine) = (difference(&f, 2e-5), difference(&f, 5e-6));
    let is_smooth = (coarse - fine).abs() <= 1e-6 * (1.0 + fine.abs()) && f(0.0).abs() < 1e4 && fine.abs() < 1e4;
    is_smooth.then_some(fine)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, max_global_rejects: 4000, ..ProptestConfig::default() })]

    #[test]
    fn derivatives_agree_with_finite_differences(steps in steps(), place in places()) {
        let mut drawn = draw(&steps);
        let (root, targets) = (drawn.root, [drawn.product, drawn.read]);
        let graph = &drawn.graph;
        let of_product = numeric(|by| {
            evaluate(graph, root, &Place { product: place.product + by, ..place.clone() }).float()
        });
        let of_read = numeric(|by| evaluate(graph, root, &MovedRead { place: &place, by }).float());
        prop_assume!(is_regular(graph, root, &place) && of_product.is_some() && of_read.is_some());
        let one = drawn.graph.float(1.0);
        let grads = derivative(&mut drawn.graph, root, &targets, one);
        for (grad, expected) in grads.into_iter().zip([of_product, of_read]) {
            let expected = expected.expect("assumed");
            for grad in [grad, simplify(&mut drawn.graph, grad)] {
                let found = evaluate(&drawn.graph, grad, &place).float();
                prop_assert!(
                    (found - expected).abs() <= 1e-4 * (1.0 + expected.abs()),
                    "{found} instead of {expected}: derivative {} of {}",
                    print_expression(&drawn.graph, grad),
                    print_expression(&drawn.graph, root),
                );
            }
        }
    }
}

/// A place where the parameter with an index is moved and nothing else.
struct MovedRead<'a> {
    place: &'a Place,
    by: f64,
}

impl Environment for MovedRead<'_> {
    fn input(&self, input: Input) -> Value {
        self.place.input(input)
    }

    fn parameter(&self, parameter: ParameterId, index: &[i64]) -> Value {
        let value = self.place.parameter(parameter, index).float();
        Value::Float(if index.is_empty() { value } else { value + self.by })
    }
}

struct X(f64);

impl Environment for X {
    fn input(&self, input: Input) -> Value {
        assert_eq!(input, Input::Product);
        Value::Float(self.0)
    }

    fn parameter(&self, parameter: ParameterId, _: &[i64]) -> Value {
        panic!("{parameter:?} is not here")
    }
}

fn at(x: f64, build: impl FnOnce(&mut Graph, NodeId) -> NodeId) -> f64 {
    let mut graph = Graph::new();
    let product = graph.input(Input::Product);
    let root = build(&mut graph, product);
    let one = graph.float(1.0);
    let grad = derivative(&mut graph, root, &[product], one)[0];
    let found = evaluate(&graph, grad, &X(x)).float();
    let simple = simplify(&mut graph, grad);
    let simplified = evaluate(&graph, simple, &X(x)).float();
    assert!(found == simplified || found.is_nan() && simplified.is_nan(), "{found}, simplified {simplified}");
    found
}

#[test]
fn kinks_have_the_documented_derivatives() {
    let zero = |g: &mut Graph| g.float(0.0);
    let max = |g: &mut Graph, x| {
        let zero = zero(g);
        g.binary(Binary::Max, x, zero)
    };
    let max_flipped = |g: &mut Graph, x| {
        let zero = zero(g);
        g.binary(Binary::Max, zero, x)
    };
    let min = |g: &mut Graph, x| {
        let zero = zero(g);
        g.binary(Binary::Min, x, zero)
    };
    assert_eq!([at(-1.0, max), at(0.0, max), at(1.0, max)], [0.0, 0.0, 1.0]);
    assert_eq!(at(0.0, max_flipped), 1.0, "a tie goes to the second operand");
    assert_eq!([at(-1.0, min), at(0.0, min), at(1.0, min)], [1.0, 0.0, 0.0]);
    let abs = |g: &mut Graph, x| g.unary(Unary::Abs, x);
    assert_eq!([at(-2.0, abs), at(0.0, abs), at(2.0, abs)], [-1.0, 0.0, 1.0]);
    assert_eq!(at(0.0, |g, x| g.unary(Unary::Sqrt, x)), f64::INFINITY);
    assert_eq!(at(0.5, |g, x| g.unary(Unary::Floor, x)), 0.0);
}

#[test]
fn the_arm_not_taken_never_leaks() {
    let guarded = |g: &mut Graph, x| {
        let zero = g.float(0.0);
        let positive = g.compare(Compare::Gt, x, zero);
        let root = g.unary(Unary::Sqrt, x);
        let square = g.product(root, root);
        g.select(positive, square, zero)
    };
    assert_eq!([at(-1.0, guarded), at(0.0, guarded)], [0.0, 0.0]);
    assert!((at(4.0, guarded) - 1.0).abs() < 1e-15);
    let relu_root = |g: &mut Graph, x| {
        let zero = g.float(0.0);
        let relu = g.binary(Binary::Max, x, zero);
        let one = g.float(1.0);
        let shifted = g.sum(relu, one);
        g.unary(Unary::Ln, shifted)
    };
    assert_eq!([at(-1.0, relu_root), at(1.0, relu_root)], [0.0, 0.5]);
}

#[test]
fn derivatives_share_the_nodes_of_their_function() {
    let mut graph = Graph::new();
    let x = graph.input(Input::Product);
    let sigmoid = graph.unary(Unary::Sigmoid, x);
    let one = graph.float(1.0);
    let grad = derivative(&mut graph, sigmoid, &[x], one)[0];
    assert_eq!(print_expression(&graph, grad), "sigmoid(x) * (1.0 - sigmoid(x))");
    assert!(graph.reachable(&[grad]).contains(&sigmoid));
}

#[test]
fn an_independent_target_has_a_zero() {
    let mut graph = Graph::new();
    let (x, scale) = (graph.input(Input::Product), graph.input(Input::Scale));
    let one = graph.float(1.0);
    let grads = derivative(&mut graph, scale, &[x, scale], one);
    assert_eq!(grads, [graph.float(0.0), one]);
}
