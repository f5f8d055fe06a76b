//! Faults in `hopper_backward.cu`.

use attn_sim::FaultKind::{
    AccumulatorInFlight, BadDescriptor, BarrierCount, BarrierMisuse, CopyInFlight, Deadlock, MissingProxyFence,
    MissingWgmmaFence, OverwrittenInFlight, Race, UnfinishedAtExit, Uninitialized,
};

use super::Fixture::Backward;
use super::Mutation;
use super::Outcome::{Fault, WrongResult};

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "no proxy fence before ds is multiplied",
        fixture: Backward,
        edits: &[("        publish_shared_to_async();\n        issue_by_rows(dv", "        issue_by_rows(dv")],
        expected: &[Fault(MissingProxyFence)],
    },
    Mutation {
        name: "no proxy fence before dq is added",
        fixture: Backward,
        edits: &[(
            "        publish_shared_to_async();\n        named_barrier_arrive(DQ_FULL",
            "        named_barrier_arrive(DQ_FULL",
        )],
        expected: &[Fault(MissingProxyFence)],
    },
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
        expected: &[Fault(MissingProxyFence)],
    },
    Mutation {
        name: "ds is multiplied before both warpgroups have written it",
        fixture: Backward,
        edits: &[(
            "        named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);   // ds is whole, and all have read lse and delta\n",
            "",
        )],
        expected: &[
            Fault(Race),
            Fault(MissingProxyFence),
            Fault(Uninitialized),
            Fault(CopyInFlight),
            Fault(OverwrittenInFlight),
        ],
    },
    Mutation {
        name: "ds has one stage",
        fixture: Backward,
        edits: &[("ds_tile = DS_RING + stage * DS_BYTES;", "ds_tile = DS_RING;")],
        expected: &[Fault(OverwrittenInFlight), Fault(Race)],
    },
    Mutation {
        name: "dq is written again before it was added",
        fixture: Backward,
        edits: &[("        named_barrier_sync(DQ_EMPTY + consumer, DQ_THREADS);\n", "")],
        expected: &[Fault(OverwrittenInFlight), Fault(Race)],
    },
    Mutation {
        name: "dq counts as empty while the addition still reads it",
        fixture: Backward,
        edits: &[("        bulk_wait_read<0>();\n        __syncwarp();\n", "        __syncwarp();\n")],
        expected: &[Fault(OverwrittenInFlight), Fault(UnfinishedAtExit), Fault(Race)],
    },
    Mutation {
        name: "the first part of dq counts as empty while the addition still reads it",
        fixture: Backward,
        edits: &[("        bulk_wait_read<1>();   // in the lane that committed; the others pass\n", "")],
        expected: &[Fault(OverwrittenInFlight), Fault(Race)],
    },
    Mutation {
        name: "the additions are not committed",
        fixture: Backward,
        edits: &[("DQ_PART * 4);\n                bulk_commit();\n", "DQ_PART * 4);\n")],
        expected: &[Fault(OverwrittenInFlight), Fault(UnfinishedAtExit), Fault(Race)],
    },
    Mutation {
        name: "q is released while dk still reads it",
        fixture: Backward,
        edits: &[(
            "        wgmma_wait<0>();   // dk\n        pin(dk);\n        release(Q_EMPTY + 8 * stage);\n",
            "        release(Q_EMPTY + 8 * stage);\n        wgmma_wait<0>();   // dk\n        pin(dk);\n",
        )],
        expected: &[Fault(OverwrittenInFlight), Fault(Race), Fault(CopyInFlight)],
    },
    Mutation {
        name: "do is released while dv still reads it",
        fixture: Backward,
        edits: &[(
            "        wgmma_wait<1>();   // dv\n        pin(dv);\n        release(DO_EMPTY + 8 * stage);\n",
            "        release(DO_EMPTY + 8 * stage);\n        wgmma_wait<1>();   // dv\n        pin(dv);\n",
        )],
        expected: &[Fault(OverwrittenInFlight), Fault(Race), Fault(CopyInFlight)],
    },
    Mutation {
        name: "dq is stored before its products are done",
        fixture: Backward,
        edits: &[("        wgmma_wait<1>();   // dq\n", "        wgmma_wait<2>();   // dq\n")],
        expected: &[Fault(AccumulatorInFlight)],
    },
    Mutation {
        name: "the weights are computed before their products are done",
        fixture: Backward,
        edits: &[("        wgmma_wait<1>();   // s\n", "")],
        expected: &[Fault(AccumulatorInFlight)],
    },
    Mutation {
        name: "no fence before dk",
        fixture: Backward,
        edits: &[("        pin(sum);\n        wgmma_begin();\n", "        pin(sum);\n")],
        expected: &[Fault(MissingWgmmaFence)],
    },
    Mutation {
        name: "the rows of lse are not expected",
        fixture: Backward,
        edits: &[(
            "mbarrier_arrive_expect(barrier, Q_BYTES + ROW_BYTES);",
            "mbarrier_arrive_expect(barrier, Q_BYTES);",
        )],
        expected: &[Fault(BarrierMisuse), Fault(Deadlock), Fault(CopyInFlight), Fault(Uninitialized)],
    },
    Mutation {
        name: "half of the rows of lse come",
        fixture: Backward,
        edits: &[("* BLOCK_Q, ROW_BYTES, barrier);", "* BLOCK_Q, ROW_BYTES / 2, barrier);")],
        expected: &[Fault(Deadlock)],
    },
    Mutation {
        name: "k and v are used without waiting for them",
        fixture: Backward,
        edits: &[("    if (tiles.first < tiles.last) mbarrier_wait(shared + KV_FULL, 0);\n", "")],
        expected: &[Fault(CopyInFlight), Fault(Uninitialized), Fault(Race)],
    },
    Mutation {
        name: "ds is stored with matrices exchanged",
        fixture: Backward,
        edits: &[(
            "i * 16 + lane / 16 * 8 + lane % 8, key = group_row + warp * 16 + lane / 8 % 2 * 8;",
            "i * 16 + lane / 8 % 2 * 8 + lane % 8, key = group_row + warp * 16 + lane / 16 * 8;",
        )],
        expected: &[WrongResult],
    },
    Mutation {
        name: "ds is stored without its transposition",
        fixture: Backward,
        edits: &[("            store_matrix_x4_transposed(tile_address(", "            store_matrix_x4(tile_address(")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "the descriptor leads to the wrong chunk of the transposed tiles",
        fixture: Backward,
        edits: &[(
            "const u64 b = tile_descriptor(shared + q_tile, Q_CHUNK);\n        pin(sum);",
            "const u64 b = tile_descriptor(shared + q_tile, Q_CHUNK / 2);\n        pin(sum);",
        )],
        expected: &[WrongResult, Fault(BadDescriptor)],
    },
    Mutation {
        name: "the causal mask is off by one",
        fixture: Backward,
        edits: &[("key > column + 8", "key >= column + 8")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "k's tile takes its gradient while the other warpgroup still reads k",
        fixture: Backward,
        edits: &[(
            "    named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);   // all have used k and v: their tiles take the gradients\n",
            "",
        )],
        expected: &[Fault(OverwrittenInFlight), Fault(Race)],
    },
    Mutation {
        name: "the gradients are stored before they are whole",
        fixture: Backward,
        edits: &[(
            "    publish_shared_to_async();\n    named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);\n",
            "    publish_shared_to_async();\n",
        )],
        expected: &[Fault(Race), Fault(MissingProxyFence)],
    },
    Mutation {
        name: "a warp too few is counted where dq is handed over",
        fixture: Backward,
        edits: &[("DQ_THREADS = 128 + 32;", "DQ_THREADS = 128;")],
        expected: &[
            Fault(BarrierCount),
            Fault(Race),
            Fault(OverwrittenInFlight),
            Fault(Deadlock),
            Fault(MissingProxyFence),
        ],
    },
];
