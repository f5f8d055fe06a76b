// ---------------------------------------------------------------- kernel
// The least and greatest element of each block along one axis of a parameter: one warp a block.
extern "C" __global__ void __launch_bounds__(THREADS)
attn_extremes(const __grid_constant__ Arguments arguments) {
    const auto& elements = arguments.@{ parameter };
    const auto& blocks = arguments.@{ extremes };
    const int lane = threadIdx.x % 32;
    const i64 number = (i64)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    // the indices of the block, the last axis fastest
    i64 rest = number, offset = 0;
    int first = 0;
#pragma unroll
    for (int axis = RANK - 1; axis >= 0; --axis) {
        const int index = rest % blocks.extent[axis];
        rest /= blocks.extent[axis];
        if (axis == AXIS) first = index * EXTREMES_BLOCK;
        else offset += index * elements.stride[axis];
    }
    if (rest > 0) return;   // past the last block
    int least = 2147483647, greatest = -2147483647 - 1;
    for (int at = first + lane; at < min(first + EXTREMES_BLOCK, elements.extent[AXIS]); at += 32) {
        const int value = elements.data[offset + at * elements.stride[AXIS]];
        least = min(least, value), greatest = max(greatest, value);
    }
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        least = min(least, __shfl_xor_sync(~0u, least, distance));
        greatest = max(greatest, __shfl_xor_sync(~0u, greatest, distance));
    }
    // contiguous; the kernels that read it see a constant array
    if (lane == 0) const_cast<int2*>(blocks.data)[number] = {least, greatest};
}
