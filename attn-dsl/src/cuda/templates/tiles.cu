// A row of a tile in shared memory: 16 bytes of padding keep matrix loads free of bank conflicts.
constexpr int row_bytes(int head_dim) { return padded(head_dim) * (int)sizeof(element) + 16; }

// Starts copying rows [begin, begin + ROWS) to a tile; rows from `end` on and columns from HEAD_DIM on become zero.
template <int ROWS, int HEAD_DIM>
__device__ __forceinline__ void load_tile(u32 tile, const element* rows, i64 row_stride, int begin, int end) {
    constexpr int CHUNKS = padded(HEAD_DIM) / CHUNK;
    if constexpr (HEAD_DIM % 16 == 0 && THREADS % CHUNKS == 0 && ROWS * CHUNKS % THREADS == 0) {
        constexpr int STEP = THREADS / CHUNKS;   // rows that all threads copy at once
        if (begin + ROWS <= end) {
            const int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
            const u32 to = tile + row * row_bytes(HEAD_DIM) + chunk * 16;
            const element* from = rows + (begin + row) * row_stride + chunk * CHUNK;
            const i64 step = STEP * row_stride;
#pragma unroll
            for (int i = 0; i < ROWS / STEP; ++i, from += step) copy_async_16(to + i * STEP * row_bytes(HEAD_DIM), from);
            return;
        }
    }
#pragma unroll 1
    for (int index = threadIdx.x; index < ROWS * CHUNKS; index += THREADS) {
        const int row = index / CHUNKS, chunk = index % CHUNKS;
        const bool valid = begin + row < end && chunk * CHUNK < HEAD_DIM;
        copy_async_16(tile + row * row_bytes(HEAD_DIM) + chunk * 16, rows + (valid ? (begin + row) * row_stride + chunk * CHUNK : 0), valid);
    }
}

// Writes a warp's accumulators through its own part of shared memory, so that global stores are 16 bytes wide.
// `tile` is the warp's first row; the warp alone touches @{ "its columns of these rows" if column_warps > 1 else "these rows" }.
template <int ROW_TILES, int HEAD_DIM>
__device__ __forceinline__ void store_rows(u32 tile, const float (&values)[ROW_TILES][padded(HEAD_DIM) / 8@{ " / COLUMN_WARPS" if column_warps > 1 else "" }][4], element* rows, i64 row_stride, int begin, int end) {
    const int lane = threadIdx.x % 32;
    //% if column_warps > 1
    constexpr int COLUMNS = padded(HEAD_DIM) / COLUMN_WARPS;
    const int first_column = threadIdx.x / 32 % COLUMN_WARPS * COLUMNS;
    //% else
    constexpr int COLUMNS = padded(HEAD_DIM), first_column = 0;
    //% endif
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int n = 0; n < COLUMNS / 8; ++n) {
            const u32 address = tile + (m * 16 + lane / 4) * row_bytes(HEAD_DIM) + (first_column + n * 8 + lane % 4 * 2) * (int)sizeof(element);
            store_shared_pair(address, values[m][n][0], values[m][n][1]);
            store_shared_pair(address + 8 * row_bytes(HEAD_DIM), values[m][n][2], values[m][n][3]);
        }
    __syncwarp();
    constexpr int CHUNKS = COLUMNS / CHUNK;
#pragma unroll
    for (int index = lane; index < ROW_TILES * 16 * CHUNKS; index += 32) {
        const int row = index / CHUNKS, column = first_column + index % CHUNKS * CHUNK;
        if (begin + row < end && column < HEAD_DIM) *(uint4*)(rows + (begin + row) * row_stride + column) = load_shared_16(tile + row * row_bytes(HEAD_DIM) + column * (int)sizeof(element));
    }
}

// acc = A B^T over the head dimension, A and B tiles stored by rows: scores, or dO V^T.
template <int HEAD_DIM, int ROW_TILES, int COLUMN_TILES>
__device__ __forceinline__ void multiply_rows(float (&acc)[ROW_TILES][COLUMN_TILES][4], u32 a_tile, u32 b_tile) {
#pragma unroll
    for (int depth = 0; depth < padded(HEAD_DIM); depth += 16) {
        FragmentA a[ROW_TILES];
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) load_a<row_bytes(HEAD_DIM)>(a[m], a_tile, m * 16, depth);
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; n += 2) {
            FragmentB b;
            load_b<row_bytes(HEAD_DIM)>(b, b_tile, n * 8, depth);
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
                if (depth == 0) multiply(acc[m][n], acc[m][n + 1], a[m], b);
                else multiply_add(acc[m][n], acc[m][n + 1], a[m], b);
        }
    }
}

//% if q_in_registers
// The same with A already in fragments.
template <int HEAD_DIM, int ROW_TILES, int COLUMN_TILES>
__device__ __forceinline__ void multiply_rows(float (&acc)[ROW_TILES][COLUMN_TILES][4], const FragmentA (&a)[ROW_TILES][padded(HEAD_DIM) / 16], u32 b_tile) {
#pragma unroll
    for (int k = 0; k < padded(HEAD_DIM) / 16; ++k)
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; n += 2) {
            FragmentB b;
            load_b<row_bytes(HEAD_DIM)>(b, b_tile, n * 8, 16 * k);
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
                if (k == 0) multiply(acc[m][n], acc[m][n + 1], a[m][k], b);
                else multiply_add(acc[m][n], acc[m][n + 1], a[m][k], b);
        }
}
//% endif

//% if column_warps > 1
// acc += A B for 16 rows of B's depth, for this warp's columns of B.
template <int HEAD_DIM, int ROW_TILES>
__device__ __forceinline__ void multiply_columns(float (&acc)[ROW_TILES][padded(HEAD_DIM) / 8 / COLUMN_WARPS][4], const FragmentA (&a)[ROW_TILES], u32 b_tile) {
#pragma unroll
    for (int n = 0; n < padded(HEAD_DIM) / 8 / COLUMN_WARPS; n += 2) {
        FragmentB b;
        load_b_transposed<row_bytes(HEAD_DIM)>(b, b_tile, 0, n * 8);
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) multiply_add(acc[m][n], acc[m][n + 1], a[m], b);
    }
}

//% endif
// acc += W B, W the accumulators of the last product, B a tile stored by depth: P V, dS K, and so on.
template <int HEAD_DIM, int ROW_TILES, int DEPTH_TILES>
__device__ __forceinline__ void multiply_weights(float (&acc)[ROW_TILES][padded(HEAD_DIM) / 8][4], const float (&weights)[ROW_TILES][DEPTH_TILES][4], u32 b_tile) {
#pragma unroll
    for (int k = 0; k < DEPTH_TILES; k += 2) {
        FragmentA a[ROW_TILES];
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m) a[m] = as_a(weights[m][k], weights[m][k + 1]);
#pragma unroll
        for (int n = 0; n < padded(HEAD_DIM) / 8; n += 2) {
            FragmentB b;
            load_b_transposed<row_bytes(HEAD_DIM)>(b, b_tile, k * 8, n * 8);
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m) multiply_add(acc[m][n], acc[m][n + 1], a[m], b);
        }
    }
}

template <int ROW_TILES, int COLUMN_TILES>
__device__ __forceinline__ void clear(float (&acc)[ROW_TILES][COLUMN_TILES][4]) {
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int n = 0; n < COLUMN_TILES; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) acc[m][n][e] = 0.f;
}

//% if needs.Partial
struct Full { static constexpr bool partial = false; };
struct Partial { static constexpr bool partial = true; };
//% endif
