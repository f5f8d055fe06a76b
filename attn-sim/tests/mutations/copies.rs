//! Faults in the small kernels `copy_ring` and `named_barrier_hand_off`.

use attn_sim::FaultKind::{
    BarrierCount, BarrierMisuse, CopyInFlight, Deadlock, OutOfBounds, OverwrittenInFlight, Race, Uninitialized,
};

use super::Fixture::{CopyRing, NamedBarriers};
use super::Mutation;
use super::Outcome::{Fault, WrongResult};

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "one copying thread is not waited for",
        fixture: CopyRing,
        edits: &[("mbarrier_init(full + 8 * stage, 64),", "mbarrier_init(full + 8 * stage, 63),")],
        expected: &[Fault(CopyInFlight), Fault(BarrierMisuse), Fault(Uninitialized), Fault(Race), Fault(Deadlock)],
    },
    Mutation {
        name: "the arrival of copies adds to what is waited for",
        fixture: CopyRing,
        edits: &[("cp.async.mbarrier.arrive.noinc.shared::cta.b64", "cp.async.mbarrier.arrive.shared::cta.b64")],
        expected: &[Fault(Deadlock)],
    },
    Mutation {
        name: "threads arrive without waiting for their copies",
        fixture: CopyRing,
        edits: &[("copy_async_arrive(full + 8 * place.stage);", "mbarrier_arrive(full + 8 * place.stage);")],
        expected: &[Fault(CopyInFlight), Fault(Uninitialized)],
    },
    Mutation {
        name: "a place counts as empty before it was read",
        fixture: CopyRing,
        edits: &[(
            "            const uint4 value = ring[place.stage][63 - thread];\n            mbarrier_arrive(empty + 8 * place.stage);\n",
            "            mbarrier_arrive(empty + 8 * place.stage);\n            const uint4 value = ring[place.stage][63 - thread];\n",
        )],
        expected: &[Fault(Race), Fault(CopyInFlight)],
    },
    Mutation {
        name: "the ring is read one place further",
        fixture: CopyRing,
        edits: &[("ring[place.stage][63 - thread]", "ring[place.stage][64 - thread]")],
        expected: &[
            Fault(Race),
            Fault(CopyInFlight),
            Fault(Uninitialized),
            Fault(OutOfBounds),
            Fault(BarrierMisuse),
            WrongResult,
        ],
    },
    Mutation {
        name: "values are read before they are written",
        fixture: NamedBarriers,
        edits: &[(
            "            named_barrier_sync(1, 128);\n            out",
            "            named_barrier_arrive(1, 128);\n            out",
        )],
        expected: &[Fault(Race), Fault(Uninitialized), Fault(BarrierCount)],
    },
    Mutation {
        name: "values are overwritten before they are read",
        fixture: NamedBarriers,
        edits: &[("if (round > 0) named_barrier_sync(2, 128);", "if (round > 0) named_barrier_arrive(2, 128);")],
        expected: &[Fault(Race), Fault(OverwrittenInFlight), Fault(BarrierCount)],
    },
    Mutation {
        name: "two sides of a named barrier count differently",
        fixture: NamedBarriers,
        edits: &[("named_barrier_arrive(1, 128);", "named_barrier_arrive(1, 96);")],
        expected: &[Fault(BarrierCount)],
    },
    Mutation {
        name: "a named barrier counts no whole warps",
        fixture: NamedBarriers,
        edits: &[("named_barrier_arrive(1, 128);", "named_barrier_arrive(1, 120);")],
        expected: &[Fault(BarrierCount)],
    },
    Mutation {
        name: "the hand-over back is missing",
        fixture: NamedBarriers,
        edits: &[("            if (round + 1 < rounds) named_barrier_arrive(2, 128);\n", "")],
        expected: &[Fault(Deadlock)],
    },
];
