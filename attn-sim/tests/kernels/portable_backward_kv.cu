// Generated: attn emit softmax --mask causal --pass backward --dtype bf16 --head-dim 64, kernel attn_backward_kv.
// 128 threads, 57344 bytes of dynamic shared memory.
// Softmax, bf16 d64, sm_90a: dk and dv, portable schedule, tile 32 queries x 128 keys, 4 warps of 2 x 16 rows, 2 stages, 56 KiB of shared memory, 2 blocks a multiprocessor. Written by attn from:
// 
//     /// `O = sum_j exp(s_j) v_j / sum_j exp(s_j)` (Vaswani et al., Attention Is All You Need, 2017).
//     pub struct Softmax {
//         score: |s| s,
//         activation: exp,
//         normalizer: softmax,
//         mask: causal,
//     }
// 
// Per batch and head, s_ij = score(scale * q_i . k_j), w_ij = activation(s_ij) and 0 where masked,
// z_i = normalizer(reductions of w_i), O_i = sum_j w_ij / z_i v_j.
// Class: shifted exponential. Weights are 2^(t - m), m the running maximum of t = log2(e) s, so that nothing overflows.
// ---------------------------------------------------------------- primitives
typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
typedef u16 element;   // the bits of a bf16

constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;
#define INFINITY __int_as_float(0x7f800000)

__device__ __forceinline__ u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// Copies 16 bytes from global to shared memory without waiting.
__device__ __forceinline__ void copy_async_16(u32 to, const void* from) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}
// The same, or clears them where `valid` is false.
__device__ __forceinline__ void copy_async_16(u32 to, const void* from, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void copy_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }

// Waits for all copies of this thread, whether committed or not.
__device__ __forceinline__ void copy_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ void store_shared(u32 address, float value) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory"); }
__device__ __forceinline__ void store_shared(u32 address, int value) { asm volatile("st.shared.s32 [%0], %1;" ::"r"(address), "r"(value) : "memory"); }
__device__ __forceinline__ float2 load_shared_floats(u32 address) {
    float2 pair;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(address) : "memory");
    return pair;
}
__device__ __forceinline__ int2 load_shared_ints(u32 address) {
    int2 pair;
    asm volatile("ld.shared.v2.s32 {%0, %1}, [%2];" : "=r"(pair.x), "=r"(pair.y) : "r"(address) : "memory");
    return pair;
}
__device__ __forceinline__ uint4 load_shared_16(u32 address) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "r"(address) : "memory");
    return value;
}


// Matrix fragments of one warp. A is 16 x 16 (rows x depth), B is 16 x 16 (columns x depth), the accumulator two 16 x 8 tiles:
// lane l holds rows l / 4 and l / 4 + 8, columns 2 * (l % 4) and the next one.
struct FragmentA { u32 r[4]; };
struct FragmentB { u32 r[4]; };

__device__ __forceinline__ void load_matrix_x4(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
__device__ __forceinline__ void load_matrix_x4_transposed(u32 (&r)[4], u32 address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(address) : "memory");
}
// A from a tile stored by rows: tile[row + 0..16][depth + 0..16].
template <int ROW_BYTES>
__device__ __forceinline__ void load_a(FragmentA& a, u32 tile, int row, int depth) {
    const int lane = threadIdx.x % 32;
    load_matrix_x4(a.r, tile + (lane % 16) * ROW_BYTES + lane / 16 * 16 + row * ROW_BYTES + depth * 2);
}
// B from a tile stored by columns: tile[column + 0..16][depth + 0..16].
template <int ROW_BYTES>
__device__ __forceinline__ void load_b(FragmentB& b, u32 tile, int column, int depth) {
    const int lane = threadIdx.x % 32;
    load_matrix_x4(b.r, tile + (lane % 8 + lane / 16 * 8) * ROW_BYTES + lane / 8 % 2 * 16 + column * ROW_BYTES + depth * 2);
}
// B from a tile stored by depth: tile[depth + 0..16][column + 0..16].
template <int ROW_BYTES>
__device__ __forceinline__ void load_b_transposed(FragmentB& b, u32 tile, int depth, int column) {
    const int lane = threadIdx.x % 32;
    load_matrix_x4_transposed(b.r, tile + (lane % 16) * ROW_BYTES + lane / 16 * 16 + depth * ROW_BYTES + column * 2);
}
__device__ __forceinline__ void multiply_add(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
        : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.f));
}
// c (16 x 16) = A B
__device__ __forceinline__ void multiply(float (&left)[4], float (&right)[4], const FragmentA& a, const FragmentB& b) {
    multiply(left, a.r, b.r[0], b.r[1]);
    multiply(right, a.r, b.r[2], b.r[3]);
}
// c (16 x 16) += A B
__device__ __forceinline__ void multiply_add(float (&left)[4], float (&right)[4], const FragmentA& a, const FragmentB& b) {
    multiply_add(left, a.r, b.r[0], b.r[1]);
    multiply_add(right, a.r, b.r[2], b.r[3]);
}
__device__ __forceinline__ u32 pack(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
// Two 16 x 8 accumulator tiles as the A of the next product.
__device__ __forceinline__ FragmentA as_a(const float (&left)[4], const float (&right)[4]) {
    return {{pack(left[0], left[1]), pack(left[2], left[3]), pack(right[0], right[1]), pack(right[2], right[3])}};
}
// Two neighbouring elements of an output row.
__device__ __forceinline__ void store_shared_pair(u32 address, float low, float high) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(pack(low, high)) : "memory");
}


// ---------------------------------------------------------------- shape
constexpr int HEAD_DIM = 64, VALUE_DIM = 64;
constexpr int BLOCK_Q = 32, BLOCK_KV = 128, STAGES = 2;
constexpr int WARPS = 4, THREADS = 32 * WARPS, ROW_TILES = 2;
constexpr int Q_TILE_BYTES = BLOCK_Q * 144, DO_TILE_BYTES = BLOCK_Q * 144;
constexpr int K_TILE_BYTES = BLOCK_KV * 144, V_TILE_BYTES = BLOCK_KV * 144;
constexpr int WARP_COLUMNS = BLOCK_Q;
constexpr int QUERY_RING_BYTES = BLOCK_Q * 12;

// ---------------------------------------------------------------- tensors and tiles
// A tensor [batch, head, row, column] whose columns are contiguous; strides in elements.
struct Tensor {
    element* data;
    i64 batch, head, row;
};
__device__ __forceinline__ element* rows_of(const Tensor& tensor, int batch, int head) { return tensor.data + batch * tensor.batch + head * tensor.head; }

constexpr int CHUNK = 16 / sizeof(element);   // elements of one 16 byte copy
constexpr int padded(int head_dim) { return (head_dim + 15) / 16 * 16; }

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
// `tile` is the warp's first row; the warp alone touches these rows.
template <int ROW_TILES, int HEAD_DIM>
__device__ __forceinline__ void store_rows(u32 tile, const float (&values)[ROW_TILES][padded(HEAD_DIM) / 8][4], element* rows, i64 row_stride, int begin, int end) {
    const int lane = threadIdx.x % 32;
    constexpr int COLUMNS = padded(HEAD_DIM), first_column = 0;
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

struct Full { static constexpr bool partial = false; };
struct Partial { static constexpr bool partial = true; };

// A range of positions along one axis: live ones lie in [begin, end), all in [full_begin, full_end) are live.
struct Range { int begin, end, full_begin, full_end; };

// ---------------------------------------------------------------- variant
struct Arguments {
    Tensor q, k, v, output_grad, k_grad, v_grad;
    float* statistic;
    float* delta;
    int heads;
    int group   /* query heads that share a head of k and v */;
    int q_len;
    int kv_len;
    float scale;
};
struct Tile {
    float scale_log2;   // scale * 1.4426950408889634
    float scale;   // scale
    int kv_len;   // kv_len
    int q_len;   // q_len
    int kv_len_term;   // kv_len - q_len
    int batch;   // b
    int head;   // h
};
struct Query {
    float statistic_log2;   // statistic * 1.4426950408889634
    float delta;   // delta
    int position_term;   // q + kv_len - q_len
};
struct Key {
    int position;   // kv
};

__device__ __forceinline__ Tile load_tile_values(const Arguments& arguments, int batch, int head) {
    return {arguments.scale * 1.442695f, arguments.scale, arguments.kv_len, arguments.q_len, arguments.kv_len - arguments.q_len, batch, head};
}
__device__ __forceinline__ Range live_keys_of(const Arguments& arguments, const Tile& tile, int q_begin, int q_end) {
    Range range = {0, arguments.kv_len, 0, arguments.kv_len};
    range.end = min(range.end, tile.kv_len_term + (q_end - 1) + 1);
    range.full_end = min(range.full_end, tile.kv_len_term + q_begin + 1);
    return range;
}
__device__ __forceinline__ Range live_queries_of(const Arguments& arguments, const Tile& tile, int kv_begin, int kv_end) {
    Range range = {0, arguments.q_len, 0, arguments.q_len};
    range.begin = max(range.begin, -(tile.kv_len_term - kv_begin));
    range.full_begin = max(range.full_begin, -(tile.kv_len_term - (kv_end - 1)));
    return range;
}
__device__ __forceinline__ Query load_query(const Arguments& arguments, const Tile& tile, int q, float q_as_float) {
    const i64 row = ((i64)tile.batch * arguments.heads + tile.head) * arguments.q_len + q;
    return {arguments.statistic[row] * 1.442695f, arguments.delta[row], q + tile.kv_len - tile.q_len};
}
__device__ __forceinline__ Key load_key(const Arguments& arguments, const Tile& tile, int kv, float kv_as_float) {
    return {kv};
}
__device__ __forceinline__ bool is_live(const Tile& tile, const Query& query, const Key& key) {
    return key.position <= query.position_term;
}
struct Pair { float probability, product_grad; };
__device__ __forceinline__ Pair backward_pair(float product, float output_grad_product, const Tile& tile, const Query& query, const Key& key) {
    const float t0 = exp2_approx(product * tile.scale_log2 - query.statistic_log2);
    return {t0, (output_grad_product - query.delta) * t0};
}
__device__ __forceinline__ float product_grad_scale(const Tile& tile) {
    return tile.scale;
}
__device__ __forceinline__ void store_query(u32 ring, int column, const Query& value) {
    store_shared(ring + (0 * BLOCK_Q + column) * 4, value.statistic_log2);
    store_shared(ring + (1 * BLOCK_Q + column) * 4, value.delta);
    store_shared(ring + (2 * BLOCK_Q + column) * 4, value.position_term);
}
__device__ __forceinline__ void load_queries(Query (&values)[2], u32 ring, int column) {
    const float2 pair0 = load_shared_floats(ring + (0 * BLOCK_Q + column) * 4);
    values[0].statistic_log2 = pair0.x, values[1].statistic_log2 = pair0.y;
    const float2 pair1 = load_shared_floats(ring + (1 * BLOCK_Q + column) * 4);
    values[0].delta = pair1.x, values[1].delta = pair1.y;
    const int2 pair2 = load_shared_ints(ring + (2 * BLOCK_Q + column) * 4);
    values[0].position_term = pair2.x, values[1].position_term = pair2.y;
}

// ---------------------------------------------------------------- kernel
extern "C" __global__ void __launch_bounds__(THREADS, 2)
attn_backward_kv(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    const u32 k_tile = shared_address(shared), v_tile = k_tile + K_TILE_BYTES;
    const u32 q_ring = v_tile + V_TILE_BYTES, do_ring = q_ring + STAGES * Q_TILE_BYTES;
    const u32 query_ring = do_ring + STAGES * DO_TILE_BYTES;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    const int kv_begin = blockIdx.x * BLOCK_KV, kv_head = blockIdx.y, batch = blockIdx.z;
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    load_tile<BLOCK_KV, HEAD_DIM>(k_tile, rows_of(arguments.k, batch, kv_head), arguments.k.row, kv_begin, kv_len);
    load_tile<BLOCK_KV, VALUE_DIM>(v_tile, rows_of(arguments.v, batch, kv_head), arguments.v.row, kv_begin, kv_len);

    // this thread's rows of the transposed scores: keys kv_begin + first_row + 16 m + 8 r
    const int first_row = warp * ROW_TILES * 16 + lane / 4;
    float dv[ROW_TILES][padded(VALUE_DIM) / 8][4];
    clear(dv);
    float dk[ROW_TILES][padded(HEAD_DIM) / 8][4];
    clear(dk);
    for (int head = kv_head * arguments.group; head < (kv_head + 1) * arguments.group; ++head) {
        const Tile tile = load_tile_values(arguments, batch, head);
        const Range range = live_queries_of(arguments, tile, kv_begin, min(kv_begin + BLOCK_KV, kv_len));
        const int first = range.begin / BLOCK_Q, last = (range.end + BLOCK_Q - 1) / BLOCK_Q;   // tiles of queries
        // positions past the end read what the last one has; nothing of theirs is used
        auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };
        const element* q_rows = rows_of(arguments.q, batch, head);
        const element* do_rows = rows_of(arguments.output_grad, batch, head);
        auto start_loads = [&](int q_tile, int stage) {
            load_tile<BLOCK_Q, HEAD_DIM>(q_ring + stage * Q_TILE_BYTES, q_rows, arguments.q.row, q_tile * BLOCK_Q, q_len);
            load_tile<BLOCK_Q, VALUE_DIM>(do_ring + stage * DO_TILE_BYTES, do_rows, arguments.output_grad.row, q_tile * BLOCK_Q, q_len);
            copy_async_commit();
        };
        __syncthreads();   // every warp has used the last head's tiles
        if (first < last) start_loads(first, 0);
        if (first < last && threadIdx.x < BLOCK_Q) store_query(query_ring, threadIdx.x, query_at(first * BLOCK_Q + (int)threadIdx.x));
        Key key[ROW_TILES][2];
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int kv = min(kv_begin + first_row + 16 * m + 8 * r, kv_len - 1);
                key[m][r] = load_key(arguments, tile, kv, (float)kv);
            }

        for (int q_tile = first; q_tile < last; ++q_tile) {
            const int stage = (q_tile - first) % STAGES;
            copy_async_wait<0>();
            __syncthreads();   // this tile is there, and every warp has used the one before
            if (q_tile + 1 < last) start_loads(q_tile + 1, stage ^ 1);
            Query next_query;
            if (threadIdx.x < BLOCK_Q) next_query = query_at((q_tile + 1) * BLOCK_Q + (int)threadIdx.x);

            float s[ROW_TILES][WARP_COLUMNS / 8][4];
                multiply_rows<HEAD_DIM>(s, k_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), q_ring + stage * Q_TILE_BYTES);
            float dp[ROW_TILES][WARP_COLUMNS / 8][4];
                multiply_rows<VALUE_DIM>(dp, v_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), do_ring + stage * DO_TILE_BYTES);

            // s becomes the probabilities, dp the gradient of the products
            const int first_q = q_tile * BLOCK_Q + lane % 4 * 2;   // this thread's columns: first_q + 8 n + c
            auto pairs = [&](auto kind) {
#pragma unroll
                for (int n = 0; n < WARP_COLUMNS / 8; ++n) {
                    Query query[2];
                load_queries(query, query_ring + stage * QUERY_RING_BYTES, n * 8 + lane % 4 * 2);
#pragma unroll
                    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                        for (int e = 0; e < 4; ++e) {
                            const bool live = !decltype(kind)::partial || (first_q + 8 * n + e % 2 < q_len && is_live(tile, query[e % 2], key[m][e / 2]));
                            const Pair pair = backward_pair(s[m][n][e], dp[m][n][e], tile, query[e % 2], key[m][e / 2]);
                            s[m][n][e] = live ? pair.probability : 0.f;
                            dp[m][n][e] = live ? pair.product_grad : 0.f;
                        }
                }
            };
            if (q_tile * BLOCK_Q >= range.full_begin && (q_tile + 1) * BLOCK_Q <= range.full_end) pairs(Full{});
            else pairs(Partial{});

            multiply_weights<VALUE_DIM>(dv, s, do_ring + stage * DO_TILE_BYTES);
            multiply_weights<HEAD_DIM>(dk, dp, q_ring + stage * Q_TILE_BYTES);
            if (threadIdx.x < BLOCK_Q) store_query(query_ring + (stage ^ 1) * QUERY_RING_BYTES, threadIdx.x, next_query);
        }
    }

    // ---------------------------------------------------------------- epilogue
    copy_async_wait_all();   // of a block without live tiles, too
    __syncthreads();         // shared memory is free for the output
    store_rows<ROW_TILES, VALUE_DIM>(v_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), dv, rows_of(arguments.v_grad, batch, kv_head), arguments.v_grad.row, kv_begin + warp * ROW_TILES * 16, kv_len);
    const float scale = product_grad_scale(load_tile_values(arguments, batch, kv_head * arguments.group));
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int n = 0; n < padded(HEAD_DIM) / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) dk[m][n][e] *= scale;
    store_rows<ROW_TILES, HEAD_DIM>(k_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), dk, rows_of(arguments.k_grad, batch, kv_head), arguments.k_grad.row, kv_begin + warp * ROW_TILES * 16, kv_len);
}
