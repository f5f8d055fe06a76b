// ---------------------------------------------------------------- kernel
extern "C" __global__ void __launch_bounds__(THREADS, @{ blocks_per_sm })
attn_backward_q(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    const u32 q_tile = shared_address(shared), do_tile = q_tile + Q_TILE_BYTES;
    const u32 k_ring = do_tile + DO_TILE_BYTES, v_ring = k_ring + STAGES * K_TILE_BYTES;
    //% if stage_keys
    const u32 key_ring = v_ring + STAGES * V_TILE_BYTES;
    //% endif
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    //% include "query_tile"
    //% include "key_tiles"

    //% if stage_keys
    // positions past the end read what the last one has; nothing of theirs is used
    auto key_at = [&](int kv) { kv = min(kv, kv_len - 1); return load_key(arguments, tile, kv, (float)kv); };
    //% endif
    auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };

    const element* k_rows = rows_of(arguments.k, @{ kv_rows }, kv_head);
    const element* v_rows = rows_of(arguments.v, @{ kv_rows }, kv_head);
    auto start_loads = [&](int kv_tile, int stage) {
        load_tile<BLOCK_KV, HEAD_DIM>(k_ring + stage * K_TILE_BYTES, k_rows, arguments.k.row, kv_tile * BLOCK_KV, kv_len);
        load_tile<BLOCK_KV, VALUE_DIM>(v_ring + stage * V_TILE_BYTES, v_rows, arguments.v.row, kv_tile * BLOCK_KV, kv_len);
        copy_async_commit();
    };
    load_tile<BLOCK_Q, HEAD_DIM>(q_tile, rows_of(arguments.q, @{ q_rows }, head), arguments.q.row, q_begin, q_len);
    load_tile<BLOCK_Q, VALUE_DIM>(do_tile, rows_of(arguments.output_grad, @{ q_rows }, head), arguments.output_grad.row, q_begin, q_len);
    if (first < last) start_loads(first, 0);
    //% if stage_keys
    if (first < last && threadIdx.x < BLOCK_KV) store_key(key_ring, threadIdx.x, key_at(first * BLOCK_KV + (int)threadIdx.x));
    //% endif

    // this thread's rows: q_begin + first_row + 16 m + 8 r
    const int first_row = warp * ROW_TILES * 16 + lane / 4;
    Query query[ROW_TILES][2];
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) query[m][r] = query_at(q_begin + first_row + 16 * m + 8 * r);
    //% for parameter in row_gradients
    //% if parameter.per_pair
    float grad_@{ parameter.name }[ROW_TILES][2] = {};
    //% endif
    //% endfor
    //% if per_row
    bool row_is_live[ROW_TILES][2] = {};   // in one of this lane's columns
    //% endif

    float dq[ROW_TILES][padded(HEAD_DIM) / 8][4];
    clear(dq);
    //% if tile_mask
    //% if stages > 1
    int stage = 1;
    //% endif
    for (int kv_tile = first, next_tile; kv_tile < last; kv_tile = next_tile) {
        const bool full = full_tiles >> (kv_tile - group) & 1;
        next_tile = next_live(kv_tile + 1);
    //% else
    for (int kv_tile = first; kv_tile < last; ++kv_tile) {
    //% endif
        //% if stages == 1
        if (kv_tile > first) {
            __syncthreads();   // every warp has used the last tile
            start_loads(kv_tile, 0);
            //% if stage_keys
            if (threadIdx.x < BLOCK_KV) store_key(key_ring, threadIdx.x, key_at(kv_tile * BLOCK_KV + (int)threadIdx.x));
            //% endif
        }
        copy_async_wait<0>();
        __syncthreads();
        //% else
        //% if tile_mask
        stage ^= 1;
        //% else
        const int stage = (kv_tile - first) % STAGES;
        //% endif
        copy_async_wait<0>();
        __syncthreads();   // this tile is there, and every warp has used the one before
        //% if tile_mask
        if (next_tile < last) start_loads(next_tile, stage ^ 1);
        //% else
        if (kv_tile + 1 < last) start_loads(kv_tile + 1, stage ^ 1);
        //% endif
        //% if stage_keys
        Key next_key;
        if (threadIdx.x < BLOCK_KV) next_key = key_at(@{ "next_tile" if tile_mask else "(kv_tile + 1)" } * BLOCK_KV + (int)threadIdx.x);
        //% endif
        //% endif

        float s[ROW_TILES][BLOCK_KV / 8][4], dp[ROW_TILES][BLOCK_KV / 8][4];
        multiply_rows<HEAD_DIM>(s, q_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), k_ring + @{ stage } * K_TILE_BYTES);
        multiply_rows<VALUE_DIM>(dp, do_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), v_ring + @{ stage } * V_TILE_BYTES);

        // s becomes the gradient of the products
        const int first_kv = kv_tile * BLOCK_KV + lane % 4 * 2;   // this thread's columns: first_kv + 8 n + c
        //% if inline_keys
        const float first_kv_as_float = first_kv;
        //% endif
        auto pairs = [&](auto kind) {
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                @{ key_columns }
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const Pair pair = backward_pair(@{ pair_arguments }s[m][n][e], dp[m][n][e], tile, query[m][e / 2], key[e % 2]);
                        const bool live = !decltype(kind)::partial || (first_kv + 8 * n + e % 2 < kv_len@{ " && is_live(" ~ mask_arguments ~ "tile, query[m][e / 2], key[e % 2])" if masked else "" });
                        s[m][n][e] = live ? pair.product_grad : 0.f;
                        //% if per_row
                        row_is_live[m][e / 2] |= live;
                        //% endif
                        //% for parameter in row_gradients
                        //% if parameter.per_pair
                        grad_@{ parameter.name }[m][e / 2] += live ? pair.grad_@{ parameter.name } : 0.f;
                        //% endif
                        //% endfor
                    }
            }
        };
        if (@{ "full" if tile_mask else "kv_tile * BLOCK_KV >= range.full_begin && (kv_tile + 1) * BLOCK_KV <= range.full_end" }) pairs(Full{});
        else pairs(Partial{});

        multiply_weights<HEAD_DIM>(dq, s, k_ring + @{ stage } * K_TILE_BYTES);
        //% if stage_keys and stages > 1
        if (threadIdx.x < BLOCK_KV) store_key(key_ring + (stage ^ 1) * KEY_RING_BYTES, threadIdx.x, next_key);
        //% endif
    }

    // ---------------------------------------------------------------- epilogue
    copy_async_wait_all();   // of a block without live tiles, too
    __syncthreads();         // shared memory is free for the output
    //% if product_grad_scale
    const float scale = product_grad_scale(tile);
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int n = 0; n < padded(HEAD_DIM) / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) dq[m][n][e] *= scale;
    //% endif
    store_rows<ROW_TILES, HEAD_DIM>(q_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), dq, rows_of(arguments.q_grad, @{ q_rows }, head), arguments.q_grad.row, q_begin + warp * ROW_TILES * 16, q_len);
    //% if row_gradients
    // one partial sum a row; a second kernel adds them up in a fixed order
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int q = q_begin + first_row + 16 * m + 8 * r;
            //% if packed
            //% if sums_by_row
            const i64 row = (i64)head * arguments.total_q + q_start + q;
            //% endif
            //% if sums_by_position
            const i64 position = ((i64)batch * arguments.heads + head) * arguments.max_seqlen_q + q;   // room for the longest sequence
            //% endif
            //% else
            const i64 row = ((i64)batch * gridDim.y + head) * q_len + q;
            //% endif
            //% for parameter in row_gradients
            float sum_@{ parameter.name } = @{ "quad_sum(grad_" ~ parameter.name ~ "[m][r])" if parameter.per_pair else "0.f" };
            //% if parameter.per_row
            if (quad_any(row_is_live[m][r])) sum_@{ parameter.name } += row_grad_@{ parameter.name }(tile, query[m][r]);
            //% endif
            if (lane % 4 == 0 && q < q_len) arguments.grad_@{ parameter.name }[@{ parameter.place }] = sum_@{ parameter.name };
            //% endfor
        }
    //% endif
}
