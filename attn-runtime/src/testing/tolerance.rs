//! When two tensors are equal up to rounding.
//!
//! The measure is the root mean square of the error relative to that of the reference. Where the reference is a sum that cancels
//! (a gradient that is 0 in mathematics), rounding is relative to the terms instead; the oracle reports their magnitude.

use std::fmt;

use crate::tensor::DType;

/// The largest error that passes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Of the root mean square of the reference.
    pub relative: f64,
    /// Of the root mean square of the magnitude of the terms.
    pub slack: f64,
}

impl Tolerance {
    /// For outputs and statistics of tensors of this type.
    pub fn forward(dtype: DType) -> Tolerance {
        match dtype {
            DType::F32 | DType::I32 => Tolerance { relative: 1e-5, slack: 16.0 * DType::F32.unit_roundoff() },
            DType::F16 | DType::BF16 => Tolerance { relative: 4e-3, slack: dtype.unit_roundoff() / 8.0 },
        }
    }

    /// For gradients of tensors of this type.
    pub fn backward(dtype: DType) -> Tolerance {
        match dtype {
            DType::F32 | DType::I32 => Tolerance { relative: 1e-4, slack: 16.0 * DType::F32.unit_roundoff() },
            // The row term of a gradient comes from an output that was rounded.
            DType::F16 | DType::BF16 => Tolerance { relative: 8e-3, slack: dtype.unit_roundoff() },
        }
    }
}

/// How far a tensor is from its reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What was compared: `o`, `statistic`, `dq`, `dk`, `dv` or `d_NAME`.
    pub name: String,
    /// The root mean square of the error, relative to that of the reference (or of its terms, where that is larger after
    /// weighing both by the tolerance).
    pub rms_relative: f64,
    /// The largest absolute error.
    pub max_error: f64,
    /// The root mean square of the reference.
    pub reference: f64,
    /// What `rms_relative` may be.
    pub tolerance: f64,
}

fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    (values.map(|x| x * x).sum::<f64>() / count).sqrt()
}

impl Comparison {
    /// Compares values with a reference. Values that are not finite are equal only if they are the same.
    pub fn new(name: &str, actual: &[f64], reference: &[f64], magnitude: &[f64], tolerance: Tolerance) -> Comparison {
        assert_eq!(actual.len(), reference.len(), "{name} has as many values as its reference");
        let difference = |(&a, &r): (&f64, &f64)| match (a.is_finite(), r.is_finite()) {
            (true, true) => a - r,
            _ if a == r || (a.is_nan() && r.is_nan()) => 0.0,
            _ => f64::INFINITY,
        };
        let finite = |&x: &f64| if x.is_finite() { x } else { 0.0 };
        let error = rms(actual.iter().zip(reference).map(difference));
        let max_error = actual.iter().zip(reference).map(difference).fold(0.0, |m: f64, e| m.max(e.abs()));
        let own = rms(reference.iter().map(finite));
        let terms = rms(magnitude.iter().map(finite));
        let scale = own.max(terms * tolerance.slack / tolerance.relative);
        let rms_relative = if error == 0.0 { 0.0 } else { error / scale };
        Comparison { name: name.into(), rms_relative, max_error, reference: own, tolerance: tolerance.relative }
    }

    /// Whether the error is within the tolerance.
    pub fn passed(&self) -> bool {
        self.rms_relative <= self.tolerance
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { name, rms_relative, max_error, reference, tolerance } = self;
        let verdict = if self.passed() { "ok" } else { "MISS" };
        write!(
            f,
            "{name:<12} rms {rms_relative:9.2e} of {tolerance:.0e}   max {max_error:9.2e}   reference {reference:9.2e}   {verdict}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_references_are_measured_by_their_terms() {
        let tolerance = Tolerance::forward(DType::F32);
        let compare = |a: &[f64], r: &[f64], m: &[f64]| Comparison::new("x", a, r, m, tolerance).passed();
        assert!(compare(&[1.0, -2.0], &[1.000_001, -2.0], &[]));
        assert!(!compare(&[1.0, -2.0], &[1.001, -2.0], &[]));
        assert!(!compare(&[1e-8], &[0.0], &[]));
        assert!(compare(&[1e-8], &[0.0], &[1.0]));
        assert!(!compare(&[1e-4], &[0.0], &[1.0]));
        assert!(compare(&[f64::NAN, f64::NEG_INFINITY], &[f64::NAN, f64::NEG_INFINITY], &[]));
        assert!(!compare(&[f64::NAN], &[1.0], &[]));
        assert!(!compare(&[f64::INFINITY], &[f64::NEG_INFINITY], &[]));
    }
}
