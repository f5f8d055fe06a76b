//! Boxes of tensors: `primitive_tensor.cu`. Boxes reach over every edge of the tensor, and lie wholly outside.

use crate::support::case::{Argument, Case, Element, Map, Swizzle, bytes};
use crate::support::fixture::with_prelude;
use crate::support::random::Random;

/// A tensor and the boxes that a launch loads or stores.
#[derive(Clone)]
struct Boxes {
    element: Element,
    extents: Vec<u64>,
    /// In bytes, of all axes but the first.
    strides: Vec<u64>,
    box_extents: Vec<u32>,
    swizzle: Swizzle,
    coordinates: Vec<Vec<i32>>,
}

impl Boxes {
    fn rank(&self) -> usize {
        self.extents.len()
    }

    fn box_bytes(&self) -> usize {
        self.box_extents.iter().map(|&extent| extent as usize).product::<usize>() * self.element.bytes()
    }

    fn tensor_bytes(&self) -> usize {
        let outermost = self.rank() - 1;
        match self.strides.last() {
            Some(&stride) => (stride * self.extents[outermost]) as usize,
            None => self.extents[0] as usize * self.element.bytes(),
        }
    }

    /// Every element of a box: its first byte in the box, as shared memory holds it, and in the tensor, if it lies there.
    fn places(&self, coordinate: &[i32]) -> Vec<(usize, Option<usize>)> {
        let bytes = self.element.bytes();
        let count = self.box_bytes() / bytes;
        (0..count)
            .map(|index| {
                let (mut rest, mut offset) = (index, Some(0_usize));
                for (axis, &begin) in coordinate.iter().enumerate() {
                    let extent = self.box_extents[axis] as usize;
                    let position = i64::from(begin) + (rest % extent) as i64;
                    rest /= extent;
                    let stride = if axis == 0 { bytes } else { self.strides[axis - 1] as usize };
                    let inside = (0..self.extents[axis] as i64).contains(&position);
                    offset = offset.filter(|_| inside).map(|offset| offset + position as usize * stride);
                }
                (self.swizzle.place(index * bytes), offset)
            })
            .collect()
    }

    /// The same for a store, which writes pieces of 16 bytes whole, also where a row of the tensor ends within one.
    fn stored_places(&self, coordinate: &[i32]) -> Vec<(usize, Option<usize>)> {
        let mut whole = Boxes { coordinates: vec![], ..self.clone() };
        whole.extents[0] = whole.extents[0].next_multiple_of(16 / self.element.bytes() as u64);
        whole.places(coordinate)
    }

    fn map(&self, buffer: usize) -> Argument {
        Argument::Map(Map {
            buffer,
            element: self.element,
            extents: self.extents.clone(),
            strides: self.strides.clone(),
            box_extents: self.box_extents.clone(),
            swizzle: self.swizzle,
        })
    }

    fn case(&self, entry: &'static str) -> Case {
        let kernel = include_str!("../../kernels/primitive_tensor.cu");
        let source = with_prelude(&[], &format!("constexpr int RANK = {};\n{kernel}", self.rank()));
        let name = format!("{entry} {:?} rank {} swizzle {:?}", self.element, self.rank(), self.swizzle);
        Case::new(name, source, entry, 128)
    }

    fn boxes(&self) -> Vec<u8> {
        bytes(self.coordinates.iter().flat_map(|c| (0..5).map(|axis| c.get(axis).copied().unwrap_or(0))))
    }

    fn shape(&self) -> [Vec<u8>; 2] {
        [bytes([self.coordinates.len() as i32]), bytes([self.box_bytes() as i32])]
    }

    fn load(&self, seed: u64) -> Case {
        let tensor = Random::new(seed).bytes(self.tensor_bytes());
        let mut expected = Vec::new();
        for coordinate in &self.coordinates {
            let mut shared = vec![0; self.box_bytes()];
            let size = self.element.bytes();
            for (to, from) in self.places(coordinate) {
                if let Some(from) = from {
                    shared[to..to + size].copy_from_slice(&tensor[from..from + size]);
                }
            }
            expected.extend(shared);
        }
        let mut case = self.case("tensor_loads");
        let buffer = case.input("tensor", tensor);
        case.arguments.push(self.map(buffer));
        let [count, box_bytes] = self.shape();
        let shared_memory = 1024 + 2 * self.box_bytes().next_multiple_of(1024);
        case.reads("boxes", self.boxes())
            .writes("out", expected)
            .value(count)
            .value(box_bytes)
            .shared_memory(shared_memory)
    }

    fn store(&self, seed: u64) -> Case {
        let mut random = Random::new(seed);
        let before = random.bytes(self.tensor_bytes());
        let input = random.bytes(self.box_bytes() * self.coordinates.len());
        let mut after = before.clone();
        for (index, coordinate) in self.coordinates.iter().enumerate() {
            let (shared, size) = (&input[index * self.box_bytes()..], self.element.bytes());
            for (from, to) in self.stored_places(coordinate) {
                if let Some(to) = to {
                    after[to..to + size].copy_from_slice(&shared[from..from + size]);
                }
            }
        }
        let mut case = self.case("tensor_stores");
        let buffer = case.output("tensor", before);
        case.arguments.push(self.map(buffer));
        case.expected.push((buffer, after));
        let [count, box_bytes] = self.shape();
        case.reads("boxes", self.boxes())
            .reads("in", input)
            .value(count)
            .value(box_bytes)
            .shared_memory(self.box_bytes().next_multiple_of(1024))
    }

    /// f32 only, one block a box.
    fn add(&self, seed: u64) -> Case {
        let mut random = Random::new(seed);
        let mut integers = |bytes: usize| -> Vec<f32> { (0..bytes / 4).map(|_| random.integer(99) as f32).collect() };
        let before = integers(self.tensor_bytes());
        let input = integers(self.box_bytes() * self.coordinates.len());
        let mut after = before.clone();
        for (index, coordinate) in self.coordinates.iter().enumerate() {
            for (from, to) in self.stored_places(coordinate) {
                if let Some(to) = to {
                    after[to / 4] += input[index * self.box_bytes() / 4 + from / 4];
                }
            }
        }
        let mut case = self.case("tensor_additions");
        let buffer = case.output("tensor", bytes(before));
        case.arguments.push(self.map(buffer));
        case.expected.push((buffer, bytes(after)));
        let [_, box_bytes] = self.shape();
        case.blocks(self.coordinates.len() as u32)
            .reads("boxes", self.boxes())
            .reads("in", bytes(input))
            .value(box_bytes)
            .shared_memory(self.box_bytes().next_multiple_of(1024))
    }
}

/// A matrix of 150 columns of 16 bits and 40 rows, a row 320 bytes, boxes of 16 rows as wide as the swizzle.
fn matrix(swizzle: Swizzle, element: Element, coordinates: &[[i32; 2]]) -> Boxes {
    let width = if swizzle == Swizzle::None { 48 } else { swizzle.span() };
    Boxes {
        element,
        extents: vec![if element == Element::F32 { 75 } else { 150 }, 40],
        strides: vec![320],
        box_extents: vec![(width / element.bytes()) as u32, 16],
        swizzle,
        coordinates: coordinates.iter().map(|c| c.to_vec()).collect(),
    }
}

/// Inside, over each edge, over a corner, and outside. Hardware wants the first coordinate at a multiple of 16 bytes.
const LOADED: [[i32; 2]; 9] = [[0, 0], [32, 8], [8, 3], [144, 0], [-8, 20], [16, 30], [64, -9], [-16, 39], [200, -50]];

/// Disjoint, also in the widest case: inside, over the right edge, and below the tensor. Hardware stores at no negative coordinate.
const STORED: [[i32; 2]; 6] = [[0, 0], [8, 17], [128, 5], [72, 33], [64, 0], [304, 5]];

/// Overlapping.
const ADDED: [[i32; 2]; 4] = [[0, 0], [4, 8], [8, 30], [60, 12]];

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (seed, swizzle) in (20..).zip(Swizzle::ALL) {
        cases.push(matrix(swizzle, Element::Bf16, &LOADED).load(seed));
        cases.push(matrix(swizzle, Element::Bf16, &STORED).store(seed + 10));
    }
    cases.push(matrix(Swizzle::Bytes128, Element::F16, &LOADED).load(40));
    cases.push(matrix(Swizzle::Bytes128, Element::F32, &LOADED).load(41));
    cases.push(matrix(Swizzle::None, Element::F32, &ADDED).add(42));
    cases.push(matrix(Swizzle::Bytes128, Element::F32, &ADDED).add(43));

    let other_rank = |extents: &[u64], box_extents: &[u32], swizzle, coordinates: &[&[i32]]| {
        let mut strides: Vec<u64> = Vec::new();
        for (axis, extent) in extents[..extents.len() - 1].iter().enumerate() {
            let below = strides.last().copied().unwrap_or(2);
            strides.push((below * extent).next_multiple_of(16) + 16 * axis as u64);
        }
        Boxes {
            element: Element::Bf16,
            extents: extents.to_vec(),
            strides,
            box_extents: box_extents.to_vec(),
            swizzle,
            coordinates: coordinates.iter().map(|c| c.to_vec()).collect(),
        }
    };
    cases.push(other_rank(&[1000], &[128], Swizzle::None, &[&[0], &[-64], &[936], &[80], &[2000]]).load(50));
    let three: [&[i32]; 4] = [&[0, 0, 0], &[32, 4, 1], &[-8, 15, 2], &[64, -3, 0]];
    let boxes = other_rank(&[96, 20, 3], &[32, 8, 2], Swizzle::Bytes64, &three);
    let stored: [&[i32]; 3] = [&[0, 0, 0], &[32, 4, 1], &[64, 15, 2]];
    cases.extend([boxes.load(51), other_rank(&[96, 20, 3], &[32, 8, 1], Swizzle::Bytes64, &stored).store(52)]);
    let four: [&[i32]; 5] = [&[0, 0, 0, 0], &[64, 16, 2, 1], &[64, 30, 1, 0], &[0, -5, 1, 1], &[0, 8, 3, 0]];
    let stored: [&[i32]; 4] = [&[0, 0, 0, 0], &[64, 16, 2, 1], &[64, 30, 1, 0], &[0, 8, 3, 0]];
    let boxes = other_rank(&[128, 40, 3, 2], &[64, 24, 1, 1], Swizzle::Bytes128, &four);
    cases.extend([boxes.load(53), other_rank(&[128, 40, 3, 2], &[64, 24, 1, 1], Swizzle::Bytes128, &stored).store(54)]);
    let five: [&[i32]; 3] = [&[0, 0, 0, 0, 0], &[8, 2, 1, 1, 1], &[-8, -1, 2, 1, 0]];
    cases.push(other_rank(&[20, 6, 4, 3, 2], &[16, 4, 2, 1, 2], Swizzle::Bytes32, &five).load(55));
    cases
}
