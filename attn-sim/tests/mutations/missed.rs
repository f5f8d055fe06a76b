//! Faults that the simulator does not find, each with the reason.

use super::Fixture::{Backward, ForwardCausal};
use super::Mutation;

pub(super) const MUTATIONS: &[(Mutation, &str)] = &[
    (
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
    ),
    (
        Mutation {
            name: "the proxy fence comes after the barrier",
            fixture: Backward,
            edits: &[
                ("        publish_shared_to_async();\n        issue_by_rows(dv", "        issue_by_rows(dv"),
                (
                    "        issue_query_gradient(dq_part",
                    "        publish_shared_to_async();\n        issue_query_gradient(dq_part",
                ),
            ],
            expected: &[],
        },
        "the memory model asks for a proxy fence on the path from the write to the read, on whichever side of the barrier",
    ),
    (
        Mutation {
            name: "no fence before dk",
            fixture: Backward,
            edits: &[("        pin(sum);\n        wgmma_begin();\n", "        pin(sum);\n")],
            expected: &[],
        },
        "the registers of A are passed by value: when they were written is not known",
    ),
    (
        Mutation {
            name: "weights are packed while the last ones are still multiplied",
            fixture: ForwardCausal,
            edits: &[
                ("            pack_weights();\n            rescale_output();\n", "            rescale_output();\n"),
                (
                    "            wgmma_wait<0>();   // the output\n",
                    "            pack_weights();\n            wgmma_wait<0>();   // the output\n",
                ),
            ],
            expected: &[],
        },
        "the registers of A are passed by value; the assembler sees this, and serialises the kernel's wgmma (C7513)",
    ),
];
