//! Comparison of a device's forward and backward pass with the oracle.

use std::fmt;

use attn_dsl::definition::Definition;

use super::case::{Arguments, Case};
use super::tolerance::{Comparison, Tolerance};
use crate::attention::{Attention, Gradients, Output};
use crate::call::Call;
use crate::device::Device;
use crate::error::Error;
use crate::oracle::{Calls, Magnitudes, NaiveGradients, NaiveOutput, StatisticKind, statistic_kind};
use crate::packing::Packing;
use crate::tensor::{DType, Location, Tensor};

/// What was found in one case.
#[derive(Clone, Debug)]
pub struct CaseReport {
    /// The case.
    pub case: Case,
    /// Every tensor of both passes.
    pub comparisons: Vec<Comparison>,
}

/// What was found in all cases of a variant.
#[derive(Clone, Debug)]
pub struct Report {
    /// The variant's name.
    pub variant: String,
    /// One entry a case.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// Whether every comparison is within its tolerance.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The comparisons that are not within their tolerance.
    pub fn failures(&self) -> impl Iterator<Item = (&Case, &Comparison)> {
        self.cases
            .iter()
            .flat_map(|report| report.comparisons.iter().map(|comparison| (&report.case, comparison)))
            .filter(|(_, comparison)| !comparison.passed())
    }

    /// Panics with the whole table if a comparison failed.
    ///
    /// # Panics
    /// If a comparison failed.
    pub fn assert_passed(&self) {
        assert!(self.passed(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for report in &self.cases {
            writeln!(f, "{}: {}", self.variant, report.case)?;
            for comparison in &report.comparisons {
                writeln!(f, "  {comparison}")?;
            }
        }
        Ok(())
    }
}

/// Runs both passes of a variant on a device in each case and compares every result with the oracle.
pub fn check_variant(definition: &Definition, device: &Device, cases: &[Case]) -> Result<Report, Error> {
    let attention = Attention::new(definition, device)?;
    let mut reports = Vec::with_capacity(cases.len());
    for case in cases {
        let comparisons = check_arguments(&attention, &case.arguments(definition)?)?;
        reports.push(CaseReport { case: *case, comparisons });
    }
    Ok(Report { variant: definition.name.clone(), cases: reports })
}

/// Runs both passes of an attention on host arguments and compares every result with the oracle.
pub fn check_arguments(attention: &Attention, arguments: &Arguments) -> Result<Vec<Comparison>, Error> {
    Expected::new(attention, arguments)?.compare(attention)
}

/// What the oracle makes of host arguments, for comparison with several devices.
///
/// ```
/// use attn_runtime::testing::{Case, Expected};
/// use attn_runtime::{Attention, Device};
///
/// let variant = attn_dsl::compile_one("struct Causal { mask: causal }")?;
/// let attention = Attention::new(&variant, &Device::Cpu)?;
/// let arguments = Case::default().arguments(&variant)?;
/// let expected = Expected::new(&attention, &arguments)?;
/// assert!(expected.compare(&attention)?.iter().all(|comparison| comparison.passed()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Expected<'a> {
    arguments: &'a Arguments,
    output: NaiveOutput,
    gradients: NaiveGradients,
    magnitudes: Magnitudes,
}

impl<'a> Expected<'a> {
    /// Runs both passes of the attention's variant in the oracle, whatever its device.
    ///
    /// # Errors
    /// When the arguments do not fit the variant.
    pub fn new(attention: &Attention, arguments: &'a Arguments) -> Result<Expected<'a>, Error> {
        let Arguments { q, k, v, parameters, output_grad, statistic_grad, cu_seqlens } = arguments;
        let definition = attention.definition();
        let packing = cu_seqlens.as_ref().map(|[q, kv]| Packing::new(q, kv, &Device::Oracle)).transpose()?;
        let (scale, qkv) = (attention.given_scale(), [q, k, v]);
        let call = Call::new(definition, scale, Location::Host, qkv, parameters, packing.as_ref())?;
        let oracle = Calls::new(definition, &call)?;
        let grad = output_grad.to_f64_vec()?;
        let statistic = statistic_grad.as_ref().map(Tensor::to_f64_vec).transpose()?;
        Ok(Expected {
            arguments,
            output: oracle.forward()?,
            gradients: oracle.backward(&grad, statistic.as_deref())?,
            magnitudes: oracle.magnitudes(&grad, statistic.as_deref())?,
        })
    }

    /// Runs both passes of an attention of the same variant and scale, of a packed batch where the arguments are of one, and compares
    /// every result.
    ///
    /// # Errors
    /// When the device fails.
    pub fn compare(&self, attention: &Attention) -> Result<Vec<Comparison>, Error> {
        let (output, gradients) = run(attention, self.arguments)?;
        self.compare_results(attention.definition(), &output, &gradients)
    }

    fn compare_results(
        &self,
        definition: &Definition,
        output: &Output,
        actual: &Gradients,
    ) -> Result<Vec<Comparison>, Error> {
        let Expected {
            output: expected,
            gradients,
            magnitudes: Magnitudes { output: output_magnitude, gradients: magnitudes },
            ..
        } = self;
        let dtype = self.arguments.q.dtype();
        let (forward, backward) = (Tolerance::forward(dtype), Tolerance::backward(dtype));
        let mut all =
            vec![Comparison::new("o", &output.output.to_f64_vec()?, &expected.output, output_magnitude, forward)];
        if let (Some(actual), Some(expected)) = (&output.statistic, &expected.statistic) {
            // A logarithm is as exact as its argument: its error is relative to 1, not to itself.
            let log = statistic_kind(definition) == Some(StatisticKind::LogNormalizer);
            let magnitude = vec![if log { 1.0 } else { 0.0 }; expected.len()];
            // sums of mapped elements are as exact as these
            let summed =
                if definition.features.iter().any(Option::is_some) { forward } else { Tolerance::forward(DType::F32) };
            let tolerance = Tolerance { slack: Tolerance::forward(DType::F32).relative, ..summed };
            all.push(Comparison::new("statistic", &actual.to_f64_vec()?, expected, &magnitude, tolerance));
        }
        let triples = [
            ("dq", &actual.q, &gradients.q, &magnitudes.q),
            ("dk", &actual.k, &gradients.k, &magnitudes.k),
            ("dv", &actual.v, &gradients.v, &magnitudes.v),
        ];
        for (name, actual, expected, magnitude) in triples {
            all.push(Comparison::new(name, &actual.to_f64_vec()?, expected, magnitude, backward));
        }
        let parameters = definition.parameters.iter().zip(gradients.parameters.iter().zip(&magnitudes.parameters));
        for (declared, (expected, magnitude)) in parameters {
            if let (Some(expected), Some(magnitude)) = (expected, magnitude) {
                let name = format!("d_{}", declared.name);
                // A gradient that is missing is as wrong as one can be.
                let actual = match actual.parameters.get(&declared.name) {
                    Some(tensor) => tensor.to_f64_vec()?,
                    None => vec![f64::NAN; expected.len()],
                };
                all.push(Comparison::new(&name, &actual, expected, magnitude, backward));
            }
        }
        Ok(all)
    }
}

/// The results of both passes on the attention's device, in the memory of the host.
fn run(attention: &Attention, arguments: &Arguments) -> Result<(Output, Gradients), Error> {
    let Arguments { q, k, v, parameters, output_grad, statistic_grad, cu_seqlens } = arguments;
    let packed = cu_seqlens.as_ref().map(|[q, kv]| attention.packed(q, kv)).transpose()?;
    let attention = packed.as_ref().unwrap_or(attention);
    let device = attention.device();
    let named = [("q", q), ("k", k), ("v", v), ("output_grad", output_grad)];
    let [q, k, v, output_grad] = named.map(|(name, tensor)| tensor.to_device_as(device, name));
    let (q, k, v, output_grad) = (q?, k?, v?, output_grad?);
    let parameters = parameters.to_device(device)?;
    let statistic_grad =
        statistic_grad.as_ref().map(|tensor| tensor.to_device_as(device, "statistic_grad")).transpose()?;
    let on_device = attention.forward(&q, &k, &v, &parameters)?;
    let output = on_device.to_host()?;
    let gradients = attention.backward(&q, &k, &v, &parameters, &on_device, &output_grad, statistic_grad.as_ref())?;
    Ok((output, gradients.to_host()?))
}
