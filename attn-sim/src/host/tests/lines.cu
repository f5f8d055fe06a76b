struct alignas(64) Map { char bytes[128]; };
__device__ __forceinline__ void synchronize(int id) {
    asm volatile(
        "bar.sync %0, 64;"
        :: "r"(id));
}
template <int N>
__device__ __forceinline__ void store(float* to, float value) {
    synchronize(N);
    to[N] = value;
}
__device__ __noinline__ void copy(uint4* to, const uint4* from) {
    *to = *from;
    const uint4 value = from[1];
    to[1] = value;
}
__device__ const int table[4] = {1, 2, 3, 4};

extern "C" __global__ void __launch_bounds__(128, 1)
lines(const __grid_constant__ Map map, float* to, const float value, bool shifted, int n, const uint4* from) {
    store<3>(to, value);
    float local[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) local[i] = table[(i + n) % 4];
    copy((uint4*)(to + 8), from);
    to[4] = (unsigned long long)&map % 64 == 0 && map.bytes[127] == 7;
    memcpy(to + 16, local, 16);
    const auto wait = [&](int id) { synchronize(id + (int)local[0]); };
    wait(1);
    wait(2);
}
extern "C" __global__ void empty() {}
