//! Gradients of tables that are read by distance, which the Hopper backward kernel sums along diagonals of its tiles: on the simulated
//! GPU against the oracle; and tables whose gradients have a kernel of their own.
//!
//! Invariant: every variant here has a table, and each test says which kernel its gradient must come from.

use attn::compiler::cuda::{Kernel, backward};
use attn::compiler::lower::lower;
use attn::sim::{FaultKind, SimDevice, SimError, SimOptions};
use attn::testing::{Case, ElementType, Expected, KernelShape, Shape, Target, check_arguments};
use attn::{Attention, DType, Definition, Device, Error};
use rayon::prelude::*;

fn variant(text: &str) -> Definition {
    attn::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "diagonals.attn")))
}

fn kernels(definition: &Definition, head_dim: usize) -> Vec<Kernel> {
    let shape = KernelShape::new(ElementType::Bf16, head_dim, head_dim).unwrap();
    backward(&lower(definition).unwrap(), shape, Target::Sm90a, true).unwrap()
}

/// Whether the kernel of all gradients sums along diagonals, and whether a table has a kernel of its own.
fn takers(definition: &Definition, head_dim: usize) -> [bool; 2] {
    let kernels = kernels(definition, head_dim);
    let has = |entry: &str, part: &str| kernels.iter().any(|k| k.entry == entry && k.source.contains(part));
    [has("attn_backward", "add_diagonals("), has("attn_table_grad", "")]
}

const fn shape(heads: [usize; 3], lengths: [usize; 2], head_dim: usize) -> Shape {
    let ([batch, heads, kv_heads], [q_len, kv_len]) = (heads, lengths);
    Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim: head_dim }
}

/// Tiles of 128 and of 64 queries, as many as let sums go once round their ring and end in the middle of it; heads that share keys,
/// one tile of either, one row, one key.
const SHAPES: [Shape; 6] = [
    shape([1, 2, 1], [600, 300], 64),
    shape([1, 2, 1], [450, 300], 128),
    shape([2, 1, 1], [150, 140], 128),
    shape([1, 2, 2], [30, 21], 64),
    shape([1, 1, 1], [1, 290], 128),
    shape([2, 1, 1], [300, 1], 64),
];

/// Runs both passes of a variant in a shape; `at` picks type, layout and schedule of threads.
fn misses(definition: &Definition, shape: Shape, at: usize) -> Vec<String> {
    let dtype = [DType::BF16, DType::F16][at % 2];
    let case = Case { shape, dtype, strided: at % 3 == 1, broadcast: at % 4 == 3, seed: 17, ..Case::default() };
    let options = SimOptions { multiprocessors: [1, u32::MAX][at % 2], ..SimOptions::new(at as u64) };
    let attention = Attention::new(definition, &Device::Sim(SimDevice::new(options))).unwrap();
    match check_arguments(&attention, &case.arguments(definition).unwrap()) {
        Ok(all) => {
            all.iter().filter(|one| !one.passed()).map(|one| format!("{} {case}: {one}", definition.text)).collect()
        }
        Err(error) => vec![format!("{} {case}: {error}", definition.text)],
    }
}

#[track_caller]
fn check(runs: &[(&Definition, Shape)]) {
    let missed: Vec<String> =
        runs.par_iter().enumerate().flat_map_iter(|(at, (definition, shape))| misses(definition, *shape, at)).collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// One of each way to read a table by distance.
const TABLES: [&str; 8] = [
    "struct All { table: f32[h, buckets], score: |s, b, h, q, kv| s + table[h, kv - q + buckets / 2] }",
    "struct Bounded { table: f32[31], score: |s, b, h, q, kv| s + table[min(max(kv - q, -15), 15) + 15] }",
    "struct Batches { table: f32[b, 7], score: |s, b, h, q, kv| 0.5 * s + table[b, abs(q - kv) % 7], mask: causal }",
    "struct Two { near: f32[h, 16], far: f32[9], score: |s, b, h, q, kv| s + near[h, kv - q + 8] - far[abs(q - kv) / 40] }",
    "struct Twice { table: f32[h, 24], score: |s, b, h, q, kv| s + table[h, q - kv] + table[h, abs(kv - q) / 16] }",
    "struct Grid { table: f32[h, 5, 6], score: |s, b, h, q, kv| s + table[h, abs(q - kv) / 6, abs(q - kv) % 6], mask: window(70, 9) }",
    // without anything by query, and without a value by distance that is worth keeping
    "struct Gated { table: f32[h, 12], score: |s, b, h, q, kv| s - 5 + table[h, kv - q + 6], activation: sigmoid, normalizer: none }",
    "struct Soft { table: f32[4], temper: f32[h], score: |s, b, h, q, kv| s + temper[h] + table[kv - q], activation: softplus,
        normalizer: sum, mask: |b, h, q, kv| (q + kv) % 7 != 3 }",
];

#[test]
fn tables_by_distance() {
    let definitions: Vec<Definition> = TABLES.iter().map(|text| variant(text)).collect();
    for definition in &definitions {
        for head_dim in [40, 64, 128] {
            assert_eq!(takers(definition, head_dim), [true, false], "{} {head_dim}", definition.text);
        }
    }
    let runs: Vec<(&Definition, Shape)> = definitions
        .iter()
        .enumerate()
        .flat_map(|(at, definition)| [SHAPES[at % 2], SHAPES[2 + at % 4]].map(|shape| (definition, shape)))
        .collect();
    check(&runs);
}

/// Tiles of keys that no query sees, and walks that begin and end anywhere.
#[test]
fn masks() {
    let masks = ["causal", "window(40, 0)", "window(200, 20) & causal", "|b, h, q, kv| kv != 3 && q % 5 != 1"];
    let all = variant(TABLES[0]);
    let masked: Vec<Definition> = masks.iter().map(|mask| all.with_mask(mask).expect("a mask")).collect();
    let runs: Vec<(&Definition, Shape)> =
        masked.iter().zip(SHAPES[..2].iter().cycle()).map(|(one, &shape)| (one, shape)).collect();
    check(&runs);
}

/// What the tile of ds is not, or is not by distance, is computed again by a kernel of the table's own.
#[test]
fn other_tables() {
    let texts = [
        // an entry of the positions themselves
        "struct Positions { table: f32[h, 8, 8], score: |s, b, h, q, kv| s + table[h, q % 8, kv % 8] }",
        // not the gradient of the product
        "struct Within { table: f32[h, 16], score: |s, b, h, q, kv| tanh(s) + table[h, kv - q + 8] }",
        "struct Times { table: f32[h, 16], score: |s, b, h, q, kv| s * table[h, kv - q + 8] }",
    ];
    for (at, text) in texts.iter().enumerate() {
        let definition = variant(text);
        assert_eq!(takers(&definition, 64), [false, true], "{text}");
        check(&[(&definition, SHAPES[2 + at])]);
    }
    // beyond the head dimensions of the kernel of all gradients
    let wide = variant(TABLES[0]);
    assert_eq!(takers(&wide, 192), [false, true]);
    check(&[(&wide, shape([1, 1, 1], [100, 140], 192))]);
}

/// What the sums must not leave out, what stands for it, and as what a run without it is found; `None` is a wrong result.
#[rustfmt::skip]
const MISTAKES: [(&str, &str, &[Option<FaultKind>]); 6] = [
    ("mbarrier_wait(ds_empty + 8 * place.stage, place.parity ^ 1);", "", &[Some(FaultKind::Race)]),
    ("mbarrier_wait(ds_full + 8 * summed.stage, summed.parity);", "", &[Some(FaultKind::Race), Some(FaultKind::Deadlock)]),
    ("named_barrier_sync(QUERY_WARPS_MEET, 32 * QUERY_WARPS);   // sums are whole, and ds is read", "", &[Some(FaultKind::Race)]),
    ("store_shared_16(sums + 16 * i, make_int4(0, 0, 0, 0));", "(void)sums;", &[Some(FaultKind::Uninitialized)]),
    ("if (diagonal + ROWS < COLUMNS) sum.x += others.x, sum.y += others.y;", "", &[None]),
    ("store(old, others.x + before.x, others.y + before.y);", "", &[None]),
];

#[test]
fn mistakes_are_found() {
    let definition = variant(TABLES[0]);
    let kernel = kernels(&definition, 128).into_iter().find(|kernel| kernel.entry == "attn_backward").unwrap();
    let case = Case { shape: shape([1, 2, 2], [330, 200], 128), dtype: DType::BF16, ..Case::default() };
    let arguments = case.arguments(&definition).unwrap();
    let expected = Expected::new(&Attention::new(&definition, &Device::Cpu).unwrap(), &arguments).unwrap();
    let mut missed = vec![];
    for (right, wrong, outcomes) in MISTAKES {
        assert_eq!(kernel.source.matches(right).count(), 1, "{right}");
        let found = |seed| {
            let device = SimDevice::new(SimOptions::new(seed).mistaken(right, wrong));
            match expected.compare(&Attention::new(&definition, &Device::Sim(device)).unwrap()) {
                Err(Error::Sim(SimError::Fault(fault))) => Some(Some(fault.kind())),
                Err(other) => panic!("{right}: {other}"),
                Ok(all) => all.iter().any(|one| !one.passed()).then_some(None),
            }
        };
        let found: Vec<_> = (0..4).filter_map(found).collect();
        if found.is_empty() || found.iter().any(|one| !outcomes.contains(one)) {
            missed.push(format!("with {wrong:?} for {right}: {found:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
