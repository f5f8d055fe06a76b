//! Faults in `hopper_forward.cu` and the primitives that it uses.

use attn_sim::FaultKind::{
    AccumulatorInFlight, BadDescriptor, BarrierMisuse, CopyInFlight, Deadlock, Divergence, Misaligned,
    MissingProxyFence, MissingWgmmaFence, OutOfBounds, OverwrittenInFlight, Race, RegisterBudget, UnfinishedAtExit,
    Uninitialized,
};

use super::Fixture::{ForwardCausal, ForwardFull, ForwardWide};
use super::Mutation;
use super::Outcome::{Fault, WrongResult};

pub(super) const MUTATIONS: &[Mutation] = &[
    // ---- mbarriers
    Mutation {
        name: "the block does not wait for the initialisation of its barriers",
        fixture: ForwardCausal,
        edits: &[(
            "        mbarrier_init_fence();\n    }\n    __syncthreads();",
            "        mbarrier_init_fence();\n    }",
        )],
        expected: &[Fault(BarrierMisuse), Fault(Race), Fault(Uninitialized)],
    },
    Mutation {
        name: "no fence after the initialisation of barriers",
        fixture: ForwardCausal,
        edits: &[("        mbarrier_init_fence();\n", "")],
        expected: &[Fault(MissingProxyFence), Fault(BarrierMisuse)],
    },
    Mutation {
        name: "q is used without waiting for it",
        fixture: ForwardCausal,
        edits: &[("        mbarrier_wait(shared + Q_FULL, 0);\n", "")],
        expected: &[Fault(CopyInFlight), Fault(Uninitialized), Fault(Race)],
    },
    Mutation {
        name: "the producer waits for the wrong phase",
        fixture: ForwardCausal,
        edits: &[(
            "RingPlace<STAGES> place = {0, 1};   // a fresh stage",
            "RingPlace<STAGES> place = {0, 0};   // a fresh stage",
        )],
        expected: &[Fault(Deadlock)],
    },
    Mutation {
        name: "the consumers' parity starts wrong",
        fixture: ForwardCausal,
        edits: &[(
            "RingPlace<STAGES> place = {0, 0};\n        mbarrier_wait(shared + Q_FULL",
            "RingPlace<STAGES> place = {0, 1};\n        mbarrier_wait(shared + Q_FULL",
        )],
        expected: &[Fault(CopyInFlight), Fault(Uninitialized), Fault(Race)],
    },
    Mutation {
        name: "the parity never flips",
        fixture: ForwardCausal,
        edits: &[("stage = 0, parity ^= 1;", "stage = 0;")],
        expected: &[
            Fault(CopyInFlight),
            Fault(OverwrittenInFlight),
            Fault(Race),
            Fault(Deadlock),
            Fault(BarrierMisuse),
        ],
    },
    Mutation {
        name: "half of the bytes are expected",
        fixture: ForwardWide,
        edits: &[(
            "mbarrier_arrive_expect(shared + full + 8 * place.stage, KV_BYTES);",
            "mbarrier_arrive_expect(shared + full + 8 * place.stage, KV_BYTES / 2);",
        )],
        expected: &[Fault(BarrierMisuse), Fault(CopyInFlight), Fault(Deadlock), Fault(Uninitialized)],
    },
    Mutation {
        name: "more bytes are expected than come",
        fixture: ForwardCausal,
        edits: &[(
            "mbarrier_arrive_expect(shared + full + 8 * place.stage, KV_BYTES);",
            "mbarrier_arrive_expect(shared + full + 8 * place.stage, KV_BYTES + 16);",
        )],
        expected: &[Fault(Deadlock)],
    },
    Mutation {
        name: "no bytes are expected",
        fixture: ForwardCausal,
        edits: &[(
            "mbarrier_arrive_expect(shared + full + 8 * place.stage, KV_BYTES);",
            "mbarrier_arrive(shared + full + 8 * place.stage);",
        )],
        expected: &[Fault(CopyInFlight), Fault(BarrierMisuse), Fault(Uninitialized)],
    },
    Mutation {
        name: "a stage counts as empty when one consumer has left it",
        fixture: ForwardCausal,
        edits: &[(
            "mbarrier_init(shared + K_EMPTY + 8 * stage, CONSUMERS);",
            "mbarrier_init(shared + K_EMPTY + 8 * stage, CONSUMERS - 1);",
        )],
        expected: &[
            Fault(OverwrittenInFlight),
            Fault(Race),
            Fault(CopyInFlight),
            Fault(BarrierMisuse),
            Fault(Deadlock),
        ],
    },
    Mutation {
        name: "a stage waits for a consumer that there is not",
        fixture: ForwardCausal,
        edits: &[(
            "mbarrier_init(shared + V_EMPTY + 8 * stage, CONSUMERS);",
            "mbarrier_init(shared + V_EMPTY + 8 * stage, CONSUMERS + 1);",
        )],
        expected: &[Fault(Deadlock)],
    },
    Mutation {
        name: "every thread releases a stage",
        fixture: ForwardCausal,
        edits: &[("        if (threadIdx.x % 128 == 0) mbarrier_arrive(empty);", "        mbarrier_arrive(empty);")],
        expected: &[Fault(BarrierMisuse), Fault(OverwrittenInFlight), Fault(Race), Fault(CopyInFlight)],
    },
    // ---- order of wgmma
    Mutation {
        name: "no fence before the scores",
        fixture: ForwardCausal,
        edits: &[("        pin(s);\n        wgmma_begin();\n", "        pin(s);\n")],
        expected: &[Fault(MissingWgmmaFence)],
    },
    Mutation {
        name: "no fence before the output",
        fixture: ForwardCausal,
        edits: &[("        pin(o);\n        wgmma_begin();\n", "        pin(o);\n")],
        expected: &[Fault(MissingWgmmaFence)],
    },
    Mutation {
        name: "the scores are read with both groups in flight",
        fixture: ForwardCausal,
        edits: &[("wgmma_wait<1>();   // the scores", "wgmma_wait<2>();   // the scores")],
        expected: &[Fault(AccumulatorInFlight)],
    },
    Mutation {
        name: "the output is rescaled with its group in flight",
        fixture: ForwardCausal,
        edits: &[("wgmma_wait<0>();   // the output", "wgmma_wait<1>();   // the output")],
        expected: &[Fault(AccumulatorInFlight), Fault(OverwrittenInFlight)],
    },
    Mutation {
        name: "the output is rescaled before the wait",
        fixture: ForwardCausal,
        edits: &[
            ("            pack_weights();\n            rescale_output();\n", "            pack_weights();\n"),
            (
                "            wgmma_wait<0>();   // the output\n",
                "            rescale_output();\n            wgmma_wait<0>();   // the output\n",
            ),
        ],
        expected: &[Fault(AccumulatorInFlight)],
    },
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
        expected: &[Fault(AccumulatorInFlight), Fault(OverwrittenInFlight)],
    },
    Mutation {
        name: "the output's group is never committed",
        fixture: ForwardCausal,
        edits: &[(
            "v + row_step(i), true);\n        }\n        wgmma_commit();\n",
            "v + row_step(i), true);\n        }\n",
        )],
        expected: &[Fault(AccumulatorInFlight), Fault(OverwrittenInFlight)],
    },
    Mutation {
        name: "a stage of k is released before the products that read it are done",
        fixture: ForwardCausal,
        edits: &[(
            "            wgmma_wait<1>();   // the scores\n            pin(s);\n            release(shared + K_EMPTY + 8 * place.stage);\n",
            "            release(shared + K_EMPTY + 8 * place.stage);\n            wgmma_wait<1>();   // the scores\n            pin(s);\n",
        )],
        expected: &[Fault(OverwrittenInFlight), Fault(Race), Fault(CopyInFlight)],
    },
    Mutation {
        name: "a stage of v is released before the products that read it are done",
        fixture: ForwardCausal,
        edits: &[(
            "            wgmma_wait<0>();   // the output\n            pin(o);\n            release(shared + V_EMPTY + 8 * v_place.stage);\n",
            "            release(shared + V_EMPTY + 8 * v_place.stage);\n            wgmma_wait<0>();   // the output\n            pin(o);\n",
        )],
        expected: &[Fault(OverwrittenInFlight), Fault(Race), Fault(CopyInFlight)],
    },
    // ---- operands
    Mutation {
        name: "the swizzle of what stmatrix writes is that of 64 bytes",
        fixture: ForwardCausal,
        edits: &[("return linear ^ (row & 7) << 4;", "return linear ^ (row & 3) << 4;")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "the descriptor's stride is that of four rows",
        fixture: ForwardCausal,
        edits: &[(
            "matrix_descriptor(address, chunk, EIGHT_ROWS, 1)",
            "matrix_descriptor(address, chunk, EIGHT_ROWS / 2, 1)",
        )],
        expected: &[WrongResult, Fault(BadDescriptor)],
    },
    Mutation {
        name: "the descriptor leads to the wrong chunk",
        fixture: ForwardWide,
        edits: &[(
            "matrix_descriptor(address, chunk, EIGHT_ROWS, 1)",
            "matrix_descriptor(address, chunk / 2, EIGHT_ROWS, 1)",
        )],
        expected: &[WrongResult],
    },
    Mutation {
        name: "the descriptor's swizzle is that of 64 bytes",
        fixture: ForwardCausal,
        edits: &[(
            "matrix_descriptor(address, chunk, EIGHT_ROWS, 1)",
            "matrix_descriptor(address, chunk, EIGHT_ROWS, 2)",
        )],
        expected: &[WrongResult, Fault(BadDescriptor)],
    },
    Mutation {
        name: "a step along the depth is half as long",
        fixture: ForwardCausal,
        edits: &[("k % 4 * (32 >> 4)", "k % 4 * (16 >> 4)")],
        expected: &[WrongResult, Fault(BadDescriptor)],
    },
    Mutation {
        name: "the consumers read the wrong stage of v",
        fixture: ForwardCausal,
        edits: &[(
            "tile_descriptor(shared + V_RING + stage * KV_BYTES, KV_CHUNK)",
            "tile_descriptor(shared + V_RING + (stage ^ 1) * KV_BYTES, KV_CHUNK)",
        )],
        expected: &[Fault(CopyInFlight), Fault(Race), Fault(Uninitialized), Fault(OverwrittenInFlight), WrongResult],
    },
    Mutation {
        name: "the ring has one place too many",
        fixture: ForwardCausal,
        edits: &[("if (++stage == STAGES)", "if (++stage == STAGES + 1)")],
        expected: &[
            Fault(BarrierMisuse),
            Fault(Race),
            Fault(CopyInFlight),
            Fault(OverwrittenInFlight),
            Fault(Uninitialized),
            Fault(OutOfBounds),
            Fault(Deadlock),
        ],
    },
    Mutation {
        name: "the rings begin between two swizzle patterns",
        fixture: ForwardCausal,
        edits: &[("K_RING = Q_TILE + Q_BYTES,", "K_RING = Q_TILE + Q_BYTES + 64,")],
        expected: &[Fault(Misaligned), Fault(BadDescriptor), Fault(OutOfBounds)],
    },
    Mutation {
        name: "stmatrix rows are not at multiples of 16 bytes",
        fixture: ForwardCausal,
        edits: &[("c * 16 + lane / 16 * 8);", "c * 16 + lane / 16 * 4);")],
        expected: &[Fault(Misaligned)],
    },
    Mutation {
        name: "the rings are larger than the block's shared memory",
        fixture: ForwardCausal,
        edits: &[("V_RING = K_RING + STAGES * KV_BYTES;", "V_RING = K_RING + STAGES * KV_BYTES + 65536;")],
        expected: &[Fault(OutOfBounds)],
    },
    // ---- results
    Mutation {
        name: "the causal mask is off by one: too few",
        fixture: ForwardCausal,
        edits: &[("> (i / 2 % 2 ? limit1 : limit0)", ">= (i / 2 % 2 ? limit1 : limit0)")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "the causal mask is off by one: too many",
        fixture: ForwardCausal,
        edits: &[("- problem.q_len + q_begin + row;", "- problem.q_len + q_begin + row + 1;")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "a partial tile counts as full",
        fixture: ForwardCausal,
        edits: &[("while (tile > keys.full_tiles) step(true);", "while (tile > keys.full_tiles + 1) step(true);")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "keys past the end are not masked",
        fixture: ForwardFull,
        edits: &[("const int last_key = problem.kv_len - 1,", "const int last_key = problem.kv_len + BLOCK_KV,")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "the output is not rescaled",
        fixture: ForwardFull,
        edits: &[("            rescale_output();\n", "")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "rows past the end are stored",
        fixture: ForwardCausal,
        edits: &[("if (q < problem.q_len) lse_row[q]", "lse_row[q]")],
        expected: &[Fault(OutOfBounds)],
    },
    // ---- epilogue
    Mutation {
        name: "no proxy fence before the store of the output",
        fixture: ForwardCausal,
        edits: &[(
            "    publish_shared_to_async();\n    named_barrier_sync(ALL_CONSUMERS",
            "    named_barrier_sync(ALL_CONSUMERS",
        )],
        expected: &[Fault(MissingProxyFence)],
    },
    Mutation {
        name: "the output is stored before all have written it",
        fixture: ForwardCausal,
        edits: &[(
            "    publish_shared_to_async();\n    named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);\n",
            "    publish_shared_to_async();\n",
        )],
        expected: &[Fault(Race), Fault(MissingProxyFence), Fault(Uninitialized)],
    },
    Mutation {
        name: "the block ends before the store has read its memory",
        fixture: ForwardCausal,
        edits: &[("        bulk_wait_read<0>();\n", "")],
        expected: &[Fault(UnfinishedAtExit)],
    },
    Mutation {
        name: "the store is never committed",
        fixture: ForwardCausal,
        edits: &[("        bulk_commit();\n", "")],
        expected: &[Fault(UnfinishedAtExit)],
    },
    // ---- threads
    Mutation {
        name: "no turn is given to begin with",
        fixture: ForwardCausal,
        edits: &[(
            "        if (warpgroup == CONSUMERS && tile > 0) named_barrier_arrive(next_turn, TURN_THREADS);   // the first warpgroup begins\n",
            "",
        )],
        expected: &[Fault(Deadlock)],
    },
    Mutation {
        name: "a named barrier waits for threads that never come",
        fixture: ForwardCausal,
        edits: &[("CONSUMER_THREADS = 128 * CONSUMERS;", "CONSUMER_THREADS = 128 * CONSUMERS + 32;")],
        expected: &[Fault(Deadlock)],
    },
    Mutation {
        name: "a named barrier opens for one warpgroup",
        fixture: ForwardCausal,
        edits: &[("CONSUMER_THREADS = 128 * CONSUMERS;", "CONSUMER_THREADS = 128;")],
        expected: &[Fault(Race), Fault(MissingProxyFence), Fault(Uninitialized)],
    },
    Mutation {
        name: "more registers than there are",
        fixture: ForwardCausal,
        edits: &[("registers_acquire<240>();", "registers_acquire<256>();")],
        expected: &[Fault(RegisterBudget), Fault(Deadlock)],
    },
    Mutation {
        name: "the producer keeps its registers",
        fixture: ForwardCausal,
        edits: &[("        registers_release<24>();\n", "")],
        expected: &[Fault(RegisterBudget), Fault(Deadlock)],
    },
    Mutation {
        name: "half a warp elects",
        fixture: ForwardCausal,
        edits: &[("if (threadIdx.x < 32 && elect_one())", "if (threadIdx.x < 16 && elect_one())")],
        expected: &[Fault(Divergence), Fault(Deadlock)],
    },
    Mutation {
        name: "one lane of four shuffles",
        fixture: ForwardCausal,
        edits: &[(
            "        row_sum[r] = quad_sum(row_sum[r]);",
            "        if (lane % 4 == 0) row_sum[r] = quad_sum(row_sum[r]);",
        )],
        expected: &[Fault(Divergence), Fault(Deadlock)],
    },
];
