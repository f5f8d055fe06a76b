//! Deliberate faults in working kernels: the simulator must name each within ten seeds, and must find nothing in the kernels as
//! they are. What it does not find is listed in `missed.rs` with the reason.

mod backward;
mod copies;
mod forward;
mod missed;
mod portable;
#[path = "../support/mod.rs"]
mod support;

use attn_sim::FaultKind;
use support::attention::Shape;
use support::case::Case;
use support::fixture::{copy_ring, named_barrier_hand_off};
use support::simulator::{build, run};
use support::workload::{Workload, hopper_backward, hopper_forward, portable_backward, portable_forward};

const SEEDS: std::ops::Range<u64> = 0..10;

/// A kernel on a problem small enough to run often, and large enough that every ring goes round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fixture {
    /// Two query tiles, the second sees four key tiles; the last of both is partial.
    ForwardCausal,
    /// Without a mask: only the end of the keys is masked.
    ForwardFull,
    /// Head dim 128: tiles of two chunks.
    ForwardWide,
    /// Head dim 128: four query tiles, two key tiles, the last partial.
    Backward,
    PortableForward,
    PortableBackward,
    CopyRing,
    NamedBarriers,
}

impl Fixture {
    const ALL: [Fixture; 8] = [
        Fixture::ForwardCausal,
        Fixture::ForwardFull,
        Fixture::ForwardWide,
        Fixture::Backward,
        Fixture::PortableForward,
        Fixture::PortableBackward,
        Fixture::CopyRing,
        Fixture::NamedBarriers,
    ];

    fn workload(self) -> Workload {
        let shape = Shape { batches: 1, heads: 1, group: 1, q_len: 200, kv_len: 429, head_dim: 64, causal: true };
        match self {
            Fixture::ForwardCausal => hopper_forward(&shape),
            Fixture::ForwardFull => hopper_forward(&Shape { q_len: 100, causal: false, ..shape }),
            Fixture::ForwardWide => hopper_forward(&Shape { q_len: 100, head_dim: 128, ..shape }),
            Fixture::Backward => hopper_backward(&Shape { kv_len: 220, head_dim: 128, ..shape }),
            Fixture::PortableForward => {
                portable_forward(&Shape { heads: 2, group: 2, q_len: 150, kv_len: 230, ..shape })
            }
            Fixture::PortableBackward => {
                portable_backward(&Shape { heads: 2, group: 2, q_len: 120, kv_len: 150, ..shape })
            }
            Fixture::CopyRing => Workload::exact(copy_ring(6)),
            Fixture::NamedBarriers => Workload::exact(named_barrier_hand_off(5)),
        }
    }
}

/// What must be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Fault(FaultKind),
    /// The kernel runs to its end, and its output is wrong.
    WrongResult,
}

/// A text that occurs once, and what takes its place.
type Edit = (&'static str, &'static str);

/// A deliberate fault.
struct Mutation {
    name: &'static str,
    fixture: Fixture,
    edits: &'static [Edit],
    /// Any of these names it.
    expected: &'static [Outcome],
}

impl Mutation {
    /// The fixture's launch with the faulty kernel.
    fn case(&self, workload: &Workload) -> Case {
        let mut case = workload.case.clone();
        case.name = self.name.to_owned();
        for (find, replace) in self.edits {
            let times = case.source.matches(find).count();
            assert_eq!(times, 1, "{} ({:?}): `{find}` must occur once", self.name, self.fixture);
            case.source = case.source.replace(find, replace);
        }
        case
    }

    /// The first seed that shows the fault, with what it shows.
    fn first_report(&self, workload: &Workload) -> Option<(u64, Outcome, String)> {
        let case = self.case(workload);
        let kernel = build(&case);
        SEEDS.into_iter().find_map(|seed| match run(&case, &kernel, seed) {
            Ok(buffers) => workload.difference(&buffers).map(|text| (seed, Outcome::WrongResult, text)),
            Err(failure) => Some((seed, Outcome::Fault(failure.fault.kind), failure.to_string())),
        })
    }
}

/// Runs the mutations, prints a line for each, and fails where one is not named as expected.
fn check(mutations: &[Mutation]) {
    let mut wrong = Vec::new();
    for mutation in mutations {
        let workload = mutation.fixture.workload();
        let report = mutation.first_report(&workload);
        let line = match &report {
            Some((seed, outcome, _)) => {
                format!("{:?}: {}: {outcome:?} at seed {seed}", mutation.fixture, mutation.name)
            }
            None => format!("{:?}: {}: missed", mutation.fixture, mutation.name),
        };
        println!("{line}");
        match report {
            Some((_, outcome, _)) if mutation.expected.contains(&outcome) => {}
            Some((_, _, text)) => wrong.push(format!("{line} instead of {:?}\n{text}", mutation.expected)),
            None => wrong.push(line),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), mutations.len(), wrong.join("\n\n"));
}

fn every_list() -> [&'static [Mutation]; 4] {
    [forward::MUTATIONS, backward::MUTATIONS, portable::MUTATIONS, copies::MUTATIONS]
}

#[test]
fn every_edit_applies() {
    for fixture in Fixture::ALL {
        let workload = fixture.workload();
        let all = every_list().into_iter().flatten().chain(missed::MUTATIONS.iter().map(|(mutation, _)| mutation));
        all.filter(|mutation| mutation.fixture == fixture).for_each(|mutation| drop(mutation.case(&workload)));
    }
    let count: usize = every_list().iter().map(|list| list.len()).sum();
    assert!(count >= 25, "{count}");
}

#[test]
fn nothing_is_found_in_the_kernels_as_they_are() {
    for fixture in Fixture::ALL {
        let workload = fixture.workload();
        let kernel = build(&workload.case);
        for seed in SEEDS {
            match run(&workload.case, &kernel, seed) {
                Ok(buffers) => assert_eq!(workload.difference(&buffers), None, "{fixture:?}: seed {seed}"),
                Err(failure) => panic!("{fixture:?}: seed {seed}: {failure}"),
            }
        }
    }
}

#[test]
fn faults_of_the_forward_kernel_are_named() {
    check(forward::MUTATIONS);
}

#[test]
fn faults_of_the_backward_kernel_are_named() {
    check(backward::MUTATIONS);
}

#[test]
fn faults_of_the_portable_kernels_are_named() {
    check(portable::MUTATIONS);
}

#[test]
fn faults_of_copies_and_barriers_are_named() {
    check(copies::MUTATIONS);
}

#[test]
fn what_is_missed_is_still_missed() {
    for (mutation, reason) in missed::MUTATIONS {
        let report = mutation.first_report(&mutation.fixture.workload());
        let found = report.map(|(seed, outcome, _)| format!("{outcome:?} at seed {seed}"));
        assert_eq!(found, None, "{} is found now, although {reason}: move it to its list", mutation.name);
    }
}
