//! Elementary functions in f32, written so that loops over them become vector instructions.
//!
//! Errors are a few units in the last place against the exact value; tests hold the bounds. Infinities, NaN and results below
//! the smallest normal number behave as in the standard library.

/// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, for |x| < 2^22.
const ROUND: f32 = 12_582_912.0;

/// `2^n` for an integral `n` in -252..=254, as a product that may be subnormal: `x * 2^n`.
#[inline(always)]
fn scale_by_power(x: f32, n: i32) -> f32 {
    let half = n >> 1;
    let power = |n: i32| f32::from_bits(((n + 127) as u32) << 23);
    x * power(half) * power(n - half)
}

/// `2^x`.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    // Past these bounds the result is 0 or infinite anyway; max and min would lose a NaN, so the comparison is explicit.
    let clamped = if x > 129.0 { 129.0 } else { x };
    let clamped = if clamped < -152.0 { -152.0 } else { clamped };
    let shifted = clamped + ROUND;
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let r = clamped - (shifted - ROUND);
    // Minimax on [-1/2, 1/2].
    let p = 1.535_336_2e-4_f32;
    let p = p * r + 1.339_887_4e-3;
    let p = p * r + 9.618_437e-3;
    let p = p * r + 5.550_332_5e-2;
    let p = p * r + 2.402_264_8e-1;
    let p = p * r + 6.931_472e-1;
    let p = p * r + 1.0;
    // A NaN has a meaningless n, but a polynomial that is NaN.
    let n = if x.is_nan() { 0 } else { n };
    scale_by_power(p, n)
}

/// `e^x`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let clamped = if x > 89.0 { 89.0 } else { x };
    let clamped = if clamped < -105.0 { -105.0 } else { clamped };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = shifted.to_bits() as i32 - ROUND.to_bits() as i32;
    let whole = shifted - ROUND;
    // ln 2 in two parts, the first with few enough bits that its multiples are exact.
    let r = clamped - whole * 0.693_359_4;
    let r = r + whole * 2.121_944_4e-4;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let p = p * (r * r) + r + 1.0;
    let n = if x.is_nan() { 0 } else { n };
    scale_by_power(p, n)
}

/// `1 / (1 + e^-x)`, accurate relative to its own size.
#[inline(always)]
pub(super) fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    numerator / (1.0 + e)
}

/// The hyperbolic tangent.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let magnitude = x.abs();
    let far = 1.0 - 2.0 / (exp(2.0 * magnitude) + 1.0);
    let z = x * x;
    let p = -5.704_988_7e-3_f32;
    let p = p * z + 2.063_908_8e-2;
    let p = p * z - 5.373_971_5e-2;
    let p = p * z + 1.333_144_2e-1;
    let p = p * z - 3.333_328e-1;
    let near = x + x * z * p;
    // The comparison is false for a NaN, whose `far` is NaN.
    if magnitude < 0.625 { near } else { far.copysign(x) }
}

/// `ln(1 + e^x)`, without overflow.
#[inline]
pub(super) fn softplus(x: f32) -> f32 {
    // The sum keeps a NaN, which max alone would drop.
    if x.is_nan() { x } else { x.max(0.0) + exp(-x.abs()).ln_1p() }
}

/// The largest value, ignoring NaN; minus infinity of nothing.
pub(super) fn max_of(values: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| larger(a, b))
}

/// The sum of `f` of each value, in eight interleaved partial sums: the same order on every machine.
#[inline]
pub(super) fn sum_of(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    let chunks = values.chunks_exact(8);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += f(x);
    }
    ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest relative error over a sweep, where the exact value is a normal f32.
    fn worst(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, low: f32, high: f32) -> f64 {
        let steps = 200_000;
        (0..=steps)
            .map(|i| low + (high - low) * (i as f32 / steps as f32))
            .map(|x| {
                let e = exact(f64::from(x));
                if e.abs() < f64::from(f32::MIN_POSITIVE) || e.abs() > f64::from(f32::MAX) {
                    return 0.0;
                }
                ((f64::from(f(x)) - e) / e).abs()
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn errors_are_a_few_units_in_the_last_place() {
        let ulp = f64::from(f32::EPSILON);
        assert!(worst(exp2, f64::exp2, -126.0, 128.0) < 2.0 * ulp);
        assert!(worst(exp, f64::exp, -87.0, 88.7) < 2.0 * ulp);
        assert!(worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -86.0, 30.0) < 3.0 * ulp);
        assert!(worst(tanh, f64::tanh, -12.0, 12.0) < 3.0 * ulp);
        assert!(worst(softplus, |x| x.exp().ln_1p(), -80.0, 80.0) < 3.0 * ulp);
    }

    #[test]
    fn special_values() {
        assert_eq!([exp2(f32::NEG_INFINITY), exp2(f32::INFINITY), exp2(0.0)], [0.0, f32::INFINITY, 1.0]);
        assert_eq!([exp(f32::NEG_INFINITY), exp(f32::INFINITY), exp(0.0)], [0.0, f32::INFINITY, 1.0]);
        assert_eq!([exp2(-149.0), exp2(-151.0)], [f32::from_bits(1), 0.0]);
        assert_eq!([exp2(127.0), exp2(128.0), exp(-200.0)], [2f32.powi(127), f32::INFINITY, 0.0]);
        assert_eq!([sigmoid(f32::NEG_INFINITY), sigmoid(f32::INFINITY)], [0.0, 1.0]);
        assert_eq!([tanh(f32::NEG_INFINITY), tanh(f32::INFINITY), tanh(0.0)], [-1.0, 1.0, 0.0]);
        assert_eq!([softplus(f32::NEG_INFINITY), softplus(f32::INFINITY)], [0.0, f32::INFINITY]);
        for f in [exp2, exp, sigmoid, tanh, softplus] {
            assert!(f(f32::NAN).is_nan());
        }
    }
}
