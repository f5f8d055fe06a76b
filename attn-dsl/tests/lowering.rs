//! Lowered programs against the dense definition and its finite differences.

mod support;

use attn_dsl::definition::Axis;
use attn_dsl::ir::{Binary, Compare, Input, Reduction, Unary};
use attn_dsl::lower::{Class, LowerError, SavedRow, lower};
use support::dense::{Problem, Statistic, forward, gradients};
use support::tiled::run;
use support::variants::{self, Builder};

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        let is_close = error <= tolerance * (1.0 + expected.abs());
        assert!(is_close, "{what}[{at}]: {found} instead of {expected}, off by {error:e}");
    }
}

/// Both passes of a variant, for several draws.
fn check(definition: &attn_dsl::definition::Definition) {
    let lowered = lower(definition).unwrap_or_else(|error| panic!("{}: {error}", definition.name));
    let name = &definition.name;
    for seed in 1..=4 {
        let problem = Problem::new(definition, seed, 4.0);
        let (outputs, normalizers) = forward(definition, &problem);
        let (found, statistics, grads) = run(&lowered, &problem);
        assert_close(&format!("{name}: output"), &found, &outputs, 1e-12);
        let statistic = match lowered.class {
            Class::Elementwise => Statistic::None,
            Class::Streaming => Statistic::Z,
            Class::ShiftedExponential => Statistic::LogZ,
        };
        for (found, z) in statistics.iter().zip(&normalizers).filter(|(_, z)| !z.is_nan()) {
            match statistic {
                Statistic::None => assert!(found.is_nan()),
                Statistic::Z => assert_close(&format!("{name}: z"), &[*found], &[*z], 1e-12),
                Statistic::LogZ => assert_close(&format!("{name}: ln z"), &[*found], &[z.ln()], 1e-12),
            }
        }
        let expected = gradients(definition, &problem, statistic);
        assert_close(&format!("{name}: dv"), &grads.values, &expected.values, 1e-7);
        assert_close(&format!("{name}: dx"), &grads.products, &expected.products, 1e-7);
        for (at, (found, expected)) in grads.parameters.iter().zip(&expected.parameters).enumerate() {
            assert_close(&format!("{name}: d {}", definition.parameters[at].name), found, expected, 1e-7);
        }
    }
}

#[test]
fn every_variant_agrees_with_its_definition_and_finite_differences() {
    for definition in variants::all() {
        check(&definition);
    }
}

#[test]
fn shifted_exponentials_neither_overflow_nor_lose_a_row() {
    for definition in [
        variants::softmax(),
        variants::softmax_1(),
        variants::softmax_n(),
        variants::sink(),
        variants::root_of_squares(),
        variants::largest(),
    ] {
        let lowered = lower(&definition).expect("it has a stable form");
        for spread in [1e4, 1e6] {
            let problem = Problem::new(&definition, 3, spread);
            let (outputs, statistics, grads) = run(&lowered, &problem);
            assert!(outputs.iter().all(|o| o.is_finite() && o.abs() <= 2.0 * support::dense::KEYS as f64));
            assert_eq!(statistics.iter().filter(|s| s.is_finite()).count(), 8, "{}", definition.name);
            let all = grads.products.iter().chain(&grads.values).chain(grads.parameters.iter().flatten());
            assert!(all.into_iter().all(|g| g.is_finite()), "{}", definition.name);
        }
    }
}

#[test]
fn a_row_whose_normalizer_is_zero_has_no_output_and_no_gradient() {
    for definition in variants::all() {
        let lowered = lower(&definition).expect("it lowers");
        if lowered.class != Class::Streaming || !["normalised_relu", "relu_by_root"].contains(&&*definition.name) {
            continue;
        }
        let mut problem = Problem::new(&definition, 2, 1.0);
        problem.products.iter_mut().for_each(|x| *x = -x.abs());
        let (outputs, _, grads) = run(&lowered, &problem);
        assert!(outputs.iter().chain(&grads.products).chain(&grads.values).all(|&x| x == 0.0), "{}", definition.name);
    }
}

#[test]
fn the_usual_variants_save_the_statistic_alone() {
    for definition in [
        variants::softmax(),
        variants::softmax_1(),
        variants::softmax_n(),
        variants::sink(),
        variants::root_of_squares(),
        variants::alibi(),
        variants::softcap(),
        variants::normalised_relu(),
    ] {
        let lowered = lower(&definition).expect("it lowers");
        assert_eq!(lowered.forward.saved, [SavedRow::Statistic], "{}", definition.name);
    }
    let largest = lower(&variants::largest()).expect("it lowers");
    assert_eq!(largest.forward.saved, [SavedRow::Statistic, SavedRow::ArgMax]);
    assert!(largest.forward.arg_max);
    let silu = lower(&variants::silu_streaming()).expect("it lowers");
    assert_eq!(silu.forward.saved, [SavedRow::Statistic, SavedRow::Reduction(Reduction::Sum)]);
    let sigmoid = lower(&variants::sigmoid_bias()).expect("it lowers");
    assert_eq!(sigmoid.forward.saved, []);
    assert!(!sigmoid.backward.needs_delta);
}

#[test]
fn normalizers_without_a_stable_form_are_refused_where_they_grow() {
    let refuse = |normalizer: &dyn Fn(&mut Builder) -> (attn_dsl::ir::NodeId, attn_dsl::ir::NodeId)| {
        let mut builder = Builder::new("refused");
        let (normalizer, culprit) = normalizer(&mut builder);
        let definition = builder.set_normalizer(Some(normalizer)).build();
        let error = lower(&definition).expect_err("it has no stable form");
        assert_eq!(error.node(), Some(culprit), "{error}");
        error
    };
    let squares = refuse(&|b| {
        let squares = b.reduction(Reduction::SumSquares);
        (squares, squares)
    });
    assert!(squares.to_string().contains("sqrt(sum_squares)"), "{squares}");
    let product = refuse(&|b| {
        let (sum, one) = (b.reduction(Reduction::Sum), b.float(1.0));
        let square = b.bin(Binary::Mul, sum, sum);
        let z = b.bin(Binary::Add, square, one);
        (z, z)
    });
    assert!(matches!(product, LowerError::Unstable { degree: 2.0, .. }), "{product}");
    let function = refuse(&|b| {
        let sum = b.reduction(Reduction::Sum);
        let tanh = b.un(Unary::Tanh, sum);
        let z = b.bin(Binary::Add, sum, tanh);
        (z, tanh)
    });
    assert!(matches!(function, LowerError::NotHomogeneous { .. }), "{function}");
    let varies = refuse(&|b| {
        let z = b.cast(Input::Key);
        (z, z)
    });
    assert!(matches!(varies, LowerError::VariesWithKey { .. }), "{varies}");
}

/// The statistics of rows that have a live key.
fn live(statistics: &[f64]) -> impl Iterator<Item = f64> {
    statistics.iter().copied().filter(|s| !s.is_nan())
}

/// Scores of minus infinity: the reductions are 0, the statistic is minus infinity, and quotients of both reach nothing.
#[test]
fn a_row_of_minus_infinities_has_no_output_and_no_gradient() {
    let parameter_of_normalizer = {
        let mut builder = Builder::new("gained");
        let gain = builder.read("gain", &[Axis::Head]);
        let [sum, squares, max] = [Reduction::Sum, Reduction::SumSquares, Reduction::Max].map(|r| builder.reduction(r));
        let root = builder.un(Unary::Sqrt, squares);
        let product = builder.bin(Binary::Mul, gain, sum);
        let mixed = builder.bin(Binary::Mul, sum, max);
        let mixed = builder.un(Unary::Sqrt, mixed);
        let z = builder.bin(Binary::Add, product, root);
        let z = builder.bin(Binary::Add, z, mixed);
        builder.set_normalizer(Some(z)).build()
    };
    let definitions = [variants::softmax(), variants::root_of_squares(), variants::largest(), parameter_of_normalizer];
    for definition in definitions {
        let lowered = lower(&definition).expect("it lowers");
        assert_eq!(lowered.class, Class::ShiftedExponential);
        let mut problem = Problem::new(&definition, 2, 1.0);
        let finite = problem.products.clone();
        problem.products.iter_mut().for_each(|x| *x = f64::NEG_INFINITY);
        let (outputs, statistics, grads) = run(&lowered, &problem);
        assert!(live(&statistics).all(|s| s == f64::NEG_INFINITY), "{}", definition.name);
        let all = outputs.iter().chain(&grads.products).chain(&grads.values).chain(grads.parameters.iter().flatten());
        assert!(all.into_iter().all(|&x| x == 0.0), "{}", definition.name);
        // every other pair: what is left is finite, and what is gone has no gradient
        let parts = problem.products.iter_mut().zip(&finite).enumerate();
        parts.filter(|(at, _)| at % 2 == 0).for_each(|(_, (x, &finite))| *x = finite);
        let (_, statistics, grads) = run(&lowered, &problem);
        assert!(live(&statistics).all(f64::is_finite), "{}", definition.name);
        assert!(grads.products.iter().skip(1).step_by(2).all(|&x| x == 0.0), "{}", definition.name);
        let all = grads.products.iter().chain(&grads.values).chain(grads.parameters.iter().flatten());
        assert!(all.into_iter().all(|x| x.is_finite()), "{}", definition.name);
    }
}

/// `let a = f(a, a);` many times over is a small graph and an endless tree.
#[test]
fn shared_parts_are_walked_once() {
    type Double = fn(&mut Builder, attn_dsl::ir::NodeId) -> attn_dsl::ir::NodeId;
    let doublings: [Double; 4] = [
        |b, a| {
            let tanh = b.un(Unary::Tanh, a);
            b.bin(Binary::Add, a, tanh)
        },
        |b, a| {
            let sine = b.un(Unary::Sin, a);
            b.bin(Binary::Mul, a, sine)
        },
        |b, a| {
            let (one, half) = (b.float(1.0), b.float(0.5));
            let positive = b.graph.compare(Compare::Gt, a, one);
            let (then, otherwise) = (b.bin(Binary::Mul, a, half), b.bin(Binary::Add, a, half));
            b.graph.select(positive, then, otherwise)
        },
        |b, a| {
            let (square, one) = (b.bin(Binary::Mul, a, a), b.float(1.0));
            let inner = b.bin(Binary::Add, square, one);
            let root = b.un(Unary::Sqrt, inner);
            b.bin(Binary::Max, root, a)
        },
    ];
    for double in doublings {
        let mut builder = Builder::new("doubled");
        let mut score = builder.score();
        for _ in 0..40 {
            score = double(&mut builder, score);
        }
        lower(&builder.set_score(score).build()).expect("it lowers");
    }
    let mut builder = Builder::new("doubled normalizer");
    let mut z = builder.reduction(Reduction::Sum);
    for _ in 0..40 {
        z = doublings[3](&mut builder, z);
    }
    let lowered = lower(&builder.set_normalizer(Some(z)).build()).expect("it lowers");
    assert!(lowered.graph.len() < 20_000, "{}", lowered.graph.len());
    let mut builder = Builder::new("doubled and refused");
    let mut z = builder.reduction(Reduction::Sum);
    for _ in 0..40 {
        z = doublings[0](&mut builder, z);
    }
    lower(&builder.set_normalizer(Some(z)).build()).expect_err("tanh is not homogeneous");
}

#[test]
fn programs_read_as_they_should() {
    for definition in [
        variants::softmax(),
        variants::softmax_n(),
        variants::sink(),
        variants::root_of_squares(),
        variants::largest(),
        variants::alibi(),
        variants::softcap(),
        variants::silu_streaming(),
        variants::sigmoid_bias(),
        variants::normalised_relu(),
    ] {
        let lowered = lower(&definition).expect("it lowers");
        insta::assert_snapshot!(definition.name.clone(), lowered);
    }
}

fn lowered(text: &str) -> String {
    let definition = attn_dsl::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "variant")));
    lower(&definition).expect("it lowers").to_string()
}

/// What a row must know first, and the programs over it.
#[test]
fn row_passes() {
    insta::assert_snapshot!("row_pass_entmax15", lowered("struct A { normalizer: entmax15 }"));
    insta::assert_snapshot!(
        "row_pass_entmax",
        lowered(
            "struct A { alpha: f32[h], bias: f32[h, kv], score: |s, b, h, q, kv| s + bias[h, kv], normalizer: entmax(1 + sigmoid(alpha[h])) }"
        )
    );
    insta::assert_snapshot!("row_pass_top_k", lowered("struct A { keep: top_k(64), mask: causal }"));
    insta::assert_snapshot!(
        "row_pass_ties",
        lowered("struct A { k: i32[h], keep: top_k(k[h], ties), normalizer: sparsemax }")
    );
    insta::assert_snapshot!("row_pass_condition", lowered("struct A { keep: |p, max, s| p >= 1e-3 && s > max - 5.0 }"));
    insta::assert_snapshot!(
        "row_pass_post",
        lowered(
            "struct A { gamma: f32[h], post: |p, b, h| clamp((1.0 - gamma[h]) * p + gamma[h], 0.0, 1.0), mask: causal }"
        )
    );
    insta::assert_snapshot!("row_pass_clipped", lowered("struct A { post: |p| clamp(1.03 * p - 0.03, 0.0, 1.0) }"));
}
