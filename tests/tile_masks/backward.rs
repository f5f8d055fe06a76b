//! The backward kernels of both schedules, and the extremes that kernels of both passes read.

use attn::compiler::cuda;
use attn::compiler::lower::lower;
use attn::sim::{FaultKind, SimDevice, SimError, SimOptions};
use attn::testing::{Arguments, Case, ElementType, Expected, KernelShape, Shape, Target, check_arguments};
use attn::{Attention, DType, Definition, Device, Error, Tensor};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

use crate::{MASKS, SHAPES, definition};

/// Tiles of 128 and of 64 queries, whose walks and sums of dq have holes; one tile of keys and more than 32 of queries, and the other
/// way round; the kernels of one gradient each.
const BACKWARD_SHAPES: [Shape; 5] = [
    Shape { batch: 1, heads: 2, kv_heads: 1, q_len: 200, kv_len: 300, head_dim: 64, value_dim: 64 },
    Shape { batch: 2, heads: 1, kv_heads: 1, q_len: 140, kv_len: 270, head_dim: 128, value_dim: 72 },
    Shape { batch: 1, heads: 1, kv_heads: 1, q_len: 2500, kv_len: 5, head_dim: 72, value_dim: 8 },
    Shape { batch: 1, heads: 1, kv_heads: 1, q_len: 5, kv_len: 4400, head_dim: 16, value_dim: 16 },
    Shape { batch: 1, heads: 2, kv_heads: 1, q_len: 150, kv_len: 200, head_dim: 136, value_dim: 24 },
];

/// What else a variant may have that is summed or walked by tiles of queries.
const BACKWARD_RESTS: [&str; 4] = [
    "",
    "sink: f32[h], normalizer: sum + exp(sink[h]),",
    "const slope: f32[h], score: |s, b, h, q, kv| s - slope[h] * abs(q - kv) / 200,",
    "table: f32[h, 16], score: |s, b, h, q, kv| s + table[h, abs(q - kv) / 8],",
];

fn backward_source(definition: &Definition, shape: Shape, target: Target, deterministic: bool) -> String {
    let kernels = KernelShape::new(ElementType::Bf16, shape.head_dim, shape.value_dim).unwrap();
    let kernels = cuda::backward(&lower(definition).unwrap(), kernels, target, deterministic).unwrap();
    let backward = kernels.into_iter().filter(|kernel| kernel.entry.starts_with("attn_backward"));
    backward.map(|kernel| kernel.source).collect()
}

/// Every mask in one shape and with one rest, which take turns.
#[test]
fn backward_passes() {
    let cases: Vec<(usize, &str)> = MASKS.iter().copied().cycle().take(12).enumerate().collect();
    let misses: Vec<String> = cases
        .par_iter()
        .flat_map_iter(|&(at, mask)| {
            let rest = BACKWARD_RESTS[(at + at / MASKS.len()) % BACKWARD_RESTS.len()];
            let (definition, deterministic) = (definition(mask, rest), at % 3 != 2);
            let shape = BACKWARD_SHAPES[(at + at / MASKS.len()) % BACKWARD_SHAPES.len()];
            let source = backward_source(&definition, shape, Target::Sm90a, deterministic);
            assert!(source.contains("Hopper schedule") && source.contains("live_tile("), "{mask}");
            let case = Case { shape, dtype: DType::BF16, broadcast: at % 4 == 3, ..Case::default() };
            let options = SimOptions { multiprocessors: [2, u32::MAX][at % 2], ..SimOptions::new(at as u64) };
            let attention = Attention::new(&definition, &Device::Sim(SimDevice::new(options))).unwrap();
            let attention = attention.deterministic(deterministic);
            match check_arguments(&attention, &case.arguments(&definition).unwrap()) {
                Ok(all) => {
                    let missed = all.into_iter().filter(|one| !one.passed());
                    missed.map(|one| format!("{} {case}: {one}", definition.text)).collect()
                }
                Err(error) => vec![format!("{} {case}: {error}", definition.text)],
            }
        })
        .collect();
    assert!(misses.is_empty(), "{} missed\n{}", misses.len(), misses.join("\n"));
}

fn gradients(attention: &Attention, arguments: &Arguments) -> [Tensor; 3] {
    let device = attention.device();
    let on = |tensor: &Tensor| tensor.to_device(device).unwrap();
    let [q, k, v, output_grad] = [&arguments.q, &arguments.k, &arguments.v, &arguments.output_grad].map(on);
    let parameters = arguments.parameters.to_device(device).unwrap();
    let output = attention.forward(&q, &k, &v, &parameters).unwrap();
    let found = attention.backward(&q, &k, &v, &parameters, &output, &output_grad, None).unwrap();
    let found = found.to_host().unwrap();
    [found.q, found.k, found.v]
}

/// Tiles of keys add to a tile of dq in their order, though they are no neighbours.
const HOLES: &str = "|b, h, q, kv| q / 150 == kv / 150 || kv % 600 < 3";
const HOLES_SHAPE: Shape =
    Shape { batch: 1, heads: 1, kv_heads: 1, q_len: 300, kv_len: 640, head_dim: 64, value_dim: 64 };

#[test]
fn sums_with_holes_have_the_same_bits() {
    let definition = definition(HOLES, "");
    let case = Case { shape: HOLES_SHAPE, dtype: DType::BF16, ..Case::default() };
    let arguments = case.arguments(&definition).unwrap();
    let mut first = None;
    for (threads, multiprocessors, seed) in [(1, 1, 0), (4, u32::MAX, 1), (4, 3, 2)] {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let options = SimOptions { multiprocessors, ..SimOptions::new(seed) };
        let attention = Attention::new(&definition, &Device::Sim(SimDevice::new(options))).unwrap();
        let found = pool.install(|| gradients(&attention, &arguments)).map(|tensor| tensor.to_bytes().unwrap());
        let known = first.get_or_insert_with(|| found.clone());
        assert!(*known == found, "{threads} OS threads, {options:?}");
    }
}

/// What finds the tile that adds before another must not leave out, and as what a run without it is found; `None` is a wrong result.
#[rustfmt::skip]
const MISTAKES: [(&str, &str, &[Option<FaultKind>]); 5] = [
    ("while (load_acquire(turn) != before + 1);", "", &[Some(FaultKind::Race), None]),
    ("if (before >= 0) {", "if (false) {", &[None]),
    ("if (adding) return from + 1 - __ffs(adding);", "return from;", &[Some(FaultKind::Deadlock), Some(FaultKind::Uninitialized)]),
    ("? LOOKED_FOR : NONE;", "? NONE : NONE;", &[None, Some(FaultKind::Race), Some(FaultKind::Deadlock)]),
    ("mbarrier_wait(walk + WALK_FULL + 8 * place.stage, place.parity);", "", &[Some(FaultKind::Race), Some(FaultKind::Uninitialized)]),
];

#[test]
fn mistakes_are_found() {
    let definition = definition(HOLES, "");
    let kernel = backward_source(&definition, HOLES_SHAPE, Target::Sm90a, true);
    let case = Case { shape: HOLES_SHAPE, dtype: DType::BF16, ..Case::default() };
    let arguments = case.arguments(&definition).unwrap();
    let expected = Expected::new(&Attention::new(&definition, &Device::Cpu).unwrap(), &arguments).unwrap();
    let pool = ThreadPoolBuilder::new().num_threads(5).build().unwrap();
    let mut missed = vec![];
    for (right, wrong, outcomes) in MISTAKES {
        assert_eq!(kernel.matches(right).count(), 1, "{right}");
        let found = |seed| {
            let device = SimDevice::new(SimOptions::new(seed).mistaken(right, wrong));
            let attention = Attention::new(&definition, &Device::Sim(device)).unwrap();
            match pool.install(|| expected.compare(&attention)) {
                Err(Error::Sim(SimError::Fault(fault))) => Some(Some(fault.kind())),
                Err(other) => panic!("{right}: {other}"),
                Ok(all) => all.iter().any(|one| !one.passed()).then_some(None),
            }
        };
        let found: Vec<_> = (0..4).find_map(found).into_iter().collect();
        if found.is_empty() || found.iter().any(|one| !outcomes.contains(one)) {
            missed.push(format!("with {wrong:?} for {right}: {found:?}"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}

/// The extremes of a tensor are found once; another tensor has its own.
#[test]
fn extremes_are_found_once_a_tensor() {
    let simulator = SimDevice::new(SimOptions::new(1).target(Target::Sm80).traced());
    let device = Device::Sim(simulator.clone());
    let attention = Attention::new(&definition("document(ids)", ""), &device).unwrap();
    let case = Case { shape: SHAPES[2], dtype: DType::BF16, ..Case::default() };
    let arguments = case.arguments(attention.definition()).unwrap();
    let [q, k, v] = [&arguments.q, &arguments.k, &arguments.v].map(|tensor| tensor.to_device(&device).unwrap());
    let output_grad = arguments.output_grad.to_device(&device).unwrap();
    let launches = || simulator.take_traces().iter().filter(|(name, _)| name.contains("_extremes_")).count();
    for seed in [1, 2] {
        // other documents, in memory that may have been that of the first ones
        let parameters = Case { seed, ..case }.arguments(attention.definition()).unwrap().parameters;
        let parameters = parameters.to_device(&device).unwrap();
        let run = || {
            let output = attention.forward(&q, &k, &v, &parameters).unwrap();
            attention.backward(&q, &k, &v, &parameters, &output, &output_grad, None).unwrap();
            output.output.to_host().unwrap().to_bytes().unwrap()
        };
        let first = run();
        assert_eq!(launches(), 1);
        assert!(run() == first && launches() == 0);
    }
}

/// More than 32 tiles of keys, and of queries; several of both, of every kind of parameter.
const PORTABLE: [(Shape, &str); 6] = [
    (Shape { q_len: 2200, kv_len: 5, ..SHAPES[0] }, ""),
    (SHAPES[1], "table: f32[h, 16], score: |s, b, h, q, kv| s + table[h, abs(q - kv) / 8],"),
    (SHAPES[1], "bias: f32[h, q, kv], score: |s, b, h, q, kv| s + bias[h, q, kv],"),
    (SHAPES[1], "slope: f32[b, kv], score: |s, b, h, q, kv| s * slope[b, kv], activation: relu, normalizer: count,"),
    (Shape { kv_len: 2200, ..SHAPES[0] }, "sink: f32[h], activation: relu, normalizer: count + sink[h],"),
    (SHAPES[2], "table: f32[h, 16], score: |s, b, h, q, kv| s + table[h, abs(q - kv) / 8],"),
];

/// Every mask with one of these, which take turns; every third in a packed batch.
#[test]
fn portable_backward_passes() {
    let misses: Vec<String> = MASKS
        .par_iter()
        .enumerate()
        .filter_map(|(at, &mask)| {
            let (shape, rest) = PORTABLE[(at + at / PORTABLE.len()) % PORTABLE.len()];
            let definition = definition(mask, rest);
            assert_eq!(
                backward_source(&definition, shape, Target::Sm80, true).matches("= next_live(").count(),
                4,
                "{mask}"
            );
            let packed: Option<&[[usize; 2]]> = if at % 3 == 1 { Some(&[[70, 90], [0, 3], [150, 139]]) } else { None };
            let case = Case { shape, dtype: DType::BF16, broadcast: at % 4 == 3, packed, ..Case::default() };
            let device = SimDevice::new(SimOptions::new(at as u64).target(Target::Sm80));
            let attention = Attention::new(&definition, &Device::Sim(device)).unwrap();
            let missed: String = match check_arguments(&attention, &case.arguments(&definition).unwrap()) {
                Ok(all) => all.into_iter().filter(|one| !one.passed()).map(|one| format!("{one}; ")).collect(),
                Err(error) => error.to_string(),
            };
            (!missed.is_empty()).then(|| format!("{} {case}: {missed}", definition.text))
        })
        .collect();
    assert!(misses.is_empty(), "{} missed\n{}", misses.len(), misses.join("\n"));
}

/// Queries without a number meet no keys but those of their own tiles: zero times them would be no number either.
#[test]
fn backward_tiles_without_a_live_pair_are_not_loaded() {
    const DIAGONAL: &str = "|b, h, q, kv| q / 128 == kv / 128";
    for (head_dim, mask, target) in [
        (64, DIAGONAL, Target::Sm90a),
        (136, "|b, h, q, kv| (q / 128 + kv / 128) % 2 == 0", Target::Sm90a),
        (64, DIAGONAL, Target::Sm80),
    ] {
        let shape = Shape { batch: 1, heads: 1, kv_heads: 1, q_len: 384, kv_len: 384, head_dim, value_dim: head_dim };
        let definition = definition(mask, "");
        let case = Case { shape, dtype: DType::BF16, strided: false, ..Case::default() };
        let mut arguments = case.arguments(&definition).unwrap();
        for (at, tensor) in [(0, &mut arguments.q), (1, &mut arguments.k)] {
            let mut values = tensor.to_f64_vec().unwrap();
            values[(128 + at) * head_dim..256 * head_dim].fill(f64::NAN);
            *tensor = Tensor::from_f64(DType::BF16, &[1, 1, 384, head_dim], &values).unwrap();
        }
        let device = SimDevice::new(SimOptions::new(5).target(target));
        let attention = Attention::new(&definition, &Device::Sim(device)).unwrap();
        for gradient in gradients(&attention, &arguments) {
            let is_number: Vec<bool> = gradient.to_f64_vec().unwrap().iter().map(|value| value.is_finite()).collect();
            let rows: Vec<bool> = is_number.chunks(head_dim).map(|row| row.iter().all(|&is| is)).collect();
            assert!(rows[..128].iter().all(|&is| is) && rows[256..].iter().all(|&is| is), "{mask}");
            assert!(!rows[200], "{mask}");
        }
    }
}
