//% include "linear_tiles"
//% include "linear_common"
// ---------------------------------------------------------------- kernel
// out_i = sum over j of (a_i . b_j@{ " + bias_i" if row_bias else " + bias_j" if column_bias else "" }) c_j, scaled as rows and columns are, with a = @{ a_text }, b = @{ b_text }
// and c = @{ c_text }: of a chunk's own columns by weights, of all before by their state.
extern "C" __global__ void __launch_bounds__(THREADS, @{ blocks_per_sm })
attn_linear_@{ walk }(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    //% include "linear_positions"
    //% if not causal
    const int first_position = 0, positions = @{ rows_len };
    //% endif
    const int chunks = (positions + BLOCK - 1) / BLOCK;
    const int begin = segment * arguments.segment_chunks, end = min(begin + arguments.segment_chunks, chunks);
    const element* a_rows = rows_of(arguments.@{ a }, batch, @{ a_head });
    //% if causal
    const element* b_rows = rows_of(arguments.@{ b }, batch, @{ b_head });
    const element* c_rows = rows_of(arguments.@{ c }, batch, @{ c_head });
    //% endif
    const u32 ring = shared_address(shared);
    constexpr int STAGE_BYTES = @{ "2 * AB_BYTES + C_BYTES" if causal else "AB_BYTES" };
    auto rows_of_chunk = [&](int chunk) { return first_position + chunk * BLOCK@{ " - offset" if causal and rows == "queries" else "" }; };
    //% if causal
    auto columns_of = [&](int chunk) { return first_position + chunk * BLOCK@{ " - offset" if columns == "queries" else "" }; };
    //% endif
    auto start_loads = [&](int chunk, int stage) {
        const u32 to = ring + stage * STAGE_BYTES;
        load_chunk<AB_DIM>(to, a_rows, arguments.@{ a }.row, rows_of_chunk(chunk), @{ rows_len });
        //% if causal
        load_chunk<AB_DIM>(to + AB_BYTES, b_rows, arguments.@{ b }.row, columns_of(chunk), @{ columns_len });
        load_chunk<C_DIM>(to + 2 * AB_BYTES, c_rows, arguments.@{ c }.row, columns_of(chunk), @{ columns_len });
        //% endif
        copy_async_commit();
    };
    //% if causal
    const u32 weights = ring + STAGES * STAGE_BYTES;
    //% endif
    unsigned char* behind = shared + STAGES * STAGE_BYTES@{ " + WEIGHT_BYTES" if causal else "" };
    //% if values
    ChunkValues* chunk_values = (ChunkValues*)behind;
    behind += 2 * sizeof(ChunkValues);
    auto fill_values_at = [&](int chunk, int at) {
        ChunkValues& values = chunk_values[chunk % 2];
        //% if row_values
        const int row = rows_of_chunk(chunk) + at;
        //% if rows == "queries"
        const Query query_row = query_at(row);
        //% else
        const Key key_row = key_at(row);
        //% endif
        //% for value in row_values
        values.@{ value[0] }[at] = @{ value[1] };
        //% endfor
        //% endif
        //% if causal and column_values
        const int column = columns_of(chunk) + at;
        //% include "linear_columns"
        //% endif
    };
    //% endif
    //% if normalized
    // the columns' sum of b, and what rows are divided by
    float* b_total = (float*)behind;
    float (*row_sums)[BLOCK] = (float (*)[BLOCK])(behind + padded(AB_DIM) * 4);
    float* row_scales = (float*)(behind + padded(AB_DIM) * 4 + (BLOCK / 16 + 1) * BLOCK * 4);
    //% endif
    //% if sums
    // they lie where weights did, or behind the chunks where there are none
    float (*product_sums)[BLOCK] = (float (*)[BLOCK])@{ "(shared + STAGES * STAGE_BYTES)" if causal else "behind" };
    //% endif

    const int slot_number = @{ "segment" if causal else "arguments.column_segments" };
    //% if causal
    const i64 head_states = head_slots, state_slots = slots;
    //% else
    const i64 state_slots = arguments.column_segments + 1, head_states = ((i64)batch * gridDim.y + head) * state_slots;
    //% endif
    const float* slot = arguments.states + (head_states + slot_number) * SLOT_FLOATS;
    // the transposed state: rows of c 16 warp + lane / 4 (+ 8), columns of b
    float state[AB_TILES][4];
#pragma unroll
    for (int n = 0; n < AB_TILES; ++n) {
        const float4 four = *(const float4*)(slot + ((warp * AB_TILES + n) * 32 + lane) * 4);
        state[n][0] = four.x, state[n][1] = four.y, state[n][2] = four.z, state[n][3] = four.w;
    }
    //% if b_vector
    //% if causal
    float b_sum[B_SUM_PAIRS][2][4];
#pragma unroll
    for (int i = 0; i < B_SUM_PAIRS; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int n = i * WARPS + warp;
            const float2 pair = n < AB_TILES / 2 ? *(const float2*)(slot + STATE_FLOATS + 16 * n + 8 * half + lane % 4 * 2) : float2{0.f, 0.f};
            b_sum[i][half][0] = b_sum[i][half][2] = pair.x, b_sum[i][half][1] = b_sum[i][half][3] = pair.y;
        }
    //% endif
    for (int at = threadIdx.x; at < padded(AB_DIM); at += THREADS) b_total[at] = slot[STATE_FLOATS + at];
    //% endif
    //% if c_vector
    float c_sum[2][4];
    c_sum[0][0] = c_sum[0][1] = slot[STATE_FLOATS + 16 * warp + lane / 4], c_sum[0][2] = c_sum[0][3] = slot[STATE_FLOATS + 16 * warp + lane / 4 + 8];
    //% endif
    //% if exponents
    float reference = arguments.state_exponents[2 * head_states + state_slots + slot_number];
    //% endif

    const int count = end - begin;
    auto chunk_number = [&](int step) { return @{ "end - 1 - step" if reverse else "begin + step" }; };
    if (count > 0) start_loads(chunk_number(0), 0);
    //% if values
    if (count > 0) for (int at = threadIdx.x; at < BLOCK; at += THREADS) fill_values_at(chunk_number(0), at);
    //% endif
#pragma unroll 1
    for (int step = 0; step < count; ++step) {
        const int chunk = chunk_number(step), stage = step % STAGES, first_row = rows_of_chunk(chunk);
        const u32 a_tile = ring + stage * STAGE_BYTES@{ ", b_tile = a_tile + AB_BYTES, c_tile = b_tile + AB_BYTES" if causal else "" };
        copy_async_wait<0>();
        //% if a_map
        map_chunk<AB_DIM>(shared + (a_tile - ring), first_row, @{ rows_len }, [](float x) { return @{ a_map }(x); });
        //% endif
        //% if causal and b_map
        map_chunk<AB_DIM>(shared + (b_tile - ring), columns_of(chunk), @{ columns_len }, [](float x) { return @{ b_map }(x); });
        //% endif
        //% if causal and c_map
        map_chunk<C_DIM>(shared + (c_tile - ring), columns_of(chunk), @{ columns_len }, [](float x) { return @{ c_map }(x); });
        //% endif
        __syncthreads();   // this chunk is there, and every warp has used the one before
        //% if stages > 1
        if (step + 1 < count) start_loads(chunk_number(step + 1), stage ^ 1);
        //% endif
        //% if values
        const ChunkValues& values = chunk_values[chunk % 2];
        if (step + 1 < count) for (int at = threadIdx.x; at < BLOCK; at += THREADS) fill_values_at(chunk_number(step + 1), at);
        //% endif
        //% if causal

        // the chunk's own weights: tiles of 16 x 16 @{ "above" if reverse else "below" } the diagonal and on it
        constexpr int TILES = BLOCK / 16;
#pragma unroll 1
        for (int task = warp; task < TILES * (TILES + 1) / 2; task += WARPS) {
            int outer = 0;
            while ((outer + 1) * (outer + 2) / 2 <= task) ++outer;
            const int inner = task - outer * (outer + 1) / 2;
            const int row_tile = @{ "inner" if reverse else "outer" }, column_tile = @{ "outer" if reverse else "inner" };
            float w[2][4];
#pragma unroll
            for (int k = 0; k < padded(AB_DIM) / 16; ++k) {
                FragmentA a;
                FragmentB b;
                load_a<row_bytes(AB_DIM)>(a, a_tile, 16 * row_tile, 16 * k);
                load_b<row_bytes(AB_DIM)>(b, b_tile, 16 * column_tile, 16 * k);
                if (k == 0) multiply(w[0], w[1], a, b);
                else multiply_add(w[0], w[1], a, b);
            }
            //% if normalized
            float sum[2] = {0.f, 0.f};
            //% endif
#pragma unroll
            for (int half = 0; half < 2; ++half) {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const int row = 16 * row_tile + lane / 4 + e / 2 * 8, column = 16 * column_tile + 8 * half + lane % 4 * 2 + e % 2;
                    float weight = w[half][e];
                    //% if row_bias
                    weight += values.row_bias[row];
                    //% elif column_bias
                    weight += values.column_bias[column];
                    //% endif
                    //% if exponents
                    weight *= exp2_approx(values.row_exponent[row] + values.column_exponent[column]);
                    //% endif
                    //% if column_factor
                    weight *= values.column_factor[column];
                    //% endif
                    const bool live = row_tile != column_tile || column @{ ">=" if reverse else "<=" } row;
                    w[half][e] = live ? weight : 0.f;
                    //% if normalized
                    sum[e / 2] += w[half][e];
                    //% endif
                }
                const u32 address = weights + (16 * row_tile + lane / 4) * row_bytes(BLOCK) + (16 * column_tile + 8 * half + lane % 4 * 2) * (int)sizeof(element);
                store_shared_pair(address, w[half][0], w[half][1]);
                store_shared_pair(address + 8 * row_bytes(BLOCK), w[half][2], w[half][3]);
            }
            //% if normalized
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const float total = quad_sum(sum[r]);
                if (lane % 4 == 0) row_sums[column_tile][16 * row_tile + lane / 4 + 8 * r] = total;
            }
            //% endif
        }
        //% endif
        //% if normalized
        // what the state adds to the rows' sums: a_i times the columns' sum of b
#pragma unroll 1
        for (int row_tile = WARPS - 1 - warp; row_tile < BLOCK / 16; row_tile += WARPS) {
            float of_state[2][4] = {};
#pragma unroll
            for (int k = 0; k < padded(AB_DIM) / 16; ++k) {
                FragmentA a;
                load_a<row_bytes(AB_DIM)>(a, a_tile, 16 * row_tile, 16 * k);
                const float* total = b_total + 16 * k + lane % 4 * 2;
                multiply_add(of_state[0], of_state[1], a, b_of_depth(float2{total[0], total[1]}, float2{total[8], total[9]}));
            }
            if (lane % 4 == 0) row_sums[BLOCK / 16][16 * row_tile + lane / 4] = of_state[0][0], row_sums[BLOCK / 16][16 * row_tile + lane / 4 + 8] = of_state[0][2];
        }
        //% endif
        //% if causal or normalized
        __syncthreads();   // weights are there
        //% endif
        //% if normalized
        for (int at = threadIdx.x; at < BLOCK; at += THREADS) {
            float sum = row_sums[BLOCK / 16][at]@{ " * exp2_approx(values.row_exponent[at] + reference)" if exponents else "" };
            //% if causal
            for (int tile_of_columns = 0; tile_of_columns <= at / 16; ++tile_of_columns) sum += row_sums[tile_of_columns][at];
            //% endif
            //% if row_scale
            sum *= @{ row_scale | replace("AT", "at") };
            //% endif
            const int q = first_row + at;
            float scale = 0.f;
            if (q >= 0 && q < q_len) {
                const Query query = query_at(q);
                const float z = normalizer(tile, query, sum);
                scale = z == 0.f ? 0.f : @{ row_scale | replace("AT", "at") if row_scale else "1.f" } / z;
                arguments.statistic[((i64)batch * gridDim.y + head) * q_len + q] = z;
            }
            row_scales[at] = scale;
        }
        __syncthreads();   // so are the rows' scales
        //% endif

        FragmentB state_b[AB_TILES / 2];
#pragma unroll
        for (int k = 0; k < AB_TILES / 2; ++k) state_b[k] = as_b(state[2 * k], state[2 * k + 1]);
        //% if c_vector
        float2 c_total[2];
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float own = c_sum[0][2 * half];
            c_total[half] = float2{__shfl_sync(~0u, own, lane % 4 * 8), __shfl_sync(~0u, own, lane % 4 * 8 + 4)};
        }
        //% endif
        element* out_rows = rows_of(arguments.@{ out }, batch, head);
        //% if raw
        const element* raw_rows = rows_of(arguments.@{ raw }, batch, @{ raw_head });
        //% endif
        //% if sums
        float own_sums[BLOCK / 16][2];
        //% endif
#pragma unroll
        for (int m = 0; m < BLOCK / 16; ++m) {
            float out[2][4] = {};
#pragma unroll
            for (int k = 0; k < AB_TILES / 2; ++k) {
                FragmentA a;
                load_a<row_bytes(AB_DIM)>(a, a_tile, 16 * m, 16 * k);
                multiply_add(out[0], out[1], a, state_b[k]);
            }
            const int row = 16 * m + lane / 4;
            //% if c_vector or exponents
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                //% if c_vector
                const float bias = @{ "values.row_bias[row + 8 * r]" if row_bias else "1.f" };
                //% endif
                //% if exponents
                const float decay = exp2_approx(values.row_exponent[row + 8 * r] + reference);
                //% endif
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    //% if c_vector
                    out[half][2 * r] += bias * c_total[half].x, out[half][2 * r + 1] += bias * c_total[half].y;
                    //% endif
                    //% if exponents
                    out[half][2 * r] *= decay, out[half][2 * r + 1] *= decay;
                    //% endif
                }
            }
            //% endif
            //% if causal
#pragma unroll
            for (int k = @{ "m" if reverse else "0" }; k @{ "< BLOCK / 16" if reverse else "<= m" }; ++k) {
                FragmentA a;
                FragmentB b;
                load_a<row_bytes(BLOCK)>(a, weights, 16 * m, 16 * k);
                load_b_transposed<row_bytes(C_DIM)>(b, c_tile, 16 * k, 16 * warp);
                multiply_add(out[0], out[1], a, b);
            }
            //% endif
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int at = first_row + row + 8 * r;
                const bool is_row = at >= 0 && at < @{ rows_len };
                //% if row_inverse
                const float inverse = values.row_inverse[row + 8 * r];
                //% endif
                //% if normalized
                const float scale = row_scales[row + 8 * r];
                //% elif row_scale
                const float scale = @{ row_scale | replace("AT", "row + 8 * r") };
                //% endif
                //% if sums
                float sum = 0.f;
                //% endif
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const int column = 16 * warp + 8 * half + lane % 4 * 2;
                    float low = out[half][2 * r], high = out[half][2 * r + 1];
                    //% if row_inverse
                    low *= inverse, high *= inverse;
                    //% endif
                    if (is_row && column < C_DIM) {
                        //% if raw
                        const element* raw = raw_rows + at * arguments.@{ raw }.row + column;
                        //% if dtype == "f32"
                        const float2 raw_pair = *(const float2*)raw;
                        const float raw_low = raw_pair.x, raw_high = raw_pair.y;
                        //% else
                        const u32 raw_pair = *(const u32*)raw;
                        const float raw_low = to_float((u16)raw_pair), raw_high = to_float((u16)(raw_pair >> 16));
                        //% endif
                        //% endif
                        //% if sums
                        sum = fmaf(@{ raw_map }(raw_low), low, fmaf(@{ raw_map }(raw_high), high, sum));
                        //% endif
                        //% if normalized or row_scale
                        low *= scale, high *= scale;
                        //% endif
                        //% if raw_slope
                        low *= @{ raw_slope }(raw_low), high *= @{ raw_slope }(raw_high);
                        //% endif
                        //% if dtype == "f32"
                        *(float2*)(out_rows + at * arguments.@{ out }.row + column) = float2{low, high};
                        //% else
                        *(u32*)(out_rows + at * arguments.@{ out }.row + column) = pack(low, high);
                        //% endif
                    }
                }
                //% if sums
                own_sums[m][r] = quad_sum(sum);
                //% endif
            }
        }
        //% if causal

        //% include "linear_update"
        //% if b_vector
        // nobody reads the old sums any more: what they add was found before the last wait
#pragma unroll
        for (int n = 0; n < AB_TILES / 2; ++n)
            if (n % WARPS == warp && lane < 4)
#pragma unroll
                for (int half = 0; half < 2; ++half) *(float2*)(b_total + 16 * n + 8 * half + 2 * lane) = float2{b_sum[n / WARPS][half][0], b_sum[n / WARPS][half][1]};
        //% endif
        //% endif
        //% if sums or stages == 1
        __syncthreads();   // every warp has used this chunk and its weights
        //% endif
        //% if sums
        if (lane % 4 == 0)
#pragma unroll
            for (int m = 0; m < BLOCK / 16; ++m) product_sums[warp][16 * m + lane / 4] = own_sums[m][0], product_sums[warp][16 * m + lane / 4 + 8] = own_sums[m][1];
        __syncthreads();
        for (int at = threadIdx.x; at < BLOCK; at += THREADS) {
            float sum = 0.f;
#pragma unroll
            for (int of = 0; of < WARPS; ++of) sum += product_sums[of][at];
            const int row = first_row + at;
            if (row >= 0 && row < @{ rows_len }) arguments.@{ sums }[((i64)batch * gridDim.y + head) * @{ rows_len } + row] = sum;
        }
        //% endif
        //% if stages == 1
        if (step + 1 < count) start_loads(chunk_number(step + 1), 0);
        //% endif
    }
}
