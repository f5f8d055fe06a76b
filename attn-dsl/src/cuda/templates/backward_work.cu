//% if packed
// A tile of keys of one head of k and v of a sequence, whose number is the batch, with the rows before the sequence and its lengths; after
// the last one, a tile of no head. A place without a tile has no keys.
struct Work {
    int kv_tile, kv_head, batch, q_start, q_len, kv_start, kv_len;
};
__device__ __forceinline__ void store_work(u32 slot, const Work& work) {
    store_shared_16(slot, make_int4(work.kv_tile, work.kv_head, work.batch, work.q_start));
    store_shared_16(slot + 16, make_int4(work.q_len, work.kv_start, work.kv_len, 0));
}
__device__ __forceinline__ Work load_work(u32 slot) {
    const uint4 tile = load_shared_16(slot), sequence = load_shared_16(slot + 16);
    return {(int)tile.x, (int)tile.y, (int)tile.z, (int)tile.w, (int)sequence.x, (int)sequence.y, (int)sequence.z};
}
// The tiles of keys of all sequences, as blocks count them.
__device__ __forceinline__ int kv_places(const Arguments& arguments) { return arguments.cu_seqlens_kv[arguments.sequences] / BLOCK_KV + arguments.sequences; }
// Heads are taken in groups whose queries of a sequence fit the L2 cache: all of a group at a tile of keys, sequence after sequence. A
// whole warp asks.
__device__ __forceinline__ Work work_at(const Arguments& arguments, int number) {
    const int places = kv_places(arguments), kv_heads = arguments.heads / arguments.group;
    if (number >= places * kv_heads) return {0, -1};
    const int first = number / (places * arguments.kv_head_group) * arguments.kv_head_group;   // of the group
    const int heads = min(arguments.kv_head_group, kv_heads - first), rest = number - first * places;
    const PackedTile place = find_tile<BLOCK_KV>(arguments.cu_seqlens_kv, arguments.sequences, rest / heads);
    const int head = first + rest % heads, sequence = place.sequence;
    const int q_start = arguments.cu_seqlens_q[sequence], q_len = arguments.cu_seqlens_q[sequence + 1] - q_start;
    const int kv_start = arguments.cu_seqlens_kv[sequence], kv_len = arguments.cu_seqlens_kv[sequence + 1] - kv_start;
    if (place.tile * BLOCK_KV >= kv_len) return {0, head, sequence};   // past the end of its sequence
    return {place.tile, head, sequence, q_start, q_len, kv_start, kv_len};
}
//% else
// A tile of keys of one head of k and v; after the last one, a tile of no head.
struct Work {
    int kv_tile, kv_head, batch;
};
__device__ __forceinline__ void store_work(u32 slot, const Work& work) { store_shared_16(slot, make_int4(work.kv_tile, work.kv_head, work.batch, 0)); }
__device__ __forceinline__ Work load_work(u32 slot) {
    const uint4 work = load_shared_16(slot);
    return {(int)work.x, (int)work.y, (int)work.z};
}
// Heads are taken in groups whose queries fit the L2 cache, and within a group tile after tile of all its heads: what runs at a time
// reads the same queries, and@{ " under this mask the first keys, which the most queries see, go first" if longest_first else " neighbouring tiles of keys of one head start at different times" }.
__device__ __forceinline__ Work work_at(const Arguments& arguments, int number) {
    const int tiles = (arguments.kv_len + BLOCK_KV - 1) / BLOCK_KV, kv_heads = arguments.heads / arguments.group;
    if (number >= tiles * kv_heads * arguments.batches) return {0, -1, 0};
    const int first = number / (tiles * arguments.kv_head_group) * arguments.kv_head_group;   // of the group, over all batches
    const int heads = min(arguments.kv_head_group, arguments.batches * kv_heads - first), rest = number - first * tiles;
    const int head = first + rest % heads;
    return {rest / heads, head % kv_heads, head / kv_heads};
}
//% endif
