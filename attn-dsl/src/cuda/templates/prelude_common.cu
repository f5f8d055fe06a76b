// ---------------------------------------------------------------- primitives
typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
//% if dtype == "f32"
typedef float element;
//% else
typedef u16 element;   // the bits of a @{ dtype }
//% endif

constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;
#define INFINITY __int_as_float(0x7f800000)

__device__ __forceinline__ u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

//% if not hopper
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

//% endif
//% if needs.group_barrier
// Waits for `threads` threads, whole warps, that name the same barrier (1 to 15).
__device__ __forceinline__ void group_barrier(int barrier, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory"); }
//% endif
//% if not hopper
// Waits for all copies of this thread, whether committed or not.
__device__ __forceinline__ void copy_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

//% endif
__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
//% if needs.log2_approx
__device__ __forceinline__ float log2_approx(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
//% endif
//% if needs.reciprocal_approx
__device__ __forceinline__ float reciprocal_approx(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
//% endif
//% if needs.divide_approx
// Right to 2 ulp over the full range.
__device__ __forceinline__ float divide_approx(float a, float b) {
    float y;
    asm("div.full.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}
//% endif
//% if needs.tanh_approx
// Right to 2^-11 relative to its size.
__device__ __forceinline__ float tanh_approx(float x) {
    float y;
    asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
//% endif
//% if needs.sigmoid
// Right relative to its own size also far below zero, where 1/2 + 1/2 tanh(x/2) is not.
//% if dtype == "f32"
__device__ __forceinline__ float sigmoid(float x) { return 1.f / (1.f + expf(-x)); }
//% else
__device__ __forceinline__ float sigmoid(float x) { return reciprocal_approx(1.f + exp2_approx(x * -LOG2E)); }
//% endif
//% endif
//% if needs.softplus
// ln(1 + e^x) without overflow, right relative to its own size also far below zero.
__device__ __forceinline__ float softplus(float x) {
    //% if dtype == "f32"
    return fmaxf(x, 0.f) + log1pf(expf(-fabsf(x)));
    //% else
    const float y = exp2_approx(fabsf(x) * -LOG2E);
    return fmaxf(x, 0.f) + (y < 0.015625f ? fmaf(-0.5f * y, y, y) : LN2 * log2_approx(1.f + y));
    //% endif
}
//% endif
//% if needs.divide_or_zero
__device__ __forceinline__ int divide_or_zero(int a, int b) { return b == 0 ? 0 : a / b; }
//% endif
//% if needs.remainder_or_zero
__device__ __forceinline__ int remainder_or_zero(int a, int b) { return b == 0 ? 0 : a % b; }
//% endif
//% if needs.clamp_index
__device__ __forceinline__ int clamp_index(int index, int extent) { return min(max(index, 0), extent - 1); }
//% endif

//% if needs.store_shared
__device__ __forceinline__ void store_shared(u32 address, float value) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(address), "f"(value) : "memory"); }
__device__ __forceinline__ void store_shared(u32 address, int value) { asm volatile("st.shared.s32 [%0], %1;" ::"r"(address), "r"(value) : "memory"); }
//% endif
//% if needs.load_shared_float
__device__ __forceinline__ float load_shared_float(u32 address) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(address) : "memory");
    return value;
}
//% endif
//% if needs.load_shared_floats
__device__ __forceinline__ float2 load_shared_floats(u32 address) {
    float2 pair;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(pair.x), "=f"(pair.y) : "r"(address) : "memory");
    return pair;
}
//% endif
//% if needs.load_shared_int
__device__ __forceinline__ int load_shared_int(u32 address) {
    int value;
    asm volatile("ld.shared.s32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
    return value;
}
//% endif
//% if needs.load_shared_ints
__device__ __forceinline__ int2 load_shared_ints(u32 address) {
    int2 pair;
    asm volatile("ld.shared.v2.s32 {%0, %1}, [%2];" : "=r"(pair.x), "=r"(pair.y) : "r"(address) : "memory");
    return pair;
}
//% endif
__device__ __forceinline__ uint4 load_shared_16(u32 address) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "r"(address) : "memory");
    return value;
}

//% if needs.quad_max or needs.quad_sum or needs.quad_any
// The four lanes of a quad hold the columns of one row.
//% endif
//% if needs.quad_max
__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
//% endif
//% if needs.quad_sum
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}
//% endif
//% if needs.warp_sum
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(~0u, x, distance);
    return x;
}
//% endif
//% if needs.quad_any
__device__ __forceinline__ bool quad_any(bool x) {
    int any = x;
    any |= __shfl_xor_sync(~0u, any, 1);
    return any | __shfl_xor_sync(~0u, any, 2);
}
//% endif
//% if needs.to_float
//% if dtype == "f32"
__device__ __forceinline__ float to_float(element value) { return value; }
//% elif dtype == "bf16"
__device__ __forceinline__ float to_float(element bits) { return __int_as_float((u32)bits << 16); }
//% else
__device__ __forceinline__ float to_float(element bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
//% endif
//% endif
//% if needs.pack
// Two numbers, rounded, in one register.
__device__ __forceinline__ u32 pack(float low, float high) {
    u32 packed;
    asm("cvt.rn.@{ dtype }x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
//% endif
