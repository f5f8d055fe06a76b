//! `wgmma.mma_async.m64nNk16` with 16-bit operands and f32 accumulators: operands from bytes, and their product.
//!
//! Matrices are row-major slices: A is 64 x 16, B is kept as N x 16 (each column of B contiguous in depth, as its shared-memory
//! operand is described), the accumulator is 64 x N. Sums are formed as those of [`mma`](super::mma): in f64, rounded to f32 once.
//!
//! Source: PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions".

use super::descriptor::{DEPTH, Major, Piece};
use super::element::Element;
use super::fragment::wgmma_a;
use super::mma::{COLUMNS, add_products};

/// Rows of A.
pub(crate) const ROWS: usize = 64;
const DEPTHS: usize = DEPTH as usize;

/// An operand in shared memory as a row-major `extent` x 16 matrix. `read` fetches the 16 bytes at a shared-memory address.
pub(crate) fn operand_from_shared(
    element: Element,
    major: Major,
    pieces: &[Piece],
    mut read: impl FnMut(u32) -> [u8; 16],
) -> Vec<f32> {
    let mut bits = vec![0; pieces.len() * 8];
    for piece in pieces {
        let first = piece.row as usize * DEPTHS + piece.depth as usize;
        let step = match major {
            Major::Depth => 1,
            Major::Rows => DEPTHS,
        };
        for (i, pair) in read(piece.address).as_chunks::<2>().0.iter().enumerate() {
            bits[first + i * step] = u16::from_le_bytes(*pair);
        }
    }
    let mut values = vec![0.0; bits.len()];
    element.decode(&bits, &mut values);
    values
}

/// A from the registers of a warpgroup's 128 threads, as a row-major 64 x 16 matrix.
pub(crate) fn operand_from_registers(element: Element, registers: &[[u32; 4]; 128]) -> Vec<f32> {
    let mut bits = [0; ROWS * DEPTHS];
    for (thread, registers) in registers.iter().enumerate() {
        for (register, &pair) in registers.iter().enumerate() {
            for (half, value) in Element::halves(pair).into_iter().enumerate() {
                let (row, depth) = wgmma_a(thread, register, half);
                bits[row * DEPTHS + depth] = value;
            }
        }
    }
    let mut values = vec![0.0; bits.len()];
    element.decode(&bits, &mut values);
    values
}

/// `accumulator = signs[0] A * signs[1] B (+ accumulator)`. A sign is 1 or -1: `imm-scale-a` and `imm-scale-b`.
///
/// # Panics
/// If `n` isn't a multiple of 8, or a slice hasn't 64 x 16, `n` x 16 or 64 x `n` elements.
pub(crate) fn multiply(n: usize, a: &[f32], b: &[f32], accumulate: bool, signs: [i32; 2], accumulator: &mut [f32]) {
    assert!(n.is_multiple_of(COLUMNS), "wgmma has a multiple of 8 columns, not {n}");
    let (rows, rest) = a.as_chunks::<DEPTHS>();
    assert!(rows.len() == ROWS && rest.is_empty(), "A has 64 x 16 elements, not {}", a.len());
    let (columns, rest) = b.as_chunks::<DEPTHS>();
    assert!(columns.len() == n && rest.is_empty(), "B has {n} x 16 elements, not {}", b.len());
    assert_eq!(accumulator.len(), ROWS * n, "the accumulator has 64 x {n} elements");

    // Negating the product is negating A: exact either way.
    let sign = f64::from(signs[0] * signs[1]);
    let rows: Vec<[f64; DEPTHS]> = rows.iter().map(|row| row.map(|value| f64::from(value) * sign)).collect();
    let (accumulators, _) = accumulator.as_chunks_mut::<COLUMNS>();
    for (block, columns) in columns.as_chunks::<COLUMNS>().0.iter().enumerate() {
        let transposed: [[f64; COLUMNS]; DEPTHS] =
            std::array::from_fn(|depth| std::array::from_fn(|column| f64::from(columns[column][depth])));
        for (row, values) in rows.iter().zip(accumulators[block..].iter_mut().step_by(n / COLUMNS)) {
            let mut sums = if accumulate { values.map(f64::from) } else { [0.0; COLUMNS] };
            add_products(row, &transposed, &mut sums);
            *values = sums.map(|sum| sum as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::descriptor::Descriptor;
    use super::*;

    fn a_value(row: usize, depth: usize) -> f32 {
        (row as f32 - 30.0) * 0.5 + (depth * depth) as f32
    }
    fn b_value(column: usize, depth: usize) -> f32 {
        (column % 17) as f32 - depth as f32 * 0.25
    }
    fn matrix(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        (0..rows * columns).map(|i| value(i / columns, i % columns)).collect()
    }

    #[test]
    fn multiplies_every_width_and_sign() {
        let a = matrix(64, 16, a_value);
        for n in (8..=256).step_by(8) {
            let b = matrix(n, 16, b_value);
            let before = matrix(64, n, |row, column| (row * 3 + column) as f32);
            for (signs, factor) in [([1, 1], 1.0), ([-1, 1], -1.0), ([1, -1], -1.0), ([-1, -1], 1.0)] {
                for accumulate in [false, true] {
                    let mut result = before.clone();
                    multiply(n, &a, &b, accumulate, signs, &mut result);
                    for row in 0..64 {
                        for column in 0..n {
                            let product: f32 = (0..16).map(|k| a_value(row, k) * b_value(column, k)).sum();
                            let old = if accumulate { before[row * n + column] } else { 0.0 };
                            assert_eq!(result[row * n + column], old + factor * product, "{n} ({row}, {column})");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn without_accumulation_old_poison_is_gone() {
        let mut result = vec![f32::NAN; 64 * 8];
        multiply(8, &vec![1.0; 64 * 16], &vec![1.0; 8 * 16], false, [1, 1], &mut result);
        assert!(result.iter().all(|&value| value == 16.0));
        result[9] = f32::NAN;
        multiply(8, &vec![1.0; 64 * 16], &vec![1.0; 8 * 16], true, [1, 1], &mut result);
        assert!(result.iter().enumerate().all(|(i, value)| value.is_nan() == (i == 9)));
    }

    #[test]
    fn registers_are_read_by_the_layout_of_a() {
        // Thread = 32 warp + 4 row + pair; registers: upper left, lower left, upper right, lower right of the warp's 16 x 16.
        let pair = |row: usize, depth: usize| {
            let half = |depth| u32::from(Element::F16.bits(a_value(row, depth)));
            half(depth) | half(depth + 1) << 16
        };
        let registers: [[u32; 4]; 128] = std::array::from_fn(|thread| {
            let (row, depth) = (thread / 32 * 16 + thread % 32 / 4, thread % 4 * 2);
            [pair(row, depth), pair(row + 8, depth), pair(row, depth + 8), pair(row + 8, depth + 8)]
        });
        assert_eq!(operand_from_registers(Element::F16, &registers), matrix(64, 16, a_value));
    }

    #[test]
    fn operands_come_from_memory_in_either_major() {
        // Unswizzled blocks of 8 x 8: blocks along rows 128 bytes apart, along depth 1024.
        let descriptor =
            Descriptor { start: 256, leading: 1024, stride: 128, swizzle: super::super::swizzle::Swizzle::None };
        for major in [Major::Depth, Major::Rows] {
            let mut memory = vec![0; 4096];
            for row in 0..64 {
                for depth in 0..16 {
                    let (outer, inner) = if major == Major::Depth { (row, depth) } else { (depth, row) };
                    let address = 256 + row / 8 * 128 + depth / 8 * 1024 + outer % 8 * 16 + inner % 8 * 2;
                    let bits = Element::Bf16.bits((row * 16 + depth) as f32 / 4.0);
                    memory[address..address + 2].copy_from_slice(&bits.to_le_bytes());
                }
            }
            let pieces = descriptor.pieces(major, 64).unwrap();
            let read = |address: u32| memory[address as usize..address as usize + 16].try_into().unwrap();
            let values = operand_from_shared(Element::Bf16, major, &pieces, read);
            let expected =
                matrix(64, 16, |row, depth| Element::Bf16.value(Element::Bf16.bits((row * 16 + depth) as f32 / 4.0)));
            assert_eq!(values, expected);
        }
    }

    /// Prints the time of a call: `cargo test --release -p attn-sim -- --ignored --nocapture speed_of_wgmma`.
    #[test]
    #[ignore = "a measurement"]
    fn speed_of_wgmma() {
        for n in [64, 128, 256] {
            let (a, b) = (matrix(64, 16, a_value), matrix(n, 16, b_value));
            let mut result = vec![0.0; 64 * n];
            let begin = std::time::Instant::now();
            for _ in 0..1000 {
                multiply(n, std::hint::black_box(&a), std::hint::black_box(&b), true, [1, 1], &mut result);
            }
            println!("m64n{n}k16: {:?} a call", begin.elapsed() / 1000);
        }
    }
}
