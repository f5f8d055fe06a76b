//! What one warp does: `primitive_warp.cu`.

use crate::support::case::{Case, bytes};
use crate::support::fixture::with_prelude;
use crate::support::random::Random;

/// What NaN becomes.
const CANONICAL_NAN: u32 = 0x7fff_ffff;

fn case(entry: &'static str) -> Case {
    Case::new(entry, with_prelude(&[], include_str!("../../kernels/primitive_warp.cu")), entry, 32)
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        shuffles(),
        conversions(),
        exponentials(),
        logarithms(),
        load_matrices(),
        store_matrices(),
        multiply_16("multiply_matrices_bf16", |x| half::bf16::from_f32(x).to_bits()),
        multiply_16("multiply_matrices_f16", |x| half::f16::from_f32(x).to_bits()),
        multiply_tf32(),
    ]
}

fn shuffles() -> Case {
    let mut random = Random::new(1);
    let input: Vec<u32> = (0..32).map(|_| random.word()).collect();
    let mut expected = Vec::new();
    let mut record = |value: &dyn Fn(usize) -> u32| expected.extend((0..32).map(value));
    for distance in [1, 2, 4, 8, 16] {
        record(&|lane| input[lane ^ distance]);
    }
    record(&|_| input[7]);
    record(&|lane| input[lane / 8 * 8 + (lane + 3) % 8]);
    record(&|lane| input[if lane >= 3 { lane - 3 } else { lane }]);
    record(&|lane| input[if lane % 16 + 5 < 16 { lane + 5 } else { lane }]);
    record(&|lane| input[lane ^ 2]);
    record(&|_| u32::from(input.iter().any(|value| value % 64 == 1)));
    record(&|_| u32::from(input.iter().all(|value| value % 64 < 63)));
    record(&|_| input.iter().enumerate().map(|(lane, value)| (value & 1) << lane).sum());
    record(&|_| 1);
    record(&|lane| if lane < 16 { input[lane ^ 4] } else { 0 });
    case("shuffles").reads("in", bytes(input)).writes("out", bytes(expected))
}

fn conversions() -> Case {
    let mut random = Random::new(2);
    let mut input: Vec<f32> = (0..600).map(|_| f32::from_bits(random.word())).collect();
    input.extend((0..400).map(|_| random.normal()));
    // halfway between two bf16, two f16, two tf32; the largest ones and beyond; subnormal ones; special ones
    let mantissas =
        [0x0000_8000_u32, 0x0001_8000, 0x0000_1000, 0x0000_3000, 0x0000_7fff, 0x0000_8001, 0x0000_0fff, 0x0000_1001];
    input.extend(mantissas.iter().flat_map(|bits| [0x3f80_0000 | bits, 0xc2f0_0000 | bits, *bits].map(f32::from_bits)));
    input.extend([65504.0, 65519.9, 65520.0, -65536.0, f32::MAX, f32::MIN, 3.389_531_4e38, 3.4e38]);
    input.extend([6.1e-5, 5.96e-8, 2.98e-8, 2.99e-8, -1e-8, f32::MIN_POSITIVE, 1e-40]);
    input.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::from_bits(0xff80_0001)]);
    let count = input.len();
    let bf16 = |x: f32| if x.is_nan() { 0x7fff } else { half::bf16::from_f32(x).to_bits() };
    let f16 = |x: f32| if x.is_nan() { 0x7fff } else { half::f16::from_f32(x).to_bits() };
    let pair = |low: u16, high: u16| u32::from(low) | u32::from(high) << 16;
    let tf32 = |x: f32| match x.to_bits() {
        bits if x.is_nan() => bits & !0x1fff,
        bits if x.is_infinite() => bits,
        bits => (bits + 0x1000) & !0x1fff,
    };
    let next = |i: usize| input[(i + 1) % count];
    let expected: Vec<u32> = (0..count)
        .map(|i| pair(bf16(input[i]), bf16(next(i))))
        .chain((0..count).map(|i| pair(f16(input[i]), f16(next(i)))))
        .chain(input.iter().map(|&x| tf32(x)))
        .collect();
    elementwise("conversions", &input, bytes(expected))
}

fn elementwise(entry: &'static str, input: &[f32], expected: Vec<u8>) -> Case {
    let count = i32::try_from(input.len()).expect("a small count");
    let blocks = input.len().div_ceil(32) as u32;
    case(entry).blocks(blocks).reads("in", bytes(input.iter().copied())).writes("out", expected).value(bytes([count]))
}

fn exponentials() -> Case {
    let power = |k: i32| match k {
        ..-126 => 0.0,
        -126..128 => f32::from_bits(((k + 127) as u32) << 23),
        _ => f32::INFINITY,
    };
    let exponents: Vec<i32> = (-200..200).collect();
    let special = [
        (0.0, 1.0_f32.to_bits()),
        (-0.0, 1.0_f32.to_bits()),
        (1e-40, 1.0_f32.to_bits()),
        (f32::INFINITY, f32::INFINITY.to_bits()),
        (f32::NEG_INFINITY, 0),
        (f32::NAN, CANONICAL_NAN),
        (1e30, f32::INFINITY.to_bits()),
        (-1e30, 0),
    ];
    let input: Vec<f32> = exponents.iter().map(|&k| k as f32).chain(special.map(|(x, _)| x)).collect();
    let expected = exponents.iter().map(|&k| power(k).to_bits()).chain(special.map(|(_, y)| y));
    elementwise("exponentials", &input, bytes(expected))
}

fn logarithms() -> Case {
    // elsewhere the instruction is approximate, also at powers of two
    let special = [
        (0.0, f32::NEG_INFINITY.to_bits()),
        (1e-40, f32::NEG_INFINITY.to_bits()),
        (f32::INFINITY, f32::INFINITY.to_bits()),
        (-1.0, CANONICAL_NAN),
        (f32::NAN, CANONICAL_NAN),
    ];
    let input = special.map(|(x, _)| x);
    let expected = special.map(|(_, y)| y);
    elementwise("logarithms", &input, bytes(expected))
}

/// The row of 16 bytes that a lane's address names.
fn scrambled_row(lane: usize) -> usize {
    (lane * 5 + 3) % 32
}

/// The elements of matrix `matrix` that a lane holds: their places in an array of rows of 8 elements.
fn held(matrix: usize, lane: usize, transposed: bool) -> [usize; 2] {
    [0, 1].map(|i| {
        let (row, column) = if transposed { (lane % 4 * 2 + i, lane / 4) } else { (lane / 4, lane % 4 * 2 + i) };
        scrambled_row(matrix * 8 + row) * 8 + column
    })
}

const COUNTS: [(usize, bool); 6] = [(1, false), (1, true), (2, false), (2, true), (4, false), (4, true)];

fn load_matrices() -> Case {
    let mut random = Random::new(3);
    let elements: Vec<u16> = (0..256).map(|_| random.word() as u16).collect();
    let mut expected = Vec::new();
    for (count, transposed) in COUNTS {
        for matrix in 0..count {
            expected.extend((0..32).flat_map(|lane| held(matrix, lane, transposed).map(|place| elements[place])));
        }
    }
    case("load_matrices").reads("in", bytes(elements)).writes("out", bytes(expected))
}

fn store_matrices() -> Case {
    let mut random = Random::new(4);
    let elements: Vec<u16> = (0..256).map(|_| random.word() as u16).collect();
    let mut expected = Vec::new();
    for (count, transposed) in COUNTS.into_iter().filter(|&kind| kind != (1, true)) {
        let mut rows = vec![0_u16; 256];
        for (matrix, lane, i) in (0..count).flat_map(|m| (0..32).flat_map(move |l| [(m, l, 0), (m, l, 1)])) {
            rows[held(matrix, lane, transposed)[i]] = elements[(matrix * 32 + lane) * 2 + i];
        }
        expected.extend(rows);
    }
    case("store_matrices").reads("in", bytes(elements)).writes("out", bytes(expected))
}

fn integers(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.integer(9) as f32).collect()
}

/// `c + a b` with a by rows of `depth`, b by columns of `depth`.
fn product(c: &[f32], a: &[f32], b: &[f32], depth: usize) -> Vec<f32> {
    let entry = |i: usize| {
        let (row, column) = (i / 8, i % 8);
        c[i] + (0..depth).map(|k| a[row * depth + k] * b[column * depth + k]).sum::<f32>()
    };
    (0..128).map(entry).collect()
}

fn multiply_16(entry: &'static str, round: impl Fn(f32) -> u16) -> Case {
    let mut random = Random::new(5);
    let [a, b, c] = [16 * 16, 8 * 16, 16 * 8].map(|count| integers(&mut random, count));
    let result = product(&c, &a, &b, 16);
    let rounded = |values: &[f32]| bytes(values.iter().map(|&x| round(x)));
    case(entry).reads("a", rounded(&a)).reads("b", rounded(&b)).updates("c", bytes(c), bytes(result))
}

fn multiply_tf32() -> Case {
    let mut random = Random::new(6);
    let [a, b, c] = [16 * 8, 8 * 8, 16 * 8].map(|count| integers(&mut random, count));
    let result = product(&c, &a, &b, 8);
    case("multiply_matrices_tf32").reads("a", bytes(a)).reads("b", bytes(b)).updates("c", bytes(c), bytes(result))
}
