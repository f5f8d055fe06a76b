//! `wgmma`: `primitive_wgmma.cu` over shapes, element types, and ways to lay operands out in shared memory.

use crate::support::case::{Case, Swizzle, bytes};
use crate::support::fixture::with_prelude;
use crate::support::random::Random;
use crate::support::wgmma::Wgmma;

/// Steps of 16 along the depth.
const STEPS: usize = 4;
const DEPTH: usize = 16 * STEPS;

/// An operand in shared memory and its descriptor's fields.
struct Operand {
    image: Vec<u8>,
    leading: usize,
    stride: usize,
    swizzle: u32,
    steps: [usize; 8],
}

/// How `rows` x `DEPTH` elements lie in shared memory: without `transposed` the depth is contiguous, with it the rows are.
#[derive(Clone, Copy)]
struct Layout {
    rows: usize,
    swizzle: Swizzle,
    transposed: bool,
}

impl Layout {
    /// Elements of one row of a chunk, which is as wide as the swizzle.
    fn chunk(self) -> usize {
        self.swizzle.span() / 2
    }

    /// Bytes that lead to the next chunk (without a swizzle: the next block of 8 x 8 along the depth), and to the next 8.
    fn leading_and_stride(self) -> (usize, usize) {
        match (self.swizzle, self.transposed) {
            (Swizzle::None, false) => (self.rows * 16, 128),
            (Swizzle::None, true) => (128, DEPTH / 8 * 128),
            // not used: steps name their chunk
            (swizzle, false) => (16, 8 * swizzle.span()),
            (swizzle, true) => (DEPTH * swizzle.span(), 8 * swizzle.span()),
        }
    }

    /// Where an element lies before the exchange of pieces.
    fn place(self, row: usize, k: usize) -> usize {
        let (leading, stride) = self.leading_and_stride();
        let (span, chunk) = (self.swizzle.span(), self.chunk());
        match (self.swizzle, self.transposed) {
            (Swizzle::None, false) => k / 8 * leading + row / 8 * stride + row % 8 * 16 + k % 8 * 2,
            (Swizzle::None, true) => k / 8 * leading + row / 8 * stride + k % 8 * 16 + row % 8 * 2,
            (_, false) => k / chunk * self.rows * span + row * span + k % chunk * 2,
            (_, true) => row / chunk * leading + k * span + row % chunk * 2,
        }
    }

    fn bytes(self) -> usize {
        let rows = if self.transposed { self.rows.next_multiple_of(self.chunk()) } else { self.rows };
        rows * DEPTH * 2
    }
}

impl Operand {
    fn new(elements: &[u16], layout: Layout) -> Self {
        let mut image = vec![0; layout.bytes()];
        for (index, element) in elements.iter().enumerate() {
            let at = layout.swizzle.place(layout.place(index / DEPTH, index % DEPTH));
            image[at..at + 2].copy_from_slice(&element.to_ne_bytes());
        }
        let swizzle = match layout.swizzle {
            Swizzle::None => 0,
            Swizzle::Bytes128 => 1,
            Swizzle::Bytes64 => 2,
            Swizzle::Bytes32 => 3,
        };
        let (leading, stride) = layout.leading_and_stride();
        let steps = std::array::from_fn(|step| if step < STEPS { layout.place(0, 16 * step) } else { 0 });
        Self { image, leading, stride, swizzle, steps }
    }

    /// `struct Operand` of the kernel.
    fn description(&self) -> Vec<u8> {
        let head = [self.image.len(), self.leading, self.stride, self.swizzle as usize];
        bytes(head.into_iter().chain(self.steps).map(|value| value as u32))
    }
}

fn case(wgmma: Wgmma, a_swizzle: Swizzle, b_swizzle: Swizzle) -> Case {
    let mut random = Random::new(wgmma.n as u64);
    let mut integers = |count: usize| -> Vec<f32> { (0..count).map(|_| random.integer(4) as f32).collect() };
    let (a, b) = (integers(64 * DEPTH), integers(wgmma.n * DEPTH));
    let entry =
        |row: usize, column: usize| -> f32 { (0..DEPTH).map(|k| a[row * DEPTH + k] * b[column * DEPTH + k]).sum() };
    let expected: Vec<f32> =
        (0..64).flat_map(|row| (0..wgmma.n).map(move |column| (row, column))).map(|(r, c)| entry(r, c)).collect();
    let round = |values: &[f32]| -> Vec<u16> {
        let bits = |&x: &f32| {
            if wgmma.element == "f16" { half::f16::from_f32(x).to_bits() } else { half::bf16::from_f32(x).to_bits() }
        };
        values.iter().map(bits).collect()
    };
    let mut a_operand =
        Operand::new(&round(&a), Layout { rows: 64, swizzle: a_swizzle, transposed: wgmma.a_transposed });
    if wgmma.a_in_registers {
        a_operand.image = bytes(round(&a)); // by rows: the kernel takes fragments from global memory
    }
    let b_operand =
        Operand::new(&round(&b), Layout { rows: wgmma.n, swizzle: b_swizzle, transposed: wgmma.b_transposed });
    let kernel = format!(
        "#define N {}\n#define K_STEPS {STEPS}\n#define A_IN_REGISTERS {}\n#define MULTIPLY {}\n{}",
        wgmma.n,
        u32::from(wgmma.a_in_registers),
        wgmma.name(),
        include_str!("../../kernels/primitive_wgmma.cu")
    );
    let name = format!("{} n {} swizzles {a_swizzle:?}, {b_swizzle:?}", wgmma.name(), wgmma.n);
    let shared_memory = 1024 + a_operand.image.len().next_multiple_of(1024) + b_operand.image.len();
    let descriptions = [a_operand.description(), b_operand.description()];
    let [a_description, b_description] = descriptions;
    Case::new(name, with_prelude(&[wgmma], &kernel), "wgmma_product", 128)
        .reads("a", a_operand.image)
        .reads("b", b_operand.image)
        .writes("out", bytes(expected))
        .value(a_description)
        .value(b_description)
        .shared_memory(shared_memory)
}

pub(crate) fn cases() -> Vec<Case> {
    use Swizzle::{Bytes32, Bytes64, Bytes128};
    let mut cases = Vec::new();
    for n in [8, 64, 96, 128, 256] {
        cases.push(case(Wgmma::shared(n), Bytes128, Bytes128));
        cases.push(case(Wgmma::registers(n).b_transposed(), Bytes128, Bytes128));
    }
    // every other width, with the operands and elements in turn
    for (at, n) in (8..=256).step_by(8).filter(|n| ![8, 64, 96, 128, 256].contains(n)).enumerate() {
        let a = [Wgmma::shared(n), Wgmma::shared(n).a_transposed(), Wgmma::registers(n)][at % 3];
        let b = if at / 3 % 2 == 0 { a } else { a.b_transposed() };
        cases.push(case(if at / 6 % 2 == 0 { b } else { b.f16() }, Bytes128, Bytes128));
    }
    for swizzle in Swizzle::ALL {
        cases.push(case(Wgmma::shared(64), swizzle, swizzle));
        cases.push(case(Wgmma::shared(128).b_transposed(), swizzle, swizzle));
        cases.push(case(Wgmma::shared(64).a_transposed(), swizzle, swizzle));
        cases.push(case(Wgmma::shared(96).a_transposed().b_transposed(), swizzle, swizzle));
    }
    cases.push(case(Wgmma::shared(64), Bytes32, Bytes64));
    cases.push(case(Wgmma::shared(128).a_transposed().b_transposed().f16(), Bytes64, Bytes128));
    cases.push(case(Wgmma::registers(64).f16(), Bytes128, Bytes128));
    cases
}
