// out (64 x N, by rows) = A B over K_STEPS steps of 16. The host lays the operands out as they lie in shared memory, and gives
// the descriptors' fields. N, K_STEPS, A_IN_REGISTERS and MULTIPLY, the wrapper to use, are defined in front of this text.

struct Operand {
    u32 bytes, leading, stride, swizzle;
    u32 step[8];   // bytes from the beginning to each step of 16
};

extern "C" __global__ void __launch_bounds__(128)
wgmma_product(const unsigned char* a_image, const unsigned char* b_image, float* out, const __grid_constant__ Operand a, const __grid_constant__ Operand b) {
    extern __shared__ __align__(1024) unsigned char dynamic_shared[];
    const u32 barrier = shared_address(dynamic_shared), a_tile = barrier + 1024, b_tile = a_tile + (a.bytes + 1023) / 1024 * 1024;
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_init_fence();
        mbarrier_arrive_expect(barrier, a.bytes + b.bytes);
        bulk_load(a_tile, a_image, a.bytes, barrier);
        bulk_load(b_tile, b_image, b.bytes, barrier);
    }
    __syncthreads();
    mbarrier_wait(barrier, 0);

    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, column = lane % 4 * 2;
    float sum[N / 2];
    pin(sum);
#if A_IN_REGISTERS
    // by rows in global memory: a thread's fragment of every step
    u32 fragments[K_STEPS][4];
    const u32* const pairs = (const u32*)a_image;   // of neighbours along the depth
#pragma unroll
    for (int k = 0; k < K_STEPS; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i) fragments[k][i] = pairs[(row + i % 2 * 8) * (K_STEPS * 8) + k * 8 + i / 2 * 4 + lane % 4];
#endif
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < K_STEPS; ++k) {
        const u64 b_descriptor = matrix_descriptor(b_tile + b.step[k], b.leading, b.stride, b.swizzle);
#if A_IN_REGISTERS
        MULTIPLY(sum, fragments[k], b_descriptor, k != 0);
#else
        MULTIPLY(sum, matrix_descriptor(a_tile + a.step[k], a.leading, a.stride, a.swizzle), b_descriptor, k != 0);
#endif
    }
    wgmma_commit();
    wgmma_wait<0>();
    pin(sum);
#pragma unroll
    for (int i = 0; i < N / 2; ++i) out[(row + i / 2 % 2 * 8) * N + i / 4 * 8 + column + i % 2] = sum[i];
}
