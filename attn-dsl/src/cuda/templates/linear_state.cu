//% include "linear_tiles"
//% include "linear_common"
// ---------------------------------------------------------------- kernel
// The state of each segment of @{ columns }: sum of b_j c_j^T with b = @{ b_text } and c = @{ c_text }, scaled as the columns are.
extern "C" __global__ void __launch_bounds__(THREADS, @{ blocks_per_sm })
attn_linear_state(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    //% include "linear_positions"
    //% if not causal
    const int first_position = 0, positions = @{ columns_len };
    //% endif
    const int chunks = (positions + BLOCK - 1) / BLOCK;
    const int begin = segment * arguments.segment_chunks, end = min(begin + arguments.segment_chunks, chunks);
    const element* b_rows = rows_of(arguments.@{ b }, batch, @{ b_head });
    const element* c_rows = rows_of(arguments.@{ c }, batch, @{ c_head });
    const u32 ring = shared_address(shared);
    auto columns_of = [&](int chunk) { return first_position + chunk * BLOCK@{ " - offset" if causal and columns == "queries" else "" }; };
    auto start_loads = [&](int chunk, int stage) {
        const u32 to = ring + stage * (AB_BYTES + C_BYTES);
        load_chunk<AB_DIM>(to, b_rows, arguments.@{ b }.row, columns_of(chunk), @{ columns_len });
        load_chunk<C_DIM>(to + AB_BYTES, c_rows, arguments.@{ c }.row, columns_of(chunk), @{ columns_len });
        copy_async_commit();
    };
    //% if values
    ChunkValues* chunk_values = (ChunkValues*)(shared + STAGES * (AB_BYTES + C_BYTES));
    auto fill_values_at = [&](int chunk, int at) {
        ChunkValues& values = chunk_values[chunk % 2];
        const int column = columns_of(chunk) + at;
        //% include "linear_columns"
    };
    //% endif

    float state[AB_TILES][4];
#pragma unroll
    for (int n = 0; n < AB_TILES; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) state[n][e] = 0.f;
    //% if b_vector
    float b_sum[B_SUM_PAIRS][2][4] = {};
    //% endif
    //% if c_vector
    float c_sum[2][4] = {};
    //% endif
    //% if exponents
    float reference = -INFINITY;
    //% endif
    if (begin < end) start_loads(begin, 0);
    //% if values
    if (begin < end) for (int at = threadIdx.x; at < BLOCK; at += THREADS) fill_values_at(begin, at);
    //% endif
#pragma unroll 1
    for (int chunk = begin; chunk < end; ++chunk) {
        const int stage = (chunk - begin) % STAGES;
        copy_async_wait<0>();
        const u32 b_tile = ring + stage * (AB_BYTES + C_BYTES), c_tile = b_tile + AB_BYTES;
        //% if b_map
        map_chunk<AB_DIM>(shared + (b_tile - ring), columns_of(chunk), @{ columns_len }, [](float x) { return @{ b_map }(x); });
        //% endif
        //% if c_map
        map_chunk<C_DIM>(shared + (c_tile - ring), columns_of(chunk), @{ columns_len }, [](float x) { return @{ c_map }(x); });
        //% endif
        __syncthreads();   // this chunk is there, and every warp has used the one before
        //% if stages > 1
        if (chunk + 1 < end) start_loads(chunk + 1, stage ^ 1);
        //% endif
        //% if values
        const ChunkValues& values = chunk_values[chunk % 2];
        if (chunk + 1 < end) for (int at = threadIdx.x; at < BLOCK; at += THREADS) fill_values_at(chunk + 1, at);
        //% endif
        //% include "linear_update"
        //% if stages == 1
        __syncthreads();
        if (chunk + 1 < end) start_loads(chunk + 1, 0);
        //% endif
    }
    float* slot = arguments.states + (head_slots + segment) * SLOT_FLOATS;
#pragma unroll
    for (int n = 0; n < AB_TILES; ++n) *(float4*)(slot + ((warp * AB_TILES + n) * 32 + lane) * 4) = float4{state[n][0], state[n][1], state[n][2], state[n][3]};
    //% if b_vector
    // every row of these accumulators is the sum
#pragma unroll
    for (int n = 0; n < AB_TILES / 2; ++n)
        if (n % WARPS == warp && lane < 4)
#pragma unroll
            for (int half = 0; half < 2; ++half) *(float2*)(slot + STATE_FLOATS + 16 * n + 8 * half + 2 * lane) = float2{b_sum[n / WARPS][half][0], b_sum[n / WARPS][half][1]};
    //% endif
    //% if c_vector
    // every column is the sum
    if (lane % 4 == 0) slot[STATE_FLOATS + 16 * warp + lane / 4] = c_sum[0][0], slot[STATE_FLOATS + 16 * warp + lane / 4 + 8] = c_sum[0][2];
    //% endif
    //% if exponents
    if (threadIdx.x == 0) arguments.state_exponents[2 * head_slots + segment] = reference;
    //% endif
}
