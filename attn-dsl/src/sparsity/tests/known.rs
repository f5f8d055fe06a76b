//! The masks of the literature: nearly every tile that is empty or full is recognised.

use super::place::{Coverage, GRID, Mask, Place};

/// Name and text.
const MASKS: &[(&str, &str)] = &[
    ("causal", "|b, h, q, kv| kv <= q"),
    ("causal, bottom right", "causal"),
    ("sliding window", "window(200, 0)"),
    ("sliding window, both sides", "window(96, 150)"),
    ("prefix LM", "causal | prefix(200)"),
    ("prefix LM, by batch", "|b, h, q, kv| kv < limit[b] || kv <= q + kv_len - q_len"),
    ("document", "document(ids)"),
    ("document & causal", "document(ids) & causal"),
    ("dilated window", "|b, h, q, kv| abs(q - kv) < 300 && (q - kv) % 3 == 0"),
    ("block diagonal", "|b, h, q, kv| q / 150 == kv / 150"),
    ("block causal", "|b, h, q, kv| kv / 96 <= q / 96"),
    ("NATTEN 2-D", "|b, h, q, kv| abs(q / 32 - kv / 32) <= 3 && abs(q % 32 - kv % 32) <= 3"),
    ("NATTEN 2-D, odd width", "|b, h, q, kv| abs(q / 40 - kv / 40) <= 2 && abs(q % 40 - kv % 40) <= 2"),
    (
        "NATTEN 2-D, shifted at borders",
        "|b, h, q, kv| abs(min(max(q / 32, 3), kv_len / 32 - 4) - kv / 32) <= 3 && abs(min(max(q % 32, 3), 28) - kv % 32) <= 3",
    ),
    ("global tokens + window", "|b, h, q, kv| q < 140 || kv < 140 || abs(q - kv) <= 250"),
    ("sink tokens + window", "|b, h, q, kv| kv <= q && (kv < 70 || q - kv < 300)"),
    ("strided", "|b, h, q, kv| kv <= q && (q - kv < 260 || (q - kv) % 64 == 0)"),
    ("strided columns", "|b, h, q, kv| kv <= q && (q - kv < 100 || kv % 256 >= 120)"),
    ("positions", "|b, h, q, kv| ids[b, kv] <= rows[b, q]"),
    ("no mask by a size", "|b, h, q, kv| kv < limit[b]"),
    ("random blocks of 64", "blocks(grid, 64, 64)"),
    ("random blocks of 128", "blocks(grid, 128, 128)"),
    ("random blocks of 256", "blocks(grid, 256, 256)"),
    ("random blocks & causal", "blocks(grid, 128, 128) & causal"),
    ("random blocks of keys", "|b, h, q, kv| grid[rows[b, q], kv / 64] != 0"),
    ("kinds of documents", "|b, h, q, kv| grid[rows[b, q], ids[b, kv]] != 0"),
];

/// Lengths of queries and keys.
const LENGTHS: &[(i64, i64)] = &[(384, 384), (450, 600), (800, 800)];

const TILES: &[(i64, i64)] = &[(64, 128), (128, 128), (128, 64)];

/// Documents of uneven lengths; positions that rise along the sequence.
fn place(q_len: i64, kv_len: i64) -> Place {
    const LENGTHS: [i64; 7] = [90, 7, 160, 33, 250, 64, 121];
    let mut ids = Vec::new();
    for (id, length) in LENGTHS.iter().cycle().enumerate() {
        ids.extend((0..*length).map(|_| id as i32));
        if ids.len() as i64 >= kv_len {
            break;
        }
    }
    ids.truncate(kv_len as usize);
    let rows = (0..q_len).map(|q| (q / 50) as i32).collect();
    // a third are holes
    let grid = (0..(GRID * GRID) as i32).map(|at| at * at % 31 % 3).collect();
    Place { q_len, kv_len, limit: 300, ids, rows, table: vec![0; 8], grid, ..Place::default() }
}

/// How many tiles are empty or full, and how many of them are recognised.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    empty: [u32; 2],
    full: [u32; 2],
    partial: u32,
}

fn count(mask: &Mask) -> Count {
    let mut evaluators = mask.evaluators();
    let mut count = Count::default();
    for &(q_len, kv_len) in LENGTHS {
        let place = place(q_len, kv_len);
        let live = evaluators.live_pairs(&place);
        let coverage_of = |queries: [i64; 2], keys: [i64; 2]| {
            let rows = (queries[0]..=queries[1]).map(|q| &live[(q * kv_len) as usize..][..kv_len as usize]);
            let count: usize =
                rows.map(|row| row[keys[0] as usize..=keys[1] as usize].iter().filter(|live| **live).count()).sum();
            match count as i64 {
                0 => Coverage::Empty,
                all if all == (queries[1] + 1 - queries[0]) * (keys[1] + 1 - keys[0]) => Coverage::Full,
                _ => Coverage::Partial,
            }
        };
        for &(rows, columns) in TILES {
            for q in (0..q_len).step_by(rows as usize) {
                for kv in (0..kv_len).step_by(columns as usize) {
                    let queries = [q, (q + rows).min(q_len) - 1];
                    let keys = [kv, (kv + columns).min(kv_len) - 1];
                    let tile = Place { queries, keys, ..place.clone() };
                    let (coverage, bound) = (coverage_of(queries, keys), evaluators.bound(&tile));
                    assert!(bound == Coverage::Partial || bound == coverage, "{bound:?}, not {coverage:?}: {tile:?}");
                    let counted = match coverage {
                        Coverage::Empty => &mut count.empty,
                        Coverage::Full => &mut count.full,
                        Coverage::Partial => {
                            count.partial += 1;
                            continue;
                        }
                    };
                    counted[0] += 1;
                    counted[1] += u32::from(bound == coverage);
                }
            }
        }
    }
    count
}

#[test]
fn nearly_all_tiles_of_known_masks_are_recognised() {
    let mut worst = (f64::INFINITY, "");
    println!("{:32} {:>14} {:>14} {:>8} {:>9}", "mask", "empty", "full", "partial", "found");
    for &(name, text) in MASKS {
        let Count { empty, full, partial } = count(&Mask::new(text));
        let (all, found) = (empty[0] + full[0], empty[1] + full[1]);
        assert!(all > 0, "{name}: every tile is partial, which tests nothing");
        let share = f64::from(found) / f64::from(all);
        let of = |[all, found]: [u32; 2]| format!("{found} of {all}");
        println!("{name:32} {:>14} {:>14} {partial:>8} {:>8.2}%", of(empty), of(full), 100.0 * share);
        if share < worst.0 {
            worst = (share, name);
        }
    }
    assert!(worst.0 >= 0.99, "{}: {:.2}% of the tiles that are empty or full", worst.1, 100.0 * worst.0);
}
