// Matrix fragments of one warp. A is 16 x 16 (rows x depth), B is 16 x 16 (columns x depth), the accumulator two 16 x 8 tiles:
// lane l holds rows l / 4 and l / 4 + 8, columns 2 * (l % 4) and the next one. The tensor cores' k index c and c + 4 stand
// for depths 2 c and 2 c + 1 in A and B alike, so that neighbours in memory are neighbours in a lane.
struct FragmentA { float r[8]; };
struct FragmentB { float r[8]; };

// A from a tile stored by rows: tile[row + 0..16][depth + 0..16].
template <int ROW_BYTES>
__device__ __forceinline__ void load_a(FragmentA& a, u32 tile, int row, int depth) {
    const int lane = threadIdx.x % 32;
    const u32 address = tile + (row + lane / 4) * ROW_BYTES + (depth + lane % 4 * 2) * 4;
#pragma unroll
    for (int step = 0; step < 2; ++step) {
        const float2 top = load_shared_floats(address + step * 32), bottom = load_shared_floats(address + 8 * ROW_BYTES + step * 32);
        a.r[4 * step] = top.x, a.r[4 * step + 1] = bottom.x, a.r[4 * step + 2] = top.y, a.r[4 * step + 3] = bottom.y;
    }
}
// B from a tile stored by columns: tile[column + 0..16][depth + 0..16].
template <int ROW_BYTES>
__device__ __forceinline__ void load_b(FragmentB& b, u32 tile, int column, int depth) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        const float2 pair = load_shared_floats(tile + (column + part / 2 * 8 + lane / 4) * ROW_BYTES + (depth + part % 2 * 8 + lane % 4 * 2) * 4);
        b.r[2 * part] = pair.x, b.r[2 * part + 1] = pair.y;
    }
}
// B from a tile stored by depth: tile[depth + 0..16][column + 0..16].
template <int ROW_BYTES>
__device__ __forceinline__ void load_b_transposed(FragmentB& b, u32 tile, int depth, int column) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int part = 0; part < 4; ++part) {
        const u32 address = tile + (depth + part % 2 * 8 + lane % 4 * 2) * ROW_BYTES + (column + part / 2 * 8 + lane / 4) * 4;
        b.r[2 * part] = load_shared_float(address), b.r[2 * part + 1] = load_shared_float(address + ROW_BYTES);
    }
}
__device__ __forceinline__ u32 round_tf32(float x) {
    u32 y;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ void multiply_add_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// c (16 x 16) += A B, each factor split into two tf32 parts: the three products that matter give f32 accuracy.
__device__ __forceinline__ void multiply_add(float (&left)[4], float (&right)[4], const FragmentA& a, const FragmentB& b) {
#pragma unroll
    for (int step = 0; step < 2; ++step) {
        u32 a_high[4], a_low[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            a_high[i] = round_tf32(a.r[4 * step + i]);
            a_low[i] = round_tf32(a.r[4 * step + i] - __int_as_float(a_high[i]));
        }
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            u32 b_high[2], b_low[2];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float value = b.r[4 * half + 2 * step + i];
                b_high[i] = round_tf32(value);
                b_low[i] = round_tf32(value - __int_as_float(b_high[i]));
            }
            float (&c)[4] = half == 0 ? left : right;
            //% if keys_first
            // keys are A here and B elsewhere: sums must have the same order, and so the same bits
            multiply_add_tf32(c, a_high, b_low[0], b_low[1]);
            multiply_add_tf32(c, a_low, b_high[0], b_high[1]);
            //% else
            multiply_add_tf32(c, a_low, b_high[0], b_high[1]);
            multiply_add_tf32(c, a_high, b_low[0], b_low[1]);
            //% endif
            multiply_add_tf32(c, a_high, b_high[0], b_high[1]);
        }
    }
}
// c (16 x 16) = A B
__device__ __forceinline__ void multiply(float (&left)[4], float (&right)[4], const FragmentA& a, const FragmentB& b) {
#pragma unroll
    for (int i = 0; i < 4; ++i) left[i] = right[i] = 0.f;
    multiply_add(left, right, a, b);
}
// Two 16 x 8 accumulator tiles as the A of the next product.
__device__ __forceinline__ FragmentA as_a(const float (&left)[4], const float (&right)[4]) {
    return {{left[0], left[2], left[1], left[3], right[0], right[2], right[1], right[3]}};
}
//% if needs.depth_fragments
// Two 16 x 8 accumulator tiles, transposed, as the B of a product whose depth is their columns.
__device__ __forceinline__ FragmentB as_b(const float (&left)[4], const float (&right)[4]) {
    return {{left[0], left[1], right[0], right[1], left[2], left[3], right[2], right[3]}};
}
// A whose rows are the columns of B.
__device__ __forceinline__ FragmentA transposed(const FragmentB& b) {
    return {{b.r[0], b.r[4], b.r[1], b.r[5], b.r[2], b.r[6], b.r[3], b.r[7]}};
}
// Multiplies the depths 2 (l % 4) and the next one (low), and those 8 behind them (high).
__device__ __forceinline__ void scale_depth(FragmentA& a, float2 low, float2 high) {
    a.r[0] *= low.x, a.r[1] *= low.x, a.r[2] *= low.y, a.r[3] *= low.y;
    a.r[4] *= high.x, a.r[5] *= high.x, a.r[6] *= high.y, a.r[7] *= high.y;
}
// Equal rows, and equal columns.
__device__ __forceinline__ FragmentA a_of_depth(float2 low, float2 high) {
    return {{low.x, low.x, low.y, low.y, high.x, high.x, high.y, high.y}};
}
__device__ __forceinline__ FragmentB b_of_depth(float2 low, float2 high) {
    return {{low.x, low.y, high.x, high.y, low.x, low.y, high.x, high.y}};
}
//% endif
// Two neighbouring elements of an output row.
__device__ __forceinline__ void store_shared_pair(u32 address, float low, float high) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(address), "f"(low), "f"(high) : "memory");
}
