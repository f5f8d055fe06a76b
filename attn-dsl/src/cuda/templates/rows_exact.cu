//% include "forward_hopper_work"

// ---------------------------------------------------------------- kernel
// Whether a row is left.
//% if entmax or ties
__device__ __forceinline__ bool is_left(int mark) { return mark == PENDING; }
//% else
__device__ __forceinline__ bool is_left(int mark) { return mark == PENDING || mark < FIRST_EQUALS; }
//% endif

// Rows that the kernel before has marked, since they have more candidates than it has slots, or scores whose order matters. A block
// visits all of their keys again and again, in their order.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attn_rows_exact(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const u32 q_tile = shared_address(shared), k_ring = q_tile + Q_BYTES, q_full = k_ring + STAGES * K_TILE_BYTES, q_empty = q_full + 8;
    const u32 k_full = q_empty + 8, k_empty = k_full + 8 * STAGES, work_slot = k_empty + 8 * STAGES;   // of stage i, 8 i bytes on
    //% if tile_mask
    const u32 live_tile_slots = work_slot + @{ work_bytes - 16 };
    //% endif
    // whether a warp wants to see the keys once more, twice, since one may be a pass ahead, and whether any does
    const u32 votes = work_slot + @{ work_bytes }, verdict = votes + 2 * 4 * CONSUMERS * 4, verdict_full = verdict + 8;
    if (threadIdx.x == 0) {
        mbarrier_init(q_full, 1), mbarrier_init(q_empty, 4 * CONSUMERS), mbarrier_init(verdict_full, 1);
        for (int stage = 0; stage < STAGES; ++stage) mbarrier_init(k_full + 8 * stage, 1), mbarrier_init(k_empty + 8 * stage, 4 * CONSUMERS);
        mbarrier_init_fence();
    }
    __syncthreads();

    //% if packed
    const int works = (arguments.total_q / BLOCK_Q + arguments.sequences) * arguments.heads;
    //% else
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    const int works = (q_len + BLOCK_Q - 1) / BLOCK_Q * arguments.heads * arguments.batches;
    //% endif
    // the number of a warpgroup is the same in all of a warp, which lets descriptors live in uniform registers
    const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0), lane = threadIdx.x % 32;
    if (warpgroup == 0) {   // ---------------------------------------- producer
        registers_release<PRODUCER_REGISTERS>();
        //% include "rows_walk"

        return;
    }

    // ---------------------------------------------------------------- consumers: 64 queries each
    registers_acquire<CONSUMER_REGISTERS>();
    const int group_row = (warpgroup - 1) * 64, warp_row = group_row + threadIdx.x / 32 % 4 * 16;
    //% include "rows_scores"

    RingPlace place = {0, 0};
    int passes = 0;   // of all tiles of queries
    for (u32 q_parity = 0;; q_parity ^= 1) {
        mbarrier_wait(q_full, q_parity);
        const Work work = load_work(work_slot);
        if (work.head < 0) break;
        //% include "rows_queries"

        bool pending[2];
        i64 rows[2];
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int q = min(first_q + 8 * r, q_len - 1);
            rows[r] = @{ row_index };
            pending[r] = first_q + 8 * r < q_len && is_left(__float_as_int(arguments.@{ marked }[rows[r]]));
        }
        //% include solver

        for (bool again = true; again; ++passes) {
            begin();
            //% include "rows_tiles"

            const bool wants = __any_sync(~0u, finish());
            const u32 own_votes = votes + passes % 2 * (4 * CONSUMERS * 4);
            if (lane == 0) store_shared(own_votes + warp_row / 16 * 4, (int)wants);
            named_barrier_sync(CONSUMERS_TOGETHER, 128 * CONSUMERS);
            again = false;
            for (int warp = 0; warp < 4 * CONSUMERS; ++warp) again |= load_shared_int(own_votes + warp * 4) != 0;
            if (threadIdx.x == 128) {
                store_shared(verdict, (int)again);
                mbarrier_arrive(verdict_full);
            }
        }
#pragma unroll
        for (int r = 0; r < 2; ++r)
            if (lane % 4 == 0 && pending[r]) store(r);
        __syncwarp();
        if (lane == 0) mbarrier_arrive(q_empty);
    }
}
