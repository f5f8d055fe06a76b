//! `mma.sync`: a warp multiplies two small matrices that its registers hold.
//!
//! # Rounding
//! A product of two 16-bit floats, or of two tf32, is exact in f64. PTX says that the products are accumulated with at least
//! single precision and leaves order and rounding of the sums open; real tensor cores align and truncate in ways that differ by
//! generation. So no choice here is bit-equal to all hardware. This one sums in f64, the old accumulator first, and rounds to f32
//! once: the result is the correctly rounded sum in all but contrived cases, hence doesn't depend on an order that PTX doesn't
//! promise, and wherever every partial sum is representable in f32 (integers, powers of two) it is bit-equal to any hardware.
//! Subnormals are kept, as tensor cores keep them.
//!
//! Source: PTX ISA 9.0, "Warp Level Matrix Multiply-Accumulate Instructions: mma".

use super::element::Element;
use super::fragment::{m16n8_c, m16n8k8_tf32_a, m16n8k8_tf32_b, m16n8k16_a, m16n8k16_b};

/// Columns that one inner loop computes: those of B in `mma.m16n8`, and a divisor of those in every `wgmma`.
pub(super) const COLUMNS: usize = 8;

/// Adds to eight sums the products of a row of A with eight columns of B.
#[inline(always)]
pub(super) fn add_products<const DEPTH: usize>(
    row: &[f64; DEPTH],
    columns: &[[f64; COLUMNS]; DEPTH],
    sums: &mut [f64; COLUMNS],
) {
    for (&left, right) in row.iter().zip(columns) {
        for (sum, &right) in sums.iter_mut().zip(right) {
            *sum += left * right;
        }
    }
}

/// The `D = A B + C` of all `mma.m16n8`, on matrices.
fn multiply<const DEPTH: usize>(a: &[[f32; DEPTH]; 16], b: &[[f32; COLUMNS]; DEPTH], c: &mut [[f32; 4]; 32]) {
    let b = b.map(|row| row.map(f64::from));
    let mut sums = [[0.0; COLUMNS]; 16];
    for (lane, registers) in c.iter().enumerate() {
        for (register, &value) in registers.iter().enumerate() {
            let (row, column) = m16n8_c(lane, register);
            sums[row][column] = f64::from(value);
        }
    }
    for (row, sums) in a.iter().zip(&mut sums) {
        add_products(&row.map(f64::from), &b, sums);
    }
    for (lane, registers) in c.iter_mut().enumerate() {
        for (register, value) in registers.iter_mut().enumerate() {
            let (row, column) = m16n8_c(lane, register);
            *value = sums[row][column] as f32;
        }
    }
}

/// `mma.sync.aligned.m16n8k16.row.col.f32` with f16 or bf16 operands: `c` receives `a b + c`. Indices are lane, register.
pub(crate) fn multiply_m16n8k16(element: Element, a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &mut [[f32; 4]; 32]) {
    let mut a_bits = [[0; 16]; 16];
    let mut b_bits = [[0; COLUMNS]; 16];
    for lane in 0..32 {
        for (register, &pair) in a[lane].iter().enumerate() {
            for (half, bits) in Element::halves(pair).into_iter().enumerate() {
                let (row, depth) = m16n8k16_a(lane, register, half);
                a_bits[row][depth] = bits;
            }
        }
        for (register, &pair) in b[lane].iter().enumerate() {
            for (half, bits) in Element::halves(pair).into_iter().enumerate() {
                let (depth, column) = m16n8k16_b(lane, register, half);
                b_bits[depth][column] = bits;
            }
        }
    }
    let mut a_values = [[0.0; 16]; 16];
    let mut b_values = [[0.0; COLUMNS]; 16];
    element.decode(a_bits.as_flattened(), a_values.as_flattened_mut());
    element.decode(b_bits.as_flattened(), b_values.as_flattened_mut());
    multiply(&a_values, &b_values, c);
}

/// The value of a register that is read as tf32: the low 13 bits don't take part. (PTX leaves them unspecified; tensor cores
/// ignore them, and kernels that split a float into high and low parts rely on that.)
#[inline]
fn tf32(bits: u32) -> f32 {
    f32::from_bits(bits & !0x1FFF)
}

/// `mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32`: `c` receives `a b + c`. Indices are lane, register.
pub(crate) fn multiply_m16n8k8_tf32(a: &[[u32; 4]; 32], b: &[[u32; 2]; 32], c: &mut [[f32; 4]; 32]) {
    let mut a_values = [[0.0; 8]; 16];
    let mut b_values = [[0.0; COLUMNS]; 8];
    for lane in 0..32 {
        for (register, &bits) in a[lane].iter().enumerate() {
            let (row, depth) = m16n8k8_tf32_a(lane, register);
            a_values[row][depth] = tf32(bits);
        }
        for (register, &bits) in b[lane].iter().enumerate() {
            let (depth, column) = m16n8k8_tf32_b(lane, register);
            b_values[depth][column] = tf32(bits);
        }
    }
    multiply(&a_values, &b_values, c);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The element of a 16-bit A (16 x 16) and B (16 x 8) by looking for the register that holds it, as the manual's figures do.
    fn pack(element: Element, matrix: impl Fn(usize, usize) -> f32, low: (usize, usize), high: (usize, usize)) -> u32 {
        let half = |(row, column)| u32::from(element.bits(matrix(row, column)));
        half(low) | half(high) << 16
    }

    fn fragments(
        element: Element,
        a: impl Fn(usize, usize) -> f32,
        b: impl Fn(usize, usize) -> f32,
    ) -> ([[u32; 4]; 32], [[u32; 2]; 32]) {
        let (mut registers_a, mut registers_b) = ([[0; 4]; 32], [[0; 2]; 32]);
        for lane in 0..32 {
            let (g, t) = (lane >> 2, 2 * (lane & 3));
            registers_a[lane] = [
                pack(element, &a, (g, t), (g, t + 1)),
                pack(element, &a, (g + 8, t), (g + 8, t + 1)),
                pack(element, &a, (g, t + 8), (g, t + 9)),
                pack(element, &a, (g + 8, t + 8), (g + 8, t + 9)),
            ];
            registers_b[lane] = [pack(element, &b, (t, g), (t + 1, g)), pack(element, &b, (t + 8, g), (t + 9, g))];
        }
        (registers_a, registers_b)
    }

    /// Where the manual's figure has row, column of C.
    fn c_of(c: &[[f32; 4]; 32], row: usize, column: usize) -> f32 {
        c[row % 8 * 4 + column / 2][row / 8 * 2 + column % 2]
    }

    /// Values that differ by index and have products and sums that f32 represents.
    fn a_value(row: usize, depth: usize) -> f32 {
        (row as f32 - 7.0) * 0.5 + depth as f32
    }
    fn b_value(depth: usize, column: usize) -> f32 {
        (3 * depth % 7) as f32 - column as f32 * 0.25
    }
    fn c_value(lane: usize, register: usize) -> f32 {
        (lane * 4 + register) as f32
    }
    fn initial() -> [[f32; 4]; 32] {
        std::array::from_fn(|lane| std::array::from_fn(|register| c_value(lane, register)))
    }

    #[test]
    fn m16n8k16_multiplies_matrices() {
        for element in [Element::F16, Element::Bf16] {
            let (a, b) = fragments(element, a_value, b_value);
            let mut c = initial();
            multiply_m16n8k16(element, &a, &b, &mut c);
            for row in 0..16 {
                for column in 0..8 {
                    let product: f32 = (0..16).map(|k| a_value(row, k) * b_value(k, column)).sum();
                    let before = c_of(&initial(), row, column);
                    assert_eq!(c_of(&c, row, column), before + product, "{element:?} ({row}, {column})");
                }
            }
        }
    }

    #[test]
    fn every_element_of_the_operands_counts_once() {
        for position in 0..256 {
            let (row, depth) = (position / 16, position % 16);
            let (a, b) =
                fragments(Element::F16, |r, k| f32::from((r, k) == (row, depth)), |k, n| (k * 8 + n + 1) as f32);
            let mut c = [[0.0; 4]; 32];
            multiply_m16n8k16(Element::F16, &a, &b, &mut c);
            for r in 0..16 {
                for n in 0..8 {
                    let expected = if r == row { (depth * 8 + n + 1) as f32 } else { 0.0 };
                    assert_eq!(c_of(&c, r, n), expected);
                }
            }
        }
    }

    #[test]
    fn m16n8k8_tf32_multiplies_and_ignores_low_bits() {
        let (mut a, mut b) = ([[0; 4]; 32], [[0; 2]; 32]);
        for lane in 0..32 {
            let (g, t) = (lane >> 2, lane & 3);
            let left = [(g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4)];
            a[lane] = left.map(|(row, k)| a_value(row, k).to_bits() | 0x1FFF);
            b[lane] = [(t, g), (t + 4, g)].map(|(k, column)| b_value(k, column).to_bits() | 0x0ABC);
        }
        let mut c = initial();
        multiply_m16n8k8_tf32(&a, &b, &mut c);
        for row in 0..16 {
            for column in 0..8 {
                let product: f32 = (0..8).map(|k| a_value(row, k) * b_value(k, column)).sum();
                assert_eq!(c_of(&c, row, column), c_of(&initial(), row, column) + product, "({row}, {column})");
            }
        }
    }

    #[test]
    fn sums_are_rounded_once() {
        // 2^24 + 16 * 1 + tiny: f32 sums one after another would lose every 1.
        let (a, b) = fragments(Element::Bf16, |_, _| 1.0, |_, _| 1.0);
        let mut c = [[16_777_216.0; 4]; 32];
        multiply_m16n8k16(Element::Bf16, &a, &b, &mut c);
        assert!(c.as_flattened().iter().all(|&value| value == 16_777_232.0));
    }

    #[test]
    fn poison_and_infinity_reach_the_rows_that_read_them_only() {
        for (poison, depth_of) in [(f32::NAN, 3), (f32::INFINITY, 11)] {
            let (a, b) =
                fragments(Element::Bf16, |r, k| if (r, k) == (5, depth_of) { poison } else { 1.0 }, |_, _| 1.0);
            let mut c = [[0.0; 4]; 32];
            multiply_m16n8k16(Element::Bf16, &a, &b, &mut c);
            for row in 0..16 {
                for column in 0..8 {
                    assert_eq!(c_of(&c, row, column).is_finite(), row != 5);
                }
            }
        }
    }

    #[test]
    fn subnormals_are_kept() {
        let (a, b) = fragments(Element::F16, |_, _| 2f32.powi(-24), |k, _| f32::from(k == 0));
        let mut c = [[2f32.powi(-149); 4]; 32];
        multiply_m16n8k16(Element::F16, &a, &b, &mut c);
        assert!(c.as_flattened().iter().all(|&value| value == 2f32.powi(-24)));
        let zero = fragments(Element::F16, |_, _| 0.0, |_, _| 1.0);
        let mut c = [[2f32.powi(-149); 4]; 32];
        multiply_m16n8k16(Element::F16, &zero.0, &zero.1, &mut c);
        assert!(c.as_flattened().iter().all(|&value| value == 2f32.powi(-149)));
    }

    /// Prints the time of a call: `cargo test --release -p attn-sim -- --ignored --nocapture speed_of_mma`.
    #[test]
    #[ignore = "a measurement"]
    fn speed_of_mma() {
        for element in [Element::F16, Element::Bf16] {
            let (a, b) = fragments(element, a_value, b_value);
            let mut c = initial();
            let begin = std::time::Instant::now();
            for _ in 0..100_000 {
                multiply_m16n8k16(element, std::hint::black_box(&a), std::hint::black_box(&b), &mut c);
            }
            println!("m16n8k16 {element:?}: {:?} a call", begin.elapsed() / 100_000);
        }
    }
}
