//! Gradients against finite differences of the oracle's forward pass, in f64.

use attn_dsl::definition::Definition;

use super::case::{Arguments, Case};
use super::check::{CaseReport, Report};
use super::random::Random;
use super::tolerance::{Comparison, Tolerance};
use crate::call::Call;
use crate::error::Error;
use crate::oracle::Naive;
use crate::tensor::{Location, Tensor};

/// Directions tried for each argument.
const DIRECTIONS: usize = 3;
/// Truncation is of the order of its square, rounding of its inverse times 1e-16.
const STEP: f64 = 1e-5;

/// Compares the oracle's gradients of `sum(O * dO) + sum(statistic * dstatistic)` along random directions with central
/// differences, for q, k, v and every learnable parameter. Unlike a comparison of two devices it finds a wrong formula that
/// both share. Values on a kink of the variant spoil it.
///
/// # Panics
/// If a case is packed.
pub fn gradient_check(definition: &Definition, cases: &[Case]) -> Result<Report, Error> {
    let mut reports = Vec::with_capacity(cases.len());
    for case in cases {
        reports.push(CaseReport { case: *case, comparisons: check_case(definition, case)? });
    }
    Ok(Report { variant: definition.name.clone(), cases: reports })
}

fn check_case(definition: &Definition, case: &Case) -> Result<Vec<Comparison>, Error> {
    let Arguments { q, k, v, parameters, output_grad, statistic_grad, cu_seqlens } = case.arguments(definition)?;
    assert!(cu_seqlens.is_none(), "{case}: gradients are checked of cases that are not packed");
    let call = Call::new(definition, None, Location::Host, [&q, &k, &v], &parameters, None)?;
    let output_grad = output_grad.to_f64_vec()?;
    let statistic_grad = statistic_grad.as_ref().map(Tensor::to_f64_vec).transpose()?;
    let loss = |argument: usize, direction: &[f64], step: f64| -> Result<f64, Error> {
        let mut oracle = Naive::new(definition, &call)?;
        oracle.shift_argument(argument, direction, step);
        let output = oracle.forward();
        let product = |(x, g): (&f64, &f64)| if *g == 0.0 { 0.0 } else { x * g };
        let of_output: f64 = output.output.iter().zip(&output_grad).map(product).sum();
        let statistic = output.statistic.iter().flatten().zip(statistic_grad.iter().flatten());
        // A dead row has no gradient by definition, though its statistic may hold a sink.
        let live = statistic.zip(&output.dead).filter(|(_, dead)| !**dead).map(|(pair, _)| pair);
        Ok(of_output + live.map(product).sum::<f64>())
    };
    let oracle = Naive::new(definition, &call)?;
    let gradients = oracle.backward(&output_grad, statistic_grad.as_deref());
    let magnitudes = oracle.magnitudes(&output_grad, statistic_grad.as_deref()).gradients;
    let mut arguments = vec![
        ("dq".to_owned(), 0, &gradients.q, &magnitudes.q),
        ("dk".to_owned(), 1, &gradients.k, &magnitudes.k),
        ("dv".to_owned(), 2, &gradients.v, &magnitudes.v),
    ];
    for (index, declared) in definition.parameters.iter().enumerate() {
        if let (Some(gradient), Some(magnitude)) = (&gradients.parameters[index], &magnitudes.parameters[index]) {
            arguments.push((format!("d_{}", declared.name), index + 3, gradient, magnitude));
        }
    }
    let mut random = Random::new(case.seed ^ 0x5eed);
    let mut comparisons = Vec::new();
    for (name, argument, gradient, magnitude) in arguments {
        let (mut numeric, mut exact, mut terms) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..DIRECTIONS {
            let direction: Vec<f64> = gradient.iter().map(|_| random.normal()).collect();
            let difference = loss(argument, &direction, STEP)? - loss(argument, &direction, -STEP)?;
            numeric.push(difference / (2.0 * STEP));
            exact.push(gradient.iter().zip(&direction).map(|(g, d)| g * d).sum());
            terms.push(magnitude.iter().zip(&direction).map(|(m, d)| (m * d).abs()).sum());
        }
        let tolerance = Tolerance { relative: 1e-6, slack: 1e-8 };
        comparisons.push(Comparison::new(&name, &exact, &numeric, &terms, tolerance));
    }
    Ok(comparisons)
}
