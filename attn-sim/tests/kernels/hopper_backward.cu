// Softmax attention, backward, bf16: dk, dv and dq of one pass over the scores, given lse and delta = rowsum(do * o).
//
//   block     128 keys of one head, k and v stay in shared memory, dk and dv in registers: a producer warpgroup and two consumer
//             warpgroups of 64 keys
//   producer  its first warp loads k and v, then tiles of q with lse, and of do with delta, into rings of two; its second warp adds
//             finished parts of dq to global memory
//   consumer  everything transposed, so that weights and their gradients are A of the next products without leaving registers:
//             s^T = k q^T, dp^T = v do^T, dv += p^T do, dk += ds^T q; only ds goes through shared memory, for dq = ds k
//   lengths   any. lse (times log2 e) and delta are [batch, head, query tiles * BLOCK_Q]: past the end lse is +inf and delta 0
//   mask      causal where `causal`: query q sees keys up to q + kv_len - q_len
//   heads     as many for k and v as for q
//   dq        f32, zero at the start, and in a layout of its own: [batch, head, query tile, warpgroup, register / 4, thread, 4]
//
// HEAD_DIM (64 or 128) is defined in front of this text. Grid: key tiles, heads, batches.

constexpr int BLOCK_Q = HEAD_DIM == 64 ? 128 : 64, BLOCK_KV = 128, STAGES = 2, CONSUMERS = 2;
constexpr float LOG2E = 1.4426950408889634f;
constexpr int CHUNKS = HEAD_DIM / CHUNK_COLUMNS;
constexpr u32 Q_CHUNK = chunk_bytes(BLOCK_Q), KV_CHUNK = chunk_bytes(BLOCK_KV);
constexpr u32 Q_BYTES = CHUNKS * Q_CHUNK, KV_BYTES = CHUNKS * KV_CHUNK, ROW_BYTES = BLOCK_Q * 4;
constexpr u32 DS_BYTES = BLOCK_KV / CHUNK_COLUMNS * Q_CHUNK;   // [query][key]
constexpr u32 DQ_PART = BLOCK_Q * HEAD_DIM / CONSUMERS;        // floats that a warpgroup contributes: 64 x 64
// The two warpgroups share dq by its rows, or by its columns where a tile has only 64 rows.
constexpr bool DQ_BY_ROWS = BLOCK_Q == 128;

// Shared memory, in bytes from its beginning.
constexpr u32 K_TILE = 0, V_TILE = K_TILE + KV_BYTES, Q_RING = V_TILE + KV_BYTES, DO_RING = Q_RING + STAGES * Q_BYTES;
constexpr u32 DS_RING = DO_RING + STAGES * Q_BYTES, DQ_TILE = DS_RING + STAGES * DS_BYTES;
constexpr u32 LSE_RING = DQ_TILE + CONSUMERS * DQ_PART * 4, DELTA_RING = LSE_RING + STAGES * ROW_BYTES;
constexpr u32 KV_FULL = DELTA_RING + STAGES * ROW_BYTES;
constexpr u32 Q_FULL = KV_FULL + 8, Q_EMPTY = Q_FULL + 8 * STAGES, DO_FULL = Q_EMPTY + 8 * STAGES, DO_EMPTY = DO_FULL + 8 * STAGES;
constexpr u32 SHARED_BYTES = DO_EMPTY + 8 * STAGES;   // what a launch gives
static_assert(SHARED_BYTES <= 227 << 10, "more than a block can have");

// Named barriers: all consumers; consumer w's part of dq is written; it may be written again (both: the consumer and one warp).
constexpr u32 ALL_CONSUMERS = 1, CONSUMER_THREADS = 128 * CONSUMERS, DQ_FULL = 2, DQ_EMPTY = 4, DQ_THREADS = 128 + 32;

struct Problem {
    int q_len, kv_len, causal;
    float scale;
};

// Tiles of queries that see keys from kv_begin on: [first, last).
struct QueryTiles { int first, last; };

DEVICE QueryTiles query_tiles_of(const Problem& problem, int kv_begin) {
    const int first_query = problem.causal ? max(0, kv_begin - (problem.kv_len - problem.q_len)) : 0;
    return {first_query / BLOCK_Q, (problem.q_len + BLOCK_Q - 1) / BLOCK_Q};
}

// Index of the head's first query tile in lse, delta and dq.
DEVICE long long first_tile_of_head(const Problem& problem) {
    return ((long long)blockIdx.z * gridDim.y + blockIdx.y) * ((problem.q_len + BLOCK_Q - 1) / BLOCK_Q);
}

DEVICE void load_tiles(u32 shared, const TensorMap* q_map, const TensorMap* k_map, const TensorMap* v_map, const TensorMap* do_map,
                       const float* lse, const float* delta, const Problem& problem, QueryTiles tiles) {
    const int kv_begin = blockIdx.x * BLOCK_KV, head = blockIdx.y, batch = blockIdx.z;
    if (tiles.first >= tiles.last) return;
    mbarrier_arrive_expect(shared + KV_FULL, 2 * KV_BYTES);
    for (int c = 0; c < CHUNKS; ++c) {
        tensor_load_hinted(shared + K_TILE + c * KV_CHUNK, k_map, shared + KV_FULL, c * CHUNK_COLUMNS, kv_begin, head, batch, EVICT_FIRST);
        tensor_load_hinted(shared + V_TILE + c * KV_CHUNK, v_map, shared + KV_FULL, c * CHUNK_COLUMNS, kv_begin, head, batch, EVICT_FIRST);
    }
    RingPlace<STAGES> place = {0, 1};   // a fresh stage is empty
    for (int tile = tiles.first; tile < tiles.last; ++tile, place.advance()) {
        auto load = [&](u32 ring, u32 row_ring, u32 full, u32 empty, const TensorMap* map, const float* rows) {
            const u32 barrier = shared + full + 8 * place.stage;
            mbarrier_wait(shared + empty + 8 * place.stage, place.parity);
            mbarrier_arrive_expect(barrier, Q_BYTES + ROW_BYTES);
            for (int c = 0; c < CHUNKS; ++c)
                tensor_load_hinted(shared + ring + place.stage * Q_BYTES + c * Q_CHUNK, map, barrier, c * CHUNK_COLUMNS, tile * BLOCK_Q, head, batch, EVICT_LAST);
            bulk_load(shared + row_ring + place.stage * ROW_BYTES, rows + (first_tile_of_head(problem) + tile) * BLOCK_Q, ROW_BYTES, barrier);
        };
        load(Q_RING, LSE_RING, Q_FULL, Q_EMPTY, q_map, lse);
        load(DO_RING, DELTA_RING, DO_FULL, DO_EMPTY, do_map, delta);
    }
}

DEVICE void add_query_gradients(u32 shared, float* dq, const Problem& problem, QueryTiles tiles) {
    if (tiles.first < tiles.last)
        for (int w = 0; w < CONSUMERS; ++w) named_barrier_arrive(DQ_EMPTY + w, DQ_THREADS);
    for (int tile = tiles.first; tile < tiles.last; ++tile) {
        for (int w = 0; w < CONSUMERS; ++w) {
            named_barrier_sync(DQ_FULL + w, DQ_THREADS);
            if (elect_one()) {
                bulk_reduce_add(dq + ((first_tile_of_head(problem) + tile) * CONSUMERS + w) * DQ_PART, shared + DQ_TILE + w * DQ_PART * 4, DQ_PART * 4);
                bulk_commit();
            }
            __syncwarp();
        }
        bulk_wait_read<1>();   // in the lane that committed; the others pass
        __syncwarp();
        if (tile + 1 < tiles.last) named_barrier_arrive(DQ_EMPTY + 0, DQ_THREADS);
        bulk_wait_read<0>();
        __syncwarp();
        if (tile + 1 < tiles.last) named_barrier_arrive(DQ_EMPTY + 1, DQ_THREADS);
    }
}

extern "C" __global__ void __launch_bounds__(128 * (1 + CONSUMERS), 1)
hopper_backward(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map, const __grid_constant__ TensorMap v_map,
                const __grid_constant__ TensorMap do_map, const __grid_constant__ TensorMap dk_map, const __grid_constant__ TensorMap dv_map,
                const float* lse, const float* delta, float* dq, const __grid_constant__ Problem problem) {
    extern __shared__ __align__(1024) unsigned char dynamic_shared[];
    const u32 shared = shared_address(dynamic_shared);
    const int kv_begin = blockIdx.x * BLOCK_KV, head = blockIdx.y, batch = blockIdx.z;
    const QueryTiles tiles = query_tiles_of(problem, kv_begin);

    if (threadIdx.x == 0) {
        mbarrier_init(shared + KV_FULL, 1);
        for (int stage = 0; stage < STAGES; ++stage) {
            mbarrier_init(shared + Q_FULL + 8 * stage, 1);
            mbarrier_init(shared + DO_FULL + 8 * stage, 1);
            mbarrier_init(shared + Q_EMPTY + 8 * stage, CONSUMERS);
            mbarrier_init(shared + DO_EMPTY + 8 * stage, CONSUMERS);
        }
        mbarrier_init_fence();
    }
    __syncthreads();

    const int warpgroup = threadIdx.x / 128;
    if (warpgroup == 0) {
        registers_release<24>();
        if (threadIdx.x < 32) {
            if (elect_one()) load_tiles(shared, &q_map, &k_map, &v_map, &do_map, lse, delta, problem, tiles);
        } else if (threadIdx.x < 64) {
            add_query_gradients(shared, dq, problem, tiles);
        }
        return;
    }
    registers_acquire<240>();

    // ---------------------------------------------------------------- consumers
    const int thread = threadIdx.x % 128, lane = thread % 32, warp = thread / 32;
    const int consumer = warpgroup - 1, group_row = consumer * 64;   // the warpgroup's first key in the tile
    const int row = group_row + warp * 16 + lane / 4;                // this thread's keys: row and row + 8
    const float scale_log2 = problem.scale * LOG2E;
    float dk[HEAD_DIM / 2], dv[HEAD_DIM / 2];
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 2; ++i) dk[i] = dv[i] = 0.f;

    // s^T = k q^T and dp^T = v do^T have the same shape: 64 keys of this warpgroup, all queries of the tile
    auto issue_by_columns = [&](float (&product)[BLOCK_Q / 2], u32 kv_tile, u32 q_tile) {
        const u64 a = tile_descriptor(shared + kv_tile + group_row * CHUNK_ROW_BYTES, KV_CHUNK), b = tile_descriptor(shared + q_tile, Q_CHUNK);
        pin(product);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 16; ++i) wgmma_bf16_ss(product, a + column_step(i, KV_CHUNK), b + column_step(i, Q_CHUNK), i != 0);
        wgmma_commit();
    };
    // dv += p^T do, dk += ds^T q
    auto issue_by_rows = [&](float (&sum)[HEAD_DIM / 2], const u32 (&packed)[BLOCK_Q / 4], u32 q_tile) {
        const u64 b = tile_descriptor(shared + q_tile, Q_CHUNK);
        pin(sum);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_Q / 16; ++i) {
            const u32 a[4] = {packed[4 * i], packed[4 * i + 1], packed[4 * i + 2], packed[4 * i + 3]};
            wgmma_bf16_rs_bt(sum, a, b + row_step(i), true);
        }
        wgmma_commit();
    };
    // dq = ds k, this warpgroup's 64 x 64 of it
    auto issue_query_gradient = [&](float (&product)[32], u32 ds_tile) {
        const u64 a = tile_descriptor(shared + ds_tile + (DQ_BY_ROWS ? group_row * CHUNK_ROW_BYTES : 0), Q_CHUNK);
        const u64 b = tile_descriptor(shared + K_TILE + (DQ_BY_ROWS ? 0 : consumer * KV_CHUNK), KV_CHUNK);
        pin(product);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 16; ++i) wgmma_bf16_ss_bt(product, a + column_step(i, Q_CHUNK), b + row_step(i), i != 0);
        wgmma_commit();
    };
    auto mask = [&](float (&s)[BLOCK_Q / 2], int q_begin) {   // s[i] is of query column + 8 * (i / 4) + i % 2
        const int column = q_begin + lane % 4 * 2 + problem.kv_len - problem.q_len, kv = kv_begin + row;
#pragma unroll
        for (int i = 0; i < BLOCK_Q / 2; ++i) {
            const int key = kv + i / 2 % 2 * 8;
            if (key >= problem.kv_len || problem.causal && key > column + 8 * (i / 4) + i % 2) s[i] = -INFINITY;
        }
    };
    // of s's query, from a ring of rows
    auto row_values = [&](u32 rows, int i) { return load_shared_f32x2(shared + rows + (8 * i + lane % 4 * 2) * 4); };
    auto release = [&](u32 empty) {
        if (thread == 0) mbarrier_arrive(shared + empty);
    };

    RingPlace<STAGES> place = {0, 0};
    if (tiles.first < tiles.last) mbarrier_wait(shared + KV_FULL, 0);
    for (int tile = tiles.first; tile < tiles.last; ++tile, place.advance()) {
        const int stage = place.stage, q_begin = tile * BLOCK_Q;
        const u32 q_tile = Q_RING + stage * Q_BYTES, do_tile = DO_RING + stage * Q_BYTES, ds_tile = DS_RING + stage * DS_BYTES;
        float s[BLOCK_Q / 2], dp[BLOCK_Q / 2], dq_part[32];
        u32 p_packed[BLOCK_Q / 4], ds_packed[BLOCK_Q / 4];

        mbarrier_wait(shared + Q_FULL + 8 * stage, place.parity);
        issue_by_columns(s, K_TILE, q_tile);
        mbarrier_wait(shared + DO_FULL + 8 * stage, place.parity);
        issue_by_columns(dp, V_TILE, do_tile);

        wgmma_wait<1>();   // s
        pin(s);
        if (kv_begin + BLOCK_KV > problem.kv_len || problem.causal && kv_begin + BLOCK_KV - 1 > q_begin + problem.kv_len - problem.q_len) mask(s, q_begin);
#pragma unroll
        for (int i = 0; i < BLOCK_Q / 8; ++i) {
            const float2 lse_log2 = row_values(LSE_RING + stage * ROW_BYTES, i);
#pragma unroll
            for (int j = 0; j < 4; ++j) s[4 * i + j] = exp2_approx(s[4 * i + j] * scale_log2 - (j % 2 ? lse_log2.y : lse_log2.x));
        }
        wgmma_wait<0>();   // dp
        pin(dp);
#pragma unroll
        for (int i = 0; i < BLOCK_Q / 8; ++i) {
            const float2 row_delta = row_values(DELTA_RING + stage * ROW_BYTES, i);
#pragma unroll
            for (int j = 0; j < 4; ++j) dp[4 * i + j] = s[4 * i + j] * (dp[4 * i + j] - (j % 2 ? row_delta.y : row_delta.x));
        }
#pragma unroll
        for (int i = 0; i < BLOCK_Q / 4; ++i) {
            p_packed[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
            ds_packed[i] = pack_bf16(dp[2 * i], dp[2 * i + 1]);
        }
        // ds^T, transposed on the way to shared memory; two stages, so that one barrier a tile keeps readers and writers apart
#pragma unroll
        for (int i = 0; i < BLOCK_Q / 16; ++i) {
            const int query = i * 16 + lane / 16 * 8 + lane % 8, key = group_row + warp * 16 + lane / 8 % 2 * 8;
            const u32 matrices[4] = {ds_packed[4 * i], ds_packed[4 * i + 1], ds_packed[4 * i + 2], ds_packed[4 * i + 3]};
            store_matrix_x4_transposed(tile_address(shared + ds_tile, Q_CHUNK, query, key), matrices);
        }
        publish_shared_to_async();
        issue_by_rows(dv, p_packed, do_tile);
        named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);   // ds is whole, and all have read lse and delta
        issue_query_gradient(dq_part, ds_tile);
        wgmma_wait<1>();   // dv
        pin(dv);
        release(DO_EMPTY + 8 * stage);
        issue_by_rows(dk, ds_packed, q_tile);
        wgmma_wait<1>();   // dq
        pin(dq_part);
        named_barrier_sync(DQ_EMPTY + consumer, DQ_THREADS);
#pragma unroll
        for (int i = 0; i < 8; ++i)
            store_shared_f32x4(shared + DQ_TILE + consumer * DQ_PART * 4 + (i * 128 + thread) * 16, dq_part[4 * i], dq_part[4 * i + 1], dq_part[4 * i + 2], dq_part[4 * i + 3]);
        publish_shared_to_async();
        named_barrier_arrive(DQ_FULL + consumer, DQ_THREADS);
        wgmma_wait<0>();   // dk
        pin(dk);
        release(Q_EMPTY + 8 * stage);
    }

    // ---------------------------------------------------------------- epilogue
    named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);   // all have used k and v: their tiles take the gradients
#pragma unroll
    for (int c = 0; c < HEAD_DIM / 16; ++c) {
        const int to_row = group_row + warp * 16 + lane % 16, to_column = c * 16 + lane / 16 * 8;
        u32 dk_packed[4], dv_packed[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            dk_packed[i] = pack_bf16(dk[8 * c + 2 * i] * problem.scale, dk[8 * c + 2 * i + 1] * problem.scale);
            dv_packed[i] = pack_bf16(dv[8 * c + 2 * i], dv[8 * c + 2 * i + 1]);
        }
        store_matrix_x4(tile_address(shared + K_TILE, KV_CHUNK, to_row, to_column), dk_packed);
        store_matrix_x4(tile_address(shared + V_TILE, KV_CHUNK, to_row, to_column), dv_packed);
    }
    publish_shared_to_async();
    named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);
    if (threadIdx.x == 128) {
        for (int c = 0; c < CHUNKS; ++c) {
            tensor_store(&dk_map, shared + K_TILE + c * KV_CHUNK, c * CHUNK_COLUMNS, kv_begin, head, batch);
            tensor_store(&dv_map, shared + V_TILE + c * KV_CHUNK, c * CHUNK_COLUMNS, kv_begin, head, batch);
        }
        bulk_commit();
        bulk_wait_read<0>();
    }
}
