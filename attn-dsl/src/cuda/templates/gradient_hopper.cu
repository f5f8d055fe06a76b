// Tiles all of whose pairs are live, and others: code for them is made apart.
struct Full { static constexpr bool partial = false; };
struct Partial { static constexpr bool partial = true; };
// A tile of @{ rows_name } of one head; after the last one, a tile of no head.
struct Work {
    int tile, head, batch;
};
__device__ __forceinline__ void store_work(u32 slot, const Work& work) { store_shared_16(slot, make_int4(work.tile, work.head, work.batch, 0)); }
__device__ __forceinline__ Work load_work(u32 slot) {
    const uint4 work = load_shared_16(slot);
    return {(int)work.x, (int)work.y, (int)work.z};
}
// Heads are taken in groups whose tensors fit the L2 cache, and within a group tile after tile of all its heads@{ ": those that see the most go first" if longest_first else "" }.
__device__ __forceinline__ Work work_at(const Arguments& arguments, int number) {
    const int tiles = (arguments.@{ row_len } + BLOCK_ROWS - 1) / BLOCK_ROWS, all_heads = arguments.heads@{ " / arguments.group" if of_keys else "" };
    if (number >= tiles * all_heads * arguments.batches) return {0, -1, 0};
    const int first = number / (tiles * arguments.@{ head_group }) * arguments.@{ head_group };   // of the group, over all batches
    const int heads = min(arguments.@{ head_group }, arguments.batches * all_heads - first), rest = number - first * tiles;
    const int head = first + rest % heads;
    return {@{ "rest / heads" if of_keys else "tiles - 1 - rest / heads" }, head % all_heads, head / all_heads};
}
// Tiles of @{ columns_name } that a range has, walked from the last: [first, last).
struct ColumnTiles {
    int first, last;
};
__device__ __forceinline__ ColumnTiles column_tiles_of(const Range& range) { return {range.begin / BLOCK_COLUMNS, (range.end + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS}; }
__device__ __forceinline__ Range live_of_tile(const Arguments& arguments, const Tile& tile, int row_tile) {
    return @{ live_of }(arguments, tile, row_tile * BLOCK_ROWS, row_tile * BLOCK_ROWS + BLOCK_ROWS);
}
//% if tile_mask
//% include "walk"
//% endif

// ---------------------------------------------------------------- kernel
// A block stays on its multiprocessor and computes @{ result } of tile after tile of @{ rows_name }. It keeps their rows of @{ own }@{ " and " ~ own_grad if want_ds else "" } in shared memory
// and walks the @{ columns_name } that they pair with: @{ formula }.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
@{ entry }(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const u32 @{ own }_tile = shared_address(shared)@{ ", " ~ own_grad ~ "_tile = " ~ own ~ "_tile + OWN_TILE_BYTES" if want_ds else "" };
    const u32 @{ other }_ring = @{ own_grad ~ "_tile + OWN_GRAD_TILE_BYTES" if want_ds else own ~ "_tile + OWN_TILE_BYTES" }, @{ other_grad }_ring = @{ other }_ring + STAGES * OTHER_TILE_BYTES;
    //% if staged
    const u32 @{ ring } = @{ other_grad }_ring + GRAD_STAGES * OTHER_GRAD_TILE_BYTES, own_full = @{ ring } + STAGES * @{ ring_bytes };
    //% else
    const u32 own_full = @{ other_grad }_ring + GRAD_STAGES * OTHER_GRAD_TILE_BYTES;
    //% endif
    const u32 own_empty = own_full + 8, work_full = own_empty + 8, work_empty = work_full + 8;
    // of stage i, 8 i bytes on
    const u32 full = work_empty + 8, empty = full + 8 * STAGES, grad_full = empty + 8 * STAGES, grad_empty = grad_full + 8 * GRAD_STAGES;
    const u32 work_slot = grad_empty + 8 * GRAD_STAGES;
    //% if tile_mask
    const u32 walk = work_slot + 16;   // a ring of tiles of @{ columns_name }, and its barriers
    //% endif

    if (threadIdx.x == 0) {
        mbarrier_init(own_full, 1), mbarrier_init(own_empty, CONSUMERS);
        mbarrier_init(work_full, 1), mbarrier_init(work_empty, @{ "COLUMN_WARPS + " if staged else "" }4 * CONSUMERS);
        for (int stage = 0; stage < STAGES; ++stage) mbarrier_init(full + 8 * stage, 1@{ " + COLUMN_WARPS" if staged else "" }), mbarrier_init(empty + 8 * stage, 4 * CONSUMERS);
        for (int stage = 0; stage < GRAD_STAGES; ++stage) mbarrier_init(grad_full + 8 * stage, 1), mbarrier_init(grad_empty + 8 * stage, CONSUMERS);
        //% if tile_mask
        for (int stage = 0; stage < WALK_STAGES; ++stage) mbarrier_init(walk + WALK_FULL + 8 * stage, 1), mbarrier_init(walk + WALK_EMPTY + 8 * stage, @{ "COLUMN_WARPS + " if staged else "" }4 * CONSUMERS);
        //% endif
        mbarrier_init_fence();
    }
    __syncthreads();

    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    // the number of a warpgroup is the same in all of a warp, which lets descriptors live in uniform registers
    const int warpgroup = __shfl_sync(~0u, threadIdx.x / 128, 0), lane = threadIdx.x % 32;
    if (warpgroup == 0) {   // ---------------------------------------- producer
        registers_release<PRODUCER_REGISTERS>();
        if (threadIdx.x < 32) {   // copies tiles
            //% if tile_mask
            const int works = (@{ row_len } + BLOCK_ROWS - 1) / BLOCK_ROWS * arguments.heads@{ " / arguments.group" if of_keys else "" } * arguments.batches;
            RingPlace place = {0, 1}, grad_place = {0, 1}, walk_place = {0, 1};   // fresh stages are empty
            u32 parity = 1;
            for (int number = blockIdx.x;; parity ^= 1) {
                const Work work = work_at(arguments, number);
                const int batch = work.batch;
                if (elect_one()) {
                    mbarrier_wait(work_empty, parity);
                    store_work(work_slot, work);
                    mbarrier_arrive(work_full);
                    if (work.head >= 0) {
                        const int row_begin = work.tile * BLOCK_ROWS;
                        mbarrier_wait(own_empty, parity);
                        mbarrier_arrive_expect(own_full, chunks(HEAD_DIM) * OWN_CHUNK_BYTES@{ " + OWN_GRAD_TILE_BYTES" if want_ds else "" });
                        for (int c = 0; c < chunks(HEAD_DIM); ++c) tensor_load(@{ own }_tile + c * OWN_CHUNK_BYTES, &arguments.@{ own }_map, own_full, c * CHUNK_COLUMNS, row_begin, work.head, batch, EVICT_FIRST);
                        //% if want_ds
                        for (int c = 0; c < chunks(VALUE_DIM); ++c) tensor_load(@{ own_grad }_tile + c * OWN_CHUNK_BYTES, &arguments.@{ own_grad }_map, own_full, c * CHUNK_COLUMNS, row_begin, work.head, batch, EVICT_FIRST);
                        //% endif
                    }
                }
                __syncwarp();
                if (work.head < 0) break;
                //% if of_keys
                for (int head = work.head * arguments.group; head < (work.head + 1) * arguments.group; ++head) {
                    const int other_head = head;
                //% else
                {
                    const int head = work.head, other_head = head / arguments.group;
                //% endif
                    const Tile tile = load_tile_values(arguments, batch, head);
                    const ColumnTiles tiles = column_tiles_of(live_of_tile(arguments, tile, work.tile));
                    LiveTiles seen = none_seen(tiles.last);
                    WalkedTile walked = {-1, false, false};   // the one found last: others are told when it is known whether another follows
                    for (int from = tiles.last - 1; !walked.last; --from) {
                        from = next_live(arguments, tile, seen, work.tile, from, tiles.first);
                        walked.last = from < 0;
                        const int column_tile = walked.tile;
                        if ((column_tile >= 0 || walked.last) && elect_one()) {
                            tell_walked(walk, walk_place, walked);
                            if (column_tile >= 0) {
                                mbarrier_wait(empty + 8 * place.stage, place.parity);
                                mbarrier_arrive_expect(full + 8 * place.stage, OTHER_TILE_BYTES);
                                for (int c = 0; c < chunks(HEAD_DIM); ++c)
                                    tensor_load(@{ other }_ring + place.stage * OTHER_TILE_BYTES + c * OTHER_CHUNK_BYTES, &arguments.@{ other }_map, full + 8 * place.stage, c * CHUNK_COLUMNS, column_tile * BLOCK_COLUMNS, other_head, batch, EVICT_LAST);
                                mbarrier_wait(grad_empty + 8 * grad_place.stage, grad_place.parity);
                                mbarrier_arrive_expect(grad_full + 8 * grad_place.stage, OTHER_GRAD_TILE_BYTES);
                                for (int c = 0; c < chunks(VALUE_DIM); ++c)
                                    tensor_load(@{ other_grad }_ring + grad_place.stage * OTHER_GRAD_TILE_BYTES + c * OTHER_CHUNK_BYTES, &arguments.@{ other_grad }_map, grad_full + 8 * grad_place.stage, c * CHUNK_COLUMNS, column_tile * BLOCK_COLUMNS, other_head, batch, EVICT_LAST);
                            }
                        }
                        __syncwarp();
                        if (column_tile >= 0 || walked.last) advance(walk_place, WALK_STAGES);
                        if (column_tile >= 0) advance(place, STAGES), advance(grad_place, GRAD_STAGES);
                        if (from >= 0) walked.tile = from, walked.full = is_full(seen, from);
                    }
                }
                if (lane == 0) number = gridDim.x + count_up(arguments.works_taken, works - 1);
                number = __shfl_sync(~0u, number, 0);
            }
            //% else
            if (elect_one()) {
                const int works = (@{ row_len } + BLOCK_ROWS - 1) / BLOCK_ROWS * arguments.heads@{ " / arguments.group" if of_keys else "" } * arguments.batches;
                RingPlace place = {0, 1}, grad_place = {0, 1};   // fresh stages are empty
                u32 parity = 1;
                for (int number = blockIdx.x;; number = gridDim.x + count_up(arguments.works_taken, works - 1), parity ^= 1) {
                    const Work work = work_at(arguments, number);
                    mbarrier_wait(work_empty, parity);
                    store_work(work_slot, work);
                    mbarrier_arrive(work_full);
                    if (work.head < 0) break;
                    const int batch = work.batch, row_begin = work.tile * BLOCK_ROWS;
                    mbarrier_wait(own_empty, parity);
                    mbarrier_arrive_expect(own_full, chunks(HEAD_DIM) * OWN_CHUNK_BYTES@{ " + OWN_GRAD_TILE_BYTES" if want_ds else "" });
                    for (int c = 0; c < chunks(HEAD_DIM); ++c) tensor_load(@{ own }_tile + c * OWN_CHUNK_BYTES, &arguments.@{ own }_map, own_full, c * CHUNK_COLUMNS, row_begin, work.head, batch, EVICT_FIRST);
                    //% if want_ds
                    for (int c = 0; c < chunks(VALUE_DIM); ++c) tensor_load(@{ own_grad }_tile + c * OWN_CHUNK_BYTES, &arguments.@{ own_grad }_map, own_full, c * CHUNK_COLUMNS, row_begin, work.head, batch, EVICT_FIRST);
                    //% endif
                    //% if of_keys
                    for (int head = work.head * arguments.group; head < (work.head + 1) * arguments.group; ++head) {
                        const int other_head = head;
                    //% else
                    {
                        const int head = work.head, other_head = head / arguments.group;
                    //% endif
                        const Tile tile = load_tile_values(arguments, batch, head);
                        const ColumnTiles tiles = column_tiles_of(live_of_tile(arguments, tile, work.tile));
                        for (int column_tile = tiles.last - 1; column_tile >= tiles.first; --column_tile) {
                            mbarrier_wait(empty + 8 * place.stage, place.parity);
                            mbarrier_arrive_expect(full + 8 * place.stage, OTHER_TILE_BYTES);
                            for (int c = 0; c < chunks(HEAD_DIM); ++c)
                                tensor_load(@{ other }_ring + place.stage * OTHER_TILE_BYTES + c * OTHER_CHUNK_BYTES, &arguments.@{ other }_map, full + 8 * place.stage, c * CHUNK_COLUMNS, column_tile * BLOCK_COLUMNS, other_head, batch, EVICT_LAST);
                            mbarrier_wait(grad_empty + 8 * grad_place.stage, grad_place.parity);
                            mbarrier_arrive_expect(grad_full + 8 * grad_place.stage, OTHER_GRAD_TILE_BYTES);
                            for (int c = 0; c < chunks(VALUE_DIM); ++c)
                                tensor_load(@{ other_grad }_ring + grad_place.stage * OTHER_GRAD_TILE_BYTES + c * OTHER_CHUNK_BYTES, &arguments.@{ other_grad }_map, grad_full + 8 * grad_place.stage, c * CHUNK_COLUMNS, column_tile * BLOCK_COLUMNS, other_head, batch, EVICT_LAST);
                            advance(place, STAGES), advance(grad_place, GRAD_STAGES);
                        }
                    }
                }
            }
            //% endif
        }
        //% if staged
        else if (threadIdx.x < 32 + 32 * COLUMN_WARPS) {   // computes what varies by @{ columns }
            RingPlace place = {0, 1}@{ ", walk_place = {0, 0}" if tile_mask else "" };
            for (u32 parity = 0;; parity ^= 1) {
                mbarrier_wait(work_full, parity);
                const Work work = load_work(work_slot);
                __syncwarp();
                if (lane == 0) mbarrier_arrive(work_empty);
                if (work.head < 0) break;
                const int batch = work.batch;
                for (int head = work.head@{ " * arguments.group; head < (work.head + 1) * arguments.group" if of_keys else "; head <= work.head" }; ++head) {
                    const Tile tile = load_tile_values(arguments, batch, head);
                    //% if tile_mask
                    for (WalkedTile walked = {0, false, false}; !walked.last; advance(place, STAGES)) {
                        walked = take_walked(walk, walk_place);
                        const int column_tile = walked.tile;
                        if (column_tile < 0) break;
                    //% else
                    const ColumnTiles tiles = column_tiles_of(live_of_tile(arguments, tile, work.tile));
                    for (int column_tile = tiles.last - 1; column_tile >= tiles.first; --column_tile, advance(place, STAGES)) {
                    //% endif
                        mbarrier_wait(empty + 8 * place.stage, place.parity);
                        for (int column = threadIdx.x - 32; column < BLOCK_COLUMNS; column += 32 * COLUMN_WARPS) {
                            // positions past the end read what the last one has; nothing of theirs is used
                            const int position = min(column_tile * BLOCK_COLUMNS + column, @{ column_len } - 1);
                            store_@{ columns }(@{ ring } + place.stage * @{ ring_bytes }, column, load_@{ columns }(arguments, tile, position, (float)position));
                        }
                        __syncwarp();
                        if (lane == 0) mbarrier_arrive(full + 8 * place.stage);
                    }
                }
            }
        }
        //% endif
        return;
    }

    // ---------------------------------------------------------------- consumers: 64 rows each
    registers_acquire<CONSUMER_REGISTERS>();
    const int group_row = (warpgroup - 1) * 64, warp_row = group_row + threadIdx.x / 32 % 4 * 16;
    // warpgroups take turns to issue products, so that one computes weights while another's products run
    const u32 my_turn = TURN + warpgroup - 1, next_turn = TURN + warpgroup % CONSUMERS, own_warps = OWN_WARPS + warpgroup - 1;
    if (warpgroup == CONSUMERS) named_barrier_arrive(next_turn, 256);
    float sum[padded(@{ result_dim }) / 2];   // of @{ result }
    u32 packed[BLOCK_COLUMNS / 4];      // @{ "the gradients of products" if want_ds else "weights" }, A of the next product
    float s[BLOCK_COLUMNS / 2]@{ ", dp[BLOCK_COLUMNS / 2]" if want_ds else "" };
    auto issue_scores = [&](int stage) {
        const u64 a = tile_descriptor(uniform(@{ own }_tile + group_row * CHUNK_ROW_BYTES), OWN_CHUNK_BYTES), b = tile_descriptor(@{ other }_ring + stage * OTHER_TILE_BYTES, OTHER_CHUNK_BYTES);
        pin(s);
        //% if want_ds
        pin(dp);
        //% endif
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < padded(HEAD_DIM) / 16; ++i) multiply_tiles(s, a + column_step(i, OWN_CHUNK_BYTES), b + column_step(i, OTHER_CHUNK_BYTES), i != 0);
        //% if not want_ds
        wgmma_commit();
        //% endif
    };
    //% if want_ds
    auto issue_dp = [&](int stage) {
        const u64 a = tile_descriptor(uniform(@{ own_grad }_tile + group_row * CHUNK_ROW_BYTES), OWN_CHUNK_BYTES), b = tile_descriptor(@{ other_grad }_ring + stage * OTHER_GRAD_TILE_BYTES, OTHER_CHUNK_BYTES);
#pragma unroll
        for (int i = 0; i < padded(VALUE_DIM) / 16; ++i) multiply_tiles(dp, a + column_step(i, OWN_CHUNK_BYTES), b + column_step(i, OTHER_CHUNK_BYTES), i != 0);
        wgmma_commit();
    };
    //% endif
    auto issue_sum = [&](int stage) {
        const u64 b = tile_descriptor(@{ other if want_ds else other_grad }_ring + stage * @{ "OTHER_TILE_BYTES" if want_ds else "OTHER_GRAD_TILE_BYTES" }, OTHER_CHUNK_BYTES);
        pin(sum);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_COLUMNS / 16; ++i) {
            const u32 a[4] = {packed[4 * i], packed[4 * i + 1], packed[4 * i + 2], packed[4 * i + 3]};
            multiply_weights(sum, a, b + row_step(i));
        }
        wgmma_commit();
    };
    auto release = [&](u32 barrier) {   // the whole warpgroup has waited for its products: one thread can speak for it
        if (threadIdx.x % 128 == 0) mbarrier_arrive(barrier);
    };
    auto release_columns = [&](int stage) {   // each warp for itself: it has read values, which no product orders
        __syncwarp();
        if (lane == 0) mbarrier_arrive(empty + 8 * stage);
    };

    RingPlace place = {0, 0}, grad_place = {0, 0}@{ ", walk_place = {0, 0}" if tile_mask else "" };
    for (u32 parity = 0;; parity ^= 1) {
        mbarrier_wait(work_full, parity);
        const Work work = load_work(work_slot);
        __syncwarp();
        if (lane == 0) mbarrier_arrive(work_empty);
        if (work.head < 0) break;
        const int batch = work.batch, first_row = work.tile * BLOCK_ROWS + warp_row + lane / 4;   // this thread's rows: first_row + 8 r
#pragma unroll
        for (int i = 0; i < padded(@{ result_dim }) / 2; ++i) sum[i] = 0.f;
        mbarrier_wait(own_full, parity);

        for (int head = work.head@{ " * arguments.group; head < (work.head + 1) * arguments.group" if of_keys else "; head <= work.head" }; ++head) {
            const Tile tile = load_tile_values(arguments, batch, head);
            //% if not tile_mask
            const Range range = live_of_tile(arguments, tile, work.tile);
            const ColumnTiles tiles = column_tiles_of(range);
            //% endif
            auto row_at = [&](int position) { position = min(position, @{ row_len } - 1); return load_@{ rows }(arguments, tile, position, (float)position); };
            const @{ row_structure } @{ rows }[2] = {row_at(first_row), row_at(first_row + 8)};
            //% for parameter in sums
            //% if parameter.per_pair
            float grad_@{ parameter.name }[2] = {};
            //% endif
            //% endfor
            //% if counts_live_rows
            bool row_is_live[2] = {};   // in one of this lane's columns
            //% endif
            //% if scale_pairs
            const float pair_scale = product_grad_scale(tile);
            //% endif
            //% if not residual
            // tiles all of whose pairs are live
            const int full_first = (work.tile + 1) * BLOCK_ROWS <= @{ row_len } ? (range.full_begin + BLOCK_COLUMNS - 1) / BLOCK_COLUMNS : tiles.last, full_last = range.full_end / BLOCK_COLUMNS;
            //% endif
            //% if tile_mask
            WalkedTile walked = take_walked(walk, walk_place);
            int column_tile = walked.tile;
            //% else
            int column_tile = tiles.last - 1;
            //% endif
            // whether the pair of register i is live; `seen` are the @{ columns_name } that this thread's rows pair with
            auto is_live_at = [&](int i, int first_@{ column_short }, const Range (&seen)[2], const Query& query, const Key& key) {
                const int column = i / 4 * 8 + i % 2, r = i / 2 % 2;
                //% if residual
                return first_@{ column_short } + column < @{ column_len } && first_row + 8 * r < @{ row_len }@{ " && is_live(" ~ mask_arguments ~ "tile, query, key)" if masked else "" };
                //% else
                return column < seen[r].end - first_@{ column_short } && column >= seen[r].begin - first_@{ column_short };
                //% endif
            };
            auto seen_by = [&](int row) { return @{ "Range{}" if residual else "row < " ~ row_len ~ " ? " ~ live_of ~ "(arguments, tile, row, row + 1) : Range{}" }; };
            // s becomes the weights@{ ", dp the gradient of the products" if want_ds else "" }
            auto weigh = [&](int stage, auto kind) {
                const int first_@{ column_short } = column_tile * BLOCK_COLUMNS + lane % 4 * 2;   // this thread's columns: first_@{ column_short } + 8 n + c
                Range seen[2];
                if constexpr (decltype(kind)::partial) seen[0] = seen_by(first_row), seen[1] = seen_by(first_row + 8);
                //% if inline_columns
                const float first_@{ column_short }_as_float = first_@{ column_short };
                //% endif
#pragma unroll
                for (int n = 0; n < BLOCK_COLUMNS / 8; ++n) {
                    @{ column_values }
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const int i = 4 * n + e;
                        const bool live = !decltype(kind)::partial || is_live_at(i, first_@{ column_short }, seen, @{ pair_of });
                        //% if want_ds
                        const Pair pair = backward_pair(@{ pair_arguments }s[i], dp[i], tile, @{ pair_of });
                        dp[i] = live ? pair.product_grad@{ " * pair_scale" if scale_pairs else "" } : 0.f;
                        //% for parameter in sums
                        //% if parameter.per_pair
                        grad_@{ parameter.name }[e / 2] += live ? pair.grad_@{ parameter.name } : 0.f;
                        //% endif
                        //% endfor
                        //% if counts_live_rows
                        row_is_live[e / 2] |= live;
                        //% endif
                        //% else
                        const float probability = backward_probability(@{ pair_arguments }s[i], tile, @{ pair_of });
                        s[i] = live ? probability : 0.f;
                        //% endif
                    }
                }
            };
            auto weigh_tile = [&](int stage) {
                //% if tile_mask
                if (walked.full) weigh(stage, Full{});
                else weigh(stage, Partial{});
                //% elif residual
                weigh(stage, Partial{});
                //% else
                if (column_tile < full_first || column_tile >= full_last) weigh(stage, Partial{});
                else weigh(stage, Full{});
                //% endif
            };
            auto pack_tile = [&] {
#pragma unroll
                for (int i = 0; i < BLOCK_COLUMNS / 4; ++i) packed[i] = @{ "pack(dp[2 * i], dp[2 * i + 1])" if want_ds else "pack(s[2 * i], s[2 * i + 1])" };
            };
            if (@{ "column_tile >= 0" if tile_mask else "tiles.first < tiles.last" }) {
                mbarrier_wait(full + 8 * place.stage, place.parity);
                //% if want_ds
                mbarrier_wait(grad_full + 8 * grad_place.stage, grad_place.parity);
                //% endif
                issue_scores(place.stage);
                //% if want_ds
                issue_dp(grad_place.stage);
                //% endif
                wgmma_wait<0>();
                pin(s);
                //% if want_ds
                pin(dp);
                release(grad_empty + 8 * grad_place.stage);
                advance(grad_place, GRAD_STAGES);
                //% endif
                weigh_tile(place.stage);
                //% if not want_ds
                release_columns(place.stage);
                //% endif
                pack_tile();
#pragma unroll 1
                while (@{ "!walked.last" if tile_mask else "column_tile > tiles.first" }) {
                    const int stage = place.stage;
                    advance(place, STAGES);
                    //% if tile_mask
                    walked = take_walked(walk, walk_place), column_tile = walked.tile;
                    //% else
                    --column_tile;
                    //% endif
                    mbarrier_wait(full + 8 * place.stage, place.parity);
                    mbarrier_wait(grad_full + 8 * grad_place.stage, grad_place.parity);
                    named_barrier_sync(my_turn, 256);
                    issue_scores(place.stage);
                    //% if want_ds
                    issue_dp(grad_place.stage);
                    issue_sum(stage);
                    //% else
                    issue_sum(grad_place.stage);
                    //% endif
                    named_barrier_arrive(next_turn, 256);
                    wgmma_wait<1>();
                    pin(s);
                    //% if want_ds
                    pin(dp);
                    release(grad_empty + 8 * grad_place.stage);
                    advance(grad_place, GRAD_STAGES);
                    //% endif
                    weigh_tile(place.stage);
                    //% if not want_ds
                    release_columns(place.stage);
                    //% endif
                    wgmma_wait<0>();   // the sum
                    pin(sum);
                    //% if want_ds
                    release_columns(stage);
                    //% else
                    release(grad_empty + 8 * grad_place.stage);
                    advance(grad_place, GRAD_STAGES);
                    //% endif
                    pack_tile();
                }
                //% if not want_ds
                mbarrier_wait(grad_full + 8 * grad_place.stage, grad_place.parity);
                issue_sum(grad_place.stage);
                //% else
                issue_sum(place.stage);
                //% endif
                wgmma_wait<0>();
                pin(sum);
                //% if want_ds
                release_columns(place.stage);
                //% else
                release(grad_empty + 8 * grad_place.stage);
                advance(grad_place, GRAD_STAGES);
                //% endif
                advance(place, STAGES);
            }
            //% if sums
            // one partial sum a row; a second kernel adds them up in a fixed order
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int row = first_row + 8 * r;
                //% for parameter in sums
                float sum_@{ parameter.name } = @{ "quad_sum(grad_" ~ parameter.name ~ "[r])" if parameter.per_pair else "0.f" };
                //% if parameter.per_row
                if (@{ "quad_any(row_is_live[r])" if counts_live_rows else "seen_by(row).begin < seen_by(row).end" }) sum_@{ parameter.name } += row_grad_@{ parameter.name }(tile, query[r]);
                //% endif
                if (lane % 4 == 0 && row < @{ row_len }) arguments.grad_@{ parameter.name }[((i64)batch * arguments.heads + head) * @{ row_len } + row] = sum_@{ parameter.name };
                //% endfor
            }
            //% endif
        }

        // ---------------------------------------------------------------- epilogue
        //% if product_grad_scale and want_ds and not scale_pairs
        const float scale = product_grad_scale(load_tile_values(arguments, batch, work.head@{ " * arguments.group" if of_keys else "" }));
#pragma unroll
        for (int i = 0; i < padded(@{ result_dim }) / 2; ++i) sum[i] *= scale;
        //% endif
        named_barrier_sync(own_warps, 128);   // its rows of @{ own } are used up: the result takes their place
#pragma unroll
        for (int c = 0; c < padded(@{ result_dim }) / 16; ++c) {
            u32 pairs[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) pairs[i] = pack(sum[8 * c + 2 * i], sum[8 * c + 2 * i + 1]);
            store_matrix_x4(tile_address(@{ own }_tile, OWN_CHUNK_BYTES, warp_row + lane % 16, c * 16 + lane / 16 * 8), pairs);
        }
        publish_shared();
        named_barrier_sync(own_warps, 128);
        if (threadIdx.x % 128 == 0) {
            for (int c = 0; c < chunks(@{ result_dim }); ++c)
                tensor_store(&arguments.@{ result_map }, @{ own }_tile + c * OWN_CHUNK_BYTES + group_row * CHUNK_ROW_BYTES, c * CHUNK_COLUMNS, work.tile * BLOCK_ROWS + group_row, work.head, batch);
            tensor_store_commit();
            tensor_store_wait();
            mbarrier_arrive(own_empty);
        }
    }
    if (warpgroup == 1) named_barrier_sync(my_turn, 256);   // the last turn is nobody's
}
