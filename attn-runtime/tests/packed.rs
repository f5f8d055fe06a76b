//! Packed batches on the host: every sequence is an attention of its own.

mod common;

use rayon::prelude::*;

use attn_runtime::testing::{Arguments, Case, Shape, check_variant};
use attn_runtime::{Attention, DType, Device, Error, Gradients, Output, Parameters, Tensor};

/// Queries and keys: one, none of both and of either, whole tiles and one more, more queries than keys and fewer.
const SEQUENCES: &[[usize; 2]] = &[[1, 1], [0, 0], [17, 40], [64, 65], [5, 0], [0, 9], [130, 70], [1, 33]];

fn shape() -> Shape {
    Shape { batch: 0, heads: 4, kv_heads: 2, q_len: 0, kv_len: 0, head_dim: 8, value_dim: 5 }
}

fn case() -> Case {
    Case { shape: shape(), packed: Some(SEQUENCES), ..Case::default() }
}

#[test]
fn every_variant_agrees_with_the_oracle() {
    let mut misses = String::new();
    for (name, body) in common::VARIANTS {
        let definition = common::compile(name, body);
        // longer parameters than the longest sequence, and entries that serve all sequences
        let cases = [case(), Case { seed: 2, broadcast: true, strided: false, ..case() }];
        let report = check_variant(&definition, &Device::Cpu, &cases).unwrap();
        for (case, comparison) in report.failures() {
            misses += &format!("{name} {case}: {comparison}\n");
        }
    }
    assert!(misses.is_empty(), "\n{misses}");
}

fn run(attention: &Attention, arguments: &Arguments) -> (Output, Gradients) {
    let Arguments { q, k, v, parameters, output_grad, statistic_grad, cu_seqlens } = arguments;
    let packed = cu_seqlens.as_ref().map(|[q, kv]| attention.packed(q, kv).unwrap());
    let attention = packed.as_ref().unwrap_or(attention);
    let output = attention.forward(q, k, v, parameters).unwrap();
    let gradients = attention.backward(q, k, v, parameters, &output, output_grad, statistic_grad.as_ref()).unwrap();
    (output, gradients)
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.to_f32_vec().unwrap()
}

/// What a sequence has of the arguments, by itself: `b` is no longer its number, so its entries are taken out.
fn alone(definition: &attn_dsl::Definition, arguments: &Arguments, sequence: usize, lengths: [usize; 2]) -> Arguments {
    use attn_dsl::definition::Axis;
    let start = |side: usize| SEQUENCES[..sequence].iter().map(|lengths| lengths[side]).sum::<usize>();
    let [queries, keys] = [0, 1].map(|side| move |t: &Tensor| t.narrow(2, start(side), lengths[side]).unwrap());
    let parameters = definition.parameters.iter().map(|declared| {
        let tensor = arguments.parameters.get(&declared.name).unwrap().clone();
        let own = declared.axes.iter().enumerate().fold(tensor, |tensor, (at, axis)| match axis {
            Axis::Batch => tensor.narrow(at, sequence, 1).unwrap(),
            Axis::Query => tensor.narrow(at, 0, lengths[0]).unwrap(),
            Axis::Key => tensor.narrow(at, 0, lengths[1]).unwrap(),
            _ => tensor,
        });
        (declared.name.clone(), own)
    });
    Arguments {
        q: queries(&arguments.q),
        k: keys(&arguments.k),
        v: keys(&arguments.v),
        parameters: parameters.collect(),
        output_grad: queries(&arguments.output_grad),
        statistic_grad: arguments.statistic_grad.as_ref().map(queries),
        cu_seqlens: None,
    }
}

/// Calls of one sequence each give the same numbers, and gradients of parameters by sequence and position are in their places.
#[test]
fn a_sequence_is_an_attention_of_its_own() {
    for name in ["softmax", "alibi", "live_sigmoid", "document", "bias", "bias_q", "bias_kv", "batch_kind", "table"] {
        let definition = common::variant(name);
        let arguments = case().arguments(&definition).unwrap();
        for device in [Device::Cpu, Device::Oracle] {
            let attention = Attention::new(&definition, &device).unwrap();
            let (output, gradients) = run(&attention, &arguments);
            let mut rest: Vec<Vec<f64>> =
                gradients.parameters.iter().map(|(_, tensor)| tensor.to_f64_vec().unwrap()).collect();
            for (sequence, &lengths) in SEQUENCES.iter().enumerate() {
                let own = alone(&definition, &arguments, sequence, lengths);
                let (expected, own_gradients) = run(&attention, &own);
                let start = |side: usize| SEQUENCES[..sequence].iter().map(|lengths| lengths[side]).sum::<usize>();
                let part =
                    |tensor: &Tensor, side: usize| values(&tensor.narrow(2, start(side), lengths[side]).unwrap());
                let what = format!("{name} on {device}, sequence {sequence}");
                assert_eq!(part(&output.output, 0), values(&expected.output), "o of {what}");
                assert_eq!(part(&gradients.q, 0), values(&own_gradients.q), "dq of {what}");
                assert_eq!(part(&gradients.k, 1), values(&own_gradients.k), "dk of {what}");
                assert_eq!(part(&gradients.v, 1), values(&own_gradients.v), "dv of {what}");
                if let (Some(all), Some(own)) = (&output.statistic, &expected.statistic) {
                    assert_eq!(part(all, 0), values(own), "statistic of {what}");
                }
                subtract(&definition, &mut rest, &gradients, &own_gradients, sequence);
            }
            for (rest, (parameter, all)) in rest.iter().zip(gradients.parameters.iter()) {
                let largest = values(all).iter().fold(0.0, |m: f32, x| m.max(x.abs()));
                let left = rest.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
                assert!(largest > 0.0 && left < 1e-5 * f64::from(largest), "{name} on {device}: {left} of {parameter}");
            }
        }
    }
}

/// Takes what one sequence adds to gradients of parameters from their sums.
fn subtract(
    definition: &attn_dsl::Definition,
    rest: &mut [Vec<f64>],
    all: &Gradients,
    own: &Gradients,
    sequence: usize,
) {
    use attn_dsl::definition::Axis;
    let learnable = definition.parameters.iter().filter(|declared| declared.learnable);
    for ((declared, rest), (_, all)) in learnable.zip(rest).zip(all.parameters.iter()) {
        let own = own.parameters.get(&declared.name).unwrap();
        for (at, value) in own.to_f64_vec().unwrap().into_iter().enumerate() {
            let (mut left, mut position, mut stride) = (at, 0, 1);
            for ((axis, &extent), &own_extent) in declared.axes.iter().zip(all.shape()).zip(own.shape()).rev() {
                let own_place = left % own_extent;
                position += if *axis == Axis::Batch { sequence } else { own_place } * stride;
                left /= own_extent;
                stride *= extent;
            }
            rest[position] -= value;
        }
    }
}

/// The generated kernels: a tile of queries and one row, of which the next sequence has more than its tile of keys.
const SIMULATED: &[[usize; 2]] = &[[1, 1], [0, 0], [17, 40], [5, 0], [0, 9], [129, 70], [1, 33], [64, 64]];

/// Every kind of parameter and mask, and what rows keep.
const KINDS: [&str; 16] = [
    "sink_query",
    "alibi_const",
    "bias",
    "bias_kv",
    "bias_q",
    "table",
    "table_named",
    "table_clamped",
    "live_sigmoid",
    "relu_causal",
    "prefix",
    "document",
    "checkers",
    "batch_kind",
    "largest",
    "all_masked",
];

#[test]
fn kernels_agree_with_the_oracle() {
    let misses: Vec<String> = KINDS.par_iter().flat_map_iter(|name| simulated(name, &common::variant(name))).collect();
    assert!(misses.is_empty(), "\n{}", misses.join("\n"));
}

/// Parameters that are read by sequence, and at positions that a sequence does not have: these are its last one, or nothing where it
/// has none, whatever a longer parameter holds there.
const READS: [(&str, &str); 4] = [
    ("table_by_sequence", "table: f32[b, h, 9], score: |s, b, h, q, kv| s + table[b, h, q - kv + 4]"),
    ("sink_by_sequence", "sink: f32[b], normalizer: sum + exp(sink[b])"),
    ("next_key", "const gain: f32[b, kv], score: |s, b, h, q, kv| s * gain[b, kv + 1], mask: causal"),
    (
        "last_key",
        "const gain: f32[kv], score: |s, b, h, q, kv| s * gain[kv_len + 7], normalizer: sum + abs(gain[kv_len - 1])",
    ),
];

#[test]
fn reads_stay_within_their_sequence() {
    let check = |&(name, body): &(&str, &str)| {
        let definition = common::compile(name, body);
        let cpu = check_variant(&definition, &Device::Cpu, &[case()]).unwrap();
        let misses = cpu.failures().map(|(case, comparison)| format!("{name} {case}: {comparison}"));
        misses.chain(simulated(name, &definition)).collect::<Vec<_>>()
    };
    let misses: Vec<String> = READS.par_iter().flat_map_iter(check).collect();
    assert!(misses.is_empty(), "\n{}", misses.join("\n"));
}

fn simulated(name: &str, definition: &attn_dsl::Definition) -> Vec<String> {
    let shape = Shape { head_dim: 16, value_dim: 8, heads: 2, kv_heads: 1, ..shape() };
    let case = Case { shape, dtype: DType::F16, packed: Some(SIMULATED), ..case() };
    let cases = [case, Case { seed: 2, broadcast: true, strided: false, ..case }];
    match check_variant(definition, &Device::sim(1), &cases) {
        Ok(report) => {
            let missed = report.failures().map(|(case, comparison)| format!("{name} {case}: {comparison}"));
            missed.collect()
        }
        Err(error) => vec![format!("{name}: {error}")],
    }
}

/// More sequences than a warp looks at together, most of them shorter than a tile, some without rows.
#[test]
fn kernels_find_one_of_many_sequences() {
    let lengths: Vec<[usize; 2]> = (0..75).map(|i| [i % 4, (i * 5) % 7]).chain([[70, 66]]).collect();
    let case = Case {
        shape: Shape { head_dim: 16, value_dim: 16, heads: 2, kv_heads: 1, ..shape() },
        dtype: DType::BF16,
        packed: Some(Box::leak(lengths.into_boxed_slice())),
        ..Case::default()
    };
    for name in ["sink", "relu_causal", "table"] {
        check_variant(&common::variant(name), &Device::sim(3), &[case]).unwrap().assert_passed();
    }
}

/// Tiles of 48, 64 and 128 rows that end with their sequence, one before and one behind, from wherever it begins.
#[test]
fn sequences_end_around_tiles() {
    const AROUND: &[[usize; 2]] =
        &[[47, 129], [128, 48], [65, 63], [127, 49], [64, 64], [129, 47], [63, 127], [48, 128]];
    let shape = |head_dim| Shape { head_dim, value_dim: head_dim, heads: 1, kv_heads: 1, ..shape() };
    let definition = common::variant("sink");
    for (head_dim, dtype) in [(128, DType::BF16), (64, DType::F16), (16, DType::F32)] {
        let case = Case { shape: shape(head_dim), dtype, packed: Some(AROUND), ..Case::default() };
        check_variant(&definition, &Device::sim(4), &[case]).unwrap().assert_passed();
    }
}

fn bits(output: &Output, gradients: &Gradients) -> Vec<Vec<u8>> {
    let tensors = [&output.output, &gradients.q, &gradients.k, &gradients.v];
    let parameters = gradients.parameters.iter().map(|(_, tensor)| tensor);
    tensors.into_iter().chain(parameters).map(|tensor| tensor.to_host().unwrap().to_bytes().unwrap()).collect()
}

/// Lists on the device are used where they are; other orders of blocks and threads give the same bits.
#[test]
fn lists_may_be_on_the_device() {
    let definition = common::variant("table");
    let shape = Shape { head_dim: 16, value_dim: 16, heads: 2, kv_heads: 1, ..shape() };
    let case = Case { shape, dtype: DType::BF16, packed: Some(SIMULATED), ..Case::default() };
    let arguments = case.arguments(&definition).unwrap();
    let results = [false, true].map(|on_device| {
        let device = Device::sim(u64::from(on_device));
        let moved = |tensor: &Tensor| tensor.to_device(&device).unwrap();
        let lists = arguments.cu_seqlens.as_ref().unwrap();
        let on_device = Arguments {
            q: moved(&arguments.q),
            k: moved(&arguments.k),
            v: moved(&arguments.v),
            parameters: arguments.parameters.to_device(&device).unwrap(),
            output_grad: moved(&arguments.output_grad),
            statistic_grad: arguments.statistic_grad.as_ref().map(moved),
            cu_seqlens: Some(if on_device { [moved(&lists[0]), moved(&lists[1])] } else { lists.clone() }),
        };
        let (output, gradients) = run(&Attention::new(&definition, &device).unwrap(), &on_device);
        bits(&output, &gradients)
    });
    assert!(results[0] == results[1]);
}

#[test]
fn no_sequence_has_no_rows() {
    let definition = common::variant("sink");
    let arguments = Case { packed: Some(&[]), ..case() }.arguments(&definition).unwrap();
    for device in [Device::Cpu, Device::Oracle] {
        let (output, gradients) = run(&Attention::new(&definition, &device).unwrap(), &arguments);
        assert_eq!(output.output.shape(), [1, 4, 0, 5]);
        assert_eq!(output.statistic.unwrap().shape(), [1, 4, 0]);
        assert_eq!(gradients.k.shape(), [1, 2, 0, 8]);
        assert_eq!(values(gradients.parameters.get("sink").unwrap()), [0.0; 4]);
    }
    let shape = Shape { head_dim: 16, value_dim: 16, ..shape() };
    check_variant(&definition, &Device::sim(0), &[Case { shape, packed: Some(&[]), ..case() }])
        .unwrap()
        .assert_passed();
}

fn refuse<T>(result: Result<T, Error>) -> String {
    match result {
        Ok(_) => "accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn errors_say_what_to_change() {
    let zeros = |shape: &[usize]| Tensor::zeros(DType::F32, shape).unwrap();
    let list = |starts: &[i32]| Tensor::from_i32(&[starts.len()], starts.to_vec()).unwrap();
    let attention = |name: &str| Attention::new(&common::variant(name), &Device::Cpu).unwrap();
    let softmax = attention("softmax");
    let none = Parameters::new();
    let good = list(&[0, 3, 3, 8]);
    let forward = |attention: &Attention, q: &[usize], kv: &[usize], parameters: &Parameters| {
        let packed = attention.packed(&good, &good).unwrap();
        refuse(packed.forward(&zeros(q), &zeros(kv), &zeros(kv), parameters))
    };
    let rows = [1, 2, 8, 4];
    let int = |shape: &[usize]| none.clone().with("ids", Tensor::zeros(DType::I32, shape).unwrap());
    let messages = [
        refuse(softmax.packed(&zeros(&[4]), &good)),
        refuse(softmax.packed(&list(&[]), &good)),
        refuse(softmax.packed(&Tensor::from_i32(&[2, 2], vec![0; 4]).unwrap(), &good)),
        refuse(softmax.packed(&list(&[1, 3, 8]), &good)),
        refuse(softmax.packed(&good, &list(&[0, 5, 3, 8]))),
        refuse(softmax.packed(&list(&[0, 8]), &good)),
        forward(&softmax, &[2, 2, 8, 4], &[2, 2, 8, 4], &none),
        forward(&softmax, &[1, 2, 9, 4], &rows, &none),
        forward(&softmax, &rows, &[1, 2, 7, 4], &none),
        forward(&attention("batch_kind"), &rows, &rows, &none.clone().with("t", zeros(&[2]))),
        forward(&attention("bias_kv"), &rows, &rows, &none.clone().with("bias", zeros(&[4]))),
        forward(&attention("bias"), &rows, &rows, &none.clone().with("bias", zeros(&[3, 2, 4, 5]))),
        forward(&attention("document"), &rows, &rows, &int(&[3, 9])),
    ];
    insta::assert_snapshot!(messages.join("\n"));
}
