//! `attn_reduce` in the simulator: every way in which a gradient may keep axes and sum over others, against sums in f64.

use attn_dsl::cuda::{PartialSums, REDUCE_THREADS, reduce_source};
use attn_runtime::testing::Random;
use attn_sim::{Kernel, Launch, Memory};
use proptest::prelude::*;

/// Partial sums with a contiguous gradient whose own axes come in this order: 0, 1, 2 for batch, head and position, 3 and up for
/// those of a table. What is not named is summed over.
fn sums(extents: [usize; 3], table: &[usize], order: &[usize]) -> PartialSums {
    let extent = |axis: usize| if axis < 3 { extents[axis] } else { table[axis - 3] };
    let mut strides = vec![None; 3 + table.len()];
    let mut stride = 1;
    for &axis in order.iter().rev() {
        strides[axis] = Some(stride);
        stride *= extent(axis);
    }
    let own = |at: usize| strides[3 + at].expect("no axis of a table is summed over");
    PartialSums {
        extents,
        strides: [strides[0], strides[1], strides[2]],
        table: table.iter().enumerate().map(|(at, &extent)| (extent, own(at))).collect(),
    }
}

/// The elements of the gradient.
fn elements(sums: &PartialSums) -> usize {
    let kept = sums.extents.iter().zip(sums.strides).filter_map(|(&extent, stride)| stride.map(|_| extent));
    kept.chain(sums.table.iter().map(|(extent, _)| *extent)).product()
}

/// The sum of every element and the sum of its terms' sizes, walked as the layout says.
fn expected(sums: &PartialSums, partial: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (mut values, mut sizes) = (vec![0.0; elements(sums)], vec![0.0; elements(sums)]);
    let table = sums.table.iter().map(|&(extent, stride)| (extent, stride));
    let axes: Vec<(usize, usize)> = sums
        .extents
        .iter()
        .zip(sums.strides)
        .map(|(&extent, stride)| (extent, stride.unwrap_or(0)))
        .chain(table)
        .collect();
    for (at, &term) in partial.iter().enumerate() {
        let (mut rest, mut target) = (at, 0);
        for &(extent, stride) in axes.iter().rev() {
            target += rest % extent * stride;
            rest /= extent;
        }
        values[target] += f64::from(term);
        sizes[target] += f64::from(term.abs());
    }
    (values, sizes)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

/// The gradient after a launch over one that holds `before`.
fn run(kernel: &Kernel, sums: &PartialSums, partial: &[f32], before: &[f32], adds: bool, seed: u64) -> Vec<f32> {
    let memory = Memory::new();
    let terms = memory.allocate("partial", partial.len() * 4);
    terms.write(0, &bytes(partial));
    let gradient = memory.allocate("gradient", before.len() * 4);
    gradient.write(0, &bytes(before));
    let reduction = sums.reduction();
    let argument = reduction.argument(terms.address(), gradient.address(), adds);
    let launch =
        Launch { grid: [reduction.blocks, 1, 1], block: [REDUCE_THREADS, 1, 1], shared_memory: 0, seed, trace: false };
    kernel.launch(&memory, &launch, &[&argument]).unwrap_or_else(|failure| panic!("{sums:?}: {}", failure.fault));
    let word = |word: &[u8]| f32::from_ne_bytes(word.try_into().expect("four bytes"));
    gradient.read().chunks_exact(4).map(word).collect()
}

/// Replaces and adds; two orders of threads give the same bits.
fn check(kernel: &Kernel, sums: &PartialSums, seed: u64) {
    let count = elements(sums);
    if count == 0 {
        assert_eq!(sums.reduction().blocks, 0, "{sums:?}");
        return;
    }
    let mut random = Random::new(seed);
    let partial: Vec<f32> = (0..sums.count()).map(|_| random.normal() as f32).collect();
    let before: Vec<f32> = (0..count).map(|_| random.normal() as f32).collect();
    let (values, sizes) = expected(sums, &partial);
    // what is replaced may be anything
    let replaced = run(kernel, sums, &partial, &vec![f32::NAN; count], false, seed);
    let added = run(kernel, sums, &partial, &before, true, seed + 1);
    for at in 0..count {
        let error = (f64::from(replaced[at]) - values[at]).abs();
        assert!(error <= 1e-5 * sizes[at], "{sums:?}: {} instead of {} at {at}", replaced[at], values[at]);
        assert_eq!(added[at], before[at] + replaced[at], "{sums:?} at {at}");
    }
}

fn kernel() -> Kernel {
    Kernel::new(reduce_source(), "attn_reduce").unwrap_or_else(|error| panic!("{error}"))
}

/// Every kind of parameter that has partial sums, short and long.
#[test]
fn every_kind_of_gradient() {
    let kernel = kernel();
    let rows = |b, h, n| [b, h, n];
    let cases = [
        sums(rows(1, 3, 2500), &[], &[1]),                       // [h]: a long run
        sums(rows(5, 3, 130), &[], &[1]),                        // a run that is repeated
        sums(rows(70, 3, 7), &[], &[1]),                         // one that is shorter than a round
        sums(rows(2, 3, 900), &[], &[]),                         // []
        sums(rows(2, 1, 900), &[], &[0]),                        // [b]
        sums(rows(3, 4, 50), &[], &[0, 1]),                      // [b, h]
        sums(rows(3, 4, 50), &[], &[1, 0]),                      // [h, b]
        sums(rows(2, 3, 133), &[], &[1, 2]),                     // [h, q]
        sums(rows(2, 3, 133), &[], &[2, 1]),                     // [q, h]
        sums(rows(2, 3, 33), &[], &[0, 1, 2]),                   // all are kept
        sums(rows(2, 40, 33), &[], &[0, 2]),                     // [b, kv]
        sums(rows(40, 20, 9), &[], &[2]),                        // [kv]
        sums(rows(2, 3, 5), &[32], &[1, 3]),                     // [h, 32]
        sums(rows(2, 3, 50), &[7], &[3]),                        // [7]
        sums(rows(2, 3, 4), &[3, 5], &[3, 1, 4]),                // [3, h, 5]
        sums(rows(2, 3, 4), &[3, 2, 2, 5], &[3, 0, 4, 1, 5, 6]), // as many pieces as there may be
        sums(rows(1, 1, 1), &[], &[]),
        sums(rows(2, 3, 0), &[], &[1]), // nothing to add
        sums(rows(0, 3, 4), &[6], &[1, 3]),
        sums(rows(2, 0, 4), &[], &[1]), // nowhere to add it
    ];
    for (at, sums) in cases.iter().enumerate() {
        check(&kernel, sums, at as u64);
    }
}

/// As many blocks as there are elements to share, and no thread that waits for all others' terms.
#[test]
fn launches_fill_their_blocks() {
    let blocks = |extents, table: &[usize], order: &[usize]| sums(extents, table, order).reduction().blocks;
    assert_eq!(blocks([1, 16, 16384], &[], &[1]), 16, "a block a head");
    assert_eq!(blocks([1, 16, 16384], &[], &[1, 2]), 16 * 16384 / REDUCE_THREADS, "a thread a row");
    assert_eq!(blocks([1, 16, 16384], &[], &[2]), 16384 / 32, "a warp reads neighbours");
    assert_eq!(blocks([4, 16, 256], &[32], &[1, 3]), 16, "a block a head's table");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_gradients(
        extents in prop::array::uniform3(prop_oneof![Just(1usize), 0usize..6, 30usize..70]),
        table in prop::collection::vec(1usize..7, 0..3),
        kept in prop::array::uniform3(any::<bool>()),
        places in prop::array::uniform2(0usize..4),
        seed in 0u64..1000,
    ) {
        thread_local! { static KERNEL: Kernel = kernel(); }
        let mut order: Vec<usize> = (0..3).filter(|&axis| kept[axis]).collect();
        // the axes of a table stand anywhere among the others, and in their order
        let mut places = places.map(|place| place.min(order.len()));
        places.sort_unstable();
        for (at, place) in places.into_iter().take(table.len()).enumerate() {
            order.insert(place + at, 3 + at);
        }
        KERNEL.with(|kernel| check(kernel, &sums(extents, &table, &order), seed));
    }
}
