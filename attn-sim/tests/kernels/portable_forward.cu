// Generated: attn emit softmax --mask causal --pass forward --dtype bf16 --head-dim 64, kernel attn_forward.
// 128 threads, 59392 bytes of dynamic shared memory.
// Softmax, bf16 d64, sm_90a: forward, portable schedule, tile 128 queries x 64 keys, 4 warps of 2 x 16 rows, 2 stages, 58 KiB of shared memory, 2 blocks a multiprocessor. Written by attn from:
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
__device__ __forceinline__ float log2_approx(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ uint4 load_shared_16(u32 address) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "r"(address) : "memory");
    return value;
}

// The four lanes of a quad hold the columns of one row.
__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
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
constexpr int BLOCK_Q = 128, BLOCK_KV = 64, STAGES = 2;
constexpr int WARPS = 4, THREADS = 32 * WARPS, ROW_TILES = 2;
constexpr int Q_TILE_BYTES = BLOCK_Q * 144, DO_TILE_BYTES = BLOCK_Q * 144;
constexpr int K_TILE_BYTES = BLOCK_KV * 144, V_TILE_BYTES = BLOCK_KV * 144;

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


// A range of positions along one axis: live ones lie in [begin, end), all in [full_begin, full_end) are live.
struct Range { int begin, end, full_begin, full_end; };

// ---------------------------------------------------------------- variant
struct Arguments {
    Tensor q, k, v, o;
    float* statistic;
    int heads;
    int group   /* query heads that share a head of k and v */;
    int q_len;
    int kv_len;
    float scale;
};
struct Tile {
    float exponent_scale;   // scale * 1.4426950408889634
    int kv_len;   // kv_len
    int q_len;   // q_len
    int kv_len_term;   // kv_len - q_len
};
struct Query {
    int position_term;   // q + kv_len - q_len
};
struct Key {
    int position;   // kv
};

__device__ __forceinline__ Tile load_tile_values(const Arguments& arguments, int batch, int head) {
    return {arguments.scale * 1.442695f, arguments.kv_len, arguments.q_len, arguments.kv_len - arguments.q_len};
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
    return {q + tile.kv_len - tile.q_len};
}
__device__ __forceinline__ Key load_key(const Arguments& arguments, const Tile& tile, int kv, float kv_as_float) {
    return {kv};
}
__device__ __forceinline__ bool is_live(const Tile& tile, const Query& query, const Key& key) {
    return key.position <= query.position_term;
}
__device__ __forceinline__ float normalizer(const Tile& tile, const Query& query, float sum, float shift) {
    return sum;
}

// ---------------------------------------------------------------- kernel
extern "C" __global__ void __launch_bounds__(THREADS, 2)
attn_forward(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    const u32 q_tile = shared_address(shared), k_ring = q_tile + Q_TILE_BYTES, v_ring = k_ring + STAGES * K_TILE_BYTES;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    // under a causal mask the last queries see the most keys: they go first
    const int q_begin = (gridDim.x - 1 - blockIdx.x) * BLOCK_Q;
    const int head = blockIdx.y, batch = blockIdx.z, kv_head = head / arguments.group;
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    const Tile tile = load_tile_values(arguments, batch, head);
    const Range range = live_keys_of(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len));
    const int first = range.begin / BLOCK_KV, last = (range.end + BLOCK_KV - 1) / BLOCK_KV;   // tiles of keys

    auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };

    const element* k_rows = rows_of(arguments.k, batch, kv_head);
    const element* v_rows = rows_of(arguments.v, batch, kv_head);
    auto start_loads = [&](int kv_tile, int stage) {
        load_tile<BLOCK_KV, HEAD_DIM>(k_ring + stage * K_TILE_BYTES, k_rows, arguments.k.row, kv_tile * BLOCK_KV, kv_len);
        load_tile<BLOCK_KV, VALUE_DIM>(v_ring + stage * V_TILE_BYTES, v_rows, arguments.v.row, kv_tile * BLOCK_KV, kv_len);
        copy_async_commit();
    };
    load_tile<BLOCK_Q, HEAD_DIM>(q_tile, rows_of(arguments.q, batch, head), arguments.q.row, q_begin, q_len);
    if (first < last) start_loads(first, 0);

    // this thread's rows: q_begin + first_row + 16 m + 8 r
    const int first_row = warp * ROW_TILES * 16 + lane / 4;
    Query query[ROW_TILES][2];
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) query[m][r] = query_at(q_begin + first_row + 16 * m + 8 * r);

    FragmentA q_fragments[ROW_TILES][padded(HEAD_DIM) / 16];
    float o[ROW_TILES][padded(VALUE_DIM) / 8][4];
    clear(o);
    float row_max[ROW_TILES][2];   // of the raw products
    float row_sum[ROW_TILES][2];
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            row_max[m][r] = -INFINITY;
            row_sum[m][r] = 0.f;
        }

    for (int kv_tile = first; kv_tile < last; ++kv_tile) {
        const int stage = (kv_tile - first) % STAGES;
        copy_async_wait<0>();
        __syncthreads();   // this tile is there, and every warp has used the one before
        if (kv_tile + 1 < last) start_loads(kv_tile + 1, stage ^ 1);

        if (kv_tile == first) {
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int k = 0; k < padded(HEAD_DIM) / 16; ++k) load_a<row_bytes(HEAD_DIM)>(q_fragments[m][k], q_tile, (warp * ROW_TILES + m) * 16, 16 * k);
        }
        float s[ROW_TILES][BLOCK_KV / 8][4];
        multiply_rows<HEAD_DIM>(s, q_fragments, k_ring + stage * K_TILE_BYTES);

        const int first_kv = kv_tile * BLOCK_KV + lane % 4 * 2;   // this thread's columns: first_kv + 8 n + c
        const float first_kv_as_float = first_kv;
        if (kv_tile * BLOCK_KV < range.full_begin || (kv_tile + 1) * BLOCK_KV > range.full_end)   // some pairs of this tile are not live
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                const Key key[2] = {load_key(arguments, tile, first_kv + 8 * n, first_kv_as_float + (8 * n)), load_key(arguments, tile, first_kv + 8 * n + 1, first_kv_as_float + (8 * n + 1))};
#pragma unroll
                for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        if (!(first_kv + 8 * n + e % 2 < kv_len && is_live(tile, query[m][e / 2], key[e % 2]))) s[m][n][e] = -INFINITY;
            }

        float new_max[ROW_TILES][2];
        bool rises = false;
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                new_max[m][r] = row_max[m][r];
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n) new_max[m][r] = fmaxf(new_max[m][r], fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
                new_max[m][r] = quad_max(new_max[m][r]);
                rises |= new_max[m][r] > row_max[m][r];
            }
        if (__any_sync(~0u, rises))   // rare after the first tiles
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    const float rescale = row_max[m][r] == new_max[m][r] ? 1.f : exp2_approx((row_max[m][r] - new_max[m][r]) * tile.exponent_scale);
                    row_max[m][r] = new_max[m][r];
                    row_sum[m][r] *= rescale;
#pragma unroll
                    for (int n = 0; n < padded(VALUE_DIM) / 8; ++n) o[m][n][2 * r] *= rescale, o[m][n][2 * r + 1] *= rescale;
                }
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                // a row that has met no live key yet keeps minus infinity, and must not compute inf - inf
                const float shift = row_max[m][r] == -INFINITY ? 0.f : row_max[m][r] * tile.exponent_scale;
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n)
#pragma unroll
                    for (int c = 2 * r; c < 2 * r + 2; ++c) {
                        s[m][n][c] = exp2_approx(fmaf(s[m][n][c], tile.exponent_scale, -shift));
                        row_sum[m][r] += s[m][n][c];
                    }
            }

        multiply_weights<VALUE_DIM>(o, s, v_ring + stage * V_TILE_BYTES);
    }

    // ---------------------------------------------------------------- epilogue
    copy_async_wait_all();   // of a block without live tiles, too
    __syncthreads();         // shared memory is free for the output
    element* o_rows = rows_of(arguments.o, batch, head);
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int q = q_begin + first_row + 16 * m + 8 * r;
            const float sum = quad_sum(row_sum[m][r]);
            const float shift = row_max[m][r] == -INFINITY ? 0.f : row_max[m][r] * tile.exponent_scale;
            const float z = normalizer(tile, query[m][r], sum, shift);
            const float inverse = z == 0.f ? 0.f : 1.f / z;
#pragma unroll
            for (int n = 0; n < padded(VALUE_DIM) / 8; ++n) o[m][n][2 * r] *= inverse, o[m][n][2 * r + 1] *= inverse;
            if (lane % 4 == 0 && q < q_len) {
                const i64 row = ((i64)batch * gridDim.y + head) * q_len + q;
                arguments.statistic[row] = LN2 * (shift + log2_approx(z));
            }
        }
    store_rows<ROW_TILES, VALUE_DIM>(q_tile + warp * ROW_TILES * 16 * row_bytes(VALUE_DIM), o, o_rows, arguments.o.row, q_begin + warp * ROW_TILES * 16, q_len);
}
