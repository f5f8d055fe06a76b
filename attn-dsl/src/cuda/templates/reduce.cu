// attn_reduce: adds partial sums of a parameter's gradient in a fixed order.
//
// An element of the gradient is the sum of runs of `length` terms. Elements are counted along `axes`, the innermost first.
typedef long long i64;
constexpr int AXES = 5, THREADS = 512;
struct Arguments {
    const float* partial;
    float* gradient;
    i64 partial_step[AXES];    // along an axis, from the terms of an element to those of the next one
    i64 gradient_step[AXES];   // along an axis, from an element to the next one
    i64 run_step, term_step;   // in partial, from a run or a term to the next one
    int extent[AXES];
    int axes, elements;
    int length;
    int columns;   // elements of a block, a power of two
    int rounds;    // terms of every thread
    int rest;      // threads of an element that have one more
    int adds;      // whether the sum joins the gradient that is there or replaces it
};

// A row of a block's threads has neighbouring elements, and takes every THREADS / columns-th of their terms; then rows are added
// up as a tree. No read waits for a division or for another read.
extern "C" __global__ void __launch_bounds__(THREADS)
attn_reduce(const __grid_constant__ Arguments arguments) {
    __shared__ float sums[THREADS];
    const int thread = threadIdx.x, columns = arguments.columns, rows = THREADS / columns, row = thread / columns;
    const unsigned element = blockIdx.x * (unsigned)columns + thread % columns;
    i64 start = 0, target = 0;   // past the last element, those of another one
    unsigned others = element;
    for (int axis = 0; axis < arguments.axes; ++axis) {
        const unsigned extent = arguments.extent[axis], index = others % extent;
        others /= extent;
        start += index * arguments.partial_step[axis];
        target += index * arguments.gradient_step[axis];
    }
    const float* terms = arguments.partial + start;
    const int length = arguments.length, further_runs = rows / length, further = rows % length;
    int run = row / length, term = row % length;
    float sum = 0.f;
#pragma unroll 8
    for (int round = 0; round < arguments.rounds; ++round) {
        sum += terms[run * arguments.run_step + term * arguments.term_step];
        run += further_runs;
        term += further;
        if (term >= length) term -= length, ++run;
    }
    if (row < arguments.rest) sum += terms[run * arguments.run_step + term * arguments.term_step];
    sums[thread] = sum;
    for (int distance = THREADS / 2; distance >= columns; distance /= 2) {
        __syncthreads();
        if (thread < distance) sums[thread] += sums[thread + distance];
    }
    if (row == 0 && element < (unsigned)arguments.elements) {
        float* gradient = arguments.gradient + target;
        *gradient = arguments.adds ? *gradient + sums[thread] : sums[thread];
    }
}
