//% if not hopper or needs.Array or needs.DenseGrad or needs.find_tile
// ---------------------------------------------------------------- tensors and tiles
//% endif
//% if not hopper
// A tensor [batch, head, row, column] whose columns are contiguous; strides in elements.
struct Tensor {
    element* data;
    i64 batch, head, row;
};
//% if packed
// The rows of a head from a sequence's first one on: a packed batch is one entry of the axis of batches.
__device__ __forceinline__ element* rows_of(const Tensor& tensor, int start, int head) { return tensor.data + start * tensor.row + head * tensor.head; }
//% else
__device__ __forceinline__ element* rows_of(const Tensor& tensor, int batch, int head) { return tensor.data + batch * tensor.batch + head * tensor.head; }
//% endif

constexpr int CHUNK = 16 / sizeof(element);   // elements of one 16 byte copy
constexpr int padded(int head_dim) { return (head_dim + 15) / 16 * 16; }
//% endif
//% if needs.find_tile
// A tile of BLOCK rows of a sequence of a packed batch.
struct PackedTile { int sequence, tile; };
// What a block works on. The tiles of sequence s have the numbers from cu_seqlens[s] / BLOCK + s on: the next sequence's begin behind
// them, and of the few numbers in between none is a tile. Every warp looks for itself, at 32 sequences at a time.
template <int BLOCK>
__device__ __forceinline__ PackedTile find_tile(const int* cu_seqlens, int sequences, int number) {
    int sequence = -1;
    for (int first = 0; first < sequences; first += 32) {
        const int other = first + (int)threadIdx.x % 32;
        const u32 begun = __ballot_sync(~0u, other < sequences && cu_seqlens[other] / BLOCK + other <= number);
        sequence += __popc(begun);
        if (begun != ~0u) break;
    }
    return {sequence, number - (cu_seqlens[sequence] / BLOCK + sequence)};
}

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
// Bounds of the elements from first to last along an axis: the extremes (x: least, y: greatest) of few, else of the blocks that
// hold them.
__device__ __forceinline__ int2 extremes_of(const int* elements, i64 stride, const int2* blocks, i64 block_stride, int extent, int first, int last) {
    first = clamp_index(first, extent), last = clamp_index(last, extent);
    int2 bounds = {2147483647, -2147483647};
    if (last - first < EXTREMES_BLOCK / 4) {
#pragma unroll 1   // registers are worth more than a few loads at once
        for (int at = first; at <= last; ++at) {
            const int value = elements[at * stride];
            bounds.x = min(bounds.x, value), bounds.y = max(bounds.y, value);
        }
        return bounds;
    }
#pragma unroll 1
    for (int block = first / EXTREMES_BLOCK; block <= last / EXTREMES_BLOCK; ++block) {
        const int2 found = blocks[block * block_stride];
        bounds.x = min(bounds.x, found.x), bounds.y = max(bounds.y, found.y);
    }
    return bounds;
}
//% endif
//% if needs.extremes_in
// Indices of an axis from one to another, which are in it; the default is that of no axis.
struct IndexRange {
    int first, last;
    i64 stride;
};
__device__ __forceinline__ IndexRange index_range(int first, int last, int extent, i64 stride) { return {clamp_index(first, extent), clamp_index(last, extent), stride}; }
// The extremes (x: least, y: greatest) of the elements in these rows and columns; of more than @{ range_elements } no bounds.
__device__ __forceinline__ int2 extremes_in(const int* elements, IndexRange rows, IndexRange columns) {
    if ((rows.last - rows.first + (i64)1) * (columns.last - columns.first + 1) > @{ range_elements }) return {-2147483647 - 1, 2147483647};
    int2 bounds = {2147483647, -2147483647};
    for (int row = rows.first; row <= rows.last; ++row)
        for (int column = columns.first; column <= columns.last; ++column) {
            const int value = elements[row * rows.stride + column * columns.stride];
            bounds.x = min(bounds.x, value), bounds.y = max(bounds.y, value);
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
