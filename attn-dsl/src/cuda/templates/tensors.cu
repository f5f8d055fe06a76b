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
//% if needs.DenseGrad
// A gradient [b, h, q, kv] of f32: a stride of 0 broadcasts.
struct DenseGrad {
    float* data;
    i64 batch, head, query, key;
};
//% endif
