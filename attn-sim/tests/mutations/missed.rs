//! Faults that the simulator does not find, each with the reason.

use super::Fixture::ForwardCausal;
use super::Mutation;

pub(super) const MUTATIONS: &[(Mutation, &str)] = &[(
    Mutation {
        name: "consumers do not take turns",
        fixture: ForwardCausal,
        edits: &[
            ("            named_barrier_sync(my_turn, TURN_THREADS);\n", ""),
            (
                "            if (warpgroup != CONSUMERS || tile > 0) named_barrier_arrive(next_turn, TURN_THREADS);\n",
                "",
            ),
            (
                "        if (warpgroup == CONSUMERS && tile > 0) named_barrier_arrive(next_turn, TURN_THREADS);   // the first warpgroup begins\n",
                "",
            ),
        ],
        expected: &[],
    },
    "turns are for speed only, and time is not simulated",
)];
