//% if packed
// A tile of queries of one head of a sequence, whose number is the batch, with the queries before it and its lengths; after the last
// one, a tile of no head. A place without a tile has no queries.
struct Work {
    int q_begin, head, batch, q_start, q_len, kv_len@{ ", live" if tile_mask else "" };@{ "   // live: whether any key is" if tile_mask else "" }
};
__device__ __forceinline__ void store_work(u32 slot, const Work& work) {
    store_shared_16(slot, make_int4(work.q_begin, work.head, work.batch, work.q_start));
    store_shared_16(slot + 16, make_int4(work.q_len, work.kv_len, @{ "work.live" if tile_mask else "0" }, 0));
}
__device__ __forceinline__ Work load_work(u32 slot) {
    const uint4 tile = load_shared_16(slot), sequence = load_shared_16(slot + 16);
    return {(int)tile.x, (int)tile.y, (int)tile.z, (int)tile.w, (int)sequence.x, (int)sequence.y@{ ", (int)sequence.z" if tile_mask else "" }};
}
// Heads are taken in groups whose keys and values of a sequence fit the L2 cache: all of a group at a tile of queries, sequence after
// sequence.@{ " Under this mask the last queries of a sequence see the most keys: they go first." if longest_first else "" } A whole warp asks.
__device__ __forceinline__ Work work_at(const Arguments& arguments, int number) {
    const int places = arguments.total_q / BLOCK_Q + arguments.sequences;
    if (number >= places * arguments.heads) return {0, -1};
    const int first = number / (places * arguments.head_group) * arguments.head_group;   // of the group
    const int heads = min(arguments.head_group, arguments.heads - first), rest = number - first * places;
    const PackedTile place = find_tile<BLOCK_Q>(arguments.cu_seqlens_q, arguments.sequences, rest / heads);
    const int head = first + rest % heads, q_start = arguments.cu_seqlens_q[place.sequence];
    const int q_len = arguments.cu_seqlens_q[place.sequence + 1] - q_start;
    const int kv_len = arguments.cu_seqlens_kv[place.sequence + 1] - arguments.cu_seqlens_kv[place.sequence];
    const int q_tiles = (q_len + BLOCK_Q - 1) / BLOCK_Q;
    if (place.tile >= q_tiles) return {0, head, place.sequence};   // past the end of its sequence
    return {@{ "(q_tiles - 1 - place.tile)" if longest_first else "place.tile" } * BLOCK_Q, head, place.sequence, q_start, q_len, kv_len};
}
//% else
// A tile of queries of one head; after the last one, a tile of no head.
struct Work {
    int q_begin, head, batch@{ ", live" if tile_mask else "" };@{ "   // live: whether any key is" if tile_mask else "" }
};
__device__ __forceinline__ void store_work(u32 slot, const Work& work) { store_shared_16(slot, make_int4(work.q_begin, work.head, work.batch, @{ "work.live" if tile_mask else "0" })); }
__device__ __forceinline__ Work load_work(u32 slot) {
    const uint4 work = load_shared_16(slot);
    return {(int)work.x, (int)work.y, (int)work.z@{ ", (int)work.w" if tile_mask else "" }};
}
//% if longest_first
// Heads are taken in groups whose keys and values fit the L2 cache. Under this mask the last queries see the most keys: within a
// group they go first, so that what is left at the end is short.
//% else
// Tile after tile of one head, then of the next: those that run at a time read the same keys and values.
//% endif
__device__ __forceinline__ Work work_at(const Arguments& arguments, int number) {
    const int tiles = (arguments.q_len + BLOCK_Q - 1) / BLOCK_Q;
    if (number >= tiles * arguments.heads * arguments.batches) return {0, -1, 0};
    //% if longest_first
    const int first = number / (tiles * arguments.head_group) * arguments.head_group;   // of the group, over all batches
    const int heads = min(arguments.head_group, arguments.batches * arguments.heads - first), rest = number - first * tiles;
    const int head = first + rest % heads;
    return {(tiles - 1 - rest / heads) * BLOCK_Q, head % arguments.heads, head / arguments.heads};
    //% else
    const int head = number / tiles;
    return {number % tiles * BLOCK_Q, head % arguments.heads, head / arguments.heads};
    //% endif
}
//% endif
//% if tile_mask

// What stands in shared memory beside a stage: which tile of keys it holds, whether all of its pairs are live, and whether it is the
// last one of its queries.
struct LiveTile {
    int kv_tile;
    bool full, is_last;
};
__device__ __forceinline__ void store_live_tile(u32 slot, const LiveTile& tile) { store_shared(slot, tile.kv_tile * 4 + tile.full * 2 + tile.is_last); }
__device__ __forceinline__ LiveTile load_live_tile(u32 slot) {
    const int tile = load_shared_int(slot);
    return {tile / 4, (tile & 2) != 0, (tile & 1) != 0};
}
//% endif
