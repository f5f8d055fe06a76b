// ---------------------------------------------------------------- kernel
// The number of live keys of each row, where the mask has no closed form for it: one warp a row.
extern "C" __global__ void __launch_bounds__(THREADS)
attn_live_keys(const __grid_constant__ Arguments arguments) {
    //% if packed
    const int lane = threadIdx.x % 32, head = blockIdx.y;
    const PackedTile place = find_tile<1>(arguments.cu_seqlens_q, arguments.sequences, blockIdx.x * (THREADS / 32) + threadIdx.x / 32);
    const int q = place.tile, batch = place.sequence;
    const int q_start = arguments.cu_seqlens_q[batch], q_len = arguments.cu_seqlens_q[batch + 1] - q_start;
    const int kv_len = arguments.cu_seqlens_kv[batch + 1] - arguments.cu_seqlens_kv[batch];
    if (q >= q_len) return;
    //% else
    const int lane = threadIdx.x % 32, head = blockIdx.y, batch = blockIdx.z;
    const int q = blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (q >= arguments.q_len) return;
    //% endif
    const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
    const Query query = load_query(arguments, tile, q, (float)q);
    const Range range = live_keys_of(arguments, tile, q, q + 1);
    int count = 0;
    //% if tile_mask
    // of 32 tiles of keys, a lane looks at one
    for (int group = range.begin / BLOCK_KV; group * BLOCK_KV < range.end; group += 32) {
        const int first_kv = max((group + lane) * BLOCK_KV, range.begin), end_kv = min((group + lane + 1) * BLOCK_KV, range.end);
        TileLiveness liveness = {false, false};
        if (first_kv < end_kv) liveness = live_tile(arguments, tile, q, q, first_kv, end_kv - 1);
        if (liveness.may_live && liveness.all_live) count += end_kv - first_kv;
        for (u32 tested = __ballot_sync(~0u, liveness.may_live && !liveness.all_live); tested != 0; tested &= tested - 1) {
            const int begin = (group + __ffs(tested) - 1) * BLOCK_KV;
            for (int kv = max(begin, range.begin) + lane; kv < min(begin + BLOCK_KV, range.end); kv += 32) count += is_live(@{ mask_arguments }tile, query, load_key(arguments, tile, kv, (float)kv));
        }
    }
    //% else
    for (int kv = range.begin + lane; kv < range.end; kv += 32) count += is_live(@{ mask_arguments }tile, query, load_key(arguments, tile, kv, (float)kv));
    //% endif
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) count += __shfl_xor_sync(~0u, count, distance);
    if (lane == 0) arguments.live_keys[@{ "(i64)head * arguments.total_q + q_start" if packed else "((i64)batch * arguments.heads + head) * arguments.q_len" } + q] = count;
}
