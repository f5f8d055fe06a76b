//! How much of a mask is looked at, and that what is not looked at is what it would have been.

use attn_dsl::{compile_one, lower};

use super::*;
use crate::cpu::context::ranges;
use crate::cpu::evaluate::{Launch, ParameterValues, ParameterView, RowInputs};
use crate::cpu::extremes::AxisExtremes;

/// The number of tiles of a batch and head, and of those of which pairs are tested.
fn tiles(mask: &str, q_len: usize, kv_len: usize, ids: &[i32]) -> (usize, usize) {
    let text = format!("struct Masked {{ ids: i32[b, kv], mask: {mask} }}");
    let definition = compile_one(&text).unwrap_or_else(|errors| panic!("{}", errors.render(&text, "mask.attn")));
    let lowered = lower::lower(&definition).expect("softmax lowers");
    let program = MaskProgram::new(&lowered, lowered.mask.expect("there is a mask"));
    let shape = [1, ids.len()];
    let view = ParameterView { values: ParameterValues::Int(ids), shape: &shape, strides: &[ids.len(), 1], offset: 0 };
    let extremes =
        program.ranges().iter().map(|&(parameter, axis)| AxisExtremes::new(parameter, axis, &view)).collect();
    let parameters = vec![view];
    let launch = Launch { scale: 1.0, head_dim: 64, q_len, kv_len, sizes: &[], parameters, extremes };
    let positions: Vec<i32> = (0..q_len.max(kv_len) as i32).collect();
    let mut tile = MaskTile::new(Some(&program));
    let (mut all, mut tested) = (0, 0);
    for (q, rows) in ranges(q_len, ROWS) {
        for (kv, columns) in ranges(kv_len, COLUMNS) {
            let inputs = Inputs {
                launch: &launch,
                batch: 0,
                head: 0,
                queries: &positions[q..][..rows],
                keys: &positions[kv..][..columns],
                product: &[],
                output_grad_product: &[],
                rows: RowInputs::default(),
            };
            all += 1;
            match tile.bound(&program, &inputs) {
                Coverage::Partial => tested += 1,
                known => {
                    assert_eq!(known, tile.test_pairs(&program, &inputs), "{mask}: queries from {q}, keys from {kv}")
                }
            }
        }
    }
    (all, tested)
}

#[test]
fn pairs_of_a_window_are_tested_at_its_edges_alone() {
    for n in [1024, 2048, 4096] {
        let (all, tested) = tiles("window(512, 0)", n, n, &[0]);
        assert_eq!(all, (n / 64) * (n / 64));
        // the diagonal, and where the window ends behind it
        assert_eq!(tested, n / 64 + (n - 512) / 64, "of {n} queries");
    }
}

#[test]
fn what_is_not_tested_is_what_it_would_be() {
    let ids: Vec<i32> = (0..1000).map(|key| key / 90).collect();
    for (mask, most) in [
        ("causal", 30),
        ("document(ids)", 60),
        ("document(ids) & causal", 60),
        ("|b, h, q, kv| abs(q - kv) < 100 && (q - kv) % 4 == 0", 80),
        ("|b, h, q, kv| q / 128 == kv / 128 || kv < 3", 40),
        ("|b, h, q, kv| ids[b, q] <= ids[b, kv] + 1", 60),
    ] {
        for (q_len, kv_len) in [(1000, 1000), (700, 1000), (1000, 333), (65, 1)] {
            let (all, tested) = tiles(mask, q_len, kv_len, &ids[..kv_len]);
            assert!(tested <= most, "{mask}: {tested} of {all} tiles are tested at {q_len} x {kv_len}");
        }
    }
}
