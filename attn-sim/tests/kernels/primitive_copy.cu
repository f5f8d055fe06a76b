// Copies between global and shared memory without tensor maps, and barriers between warps.

// Every thread copies 4, 8 and 16 bytes, of which a part is zero-filled: out[4 | 8 | 16 bytes] by threads.
extern "C" __global__ void __launch_bounds__(128) copy_with_zero_fill(const unsigned char* in, unsigned char* out) {
    __shared__ __align__(16) unsigned char tile[128 * (4 + 8 + 16)];
    const u32 thread = threadIdx.x, shared = shared_address(tile), eights = 128 * 4, sixteens = 128 * 12;
    copy_async_4(shared + thread * 4, in + thread * 4, thread % 5);
    copy_async_commit();
    copy_async_8(shared + eights + thread * 8, in + eights + thread * 8, thread % 9);
    copy_async_commit();
    if (thread % 3) copy_async_16(shared + sixteens + thread * 16, in + sixteens + thread * 16, thread % 17);
    else copy_async_16(shared + sixteens + thread * 16, in + sixteens + thread * 16);
    copy_async_commit();
    u32* const words = (u32*)out;
    copy_async_wait<2>();
    words[thread] = load_shared_u32(shared + thread * 4);   // this thread's own: no barrier
    copy_async_wait<0>();
    __syncthreads();
    for (u32 word = 128 + thread; word < sizeof(tile) / 4; word += 128) words[word] = load_shared_u32(shared + word * 4);
}

// Two warps copy tiles into a ring of two, two warps read them backwards. Every copying thread arrives when its copies have landed.
extern "C" __global__ void __launch_bounds__(128) copy_ring(const uint4* in, uint4* out, int tiles) {
    __shared__ __align__(16) uint4 ring[2][64];
    __shared__ __align__(8) u64 barriers[4];
    const u32 full = shared_address(barriers), empty = full + 16;
    if (threadIdx.x == 0)
        for (int stage = 0; stage < 2; ++stage) mbarrier_init(full + 8 * stage, 64), mbarrier_init(empty + 8 * stage, 64);
    __syncthreads();
    const int thread = threadIdx.x % 64;
    if (threadIdx.x < 64) {
        RingPlace<2> place = {0, 1};
        for (int tile = 0; tile < tiles; ++tile, place.advance()) {
            mbarrier_wait(empty + 8 * place.stage, place.parity);
            copy_async_16(shared_address(&ring[place.stage][thread]), in + tile * 64 + thread);
            copy_async_arrive(full + 8 * place.stage);
        }
        copy_async_wait_all();
    } else {
        RingPlace<2> place = {0, 0};
        for (int tile = 0; tile < tiles; ++tile, place.advance()) {
            mbarrier_wait(full + 8 * place.stage, place.parity);
            const uint4 value = ring[place.stage][63 - thread];
            mbarrier_arrive(empty + 8 * place.stage);
            out[tile * 64 + thread] = value;
        }
    }
}

// 2 KiB come by one copy, are incremented, and go by one copy and by one addition.
extern "C" __global__ void __launch_bounds__(128) bulk_copies(const float* in, float* copied, float* added) {
    __shared__ __align__(128) float values[512];
    __shared__ __align__(8) u64 barrier_storage;
    const u32 shared = shared_address(values), barrier = shared_address(&barrier_storage);
    if (threadIdx.x == 0) {
        mbarrier_init(barrier, 1);
        mbarrier_init_fence();
        mbarrier_arrive_expect(barrier, sizeof(values));
        bulk_load(shared, in + blockIdx.x * 512, sizeof(values), barrier);
    }
    __syncthreads();   // the barrier is initialised
    mbarrier_wait(barrier, 0);
    for (int i = threadIdx.x; i < 512; i += 128) values[i] += 1.f;
    publish_shared_to_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        bulk_store(copied + blockIdx.x * 512, shared, sizeof(values));
        bulk_commit();
        bulk_reduce_add(added, shared, sizeof(values));
        bulk_commit();
        bulk_wait<0>();
    }
}

// All blocks add to the same 256 floats.
extern "C" __global__ void __launch_bounds__(64) reduce_vectors(const float4* in, float* out) {
    const float4 value = in[blockIdx.x * 64 + threadIdx.x];
    reduce_add_global_x4(out + 4 * threadIdx.x, value.x, value.y, value.z, value.w);
}

// Two warps write rounds of values, two warps read them: one named barrier says written, the other says read.
extern "C" __global__ void __launch_bounds__(128) named_barrier_hand_off(const u32* in, u32* out, int rounds) {
    __shared__ u32 values[64];
    const int thread = threadIdx.x % 64;
    for (int round = 0; round < rounds; ++round) {
        if (threadIdx.x < 64) {
            if (round > 0) named_barrier_sync(2, 128);
            values[thread] = in[round * 64 + thread];
            named_barrier_arrive(1, 128);
        } else {
            named_barrier_sync(1, 128);
            out[round * 64 + thread] = values[thread ^ 33] + round;
            if (round + 1 < rounds) named_barrier_arrive(2, 128);
        }
    }
}

// Every phase, all threads write, arrive and wait, and read a neighbour's value. The parity alternates.
extern "C" __global__ void __launch_bounds__(96) mbarrier_phases(u32* out, int phases) {
    __shared__ u32 values[2][96];
    __shared__ __align__(8) u64 barrier_storage;
    const u32 barrier = shared_address(&barrier_storage), thread = threadIdx.x;
    if (thread == 0) mbarrier_init(barrier, 96);
    __syncthreads();
    for (int phase = 0; phase < phases; ++phase) {
        values[phase % 2][thread] = phase * 1000 + thread;
        mbarrier_arrive(barrier);
        mbarrier_wait(barrier, phase % 2);
        out[phase * 96 + thread] = values[phase % 2][(thread * 7 + phase) % 96];
    }
}

// Warpgroup 0 gives its registers to the other two.
extern "C" __global__ void __launch_bounds__(384, 1) registers(const u32* in, u32* out) {
    u32 value = in[threadIdx.x];
    if (threadIdx.x < 128) {
        registers_release<24>();
        value += 1;
    } else {
        registers_acquire<240>();
        value *= 3;
    }
    out[threadIdx.x] = value;
}
