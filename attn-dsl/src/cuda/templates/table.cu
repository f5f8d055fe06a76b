// ---------------------------------------------------------------- kernel
// Gradient of a table: every thread adds what its pairs contribute to a histogram of its own, so that no addition is atomic
// and the order is fixed. A block sums TABLE_CHUNK entries over one tile of queries.
extern "C" __global__ void __launch_bounds__(THREADS, @{ blocks_per_sm })
attn_table_grad(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    const u32 q_tile = shared_address(shared), do_tile = q_tile + Q_TILE_BYTES;
    const u32 k_tile = do_tile + DO_TILE_BYTES, v_tile = k_tile + K_TILE_BYTES;
    const u32 histogram = v_tile + V_TILE_BYTES;
    //% if stage_keys
    const u32 key_ring = histogram + TABLE_CHUNK * THREADS * 4;
    //% endif
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    //% if packed
    const PackedTile place = find_tile<BLOCK_Q>(arguments.cu_seqlens_q, arguments.sequences, blockIdx.x);
    const int q_begin = place.tile * BLOCK_Q, chunk_begin = blockIdx.y * TABLE_CHUNK;
    const int head = blockIdx.z, batch = place.sequence, kv_head = head / arguments.group;
    const int q_start = arguments.cu_seqlens_q[batch], q_len = arguments.cu_seqlens_q[batch + 1] - q_start;
    const int kv_start = arguments.cu_seqlens_kv[batch], kv_len = arguments.cu_seqlens_kv[batch + 1] - kv_start;
    if (q_begin >= q_len) return;   // past the end of its sequence
    //% else
    const int q_begin = blockIdx.x * BLOCK_Q, chunk_begin = blockIdx.y * TABLE_CHUNK;
    const int head = blockIdx.z % arguments.heads, batch = blockIdx.z / arguments.heads, kv_head = head / arguments.group;
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    //% endif
    const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
    const Range range = live_keys_of(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len));
    //% include "key_tiles"
    //% if stage_keys
    // positions past the end read what the last one has; nothing of theirs is used
    auto key_at = [&](int kv) { kv = min(kv, kv_len - 1); return load_key(arguments, tile, kv, (float)kv); };
    //% endif
    auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };

    for (int entry = 0; entry < TABLE_CHUNK; ++entry) store_shared(histogram + (entry * THREADS + threadIdx.x) * 4, 0.f);
    load_tile<BLOCK_Q, HEAD_DIM>(q_tile, rows_of(arguments.q, @{ q_rows }, head), arguments.q.row, q_begin, q_len);
    load_tile<BLOCK_Q, VALUE_DIM>(do_tile, rows_of(arguments.output_grad, @{ q_rows }, head), arguments.output_grad.row, q_begin, q_len);

    // this thread's rows: q_begin + first_row + 16 m + 8 r
    const int first_row = warp * ROW_TILES * 16 + lane / 4;
    Query query[ROW_TILES][2];
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) query[m][r] = query_at(q_begin + first_row + 16 * m + 8 * r);

    //% if tile_mask
    for (int kv_tile = first, next_tile; kv_tile < last; kv_tile = next_tile) {
        const bool full = full_tiles >> (kv_tile - group) & 1;
        next_tile = next_live(kv_tile + 1);
    //% else
    for (int kv_tile = first; kv_tile < last; ++kv_tile) {
    //% endif
        __syncthreads();   // every warp has used the last tile
        load_tile<BLOCK_KV, HEAD_DIM>(k_tile, rows_of(arguments.k, @{ kv_rows }, kv_head), arguments.k.row, kv_tile * BLOCK_KV, kv_len);
        load_tile<BLOCK_KV, VALUE_DIM>(v_tile, rows_of(arguments.v, @{ kv_rows }, kv_head), arguments.v.row, kv_tile * BLOCK_KV, kv_len);
        //% if stage_keys
        for (int column = threadIdx.x; column < BLOCK_KV; column += THREADS) store_key(key_ring, column, key_at(kv_tile * BLOCK_KV + column));
        //% endif
        copy_async_commit();
        copy_async_wait<0>();
        __syncthreads();

        float s[ROW_TILES][BLOCK_KV / 8][4], dp[ROW_TILES][BLOCK_KV / 8][4];
        multiply_rows<HEAD_DIM>(s, q_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), k_tile);
        multiply_rows<VALUE_DIM>(dp, do_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), v_tile);
        const int first_kv = kv_tile * BLOCK_KV + lane % 4 * 2;   // this thread's columns: first_kv + 8 n + c
        //% if inline_keys
        const float first_kv_as_float = first_kv;
        //% endif
#pragma unroll
        for (int n = 0; n < BLOCK_KV / 8; ++n) {
            @{ key_columns }
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const bool live = q_begin + first_row + 16 * m + 8 * (e / 2) < q_len && @{ "(full || (" if tile_mask else "" }first_kv + 8 * n + e % 2 < kv_len@{ " && is_live(" ~ mask_arguments ~ "tile, query[m][e / 2], key[e % 2])" if masked else "" }@{ "))" if tile_mask else "" };
                    const TablePair pair = table_pair(arguments, s[m][n][e], dp[m][n][e], tile, query[m][e / 2], key[e % 2]);
                    //% for i in reads
                    if (live && pair.entry@{ i } >= chunk_begin && pair.entry@{ i } < chunk_begin + TABLE_CHUNK) {
                        const u32 slot = histogram + ((pair.entry@{ i } - chunk_begin) * THREADS + threadIdx.x) * 4;
                        store_shared(slot, load_shared_float(slot) + pair.value@{ i });
                    }
                    //% endfor
                }
        }
    }

    copy_async_wait_all();   // of a block without live tiles, too
    __syncthreads();         // all histograms are complete
    const int entries = table_entries(arguments);
    for (int entry = warp; entry < TABLE_CHUNK && chunk_begin + entry < entries; entry += WARPS) {
        float sum = 0.f;
#pragma unroll
        for (int thread = 0; thread < THREADS; thread += 32) sum += load_shared_float(histogram + (entry * THREADS + thread + lane) * 4);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
        if (lane == 0) arguments.grad_@{ parameter }[@{ "(((i64)batch * arguments.heads + head) * ((arguments.max_seqlen_q + BLOCK_Q - 1) / BLOCK_Q) + place.tile)" if packed and by_sequence else "((i64)blockIdx.z * gridDim.x + blockIdx.x)" } * entries + chunk_begin + entry] = sum;
    }
}
