//! Hand-written Hopper kernels run in the simulator and agree with a naive computation: lengths that fill no tile, shared heads of
//! k and v, rows without keys, both head dims, several seeds.

mod support;

use support::attention::Shape;
use support::simulator::{build, run};
use support::workload::{Workload, hopper_backward, hopper_forward, portable_backward, portable_forward};

fn check(workload: &Workload, seeds: std::ops::Range<u64>) {
    let kernel = build(&workload.case);
    for seed in seeds {
        match run(&workload.case, &kernel, seed) {
            Ok(buffers) => assert_eq!(workload.difference(&buffers), None, "{}: seed {seed}", workload.case.name),
            Err(failure) => panic!("{}: seed {seed}: {failure}", workload.case.name),
        }
    }
}

const SMALL: Shape = Shape { batches: 1, heads: 1, group: 1, q_len: 200, kv_len: 300, head_dim: 64, causal: true };

#[test]
fn forward() {
    check(&hopper_forward(&SMALL), 0..4);
    check(&hopper_forward(&Shape { head_dim: 128, ..SMALL }), 0..2);
    check(&hopper_forward(&Shape { causal: false, kv_len: 400, q_len: 33, head_dim: 128, ..SMALL }), 0..2);
    check(&hopper_forward(&Shape { batches: 2, heads: 2, group: 2, q_len: 60, kv_len: 129, ..SMALL }), 0..2);
}

#[test]
fn forward_of_rows_without_keys() {
    check(&hopper_forward(&Shape { q_len: 300, kv_len: 40, ..SMALL }), 0..2);
}

#[test]
fn backward() {
    check(&hopper_backward(&SMALL), 0..4);
    check(&hopper_backward(&Shape { head_dim: 128, ..SMALL }), 0..2);
    check(&hopper_backward(&Shape { causal: false, q_len: 130, kv_len: 150, head_dim: 128, ..SMALL }), 0..2);
    check(&hopper_backward(&Shape { batches: 2, heads: 2, q_len: 60, kv_len: 129, ..SMALL }), 0..2);
}

#[test]
fn backward_of_rows_without_keys_and_keys_without_rows() {
    check(&hopper_backward(&Shape { q_len: 300, kv_len: 40, ..SMALL }), 0..2);
    check(&hopper_backward(&Shape { q_len: 10, kv_len: 300, causal: false, ..SMALL }), 0..2);
}

#[test]
fn portable() {
    check(&portable_forward(&Shape { heads: 2, group: 2, ..SMALL }), 0..4);
    check(&portable_backward(&Shape { heads: 2, group: 2, ..SMALL }), 0..4);
}
