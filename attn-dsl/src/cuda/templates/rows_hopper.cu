//% include "forward_hopper_work"

// ---------------------------------------------------------------- kernel
// A row's threshold over some of its keys only rises when it sees more, so that what a lane has found to be below is out for good. A
// lane keeps what is not, of each of its two rows, in slots of its own in shared memory. When they are nearly full, and after 1, 2, 4...
// tiles, the four lanes of a row find a bound of its threshold from what they have, and drop what is below. A row that has
// more candidates than slots is marked, and left to the kernel that comes next.
constexpr u32 SLOT_BYTES = 4 * 32, ROW_SLOTS_BYTES = CAPACITY * SLOT_BYTES;
constexpr int PIECE = 8;   // products of a row that a lane looks at before it asks whether its slots are full

extern "C" __global__ void __launch_bounds__(THREADS, 1)
attn_rows(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const u32 q_tile = shared_address(shared), k_ring = q_tile + Q_BYTES, all_slots = k_ring + STAGES * K_TILE_BYTES;
    const u32 q_full = all_slots + 4 * CONSUMERS * 2 * ROW_SLOTS_BYTES, q_empty = q_full + 8;
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
    const u32 slots[2] = {all_slots + warp_row / 16 * 2 * ROW_SLOTS_BYTES + lane * 4, all_slots + (warp_row / 16 * 2 + 1) * ROW_SLOTS_BYTES + lane * 4};
    //% include "rows_scores"

    RingPlace place = {0, 0};
    for (u32 q_parity = 0;; q_parity ^= 1) {
        mbarrier_wait(q_full, q_parity);
        const Work work = load_work(work_slot);
        if (work.head < 0) break;
        //% include "rows_queries"

        // of a row beyond the last query nothing is kept
        float bound[2] = {first_q < q_len ? -INFINITY : INFINITY, first_q + 8 < q_len ? -INFINITY : INFINITY};   // what is not above is out; of @{ "the raw products" if scaled else "scores" }
        u32 end[2] = {slots[0], slots[1]};         // of the slots that are taken
        bool crowded = false;                      // whether a row of this warp has too many candidates
        int visited = 0, due = @{ 2 if entmax else 1 };                  // tiles
        bool is_number[2] = {true, true};          // whether no score so far is NaN
        float x[CAPACITY];                         // candidates of a row, minus infinity beyond the last
        int pieces = 0;                            // of 8 of them, of the lane that has most
        auto load_candidates = [&](int r) {
            const u32 first = slots[0] + r * ROW_SLOTS_BYTES, last = r == 0 ? end[0] : end[1];
            pieces = 0;
            bool numbers = true;
#pragma unroll
            for (int j = 0; j < CAPACITY / 8; ++j) {
                if (__any_sync(~0u, first + 8 * j * SLOT_BYTES < last)) {
                    pieces = j + 1;
#pragma unroll
                    for (int i = 8 * j; i < 8 * j + 8; ++i) {
                        x[i] = -INFINITY;
                        if (first + i * SLOT_BYTES < last) x[i] = @{ "score(load_shared_float(first + i * SLOT_BYTES), tile, query[0], Key{})" if scaled else "load_shared_float(first + i * SLOT_BYTES)" };
                        if (x[i] != x[i]) numbers = false;
                    }
                } else {
#pragma unroll
                    for (int i = 8 * j; i < 8 * j + 8; ++i) x[i] = -INFINITY;
                }
            }
            numbers = !quad_any(!numbers);
            if (r == 0) is_number[0] = is_number[0] && numbers;
            else is_number[1] = is_number[1] && numbers;
        };
        auto for_each = [&](auto what) {
#pragma unroll
            for (int j = 0; j < CAPACITY / 8; ++j)
                if (j < pieces) {
#pragma unroll
                    for (int i = 8 * j; i < 8 * j + 8; ++i) what(x[i]);
                }
        };
        //% if scaled
        // a bound of products from one of scores: as far below as roundings may be
        const float products_of_score = 1.f / tile.score_scale;
        auto below = [&](float limit) { return fmaf(limit, products_of_score, fabsf(limit * products_of_score) * -2e-6f); };
        //% else
        auto below = [&](float limit) { return fmaf(fabsf(limit), -2e-6f, limit); };
        //% endif
        auto limit_of = [&](int r) { return r == 0 ? bound[0] : bound[1]; };
        //% include solver

        auto is_full = [&] { return __any_sync(~0u, (int)max(end[0] - slots[0], end[1] - slots[1]) > (CAPACITY - PIECE) * (int)SLOT_BYTES); };
        auto prune = [&] {
#pragma unroll 1
            for (int r = 0; r < 2; ++r) {
                load_candidates(r);
                const float limit = fmaxf(limit_of(r), lower_bound(r));
                const u32 first = slots[0] + r * ROW_SLOTS_BYTES, last = r == 0 ? end[0] : end[1];
                u32 kept = first;
#pragma unroll
                for (int j = 0; j < CAPACITY / 8; ++j) {
                    if (j >= pieces) continue;
                    float candidates[8];
#pragma unroll
                    for (int i = 0; i < 8; ++i) {
                        candidates[i] = -INFINITY;
                        if (first + (8 * j + i) * SLOT_BYTES < last) candidates[i] = load_shared_float(first + (8 * j + i) * SLOT_BYTES);
                    }
#pragma unroll
                    for (int i = 0; i < 8; ++i)
                        if (!(candidates[i] <= limit)) store_shared(kept, candidates[i]), kept += SLOT_BYTES;
                }
                if (r == 0) bound[0] = limit, end[0] = kept;
                else bound[1] = limit, end[1] = kept;
            }
            __syncwarp();
            crowded = is_full();
        };
        auto visit = [&] {
            ++visited;
            //% if entmax
            if (visited == 1) start();
            //% endif
            for (int next = 0; !crowded;) {
                bool full = false;
#pragma unroll
                for (int piece = 0; piece < BLOCK_KV / 4 / PIECE; ++piece) {
                    if (piece == next && !full) {
#pragma unroll
                        for (int i = 2 * PIECE * piece; i < 2 * PIECE * (piece + 1); ++i)
                            if (!(s[i] <= bound[i / 2 % 2])) store_shared(end[i / 2 % 2], s[i]), end[i / 2 % 2] += SLOT_BYTES;
                        next = piece + 1;
                        full = is_full();
                    }
                }
                if (full || visited == due) {
                    if (visited == due) due *= 2;
                    prune();
                }
                if (next == BLOCK_KV / 4 / PIECE) break;
            }
        };
        //% include "rows_tiles"

        __syncwarp();
        if (lane == 0) mbarrier_arrive(q_empty);

        // ---------------------------------------------------------------- epilogue
#pragma unroll 1
        for (int r = 0; r < 2; ++r) {
            const int q = first_q + 8 * r;
            load_candidates(r);
            //% if entmax
            const float threshold = crowded ? 0.f : solve(r, 40, 1.2e-7f);
            //% else
            const Kept kept = crowded ? Kept{0.f, 0} : solve(r);
            //% endif
            if (lane % 4 == 0 && q < q_len) {
                const i64 row = @{ row_index };
                const bool numbers = r == 0 ? is_number[0] : is_number[1];
                //% if entmax
                arguments.@{ greatest }[row] = crowded ? limit_of(r)@{ " * tile.score_scale" if scaled else "" } : greatest == -INFINITY ? 0.f : greatest;
                arguments.@{ threshold }[row] = crowded ? __int_as_float(PENDING) : !numbers || greatest == INFINITY ? __int_as_float(0x7fc00000) : greatest == -INFINITY ? INFINITY : threshold;
                //% else
                arguments.@{ kth_score }[row] = crowded || !numbers ? __int_as_float(PENDING) : kept.score;
                //% if not ties
                arguments.@{ last_kept }[row] = __int_as_float(crowded || !numbers ? PENDING : kept.equals > 0 ? FIRST_EQUALS - kept.equals : (r == 0 ? wanted[0] : wanted[1]) < 1 ? -1 : 0x7fffffff);
                //% endif
                //% endif
            }
        }
    }
}
