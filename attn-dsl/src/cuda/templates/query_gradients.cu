// ---------------------------------------------------------------- kernel
//% if dq_in_parts
// dq of a tile of queries, from the sums that attn_backward_kq left in an order of its own: of part p, consumer w and register i of its
// thread t at (((p * 2 + w) * DQ_REGISTERS / 4 + i / 4) * 128 + t) * 4 + i % 4. Two parts have 64 columns of each consumer.
//% else
// dq of a tile of queries, from the sums that attn_backward left in an order of its own: of consumer w and register i of its thread t
// at ((w * DQ_REGISTERS / 4 + i / 4) * 128 + t) * 4 + i % 4.
//% endif
extern "C" __global__ void __launch_bounds__(THREADS)
attn_query_gradients(const __grid_constant__ Arguments arguments) {
    constexpr int ROW_BYTES = padded(HEAD_DIM) * 2 + 16;   // rows of dq in shared memory, apart by a piece: the lanes of a warp meet different banks
    __shared__ __align__(16) unsigned char rows[BLOCK_Q * ROW_BYTES];
    const u32 row_address = shared_address(rows);
    //% if packed
    const PackedTile place = find_tile<BLOCK_Q>(arguments.cu_seqlens_q, arguments.sequences, blockIdx.x);
    const int q_tile = place.tile, head = blockIdx.y, batch = place.sequence;
    const int q_start = arguments.cu_seqlens_q[batch], q_len = arguments.cu_seqlens_q[batch + 1] - q_start;
    const int kv_len = arguments.cu_seqlens_kv[batch + 1] - arguments.cu_seqlens_kv[batch];
    if (q_tile * BLOCK_Q >= q_len) return;   // past the end of its sequence
    const Tile tile = load_tile_values(arguments, batch, head, q_len, kv_len);
    const i64 number = (i64)head * gridDim.x + blockIdx.x;
    //% else
    const int q_tile = blockIdx.x, head = blockIdx.y, batch = blockIdx.z, q_len = arguments.q_len;
    const Tile tile = load_tile_values(arguments, batch, head);
    const i64 number = ((i64)batch * gridDim.y + head) * gridDim.x + q_tile;
    //% endif
    const float4* sums = (const float4*)(arguments.dq_sums + number * DQ_TILE_FLOATS);
    //% if deterministic
    const bool written = arguments.dq_turns[number] != 0;   // by some tile of keys
    //% endif
    //% if product_grad_scale
    const float scale = product_grad_scale(tile);
    //% endif
#pragma unroll 4
    for (int piece = threadIdx.x; piece < DQ_TILE_FLOATS / 4; piece += THREADS) {
        const int thread = piece % 128, i = piece / 128 % (DQ_REGISTERS / 4), consumer = piece / 128 / (DQ_REGISTERS / 4)@{ " % 2, part = piece / 256 / (DQ_REGISTERS / 4)" if dq_in_parts else "" };
        const int row = @{ "consumer * 64 + " if dq_by_rows else "" }thread / 32 * 16 + thread % 32 / 4, column = @{ "" if dq_by_rows else "(part / 2 * 2 + consumer) * 64 + part % 2 * 32 + " if dq_in_parts else "consumer * (DQ_REGISTERS * 2) + " }8 * i + thread % 4 * 2;
        const float4 sum = @{ "written ? sums[piece] : make_float4(0.f, 0.f, 0.f, 0.f)" if deterministic else "sums[piece]" };
        if (column < padded(HEAD_DIM)) {
            store_shared(row_address + row * ROW_BYTES + column * 2, (int)pack(sum.x@{ " * scale, sum.y * scale" if product_grad_scale else ", sum.y" }));
            store_shared(row_address + (row + 8) * ROW_BYTES + column * 2, (int)pack(sum.z@{ " * scale, sum.w * scale" if product_grad_scale else ", sum.w" }));
        }
    }
    __syncthreads();
    element* to = rows_of(arguments.q_grad, @{ q_rows }, head);
    for (int piece = threadIdx.x; piece < BLOCK_Q * (HEAD_DIM / 8); piece += THREADS) {
        const int row = piece / (HEAD_DIM / 8), column = piece % (HEAD_DIM / 8), q = q_tile * BLOCK_Q + row;
        if (q < q_len) *(uint4*)(to + q * arguments.q_grad.row + column * 8) = load_shared_16(row_address + row * ROW_BYTES + column * 16);
    }
    //% if row_gradients
    // one partial sum a row; a second kernel adds them up in a fixed order
    const int q = q_tile * BLOCK_Q + (int)threadIdx.x;
    if (threadIdx.x < BLOCK_Q && q < q_len) {
        //% if sums_by_row
        const i64 row = @{ "(i64)head * arguments.total_q + q_start + q" if packed else "((i64)batch * gridDim.y + head) * q_len + q" };
        //% endif
        //% if sums_by_position
        const i64 position = ((i64)batch * arguments.heads + head) * arguments.max_seqlen_q + q;   // room for the longest sequence
        //% endif
        //% if residual
        const bool live = arguments.live_keys[row] > 0;
        //% else
        const Range range = live_keys_of(arguments, tile, q, q + 1);
        const bool live = range.begin < range.end;
        //% endif
        const Query query = load_query(arguments, tile, q, (float)q);
        //% for parameter in row_gradients
        arguments.row_grad_@{ parameter.name }[@{ parameter.place }] = live ? row_grad_@{ parameter.name }(tile, query) : 0.f;
        //% endfor
    }
    //% endif
}
