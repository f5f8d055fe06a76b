// ---------------------------------------------------------------- kernel
// @{ "Gradients in elements from those in mapped elements" if chain else "Every element, mapped" }, one thread 16 bytes. Results are row-major.
extern "C" __global__ void __launch_bounds__(THREADS)
@{ entry }(const __grid_constant__ Arguments arguments) {
    constexpr int PIECES = HEAD_DIM / CHUNK;
    const int head = blockIdx.y, batch = blockIdx.z, index = blockIdx.x * THREADS + threadIdx.x;
    const int row = index / PIECES, column = index % PIECES * CHUNK;
    if (row >= arguments.rows) return;
    union { uint4 bytes; element elements[CHUNK]; u32 words[4]; } piece@{ ", grad" if chain else "" };
    piece.bytes = *(const uint4*)(arguments.from + batch * arguments.batch + head * arguments.head + row * arguments.row + column);
    uint4* to = (uint4*)(arguments.to + (((i64)batch * gridDim.y + head) * arguments.rows + row) * HEAD_DIM + column);
    //% if chain
    grad.bytes = *to;
    //% endif
#pragma unroll
    //% if dtype == "f32"
    for (int i = 0; i < CHUNK; ++i) piece.elements[i] = @{ map }(piece.elements[i])@{ " * grad.elements[i]" if chain else "" };
    //% else
    for (int i = 0; i < 4; ++i) piece.words[i] = pack(@{ map }(to_float(piece.elements[2 * i]))@{ " * to_float(grad.elements[2 * i])" if chain else "" }, @{ map }(to_float(piece.elements[2 * i + 1]))@{ " * to_float(grad.elements[2 * i + 1])" if chain else "" });
    //% endif
    *to = piece.bytes;
}
