// attn_copy: a row-major copy of a tensor [batch, head, row, column] whose rows do not start at multiples of 16 bytes.
typedef long long i64;
constexpr int THREADS = 128;
struct Arguments {
    const void* from;
    void* to;
    i64 batch, head, row;   // strides of `from`, in elements
    int heads, rows, columns, element_bytes;
};

// One warp a row; columns are contiguous on both sides.
template <typename T>
__device__ __forceinline__ void copy_row(const Arguments& arguments, int row) {
    const int batch = blockIdx.z, head = blockIdx.y;
    const T* from = (const T*)arguments.from + batch * arguments.batch + head * arguments.head + row * arguments.row;
    T* to = (T*)arguments.to + (((i64)batch * arguments.heads + head) * arguments.rows + row) * arguments.columns;
    for (int column = threadIdx.x % 32; column < arguments.columns; column += 32) to[column] = from[column];
}

extern "C" __global__ void __launch_bounds__(THREADS)
attn_copy(const __grid_constant__ Arguments arguments) {
    const int row = blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    if (row >= arguments.rows) return;
    if (arguments.element_bytes == 2) copy_row<unsigned short>(arguments, row);
    else copy_row<unsigned int>(arguments, row);
}
