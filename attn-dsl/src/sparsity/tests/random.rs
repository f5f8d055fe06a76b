//! Random masks: never wrong, and nearly always right where they are affine.

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::place::{Coverage, GRID, Mask, Place};

/// Integers of positions, lengths and parameters, through every operation that a mask may use.
fn integer() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        6 => select(&["q", "kv"][..]).prop_map(str::to_owned),
        2 => select(&["q_len", "kv_len", "kv_len - q_len", "h", "b"][..]).prop_map(str::to_owned),
        4 => select(&["limit[b]", "ids[b, kv]", "ids[b, q + kv_len - q_len]", "rows[b, q]", "table[q / 4]", "table[abs(q - kv)]", "grid[q / 4, kv / 3]", "grid[q / 16, (kv + 3) / 16]", "grid[q / 8, kv]", "grid[rows[b, q], ids[b, kv]]", "grid[q, kv]"][..])
            .prop_map(str::to_owned),
        2 => (-6i32..12).prop_map(|n| n.to_string()),
    ];
    leaf.prop_recursive(3, 10, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            4 => two().prop_map(|(a, b)| format!("({a} + {b})")),
            4 => two().prop_map(|(a, b)| format!("({a} - {b})")),
            1 => inner.clone().prop_map(|a| format!("(-({a}))")),
            2 => (inner.clone(), -3i32..4).prop_map(|(a, c)| format!("(({a}) * {c})")),
            1 => two().prop_map(|(a, b)| format!("(({a}) * ({b}))")),
            3 => (inner.clone(), select(&["/", "%"][..]), select(&["2", "3", "4", "8", "-3", "0", "limit[b]", "kv_len"][..]))
                .prop_map(|(a, op, c)| format!("(({a}) {op} ({c}))")),
            2 => inner.clone().prop_map(|a| format!("abs({a})")),
            2 => (select(&["min", "max"][..]), two()).prop_map(|(f, (a, b))| format!("{f}({a}, {b})")),
            1 => (two(), two()).prop_map(|((a, b), (c, d))| format!("(if ({a}) < ({b}) {{ {c} }} else {{ {d} }})")),
            1 => two().prop_map(|(a, b)| format!("((({a}) <= ({b})) as i32)")),
        ]
    })
}

fn mask() -> impl Strategy<Value = String> {
    let symbol = select(&["<", "<=", ">", ">=", "==", "!="][..]);
    let leaf = (integer(), symbol, integer()).prop_map(|(a, op, b)| format!("({a}) {op} ({b})"));
    let body = leaf.prop_recursive(3, 8, 2, |inner| {
        let two = || (inner.clone(), inner.clone());
        prop_oneof![
            4 => two().prop_map(|(a, b)| format!("({a}) & ({b})")),
            3 => two().prop_map(|(a, b)| format!("({a}) | ({b})")),
            1 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => (inner.clone(), two()).prop_map(|(c, (a, b))| format!("(if {c} {{ {a} }} else {{ {b} }})")),
        ]
    });
    body.prop_map(|body| format!("|b, h, q, kv| {body}"))
}

/// Most elements are small; some are as large as they get.
fn element() -> impl Strategy<Value = i32> {
    prop_oneof![
        12 => -4i32..20,
        1 => select(&[i32::MAX, i32::MIN, i32::MAX - 3, i32::MIN + 2, 1 << 30, -(1 << 30)][..]),
    ]
}

fn tile() -> impl Strategy<Value = Place> {
    let elements = |len: usize| prop::collection::vec(element(), len);
    let sorted = elements(24).prop_map(|mut ids| {
        ids.sort_unstable();
        ids
    });
    let ids = prop_oneof![elements(24), sorted];
    let corner = || (0i64..24, 0i64..10);
    // rows of it are shifted copies
    let grid =
        elements(GRID).prop_map(|row| (0..GRID * GRID).map(|at| row[(at + at / GRID * 5) % GRID]).collect::<Vec<_>>());
    let tables = (elements(8), grid);
    (0i64..2, 0i64..3, [1i64..24, 1i64..24], element(), ids, elements(24), tables, corner(), corner()).prop_map(
        |(b, h, [q_len, kv_len], limit, mut ids, mut rows, (table, grid), (q, height), (kv, width))| {
            ids.truncate(kv_len as usize);
            rows.truncate(q_len as usize);
            let (q, kv) = (q % q_len, kv % kv_len);
            let queries = [q, (q + height).min(q_len - 1)];
            let keys = [kv, (kv + width).min(kv_len - 1)];
            Place { b, h, q_len, kv_len, limit, ids, rows, table, grid, queries, keys, ..Place::default() }
        },
    )
}

/// In exact integers and in 32 bits that wrap. Of tiles that are empty or full most are recognised, so that this tests something.
#[test]
fn no_live_pair_is_skipped_and_no_dead_one_taken() {
    let config = Config { cases: 2500, failure_persistence: None, ..Config::default() };
    let (decided, recognised) = (Cell::new(0), Cell::new(0));
    let tested = TestRunner::new(config).run(&(mask(), prop::collection::vec(tile(), 6)), |(mask, tiles)| {
        let compiled = Mask::new(&mask);
        let mut evaluators = compiled.evaluators();
        for tile in tiles {
            let (bound, coverage) = (evaluators.bound(&tile), evaluators.coverage(&tile));
            decided.set(decided.get() + u32::from(coverage != Coverage::Partial));
            recognised.set(recognised.get() + u32::from(bound != Coverage::Partial));
            prop_assert!(bound == Coverage::Partial || bound == coverage, "{bound:?}: {mask} in {tile:?}");
            let [_, may_live, all_live] = compiled.wrapping(&tile);
            // a part of an empty tile is found to be empty, too: kernels that look at parts and at the whole agree
            let part = |[first, last]: [i64; 2]| [first + (last - first) / 3, last - (last - first) / 4];
            let inner = Place { queries: part(tile.queries), keys: part(tile.keys), ..tile.clone() };
            let [_, inner_may_live, _] = compiled.wrapping(&inner);
            prop_assert!(may_live || !inner_may_live, "{mask}: {inner:?} of {tile:?}");
            if may_live && !all_live {
                continue;
            }
            for q in tile.queries[0]..=tile.queries[1] {
                for kv in tile.keys[0]..=tile.keys[1] {
                    let [live, ..] = compiled.wrapping(&Place { q, kv, ..tile.clone() });
                    prop_assert!(may_live || !live, "a live pair is skipped: {mask} at {q}, {kv} in {tile:?}");
                    prop_assert!(live || !all_live, "a dead pair is taken: {mask} at {q}, {kv} in {tile:?}");
                }
            }
        }
        Ok(())
    });
    tested.unwrap_or_else(|error| panic!("{error}"));
    println!("any: {} of {}", recognised.get(), decided.get());
    assert!(decided.get() > 5000 && 10 * recognised.get() > 6 * decided.get(), "{recognised:?} of {decided:?}");
}

/// Conjunctions and disjunctions of up to three affine comparisons.
fn affine() -> impl Strategy<Value = String> {
    let factor = || prop_oneof![3 => -1i32..=1, 1 => -3i32..=3];
    let comparison = (factor(), factor(), -60i32..60, select(&["<", "<=", ">", ">="][..]))
        .prop_map(|(a, b, c, op)| format!("({a} * q + {b} * kv {op} {c})"));
    let several = prop::collection::vec(comparison, 1..=3);
    (several, select(&[" & ", " | "][..])).prop_map(|(terms, op)| format!("|b, h, q, kv| {}", terms.join(op)))
}

#[test]
fn most_tiles_of_affine_masks_are_recognised() {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let (mut found, mut all) = (0u32, 0u32);
    for _ in 0..400 {
        let mask = affine().new_tree(&mut runner).expect("nothing is rejected").current();
        let compiled = Mask::new(&mask);
        let mut evaluators = compiled.evaluators();
        for (q, kv) in (0..64i64).step_by(8).flat_map(|q| (0..64i64).step_by(16).map(move |kv| (q, kv))) {
            let tile = Place { q_len: 64, kv_len: 64, queries: [q, q + 7], keys: [kv, kv + 15], ..Place::default() };
            let coverage = evaluators.coverage(&tile);
            if coverage != Coverage::Partial {
                all += 1;
                found += u32::from(evaluators.bound(&tile) == coverage);
            }
        }
    }
    println!("affine: {found} of {all}");
    assert!(all > 4000, "only {all} tiles are empty or full");
    assert!(f64::from(found) >= 0.9 * f64::from(all), "{found} of {all}");
}
