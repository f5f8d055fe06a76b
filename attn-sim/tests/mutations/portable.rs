//! Faults in the generated kernels `portable_forward.cu` and `portable_backward_kv.cu`.

use attn_sim::FaultKind::{
    CopyInFlight, Deadlock, Divergence, Misaligned, OutOfBounds, OverwrittenInFlight, Race, Uninitialized,
};

use super::Fixture::{PortableBackward, PortableForward};
use super::Mutation;
use super::Outcome::{Fault, WrongResult};

pub(super) const MUTATIONS: &[Mutation] = &[
    Mutation {
        name: "no barrier between the copies and their use",
        fixture: PortableForward,
        edits: &[("        __syncthreads();   // this tile is there, and every warp has used the one before\n", "")],
        expected: &[Fault(Race), Fault(CopyInFlight), Fault(Uninitialized)],
    },
    Mutation {
        name: "no wait for the copies",
        fixture: PortableForward,
        edits: &[("        copy_async_wait<0>();\n", "")],
        expected: &[Fault(CopyInFlight), Fault(Uninitialized)],
    },
    Mutation {
        name: "the wait leaves one group in flight",
        fixture: PortableForward,
        edits: &[("copy_async_wait<0>();", "copy_async_wait<1>();")],
        expected: &[Fault(CopyInFlight), Fault(Uninitialized)],
    },
    Mutation {
        name: "the wait comes after the barrier",
        fixture: PortableForward,
        edits: &[(
            "        copy_async_wait<0>();\n        __syncthreads();   // this tile is there, and every warp has used the one before\n",
            "        __syncthreads();   // this tile is there, and every warp has used the one before\n        copy_async_wait<0>();\n",
        )],
        expected: &[Fault(CopyInFlight), Fault(Race), Fault(Uninitialized)],
    },
    Mutation {
        name: "the copies are not committed",
        fixture: PortableForward,
        edits: &[("kv_tile * BLOCK_KV, kv_len);\n        copy_async_commit();\n", "kv_tile * BLOCK_KV, kv_len);\n")],
        expected: &[Fault(CopyInFlight), Fault(Uninitialized)],
    },
    Mutation {
        name: "the next tile goes to the stage in use",
        fixture: PortableForward,
        edits: &[("start_loads(kv_tile + 1, stage ^ 1);", "start_loads(kv_tile + 1, stage);")],
        expected: &[Fault(CopyInFlight), Fault(Race), Fault(OverwrittenInFlight)],
    },
    Mutation {
        name: "the output takes shared memory that others still read",
        fixture: PortableForward,
        edits: &[("    __syncthreads();         // shared memory is free for the output\n", "")],
        expected: &[Fault(Race)],
    },
    Mutation {
        name: "no warp barrier between the stores and the loads of the output",
        fixture: PortableForward,
        edits: &[("    __syncwarp();\n", "")],
        expected: &[Fault(Race), Fault(Uninitialized)],
    },
    Mutation {
        name: "rows past the end are stored",
        fixture: PortableForward,
        edits: &[("if (begin + row < end && column < HEAD_DIM) *(uint4*)", "if (column < HEAD_DIM) *(uint4*)")],
        expected: &[Fault(OutOfBounds), Fault(Race), WrongResult],
    },
    Mutation {
        name: "rows past the end are loaded",
        fixture: PortableForward,
        edits: &[(
            "const bool valid = begin + row < end && chunk * CHUNK < HEAD_DIM;",
            "const bool valid = chunk * CHUNK < HEAD_DIM;",
        )],
        expected: &[Fault(OutOfBounds)],
    },
    Mutation {
        name: "the statistic of rows past the end is stored",
        fixture: PortableForward,
        edits: &[("if (lane % 4 == 0 && q < q_len) {", "if (lane % 4 == 0) {")],
        expected: &[Fault(OutOfBounds), Fault(Race), WrongResult],
    },
    Mutation {
        name: "the causal mask is off by one",
        fixture: PortableForward,
        edits: &[("return key.position <= query.position_term;", "return key.position < query.position_term;")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "rows of a tile are not at multiples of 16 bytes",
        fixture: PortableForward,
        edits: &[("(int)sizeof(element) + 16; }", "(int)sizeof(element) + 8; }")],
        expected: &[Fault(Misaligned)],
    },
    Mutation {
        name: "half a warp loads matrices",
        fixture: PortableForward,
        edits: &[("    load_matrix_x4(a.r, tile", "    if (lane < 16) load_matrix_x4(a.r, tile")],
        expected: &[Fault(Divergence), Fault(Deadlock)],
    },
    Mutation {
        name: "half a warp votes",
        fixture: PortableForward,
        edits: &[("if (__any_sync(~0u, rises))", "if (lane < 16 && __any_sync(~0u, rises))")],
        expected: &[Fault(Divergence), Fault(Deadlock)],
    },
    Mutation {
        name: "the sum is not rescaled",
        fixture: PortableForward,
        edits: &[("                    row_sum[m][r] *= rescale;\n", "")],
        expected: &[WrongResult],
    },
    Mutation {
        name: "the next head's tiles overwrite those in use",
        fixture: PortableBackward,
        edits: &[("        __syncthreads();   // every warp has used the last head's tiles\n", "")],
        expected: &[Fault(Race), Fault(CopyInFlight)],
    },
    Mutation {
        name: "no barrier between the copies and their use in the backward pass",
        fixture: PortableBackward,
        edits: &[(
            "            __syncthreads();   // this tile is there, and every warp has used the one before\n",
            "",
        )],
        expected: &[Fault(Race), Fault(CopyInFlight), Fault(Uninitialized)],
    },
    Mutation {
        name: "the next rows go to the stage in use",
        fixture: PortableBackward,
        edits: &[(
            "store_query(query_ring + (stage ^ 1) * QUERY_RING_BYTES, threadIdx.x, next_query);",
            "store_query(query_ring + stage * QUERY_RING_BYTES, threadIdx.x, next_query);",
        )],
        expected: &[Fault(Race), Fault(Uninitialized), WrongResult],
    },
    Mutation {
        name: "positions past the end are read",
        fixture: PortableBackward,
        edits: &[("q = min(q, q_len - 1); return load_query", "return load_query")],
        expected: &[Fault(OutOfBounds), WrongResult],
    },
    Mutation {
        name: "queries past the end count",
        fixture: PortableBackward,
        edits: &[("(first_q + 8 * n + e % 2 < q_len && is_live(", "(is_live(")],
        expected: &[WrongResult],
    },
];
