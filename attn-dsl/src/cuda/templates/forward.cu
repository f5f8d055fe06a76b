// ---------------------------------------------------------------- kernel
extern "C" __global__ void __launch_bounds__(THREADS, @{ blocks_per_sm })
@{ entry }(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    const u32 q_tile = shared_address(shared), k_ring = q_tile + Q_TILE_BYTES@{ ", v_ring = k_ring + STAGES * K_TILE_BYTES" if values else "" };
    //% if stage_keys
    const u32 key_ring = @{ "v_ring + STAGES * V_TILE_BYTES" if values else "k_ring + STAGES * K_TILE_BYTES" };
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
    //% if values
    const element* v_rows = rows_of(arguments.v, @{ kv_rows }, kv_head);
    //% endif
    auto start_loads = [&](int kv_tile, int stage) {
        load_tile<BLOCK_KV, HEAD_DIM>(k_ring + stage * K_TILE_BYTES, k_rows, arguments.k.row, kv_tile * BLOCK_KV, kv_len);
        //% if values
        load_tile<BLOCK_KV, VALUE_DIM>(v_ring + stage * V_TILE_BYTES, v_rows, arguments.v.row, kv_tile * BLOCK_KV, kv_len);
        //% endif
        copy_async_commit();
    };
    load_tile<BLOCK_Q, HEAD_DIM>(q_tile, rows_of(arguments.q, @{ q_rows }, head), arguments.q.row, q_begin, q_len);
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

    //% if q_in_registers
    FragmentA q_fragments[ROW_TILES][padded(HEAD_DIM) / 16];
    //% endif
    //% if values
    float o[ROW_TILES][padded(VALUE_DIM) / 8][4];
    clear(o);
    //% endif
    //% if shifted
    float row_max[ROW_TILES][2];   // of @{ "the raw products" if scaled else "the exponents, log2 units" }
    //% endif
    //% if sum
    float row_sum[ROW_TILES][2];
    //% endif
    //% if sum_squares
    float row_sum_squares[ROW_TILES][2];
    //% endif
    //% if largest
    float largest[ROW_TILES][2];
    int largest_at[ROW_TILES][2];
    //% endif
    //% if shifted or sum or sum_squares or largest
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            //% if shifted
            row_max[m][r] = @{ row_max_start };
            //% endif
            //% if sum
            row_sum[m][r] = 0.f;
            //% endif
            //% if sum_squares
            row_sum_squares[m][r] = 0.f;
            //% endif
            //% if largest
            largest[m][r] = -INFINITY, largest_at[m][r] = 0;
            //% endif
        }
    //% endif

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

        //% if q_in_registers
        if (kv_tile == first) {
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int k = 0; k < padded(HEAD_DIM) / 16; ++k) load_a<row_bytes(HEAD_DIM)>(q_fragments[m][k], q_tile, (warp * ROW_TILES + m) * 16, 16 * k);
        }
        //% endif
        float s[ROW_TILES][BLOCK_KV / 8][4];
        //% if q_in_registers
        multiply_rows<HEAD_DIM>(s, q_fragments, k_ring + @{ stage } * K_TILE_BYTES);
        //% else
        multiply_rows<HEAD_DIM>(s, q_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), k_ring + @{ stage } * K_TILE_BYTES);
        //% endif

        const int first_kv = kv_tile * BLOCK_KV + lane % 4 * 2;   // this thread's columns: first_kv + 8 n + c
        //% if inline_keys
        const float first_kv_as_float = first_kv;
        //% endif
        //% if not shifted and not largest
        // weights, their sums, and O += W V in one block of code, so that the products of V run beside the weights
        //% if not tile_mask
        const bool full = kv_tile * BLOCK_KV >= range.full_begin && (kv_tile + 1) * BLOCK_KV <= range.full_end;
        //% endif
        auto accumulate = [&](auto kind) {
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                @{ key_columns }
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const float w = weight(@{ pair_arguments }s[m][n][e], tile, query[m][e / 2], key[e % 2]);
                        const bool live = !decltype(kind)::partial || (first_kv + 8 * n + e % 2 < kv_len@{ " && is_live(" ~ mask_arguments ~ "tile, query[m][e / 2], key[e % 2])" if masked else "" });
                        s[m][n][e] = live ? w : 0.f;
                        //% if sum
                        row_sum[m][e / 2] += s[m][n][e];
                        //% endif
                        //% if sum_squares
                        row_sum_squares[m][e / 2] = fmaf(s[m][n][e], s[m][n][e], row_sum_squares[m][e / 2]);
                        //% endif
                    }
            }
            //% if values
            multiply_weights<VALUE_DIM>(o, s, v_ring + @{ stage } * V_TILE_BYTES);
            //% endif
        };
        //% if sigmoid
        // where all weights are below 1/64, w = y - y^2 of y = 2^t is right to 2^-12 and needs no reciprocal
        bool small = full;
        if (full) {
            float largest_exponent = -INFINITY;
            //% if rises_with_product
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    float largest = s[m][0][2 * r];
#pragma unroll
                    for (int n = 0; n < BLOCK_KV / 8; ++n) largest = fmaxf(largest, fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
                    largest_exponent = fmaxf(largest_exponent, sigmoid_exponent(@{ pair_arguments }largest, tile, query[m][r], Key{}));
                }
            //% else
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                @{ key_columns }
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                    for (int e = 0; e < 4; ++e) largest_exponent = fmaxf(largest_exponent, sigmoid_exponent(@{ pair_arguments }s[m][n][e], tile, query[m][e / 2], key[e % 2]));
            }
            //% endif
            small = __all_sync(~0u, largest_exponent < -6.f);
        }
        if (small) {
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                @{ key_columns }
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const float y = exp2_approx(sigmoid_exponent(@{ pair_arguments }s[m][n][e], tile, query[m][e / 2], key[e % 2]));
                        s[m][n][e] = fmaf(-y, y, y);
                    }
            }
            multiply_weights<VALUE_DIM>(o, s, v_ring + @{ stage } * V_TILE_BYTES);
        } else if (full) {
            accumulate(Full{});
        } else {
            accumulate(Partial{});
        }
        //% else
        if (full) accumulate(Full{});
        else accumulate(Partial{});
        //% endif
        //% else
        //% if not scaled
#pragma unroll
        for (int n = 0; n < BLOCK_KV / 8; ++n) {
            @{ key_columns }
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int e = 0; e < 4; ++e) s[m][n][e] = @{ "exponent" if shifted else "weight" }(@{ pair_arguments }s[m][n][e], tile, query[m][e / 2], key[e % 2]);
        }
        //% endif
        if (@{ "!full" if tile_mask else "kv_tile * BLOCK_KV < range.full_begin || (kv_tile + 1) * BLOCK_KV > range.full_end" })   // some pairs of this tile are not live
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                //% if masked
                @{ key_columns }
                //% endif
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        if (!(first_kv + 8 * n + e % 2 < kv_len@{ " && is_live(" ~ mask_arguments ~ "tile, query[m][e / 2], key[e % 2])" if masked else "" })) s[m][n][e] = @{ "-INFINITY" if shifted or largest else "0.f" };
            }
        //% if largest
#pragma unroll
        for (int n = 0; n < BLOCK_KV / 8; ++n)
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    if (s[m][n][e] > largest[m][e / 2]) largest[m][e / 2] = s[m][n][e], largest_at[m][e / 2] = first_kv + 8 * n + e % 2;
                    //% if not shifted
                    if (s[m][n][e] == -INFINITY) s[m][n][e] = 0.f;
                    //% endif
                }
        //% endif

        //% if shifted
        float new_max[ROW_TILES][2];
        bool rises = false;
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                new_max[m][r] = row_max[m][r];
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n) new_max[m][r] = fmaxf(new_max[m][r], fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
                new_max[m][r] = quad_max(new_max[m][r]);
                rises |= new_max[m][r] > row_max[m][r];
            }
        if (__any_sync(~0u, rises))   // rare after the first tiles
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    const float rescale = row_max[m][r] == new_max[m][r] ? 1.f : exp2_approx(@{ "(row_max[m][r] - new_max[m][r]) * tile.exponent_scale" if scaled else "row_max[m][r] - new_max[m][r]" });
                    row_max[m][r] = new_max[m][r];
                    //% if sum
                    row_sum[m][r] *= rescale;
                    //% endif
                    //% if sum_squares
                    row_sum_squares[m][r] *= rescale * rescale;
                    //% endif
                    //% if values
#pragma unroll
                    for (int n = 0; n < padded(VALUE_DIM) / 8; ++n) o[m][n][2 * r] *= rescale, o[m][n][2 * r + 1] *= rescale;
                    //% endif
                }
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                // a row that has met no live key yet keeps minus infinity, and must not compute inf - inf
                const float shift = row_max[m][r] == -INFINITY ? 0.f : row_max[m][r]@{ " * tile.exponent_scale" if scaled else "" };
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n)
#pragma unroll
                    for (int c = 2 * r; c < 2 * r + 2; ++c) {
                        s[m][n][c] = exp2_approx(@{ "fmaf(s[m][n][c], tile.exponent_scale, -shift)" if scaled else "s[m][n][c] - shift" });
                        //% if sum
                        row_sum[m][r] += s[m][n][c];
                        //% endif
                        //% if sum_squares
                        row_sum_squares[m][r] = fmaf(s[m][n][c], s[m][n][c], row_sum_squares[m][r]);
                        //% endif
                    }
            }
        //% elif sum or sum_squares
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    //% if sum
                    row_sum[m][e / 2] += s[m][n][e];
                    //% endif
                    //% if sum_squares
                    row_sum_squares[m][e / 2] = fmaf(s[m][n][e], s[m][n][e], row_sum_squares[m][e / 2]);
                    //% endif
                }
        //% endif

        //% if values
        multiply_weights<VALUE_DIM>(o, s, v_ring + @{ stage } * V_TILE_BYTES);
        //% endif
        //% endif
        //% if stage_keys and stages > 1
        if (threadIdx.x < BLOCK_KV) store_key(key_ring + (stage ^ 1) * KEY_RING_BYTES, threadIdx.x, next_key);
        //% endif
    }

    // ---------------------------------------------------------------- epilogue
    //% if values
    copy_async_wait_all();   // of a block without live tiles, too
    __syncthreads();         // shared memory is free for the output
    element* o_rows = rows_of(arguments.o, @{ q_rows }, head);
    //% else
    copy_async_wait_all();   // of a block without live tiles
    //% endif
    //% if has_normalizer
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int q = q_begin + first_row + 16 * m + 8 * r;
            //% if sum
            const float sum = quad_sum(row_sum[m][r]);
            //% endif
            //% if sum_squares
            const float sum_squares = quad_sum(row_sum_squares[m][r]);
            //% endif
            //% if shifted
            //% if scaled
            const float shift = row_max[m][r] == -INFINITY ? 0.f : row_max[m][r] * tile.exponent_scale;
            //% else
            const float shift = row_max[m][r] == -INFINITY ? 0.f : row_max[m][r];
            //% endif
            //% endif
            //% if largest
#pragma unroll
            for (int distance = 1; distance < 4; distance *= 2) {
                const float other = __shfl_xor_sync(~0u, largest[m][r], distance);
                const int other_at = __shfl_xor_sync(~0u, largest_at[m][r], distance);
                if (other > largest[m][r] || (other == largest[m][r] && other_at < largest_at[m][r])) largest[m][r] = other, largest_at[m][r] = other_at;
            }
            //% if shifted
            const float max_weight = largest[m][r] == -INFINITY ? 0.f : exp2_approx(@{ "fmaf(largest[m][r], tile.exponent_scale, -shift)" if scaled else "largest[m][r] - shift" });
            //% else
            const float max_weight = largest[m][r] == -INFINITY ? 0.f : largest[m][r];
            //% endif
            //% endif
            const float z = normalizer(tile, query[m][r]@{ normalizer_arguments });
            //% if values
            const float inverse = z == 0.f ? 0.f : 1.f / z;
#pragma unroll
            for (int n = 0; n < padded(VALUE_DIM) / 8; ++n) o[m][n][2 * r] *= inverse, o[m][n][2 * r + 1] *= inverse;
            //% endif
            //% if saved
            if (lane % 4 == 0 && q < q_len) {
                const i64 row = @{ "(i64)head * arguments.total_q + q_start" if packed else "((i64)batch * gridDim.y + head) * q_len" } + q;
                //% for save in saved
                @{ save }
                //% endfor
            }
            //% endif
        }
    //% endif
    //% if values
    store_rows<ROW_TILES, VALUE_DIM>(q_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), o, o_rows, arguments.o.row, q_begin + warp * ROW_TILES * 16, q_len);
    //% endif
}
