// ---------------------------------------------------------------- sums along diagonals
// What a table that is read at a function of kv - q gets of a tile of ds is summed along its diagonals. The next tile of queries has
// distances BLOCK_Q further on, so that most diagonals go on growing: their sums stand in a ring in shared memory, by distance, eight
// of each: one for queries 0, 8, 16 ..., one for queries 1, 9, 17 ... and so on.
__device__ __forceinline__ u32 sum_address(u32 sums, u32 place) { return sums + place % (DIAGONALS * 32); }
__device__ __forceinline__ u32 sum_place(int distance, int query) { return distance * 32 + query * 4; }
// Adds a tile of ds to the sums, of which `distance` is that of its first query and key. First what lies on one diagonal of blocks of
// 8 x 8 is added up, then it goes to the sums; warps share these diagonals.
__device__ __forceinline__ void add_diagonals(u32 sums, int distance, u32 ds_tile, u32 warp, u32 lane) {
    constexpr u32 ROWS = BLOCK_Q / 8, COLUMNS = BLOCK_KV / 8;   // of blocks
    const u32 query = lane / 4, key = lane % 4 * 2;   // this lane's places in a block: keys `key` and one more
    // Of blocks (i, (i + diagonal) mod COLUMNS) four at a time, two times ahead: shared memory is busy with products. This lane reads
    // line `lane % 8` of block `lane / 8`; the address is that of `tile_address`, pieces of a line exchanged by its number.
    const u32 line = ds_tile + lane * CHUNK_ROW_BYTES + lane % 8 * 16;
    u32 column = lane / 8 + warp;   // of the block, modulo COLUMNS
    u32 blocks[2][4];
    auto load_blocks = [&](u32 (&four)[4], u32 first, u32 column) {
        load_matrix_x4(four, (line ^ column % 8 * 16) + column / 8 % (COLUMNS / 8) * Q_CHUNK_BYTES + first * (8 * CHUNK_ROW_BYTES));
    };
    load_blocks(blocks[0], 0, column);
    load_blocks(blocks[1], 4, column + 4);
    u32 own = sum_place(distance + warp * 8 + key - query, query);
#pragma unroll 1
    for (u32 diagonal = warp; diagonal < COLUMNS; diagonal += QUERY_WARPS, column += QUERY_WARPS, own += QUERY_WARPS * 8 * 32) {
        // blocks that go round lie COLUMNS blocks before; the tile before had `old` diagonals, too
        const u32 old = diagonal + ROWS < COLUMNS ? own : own - BLOCK_KV * 32;
        const float2 others = {load_shared_float(sum_address(sums, old)), load_shared_float(sum_address(sums, old + 32))};
        float2 sum = {0.f, 0.f}, before = {0.f, 0.f};
        auto add_blocks = [&](auto goes_round) {
#pragma unroll
            for (u32 first = 0; first < ROWS; first += 4) {
                u32 (&four)[4] = blocks[first / 4 % 2];
#pragma unroll
                for (u32 i = 0; i < 4; ++i) {
                    const float low = to_float((element)(four[i] & 0xFFFF)), high = to_float((element)(four[i] >> 16));
                    if (!decltype(goes_round)::partial || first + i + diagonal < COLUMNS) sum.x += low, sum.y += high;
                    else before.x += low, before.y += high;
                }
                load_blocks(four, (first + 8) % ROWS, column + (first + 8 < ROWS ? first + 8 : first + 8 - ROWS + QUERY_WARPS));
            }
        };
        auto store = [&](u32 place, float x, float y) { store_shared(sum_address(sums, place), x), store_shared(sum_address(sums, place + 32), y); };
        if (diagonal + ROWS > COLUMNS) {
            add_blocks(Partial{});
            store(old, others.x + before.x, others.y + before.y);
        } else {
            add_blocks(Full{});
            if (diagonal + ROWS < COLUMNS) sum.x += others.x, sum.y += others.y;
        }
        store(own, sum.x, sum.y);
    }
}
// The sum of a diagonal that gets no more pairs.
__device__ __forceinline__ float diagonal_sum(u32 sums, int distance) {
    const u32 place = sum_address(sums, sum_place(distance, 0));
    const uint4 low = load_shared_16(place), high = load_shared_16(place + 16);
    const u32 all[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < 8; ++i) sum += __int_as_float(all[i]);
    return sum;
}
// A sum that a lane has not yet added to its entry: distances that are far apart often have the same one.
struct Pending {
    int entry;
    float sum;
};
// Adds what all lanes hold to their entries; of lanes with the same entry the first adds the sum of all.
__device__ __forceinline__ void add_to_entries(float* entries, const Pending& pending, int lane) {
    float sum = 0.f;
    int first = 31;
#pragma unroll 4
    for (int other = 31; other >= 0; --other) {
        const float others = __shfl_sync(~0u, pending.sum, other);
        if (__shfl_sync(~0u, pending.entry, other) == pending.entry) sum += others, first = other;
    }
    if (first == lane) entries[pending.entry] += sum;
    __syncwarp();
}
__device__ __forceinline__ void add_later(float* entries, Pending& pending, int entry, float value, int lane) {
    if (__any_sync(~0u, entry != pending.entry)) {
        add_to_entries(entries, pending, lane);
        pending = {entry, 0.f};
    }
    pending.sum += value;
}
