// Tiles all of whose pairs are live, and others: code for them is made apart.
struct Full { static constexpr bool partial = false; };
struct Partial { static constexpr bool partial = true; };
struct More { static constexpr bool last = false; };
struct Last { static constexpr bool last = true; };
//% if tables

//% include "diagonals"
//% endif
//% include "backward_work"
// Tiles of queries that see keys of a tile, the last ones first: [first, last).
struct QueryTiles {
    int first, last;
};
__device__ __forceinline__ QueryTiles query_tiles_of(const Range& range) { return {range.begin / BLOCK_Q, (range.end + BLOCK_Q - 1) / BLOCK_Q}; }
__device__ __forceinline__ Range live_queries_of_tile(const Arguments& arguments, const Tile& tile, int kv_tile) {
    return live_queries_of(arguments, tile, kv_tile * BLOCK_KV, kv_tile * BLOCK_KV + BLOCK_KV);
}
//% if tile_mask
//% include "walk"
//% endif

// ---------------------------------------------------------------- kernel
//% if wide
// A block stays on its multiprocessor and computes tile after tile of keys, each the next that no block has taken. It walks the
// queries that see the tile: s^T = k q^T, dp^T = v do^T, dk += ds^T q, transposed, so that the gradients of weights are A of the next
// product without leaving registers; they pass through shared memory for dq = ds k as well. dv is another kernel's: there are no
// registers for it beside dk, and shared memory has room for one tile of q and of do. do is loaded while dk and dq are computed, q
// while dq is.
//% else
// A block stays on its multiprocessor and computes tile after tile of keys, each the next that no block has taken. It walks the
// queries that see the tile: everything transposed, so that weights and their gradients are A of the next products without leaving
// registers: s^T = k q^T, dp^T = v do^T, dv += p^T do, dk += ds^T q. Only ds passes through shared memory, for dq = ds k.
//% endif
//% if deterministic
// Every tile of dq is a sum over tiles of keys@{ " with a live pair" if skips else "" }: blocks add to it in the order of the tiles. They wait for works with lower numbers alone,
// which other blocks have taken before.
//% endif
extern "C" __global__ void __launch_bounds__(THREADS, 1)
@{ entry }(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const u32 k_tile = shared_address(shared), v_tile = k_tile + K_TILE_BYTES;
    const u32 q_ring = v_tile + V_TILE_BYTES, do_ring = q_ring + STAGES * Q_TILE_BYTES;
    const u32 ds_ring = do_ring + STAGES * DO_TILE_BYTES, @{ "dq_part" if wide else "dq_tile" } = ds_ring + STAGES * DS_TILE_BYTES;
    //% set free = "dq_part + DQ_PART_BYTES" if wide else "dq_tile + DQ_TILE_BYTES"
    //% if stage_queries
    const u32 query_ring = @{ free };
    //% set free = "query_ring + STAGES * QUERY_RING_BYTES"
    //% endif
    //% if relatives
    const u32 relative_ring = @{ free };
    //% set free = "relative_ring + STAGES * RELATIVE_TABLE_BYTES"
    //% endif
    //% if tables
    const u32 sums = @{ free };
    //% set free = "sums + DIAGONALS * 32"
    //% endif
    const u32 kv_full = @{ free };
    const u32 kv_empty = kv_full + 8, work_full = kv_empty + 8, work_empty = work_full + 8;
    // of stage i, 8 i bytes on
    const u32 q_full = work_empty + 8, q_empty = q_full + 8 * STAGES, do_full = q_empty + 8 * STAGES, do_empty = do_full + 8 * STAGES;
    //% if tables
    const u32 ds_full = do_empty + 8 * STAGES, ds_empty = ds_full + 8 * STAGES, work_slot = ds_empty + 8 * STAGES;
    //% else
    const u32 work_slot = do_empty + 8 * STAGES;
    //% endif
    //% if tile_mask
    const u32 walk = work_slot + @{ "32" if packed else "16" };   // a ring of tiles of queries, and its barriers
    //% endif

    if (threadIdx.x == 0) {
        mbarrier_init(kv_full, 1), mbarrier_init(kv_empty, 1);
        mbarrier_init(work_full, 1), mbarrier_init(work_empty, 1 + @{ "QUERY_WARPS + " if by_query or tables else "" }4 * CONSUMERS);
        for (int stage = 0; stage < STAGES; ++stage) mbarrier_init(q_full + 8 * stage, 1@{ " + QUERY_WARPS" if by_query else "" }), mbarrier_init(q_empty + 8 * stage, CONSUMERS);
        for (int stage = 0; stage < STAGES; ++stage) mbarrier_init(do_full + 8 * stage, 1), mbarrier_init(do_empty + 8 * stage, CONSUMERS);
        //% if tables
        for (int stage = 0; stage < STAGES; ++stage) mbarrier_init(ds_full + 8 * stage, 4 * CONSUMERS), mbarrier_init(ds_empty + 8 * stage, QUERY_WARPS);
        //% endif
        //% if tile_mask
        for (int stage = 0; stage < WALK_STAGES; ++stage) mbarrier_init(walk + WALK_FULL + 8 * stage, 1), mbarrier_init(walk + WALK_EMPTY + 8 * stage, @{ "1 + " if skips else "" }@{ "QUERY_WARPS + " if skips and by_query else "" }4 * CONSUMERS);
        //% endif
        mbarrier_init_fence();
    }
    __syncthreads();

    //% if not packed
    const int q_len = arguments.q_len, kv_len = arguments.kv_len, q_tiles = (q_len + BLOCK_Q - 1) / BLOCK_Q;
    //% endif
    // the number of a warpgroup is the same in all of a warp, which lets descriptors live in uniform registers
    const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0), lane = threadIdx.x % 32;
    if (warpgroup == 0) {   // ---------------------------------------- producer
        registers_release<PRODUCER_REGISTERS>();
        const int role = __shfl_sync(~0u, threadIdx.x / 32, 0);
        //% if tile_mask or packed or wide
        //% include "backward_loader"
        //% else
        if (role == 0) {   // copies tiles
            if (elect_one()) {
                const int works = (kv_len + BLOCK_KV - 1) / BLOCK_KV * (arguments.heads / arguments.group) * arguments.batches;
                RingPlace place = {0, 1};   // fresh stages are empty
                for (u32 parity = 1;; parity ^= 1) {
                    const Work work = work_at(arguments, count_up(arguments.works_taken, works + gridDim.x - 1));
                    mbarrier_wait(work_empty, parity);
                    store_work(work_slot, work);
                    mbarrier_arrive(work_full);
                    if (work.kv_head < 0) break;
                    const int kv_begin = work.kv_tile * BLOCK_KV, kv_head = work.kv_head, batch = work.batch;
                    mbarrier_wait(kv_empty, parity);
                    mbarrier_arrive_expect(kv_full, K_TILE_BYTES + V_TILE_BYTES);
                    for (int c = 0; c < K_CHUNKS; ++c) tensor_load(k_tile + c * KV_CHUNK_BYTES, &arguments.k_map, kv_full, c * CHUNK_COLUMNS, kv_begin, kv_head, batch, EVICT_FIRST);
                    for (int c = 0; c < chunks(VALUE_DIM); ++c) tensor_load(v_tile + c * KV_CHUNK_BYTES, &arguments.v_map, kv_full, c * CHUNK_COLUMNS, kv_begin, kv_head, batch, EVICT_FIRST);
                    for (int head = kv_head * arguments.group; head < (kv_head + 1) * arguments.group; ++head) {
                        const Tile tile = load_tile_values(arguments, batch, head);
                        const QueryTiles tiles = query_tiles_of(live_queries_of_tile(arguments, tile, work.kv_tile));
                        for (int q_tile = tiles.last - 1; q_tile >= tiles.first; --q_tile) {
                            mbarrier_wait(q_empty + 8 * place.stage, place.parity);
                            mbarrier_arrive_expect(q_full + 8 * place.stage, Q_TILE_BYTES);
                            for (int c = 0; c < chunks(HEAD_DIM); ++c)
                                tensor_load(q_ring + place.stage * Q_TILE_BYTES + c * Q_CHUNK_BYTES, &arguments.q_map, q_full + 8 * place.stage, c * CHUNK_COLUMNS, q_tile * BLOCK_Q, head, batch, EVICT_LAST);
                            mbarrier_wait(do_empty + 8 * place.stage, place.parity);
                            mbarrier_arrive_expect(do_full + 8 * place.stage, DO_TILE_BYTES);
                            for (int c = 0; c < chunks(VALUE_DIM); ++c)
                                tensor_load(do_ring + place.stage * DO_TILE_BYTES + c * Q_CHUNK_BYTES, &arguments.output_grad_map, do_full + 8 * place.stage, c * CHUNK_COLUMNS, q_tile * BLOCK_Q, head, batch, EVICT_LAST);
                            advance(place, STAGES);
                        }
                    }
                }
            }
            return;
        }
        //% endif
        //% include "backward_writer"
        //% if by_query or tables
        //% include "query_warps"
        //% endif
        return;
    }

    // ---------------------------------------------------------------- consumers: 64 keys each
    registers_acquire<CONSUMER_REGISTERS>();
    const int consumer = warpgroup - 1, group_row = consumer * 64, warp_row = group_row + threadIdx.x / 32 % 4 * 16;
    // sums that live as long as a tile of keys; what belongs to a tile of queries is declared where it is computed
    //% if not wide
    float dv[padded(VALUE_DIM) / 2];
    u32 p_packed[BLOCK_Q / 4];
    //% endif
    float dk[padded(HEAD_DIM) / 2];
    u32 ds_packed[BLOCK_Q / 4];
    auto issue_scores = [&](float (&s)[BLOCK_Q / 2], int stage) {   // s^T = k q^T
        const u64 k = tile_descriptor(@{ "uniform(" if wide else "" }k_tile + group_row * CHUNK_ROW_BYTES@{ ")" if wide else "" }, KV_CHUNK_BYTES), q = tile_descriptor(@{ "uniform(" if wide else "" }q_ring + stage * Q_TILE_BYTES@{ ")" if wide else "" }, Q_CHUNK_BYTES);
        pin(s);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < padded(HEAD_DIM) / 16; ++i) multiply_tiles(s, k + column_step(i, KV_CHUNK_BYTES), q + column_step(i, Q_CHUNK_BYTES), i != 0);
        wgmma_commit();
    };
    auto issue_dp = [&](float (&dp)[BLOCK_Q / 2], int stage) {   // dp^T = v do^T
        const u64 v = tile_descriptor(@{ "uniform(" if wide else "" }v_tile + group_row * CHUNK_ROW_BYTES@{ ")" if wide else "" }, KV_CHUNK_BYTES), output_grad = tile_descriptor(@{ "uniform(" if wide else "" }do_ring + stage * DO_TILE_BYTES@{ ")" if wide else "" }, Q_CHUNK_BYTES);
        pin(dp);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < padded(VALUE_DIM) / 16; ++i) multiply_tiles(dp, v + column_step(i, KV_CHUNK_BYTES), output_grad + column_step(i, Q_CHUNK_BYTES), i != 0);
        wgmma_commit();
    };
    auto issue_dk = [&](int stage) {   // dk += ds^T q
        const u64 q = tile_descriptor(@{ "uniform(" if wide else "" }q_ring + stage * Q_TILE_BYTES@{ ")" if wide else "" }, Q_CHUNK_BYTES);
        pin(dk);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_Q / 16; ++i) {
            const u32 a[4] = {ds_packed[4 * i], ds_packed[4 * i + 1], ds_packed[4 * i + 2], ds_packed[4 * i + 3]};
            multiply_weights(dk, a, q + row_step(i));
        }
        wgmma_commit();
    };
    //% if wide
    auto issue_dq = [&](float (&dq)[2 * DQ_REGISTERS], int round) {   // dq = ds k: 64 columns of this warpgroup's
        const u64 a = tile_descriptor(uniform(ds_ring), Q_CHUNK_BYTES), k = tile_descriptor(uniform(k_tile + (round * CONSUMERS + consumer) * KV_CHUNK_BYTES), KV_CHUNK_BYTES);
        pin(dq);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 16; ++i) multiply_transposed(dq, a + column_step(i, Q_CHUNK_BYTES), k + row_step(i), i != 0);
        wgmma_commit();
    };
    auto leave = [&](const float (&dq)[2 * DQ_REGISTERS]) {   // two parts, one after the other
#pragma unroll
        for (int part = 0; part < 2; ++part) {
            named_barrier_sync(DQ_EMPTY + consumer, DQ_THREADS);
#pragma unroll
            for (int i = 0; i < DQ_REGISTERS / 4; ++i) {
                const int r = part * DQ_REGISTERS + 4 * i;
                store_shared_16(dq_part + (consumer * DQ_REGISTERS / 4 + i) * 2048 + threadIdx.x % 128 * 16, make_int4(__float_as_int(dq[r]), __float_as_int(dq[r + 1]), __float_as_int(dq[r + 2]), __float_as_int(dq[r + 3])));
            }
            publish_shared();
            named_barrier_arrive(DQ_FULL + consumer, DQ_THREADS);
        }
    };
    //% else
    auto issue_dq = [&](float (&dq)[DQ_REGISTERS], u32 ds) {   // dq = ds k: this warpgroup's @{ "rows" if dq_by_rows else "columns" }
        const u64 a = tile_descriptor(ds@{ " + group_row * CHUNK_ROW_BYTES" if dq_by_rows else "" }, Q_CHUNK_BYTES), k = tile_descriptor(k_tile@{ "" if dq_by_rows else " + consumer * KV_CHUNK_BYTES" }, KV_CHUNK_BYTES);
        pin(dq);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 16; ++i) multiply_transposed(dq, a + column_step(i, Q_CHUNK_BYTES), k + row_step(i), i != 0);
        wgmma_commit();
    };
    auto issue_dv = [&](int stage) {   // dv += p^T do
        const u64 output_grad = tile_descriptor(do_ring + stage * DO_TILE_BYTES, Q_CHUNK_BYTES);
        pin(dv);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_Q / 16; ++i) {
            const u32 a[4] = {p_packed[4 * i], p_packed[4 * i + 1], p_packed[4 * i + 2], p_packed[4 * i + 3]};
            multiply_weights(dv, a, output_grad + row_step(i));
        }
        wgmma_commit();
    };
    //% endif
    auto release = [&](u32 empty) {   // the whole warpgroup has waited for its products: one thread can speak for it
        if (threadIdx.x % 128 == 0) mbarrier_arrive(empty);
    };

    //% if relatives
    // a thread's columns have distances 8 apart, its two rows as well
    const u32 my_distances = (BLOCK_KV + lane % 4 * 2 - warp_row - lane / 4) * 4@{ " + lane / 4 % 2 * (RELATIVE_COPY_BYTES - 4)" if relative_copies > 1 else "" };
    auto read_relatives = [&](Relative (&relative)[2][2], int stage, int n) {   // of keys r and queries 8 n + c
        const u32 table = relative_ring + stage * RELATIVE_TABLE_BYTES + my_distances;
        if (n == 0) load_relatives(relative[1], table - 8 * 4);
        else relative[1][0] = relative[0][0], relative[1][1] = relative[0][1];
        load_relatives(relative[0], table + n * (8 * 4));
    };

    //% endif
    RingPlace place = {0, 0};   // of the tile of queries: in all rings the same
    //% if tile_mask
    RingPlace walk_place = {0, 0};
    //% endif
    //% if not wide
    u32 ds_tile = ds_ring;
    //% endif
    //% if packed
    int sequence = -1;   // whose tensor maps are known
    //% endif
    for (u32 parity = 0;; parity ^= 1) {
        mbarrier_wait(work_full, parity);
        const Work work = load_work(work_slot);
        __syncwarp();
        if (lane == 0) mbarrier_arrive(work_empty);
        if (work.kv_head < 0) break;
        const int kv_begin = work.kv_tile * BLOCK_KV, kv_head = work.kv_head, batch = work.batch;
        //% if packed
        const int q_len = work.q_len, kv_len = work.kv_len;
        //% endif
        const int first_kv = kv_begin + warp_row + lane / 4;   // this thread's keys: first_kv + 8 r
        //% if not wide
#pragma unroll
        for (int i = 0; i < padded(VALUE_DIM) / 2; ++i) dv[i] = 0.f;
        //% endif
#pragma unroll
        for (int i = 0; i < padded(HEAD_DIM) / 2; ++i) dk[i] = 0.f;
        mbarrier_wait(kv_full, parity);

        for (int head = kv_head * arguments.group; head < (kv_head + 1) * arguments.group; ++head) {
            const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
            //% if not tile_mask
            const Range range = live_queries_of_tile(arguments, tile, work.kv_tile);
            const QueryTiles tiles = query_tiles_of(range);
            //% endif
            auto key_at = [&](int kv) { kv = min(kv, kv_len - 1); return load_key(arguments, tile, kv, (float)kv); };
            const Key key[2] = {key_at(first_kv), key_at(first_kv + 8)};
            //% for parameter in sums
            float grad_@{ parameter.name }@{ "[2]" if parameter.column else "" } = @{ "{}" if parameter.column else "0.f" };
            //% endfor
            //% if scale_pairs
            const float pair_scale = product_grad_scale(tile);
            //% endif

            //% if not residual
            // tiles all of whose pairs are live
            const int full_first = kv_begin + BLOCK_KV <= kv_len ? (range.full_begin + BLOCK_Q - 1) / BLOCK_Q : tiles.last, full_last = range.full_end / BLOCK_Q;
            //% endif
            //% if tile_mask
            WalkedTile walked = take_walked(walk, walk_place);
            int q_tile = walked.tile;
            //% else
            int q_tile = tiles.last - 1;
            //% endif
            // whether the pair of register i is live; `seen` are the queries that see this thread's keys
            auto is_live_at = [&](int i, int first_q, const Range (&seen)[2], const Query& query, const Key& key) {
                const int column = i / 4 * 8 + i % 2, r = i / 2 % 2;
                //% if residual
                return first_q + column < q_len && first_kv + 8 * r < kv_len@{ " && is_live(" ~ mask_arguments ~ "tile, query, key)" if masked else "" };
                //% else
                return column < seen[r].end - first_q && column >= seen[r].begin - first_q;
                //% endif
            };
            auto seen_by = [&](int kv) { return @{ "Range{}" if residual else "kv < kv_len ? live_queries_of(arguments, tile, kv, kv + 1) : Range{}" }; };
            auto weigh = [&](float (&s)[BLOCK_Q / 2]@{ "" if split else ", float (&dp)[BLOCK_Q / 2]" }, int stage, auto kind) {   // s becomes the weights@{ "" if split else ", dp the gradient of the products" }
                const int first_q = q_tile * BLOCK_Q + lane % 4 * 2;   // this thread's queries: first_q + 8 n + c
                Range seen[2];
                if constexpr (decltype(kind)::partial) seen[0] = seen_by(first_kv), seen[1] = seen_by(first_kv + 8);
                //% if inline_queries
                const float first_q_as_float = first_q;
                //% endif
                //% if sigmoid
                float squares[2] = {0.f, 0.f};
                //% endif
                //% if weight_relatives
                Relative relative[2][2];
                //% endif
#pragma unroll
                for (int n = 0; n < BLOCK_Q / 8; ++n) {
                    @{ weight_columns }
                    //% if weight_relatives
                    read_relatives(relative, stage, n);
                    //% endif
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const int i = 4 * n + e;
                        const bool live = !decltype(kind)::partial || is_live_at(i, first_q, seen, query[e % 2], key[e / 2]);
                        //% if sigmoid
                        const float y = exp2_approx(sigmoid_exponent(@{ weight_arguments }s[i], tile, query[e % 2], key[e / 2]@{ ", relative[e / 2][e % 2]" if weight_relatives else "" }));
                        s[i] = live ? y : 0.f;
                        squares[e % 2] = fmaf(s[i], s[i], squares[e % 2]);
                        //% elif split
                        const float probability = backward_probability(@{ weight_arguments }s[i], tile, query[e % 2], key[e / 2]@{ ", relative[e / 2][e % 2]" if weight_relatives else "" });
                        s[i] = live ? probability : 0.f;
                        //% else
                        const Pair pair = backward_pair(@{ pair_arguments }s[i], dp[i], tile, query[e % 2], key[e / 2]@{ ", relative[e / 2][e % 2]" if weight_relatives else "" });
                        s[i] = live ? pair.probability : 0.f;
                        dp[i] = live ? pair.product_grad@{ " * pair_scale" if scale_pairs else "" } : 0.f;
                        //% for parameter in sums
                        grad_@{ parameter.name }@{ "[e / 2]" if parameter.column else "" } += live ? pair.grad_@{ parameter.name } : 0.f;
                        //% endfor
                        //% endif
                    }
                }
                //% if sigmoid
                // a weight is y / (1 + y): where all y are small, y - y^2 is as good as rounding, beyond a reciprocal is needed
                if (__all_sync(~0u, squares[0] + squares[1] < @{ small_squares })) {
#pragma unroll
                    for (int i = 0; i < BLOCK_Q / 2; ++i) s[i] = fmaf(-s[i], s[i], s[i]);
                } else {
#pragma unroll
                    for (int i = 0; i < BLOCK_Q / 2; ++i) {
                        const float y = s[i] > 16777216.f ? 16777216.f : s[i];
                        s[i] = y * reciprocal_approx(1.f + y);
                    }
                }
                //% endif
            };
            //% if split
            auto differentiate = [&](const float (&s)[BLOCK_Q / 2], float (&dp)[BLOCK_Q / 2], int stage, auto kind) {   // dp becomes the gradient of the products
                const int first_q = q_tile * BLOCK_Q + lane % 4 * 2;
                Range seen[2];
                if constexpr (decltype(kind)::partial) seen[0] = seen_by(first_kv), seen[1] = seen_by(first_kv + 8);
                //% if inline_queries
                const float first_q_as_float = first_q;
                //% endif
                //% if gradient_relatives
                Relative relative[2][2];
                //% endif
#pragma unroll
                for (int n = 0; n < BLOCK_Q / 8; ++n) {
                    @{ gradient_columns }
                    //% if gradient_relatives
                    read_relatives(relative, stage, n);
                    //% endif
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const int i = 4 * n + e;
                        const bool live = !decltype(kind)::partial || is_live_at(i, first_q, seen, query[e % 2], key[e / 2]);
                        const Pair pair = backward_pair(@{ pair_arguments }s[i], dp[i], tile, query[e % 2], key[e / 2]@{ ", relative[e / 2][e % 2]" if gradient_relatives else "" });
                        dp[i] = live ? pair.product_grad@{ " * pair_scale" if scale_pairs else "" } : 0.f;
                        //% for parameter in sums
                        grad_@{ parameter.name }@{ "[e / 2]" if parameter.column else "" } += live ? pair.grad_@{ parameter.name } : 0.f;
                        //% endfor
                    }
                }
            };
            //% endif
            //% if not wide
            auto pack_weights = [&](const float (&s)[BLOCK_Q / 2]) {
#pragma unroll
                for (int i = 0; i < BLOCK_Q / 4; ++i) p_packed[i] = pack(s[2 * i], s[2 * i + 1]);
            };
            //% endif
            auto store_ds = [&](const float (&dp)[BLOCK_Q / 2]) {   // as a tile of queries
                //% if tables
                mbarrier_wait(ds_empty + 8 * place.stage, place.parity ^ 1);
                //% endif
#pragma unroll
                for (int i = 0; i < BLOCK_Q / 4; ++i) ds_packed[i] = pack(dp[2 * i], dp[2 * i + 1]);
                //% if wide
                // the other has used the tile before: this one's last part of dq left after the other's last but one
                //% endif
#pragma unroll
                for (int i = 0; i < BLOCK_Q / 16; ++i) {
                    const u32 matrices[4] = {ds_packed[4 * i], ds_packed[4 * i + 1], ds_packed[4 * i + 2], ds_packed[4 * i + 3]};
                    store_matrix_x4_transposed(tile_address(@{ "ds_ring" if wide else "ds_tile" }, Q_CHUNK_BYTES, i * 16 + lane / 16 * 8 + lane % 8, warp_row + lane / 8 % 2 * 8), matrices);
                }
                publish_shared();
                //% if tables
                __syncwarp();
                if (lane == 0) mbarrier_arrive(ds_full + 8 * place.stage);
                //% endif
            };

            auto compute_scores = [&](float (&s)[BLOCK_Q / 2]) {
                mbarrier_wait(q_full + 8 * place.stage, place.parity);
                //% if wide
                forget(s);
                //% endif
                issue_scores(s, place.stage);
            };
            //% if wide
            //% include "backward_wide_step"
            //% else
            //% include "backward_step"
            //% endif
            if (@{ "q_tile >= 0" if tile_mask else "tiles.first < tiles.last" }) {
                compute_scores(s);
                wgmma_wait<0>();
                pin(s);
#pragma unroll 1
                while (@{ "!walked.last" if tile_mask else "q_tile > tiles.first" }) step(More{});
                step(Last{});
            }
            //% if sums
            // partial sums: a second kernel adds them up in a fixed order
            const i64 row = ((i64)batch * arguments.heads + head);
            //% for parameter in sums
            //% if parameter.column
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const float sum = quad_sum(grad_@{ parameter.name }[r]);
                if (lane % 4 == 0 && first_kv + 8 * r < kv_len) arguments.grad_@{ parameter.name }[row * @{ "arguments.max_seqlen_kv" if packed else "kv_len" } + first_kv + 8 * r] = sum;
            }
            //% else
            const float sum_@{ parameter.name } = warp_sum(grad_@{ parameter.name });
            if (lane == 0) arguments.grad_@{ parameter.name }[@{ parameter.tile } * (4 * CONSUMERS) + warp_row / 16] = sum_@{ parameter.name };
            //% endif
            //% endfor
            //% endif
        }

        // ---------------------------------------------------------------- epilogue
        //% if product_grad_scale and not scale_pairs
        const float scale = product_grad_scale(load_tile_values(arguments, batch, kv_head * arguments.group@{ lengths }));
#pragma unroll
        for (int i = 0; i < padded(HEAD_DIM) / 2; ++i) dk[i] *= scale;
        //% endif
        named_barrier_sync(ALL_CONSUMERS, 128 * CONSUMERS);   // @{ "all have used k: its gradient takes its place" if wide else "all have used k and v: gradients take their places" }
        auto store_rows = [&](const auto& gradient, u32 tile) {
#pragma unroll
            for (int c = 0; c < sizeof(gradient) / 32; ++c) {
                u32 packed[4];
#pragma unroll
                for (int i = 0; i < 4; ++i) packed[i] = pack(gradient[8 * c + 2 * i], gradient[8 * c + 2 * i + 1]);
                store_matrix_x4(tile_address(tile, KV_CHUNK_BYTES, warp_row + lane % 16, c * 16 + lane / 16 * 8), packed);
            }
        };
        store_rows(dk, k_tile);
        //% if not wide
        store_rows(dv, v_tile);
        //% endif
        publish_shared();
        named_barrier_sync(ALL_CONSUMERS, 128 * CONSUMERS);
        if (threadIdx.x == 128) {
            //% if packed
            const TensorMap* maps = arguments.sequence_maps + batch * MAPS;
            if (batch != sequence) acquire_map(@{ k_grad_map })@{ "" if wide else ", acquire_map(" ~ v_grad_map ~ ")" };
            sequence = batch;
            //% endif
            for (int c = 0; c < chunks(HEAD_DIM); ++c) tensor_store(@{ k_grad_map }, k_tile + c * KV_CHUNK_BYTES, c * CHUNK_COLUMNS, kv_begin, kv_head, @{ map_batch });
            //% if not wide
            for (int c = 0; c < chunks(VALUE_DIM); ++c) tensor_store(@{ v_grad_map }, v_tile + c * KV_CHUNK_BYTES, c * CHUNK_COLUMNS, kv_begin, kv_head, @{ map_batch });
            //% endif
            tensor_store_commit();
            tensor_store_wait();
            mbarrier_arrive(kv_empty);
        }
    }
    // the last leave to write is nobody's
    named_barrier_sync(DQ_EMPTY + consumer, DQ_THREADS);
}
