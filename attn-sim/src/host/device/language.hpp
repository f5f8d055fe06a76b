// CUDA's words, vector types and built-in variables.
#define __CUDACC__ 1
#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ 900
#define __CUDA_ARCH_FEAT_SM90_ALL 1

#define __host__
#define __device__
#define __global__
#define __constant__
#define __managed__
#define __grid_constant__
#define __restrict__ __restrict
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __cluster_dims__(...)
#define __maxnreg__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __builtin_align__(n) __attribute__((aligned(n)))

#define ATTN_SIM_VECTOR(T, NAME, ALIGN2, ALIGN4) \
    struct NAME##1 { T x; }; \
    struct alignas(ALIGN2) NAME##2 { T x, y; }; \
    struct NAME##3 { T x, y, z; }; \
    struct alignas(ALIGN4) NAME##4 { T x, y, z, w; }; \
    ATTN_SIM_INLINE NAME##1 make_##NAME##1(T x) { return {x}; } \
    ATTN_SIM_INLINE NAME##2 make_##NAME##2(T x, T y) { return {x, y}; } \
    ATTN_SIM_INLINE NAME##3 make_##NAME##3(T x, T y, T z) { return {x, y, z}; } \
    ATTN_SIM_INLINE NAME##4 make_##NAME##4(T x, T y, T z, T w) { return {x, y, z, w}; }
ATTN_SIM_VECTOR(signed char, char, 2, 4)
ATTN_SIM_VECTOR(unsigned char, uchar, 2, 4)
ATTN_SIM_VECTOR(short, short, 4, 8)
ATTN_SIM_VECTOR(unsigned short, ushort, 4, 8)
ATTN_SIM_VECTOR(int, int, 8, 16)
ATTN_SIM_VECTOR(unsigned int, uint, 8, 16)
ATTN_SIM_VECTOR(long, long, 16, 16)
ATTN_SIM_VECTOR(unsigned long, ulong, 16, 16)
ATTN_SIM_VECTOR(long long, longlong, 16, 16)
ATTN_SIM_VECTOR(unsigned long long, ulonglong, 16, 16)
ATTN_SIM_VECTOR(float, float, 8, 16)
ATTN_SIM_VECTOR(double, double, 16, 16)

typedef unsigned long size_t;
struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
};

// The running thread's context never changes while its kernel runs: these are constants to the compiler.
namespace attn_sim {
#define ATTN_SIM_BUILTIN(NAME) __attribute__((noinline, unused, const, no_sanitize("thread"))) static uint3 NAME()
ATTN_SIM_BUILTIN(thread_index) { return {context->thread[0], context->thread[1], context->thread[2]}; }
ATTN_SIM_BUILTIN(block_index) { return {context->block[0], context->block[1], context->block[2]}; }
ATTN_SIM_BUILTIN(block_extent) { return {context->block_extent[0], context->block_extent[1], context->block_extent[2]}; }
ATTN_SIM_BUILTIN(grid_extent) { return {context->grid_extent[0], context->grid_extent[1], context->grid_extent[2]}; }
ATTN_SIM_INLINE u32 linear_thread() {
    const uint3 index = thread_index(), extent = block_extent();
    return index.x + extent.x * (index.y + extent.y * index.z);
}
}  // namespace attn_sim
#define threadIdx (attn_sim::thread_index())
#define blockIdx (attn_sim::block_index())
#define blockDim (attn_sim::block_extent())
#define gridDim (attn_sim::grid_extent())
constexpr int warpSize = 32;

// Output has no order on a GPU and no place here.
template <class... T>
__attribute__((error("printf is not simulated: run with a trace instead"))) int printf(const char*, T...);
