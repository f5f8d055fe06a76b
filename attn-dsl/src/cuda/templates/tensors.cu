//% if not hopper or needs.Array or needs.DenseGrad
// ---------------------------------------------------------------- tensors and tiles
//% endif
//% if not hopper
// A tensor [batch, head, row, column] whose columns are contiguous; strides in elements.
struct Tensor {
    element* data;
    i64 batch, head, row;
};
__device__ __forceinline__ element* rows_of(const Tensor& tensor, int batch, int head) { return tensor.data + batch * tensor.batch + head * tensor.head; }

constexpr int CHUNK = 16 / sizeof(element);   // elements of one 16 byte copy
constexpr int padded(int head_dim) { return (head_dim + 15) / 16 * 16; }
//% endif
//% if needs.Array
// A parameter: a stride of 0 broadcasts.
template <typename T, int RANK>
struct Array {
    const T* data;
    i64 stride[RANK];
    int extent[RANK];
};
//% endif
//% if needs.Scalar
template <typename T>
struct Array<T, 0> {
    const T* data;
};
//% endif
//% if needs.extremes_of
// Bounds of the elements from first to last along an axis: the extremes (x: least, y: greatest) of the blocks that hold them.
__device__ __forceinline__ int2 extremes_of(const int2* blocks, i64 stride, int extent, int first, int last) {
    int2 bounds = {2147483647, -2147483647};
    const int end = clamp_index(last, extent) / EXTREMES_BLOCK + 1;
    for (int block = clamp_index(first, extent) / EXTREMES_BLOCK; block < end; ++block) {
        const int2 found = blocks[block * stride];
        bounds.x = min(bounds.x, found.x), bounds.y = max(bounds.y, found.y);
    }
    return bounds;
}
//% endif
//% if needs.DenseGrad
// A gradient [b, h, q, kv] of f32: a stride of 0 broadcasts.
struct DenseGrad {
    float* data;
    i64 batch, head, query, key;
};
//% endif
