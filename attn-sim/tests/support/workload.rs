//! Attention kernels on small problems: a launch, and what its outputs must be nearly.

use super::attention::{Attention, Shape};
use super::case::{Argument, Case, Element, Map, Swizzle, UNWRITTEN, Word, bf16s, bytes, floats};
use super::fixture;

/// A launch whose outputs are known up to rounding.
pub struct Workload {
    /// The launch; it expects nothing itself.
    pub case: Case,
    checks: Vec<Check>,
}

struct Check {
    buffer: usize,
    is_bf16: bool,
    expected: Vec<f32>,
}

impl Workload {
    fn new(case: Case) -> Self {
        Self { case, checks: Vec::new() }
    }

    /// A launch whose outputs are known to the bit: what the case expects.
    pub fn exact(case: Case) -> Self {
        Self::new(case)
    }

    /// What is wrong with the outputs: NaN, or an element that differs from the reference by more than rounding explains.
    pub fn difference(&self, buffers: &[Vec<u8>]) -> Option<String> {
        if let Some(difference) = self.case.difference(buffers) {
            return Some(difference);
        }
        self.checks.iter().find_map(|check| {
            let buffer = &buffers[check.buffer];
            let actual = if check.is_bf16 { bf16s(buffer) } else { floats(buffer) };
            // weights and outputs have 8 bits
            let scale = check.expected.iter().filter(|x| x.is_finite()).fold(0.0_f32, |max, x| max.max(x.abs()));
            let tolerance = |expected: f32| 0.004 * scale + 0.016 * expected.abs();
            let wrong = |(&actual, &expected): (&f32, &f32)| {
                let is_near = actual == expected || (actual - expected).abs() <= tolerance(expected);
                !is_near // NaN is near nothing
            };
            let count = actual.iter().zip(&check.expected).filter(|pair| wrong(*pair)).count();
            let first = actual.iter().zip(&check.expected).position(wrong)?;
            let name = self.case.buffers[check.buffer].name;
            Some(format!(
                "{count} of {name} are wrong; {first} is {} instead of {}",
                actual[first], check.expected[first]
            ))
        })
    }

    /// An output of `count` elements that must be near `expected`.
    fn output(&mut self, name: &'static str, is_bf16: bool, expected: &[f32]) -> usize {
        let before = vec![UNWRITTEN; expected.len() * if is_bf16 { 2 } else { 4 }];
        let buffer = self.case.output(name, before);
        self.checks.push(Check { buffer, is_bf16, expected: expected.to_vec() });
        buffer
    }

    fn input(&mut self, name: &'static str, values: &[f32]) -> usize {
        self.case.input(name, bytes(values.iter().map(|&x| half::bf16::from_f32(x).to_bits())))
    }

    fn argument(&mut self, argument: Argument) {
        self.case.arguments.push(argument);
    }

    /// A tensor map of boxes of `rows` rows and 64 columns.
    fn map(&mut self, buffer: usize, [batches, heads, len, head_dim]: [usize; 4], rows: usize) {
        let row_bytes = head_dim as u64 * 2;
        let map = Map {
            buffer,
            element: Element::Bf16,
            extents: [head_dim, len, heads, batches].map(|extent| extent as u64).to_vec(),
            strides: vec![row_bytes, row_bytes * len as u64, row_bytes * (len * heads) as u64],
            box_extents: vec![64, rows as u32, 1, 1],
            swizzle: Swizzle::Bytes128,
        };
        self.argument(Argument::Map(map));
    }
}

/// `[batches, heads, rows, head_dim]` of q and of k.
fn extents(shape: &Shape) -> [[usize; 4]; 2] {
    [
        [shape.batches, shape.heads, shape.q_len, shape.head_dim],
        [shape.batches, shape.kv_heads(), shape.kv_len, shape.head_dim],
    ]
}

fn grid(len: usize, block: usize, heads: usize, batches: usize) -> [u32; 3] {
    [len.div_ceil(block), heads, batches].map(|extent| extent as u32)
}

fn integers(values: &[usize]) -> Vec<u8> {
    bytes(values.iter().map(|&value| value as i32))
}

/// `hopper_forward.cu`.
pub fn hopper_forward(shape: &Shape) -> Workload {
    let attention = Attention::random(shape, 1);
    let [queries, keys] = extents(shape);
    let source = fixture::hopper_forward(shape.head_dim);
    let mut workload = Workload::new(Case::new(format!("hopper_forward {shape:?}"), source, "hopper_forward", 384));
    let [q, k, v] =
        [("q", &attention.q), ("k", &attention.k), ("v", &attention.v)].map(|(name, x)| workload.input(name, x));
    let o = workload.output("o", true, &attention.o);
    let lse = workload.output("lse", false, &attention.lse);
    workload.map(q, queries, 128);
    workload.map(k, keys, 128);
    workload.map(v, keys, 128);
    workload.map(o, queries, 128);
    workload.argument(Argument::Buffer(lse));
    let mut problem = integers(&[shape.q_len, shape.kv_len, shape.group, usize::from(shape.causal)]);
    problem.extend(shape.scale().to_ne_bytes());
    workload.argument(Argument::Bytes(problem));
    workload.case.grid = grid(shape.q_len, 128, shape.heads, shape.batches);
    let barriers = 9 * 8;
    workload.case.shared_memory = (5 * 128 * shape.head_dim * 2 + barriers) as u32;
    workload
}

/// `hopper_backward.cu`.
pub fn hopper_backward(shape: &Shape) -> Workload {
    assert_eq!(shape.group, 1, "the kernel has no groups");
    let attention = Attention::random(shape, 2);
    let [queries, keys] = extents(shape);
    let block_q = if shape.head_dim == 64 { 128 } else { 64 };
    let source = fixture::hopper_backward(shape.head_dim);
    let mut workload = Workload::new(Case::new(format!("hopper_backward {shape:?}"), source, "hopper_backward", 384));
    let inputs = [("q", &attention.q), ("k", &attention.k), ("v", &attention.v), ("o_grad", &attention.o_grad)];
    let [q, k, v, o_grad] = inputs.map(|(name, x)| workload.input(name, x));
    let k_grad = workload.output("k_grad", true, &attention.k_grad);
    let v_grad = workload.output("v_grad", true, &attention.v_grad);
    let expected = private_query_gradient(shape, &attention, block_q);
    let q_grad = workload.output("q_grad", false, &expected);
    workload.case.buffers[q_grad].bytes.fill(0);
    // a row without keys has no weights: any finite number does
    let lse_log2: Vec<f32> =
        attention.lse.iter().map(|&x| if x.is_finite() { x * std::f32::consts::LOG2_E } else { 0.0 }).collect();
    let padded = |rows: &[f32], value: f32| -> Vec<u8> {
        let tiles = shape.q_len.div_ceil(block_q) * block_q;
        let row = |index: usize| {
            if index % tiles < shape.q_len { rows[index / tiles * shape.q_len + index % tiles] } else { value }
        };
        bytes((0..shape.batches * shape.heads * tiles).map(row))
    };
    let lse = workload.case.input("lse", padded(&lse_log2, f32::INFINITY));
    let delta = workload.case.input("delta", padded(&attention.delta, 0.0));
    for (buffer, extents, rows) in [
        (q, queries, block_q),
        (k, keys, 128),
        (v, keys, 128),
        (o_grad, queries, block_q),
        (k_grad, keys, 128),
        (v_grad, keys, 128),
    ] {
        workload.map(buffer, extents, rows);
    }
    [lse, delta, q_grad].into_iter().for_each(|buffer| workload.argument(Argument::Buffer(buffer)));
    let mut problem = integers(&[shape.q_len, shape.kv_len, usize::from(shape.causal)]);
    problem.extend(shape.scale().to_ne_bytes());
    workload.argument(Argument::Bytes(problem));
    workload.case.grid = grid(shape.kv_len, 128, shape.heads, shape.batches);
    let (tile, rows, barriers) = (block_q * shape.head_dim * 2, block_q * 4, 9 * 8);
    let keys_and_values = 2 * 128 * shape.head_dim * 2;
    let score_gradients = 2 * block_q * 128 * 2;
    workload.case.shared_memory =
        (keys_and_values + 4 * tile + score_gradients + 2 * tile + 4 * rows + barriers) as u32;
    workload
}

/// The gradient of q, not yet scaled, as `hopper_backward.cu` lays it out: `[batch, head, tile, warpgroup, register / 4, thread, 4]`.
fn private_query_gradient(shape: &Shape, attention: &Attention, block_q: usize) -> Vec<f32> {
    let tiles = shape.q_len.div_ceil(block_q);
    let count = shape.batches * shape.heads * tiles * block_q * shape.head_dim;
    let value = |index: usize| {
        let (low, thread, high) = (index % 4, index / 4 % 128, index / 512 % 8);
        let (consumer, tile, head) = (index / 4096 % 2, index / 8192 % tiles, index / 8192 / tiles);
        let (register, lane, warp) = (high * 4 + low, thread % 32, thread / 32);
        let row = warp * 16 + lane / 4 + register / 2 % 2 * 8;
        let column = register / 4 * 8 + lane % 4 * 2 + register % 2;
        let (row, column) = if block_q == 128 { (row + 64 * consumer, column) } else { (row, column + 64 * consumer) };
        let q = tile * block_q + row;
        if q >= shape.q_len {
            return 0.0;
        }
        attention.q_grad[(head * shape.q_len + q) * shape.head_dim + column] / shape.scale()
    };
    (0..count).map(value).collect()
}

/// `struct Tensor` of the portable kernels.
fn tensor(buffer: usize, [_, heads, len, head_dim]: [usize; 4]) -> [Word; 2] {
    let strides = [heads * len * head_dim, len * head_dim, head_dim].map(|stride| stride as i64);
    [Word::Address(buffer), Word::Bytes(bytes(strides))]
}

fn portable_problem(shape: &Shape) -> Word {
    let mut problem = integers(&[shape.heads, shape.group, shape.q_len, shape.kv_len]);
    problem.extend(shape.scale().to_ne_bytes());
    problem.extend([0; 4]); // the structure's size is a multiple of 8
    Word::Bytes(problem)
}

fn check_portable(shape: &Shape) {
    assert!(shape.head_dim == 64 && shape.causal, "the kernel was generated for causal attention of head_dim 64");
}

/// `portable_forward.cu`.
pub fn portable_forward(shape: &Shape) -> Workload {
    check_portable(shape);
    let attention = Attention::random(shape, 3);
    let [queries, keys] = extents(shape);
    let source = include_str!("../kernels/portable_forward.cu").to_owned();
    let mut workload = Workload::new(Case::new(format!("portable_forward {shape:?}"), source, "attn_forward", 128));
    let [q, k, v] =
        [("q", &attention.q), ("k", &attention.k), ("v", &attention.v)].map(|(name, x)| workload.input(name, x));
    let o = workload.output("o", true, &attention.o);
    let statistic = workload.output("statistic", false, &attention.lse);
    let tensors = [(q, queries), (k, keys), (v, keys), (o, queries)];
    let mut words: Vec<Word> = tensors.into_iter().flat_map(|(buffer, extents)| tensor(buffer, extents)).collect();
    words.extend([Word::Address(statistic), portable_problem(shape)]);
    workload.argument(Argument::Structure(words));
    workload.case.grid = grid(shape.q_len, 128, shape.heads, shape.batches);
    workload.case.shared_memory = 59_392;
    workload
}

/// `portable_backward_kv.cu`.
pub fn portable_backward(shape: &Shape) -> Workload {
    check_portable(shape);
    let attention = Attention::random(shape, 4);
    let [queries, keys] = extents(shape);
    let source = include_str!("../kernels/portable_backward_kv.cu").to_owned();
    let mut workload =
        Workload::new(Case::new(format!("portable_backward_kv {shape:?}"), source, "attn_backward_kv", 128));
    let inputs = [("q", &attention.q), ("k", &attention.k), ("v", &attention.v), ("o_grad", &attention.o_grad)];
    let [q, k, v, o_grad] = inputs.map(|(name, x)| workload.input(name, x));
    let k_grad = workload.output("k_grad", true, &attention.k_grad);
    let v_grad = workload.output("v_grad", true, &attention.v_grad);
    let [statistic, delta] = [("statistic", &attention.lse), ("delta", &attention.delta)]
        .map(|(name, rows)| workload.case.input(name, bytes(rows.iter().copied())));
    let tensors = [(q, queries), (k, keys), (v, keys), (o_grad, queries), (k_grad, keys), (v_grad, keys)];
    let mut words: Vec<Word> = tensors.into_iter().flat_map(|(buffer, extents)| tensor(buffer, extents)).collect();
    words.extend([Word::Address(statistic), Word::Address(delta), portable_problem(shape)]);
    workload.argument(Argument::Structure(words));
    workload.case.grid = grid(shape.kv_len, 128, shape.kv_heads(), shape.batches);
    workload.case.shared_memory = 57_344;
    workload
}
