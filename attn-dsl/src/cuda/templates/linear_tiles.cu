// ---------------------------------------------------------------- chunks
// A row of a chunk in shared memory: 16 bytes of padding keep matrix loads free of bank conflicts.
constexpr int row_bytes(int head_dim) { return padded(head_dim) * (int)sizeof(element) + 16; }

// The 16 byte pieces of a chunk that a thread copies are those that it maps: nobody waits between the two.
template <int DIM, typename PIECE>
__device__ __forceinline__ void each_piece(PIECE piece) {
    constexpr int PIECES = padded(DIM) / CHUNK;
#pragma unroll
    for (int index = threadIdx.x; index < BLOCK * PIECES; index += THREADS) piece(index / PIECES, index % PIECES * CHUNK);
}
// Starts copying rows [begin, begin + BLOCK); rows below 0, rows from `end` on and columns from DIM on become zero.
template <int DIM>
__device__ __forceinline__ void load_chunk(u32 tile, const element* rows, i64 row_stride, int begin, int end) {
    each_piece<DIM>([&](int row, int column) {
        const int at = begin + row;
        const bool valid = at >= 0 && at < end && column < DIM;
        copy_async_16(tile + row * row_bytes(DIM) + column * (int)sizeof(element), rows + (valid ? at * row_stride + column : 0), valid);
    });
}
//% if maps
// Maps the elements of a chunk that this thread has copied; what is zero beyond them stays zero.
template <int DIM, typename MAP>
__device__ __forceinline__ void map_chunk(unsigned char* tile, int begin, int end, MAP map) {
    each_piece<DIM>([&](int row, int column) {
        const int at = begin + row;
        if (at < 0 || at >= end || column >= DIM) return;
        uint4* place = (uint4*)(tile + row * row_bytes(DIM) + column * (int)sizeof(element));
        union { uint4 bytes; element elements[CHUNK]; u32 words[4]; } piece;
        piece.bytes = *place;
#pragma unroll
        //% if dtype == "f32"
        for (int i = 0; i < CHUNK; ++i) piece.elements[i] = map(piece.elements[i]);
        //% else
        for (int i = 0; i < 4; ++i) piece.words[i] = pack(map(to_float(piece.elements[2 * i])), map(to_float(piece.elements[2 * i + 1])));
        //% endif
        *place = piece.bytes;
    });
}
//% endif

