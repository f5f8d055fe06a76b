//! Row passes of the Hopper schedule on the simulated GPU against the CPU executor, whose products are exact here as theirs are: rows
//! whose scores are planted, so that it is known which keys are kept. Heads have a row of scores each.

use attn::sim::{SimDevice, SimOptions};
use attn::{Attention, DType, Definition, Device, Parameters, Tensor};
use rayon::prelude::*;

const Q_LEN: usize = 70;
const KV_LEN: usize = 300;
const HEAD_DIM: usize = 64;
/// Numbers that no order has, of about the normal distribution.
const RANDOM: usize = 0;
const HEADS: usize = 7;

fn variant(body: &str) -> Definition {
    let text = format!("struct Rows {{ {body} }}");
    attn::compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "rows.attn")))
}

/// The score of a key, which the type of the tensors has exactly.
fn score(head: usize, kv: usize) -> f64 {
    match head {
        RANDOM => {
            let bits = (kv as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let uniform = |shift: u32| ((bits >> shift) % 64) as f64 / 64.0 - 0.5;
            ((uniform(20) + uniform(30) + uniform(40) + uniform(50)) * 64.0).round() / 32.0
        }
        // all are the same; they rise; they fall
        1 => 0.5,
        2 => kv as f64 / 32.0,
        3 => (KV_LEN - kv) as f64 / 32.0,
        // each is there five times; two levels; nearly all are below
        4 => (kv / 5 * 37 % 60) as f64 / 16.0,
        5 => (kv % 2) as f64 * 3.0,
        _ => {
            if kv % 97 == 13 {
                6.0
            } else {
                -2.0
            }
        }
    }
}

/// Tensors whose first columns alone are not 0: products are the scores, by a power of two of the query.
fn tensors() -> [Tensor; 3] {
    let of_rows = |rows: usize, first: &dyn Fn(usize, usize) -> f64| {
        let at = |at: usize| match at % HEAD_DIM {
            0 => first(at / HEAD_DIM / rows, at / HEAD_DIM % rows),
            _ => 0.0,
        };
        let values: Vec<f64> = (0..HEADS * rows * HEAD_DIM).map(at).collect();
        Tensor::from_f64(DType::F16, &[1, HEADS, rows, HEAD_DIM], &values).unwrap()
    };
    let q = of_rows(Q_LEN, &|_, q| [1.0, 0.5, -1.0, 0.0, 2.0][q % 5]);
    let k = of_rows(KV_LEN, &score);
    let values: Vec<f64> = (0..HEADS * KV_LEN * HEAD_DIM).map(|at| ((at * 7919) % 257) as f64 / 128.0 - 1.0).collect();
    [q, k, Tensor::from_f64(DType::F16, &[1, HEADS, KV_LEN, HEAD_DIM], &values).unwrap()]
}

fn output(definition: &Definition, device: &Device, [q, k, v]: &[Tensor; 3]) -> Vec<f64> {
    let attention = Attention::new(definition, device).unwrap().scale(1.0).unwrap().gradients(false);
    let [q, k, v] = [q, k, v].map(|tensor| tensor.to_device(device).unwrap());
    let output = attention.forward(&q, &k, &v, &Parameters::new()).unwrap_or_else(|error| panic!("{error}"));
    output.output.to_host().unwrap().to_f64_vec().unwrap()
}

fn sim(seed: u64) -> Device {
    Device::Sim(SimDevice::new(SimOptions::new(seed)))
}

/// Each row: as many NaNs, or values that differ by roundings.
fn compare(what: &str, actual: &[f64], expected: &[f64]) -> Result<(), String> {
    let rows = actual.chunks(HEAD_DIM).zip(expected.chunks(HEAD_DIM)).enumerate();
    for (row, (actual, expected)) in rows {
        let close = |(a, e): (&f64, &f64)| (a.is_nan() && e.is_nan()) || (a - e).abs() < 2e-3;
        if !actual.iter().zip(expected).all(close) {
            let (head, q) = (row / Q_LEN, row % Q_LEN);
            return Err(format!("{what}: head {head}, query {q}: {:?}, expected {:?}", &actual[..4], &expected[..4]));
        }
    }
    Ok(())
}

/// The keys that are kept of rows that rise, fall, or are equal in part or whole; rows with fewer keys than are kept, and with none.
#[test]
fn planted_rows_keep_their_keys() {
    let normalizers =
        ["keep: top_k(7)", "keep: top_k(7, ties)", "keep: top_k(64)", "keep: top_k(250)", "keep: top_k(q % 9)"];
    let entmax = ["normalizer: sparsemax", "normalizer: entmax15", "normalizer: entmax(1.25)"];
    let masks = ["true", "causal", "window(90, 40) | prefix(3)"];
    let cases = normalizers.into_iter().chain(entmax).enumerate().map(|(at, body)| (body, masks[at % 3]));
    let causal = [("keep: top_k(7)", "causal"), ("normalizer: entmax15", "true")];
    let missed: Vec<String> = cases
        .chain(causal)
        .par_bridge()
        .filter_map(|(body, mask)| {
            let definition = variant(body).with_mask(mask).expect("a mask");
            let tensors = tensors();
            let actual = output(&definition, &sim(0), &tensors);
            let expected = output(&definition, &Device::Cpu, &tensors);
            compare(&format!("{body}, {mask}"), &actual, &expected).err()
        })
        .collect();
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// A NaN among the scores of a row reaches its output, and no other; the order of threads changes no bit.
#[test]
fn numbers_that_are_none_reach_their_rows() {
    for body in ["keep: top_k(7)", "normalizer: entmax15"] {
        let definition = variant(body).with_mask("causal").expect("a mask");
        let mut tensors = tensors();
        let mut keys = tensors[1].to_f64_vec().unwrap();
        // the first queries of the head do not see it
        let (head, key) = (RANDOM, KV_LEN - Q_LEN + 20);
        keys[(head * KV_LEN + key) * HEAD_DIM] = f64::NAN;
        tensors[1] = Tensor::from_f64(DType::F16, tensors[1].shape(), &keys).unwrap();
        let actual = output(&definition, &sim(1), &tensors);
        compare(body, &actual, &output(&definition, &Device::Cpu, &tensors)).unwrap_or_else(|error| panic!("{error}"));
        let is_lost = |q: usize| actual[(head * Q_LEN + q) * HEAD_DIM].is_nan();
        assert!((0..20).all(|q| !is_lost(q)) && (20..Q_LEN).all(is_lost), "{body}");
        let again = output(&definition, &sim(2), &tensors);
        assert!(actual.iter().zip(&again).all(|(a, b)| a.to_bits() == b.to_bits()), "{body}");
    }
}
