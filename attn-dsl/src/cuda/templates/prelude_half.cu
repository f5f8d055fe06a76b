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
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.@{ dtype }.@{ dtype }.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.@{ dtype }.@{ dtype }.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
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
// Two 16 x 8 accumulator tiles as the A of the next product.
__device__ __forceinline__ FragmentA as_a(const float (&left)[4], const float (&right)[4]) {
    return {{pack(left[0], left[1]), pack(left[2], left[3]), pack(right[0], right[1]), pack(right[2], right[3])}};
}
// Two neighbouring elements of an output row.
__device__ __forceinline__ void store_shared_pair(u32 address, float low, float high) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(pack(low, high)) : "memory");
}
//% if needs.share_fragment
// A fragment for other warps: every lane's registers side by side.
__device__ __forceinline__ void share_fragment(u32 address, const FragmentA& a) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(address + threadIdx.x % 32 * 16), "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]) : "memory");
}
__device__ __forceinline__ void take_fragment(FragmentA& a, u32 address) {
    const uint4 value = load_shared_16(address + threadIdx.x % 32 * 16);
    a.r[0] = value.x, a.r[1] = value.y, a.r[2] = value.z, a.r[3] = value.w;
}
//% endif
//% if needs.depth_fragments
// Two 16 x 8 accumulator tiles, transposed, as the B of a product whose depth is their columns.
__device__ __forceinline__ FragmentB as_b(const float (&left)[4], const float (&right)[4]) {
    return {{pack(left[0], left[1]), pack(right[0], right[1]), pack(left[2], left[3]), pack(right[2], right[3])}};
}
// A whose rows are the columns of B.
__device__ __forceinline__ FragmentA transposed(const FragmentB& b) { return {{b.r[0], b.r[2], b.r[1], b.r[3]}}; }
// Multiplies two neighbours.
__device__ __forceinline__ u32 scale_pair(u32 pair, float2 scale) { return pack(to_float((u16)pair) * scale.x, to_float((u16)(pair >> 16)) * scale.y); }
// Multiplies the depths 2 (l % 4) and the next one (low), and those 8 behind them (high).
__device__ __forceinline__ void scale_depth(FragmentA& a, float2 low, float2 high) {
    a.r[0] = scale_pair(a.r[0], low), a.r[1] = scale_pair(a.r[1], low);
    a.r[2] = scale_pair(a.r[2], high), a.r[3] = scale_pair(a.r[3], high);
}
// Equal rows, and equal columns.
__device__ __forceinline__ FragmentA a_of_depth(float2 low, float2 high) {
    const u32 first = pack(low.x, low.y), second = pack(high.x, high.y);
    return {{first, first, second, second}};
}
__device__ __forceinline__ FragmentB b_of_depth(float2 low, float2 high) {
    const u32 first = pack(low.x, low.y), second = pack(high.x, high.y);
    return {{first, second, first, second}};
}
//% endif
