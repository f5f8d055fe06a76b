// One warp: shuffles, votes, election, conversions, exponentials, matrix loads and stores, mma.

constexpr u32 ALL = 0xffffffff;

// out[test][lane]
extern "C" __global__ void __launch_bounds__(32) shuffles(const u32* in, u32* out) {
    const u32 lane = threadIdx.x, value = in[lane];
    u32 test = 0;
    auto record = [&](u32 result) { out[test++ * 32 + lane] = result; };
    for (u32 distance = 1; distance < 32; distance *= 2) record(__shfl_xor_sync(ALL, value, distance));
    record(__shfl_sync(ALL, value, 7));
    record(__shfl_sync(ALL, value, lane + 3, 8));
    record(__shfl_up_sync(ALL, value, 3));
    record(__shfl_down_sync(ALL, value, 5, 16));
    record(__float_as_int(__shfl_xor_sync(ALL, __int_as_float(value), 2)));
    record(__any_sync(ALL, value % 64 == 1));
    record(__all_sync(ALL, value % 64 < 63));
    record(__ballot_sync(ALL, value & 1));
    record(__popc(__ballot_sync(ALL, elect_one())));
    u32 half = 0;
    if (lane < 16) half = __shfl_xor_sync(0xffff, value, 4);   // the other half does not take part
    __syncwarp();
    record(half);
}

// out: bf16 pairs, f16 pairs, tf32, of in[i] and in[i + 1]
extern "C" __global__ void conversions(const float* in, u32* out, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const float low = in[i], high = in[i + 1 < count ? i + 1 : 0];
    out[i] = pack_bf16(low, high);
    out[count + i] = pack_f16(low, high);
    out[2 * count + i] = round_tf32(low);
}

extern "C" __global__ void exponentials(const float* in, float* out, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = exp2_approx(in[i]);
}

extern "C" __global__ void logarithms(const float* in, float* out, int count) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = log2_approx(in[i]);
}

// 32 rows of 16 bytes, in an order of its own
DEVICE u32 scrambled_row(u32 tile, int lane) { return tile + (lane * 5 + 3) % 32 * 16; }

// out[register][lane]: x1, x1 transposed, x2, x2 transposed, x4, x4 transposed
extern "C" __global__ void __launch_bounds__(32) load_matrices(const uint4* in, u32* out) {
    __shared__ __align__(16) unsigned char rows[512];
    const u32 lane = threadIdx.x, tile = shared_address(rows);
    store_shared_u32x4(tile + lane * 16, in[lane]);
    __syncwarp();
    u32 one[1], two[2], four[4], index = 0;
    auto record = [&](u32 value) { out[index++ * 32 + lane] = value; };
    load_matrix_x1(one, scrambled_row(tile, lane)), record(one[0]);
    load_matrix_x1_transposed(one, scrambled_row(tile, lane)), record(one[0]);
    load_matrix_x2(two, scrambled_row(tile, lane)), record(two[0]), record(two[1]);
    load_matrix_x2_transposed(two, scrambled_row(tile, lane)), record(two[0]), record(two[1]);
    load_matrix_x4(four, scrambled_row(tile, lane)), record(four[0]), record(four[1]), record(four[2]), record(four[3]);
    load_matrix_x4_transposed(four, scrambled_row(tile, lane)), record(four[0]), record(four[1]), record(four[2]), record(four[3]);
}

// out: the 512 bytes after x1, x2, x2 transposed, x4, x4 transposed, each over zeros
extern "C" __global__ void __launch_bounds__(32) store_matrices(const u32* in, uint4* out) {
    __shared__ __align__(16) unsigned char rows[512];
    const u32 lane = threadIdx.x, tile = shared_address(rows), to = scrambled_row(tile, lane);
    const u32 one[1] = {in[lane]}, two[2] = {in[lane], in[32 + lane]}, four[4] = {in[lane], in[32 + lane], in[64 + lane], in[96 + lane]};
    auto clear = [&] {
        store_shared_u32x4(tile + lane * 16, make_uint4(0, 0, 0, 0));
        __syncwarp();
    };
    int test = 0;
    auto record = [&] {
        __syncwarp();
        out[test++ * 32 + lane] = load_shared_u32x4(tile + lane * 16);
        __syncwarp();
    };
    clear(), store_matrix_x1(to, one), record();
    clear(), store_matrix_x2(to, two), record();
    clear(), store_matrix_x2_transposed(to, two), record();
    clear(), store_matrix_x4(to, four), record();
    clear(), store_matrix_x4_transposed(to, four), record();
}

// c (16 x 8, by rows) += a (16 x 16, by rows) b (8 columns of 16), 16-bit elements
template <bool BF16> DEVICE void multiply_16(const u32* a, const u32* b, float* c) {
    const int row = threadIdx.x / 4, pair = threadIdx.x % 4;   // pairs of elements along the depth
    const u32 fragment[4] = {a[row * 8 + pair], a[(row + 8) * 8 + pair], a[row * 8 + pair + 4], a[(row + 8) * 8 + pair + 4]};
    float* const first = c + row * 8 + 2 * pair;
    float sum[4] = {first[0], first[1], first[64], first[65]};
    if (BF16) multiply_bf16(sum, fragment, b[row * 8 + pair], b[row * 8 + pair + 4]);
    else multiply_f16(sum, fragment, b[row * 8 + pair], b[row * 8 + pair + 4]);
    first[0] = sum[0], first[1] = sum[1], first[64] = sum[2], first[65] = sum[3];
}
extern "C" __global__ void __launch_bounds__(32) multiply_matrices_bf16(const u32* a, const u32* b, float* c) { multiply_16<true>(a, b, c); }
extern "C" __global__ void __launch_bounds__(32) multiply_matrices_f16(const u32* a, const u32* b, float* c) { multiply_16<false>(a, b, c); }

// c (16 x 8) += a (16 x 8, by rows) b (8 columns of 8), f32
extern "C" __global__ void __launch_bounds__(32) multiply_matrices_tf32(const float* a, const float* b, float* c) {
    const int row = threadIdx.x / 4, k = threadIdx.x % 4;
    const u32 fragment[4] = {round_tf32(a[row * 8 + k]), round_tf32(a[(row + 8) * 8 + k]), round_tf32(a[row * 8 + k + 4]), round_tf32(a[(row + 8) * 8 + k + 4])};
    float* const first = c + row * 8 + 2 * k;
    float sum[4] = {first[0], first[1], first[64], first[65]};
    multiply_tf32(sum, fragment, round_tf32(b[row * 8 + k]), round_tf32(b[row * 8 + k + 4]));
    first[0] = sum[0], first[1] = sum[1], first[64] = sum[2], first[65] = sum[3];
}
