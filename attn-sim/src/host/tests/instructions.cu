// Every instruction that reaches the simulator, each with the call that it must become. `s` is 64, `g` the start of global memory.
typedef unsigned u32;
typedef unsigned long long u64;
struct alignas(64) Map { char bytes[128]; };

template <int PENDING> __device__ void wait() {
    asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");  // copy_async_wait(2)
}
#define COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define SPREAD(id) asm volatile("bar.sync %0, %1;" \
    :: "r"(id), \
       "n"(64))

extern "C" __global__ void instructions(u32 s, char* g, u32* out) {
    u32 a = 1, b = 2, c = 3, d = 4, p = 7;
    u64 wide = 0;
    float x = 0.5f, y = 1.5f, z = 2.5f, w = 3.5f;
    float acc[8] = {};
    unsigned short h = 0x1234;
    const u64 descriptor = 0x123456789ull;

    // cp.async
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" :: "r"(s), "l"(g));                                 // copy_async(64, g+0, 4, 4)
    asm volatile("cp.async.ca.shared::cta.global.L2::128B [%0 + 16], [%1+8], 8, %2;" :: "r"(s), "l"(g), "r"(0));  // copy_async(80, g+8, 8, 0)
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" :: "r"(s), "l"(g), "l"(wide));  // copy_async(64, g+0, 16, 16)
    asm volatile("{ .reg .pred ignore; setp.ne.b32 ignore, %2, 0; cp.async.cg.shared.global [%0], [%1], 16, ignore; }" :: "r"(s), "l"(g), "r"(1));  // copy_async(64, g+0, 16, 0)
    COMMIT();                                                                                                   // copy_async_commit()
    wait<2>();
    asm volatile("cp.async.wait_all;" ::: "memory");                                                            // copy_async_wait_all()
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" :: "r"(s));                             // copy_async_arrive(64, 1)
    asm volatile("cp.async.mbarrier.arrive.shared.b64 [%0];" :: "r"(s));                                        // copy_async_arrive(64, 0)

    // shared memory
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(x) : "r"(s));                                                 // load_shared(64, 4)
    asm volatile("ld.shared::cta.v2.s32 {%0, %1}, [%2 + 8];" : "=r"(a), "=r"(b) : "r"(s));                      // load_shared(72, 8)
    out[0] = a, out[1] = b;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, _}, [%3-4];" : "=r"(a), "=r"(b), "=r"(c) : "r"(s));             // load_shared(60, 16)
    asm volatile("ld.volatile.shared.u64 %0, [%1];" : "=l"(wide) : "r"(s));                                     // load_shared(64, 8)
    out[2] = (u32)wide, out[3] = (u32)(wide >> 32);
    asm volatile("ld.shared.b16 %0, [%1];" : "=h"(h) : "r"(s));                                                 // load_shared(64, 2)
    asm volatile("ld.shared.s8 %0, [%1];" : "=r"(a) : "r"(s + 7));                                              // load_shared(71, 1)
    out[4] = h, out[5] = a;
    asm volatile("st.shared.f32 [%0], %1;" :: "r"(s), "f"(1.f));                                                // store_shared(64, [00, 00, 80, 3f])
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" :: "r"(s), "f"(1.f), "f"(-1.f));                            // store_shared(64, [00, 00, 80, 3f, 00, 00, 80, bf])
    asm volatile("st.shared.u16 [%0], %1;" :: "r"(s), "h"(h));                                                  // store_shared(64, [40, 41])
    asm volatile("st.shared.v2.b16 [%0], {%1, %2};" :: "r"(s), "h"(h), "h"((unsigned short)1));                 // store_shared(64, [40, 41, 01, 00])
    asm volatile("st.shared.b64 [%0], %1;" :: "r"(s), "l"(0x0102030405060708ull));                              // store_shared(64, [08, 07, 06, 05, 04, 03, 02, 01])
    asm volatile("st.shared.v4.b32 [%0], {1, 2, 0x3, 0f3F800000};" :: "r"(s));                                  // store_shared(64, [01, 00, 00, 00, 02, 00, 00, 00, 03, 00, 00, 00, 00, 00, 80, 3f])

    // global memory
    asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "l"(g));  // access(g+0, 16, 0)
    asm volatile("st.global.v2.u32 [%0 + 16], {%1, %2};" :: "l"(g), "r"(5), "r"(6));                            // access(g+16, 8, 1)
    out[6] = ((u32*)g)[4] == 5 && ((u32*)g)[5] == 6;                                                            // access(g+16, 4, 0) access(g+20, 4, 0)
    asm volatile("red.global.add.f32 [%0], %1;" :: "l"(g), "f"(1.5f));                                          // atomic_add(g+0, [1.5])
    asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" :: "l"(g), "f"(1.f), "f"(2.f), "f"(3.f), "f"(4.f));  // atomic_add(g+0, [1.0, 2.0, 3.0, 4.0])
    asm volatile("atom.global.add.f32 %0, [%1], %2;" : "=f"(x) : "l"(g), "f"(2.f));                             // atomic_add(g+0, [2.0])
    out[7] = x == 42.f;
    atomicAdd((float*)g + 1, 3.f);                                                                              // atomic_add(g+4, [3.0])

    asm volatile("atom.relaxed.gpu.global.inc.u32 %0, [%1], %2;" : "=r"(a) : "l"(g), "r"(9));                   // atomic_word(g+0, 1, 9, 0, 4)
    out[7] &= a == 7;
    asm volatile("atom.global.add.u32 %0, [%1], %2;" : "=r"(a) : "l"(g), "r"(3));                               // atomic_word(g+0, 0, 3, 0, 4)
    asm volatile("atom.acq_rel.gpu.global.exch.b32 %0, [%1 + 8], %2;" : "=r"(a) : "l"(g), "r"(3));              // atomic_word(g+8, 2, 3, 0, 7)
    asm volatile("atom.acquire.cta.global.cas.b32 %0, [%1], %2, %3;" : "=r"(a) : "l"(g), "r"(3), "r"(4));       // atomic_word(g+0, 3, 4, 3, 1)
    asm volatile("red.release.gpu.global.add.s32 [%0], %1;" :: "l"(g), "r"(1) : "memory");                      // atomic_word(g+0, 0, 1, 0, 6)
    asm volatile("red.global.add.u32 [%0], 1;" :: "l"(g));                                                      // atomic_word(g+0, 0, 1, 0, 4)

    // words that other blocks wait for
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(a) : "l"(g) : "memory");                          // load_strong(g+0, 4, 5)
    asm volatile("ld.acquire.sys.global.u32 %0, [%1 + 4];" : "=r"(b) : "l"(g) : "memory");                      // load_strong(g+4, 4, 5)
    asm volatile("ld.relaxed.gpu.global.b32 %0, [%1];" : "=r"(c) : "l"(g) : "memory");                          // load_strong(g+0, 4, 4)
    asm volatile("ld.volatile.global.u64 %0, [%1];" : "=l"(wide) : "l"(g) : "memory");                          // load_strong(g+0, 8, 4)
    asm volatile("ld.acquire.cta.v2.f32 {%0, %1}, [%2];" : "=f"(x), "=f"(y) : "l"(g) : "memory");               // load_strong(g+0, 8, 1)
    out[17] = a == 0x13121110 && b == a && c == a && wide == 0x1716151413121110ull;
    asm volatile("st.release.gpu.global.s32 [%0], %1;" :: "l"(g), "r"(258) : "memory");                         // store_strong(g+0, [02, 01, 00, 00], 6)
    asm volatile("st.relaxed.gpu.global.u32 [%0 + 4], %1;" :: "l"(g), "r"(1) : "memory");                       // store_strong(g+4, [01, 00, 00, 00], 4)
    asm volatile("st.volatile.global.u16 [%0], %1;" :: "l"(g), "h"(h) : "memory");                              // store_strong(g+0, [40, 41], 4)

    // matrices
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(a) : "r"(s));                    // load_matrix(1, 0, 64)
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared::cta.b16 {%0, %1}, [%2];" : "=r"(a), "=r"(b) : "r"(s));  // load_matrix(2, 1, 64)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(a), "=r"(b), "=r"(c), "=r"(d) : "r"(s));  // load_matrix(4, 0, 64)
    out[8] = a + 10 * b + 100 * c + 1000 * d;
    asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" :: "r"(s), "r"(8), "r"(9));         // store_matrix([8, 9], 0, 64)
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared::cta.b16 [%0], {%1, %2, %3, %4};" :: "r"(s), "r"(8), "r"(9), "r"(10), "r"(11));  // store_matrix([8, 9, 10, 11], 1, 64)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %10, %10, %10};"
        : "=f"(x), "=f"(y), "=f"(z), "=f"(w)
        : "r"(1), "r"(2), "r"(3), "r"(4), "r"(5), "r"(6), "f"(0.25f));
    // multiply(0, [1, 2, 3, 4], [5, 6], [0.25, 0.25, 0.25, 0.25])
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(x), "+f"(y), "+f"(z), "+f"(w) : "r"(1), "r"(2), "r"(3), "r"(4), "r"(5), "r"(6));                 // multiply(1, [1, 2, 3, 4], [5, 6], [1.25, 2.25, 3.25, 4.25])
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, 0f00000000, %12};"
        : "=f"(x), "=f"(y), "=f"(z), "=f"(w) : "r"(1), "r"(2), "r"(3), "r"(4), "r"(5), "r"(6), "f"(w), "f"(z), "f"(x));  // multiply(2, [1, 2, 3, 4], [5, 6], [8.25, 6.25, 0.0, 2.25])

    // warps
    out[9] = __shfl_xor_sync(~0u, 5, 1);                                                                        // shuffle(4294967295, 5, 1, 2, 32)
    __shfl_up_sync(3, 5u, 2, 16);                                                                               // shuffle(3, 5, 2, 0, 16)
    asm volatile("shfl.sync.bfly.b32 %0, %1, 1, 0x1f, 0xffffffff;" : "=r"(a) : "r"(9));                         // shuffle(4294967295, 9, 1, 2, 32)
    asm volatile("shfl.sync.idx.b32 %0, %1, 0, 0x181f, 0xffffffff;" : "=f"(x) : "f"(1.f));                      // shuffle(4294967295, 1065353216, 0, 3, 8)
    out[10] = __any_sync(~0u, 4);                                                                               // vote(4294967295, 1, 0)
    __all_sync(1, 0);                                                                                           // vote(1, 0, 1)
    asm volatile("{ .reg .pred q; setp.eq.u32 q, %1, 3; vote.sync.ballot.b32 %0, q, -1; }" : "=r"(a) : "r"(3)); // vote(4294967295, 1, 2)
    __syncwarp();                                                                                               // sync_warp(4294967295)
    asm volatile("bar.warp.sync 15;");                                                                          // sync_warp(15)
    asm volatile("{ .reg .pred e; elect.sync _|e, 0xffffffff; selp.u32 %0, 1, 0, e; }" : "=r"(p));              // elect(4294967295)
    out[11] = p;

    // barriers and fences
    __syncthreads();                                                                                            // barrier_sync(0, 0)
    asm volatile("bar.sync 3;");                                                                                // barrier_sync(3, 0)
    SPREAD(5);                                                                                                  // barrier_sync(5, 64)
    asm volatile("barrier.cta.sync.aligned %0, %1;" :: "r"(4), "r"(96));                                        // barrier_sync(4, 96)
    asm volatile("bar.arrive %0, %1;" :: "r"(4), "r"(96));                                                      // barrier_arrive(4, 96)
    asm volatile("barrier.cta.arrive 4, 96;");                                                                  // barrier_arrive(4, 96)
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");                                                // fence(0)
    asm volatile("fence.proxy.async.global;" ::: "memory");                                                     // fence(1)
    asm volatile("fence.proxy.async;" ::: "memory");                                                            // fence(2)
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");                                          // fence(3)
    asm volatile("membar.cta;" ::: "memory");                                                                   // fence(4)
    asm volatile("fence.acq_rel.cta;" ::: "memory");                                                            // fence(4)
    asm volatile("membar.gl;" ::: "memory");                                                                    // fence(5)
    asm volatile("fence.acq_rel.cluster;" ::: "memory");                                                        // fence(4)
    asm volatile("fence.sc.gpu;" ::: "memory");                                                                 // fence(5)
    asm volatile("fence.acq_rel.gpu;" ::: "memory");                                                            // fence(5)
    __threadfence_block();                                                                                      // fence(4)
    __threadfence();                                                                                            // fence(5)
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(240));                                            // set_registers(240, 1)
    asm volatile("setmaxnreg.dec.sync.aligned.u32 24;");                                                        // set_registers(24, 0)

    // mbarriers
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(s), "r"(3));                                  // mbarrier_init(64, 3)
    asm volatile("mbarrier.inval.shared.b64 [%0];" :: "r"(s));                                                  // mbarrier_invalidate(64)
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" :: "r"(s), "r"(512));               // mbarrier_expect(64, 512)
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(s));                                         // mbarrier_arrive(64, 1, 0)
    asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0], 2;" :: "r"(s));                          // mbarrier_arrive(64, 2, 0)
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(s), "r"(512));                 // mbarrier_arrive(64, 1, 512)
    asm volatile("{ .reg .pred done;\nWAIT: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra WAIT; }" :: "r"(s), "r"(1));  // mbarrier_wait(64, 1, 0)
    asm volatile("{\n.reg .pred P1;\nLAB_WAIT:\nmbarrier.try_wait.parity.shared::cta.b64 P1, [%0], %1, 0x989680;\n@P1 bra DONE;\nbra LAB_WAIT;\nDONE:\n}" :: "r"(s), "r"(0));  // mbarrier_wait(64, 0, 0)
    asm volatile("{ .reg .pred t; mbarrier.test_wait.parity.shared::cta.b64 t, [%1], 1; selp.b32 %0, 1, 0, t; }" : "=r"(p) : "r"(s));  // mbarrier_wait(64, 1, 1)
    out[12] = p;

    // bulk copies
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4, %5, %6}], [%2], %7;"
        :: "r"(s), "l"((Map*)g), "r"(s + 8), "r"(1), "r"(-2), "r"(3), "r"(4), "l"(0x14F0000000000000ull));      // tensor_load(64, g+0, 72, [1, -2, 3, 4])
    asm volatile("cp.async.bulk.tensor.1d.shared::cta.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3}], [%2];" :: "r"(s), "l"(g), "r"(s), "r"(7));  // tensor_load(64, g+0, 64, [7])
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" :: "l"(g), "r"(s), "r"(7), "r"(8));  // tensor_store(g+0, 64, [7, 8], 0)
    asm volatile("cp.reduce.async.bulk.tensor.5d.global.shared::cta.add.tile.bulk_group [%0, {%2, %2, %2, %2, 9}], [%1];" :: "l"(g), "r"(s), "r"(7));  // tensor_store(g+0, 64, [7, 7, 7, 7, 9], 1)
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" :: "r"(s), "l"(g), "r"(256), "r"(s + 8));  // bulk_load(64, g+0, 256, 72)
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" :: "l"(g), "r"(s), "r"(256));    // bulk_store(g+0, 64, 256, 0)
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint [%0], [%1], %2, %3;" :: "l"(g), "r"(s), "r"(256), "l"(wide));  // bulk_store(g+0, 64, 256, 0)
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" :: "l"(g), "r"(s), "r"(256));  // bulk_store(g+0, 64, 256, 1)
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.L2::cache_hint.add.f32 [%0], [%1], %2, %3;" :: "l"(g), "r"(s), "r"(256), "l"(wide));  // bulk_store(g+0, 64, 256, 1)
    asm volatile("cp.async.bulk.commit_group;\ncp.async.bulk.wait_group.read 0;" ::: "memory");                 // bulk_commit() bulk_wait(0, 1)
    asm volatile("cp.async.bulk.wait_group %0;" :: "n"(1) : "memory");                                          // bulk_wait(1, 0)
    asm volatile("prefetch.tensormap [%0];" :: "l"(g));
    asm volatile("tensormap.replace.tile.global_address.global.b1024.b64 [%0], %1;" :: "l"(g), "l"(77ull) : "memory");  // tensor_map_replace(g+0, 0, 77)
    asm volatile("tensormap.replace.tile.global_dim.global.b1024.b32 [%0], 1, %1;" :: "l"(g), "r"(9) : "memory");     // tensor_map_replace(g+0, 2, 9)
    asm volatile("fence.proxy.tensormap::generic.release.gpu;" ::: "memory");                                   // fence(6)
    asm volatile("fence.proxy.tensormap::generic.acquire.gpu [%0], 128;" :: "l"(g) : "memory");                  // tensor_map_acquire(g+0)
    asm volatile("cp.async.bulk.prefetch.tensor.2d.L2.global.tile [%0, {%1, %1}];" :: "l"(g), "r"(0));
    asm volatile("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(wide));
    out[13] = wide == 0;

    // warpgroup products
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");                                                     // wgmma_fence()
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %6, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, p, 1, -1, 0, 1; }"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3]) : "l"(descriptor), "l"(descriptor + 2), "r"(1));  // wgmma(4 accumulators, element 1, a 4886718345, b 4886718347, accumulate 1, signs 1 -1, transposed 0 1)
    asm volatile("{ .reg .pred p; setp.ne.b32 p, 0, 0; wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, {%8, %9, %10, %11}, %12, p, 1, 1, %13; }"
        : "+f"(acc[0]), "+f"(acc[1]), "+f"(acc[2]), "+f"(acc[3]), "+f"(acc[4]), "+f"(acc[5]), "+f"(acc[6]), "+f"(acc[7]) : "r"(21), "r"(22), "r"(23), "r"(24), "l"(descriptor), "n"(1));  // wgmma(8 accumulators, element 0, a [21, 22, 23, 24], b 4886718345, accumulate 0, signs 1 1, transposed 0 1)
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(acc[i]) :: "memory");
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");                                              // wgmma_commit()
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");                                              // wgmma_wait(0)
    out[14] = acc[0] == 100.f && acc[7] == 107.f;

    // shared variables
    extern __shared__ __align__(1024) unsigned char dynamic[];                                                  // dynamic_shared()
    __shared__ __align__(16) float tile[2][4], other;                                                           // static_shared(1, 32, 16) static_shared(2, 4, 16)
    static __shared__ u64 counter;                                                                              // static_shared(3, 8, 8)
    out[15] = (u64)dynamic == 256 && sizeof(tile) == 32 && (u64)&tile[1][0] == 512 + 16 && (u64)&counter == 512;
    out[16] = __cvta_generic_to_shared(dynamic + 8);                                                            // shared_address(264)

    // predicates and jumps
    asm volatile("{ .reg .pred p; setp.lt.s32 p, %0, 0; @p trap; @!p bar.sync 9; }" :: "r"(1));                 // barrier_sync(9, 0)
    asm volatile("{ .reg .b32 i; mov.b32 i, 0;\nAGAIN: { .reg .pred more; bar.sync i; add.s32 i, i, 1; setp.lt.u32 more, i, 2; @more bra.uni AGAIN; } }");  // barrier_sync(0, 0) barrier_sync(1, 0)
    if (a == 12345) asm volatile("bar.sync 1;");
    else asm volatile("bar.sync 2;");                                                                           // barrier_sync(2, 0)
    __trap();                                                                                                   // trap()
}
