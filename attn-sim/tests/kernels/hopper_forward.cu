// Softmax attention, forward, bf16: o = softmax(scale * q k^T) v and lse, the logarithm of the softmax's sum.
//
//   block     128 queries of one head: a producer warpgroup and two consumer warpgroups of 64 queries
//   producer  one thread loads q, then tiles of 128 keys into rings of two for k and v, the last keys first
//   consumer  the scores of the next tile are computed while this one's softmax runs; weights stay in registers; two consumers
//             take turns on the tensor cores (ping-pong by named barriers)
//   lengths   any; the tail of q and k is zero-filled by TMA, keys past the end are masked, rows past the end are dropped
//   mask      causal where `causal`: query q sees keys up to q + kv_len - q_len; a row that sees none gives 0 and lse = -inf
//   heads     `group` query heads share a head of k and v
//
// HEAD_DIM (64 or 128) is defined in front of this text. Grid: query tiles, heads, batches.

constexpr int BLOCK_Q = 128, BLOCK_KV = 128, STAGES = 2, CONSUMERS = 2;
constexpr float LOG2E = 1.4426950408889634f, LOGE2 = 0.6931471805599453f;   // log2(e), ln(2)
constexpr int CHUNKS = HEAD_DIM / CHUNK_COLUMNS;
constexpr u32 Q_CHUNK = chunk_bytes(BLOCK_Q), KV_CHUNK = chunk_bytes(BLOCK_KV);
constexpr u32 Q_BYTES = CHUNKS * Q_CHUNK, KV_BYTES = CHUNKS * KV_CHUNK;

// Shared memory, in bytes from its beginning.
constexpr u32 Q_TILE = 0, K_RING = Q_TILE + Q_BYTES, V_RING = K_RING + STAGES * KV_BYTES;
constexpr u32 Q_FULL = V_RING + STAGES * KV_BYTES;
constexpr u32 K_FULL = Q_FULL + 8, K_EMPTY = K_FULL + 8 * STAGES, V_FULL = K_EMPTY + 8 * STAGES, V_EMPTY = V_FULL + 8 * STAGES;
constexpr u32 SHARED_BYTES = V_EMPTY + 8 * STAGES;   // what a launch gives
static_assert(SHARED_BYTES <= 227 << 10, "more than a block can have");

// Named barriers: consumer warpgroup w may issue its products (threads: those of it and of the one that passes the turn on), and
// all consumers are here.
constexpr u32 TURN = 1, TURN_THREADS = 256, ALL_CONSUMERS = 3, CONSUMER_THREADS = 128 * CONSUMERS;

struct Problem {
    int q_len, kv_len, group, causal;
    float scale;
};

// The keys of a query tile: tiles [0, tiles), of which [0, full_tiles) need no mask.
struct KeyTiles { int tiles, full_tiles; };

DEVICE KeyTiles key_tiles_of(const Problem& problem, int q_begin) {
    const int diagonal = problem.kv_len - problem.q_len;
    const int seen_by_all = problem.causal ? min(problem.kv_len, q_begin + diagonal + 1) : problem.kv_len;
    const int seen_by_any = problem.causal ? min(problem.kv_len, q_begin + BLOCK_Q + diagonal) : problem.kv_len;
    return {max(0, (seen_by_any + BLOCK_KV - 1) / BLOCK_KV), max(0, seen_by_all / BLOCK_KV)};
}

DEVICE void produce(u32 shared, const TensorMap* q_map, const TensorMap* k_map, const TensorMap* v_map, const Problem& problem, int q_begin, int tiles) {
    const int head = blockIdx.y, kv_head = head / problem.group, batch = blockIdx.z;
    if (tiles > 0) {
        mbarrier_arrive_expect(shared + Q_FULL, Q_BYTES);
        for (int c = 0; c < CHUNKS; ++c)
            tensor_load_hinted(shared + Q_TILE + c * Q_CHUNK, q_map, shared + Q_FULL, c * CHUNK_COLUMNS, q_begin, head, batch, EVICT_FIRST);
    }
    RingPlace<STAGES> place = {0, 1};   // a fresh stage is empty
    for (int tile = tiles - 1; tile >= 0; --tile, place.advance()) {
        auto load = [&](u32 ring, u32 full, u32 empty, const TensorMap* map) {
            mbarrier_wait(shared + empty + 8 * place.stage, place.parity);
            mbarrier_arrive_expect(shared + full + 8 * place.stage, KV_BYTES);
            for (int c = 0; c < CHUNKS; ++c)
                tensor_load_hinted(shared + ring + place.stage * KV_BYTES + c * KV_CHUNK, map, shared + full + 8 * place.stage, c * CHUNK_COLUMNS, tile * BLOCK_KV, kv_head, batch, EVICT_LAST);
        };
        load(K_RING, K_FULL, K_EMPTY, k_map);
        load(V_RING, V_FULL, V_EMPTY, v_map);
    }
}

extern "C" __global__ void __launch_bounds__(128 * (1 + CONSUMERS), 1)
hopper_forward(const __grid_constant__ TensorMap q_map, const __grid_constant__ TensorMap k_map, const __grid_constant__ TensorMap v_map,
               const __grid_constant__ TensorMap o_map, float* lse, const __grid_constant__ Problem problem) {
    extern __shared__ __align__(1024) unsigned char dynamic_shared[];
    const u32 shared = shared_address(dynamic_shared);
    const int q_begin = (gridDim.x - 1 - blockIdx.x) * BLOCK_Q;   // the tiles with the most keys first
    const int head = blockIdx.y, batch = blockIdx.z;
    const KeyTiles keys = key_tiles_of(problem, q_begin);

    if (threadIdx.x == 0) {
        mbarrier_init(shared + Q_FULL, 1);
        for (int stage = 0; stage < STAGES; ++stage) {
            mbarrier_init(shared + K_FULL + 8 * stage, 1);
            mbarrier_init(shared + V_FULL + 8 * stage, 1);
            mbarrier_init(shared + K_EMPTY + 8 * stage, CONSUMERS);
            mbarrier_init(shared + V_EMPTY + 8 * stage, CONSUMERS);
        }
        mbarrier_init_fence();
    }
    __syncthreads();

    const int warpgroup = threadIdx.x / 128;
    if (warpgroup == 0) {
        registers_release<24>();
        if (threadIdx.x < 32 && elect_one()) produce(shared, &q_map, &k_map, &v_map, problem, q_begin, keys.tiles);
        return;
    }
    registers_acquire<240>();

    // ---------------------------------------------------------------- consumers
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 % 4;
    const int group_row = (warpgroup - 1) * 64;                 // the warpgroup's first row in the tile
    const int row = group_row + warp * 16 + lane / 4;           // this thread's rows: row and row + 8
    const float scale_log2 = problem.scale * LOG2E;
    float s[BLOCK_KV / 2], o[HEAD_DIM / 2];
    u32 weights[BLOCK_KV / 4];
    float row_max[2] = {-INFINITY, -INFINITY}, row_sum[2] = {0.f, 0.f}, rescale[2];
#pragma unroll
    for (int i = 0; i < HEAD_DIM / 2; ++i) o[i] = 0.f;

    auto issue_scores = [&](int stage) {   // s = q k^T
        const u64 q = tile_descriptor(shared + Q_TILE + group_row * CHUNK_ROW_BYTES, Q_CHUNK);
        const u64 k = tile_descriptor(shared + K_RING + stage * KV_BYTES, KV_CHUNK);
        pin(s);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 16; ++i) wgmma_bf16_ss(s, q + column_step(i, Q_CHUNK), k + column_step(i, KV_CHUNK), i != 0);
        wgmma_commit();
    };
    auto issue_output = [&](int stage) {   // o += weights v
        const u64 v = tile_descriptor(shared + V_RING + stage * KV_BYTES, KV_CHUNK);
        pin(o);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 16; ++i) {
            const u32 a[4] = {weights[4 * i], weights[4 * i + 1], weights[4 * i + 2], weights[4 * i + 3]};
            wgmma_bf16_rs_bt(o, a, v + row_step(i), true);
        }
        wgmma_commit();
    };
    auto mask = [&](int tile) {
        const int last_key = problem.kv_len - 1, diagonal = problem.kv_len - problem.q_len + q_begin + row;
        const int column = tile * BLOCK_KV + lane % 4 * 2;   // this thread's first key; s[i] is of key column + 8 * (i / 4) + i % 2
        const int limit0 = (problem.causal ? min(diagonal, last_key) : last_key) - column;
        const int limit1 = (problem.causal ? min(diagonal + 8, last_key) : last_key) - column;
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 2; ++i)
            if (8 * (i / 4) + i % 2 > (i / 2 % 2 ? limit1 : limit0)) s[i] = -INFINITY;
    };
    auto softmax = [&] {   // s becomes the weights relative to the maximum so far; o waits for its rescale
        float new_max[2] = {row_max[0], row_max[1]}, shift[2];
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 2; ++i) new_max[i / 2 % 2] = fmaxf(new_max[i / 2 % 2], s[i]);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            new_max[r] = quad_max(new_max[r]);
            shift[r] = new_max[r] == -INFINITY ? 0.f : new_max[r] * scale_log2;   // a row without keys so far: no inf - inf
            rescale[r] = exp2_approx(row_max[r] * scale_log2 - shift[r]);
            row_max[r] = new_max[r];
            row_sum[r] *= rescale[r];
        }
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 2; ++i) {
            s[i] = exp2_approx(fmaf(s[i], scale_log2, -shift[i / 2 % 2]));
            row_sum[i / 2 % 2] += s[i];
        }
    };
    auto pack_weights = [&] {   // an accumulator's registers are those of A, two by two
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 4; ++i) weights[i] = pack_bf16(s[2 * i], s[2 * i + 1]);
    };
    auto rescale_output = [&] {
#pragma unroll
        for (int i = 0; i < HEAD_DIM / 2; ++i) o[i] *= rescale[i / 2 % 2];
    };
    auto release = [&](u32 empty) {   // wgmma_wait is of the whole warpgroup: one thread can speak for it
        if (threadIdx.x % 128 == 0) mbarrier_arrive(empty);
    };

    if (keys.tiles > 0) {
        int tile = keys.tiles - 1;
        RingPlace<STAGES> place = {0, 0};
        mbarrier_wait(shared + Q_FULL, 0);
        mbarrier_wait(shared + K_FULL, 0);
        issue_scores(0);
        wgmma_wait<0>();
        pin(s);
        release(shared + K_EMPTY);
        mask(tile);
        softmax();
        pack_weights();

        const u32 my_turn = TURN + warpgroup - 1, next_turn = TURN + warpgroup % CONSUMERS;
        if (warpgroup == CONSUMERS && tile > 0) named_barrier_arrive(next_turn, TURN_THREADS);   // the first warpgroup begins
        auto step = [&](bool masked) {
            const RingPlace<STAGES> v_place = place;
            place.advance();
            --tile;
            mbarrier_wait(shared + K_FULL + 8 * place.stage, place.parity);
            named_barrier_sync(my_turn, TURN_THREADS);
            issue_scores(place.stage);
            mbarrier_wait(shared + V_FULL + 8 * v_place.stage, v_place.parity);
            issue_output(v_place.stage);
            if (warpgroup != CONSUMERS || tile > 0) named_barrier_arrive(next_turn, TURN_THREADS);
            wgmma_wait<1>();   // the scores
            pin(s);
            release(shared + K_EMPTY + 8 * place.stage);
            if (masked) mask(tile);
            softmax();
            wgmma_wait<0>();   // the output
            pin(o);
            release(shared + V_EMPTY + 8 * v_place.stage);
            pack_weights();
            rescale_output();
        };
#pragma unroll 1
        while (tile > keys.full_tiles) step(true);
#pragma unroll 1
        while (tile > 0) step(false);

        mbarrier_wait(shared + V_FULL + 8 * place.stage, place.parity);
        issue_output(place.stage);
        wgmma_wait<0>();
        pin(o);
    }

    // ---------------------------------------------------------------- epilogue
    float inverse[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        row_sum[r] = quad_sum(row_sum[r]);
        inverse[r] = row_sum[r] == 0.f ? 0.f : 1.f / row_sum[r];
    }
    named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);   // all have used q: its tile takes the output
#pragma unroll
    for (int c = 0; c < HEAD_DIM / 16; ++c) {
        const u32 to = tile_address(shared + Q_TILE, Q_CHUNK, group_row + warp * 16 + lane % 16, c * 16 + lane / 16 * 8);
        u32 packed[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) packed[i] = pack_bf16(o[8 * c + 2 * i] * inverse[i % 2], o[8 * c + 2 * i + 1] * inverse[i % 2]);
        store_matrix_x4(to, packed);
    }
    publish_shared_to_async();
    named_barrier_sync(ALL_CONSUMERS, CONSUMER_THREADS);
    if (threadIdx.x == 128) {
        for (int c = 0; c < CHUNKS; ++c) tensor_store(&o_map, shared + Q_TILE + c * Q_CHUNK, c * CHUNK_COLUMNS, q_begin, head, batch);
        bulk_commit();
        bulk_wait_read<0>();
    }
    if (lane % 4 == 0) {
        float* lse_row = lse + ((long long)batch * gridDim.y + head) * problem.q_len;
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int q = q_begin + row + 8 * r;
            if (q < problem.q_len) lse_row[q] = row_sum[r] == 0.f ? -INFINITY : LOGE2 * (row_max[r] * scale_log2 + log2_approx(row_sum[r]));
        }
    }
}
