//% if exponents
// The largest of a chunk's numbers, in every lane.
__device__ __forceinline__ float chunk_maximum(const float (&numbers)[BLOCK]) {
    float largest = -INFINITY;
#pragma unroll
    for (int at = threadIdx.x % 32; at < BLOCK; at += 32) largest = fmaxf(largest, numbers[at]);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, distance));
    return largest;
}
//% endif

constexpr int AB_TILES = padded(AB_DIM) / 8, B_SUM_PAIRS = (AB_TILES / 2 + WARPS - 1) / WARPS;
constexpr int AB_BYTES = BLOCK * row_bytes(AB_DIM), C_BYTES = BLOCK * row_bytes(C_DIM), WEIGHT_BYTES = BLOCK * row_bytes(BLOCK);
// A state in memory: the accumulators of every warp and lane side by side, then a vector.
constexpr int STATE_FLOATS = padded(AB_DIM) * padded(C_DIM), SLOT_FLOATS = STATE_FLOATS@{ " + padded(AB_DIM)" if b_vector else " + padded(C_DIM)" if c_vector else "" };
//% if values

// What the rows and columns of a chunk are scaled with.
struct ChunkValues {
    float @{ values | join(", ") };
};
//% endif

