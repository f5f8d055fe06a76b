//! Blocks that wait for each other through words of global memory: what they add in a fixed order has the same bits however many OS
//! threads run them, and a mistake in how a turn is passed on is found.
//!
//! Invariant: what a mistake is found as does not depend on how blocks are spread over OS threads, unless it says so.

mod support;

use std::time::{Duration, Instant};

use attn_sim::{Failure, FaultKind};
use rayon::{ThreadPool, ThreadPoolBuilder};
use support::case::Case;
use support::primitives::turns::{ordered_additions, to_and_fro};
use support::simulator::{build, run};

/// As many OS threads as that, however many cores there are.
fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("OS threads")
}

#[test]
fn additions_in_turn_have_the_same_bits() {
    // blocks take as many works as there are; exactly two; one
    for (blocks, share) in [(5, 25), (12, 2), (24, 1)] {
        let case = ordered_additions(3, 24, blocks, share);
        let kernel = build(&case);
        for threads in [1, 2, 5] {
            for seed in 0..6 {
                match pool(threads).install(|| run(&case, &kernel, seed)) {
                    Ok(buffers) => assert_eq!(case.difference(&buffers), None, "{threads} OS threads, seed {seed}"),
                    Err(failure) => panic!("{blocks} blocks on {threads} OS threads: {failure}"),
                }
            }
        }
    }
}

#[test]
fn blocks_that_run_at_once_wait_for_each_other() {
    let case = to_and_fro(50);
    let kernel = build(&case);
    for seed in 0..3 {
        let buffers = pool(2).install(|| run(&case, &kernel, seed)).unwrap_or_else(|failure| panic!("{failure}"));
        assert_eq!(case.difference(&buffers), None, "seed {seed}");
    }
    // the second block cannot start before the first one ends
    let failure = pool(1).install(|| run(&case, &kernel, 0)).expect_err("one OS thread runs one block");
    assert_eq!((failure.fault.kind, failure.fault.block), (FaultKind::Deadlock, [0; 3]), "{failure}");
}

/// The case with some of its text replaced.
fn edited(mut case: Case, edits: &[(&str, &str)]) -> Case {
    for (from, to) in edits {
        assert_eq!(case.source.matches(from).count(), 1, "`{from}` in {}", case.name);
        case.source = case.source.replace(from, to);
    }
    case
}

/// What a mistake in the ordered additions of 6 blocks, one work each, is found as, with every number of OS threads.
#[track_caller]
fn found(edits: &[(&str, &str)]) -> Vec<Failure> {
    let case = edited(ordered_additions(2, 6, 6, 1), edits);
    let kernel = build(&case);
    let fails = |threads: usize, seed| match pool(threads).install(|| run(&case, &kernel, seed)) {
        Ok(_) => panic!("nothing was found with {threads} OS threads and seed {seed}"),
        Err(failure) => *failure,
    };
    [1, 2, 6]
        .into_iter()
        .flat_map(|threads| (0..3).map(move |seed| (threads, seed)))
        .map(|(t, s)| fails(t, s))
        .collect()
}

#[track_caller]
fn finds(kind: FaultKind, edits: &[(&str, &str)]) -> Vec<Failure> {
    let failures = found(edits);
    for failure in &failures {
        assert_eq!(failure.fault.kind, kind, "{failure}");
        assert!(!failure.fault.place.lines.is_empty(), "the fault has no line: {failure}");
    }
    failures
}

const RELEASE: &str = "store_release(turns + tile, rank + 1)";

#[test]
fn a_turn_that_nobody_has_is_a_deadlock() {
    let begin = Instant::now();
    let failures = finds(FaultKind::Deadlock, &[(RELEASE, "store_release(turns + tile, rank + 2)")]);
    for failure in &failures {
        let text = failure.to_string();
        // the works of rank 0 skip rank 1
        assert!(text.contains("of `turns`, which are ") && text.contains("to change; no block can go on"), "{text}");
        assert!(text.contains("while (load_acquire(turns + tile) != rank) {}"), "{text}");
        assert!(text.contains("the other threads of __syncwarp"), "{text}");
    }
    // where blocks remain that another OS thread could start, they are given a second
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[test]
fn orders_that_are_missing_are_races() {
    const ACQUIRE: &str = "while (load_acquire(turns + tile) != rank) {}";
    // relaxed at either end, and each mended by a fence
    finds(FaultKind::Race, &[(RELEASE, "store_relaxed(turns + tile, rank + 1)")]);
    finds(FaultKind::Race, &[(ACQUIRE, "while (load_relaxed(turns + tile) != rank) {}")]);
    let mended = edited(
        ordered_additions(2, 6, 6, 1),
        &[
            (RELEASE, "fence_gpu(), store_relaxed(turns + tile, rank + 1)"),
            (ACQUIRE, "while (load_relaxed(turns + tile) != rank) {}\nfence_gpu();"),
        ],
    );
    let kernel = build(&mended);
    let buffers = pool(3).install(|| run(&mended, &kernel, 0)).unwrap_or_else(|failure| panic!("{failure}"));
    assert_eq!(mended.difference(&buffers), None);
    // the lane that adds may come before the one that waits, and then the turn is past
    for failure in found(&[("            __syncwarp();\n", "")]) {
        assert!([FaultKind::Race, FaultKind::Deadlock].contains(&failure.fault.kind), "{failure}");
    }
    // nobody waits: also where blocks run one after another, nothing orders them
    finds(FaultKind::Race, &[(ACQUIRE, "")]);
}

#[test]
fn writes_are_waited_for_before_the_turn_is_passed_on() {
    for edit in ["", "bulk_wait_read<0>();"] {
        for failure in found(&[("                bulk_wait<0>();\n", edit)]) {
            let text = failure.to_string();
            match failure.fault.kind {
                FaultKind::Race => assert!(text.contains("by a copy that it has not waited for"), "{text}"),
                // block 0 is looked at first where it ends before others come
                kind => assert!(kind == FaultKind::UnfinishedAtExit && edit.is_empty(), "{text}"),
            }
        }
    }
}

#[test]
fn a_fault_is_not_hidden_by_those_who_wait_for_its_block() {
    let edit = (
        "        if (threadIdx.x < 32) {\n",
        "        if (work == 1) out[99999] = 1.f;\n        if (threadIdx.x < 32) {\n",
    );
    finds(FaultKind::OutOfBounds, &[edit]);
}
