//! Every variant of the gallery on a simulated GPU against the oracle: the generated kernels themselves, forward and backward,
//! at several seeds, without a GPU.
//!
//! A fault of a kernel (a race, an early read, an access out of bounds) fails the test with the simulator's report, and so does
//! a wrong result.

use attn::sim::{SimDevice, SimOptions};
use attn::testing::{Case, Expected, Shape, Target, gallery_arguments};
use attn::{Attention, DType, Definition, Device, gallery};
use rayon::prelude::*;

/// Each decides another order of threads and another time for every asynchronous copy.
const SEEDS: [u64; 2] = [0, 1];
/// For the larger shapes.
const FEW_SEEDS: [u64; 1] = [3];

const fn shape(heads: [usize; 3], lengths: [usize; 2], head_dims: [usize; 2]) -> Shape {
    let [batch, heads, kv_heads] = heads;
    let ([q_len, kv_len], [head_dim, value_dim]) = (lengths, head_dims);
    Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim }
}

/// Whole tiles of columns: several tiles of queries and of keys in every pass; one query, as in decoding; one key; none.
const WHOLE: [Shape; 4] = [
    shape([1, 2, 1], [131, 133], [64, 64]),
    shape([2, 3, 1], [1, 77], [64, 64]),
    shape([1, 2, 2], [35, 1], [64, 64]),
    shape([1, 2, 1], [5, 0], [64, 64]),
];

/// Columns that fill no tile, v narrower than q.
const RAGGED: [Shape; 2] = [shape([2, 2, 1], [37, 51], [40, 24]), shape([1, 4, 2], [70, 21], [40, 24])];

/// Rings of k and v that go round, several chunks of columns.
const LONG: [Shape; 2] = [shape([1, 1, 1], [70, 390], [64, 64]), shape([1, 2, 1], [130, 260], [128, 72])];

/// Queries and keys of packed sequences: one, none of both and of either, whole tiles and one row more, a sequence that begins
/// in the middle of what would be another's tile.
const PACKED: &[[usize; 2]] = &[[1, 1], [0, 0], [17, 40], [5, 0], [0, 9], [129, 70], [1, 33], [64, 128]];

/// Variants of the gallery: types of one size share their kernels' texts, so that variants take turns between some tests.
#[derive(Clone, Copy)]
enum Variants {
    All,
    Even,
    Odd,
}

impl Variants {
    fn entries(self) -> Vec<&'static gallery::Entry> {
        let all = gallery::all().iter().enumerate();
        let is_chosen = |at: usize| match self {
            Variants::All => true,
            Variants::Even => at.is_multiple_of(2),
            Variants::Odd => !at.is_multiple_of(2),
        };
        all.filter(|(at, _)| is_chosen(*at)).map(|(_, entry)| entry).collect()
    }
}

/// Runs both passes of variants, with a mask added, in every shape at every seed.
#[track_caller]
fn check_gallery(variants: Variants, dtype: DType, mask: &str, shapes: &[Shape], seeds: &[u64]) {
    check_gallery_for(Target::Sm90a, variants, dtype, mask, shapes, seeds);
}

/// The same with the kernels of another GPU.
#[track_caller]
fn check_gallery_for(target: Target, variants: Variants, dtype: DType, mask: &str, shapes: &[Shape], seeds: &[u64]) {
    let entries = variants.entries();
    let check = |entry: &&gallery::Entry| check(entry, target, dtype, mask, shapes, seeds);
    let misses: Vec<String> = entries.par_iter().flat_map_iter(check).collect();
    assert!(misses.is_empty(), "{} missed\n{}", misses.len(), misses.join("\n"));
}

/// What a variant missed.
fn check(
    entry: &gallery::Entry,
    target: Target,
    dtype: DType,
    mask: &str,
    shapes: &[Shape],
    seeds: &[u64],
) -> Vec<String> {
    let definition = (entry.definition)().with_mask(mask).unwrap();
    let device = |seed| Device::Sim(SimDevice::new(SimOptions::new(seed).target(target)));
    let attention = |&seed: &u64| Attention::new(&definition, &device(seed)).unwrap();
    let attentions: Vec<Attention> = seeds.iter().map(attention).collect();
    // layouts and broadcast parameters take turns
    let case = |(at, &shape): (usize, &Shape)| Case {
        shape,
        dtype,
        strided: at % 2 == 0,
        broadcast: at % 2 == 1,
        ..Case::default()
    };
    let cases: Vec<Case> = shapes.iter().enumerate().map(case).collect();
    compare(entry, &definition, &attentions, mask, &cases)
}

/// What was missed in some cases.
fn compare(
    entry: &gallery::Entry,
    definition: &Definition,
    attentions: &[Attention],
    mask: &str,
    cases: &[Case],
) -> Vec<String> {
    let mut misses = Vec::new();
    for case in cases {
        let arguments = gallery_arguments(definition, case).unwrap();
        let expected = Expected::new(&attentions[0], &arguments).unwrap();
        for attention in attentions {
            let what = format!("{} {case} mask {mask} on {}", entry.name, attention.device());
            match expected.compare(attention) {
                Ok(comparisons) => {
                    let missed = comparisons.iter().filter(|comparison| !comparison.passed());
                    misses.extend(missed.map(|comparison| format!("{what}: {comparison}")));
                }
                Err(error) => misses.push(format!("{what}: {error}")),
            }
        }
    }
    misses
}

#[test]
fn f16() {
    check_gallery(Variants::Even, DType::F16, "none", &WHOLE, &FEW_SEEDS);
}

#[test]
fn f16_ragged() {
    check_gallery(Variants::Odd, DType::F16, "none", &RAGGED, &SEEDS);
}

#[test]
fn bf16() {
    check_gallery(Variants::Odd, DType::BF16, "none", &WHOLE, &FEW_SEEDS);
}

/// Bounds of tiles from both sides of a window, and rows whose window lies before the first key.
#[test]
fn bf16_ragged_in_a_window() {
    check_gallery(Variants::Even, DType::BF16, "causal & window(20, 0)", &RAGGED, &SEEDS);
}

#[test]
fn bf16_long_rows() {
    check_gallery(Variants::All, DType::BF16, "none", &LONG, &FEW_SEEDS[..1]);
}

/// The schedule of GPUs before and after Hopper.
#[test]
fn f16_portable() {
    check_gallery_for(Target::Sm80, Variants::All, DType::F16, "none", &WHOLE[..1], &FEW_SEEDS[..1]);
}

#[test]
fn f32() {
    check_gallery(Variants::Odd, DType::F32, "none", &WHOLE, &FEW_SEEDS);
}

#[test]
fn f32_ragged() {
    check_gallery(Variants::Even, DType::F32, "none", &RAGGED, &SEEDS);
}

/// No row has a live key: outputs and gradients are zero.
#[test]
fn fully_masked() {
    check_gallery(Variants::All, DType::F16, "|b, h, q, kv| kv < 0", &RAGGED[..1], &FEW_SEEDS[..1]);
}

/// Sequences of different lengths, without padding.
#[track_caller]
fn check_packed(variants: Variants, dtype: DType, mask: &str, head_dims: [usize; 2]) {
    let check = |entry: &&gallery::Entry| {
        let definition = (entry.definition)().with_mask(mask).unwrap();
        let attention = Attention::new(&definition, &Device::sim(7)).unwrap();
        let case = Case { shape: shape([1, 2, 1], [0, 0], head_dims), dtype, packed: Some(PACKED), ..Case::default() };
        compare(entry, &definition, &[attention], mask, &[case])
    };
    let misses: Vec<String> = variants.entries().par_iter().flat_map_iter(check).collect();
    assert!(misses.is_empty(), "{} missed\n{}", misses.len(), misses.join("\n"));
}

#[test]
fn packed() {
    check_packed(Variants::All, DType::BF16, "none", [64, 64]);
}

#[test]
fn packed_in_a_window() {
    check_packed(Variants::Odd, DType::F32, "causal & window(20, 0)", [40, 24]);
}

/// The timelines and the bytes of the output of one forward and backward pass.
fn run(seed: u64) -> (Vec<(String, String)>, Vec<u8>) {
    let simulator = SimDevice::new(SimOptions::new(seed).traced());
    let device = Device::Sim(simulator.clone());
    let attention = Attention::new((gallery::find("sink").unwrap().definition)(), &device).unwrap();
    let case = Case { shape: RAGGED[0], dtype: DType::BF16, ..Case::default() };
    let arguments = gallery_arguments(attention.definition(), &case).unwrap();
    let [q, k, v, output_grad] = [&arguments.q, &arguments.k, &arguments.v, &arguments.output_grad]
        .map(|tensor| tensor.to_device(&device).unwrap());
    let parameters = arguments.parameters.to_device(&device).unwrap();
    let output = attention.forward(&q, &k, &v, &parameters).unwrap();
    let gradients = attention.backward(&q, &k, &v, &parameters, &output, &output_grad, None).unwrap();
    let results = [output.output, gradients.q, gradients.k, gradients.v];
    let bytes = results.iter().flat_map(|tensor| tensor.to_host().unwrap().to_bytes().unwrap()).collect();
    (simulator.take_traces(), bytes)
}

#[test]
fn a_seed_decides_everything() {
    let runs: Vec<_> = [5, 5, 6].into_par_iter().map(run).collect();
    assert!(runs[0] == runs[1], "the same seed twice, beside other work");
    let names = |run: &(Vec<(String, String)>, _)| run.0.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&runs[0]), names(&runs[2]));
    assert!(
        names(&runs[0]).iter().any(|name| name.starts_with("Sink_forward_bf16_d40_dv24_sm_90a")),
        "{:?}",
        runs[0].0
    );
    assert!(runs[0].0 != runs[2].0, "another seed takes another course");
    assert!(runs[0].1 == runs[2].1, "no order of threads changes a bit of the results");
}

#[test]
fn tensors_of_another_simulated_device_are_refused() {
    let [here, there] = [0, 0].map(Device::sim);
    let q = attn::Tensor::zeros(DType::F16, &[1, 1, 3, 8]).unwrap();
    let attention = Attention::new((gallery::find("softmax").unwrap().definition)(), &here).unwrap();
    let forward = |device: &Device| {
        let q = q.to_device(device).unwrap();
        attention.forward(&q, &q, &q, &attn::Parameters::new())
    };
    let error = forward(&there).unwrap_err().to_string();
    assert!(error.contains("`q` is on simulated device") && error.contains("move it there"), "{error}");
    assert!(forward(&Device::Cpu).unwrap_err().to_string().contains("`q` is on the host"));
}
