//% if packed
// A tile of @{ rows_name } of one head of a sequence, whose number is the batch, with the queries before it and its lengths; after the last
// one, a tile of no head. A place without a tile has no @{ rows_name }.
struct Work {
    int tile, head, batch, q_start, q_len, kv_len;
};
__device__ __forceinline__ void store_work(u32 slot, const Work& work) {
    store_shared_16(slot, make_int4(work.tile, work.head, work.batch, work.q_start));
    store_shared_16(slot + 16, make_int4(work.q_len, work.kv_len, 0, 0));
}
__device__ __forceinline__ Work load_work(u32 slot) {
    const uint4 tile = load_shared_16(slot), sequence = load_shared_16(slot + 16);
    return {(int)tile.x, (int)tile.y, (int)tile.z, (int)tile.w, (int)sequence.x, (int)sequence.y};
}
// The tiles of @{ rows_name } of all sequences, as blocks count them.
__device__ __forceinline__ int all_places(const Arguments& arguments) { return arguments.cu_seqlens_@{ row_side }[arguments.sequences] / BLOCK_ROWS + arguments.sequences; }
// Heads are taken in groups whose tensors of a sequence fit the L2 cache: all of a group at a tile, sequence after sequence@{ ", those of a sequence that see the most first" if longest_first else "" }. A
// whole warp asks.
__device__ __forceinline__ Work work_at(const Arguments& arguments, int number) {
    const int places = all_places(arguments), all_heads = arguments.heads@{ " / arguments.group" if of_keys else "" };
    if (number >= places * all_heads) return {0, -1};
    const int first = number / (places * arguments.@{ head_group }) * arguments.@{ head_group };   // of the group
    const int heads = min(arguments.@{ head_group }, all_heads - first), rest = number - first * places;
    const PackedTile place = find_tile<BLOCK_ROWS>(arguments.cu_seqlens_@{ row_side }, arguments.sequences, rest / heads);
    const int head = first + rest % heads, sequence = place.sequence;
    const int q_start = arguments.cu_seqlens_q[sequence], q_len = arguments.cu_seqlens_q[sequence + 1] - q_start;
    const int kv_len = arguments.cu_seqlens_kv[sequence + 1] - arguments.cu_seqlens_kv[sequence];
    const int tiles = (@{ row_len } + BLOCK_ROWS - 1) / BLOCK_ROWS;
    if (place.tile >= tiles) return {0, head, sequence};   // past the end of its sequence
    return {@{ "place.tile" if of_keys else "tiles - 1 - place.tile" }, head, sequence, q_start, q_len, kv_len};
}
//% else
// A tile of @{ rows_name } of one head; after the last one, a tile of no head.
struct Work {
    int tile, head, batch;
};
__device__ __forceinline__ void store_work(u32 slot, const Work& work) { store_shared_16(slot, make_int4(work.tile, work.head, work.batch, 0)); }
__device__ __forceinline__ Work load_work(u32 slot) {
    const uint4 work = load_shared_16(slot);
    return {(int)work.x, (int)work.y, (int)work.z};
}
// Heads are taken in groups whose tensors fit the L2 cache, and within a group tile after tile of all its heads@{ ": those that see the most go first" if longest_first else "" }.
__device__ __forceinline__ Work work_at(const Arguments& arguments, int number) {
    const int tiles = (arguments.@{ row_len } + BLOCK_ROWS - 1) / BLOCK_ROWS, all_heads = arguments.heads@{ " / arguments.group" if of_keys else "" };
    if (number >= tiles * all_heads * arguments.batches) return {0, -1, 0};
    const int first = number / (tiles * arguments.@{ head_group }) * arguments.@{ head_group };   // of the group, over all batches
    const int heads = min(arguments.@{ head_group }, arguments.batches * all_heads - first), rest = number - first * tiles;
    const int head = first + rest % heads;
    return {@{ "rest / heads" if of_keys else "tiles - 1 - rest / heads" }, head % all_heads, head / all_heads};
}
//% endif
