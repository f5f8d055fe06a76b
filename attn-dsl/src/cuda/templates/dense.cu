// ---------------------------------------------------------------- kernel
// Gradient of a dense parameter: one block a tile of scores, which walks the batches and heads that share an entry in order.
extern "C" __global__ void __launch_bounds__(THREADS, @{ blocks_per_sm })
attn_dense_grad(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    const u32 q_tile = shared_address(shared), do_tile = q_tile + Q_TILE_BYTES;
    const u32 k_tile = do_tile + DO_TILE_BYTES, v_tile = k_tile + K_TILE_BYTES;
    //% if stage_keys
    const u32 key_ring = v_tile + V_TILE_BYTES;
    //% endif
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int kv_begin = blockIdx.x * BLOCK_KV, q_begin = blockIdx.y * BLOCK_Q;
    //% if not packed
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    //% endif

    // a stride of 0 broadcasts: this block covers all batches, or all heads, of that axis
    const DenseGrad gradient = arguments.grad_@{ parameter };
    const int own_heads = gradient.head == 0 ? 1 : arguments.heads;
    const int own_batch = blockIdx.z / own_heads, own_head = blockIdx.z % own_heads;
    const int batch_end = gradient.batch == 0 ? arguments.@{ "sequences" if packed else "batches" } : own_batch + 1;
    const int head_end = gradient.head == 0 ? arguments.heads : own_head + 1;

    const int first_row = warp * ROW_TILES * 16 + lane / 4;   // this thread's rows: q_begin + first_row + 16 m + 8 r
    const int first_kv = kv_begin + lane % 4 * 2;              // this thread's columns: first_kv + 8 n + c
    float sum[ROW_TILES][BLOCK_KV / 8][4];
    clear(sum);
    for (int batch = gradient.batch == 0 ? 0 : own_batch; batch < batch_end; ++batch)
        for (int head = gradient.head == 0 ? 0 : own_head; head < head_end; ++head) {
            const int kv_head = head / arguments.group;
            //% if packed
            const int q_start = arguments.cu_seqlens_q[batch], q_len = arguments.cu_seqlens_q[batch + 1] - q_start;
            const int kv_start = arguments.cu_seqlens_kv[batch], kv_len = arguments.cu_seqlens_kv[batch + 1] - kv_start;
            if (q_begin >= q_len || kv_begin >= kv_len) continue;
            //% endif
            const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
            const Range range = live_keys_of(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len));
            if (kv_begin >= range.end || kv_begin + BLOCK_KV <= range.begin) continue;
            //% if tile_mask
            const TileLiveness liveness = live_tile(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len) - 1, kv_begin, min(kv_begin + BLOCK_KV, kv_len) - 1);
            if (!liveness.may_live) continue;
            //% endif
            __syncthreads();   // every warp has used the last tile
            load_tile<BLOCK_Q, HEAD_DIM>(q_tile, rows_of(arguments.q, @{ q_rows }, head), arguments.q.row, q_begin, q_len);
            load_tile<BLOCK_Q, VALUE_DIM>(do_tile, rows_of(arguments.output_grad, @{ q_rows }, head), arguments.output_grad.row, q_begin, q_len);
            load_tile<BLOCK_KV, HEAD_DIM>(k_tile, rows_of(arguments.k, @{ kv_rows }, kv_head), arguments.k.row, kv_begin, kv_len);
            load_tile<BLOCK_KV, VALUE_DIM>(v_tile, rows_of(arguments.v, @{ kv_rows }, kv_head), arguments.v.row, kv_begin, kv_len);
            //% if stage_keys
            for (int column = threadIdx.x; column < BLOCK_KV; column += THREADS) {
                const int kv = min(kv_begin + column, kv_len - 1);
                store_key(key_ring, column, load_key(arguments, tile, kv, (float)kv));
            }
            //% endif
            copy_async_commit();
            copy_async_wait<0>();
            __syncthreads();

            float s[ROW_TILES][BLOCK_KV / 8][4], dp[ROW_TILES][BLOCK_KV / 8][4];
            multiply_rows<HEAD_DIM>(s, q_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), k_tile);
            multiply_rows<VALUE_DIM>(dp, do_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), v_tile);
            //% if inline_keys
            const float first_kv_as_float = first_kv;
            //% endif
            Query query[ROW_TILES][2];
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    const int q = min(q_begin + first_row + 16 * m + 8 * r, q_len - 1);
                    query[m][r] = load_query(arguments, tile, q, (float)q);
                }
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                @{ key_columns }
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const bool live = q_begin + first_row + 16 * m + 8 * (e / 2) < q_len && first_kv + 8 * n + e % 2 < kv_len@{ " && (liveness.all_live || is_live(" ~ mask_arguments ~ "tile, query[m][e / 2], key[e % 2]))" if tile_mask else " && is_live(" ~ mask_arguments ~ "tile, query[m][e / 2], key[e % 2])" if masked else "" };
                        const float value = dense_pair(@{ pair_arguments }s[m][n][e], dp[m][n][e], tile, query[m][e / 2], key[e % 2]);
                        sum[m][n][e] += live ? value : 0.f;
                    }
            }
        }
#pragma unroll
    for (int n = 0; n < BLOCK_KV / 8; ++n)
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int q = q_begin + first_row + 16 * m + 8 * (e / 2), kv = first_kv + 8 * n + e % 2;
                if (@{ "q < arguments.max_seqlen_q && kv < arguments.max_seqlen_kv" if packed else "q < q_len && kv < kv_len" }) gradient.data[own_batch * gradient.batch + own_head * gradient.head + q * gradient.query + kv * gradient.key] = sum[m][n][e];
            }
}
