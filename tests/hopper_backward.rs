//! The Hopper backward schedule on the simulated GPU against the oracle: shapes, masks, gradients of parameters of every kind, sums of
//! dq over tiles of keys in their order and in any; and what the schedule leaves to portable kernels.
//!
//! Invariant: every variant and shape here is taken by the kernel of all gradients, unless a test says that it is not.

use attn::compiler::cuda::{Kernel, backward};
use attn::compiler::lower::lower;
use attn::sim::{FaultKind, SimDevice, SimError, SimOptions};
use attn::testing::{Arguments, Case, ElementType, Expected, KernelShape, Shape, Target, check_arguments};
use attn::{Attention, DType, Definition, Device, Error, Gradients};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

fn variant(text: &str) -> Definition {
    attn::compile_one(text).unwrap_or_else(|errors| panic!("{}", errors.render(text, "hopper.attn")))
}

const fn shape(heads: [usize; 3], lengths: [usize; 2], head_dims: [usize; 2]) -> Shape {
    let [batch, heads, kv_heads] = heads;
    let ([q_len, kv_len], [head_dim, value_dim]) = (lengths, head_dims);
    Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim }
}

/// Two tiles of keys and at least two of queries, the last ones ragged; heads that share keys.
const RAGGED: Shape = shape([1, 2, 1], [150, 140], [64, 64]);
/// The same with tiles of 64 queries, whose columns of dq consumers share.
const WIDE: Shape = shape([1, 2, 1], [150, 140], [128, 128]);

/// The kernels of the backward pass, by entry.
fn kernels(definition: &Definition, dims: [usize; 2], deterministic: bool) -> Vec<Kernel> {
    let shape = KernelShape::new(ElementType::Bf16, dims[0], dims[1]).unwrap();
    backward(&lower(definition).unwrap(), shape, Target::Sm90a, deterministic).unwrap()
}

fn source(kernels: &[Kernel], entry: &str) -> String {
    let kernel = kernels.iter().find(|kernel| kernel.entry == entry);
    kernel.unwrap_or_else(|| panic!("no kernel {entry}")).source.clone()
}

/// A call with everything that its course depends on.
#[derive(Clone, Copy)]
struct Run<'a> {
    definition: &'a Definition,
    case: Case,
    options: SimOptions,
    deterministic: bool,
}

impl<'a> Run<'a> {
    /// Types, layouts, broadcast parameters and the number of blocks take turns with `at`.
    fn new(definition: &'a Definition, shape: Shape, at: usize) -> Run<'a> {
        let dtype = [DType::BF16, DType::F16][at % 2];
        let case = Case { shape, dtype, strided: at % 3 == 1, broadcast: at % 4 == 3, seed: 13, ..Case::default() };
        let multiprocessors = [1, u32::MAX, 2][at % 3];
        Run {
            definition,
            case,
            options: SimOptions { multiprocessors, ..SimOptions::new(at as u64) },
            deterministic: true,
        }
    }

    fn attention(&self) -> Attention {
        let device = Device::Sim(SimDevice::new(self.options));
        Attention::new(self.definition, &device).unwrap().deterministic(self.deterministic)
    }

    fn misses(&self) -> Vec<String> {
        let what = format!("{} {} {:?}", self.definition.text, self.case, self.options);
        match check_arguments(&self.attention(), &self.case.arguments(self.definition).unwrap()) {
            Ok(all) => all.iter().filter(|one| !one.passed()).map(|one| format!("{what}: {one}")).collect(),
            Err(error) => vec![format!("{what}: {error}")],
        }
    }
}

/// Runs both passes; the schedule must have taken them.
#[track_caller]
fn check(runs: &[Run<'_>]) {
    for Run { definition, case, deterministic, .. } in runs {
        let kernels = kernels(definition, [case.shape.head_dim, case.shape.value_dim], *deterministic);
        assert!(source(&kernels, "attn_backward").contains("Hopper schedule"), "{} {case}", definition.text);
    }
    check_any(runs);
}

#[track_caller]
fn check_any(runs: &[Run<'_>]) {
    let missed: Vec<String> = runs.par_iter().flat_map_iter(Run::misses).collect();
    assert!(missed.is_empty(), "{} missed\n{}", missed.len(), missed.join("\n"));
}

#[test]
fn every_head_dimension() {
    let softmax = variant("struct Softmax { score: |s| s, mask: causal }");
    let dims = (8..=128).step_by(24).chain([16, 64, 96]).map(|dim| [dim, dim]);
    let unequal = [[64, 128], [128, 64], [40, 96], [8, 128], [128, 8], [24, 56]];
    let runs = dims.chain(unequal).enumerate();
    let runs: Vec<Run> = runs.map(|(at, dims)| Run::new(&softmax, shape([1, 1, 1], [150, 140], dims), at)).collect();
    check(&runs);
}

#[test]
fn every_length() {
    let softmax = variant("struct Softmax { score: |s| s }");
    let lengths = [[1, 1], [1, 300], [300, 1], [129, 257], [64, 128], [128, 256], [5, 0], [0, 5], [63, 127], [65, 129]];
    let shapes = lengths.into_iter().zip([[64, 64], [128, 128]].into_iter().cycle());
    let runs: Vec<Run> = shapes
        .enumerate()
        .map(|(at, (lengths, dims))| Run::new(&softmax, shape([1, 2, 1], lengths, dims), at))
        .collect();
    check(&runs);
}

/// Bounds from either side and on either index, so that tiles of keys have no queries, or begin late and end early; rows and keys
/// without a live pair; masks that are tested pair by pair.
#[test]
fn masks() {
    let masks = [
        "causal",
        "window(40, 20)",
        "causal & window(130, 0)",
        "|b, h, q, kv| kv >= q",
        "|b, h, q, kv| q - kv > 60",
        "|b, h, q, kv| kv - q > 100",
        "|b, h, q, kv| q + kv < 200",
        "|b, h, q, kv| kv < 130 && q >= 70",
        "|b, h, q, kv| kv >= 128",
        "|b, h, q, kv| kv < 0",
        "|b, h, q, kv| (q - kv) % 7 != 3",
        "|b, h, q, kv| q % 5 != 0 && kv % 3 != 0",
    ];
    let lengths = [[150, 300], [300, 150], [260, 260]];
    let mut definitions: Vec<Definition> =
        masks.iter().map(|mask| variant("struct Masked { score: |s| s }").with_mask(mask).unwrap()).collect();
    definitions.extend(
        [
            "struct Documents { const ids: i32[b, kv], mask: document(ids) }",
            "struct Documents { const ids: i32[b, kv], mask: causal & document(ids) }",
            "struct Prefixes { const length: i32[b], mask: |b, h, q, kv| prefix(length[b]) | causal }",
        ]
        .map(variant),
    );
    let mut runs = vec![];
    for (at, definition) in definitions.iter().enumerate() {
        let dims = [[64, 64], [128, 128], [72, 40]][at % 3];
        runs.push(Run::new(definition, shape([1, 2, 1], lengths[at / 3 % 3], dims), at));
        runs.push(Run::new(definition, shape([2, 2, 2], [133, 141], [64, 64]), at + 1));
    }
    check(&runs);
}

/// A factor of each head multiplies pairs, since heads share dk; one of all heads multiplies sums.
#[test]
fn factors_of_products() {
    let cases = [
        ("const temper: f32[h]", "temper[h]", true),
        ("const temper: f32[b, h]", "temper[b, h]", true),
        ("const temper: f32[b]", "temper[b]", false),
        ("temper: f32", "temper", false),
        ("temper: f32[h]", "temper[h]", true),
    ];
    let mut definitions = vec![];
    for (declared, factor, of_pairs) in cases {
        let definition = variant(&format!("struct Scaled {{ {declared}, score: |s, b, h, q, kv| s * {factor} }}"));
        let kernel = source(&kernels(&definition, [64, 64], true), "attn_backward");
        assert_eq!(kernel.contains("pair_scale"), of_pairs, "{declared}");
        assert_eq!(kernel.contains("dk[i] *= scale"), !of_pairs, "{declared}");
        definitions.push(definition);
    }
    let shapes = [shape([2, 4, 2], [70, 140], [64, 64]), shape([2, 4, 1], [70, 40], [96, 96])];
    let runs: Vec<Run> = definitions
        .iter()
        .enumerate()
        .map(|(at, definition)| Run::new(definition, shapes[at % 2], at))
        .chain(definitions[..1].iter().map(|definition| Run::new(definition, shapes[0], 1)))
        .collect();
    check(&runs);
}

/// What pairs add, by its axes; what the normalizer adds to rows; both to one parameter; tables and dense parameters.
#[test]
fn gradients_of_parameters() {
    let texts = [
        "struct Capped { cap: f32, score: |s| cap * tanh(s / cap) }",
        "struct Capped { cap: f32[b, h], score: |s, b, h, q, kv| cap[b, h] * tanh(s / cap[b, h]), mask: causal }",
        "struct Shifted { bias: f32[b], score: |s, b, h, q, kv| s + bias[b] - 2, activation: sigmoid, normalizer: none }",
        "struct Keys { bias: f32[kv], score: |s, b, h, q, kv| s + bias[kv], mask: causal }",
        "struct Keys { bias: f32[b, h, kv], score: |s, b, h, q, kv| s * bias[b, h, kv] }",
        "struct Two { slope: f32[h], gate: f32[b, kv], score: |s, b, h, q, kv| s * slope[h] - gate[b, kv], mask: window(90, 30) }",
        "struct Sink { sink: f32[h], score: |s| s, normalizer: sum + exp(sink[h]), mask: window(20, 0) }",
        "struct Sink { sink: f32, score: |s| s, normalizer: sum + exp(sink), mask: |b, h, q, kv| q % 9 != 4 && kv % 4 != 1 }",
        "struct RowSink { sink: f32[b, h, q], score: |s| s, normalizer: sum + exp(sink[b, h, q]), mask: causal }",
        "struct Both { both: f32[h], score: |s, b, h, q, kv| s * both[h], normalizer: sum + exp(both[h]), mask: causal }",
        "struct Both { both: f32, score: |s| s + both, activation: softplus, normalizer: both + sum, mask: window(30, 5) }",
        "struct Table { table: f32[h, 16], score: |s, b, h, q, kv| s + table[h, abs(q - kv) / 4], mask: causal }",
        "struct Dense { bias: f32[h, q, kv], temper: f32, score: |s, b, h, q, kv| s * temper + bias[h, q, kv] }",
        "struct Unused { nothing: f32[h], score: |s| s }",
        // weights read what gradients do not
        "struct Fixed { const bias: f32[h, q, kv], score: |s, b, h, q, kv| bias[h, q, kv] }",
        "struct Largest { temper: f32, score: |s| s * temper, normalizer: 0.5 * (sum + max) }",
        "struct Squares { temper: f32[h], score: |s, b, h, q, kv| s * temper[h], normalizer: sqrt(sum_squares), mask: causal }",
    ];
    let definitions: Vec<Definition> = texts.iter().map(|text| variant(text)).collect();
    let two_arrays = source(&kernels(&definitions[9], [64, 64], true), "attn_backward").contains("grad_both[")
        && source(&kernels(&definitions[9], [64, 64], true), "attn_query_gradients").contains("row_grad_both[");
    assert!(two_arrays, "both kernels leave partial sums of `both`");
    let mut runs = vec![];
    for (at, definition) in definitions.iter().enumerate() {
        runs.push(Run::new(definition, shape([2, 4, 2], [70, 140], [64, 64]), at));
        runs.push(Run::new(definition, if at % 2 == 0 { WIDE } else { RAGGED }, at + 1));
    }
    check(&runs);
}

/// Head dimensions whose dk and dv do not fit one block's registers together: dv has a kernel of its own.
#[test]
fn wide_heads() {
    let texts = [
        "struct Softmax { score: |s| s, mask: causal }",
        "struct Scaled { temper: f32[h], score: |s, b, h, q, kv| s * temper[h], mask: window(70, 40) }",
        "struct Keys { bias: f32[b, kv], sink: f32[h], score: |s, b, h, q, kv| s + bias[b, kv], normalizer: sum + exp(sink[h]) }",
        "struct Both { const ids: i32[b, kv], both: f32, score: |s| s + both, activation: softplus, normalizer: both + sum, mask: document(ids) }",
    ];
    let definitions: Vec<Definition> = texts.iter().map(|text| variant(text)).collect();
    let dims = [[136, 64], [64, 192], [256, 256], [192, 128], [144, 40], [24, 136], [256, 8], [160, 224]];
    let heads = [[1, 2, 1], [2, 4, 2], [1, 2, 2]];
    let lengths = [[150, 140], [70, 130], [40, 300], [260, 50]];
    let runs: Vec<Run> = dims
        .into_iter()
        .cycle()
        .take(8)
        .enumerate()
        .map(|(at, dims)| {
            let definition = &definitions[(at + at / 8) % 4];
            let run = Run::new(definition, shape(heads[at % 3], lengths[at / 2 % 4], dims), at);
            Run { deterministic: at % 5 != 2, ..run }
        })
        .collect();
    for Run { definition, case, deterministic, .. } in &runs {
        let kernels = kernels(definition, [case.shape.head_dim, case.shape.value_dim], *deterministic);
        for entry in ["attn_backward_kq", "attn_backward_v", "attn_query_gradients"] {
            assert!(kernels.iter().any(|kernel| kernel.entry == entry), "{} {case}", definition.text);
        }
        assert_eq!(source(&kernels, "attn_backward_kq").contains("dq_turns"), *deterministic);
    }
    check_any(&runs);
}

/// What pairs add to a parameter by query is a sum in the registers of the kernel of dq.
#[test]
fn gradients_by_query() {
    let texts = [
        "struct Rows { bias: f32[q], score: |s, b, h, q, kv| s * bias[q], mask: causal }",
        "struct Rows { past: f32[b, h, q], gate: f32[h, kv], score: |s, b, h, q, kv| s * past[b, h, q] + gate[h, kv] }",
        "struct Rows { both: f32[h, q], score: |s, b, h, q, kv| s * both[h, q], normalizer: sum + exp(both[h, q]), mask: window(40, 10) }",
        "struct Rows { both: f32[q], score: |s, b, h, q, kv| s * both[q], normalizer: sum + exp(both[q]), mask: |b, h, q, kv| q % 9 != 4 && kv % 4 != 1 }",
        "struct Rows { row: f32[b, q], temper: f32[h], table: f32[8], score: |s, b, h, q, kv| s * temper[h] * row[b, q] + table[(q + kv) % 8], mask: causal }",
    ];
    let definitions: Vec<Definition> = texts.iter().map(|text| variant(text)).collect();
    let dims = [[64, 64], [128, 128], [40, 72]];
    let mut runs = vec![];
    for (at, definition) in definitions.iter().enumerate() {
        runs.push(Run::new(definition, shape([2, 4, 2], [70, 140], dims[at % 3]), at));
        runs.push(Run::new(definition, shape([1, 2, 1], [150, 70], dims[(at + 1) % 3]), at + 1));
    }
    check_apart(&runs);
}

/// The kernels of one gradient each must have taken them.
#[track_caller]
fn check_apart(runs: &[Run<'_>]) {
    for Run { definition, case, .. } in runs {
        let kernels = kernels(definition, [case.shape.head_dim, case.shape.value_dim], true);
        for entry in ["attn_backward_v", "attn_backward_k", "attn_backward_q"] {
            let head = source(&kernels, entry);
            let is_apart = head.contains("Hopper schedule") && head.contains(", since ");
            assert!(is_apart, "{entry} of {} {case}", definition.text);
        }
    }
    check_any(runs);
}

/// What keeps the schedule from taking a shape stands in the head of the kernels that take it.
#[test]
fn others_are_portable() {
    let softmax = lower(&variant("struct Softmax { score: |s| s }")).unwrap();
    let shape = KernelShape::new(ElementType::F32, 64, 64).unwrap();
    let kernels = backward(&softmax, shape, Target::Sm90a, true).unwrap();
    for entry in ["attn_backward_kv", "attn_backward_q"] {
        assert!(source(&kernels, entry).contains("portable schedule") && source(&kernels, entry).contains(", since "));
    }
    let shape = KernelShape::new(ElementType::Bf16, 64, 64).unwrap();
    let others = backward(&softmax, shape, Target::Sm80, true).unwrap();
    assert!(others.iter().all(|kernel| !kernel.source.contains("Hopper") && !kernel.source.contains(", since ")));
}

/// The gradients of a call as bytes.
fn gradients(run: &Run<'_>, arguments: &Arguments) -> Vec<u8> {
    let attention = run.attention();
    let on = |tensor: &attn::Tensor| tensor.to_device(attention.device()).unwrap();
    let [q, k, v, output_grad] = [&arguments.q, &arguments.k, &arguments.v, &arguments.output_grad].map(on);
    let parameters = arguments.parameters.to_device(attention.device()).unwrap();
    let statistic_grad = arguments.statistic_grad.as_ref().map(on);
    let output = attention.forward(&q, &k, &v, &parameters).unwrap();
    let gradients = attention.backward(&q, &k, &v, &parameters, &output, &output_grad, statistic_grad.as_ref());
    let Gradients { q, k, v, parameters } = gradients.unwrap_or_else(|error| panic!("{error}")).to_host().unwrap();
    let tensors = [&q, &k, &v].into_iter().chain(parameters.iter().map(|(_, tensor)| tensor));
    tensors.flat_map(|tensor| tensor.to_bytes().unwrap()).collect()
}

/// Four tiles of keys add to each tile of dq: to the same bits whatever the order of threads, the number of blocks, and which of
/// them run at once.
#[test]
fn sums_in_order_have_the_same_bits() {
    let texts = [
        "struct Softmax { temper: f32[h], score: |s, b, h, q, kv| s * temper[h] }",
        "struct Both { both: f32, score: |s| s * both, normalizer: sum + exp(both), mask: causal & window(300, 0) }",
    ];
    for (at, text) in texts.into_iter().enumerate() {
        let definition = variant(text);
        let dims = [[64, 64], [128, 128]][at];
        let case = Case { shape: shape([1, 2, 1], [200, 450], dims), dtype: DType::BF16, seed: 17, ..Case::default() };
        let arguments = case.arguments(&definition).unwrap();
        let mut first = None;
        for (threads, multiprocessors, seeds) in [(1, 1, 0..2), (2, 3, 2..4), (5, u32::MAX, 4..7)] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for seed in seeds {
                let options = SimOptions { multiprocessors, ..SimOptions::new(seed) };
                let run = Run { definition: &definition, case, options, deterministic: true };
                let found = pool.install(|| gradients(&run, &arguments));
                let known = first.get_or_insert_with(|| found.clone());
                assert!(*known == found, "{text} with {threads} OS threads, {options:?}");
            }
        }
    }
}

#[test]
fn sums_in_any_order_are_right() {
    let softmax = variant("struct Softmax { temper: f32[h], score: |s, b, h, q, kv| s * temper[h], mask: causal }");
    let documents = variant(
        "struct Documents { const ids: i32[b, kv], sink: f32, normalizer: sum + exp(sink), mask: document(ids) }",
    );
    let late = variant("struct Late { score: |s| s, mask: |b, h, q, kv| kv - q > 100 }");
    for definition in [&softmax, &documents, &late] {
        let [ordered, any] =
            [true, false].map(|ordered| source(&kernels(definition, [64, 64], ordered), "attn_backward"));
        assert!(ordered.contains("dq_turns") && !any.contains("dq_turns"));
    }
    let mut runs = vec![];
    for at in 0..4 {
        for (definition, shape) in [(&softmax, RAGGED), (&documents, WIDE), (&late, RAGGED)] {
            runs.push(Run { deterministic: false, ..Run::new(definition, shape, at) });
        }
    }
    check(&runs);
}

type Mistake = (&'static str, &'static str, &'static [Option<FaultKind>]);

/// What the schedule must not leave out, what stands for it, and as what a run without it is found; `None` is a wrong result.
#[rustfmt::skip]
const MISTAKES: [Mistake; 8] = [
    // whose turn it is to add to dq, and who comes first
    ("while (load_acquire(turn) != work.kv_tile);\n", "", &[Some(FaultKind::Race)]),
    ("if (q_tile >= before.first && q_tile < before.last) {", "if (q_tile >= before.first) {", &[None]),
    ("store_release(arguments.dq_turns + first_tile + q_tile, work.kv_tile + 1);", "", &[Some(FaultKind::Deadlock)]),
    ("bulk_wait();\n                            publish_global();\n", "publish_global();\n", &[Some(FaultKind::Race), None]),
    ("bulk_add(to, dq_tile, DQ_TILE_BYTES);", "bulk_store(to, dq_tile, DQ_TILE_BYTES);", &[None]),
    // tiles of dq and of ds in shared memory
    ("named_barrier_sync(DQ_EMPTY + consumer, DQ_THREADS);\n#pragma unroll\n", "#pragma unroll\n", &[Some(FaultKind::Race), Some(FaultKind::OverwrittenInFlight)]),
    ("named_barrier_sync(ALL_CONSUMERS, 128 * CONSUMERS);   // ds is whole", "// ds is whole", &[Some(FaultKind::Race)]),
    ("matrices);\n                }\n                publish_shared();\n", "matrices);\n                }\n", &[Some(FaultKind::MissingProxyFence)]),
];

/// The same of the kernel of dk and dq for wide heads.
#[rustfmt::skip]
const WIDE_MISTAKES: [Mistake; 5] = [
    ("while (load_acquire(turn) != work.kv_tile);\n", "", &[Some(FaultKind::Race)]),
    ("if (q_tile >= before.first && q_tile < before.last) {", "if (q_tile >= before.first) {", &[None]),
    ("bulk_add(to, dq_part, DQ_PART_BYTES);", "bulk_store(to, dq_part, DQ_PART_BYTES);", &[None]),
    // a part of dq, and the one tile of q
    ("named_barrier_sync(DQ_EMPTY + consumer, DQ_THREADS);\n#pragma unroll\n", "#pragma unroll\n", &[Some(FaultKind::Race), Some(FaultKind::OverwrittenInFlight)]),
    ("wgmma_wait<1>();   // dk", "// dk", &[Some(FaultKind::AccumulatorInFlight), Some(FaultKind::OverwrittenInFlight)]),
];

#[test]
fn mistakes_are_found() {
    find_mistakes("attn_backward", 64, 3, &MISTAKES);
    find_mistakes("attn_backward_kq", 136, 2, &WIDE_MISTAKES);
}

fn find_mistakes(entry: &str, head_dim: usize, seeds: u64, mistakes: &[Mistake]) {
    let softmax = variant("struct Softmax { score: |s| s, mask: causal }");
    let kernel = source(&kernels(&softmax, [head_dim, 64], true), entry);
    let case = Case { shape: shape([1, 1, 1], [400, 300], [head_dim, 64]), dtype: DType::BF16, ..Case::default() };
    let arguments = case.arguments(&softmax).unwrap();
    let expected = Expected::new(&Attention::new(&softmax, &Device::Cpu).unwrap(), &arguments).unwrap();
    // as many OS threads as tiles of keys, so that blocks run at once
    let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    let mut missed = vec![];
    for &(right, wrong, outcomes) in mistakes {
        assert_eq!(kernel.matches(right).count(), 1, "{right}");
        let found = |seed| {
            let options = SimOptions::new(seed).mistaken(right, wrong);
            let attention = Run { definition: &softmax, case, options, deterministic: true }.attention();
            match pool.install(|| expected.compare(&attention)) {
                Err(Error::Sim(SimError::Fault(fault))) => Some(Some(fault.kind())),
                Err(other) => panic!("{right}: {other}"),
                Ok(all) => all.iter().any(|one| !one.passed()).then_some(None),
            }
        };
        let found: Vec<_> = (0..seeds).filter_map(found).collect();
        if found.is_empty() || found.iter().any(|outcome| !outcomes.contains(outcome)) {
            missed.push(format!("with {wrong:?} for {right}: {found:?}"));
        }
        println!("{right}: {found:?}");
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
