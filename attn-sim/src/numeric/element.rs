//! The two 16-bit formats that tensor cores multiply.
//!
//! Invariant: widening is exact, so every value of both formats, subnormals, infinities and NaN included, survives it.

#[cfg(test)]
use half::bf16;
use half::{f16, slice::HalfBitsSliceExt, slice::HalfFloatSliceExt};

/// A 16-bit floating-point format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Element {
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

impl Element {
    /// The value of one bit pattern.
    #[cfg(test)]
    pub(crate) fn value(self, bits: u16) -> f32 {
        match self {
            Element::F16 => f16::from_bits(bits).to_f32(),
            Element::Bf16 => bf16::from_bits(bits).to_f32(),
        }
    }

    /// The nearest bit pattern, ties to even: `cvt.rn`.
    #[cfg(test)]
    pub(crate) fn bits(self, value: f32) -> u16 {
        match self {
            Element::F16 => f16::from_f32(value).to_bits(),
            Element::Bf16 => bf16::from_f32(value).to_bits(),
        }
    }

    /// The values of many bit patterns. Both slices have the same length.
    pub(crate) fn decode(self, bits: &[u16], values: &mut [f32]) {
        match self {
            Element::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(values),
            Element::Bf16 => {
                // a shift keeps NaN, for which the library's conversion tests in the inner loop
                assert_eq!(bits.len(), values.len());
                for (value, &bits) in values.iter_mut().zip(bits) {
                    *value = f32::from_bits(u32::from(bits) << 16);
                }
            }
        }
    }

    /// The two values of a register: the lower half first.
    pub(crate) fn halves(register: u32) -> [u16; 2] {
        [register as u16, (register >> 16) as u16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of a binary format, from its fields.
    fn by_definition(bits: u16, exponent_bits: u32, mantissa_bits: u32) -> f64 {
        let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
        let exponent = i32::from(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
        let mantissa = f64::from(bits & ((1 << mantissa_bits) - 1)) / f64::from(1u32 << mantissa_bits);
        let bias = (1 << (exponent_bits - 1)) - 1;
        if exponent == (1 << exponent_bits) - 1 {
            return if mantissa == 0.0 { sign * f64::INFINITY } else { f64::NAN };
        }
        if exponent == 0 {
            sign * mantissa * 2f64.powi(1 - bias)
        } else {
            sign * (1.0 + mantissa) * 2f64.powi(exponent - bias)
        }
    }

    #[test]
    fn every_bit_pattern_has_the_value_of_its_fields() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        for (element, exponent, mantissa) in [(Element::F16, 5, 10), (Element::Bf16, 8, 7)] {
            let mut decoded = vec![0.0; all.len()];
            element.decode(&all, &mut decoded);
            for (&bits, &many) in all.iter().zip(&decoded) {
                let expected = by_definition(bits, exponent, mantissa);
                let one = element.value(bits);
                if expected.is_nan() {
                    assert!(one.is_nan() && many.is_nan(), "{element:?} {bits:#x}");
                } else {
                    assert_eq!(f64::from(one).to_bits(), expected.to_bits(), "{element:?} {bits:#x}");
                    assert_eq!(one.to_bits(), many.to_bits(), "{element:?} {bits:#x}");
                    assert_eq!(element.bits(one), bits);
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        let step = 2f32.powi(-7); // between 1 and 2, bf16
        assert_eq!(Element::Bf16.bits(1.0 + step / 2.0), 0x3F80);
        assert_eq!(Element::Bf16.bits(1.0 + 1.5 * step), 0x3F82);
        assert_eq!(Element::F16.bits(1.0 + 2f32.powi(-11)), 0x3C00);
        assert_eq!(Element::F16.bits(1e6), 0x7C00);
    }

    #[test]
    fn the_lower_half_comes_first() {
        assert_eq!(Element::halves(0x3F80_4000), [0x4000, 0x3F80]);
    }
}
