// The loader finds the tiles of @{ walked_name } that may have a live pair with a tile of @{ own_name }, the last ones first, and tells all others of
// each in a ring in shared memory, before it loads it.
struct WalkedTile {
    int tile;          // -1 where a head has none
    bool full, last;   // whether all of its pairs are live, and whether it is the last of its head
    //% if finds_before
    int before;        // which tile of keys adds to it before this one: NONE, the NEIGHBOUR, or one that is to be LOOKED_FOR
    //% endif
};
//% if finds_before
constexpr int NONE = 0, NEIGHBOUR = 1, LOOKED_FOR = 2;
//% endif
constexpr int WALK_STAGES = 4;   // more than tiles that are loaded: what is computed for a tile begins before there is room for it
constexpr u32 WALK_FULL = 16 * WALK_STAGES, WALK_EMPTY = WALK_FULL + 8 * WALK_STAGES;   // barriers behind the tiles
__device__ __forceinline__ void tell_walked(u32 walk, const RingPlace& place, const WalkedTile& walked) {
    mbarrier_wait(walk + WALK_EMPTY + 8 * place.stage, place.parity);
    store_shared_16(walk + 16 * place.stage, make_int4(walked.tile, walked.full, walked.last, @{ "walked.before" if finds_before else "0" }));
    mbarrier_arrive(walk + WALK_FULL + 8 * place.stage);
}
// The next tile; all lanes of a warp take it together.
__device__ __forceinline__ WalkedTile take_walked(u32 walk, RingPlace& place) {
    mbarrier_wait(walk + WALK_FULL + 8 * place.stage, place.parity);
    const uint4 walked = load_shared_16(walk + 16 * place.stage);
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(walk + WALK_EMPTY + 8 * place.stage);
    advance(place, WALK_STAGES);
    return {(int)walked.x, walked.y != 0, walked.z != 0@{ ", (int)walked.w" if finds_before else "" }};
}
// What the mask leaves of a tile, and of as many as `tiles` from it on together.
__device__ __forceinline__ TileLiveness liveness_of(const Arguments& arguments, const Tile& tile, int q_tile, int kv_tile, int tiles = 1) {
    const int q_begin = q_tile * @{ q_block }, q_end = min(q_begin + @{ q_block }@{ " * tiles" if walked_tile == "q_tile" else "" }, @{ lengths_of }.q_len);
    const int kv_begin = kv_tile * @{ kv_block }, kv_end = min(kv_begin + @{ kv_block }@{ " * tiles" if walked_tile == "kv_tile" else "" }, @{ lengths_of }.kv_len);
    const TileLiveness liveness = live_tile(arguments, tile, q_begin, q_end - 1, kv_begin, kv_end - 1);
    // tiles that are not whole have positions past the end
    return {liveness.may_live, liveness.all_live && q_end == q_begin + @{ q_block } && kv_end == kv_begin + @{ kv_block }};
}
//% if finds_before
// Whether a tile of keys adds to a tile of dq: its walk has the tile.
__device__ __forceinline__ bool adds_to(const Arguments& arguments, const Tile& tile, int q_tile, int kv_tile) {
    if (kv_tile < 0) return false;
    const QueryTiles tiles = query_tiles_of(live_queries_of_tile(arguments, tile, kv_tile));
    return q_tile >= tiles.first && q_tile < tiles.last && liveness_of(arguments, tile, q_tile, kv_tile).may_live;
}
//% endif
// What the mask leaves of 32 tiles, from `group` down, and of 32 such groups, from `groups` down: each lane looks at one of them.
struct LiveTiles {
    int groups, group;
    u32 live_groups, live, full@{ ", neighbour, preceded" if finds_before else "" };
};
__device__ __forceinline__ LiveTiles none_seen(int last) { return {last + 1023, last + 31, 0, 0, 0@{ ", 0, 0" if finds_before else "" }}; }   // of a walk from last - 1 on
__device__ __forceinline__ bool is_full(const LiveTiles& seen, int @{ walked_tile }) { return seen.full >> (seen.group - @{ walked_tile }) & 1; }
// The next tile of a walk, at `from` or below; -1 after the first one.
__device__ __forceinline__ int next_live(const Arguments& arguments, const Tile& tile, LiveTiles& seen, int @{ own_tile }, int from, int first) {
    for (; from >= first; from = seen.group - 32) {
        if (from <= seen.group - 32) {
            //% if skips
            if (from <= seen.groups - 1024) {
                seen.groups = from;
                const int highest = from - (int)threadIdx.x % 32 * 32, @{ walked_tile } = max(highest - 31, first);
                bool may_live = highest >= first;
                if (may_live && from - first >= 32) may_live = liveness_of(arguments, tile, q_tile, kv_tile, highest + 1 - @{ walked_tile }).may_live;
                seen.live_groups = __ballot_sync(~0u, may_live);
            }
            const u32 groups_ahead = seen.live_groups >> (seen.groups - from) / 32;
            if (!groups_ahead) {
                seen.group = seen.groups - 31 * 32;
                continue;
            }
            from -= (__ffs(groups_ahead) - 1) * 32;
            //% endif
            seen.group = from;
            const int @{ walked_tile } = from - (int)threadIdx.x % 32;
            TileLiveness liveness = {false, false};
            if (@{ walked_tile } >= first) liveness = liveness_of(arguments, tile, q_tile, kv_tile);
            //% if skips
            seen.live = __ballot_sync(~0u, liveness.may_live);
            //% else
            // sums along diagonals go on from a tile to its neighbour: none is left out
            seen.live = __ballot_sync(~0u, @{ walked_tile } >= first);
            //% endif
            seen.full = __ballot_sync(~0u, liveness.all_live);
            //% if finds_before
            seen.neighbour = __ballot_sync(~0u, liveness.may_live && adds_to(arguments, tile, q_tile, kv_tile - 1));
            // what all keys before leave empty, each tile of them does
            seen.preceded = __ballot_sync(~0u, liveness.may_live && kv_tile > 0 && live_tile(arguments, tile, q_tile * BLOCK_Q, min(q_tile * BLOCK_Q + BLOCK_Q, @{ lengths_of }.q_len) - 1, 0, kv_tile * BLOCK_KV - 1).may_live);
            //% endif
        }
        const u32 ahead = seen.live >> (seen.group - from);
        if (ahead) return from + 1 - __ffs(ahead);
    }
    return -1;
}
//% if finds_before
__device__ __forceinline__ int before_of(const LiveTiles& seen, int q_tile) {
    const int place = seen.group - q_tile;
    return seen.neighbour >> place & 1 ? NEIGHBOUR : seen.preceded >> place & 1 ? LOOKED_FOR : NONE;
}
// The greatest tile of keys below `kv_tile` that adds to a tile of dq; -1 where there is none.
__device__ __forceinline__ int tile_before(const Arguments& arguments, const Tile& tile, int q_tile, int kv_tile) {
    for (int from = kv_tile - 1; from >= 0; from -= 32) {
        const u32 adding = __ballot_sync(~0u, adds_to(arguments, tile, q_tile, from - (int)threadIdx.x % 32));
        if (adding) return from + 1 - __ffs(adding);
    }
    return -1;
}
//% endif
