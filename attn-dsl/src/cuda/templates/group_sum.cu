// ---------------------------------------------------------------- kernel
// Sums over the query heads that share a head of k and v, one thread an element: [heads, elements] from [heads, group, elements].
extern "C" __global__ void __launch_bounds__(THREADS)
attn_group_sum(const __grid_constant__ Arguments arguments) {
    const i64 at = (i64)blockIdx.x * THREADS + threadIdx.x;
    if (at >= arguments.elements) return;
    const element* from = arguments.from + (i64)blockIdx.y * arguments.group * arguments.elements + at;
    float sum = 0.f;
    for (int head = 0; head < arguments.group; ++head) sum += to_float(from[head * arguments.elements]);
    //% if dtype == "f32"
    arguments.to[blockIdx.y * arguments.elements + at] = sum;
    //% else
    arguments.to[blockIdx.y * arguments.elements + at] = (u16)pack(sum, 0.f);
    //% endif
}
