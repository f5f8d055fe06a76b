//% include "forward_hopper_work"

// Whether all pairs of a tile are live.
struct Fullness { bool full; };

// ---------------------------------------------------------------- kernel
// A forward pass that makes nothing of values: what a row's weights add up to.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attn_rows(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const u32 q_tile = shared_address(shared), k_ring = q_tile + Q_BYTES, q_full = k_ring + STAGES * K_TILE_BYTES, q_empty = q_full + 8;
    const u32 k_full = q_empty + 8, k_empty = k_full + 8 * STAGES, work_slot = k_empty + 8 * STAGES;   // of stage i, 8 i bytes on
    //% if tile_mask
    const u32 live_tile_slots = work_slot + @{ work_bytes - 16 };
    //% endif
    if (threadIdx.x == 0) {
        mbarrier_init(q_full, 1), mbarrier_init(q_empty, 4 * CONSUMERS);
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
    for (u32 q_parity = 0;; q_parity ^= 1) {
        mbarrier_wait(q_full, q_parity);
        const Work work = load_work(work_slot);
        if (work.head < 0) break;
        //% include "rows_queries"

        //% if shifted
        bool raised;   // whether a row of this warp got a new maximum
        float row_max[2], rescale[2];   // of @{ "the raw products" if scaled else "the exponents, log2 units" }
#pragma unroll
        for (int r = 0; r < 2; ++r) row_max[r] = @{ row_max_start };
        //% endif
        //% if sum
        float row_sum[2] = {0.f, 0.f};
        //% endif
        //% if sum_squares
        float row_sum_squares[2] = {0.f, 0.f};
        //% endif
        //% if largest
        float largest[2] = {-INFINITY, -INFINITY};
        int largest_at[2] = {0, 0};
        //% endif

        //% include "forward_hopper_weigh"

        auto evaluate = [&](int kv_tile, bool full) { weigh(kv_tile, 0, Fullness{full}); };
        //% include "rows_visits"

        __syncwarp();
        if (lane == 0) mbarrier_arrive(q_empty);

        // ---------------------------------------------------------------- epilogue
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int q = first_q + 8 * r;
            //% if shifted
            const float shift = row_max[r] == -INFINITY ? 0.f : row_max[r]@{ " * tile.exponent_scale" if scaled else "" };
            //% endif
            //% if sum
            const float sum = quad_sum(row_sum[r]);
            //% endif
            //% if sum_squares
            const float sum_squares = quad_sum(row_sum_squares[r]);
            //% endif
            //% if largest
#pragma unroll
            for (int distance = 1; distance < 4; distance *= 2) {
                const float other = __shfl_xor_sync(~0u, largest[r], distance);
                const int other_at = __shfl_xor_sync(~0u, largest_at[r], distance);
                if (other > largest[r] || (other == largest[r] && other_at < largest_at[r])) largest[r] = other, largest_at[r] = other_at;
            }
            const float max_weight = largest[r] == -INFINITY ? 0.f : @{ ("exp2_approx(largest[r] * tile.exponent_scale - shift)" if scaled else "exp2_approx(largest[r] - shift)") if shifted else "largest[r]" };
            //% endif
            const float z = normalizer(tile, query[r]@{ normalizer_arguments });
            if (lane % 4 == 0 && q < q_len) {
                const i64 row = @{ row_index };
                //% for save in saved
                @{ save }
                //% endfor
            }
        }
    }
}
