// attn_reduce: adds partial sums of a parameter's gradient in a fixed order.
//
// partial is contiguous with extents `extent`; an output element keeps the axes with `keep` and sums over the others.
typedef long long i64;
constexpr int AXES = 6, THREADS = 128;
struct Arguments {
    const float* partial;
    float* gradient;
    i64 stride[AXES];   // of the gradient, in elements; 0 where an axis is summed
    int extent[AXES];
    int keep[AXES];
};

// One block an element of the gradient: threads take every THREADS-th term, then add up as a tree.
extern "C" __global__ void __launch_bounds__(THREADS)
attn_reduce(const __grid_constant__ Arguments arguments) {
    __shared__ float sums[THREADS];
    i64 kept = blockIdx.x, start = 0, target = 0, terms = 1, step = 1;
    for (int axis = AXES - 1; axis >= 0; --axis) {
        const int extent = arguments.extent[axis];
        if (arguments.keep[axis]) {
            const i64 index = kept % extent;
            kept /= extent;
            start += index * step;
            target += index * arguments.stride[axis];
        } else {
            terms *= extent;
        }
        step *= extent;
    }
    float sum = 0.f;
    for (i64 term = threadIdx.x; term < terms; term += THREADS) {
        i64 rest = term, offset = 0, stride = 1;
        for (int axis = AXES - 1; axis >= 0; --axis) {
            const int extent = arguments.extent[axis];
            if (!arguments.keep[axis]) {
                offset += rest % extent * stride;
                rest /= extent;
            }
            stride *= extent;
        }
        sum += arguments.partial[start + offset];
    }
    sums[threadIdx.x] = sum;
    for (int distance = THREADS / 2; distance > 0; distance /= 2) {
        __syncthreads();
        if (threadIdx.x < distance) sums[threadIdx.x] += sums[threadIdx.x + distance];
    }
    if (threadIdx.x == 0) arguments.gradient[target] = sums[0];
}
