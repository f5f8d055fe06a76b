// ---------------------------------------------------------------- kernel
extern "C" __global__ void __launch_bounds__(THREADS, @{ blocks_per_sm })
@{ entry }(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    const u32 k_tile = shared_address(shared), v_tile = k_tile + K_TILE_BYTES;
    const u32 q_ring = v_tile + V_TILE_BYTES, do_ring = q_ring + STAGES * Q_TILE_BYTES;
    //% if stage_queries
    const u32 query_ring = do_ring + STAGES * DO_TILE_BYTES;
    //% endif
    //% if column_warps > 1
    // COLUMN_WARPS warps share rows of keys: each computes the scores of its part of the queries and hands them to the others,
    // then sums its part of the columns of dk and dv over all queries. Larger row tiles mean fewer loads from shared memory.
    const u32 shared_fragments = @{ "query_ring + STAGES * QUERY_RING_BYTES" if stage_queries else "do_ring + STAGES * DO_TILE_BYTES" };
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32 / COLUMN_WARPS, column_warp = threadIdx.x / 32 % COLUMN_WARPS;
    //% else
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    //% endif

    //% if packed
    const PackedTile place = find_tile<BLOCK_KV>(arguments.cu_seqlens_kv, arguments.sequences, blockIdx.x);
    const int kv_begin = place.tile * BLOCK_KV, kv_head = blockIdx.y, batch = place.sequence;
    const int q_start = arguments.cu_seqlens_q[batch], q_len = arguments.cu_seqlens_q[batch + 1] - q_start;
    const int kv_start = arguments.cu_seqlens_kv[batch], kv_len = arguments.cu_seqlens_kv[batch + 1] - kv_start;
    if (kv_begin >= kv_len) return;   // past the end of its sequence
    //% else
    const int kv_begin = blockIdx.x * BLOCK_KV, kv_head = blockIdx.y, batch = blockIdx.z;
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    //% endif
    load_tile<BLOCK_KV, HEAD_DIM>(k_tile, rows_of(arguments.k, @{ kv_rows }, kv_head), arguments.k.row, kv_begin, kv_len);
    load_tile<BLOCK_KV, VALUE_DIM>(v_tile, rows_of(arguments.v, @{ kv_rows }, kv_head), arguments.v.row, kv_begin, kv_len);

    // this thread's rows of the transposed scores: keys kv_begin + first_row + 16 m + 8 r
    const int first_row = warp * ROW_TILES * 16 + lane / 4;
    //% if want_dv
    float dv[ROW_TILES][padded(VALUE_DIM) / 8@{ " / COLUMN_WARPS" if column_warps > 1 else "" }][4];
    clear(dv);
    //% endif
    //% if want_dk
    float dk[ROW_TILES][padded(HEAD_DIM) / 8@{ " / COLUMN_WARPS" if column_warps > 1 else "" }][4];
    clear(dk);
    //% endif
    for (int head = kv_head * arguments.group; head < (kv_head + 1) * arguments.group; ++head) {
        const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
        const Range range = live_queries_of(arguments, tile, kv_begin, min(kv_begin + BLOCK_KV, kv_len));
        //% if tile_mask
        const int last = (range.end + BLOCK_Q - 1) / BLOCK_Q;   // tiles of queries

        // of the 32 tiles from group on: which may have a live pair, and which have no dead one. A lane looks at one of them.
        int group = -32;
        u32 live_tiles = 0, full_tiles = 0;
        auto next_live = [&](int q_tile) {
            while (q_tile < last) {
                if (q_tile >= group + 32) {
                    group = q_tile;
                    const int q_begin = (group + lane) * BLOCK_Q, q_end = min(q_begin + BLOCK_Q, q_len);
                    TileLiveness liveness = {false, false};
                    if (group + lane < last) liveness = live_tile(arguments, tile, q_begin, q_end - 1, kv_begin, min(kv_begin + BLOCK_KV, kv_len) - 1);
                    live_tiles = __ballot_sync(~0u, liveness.may_live);
                    full_tiles = __ballot_sync(~0u, liveness.all_live && q_end == q_begin + BLOCK_Q);
                }
                const u32 ahead = live_tiles >> (q_tile - group);
                if (ahead) return q_tile + __ffs(ahead) - 1;
                q_tile = group + 32;
            }
            return last;
        };
        const int first = next_live(range.begin / BLOCK_Q);
        //% else
        const int first = range.begin / BLOCK_Q, last = (range.end + BLOCK_Q - 1) / BLOCK_Q;   // tiles of queries
        //% endif
        //% if stage_queries
        // positions past the end read what the last one has; nothing of theirs is used
        auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };
        //% endif
        const element* q_rows = rows_of(arguments.q, @{ q_rows }, head);
        const element* do_rows = rows_of(arguments.output_grad, @{ q_rows }, head);
        auto start_loads = [&](int q_tile, int stage) {
            load_tile<BLOCK_Q, HEAD_DIM>(q_ring + stage * Q_TILE_BYTES, q_rows, arguments.q.row, q_tile * BLOCK_Q, q_len);
            load_tile<BLOCK_Q, VALUE_DIM>(do_ring + stage * DO_TILE_BYTES, do_rows, arguments.output_grad.row, q_tile * BLOCK_Q, q_len);
            copy_async_commit();
        };
        __syncthreads();   // every warp has used the last head's tiles
        if (first < last) start_loads(first, 0);
        //% if stage_queries
        if (first < last && threadIdx.x < BLOCK_Q) store_query(query_ring, threadIdx.x, query_at(first * BLOCK_Q + (int)threadIdx.x));
        //% endif
        Key key[ROW_TILES][2];
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int kv = min(kv_begin + first_row + 16 * m + 8 * r, kv_len - 1);
                key[m][r] = load_key(arguments, tile, kv, (float)kv);
            }
        //% for parameter in column_gradients
        float grad_@{ parameter.name }[ROW_TILES][2] = {};
        //% endfor

        //% if tile_mask
        //% if stages > 1
        int stage = 1;
        //% endif
        for (int q_tile = first, next_tile; q_tile < last; q_tile = next_tile) {
            const bool full = full_tiles >> (q_tile - group) & 1;
            next_tile = next_live(q_tile + 1);
        //% else
        for (int q_tile = first; q_tile < last; ++q_tile) {
        //% endif
            //% if stages == 1
            if (q_tile > first) {
                __syncthreads();   // every warp has used the last tile
                start_loads(q_tile, 0);
                //% if stage_queries
                if (threadIdx.x < BLOCK_Q) store_query(query_ring, threadIdx.x, query_at(q_tile * BLOCK_Q + (int)threadIdx.x));
                //% endif
            }
            copy_async_wait<0>();
            __syncthreads();
            //% else
            //% if tile_mask
            stage ^= 1;
            //% else
            const int stage = (q_tile - first) % STAGES;
            //% endif
            copy_async_wait<0>();
            __syncthreads();   // this tile is there, and every warp has used the one before
            //% if tile_mask
            if (next_tile < last) start_loads(next_tile, stage ^ 1);
            //% else
            if (q_tile + 1 < last) start_loads(q_tile + 1, stage ^ 1);
            //% endif
            //% if stage_queries
            Query next_query;
            if (threadIdx.x < BLOCK_Q) next_query = query_at(@{ "next_tile" if tile_mask else "(q_tile + 1)" } * BLOCK_Q + (int)threadIdx.x);
            //% endif
            //% endif

            float s[ROW_TILES][WARP_COLUMNS / 8][4];
                multiply_rows<HEAD_DIM>(s, k_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), q_ring + @{ stage } * Q_TILE_BYTES@{ " + column_warp * WARP_COLUMNS * row_bytes(HEAD_DIM)" if column_warps > 1 else "" });
            //% if want_dk
            float dp[ROW_TILES][WARP_COLUMNS / 8][4];
                multiply_rows<VALUE_DIM>(dp, v_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), do_ring + @{ stage } * DO_TILE_BYTES@{ " + column_warp * WARP_COLUMNS * row_bytes(VALUE_DIM)" if column_warps > 1 else "" });
            //% endif

            // @{ pairs_comment }
            const int first_q = q_tile * BLOCK_Q + @{ "column_warp * WARP_COLUMNS + " if column_warps > 1 else "" }lane % 4 * 2;   // this thread's columns: first_q + 8 n + c
            //% if inline_queries
            const float first_q_as_float = first_q;
            //% endif
            //% if scale_pairs
            const float pair_scale = product_grad_scale(tile);
            //% endif
            auto pairs = [&](auto kind) {
#pragma unroll
                for (int n = 0; n < WARP_COLUMNS / 8; ++n) {
                    @{ query_columns }
#pragma unroll
                    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                        for (int e = 0; e < 4; ++e) {
                            const bool live = !decltype(kind)::partial || (first_q + 8 * n + e % 2 < q_len@{ " && is_live(" ~ mask_arguments ~ "tile, query[e % 2], key[m][e / 2])" if masked else "" });
                            //% if want_dk
                            const Pair pair = backward_pair(@{ pair_arguments }s[m][n][e], dp[m][n][e], tile, query[e % 2], key[m][e / 2]);
                            //% if want_dv
                            s[m][n][e] = live ? pair.probability : 0.f;
                            //% endif
                            dp[m][n][e] = live ? pair.product_grad@{ " * pair_scale" if scale_pairs else "" } : 0.f;
                            //% for parameter in column_gradients
                            grad_@{ parameter.name }[m][e / 2] += live ? pair.grad_@{ parameter.name } : 0.f;
                            //% endfor
                            //% else
                            const float probability = backward_probability(@{ pair_arguments }s[m][n][e], tile, query[e % 2], key[m][e / 2]);
                            s[m][n][e] = live ? probability : 0.f;
                            //% endif
                        }
                }
            };
            if (@{ "full" if tile_mask else "q_tile * BLOCK_Q >= range.full_begin && (q_tile + 1) * BLOCK_Q <= range.full_end" }) pairs(Full{});
            else pairs(Partial{});

            //% if column_warps > 1
            // own fragments first: by the time that they are used up the others' have arrived
            const u32 row_fragments = shared_fragments + warp * ROW_FRAGMENT_BYTES;
            FragmentA p[WARP_COLUMNS / 16][ROW_TILES], ds[WARP_COLUMNS / 16][ROW_TILES];
#pragma unroll
            for (int k = 0; k < WARP_COLUMNS / 16; ++k)
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m) {
                    const u32 slot = row_fragments + ((column_warp * (WARP_COLUMNS / 16) + k) * ROW_TILES + m) * 1024;
                    p[k][m] = as_a(s[m][2 * k], s[m][2 * k + 1]), ds[k][m] = as_a(dp[m][2 * k], dp[m][2 * k + 1]);
                    share_fragment(slot, p[k][m]);
                    share_fragment(slot + 512, ds[k][m]);
                }
            const u32 do_columns = do_ring + @{ stage } * DO_TILE_BYTES + column_warp * (padded(VALUE_DIM) / COLUMN_WARPS * (int)sizeof(element));
            const u32 q_columns = q_ring + @{ stage } * Q_TILE_BYTES + column_warp * (padded(HEAD_DIM) / COLUMN_WARPS * (int)sizeof(element));
#pragma unroll
            for (int k = 0; k < WARP_COLUMNS / 16; ++k) {
                const int depth = column_warp * WARP_COLUMNS + 16 * k;
                multiply_columns<VALUE_DIM>(dv, p[k], do_columns + depth * row_bytes(VALUE_DIM));
                multiply_columns<HEAD_DIM>(dk, ds[k], q_columns + depth * row_bytes(HEAD_DIM));
            }
            group_barrier(1 + warp, 32 * COLUMN_WARPS);
#pragma unroll
            for (int step = WARP_COLUMNS / 16; step < BLOCK_Q / 16; ++step) {
                const int k = (column_warp * (WARP_COLUMNS / 16) + step) % (BLOCK_Q / 16);
                FragmentA other_p[ROW_TILES], other_ds[ROW_TILES];
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m) {
                    take_fragment(other_p[m], row_fragments + (k * ROW_TILES + m) * 1024);
                    take_fragment(other_ds[m], row_fragments + (k * ROW_TILES + m) * 1024 + 512);
                }
                multiply_columns<VALUE_DIM>(dv, other_p, do_columns + 16 * k * row_bytes(VALUE_DIM));
                multiply_columns<HEAD_DIM>(dk, other_ds, q_columns + 16 * k * row_bytes(HEAD_DIM));
            }
            //% else
            //% if want_dv
            multiply_weights<VALUE_DIM>(dv, s, do_ring + @{ stage } * DO_TILE_BYTES);
            //% endif
            //% if want_dk
            multiply_weights<HEAD_DIM>(dk, dp, q_ring + @{ stage } * Q_TILE_BYTES);
            //% endif
            //% endif
            //% if stage_queries and stages > 1
            if (threadIdx.x < BLOCK_Q) store_query(query_ring + (stage ^ 1) * QUERY_RING_BYTES, threadIdx.x, next_query);
            //% endif
        }
        //% if column_gradients
        // one partial sum a key; a second kernel adds them up in a fixed order
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int kv = kv_begin + first_row + 16 * m + 8 * r;
                const i64 row = @{ "((i64)batch * arguments.heads + head) * arguments.max_seqlen_kv" if packed else "((i64)batch * gridDim.y * arguments.group + head) * kv_len" } + kv;
                //% for parameter in column_gradients
                const float sum_@{ parameter.name } = quad_sum(grad_@{ parameter.name }[m][r]);
                if (lane % 4 == 0 && kv < kv_len) arguments.grad_@{ parameter.name }[row] = sum_@{ parameter.name };
                //% endfor
            }
        //% endif
    }

    // ---------------------------------------------------------------- epilogue
    copy_async_wait_all();   // of a block without live tiles, too
    __syncthreads();         // shared memory is free for the output
    //% if want_dv
    store_rows<ROW_TILES, VALUE_DIM>(v_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), dv, rows_of(arguments.v_grad, @{ kv_rows }, kv_head), arguments.v_grad.row, kv_begin + warp * ROW_TILES * 16, kv_len);
    //% endif
    //% if want_dk
    //% if product_grad_scale and not scale_pairs
    const float scale = product_grad_scale(load_tile_values(arguments, batch, kv_head * arguments.group@{ lengths }));
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int n = 0; n < padded(HEAD_DIM) / 8@{ " / COLUMN_WARPS" if column_warps > 1 else "" }; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) dk[m][n][e] *= scale;
    //% endif
    store_rows<ROW_TILES, HEAD_DIM>(k_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), dk, rows_of(arguments.k_grad, @{ kv_rows }, kv_head), arguments.k_grad.row, kv_begin + warp * ROW_TILES * 16, kv_len);
    //% endif
}
