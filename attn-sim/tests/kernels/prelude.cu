// Named primitives of sm_90a: every test kernel of this folder follows this text, and has no inline PTX of its own.
//
// Shared memory is addressed by its 32-bit window address. A function that is collective says over what: all lanes of the warp,
// or all threads of the warpgroup (128 consecutive threads), must call it together. wgmma, whose register lists are long, is
// generated (support/wgmma.rs).

typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define INFINITY __int_as_float(0x7f800000)

DEVICE u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// ---------------------------------------------------------------- arithmetic

// 2^x; subnormal results are zero.
DEVICE float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
DEVICE float log2_approx(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
// Two floats, rounded to nearest even; the first lies in the low half. The instruction names the high half first.
DEVICE u32 pack_bf16(float low, float high) {
    u32 packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
DEVICE u32 pack_f16(float low, float high) {
    u32 packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
// The bits of an f32 whose mantissa is rounded to 10 bits, ties away from zero.
DEVICE u32 round_tf32(float x) {
    u32 bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}
// The four lanes of a quad hold one row of an accumulator.
DEVICE float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}
DEVICE float quad_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}
// Adds four neighbouring floats in global memory.
DEVICE void reduce_add_global_x4(float* to, float a, float b, float c, float d) {
    asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}

// ---------------------------------------------------------------- shared memory

DEVICE void store_shared_u32(u32 to, u32 value) { asm volatile("st.shared.u32 [%0], %1;" ::"r"(to), "r"(value) : "memory"); }
DEVICE u32 load_shared_u32(u32 from) {
    u32 value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(from) : "memory");
    return value;
}
DEVICE float2 load_shared_f32x2(u32 from) {
    float2 value;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(from) : "memory");
    return value;
}
DEVICE void store_shared_f32x4(u32 to, float a, float b, float c, float d) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(to), "f"(a), "f"(b), "f"(c), "f"(d) : "memory");
}
DEVICE void store_shared_u32x4(u32 to, uint4 value) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w) : "memory");
}
DEVICE uint4 load_shared_u32x4(u32 from) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "r"(from) : "memory");
    return value;
}

// Matrices of 8 rows of 16 bytes. Lane l gives the address of row l % 8 of matrix l / 8; it gets (has) elements 2 * (l % 4) and
// the next one of row l / 4 of every matrix; of column l / 4, where transposed. Warp-collective.
DEVICE void load_matrix_x1(u32 (&r)[1], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(from) : "memory");
}
DEVICE void load_matrix_x1_transposed(u32 (&r)[1], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(from) : "memory");
}
DEVICE void load_matrix_x2(u32 (&r)[2], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(from) : "memory");
}
DEVICE void load_matrix_x2_transposed(u32 (&r)[2], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];" : "=r"(r[0]), "=r"(r[1]) : "r"(from) : "memory");
}
DEVICE void load_matrix_x4(u32 (&r)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
DEVICE void load_matrix_x4_transposed(u32 (&r)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from) : "memory");
}
DEVICE void store_matrix_x1(u32 to, const u32 (&r)[1]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(to), "r"(r[0]) : "memory");
}
DEVICE void store_matrix_x2(u32 to, const u32 (&r)[2]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(to), "r"(r[0]), "r"(r[1]) : "memory");
}
DEVICE void store_matrix_x2_transposed(u32 to, const u32 (&r)[2]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1, %2};" ::"r"(to), "r"(r[0]), "r"(r[1]) : "memory");
}
DEVICE void store_matrix_x4(u32 to, const u32 (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}
DEVICE void store_matrix_x4_transposed(u32 to, const u32 (&r)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
}

// c (16 x 8) += A (16 x 16) B (16 x 8). Warp-collective.
DEVICE void multiply_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
DEVICE void multiply_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// c (16 x 8) += A (16 x 8) B (8 x 8).
DEVICE void multiply_tf32(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// ---------------------------------------------------------------- threads

// `threads` counts those that wait and those that only arrive. Warp-collective.
DEVICE void named_barrier_sync(u32 id, u32 threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE void named_barrier_arrive(u32 id, u32 threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
// True for one lane. Warp-collective.
DEVICE bool elect_one() {
    u32 elected;
    asm volatile("{ .reg .pred e; elect.sync _|e, 0xffffffff; selp.u32 %0, 1, 0, e; }" : "=r"(elected));
    return elected;
}
// The warpgroup gives registers back, or waits until it gets them; `N` is what a thread has afterwards. Warpgroup-collective.
template <int N> DEVICE void registers_release() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N)); }
template <int N> DEVICE void registers_acquire() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N)); }

// What this thread wrote to shared memory becomes visible to TMA and wgmma, once a barrier has told the thread that issues them.
DEVICE void publish_shared_to_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// The same for global memory.
DEVICE void publish_global_to_async() { asm volatile("fence.proxy.async.global;" ::: "memory"); }

// ---------------------------------------------------------------- words of global memory by which blocks wait for each other

// What was before a release of the word's value is before an acquire that sees it.
DEVICE int load_acquire(const int* word) {
    int value;
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
}
DEVICE void store_release(int* word, int value) { asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(word), "r"(value) : "memory"); }
DEVICE void add_release(int* word, int value) { asm volatile("red.release.gpu.global.add.s32 [%0], %1;" ::"l"(word), "r"(value) : "memory"); }
// Without an order, which a fence before the store or after the load adds.
DEVICE int load_relaxed(const int* word) {
    int value;
    asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(word) : "memory");
    return value;
}
DEVICE void store_relaxed(int* word, int value) { asm volatile("st.relaxed.gpu.global.s32 [%0], %1;" ::"l"(word), "r"(value) : "memory"); }
DEVICE void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }
// Takes the next number from 0 to `last`, after which the counter is 0 again.
DEVICE u32 count_up(u32* counter, u32 last) {
    u32 taken;
    asm volatile("atom.relaxed.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(taken) : "l"(counter), "r"(last) : "memory");
    return taken;
}

// ---------------------------------------------------------------- mbarriers
// A phase completes when all arrivals and all expected bytes are in. Phases alternate in parity, the first has parity 0; waiting
// for parity 1 on a fresh barrier passes at once.

DEVICE void mbarrier_init(u32 barrier, u32 arrivals) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory"); }
// Follows the initialisation of barriers that asynchronous copies signal.
DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
DEVICE void mbarrier_arrive(u32 barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
// One arrival, and `bytes` of copies that the phase also waits for.
DEVICE void mbarrier_arrive_expect(u32 barrier, u32 bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
DEVICE bool mbarrier_try_wait(u32 barrier, u32 parity) {
    u32 done;
    asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p; }" : "=r"(done) : "r"(barrier), "r"(parity) : "memory");
    return done;
}
DEVICE void mbarrier_wait(u32 barrier, u32 parity) {
    while (!mbarrier_try_wait(barrier, parity)) {}
}
// This thread's copy_async so far arrive for it when they have landed: one of the expected arrivals.
DEVICE void copy_async_arrive(u32 barrier) { asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory"); }

// A place in a ring of STAGES buffers, and the parity of the phase that the place is in.
template <int STAGES> struct RingPlace {
    int stage;
    u32 parity;
    DEVICE void advance() {
        if (++stage == STAGES) stage = 0, parity ^= 1;
    }
};

// ---------------------------------------------------------------- asynchronous copies

// 16 bytes from global to shared memory; of which the first `bytes`, the rest zero.
DEVICE void copy_async_16(u32 to, const void* from) { asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory"); }
DEVICE void copy_async_16(u32 to, const void* from, u32 bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
DEVICE void copy_async_8(u32 to, const void* from, u32 bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
DEVICE void copy_async_4(u32 to, const void* from, u32 bytes) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}
DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `PENDING` of this thread's groups are unfinished.
template <int PENDING> DEVICE void copy_async_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }
DEVICE void copy_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Contiguous bytes, a multiple of 16, as are the addresses. A load signals its bytes to an mbarrier; stores are waited for by group.
DEVICE void bulk_load(u32 to, const void* from, u32 bytes, u32 barrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes), "r"(barrier) : "memory");
}
DEVICE void bulk_store(void* to, u32 from, u32 bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}
DEVICE void bulk_reduce_add(float* to, u32 from, u32 bytes) {
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}
DEVICE void bulk_store_hinted(void* to, u32 from, u32 bytes, u64 hint) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint [%0], [%1], %2, %3;" ::"l"(to), "r"(from), "r"(bytes), "l"(hint) : "memory");
}
DEVICE void bulk_reduce_add_hinted(float* to, u32 from, u32 bytes, u64 hint) {
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.L2::cache_hint.add.f32 [%0], [%1], %2, %3;" ::"l"(to), "r"(from), "r"(bytes), "l"(hint) : "memory");
}
DEVICE void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Waits until at most `PENDING` of this thread's groups still read shared memory.
template <int PENDING> DEVICE void bulk_wait_read() { asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory"); }
// The same, and until the others' writes are done.
template <int PENDING> DEVICE void bulk_wait() { asm volatile("cp.async.bulk.wait_group %0;" ::"n"(PENDING) : "memory"); }

// What cuTensorMapEncodeTiled writes; a kernel gets it as a `const __grid_constant__` parameter.
struct alignas(64) TensorMap { char bytes[128]; };

// Boxes of a tensor, innermost coordinate first. A load fills what lies outside the tensor with zeros, and signals the bytes of
// the whole box; a store drops it.
DEVICE void tensor_load(u32 to, const TensorMap* map, u32 barrier, int x) {
    asm volatile("cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3}], [%2];" ::"r"(to), "l"(map), "r"(barrier), "r"(x) : "memory");
}
DEVICE void tensor_load(u32 to, const TensorMap* map, u32 barrier, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
        ::"r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y) : "memory");
}
DEVICE void tensor_load(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];"
        ::"r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z) : "memory");
}
DEVICE void tensor_load(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z, int w) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];"
        ::"r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
DEVICE void tensor_load(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z, int w, int v) {
    asm volatile("cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], [%2];"
        ::"r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "r"(v) : "memory");
}
// What the L2 cache should do with the lines.
enum CacheHint : u64 { EVICT_FIRST = 0x12F0000000000000ull, EVICT_LAST = 0x14F0000000000000ull };
DEVICE void tensor_load_hinted(u32 to, const TensorMap* map, u32 barrier, int x, int y, int z, int w, CacheHint hint) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;"
        ::"r"(to), "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w), "l"((u64)hint) : "memory");
}
DEVICE void tensor_store(const TensorMap* map, u32 from, int x, int y) {
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map), "r"(from), "r"(x), "r"(y) : "memory");
}
DEVICE void tensor_store(const TensorMap* map, u32 from, int x, int y, int z) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(map), "r"(from), "r"(x), "r"(y), "r"(z) : "memory");
}
DEVICE void tensor_store(const TensorMap* map, u32 from, int x, int y, int z, int w) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];"
        ::"l"(map), "r"(from), "r"(x), "r"(y), "r"(z), "r"(w) : "memory");
}
DEVICE void tensor_reduce_add(const TensorMap* map, u32 from, int x, int y) {
    asm volatile("cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(map), "r"(from), "r"(x), "r"(y) : "memory");
}
DEVICE void tensor_map_prefetch(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

// ---------------------------------------------------------------- wgmma: order and operands

// Registers written before are ready to be accumulators or A. Warpgroup-collective, as are the next two.
DEVICE void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most `PENDING` groups are unfinished.
template <int PENDING> DEVICE void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }
// Keeps the compiler from moving accesses to accumulators over this point.
template <int N> DEVICE void pin(float (&registers)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

// An operand in shared memory. `leading` and `stride` are byte distances. Swizzle: 0 none, 1 128 bytes, 2 64 bytes, 3 32 bytes.
DEVICE u64 matrix_descriptor(u32 address, u32 leading, u32 stride, u32 swizzle) {
    return (u64)((address & 0x3FFFF) >> 4) | (u64)(leading >> 4) << 16 | (u64)(stride >> 4) << 32 | (u64)swizzle << 62;
}

// A tile of 16-bit elements as TMA writes it with a swizzle of 128 bytes: chunks of 64 columns one after the other, a row of a
// chunk 128 bytes, its 16-byte pieces exchanged by row. The tile begins at a multiple of 1024 bytes.
constexpr u32 CHUNK_COLUMNS = 64, CHUNK_ROW_BYTES = 128, EIGHT_ROWS = 8 * CHUNK_ROW_BYTES;
DEVICE constexpr u32 chunk_bytes(int rows) { return rows * CHUNK_ROW_BYTES; }
// The same descriptor serves the product over columns (leading is ignored) and, transposed, over rows (leading leads to the next chunk).
DEVICE u64 tile_descriptor(u32 address, u32 chunk) { return matrix_descriptor(address, chunk, EIGHT_ROWS, 1); }
// What to add to a descriptor for the k-th 16 columns, or for the k-th 16 rows.
DEVICE u64 column_step(int k, u32 chunk) { return k % 4 * (32 >> 4) + k / 4 * (chunk >> 4); }
DEVICE u64 row_step(int k) { return k * (16 * CHUNK_ROW_BYTES >> 4); }
// The address of a 16-byte piece.
DEVICE u32 tile_address(u32 tile, u32 chunk, int row, int column) {
    const u32 linear = tile + column / CHUNK_COLUMNS * chunk + row * CHUNK_ROW_BYTES + column % CHUNK_COLUMNS * 2;
    return linear ^ (row & 7) << 4;
}
