// ---------------------------------------------------------------- kernel
// delta = dO . O@{ " - dstatistic" if class == "shifted" else " - z dstatistic" if class == "streaming" else "" }, one row a group of lanes.
extern "C" __global__ void __launch_bounds__(THREADS)
attn_delta(const __grid_constant__ Arguments arguments) {
    constexpr int CHUNKS = VALUE_DIM / CHUNK;
    constexpr int LANES = CHUNKS > 16 ? 32 : CHUNKS > 8 ? 16 : CHUNKS > 4 ? 8 : CHUNKS > 2 ? 4 : 2;   // lanes a row
    const int lane = threadIdx.x % LANES, head = blockIdx.y, batch = blockIdx.z, q_len = arguments.q_len;
    const int q = blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    float sum = 0.f;
    if (q < q_len) {
        const element* o = rows_of(arguments.o, batch, head) + q * arguments.o.row;
        const element* output_grad = rows_of(arguments.output_grad, batch, head) + q * arguments.output_grad.row;
        for (int chunk = lane; chunk < CHUNKS; chunk += LANES) {
            union { uint4 bytes; element elements[CHUNK]; } a, b;
            a.bytes = *(const uint4*)(o + chunk * CHUNK);
            b.bytes = *(const uint4*)(output_grad + chunk * CHUNK);
#pragma unroll
            for (int i = 0; i < CHUNK; ++i) sum = fmaf(to_float(a.elements[i]), to_float(b.elements[i]), sum);
        }
    }
#pragma unroll
    for (int distance = LANES / 2; distance > 0; distance /= 2) sum += __shfl_xor_sync(~0u, sum, distance);
    if (lane == 0 && q < q_len) {
        const i64 row = ((i64)batch * gridDim.y + head) * q_len + q;
        //% if class == "shifted"
        if (arguments.statistic_grad) sum -= arguments.statistic_grad[row];
        //% elif class == "streaming"
        if (arguments.statistic_grad) sum -= arguments.statistic_grad[row] * arguments.statistic[row];
        //% endif
        arguments.delta[row] = sum;
    }
}
