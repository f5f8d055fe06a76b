// The loader finds the tiles of @{ walked_name } that may have a live pair with a tile of @{ own_name }, the last ones first, and tells all others of
// each in a ring in shared memory, before it loads it.
struct WalkedTile {
    int tile;          // -1 where a head has none
    bool full, last;   // whether all of its pairs are live, and whether it is the last of its head
};
constexpr int WALK_STAGES = 4;   // more than tiles that are loaded: what is computed for a tile begins before there is room for it
constexpr u32 WALK_FULL = 16 * WALK_STAGES, WALK_EMPTY = WALK_FULL + 8 * WALK_STAGES;   // barriers behind the tiles
__device__ __forceinline__ void tell_walked(u32 walk, const RingPlace& place, const WalkedTile& walked) {
    mbarrier_wait(walk + WALK_EMPTY + 8 * place.stage, place.parity);
    store_shared_16(walk + 16 * place.stage, make_int4(walked.tile, walked.full, walked.last, 0));
    mbarrier_arrive(walk + WALK_FULL + 8 * place.stage);
}
// The next tile; all lanes of a warp take it together.
__device__ __forceinline__ WalkedTile take_walked(u32 walk, RingPlace& place) {
    mbarrier_wait(walk + WALK_FULL + 8 * place.stage, place.parity);
    const uint4 walked = load_shared_16(walk + 16 * place.stage);
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(walk + WALK_EMPTY + 8 * place.stage);
    advance(place, WALK_STAGES);
    return {(int)walked.x, walked.y != 0, walked.z != 0};
}
__device__ __forceinline__ TileLiveness liveness_of(const Arguments& arguments, const Tile& tile, int q_tile, int kv_tile) {
    const int q_begin = q_tile * @{ q_block }, q_end = min(q_begin + @{ q_block }, @{ lengths_of }.q_len);
    const int kv_begin = kv_tile * @{ kv_block }, kv_end = min(kv_begin + @{ kv_block }, @{ lengths_of }.kv_len);
    const TileLiveness liveness = live_tile(arguments, tile, q_begin, q_end - 1, kv_begin, kv_end - 1);
    // tiles that are not whole have positions past the end
    return {liveness.may_live, liveness.all_live && q_end == q_begin + @{ q_block } && kv_end == kv_begin + @{ kv_block }};
}
// What the mask leaves of 32 tiles, from `group` down: each lane looks at one of them.
struct LiveTiles {
    int group;
    u32 live, full;
};
__device__ __forceinline__ LiveTiles none_seen(int last) { return {last + 31, 0, 0}; }   // of a walk from last - 1 on
__device__ __forceinline__ bool is_full(const LiveTiles& seen, int @{ walked_tile }) { return seen.full >> (seen.group - @{ walked_tile }) & 1; }
// The next tile of a walk, at `from` or below; -1 after the first one.
__device__ __forceinline__ int next_live(const Arguments& arguments, const Tile& tile, LiveTiles& seen, int @{ own_tile }, int from, int first) {
    for (; from >= first; from = seen.group - 32) {
        if (from <= seen.group - 32) {
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
        }
        const u32 ahead = seen.live >> (seen.group - from);
        if (ahead) return from + 1 - __ffs(ahead);
    }
    return -1;
}
//% if finds_before
// The tile of keys that adds to a tile of dq before `kv_tile` does: the greatest of those below whose walks have the tile; -1 where there
// is none.
__device__ __forceinline__ int tile_before(const Arguments& arguments, const Tile& tile, int q_tile, int kv_tile) {
    for (int from = kv_tile - 1; from >= 0; from -= 32) {
        const int other = from - (int)threadIdx.x % 32;
        bool adds = false;
        if (other >= 0) {
            const QueryTiles tiles = query_tiles_of(live_queries_of_tile(arguments, tile, other));
            adds = q_tile >= tiles.first && q_tile < tiles.last && liveness_of(arguments, tile, q_tile, other).may_live;
        }
        const u32 adding = __ballot_sync(~0u, adds);
        if (adding) return from + 1 - __ffs(adding);
    }
    return -1;
}
//% endif
