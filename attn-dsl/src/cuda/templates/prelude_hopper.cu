typedef unsigned long long u64;

// ---------------------------------------------------------------- threads
// `threads` counts those that wait and those that only arrive.
__device__ __forceinline__ void named_barrier_sync(u32 id, u32 threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
__device__ __forceinline__ void named_barrier_arrive(u32 id, u32 threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
//% if needs.uniform
// What all lanes have, taken from one: descriptors made of it are computed in uniform registers, each where it is used.
__device__ __forceinline__ u32 uniform(u32 x) { return __shfl_sync(~0u, x, 0); }
//% endif
// True for one lane of a warp.
__device__ __forceinline__ bool elect_one() {
    u32 elected;
    asm volatile("{ .reg .pred e; elect.sync _|e, 0xffffffff; selp.u32 %0, 1, 0, e; }" : "=r"(elected));
    return elected;
}
// The warpgroup gives registers back, or waits until it gets them; a thread has N afterwards.
template <int N>
__device__ __forceinline__ void registers_release() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N>
__device__ __forceinline__ void registers_acquire() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }
// What this thread wrote to shared memory becomes visible to copies and products, once a barrier has told who issues them.
__device__ __forceinline__ void publish_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---------------------------------------------------------------- mbarriers
// A phase completes when all arrivals and all expected bytes are in. The first has parity 0, the next 1, and so on; waiting for
// parity 1 on a fresh barrier passes at once.
__device__ __forceinline__ void mbarrier_init(u32 barrier, u32 arrivals) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory"); }
// Follows the initialisation of barriers that copies signal.
__device__ __forceinline__ void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ __forceinline__ void mbarrier_arrive(u32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
// One arrival, and `bytes` of copies for which the phase waits, too.
__device__ __forceinline__ void mbarrier_arrive_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
__device__ __forceinline__ void mbarrier_wait(u32 barrier, u32 parity) {
    u32 done;
    do asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    while (!done);
}
// Takes the next number from 0 to `last`, after which the counter is 0 again.
__device__ __forceinline__ u32 count_up(u32* counter, u32 last) {
    u32 taken;
    asm volatile("atom.relaxed.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(taken) : "l"(counter), "r"(last) : "memory");
    return taken;
}
__device__ __forceinline__ void store_shared_16(u32 address, int4 value) {
    asm volatile("st.shared.v4.s32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w) : "memory");
}
// A place in a ring of STAGES tiles, and the parity of the phase that it is in.
struct RingPlace {
    int stage;
    u32 parity;
};
__device__ __forceinline__ void advance(RingPlace& place, int stages) {
    if (++place.stage == stages) place.stage = 0, place.parity ^= 1;
}

// ---------------------------------------------------------------- tensor copies
// How a tensor lies in memory; the driver writes it.
struct alignas(64) TensorMap { char bytes[128]; };
//% if packed
// What another launch wrote of a map in global memory is seen by the copies of this thread from here on.
__device__ __forceinline__ void acquire_map(const TensorMap* map) { asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" ::"l"(map) : "memory"); }
//% endif
// What the L2 cache should do with the lines.
constexpr u64 EVICT_FIRST = 0x12F0000000000000ull, EVICT_LAST = 0x14F0000000000000ull;

// Copies a box of 64 columns to shared memory; what lies outside the tensor becomes zero. The bytes of the box signal the barrier.
__device__ __forceinline__ void tensor_load(u32 to, const TensorMap* map, u32 barrier, int column, int row, int head, int batch, u64 hint) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;"
        ::"r"(to), "l"(map), "r"(barrier), "r"(column), "r"(row), "r"(head), "r"(batch), "l"(hint) : "memory");
}
// Copies a box from shared memory; what lies outside the tensor is dropped.
__device__ __forceinline__ void tensor_store(const TensorMap* map, u32 from, int column, int row, int head, int batch) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];"
        ::"l"(map), "r"(from), "r"(column), "r"(row), "r"(head), "r"(batch) : "memory");
}
// Closes the group of this thread's stores; waits until all of its groups have read shared memory.
__device__ __forceinline__ void tensor_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__device__ __forceinline__ void tensor_store_wait() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
//% if dq_columns
// Contiguous bytes from shared to global memory, in the groups of tensor stores.
__device__ __forceinline__ void bulk_store(float* to, u32 from, u32 bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void bulk_add(float* to, u32 from, u32 bytes) {
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}
// Waits until all groups of this thread have written global memory.
__device__ __forceinline__ void bulk_wait() { asm volatile("cp.async.bulk.wait_group 0;" ::: "memory"); }
//% endif
//% if turns
// Blocks take turns by a word in global memory: what the block before has written is seen after its number is.
__device__ __forceinline__ int load_acquire(const int* word) {
    int value;
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
}
__device__ __forceinline__ void store_release(int* word, int value) { asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(word), "r"(value) : "memory"); }
// Orders accesses of threads and of bulk copies to global memory.
__device__ __forceinline__ void publish_global() { asm volatile("fence.proxy.async.global;" ::: "memory"); }
//% endif

// ---------------------------------------------------------------- products of a warpgroup
// A tile of rows of 16-bit elements lies in shared memory as chunks of 64 columns, a row of a chunk 128 bytes, whose 16-byte
// pieces are exchanged by the row's number (the 128-byte swizzle of tensor maps). Thread t of a warpgroup holds rows
// t / 32 * 16 + t % 32 / 4 and 8 more, of which registers 4 n + 2 r + c are columns 8 n + t % 4 * 2 + c of row r.
constexpr int CHUNK_COLUMNS = 64, CHUNK_ROW_BYTES = 128;
constexpr int chunks(int columns) { return (columns + CHUNK_COLUMNS - 1) / CHUNK_COLUMNS; }
constexpr int padded(int columns) { return (columns + 15) / 16 * 16; }

__device__ __forceinline__ u32 tile_address(u32 tile, u32 chunk_bytes, int row, int column) {
    const u32 address = tile + column / CHUNK_COLUMNS * chunk_bytes + row * CHUNK_ROW_BYTES + column % CHUNK_COLUMNS * 2;
    return address ^ (address >> 7 & 7) << 4;
}
// Describes a tile: contracted over its columns as it is, over its rows where the product says that it is transposed.
__device__ __forceinline__ u64 tile_descriptor(u32 tile, u32 chunk_bytes) {
    return (tile & 0x3FFFF) >> 4 | (u64)(chunk_bytes >> 4) << 16 | (u64)(8 * CHUNK_ROW_BYTES >> 4) << 32 | 1ull << 62;
}
// What a descriptor gains for columns 16 k on, and for rows 16 k on.
constexpr u64 column_step(int k, u32 chunk_bytes) { return k % 4 * 2 + k / 4 * (chunk_bytes >> 4); }
constexpr u64 row_step(int k) { return k * (16 * CHUNK_ROW_BYTES >> 4); }

// Registers written before are ready for products.
__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
__device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }
// Keeps the compiler from moving accesses to accumulators across this point.
template <int N>
__device__ __forceinline__ void pin(float (&r)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(r[i]) :: "memory");
}
//% if needs.forget
// What accumulators held is of no use any more: their registers are free until products write them.
template <int N>
__device__ __forceinline__ void forget(float (&r)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "=f"(r[i]));
}
//% endif
// d (64 x @{ tile_columns }) (+)= A B^T, both by descriptors.
__device__ __forceinline__ void multiply_tiles(float (&d)[@{ tile_columns // 2 }], u64 a, u64 b, bool accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %@{ tile_columns // 2 + 2 }, 0; "
        "wgmma.mma_async.sync.aligned.m64n@{ tile_columns }k16.f32.@{ dtype }.@{ dtype } {@% for i in range(tile_columns // 2) %@%@{ i }@{ "" if loop.last else ", " }@% endfor %@}, %@{ tile_columns // 2 }, %@{ tile_columns // 2 + 1 }, p, 1, 1, 0, 0; }"
        : @% for i in range(tile_columns // 2) %@"+f"(d[@{ i }])@{ "" if loop.last else ", " }@% endfor %@
        : "l"(a), "l"(b), "r"((int)accumulate));
}
//% for columns in weight_columns
// d (64 x @{ columns }) += A B, A in registers, B's rows contracted.
__device__ __forceinline__ void multiply_weights(float (&d)[@{ columns // 2 }], const u32 (&a)[4], u64 b) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; "
        "wgmma.mma_async.sync.aligned.m64n@{ columns }k16.f32.@{ dtype }.@{ dtype } {@% for i in range(columns // 2) %@%@{ i }@{ "" if loop.last else ", " }@% endfor %@}, {%@{ columns // 2 }, %@{ columns // 2 + 1 }, %@{ columns // 2 + 2 }, %@{ columns // 2 + 3 }}, %@{ columns // 2 + 4 }, p, 1, 1, 1; }"
        : @% for i in range(columns // 2) %@"+f"(d[@{ i }])@{ "" if loop.last else ", " }@% endfor %@
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
//% endfor
//% if dq_columns
// d (64 x @{ dq_columns }) (+)= A B, both by descriptors, B's rows contracted.
__device__ __forceinline__ void multiply_transposed(float (&d)[@{ dq_columns // 2 }], u64 a, u64 b, bool accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %@{ dq_columns // 2 + 2 }, 0; "
        "wgmma.mma_async.sync.aligned.m64n@{ dq_columns }k16.f32.@{ dtype }.@{ dtype } {@% for i in range(dq_columns // 2) %@%@{ i }@{ "" if loop.last else ", " }@% endfor %@}, %@{ dq_columns // 2 }, %@{ dq_columns // 2 + 1 }, p, 1, 1, 0, 1; }"
        : @% for i in range(dq_columns // 2) %@"+f"(d[@{ i }])@{ "" if loop.last else ", " }@% endfor %@
        : "l"(a), "l"(b), "r"((int)accumulate));
}
//% endif
//% if key_bias
// A slice of 16 columns in bf16 lies in shared memory as blocks of 8 x 8, the two of 8 rows one after the other. Of a row three
// columns are used, the others are zeros.
__device__ __forceinline__ void store_slice_row(u32 slice, int row, u32 first_two, u32 third) {
    const u32 to = slice + row / 8 * 256 + row % 8 * 16;
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %3};" ::"r"(to), "r"(first_two), "r"(third), "r"(0) : "memory");
    asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(to + 128), "r"(0) : "memory");
}
__device__ __forceinline__ u64 slice_descriptor(u32 slice) { return (slice & 0x3FFFF) >> 4 | (u64)(128 >> 4) << 16 | (u64)(256 >> 4) << 32; }
// A number in three parts of 8 bits, right to 24 bits.
__device__ __forceinline__ void store_number(u32 slice, int row, float value) {
    const u32 high = __float_as_int(value) & 0xFFFF0000u;
    float rest = value - __int_as_float(high);
    if (!(fabsf(value) < INFINITY)) rest = 0.f;   // nothing is left of an infinity
    const u32 middle = __float_as_int(rest) & 0xFFFF0000u, low = (u32)__float_as_int(rest - __int_as_float(middle)) >> 16;
    store_slice_row(slice, row, high >> 16 | middle, low);
}
// A row of the slice that a slice of numbers is multiplied with: each part counts once.
__device__ __forceinline__ void store_ones(u32 slice, int row) { store_slice_row(slice, row, 0x3F803F80u, 0x3F80u); }
// d (64 x @{ tile_columns }) += the numbers of a slice, one a column.
__device__ __forceinline__ void add_numbers(float (&d)[@{ tile_columns // 2 }], u64 ones, u64 numbers) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 1, 0; "
        "wgmma.mma_async.sync.aligned.m64n@{ tile_columns }k16.f32.bf16.bf16 {@% for i in range(tile_columns // 2) %@%@{ i }@{ "" if loop.last else ", " }@% endfor %@}, %@{ tile_columns // 2 }, %@{ tile_columns // 2 + 1 }, p, 1, 1, 0, 0; }"
        : @% for i in range(tile_columns // 2) %@"+f"(d[@{ i }])@{ "" if loop.last else ", " }@% endfor %@
        : "l"(ones), "l"(numbers));
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) x = fmaxf(x, __shfl_xor_sync(~0u, x, distance));
    return x;
}
//% endif
//% if needs.load_matrix
// Four 8 x 8 matrices: lane l gives the address of row l % 8 of matrix l / 8, and gets columns l % 4 * 2 and 1 more of row l / 4.
__device__ __forceinline__ void load_matrix_x4(u32 (&r)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
//% endif
// Four 8 x 8 matrices: lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void store_matrix_x4(u32 to, const u32 (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}
//% if dq_columns
// The same, transposed: lane l gives the address of column l % 8 of matrix l / 8.
__device__ __forceinline__ void store_matrix_x4_transposed(u32 to, const u32 (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}
//% endif
