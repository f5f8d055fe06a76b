// Blocks that wait for each other through words of global memory.

// Work w adds part w of `in` to tile w % tiles, after the works of that tile with lower numbers. Blocks take works from a counter until
// there are none left, `share` of them at most. The turn of a tile is the number of parts that are in.
extern "C" __global__ void __launch_bounds__(64) ordered_additions(const float* in, float* out, int* turns, u32* counter, int tiles, int works, int share) {
    __shared__ __align__(128) float part[256];
    __shared__ int taken;
    const u32 part_address = shared_address(part);
    for (int count = 0; count < share; ++count) {
        if (threadIdx.x == 0) taken = count_up(counter, ~0u);
        __syncthreads();
        const int work = taken;
        if (work >= works) break;
        for (int i = threadIdx.x; i < 256; i += 64) part[i] = in[work * 256 + i];
        publish_shared_to_async();
        __syncthreads();   // the part is there, and `taken` is free
        if (threadIdx.x < 32) {
            const int tile = work % tiles, rank = work / tiles;
            if (threadIdx.x == 31) {
                while (load_acquire(turns + tile) != rank) {}
            }
            __syncwarp();
            if (threadIdx.x == 0) {
                float* const to = out + tile * 256;
                if (rank == 0) bulk_store_hinted(to, part_address, sizeof(part), EVICT_LAST);
                else if (rank % 2) bulk_reduce_add_hinted(to, part_address, sizeof(part), EVICT_LAST);
                else bulk_reduce_add(to, part_address, sizeof(part));
                bulk_commit();
                bulk_wait<0>();
                publish_global_to_async();
                // three ways to pass the turn on
                if (rank % 3 == 0) store_release(turns + tile, rank + 1);
                else if (rank % 3 == 1) add_release(turns + tile, 1);
                else fence_gpu(), store_relaxed(turns + tile, rank + 1);
            }
        }
        __syncthreads();   // the part is free
    }
}

// Two blocks change 64 values in turns. Both must run at the same time.
extern "C" __global__ void __launch_bounds__(64) to_and_fro(float* values, int* turn, int rounds) {
    const int block = blockIdx.x;
    for (int round = 0; round < rounds; ++round) {
        if (threadIdx.x == 0) {
            while (load_relaxed(turn) != 2 * round + block) {}
            fence_gpu();
        }
        __syncthreads();
        values[threadIdx.x] = values[threadIdx.x] * 0.75f + block + 1;
        __syncthreads();
        if (threadIdx.x == 0) store_release(turn, 2 * round + block + 1);
    }
}
