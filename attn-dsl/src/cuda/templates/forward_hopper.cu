//% if not tile_branch
// Tiles all of whose pairs are live, and others: code for them is made apart.
struct Full { static constexpr bool partial = false; };
struct Partial { static constexpr bool partial = true; };
//% endif
//% include "forward_hopper_work"

// ---------------------------------------------------------------- kernel
// A block stays on its multiprocessor and computes tile after tile of queries: its first has the block's number, every further one
// is the next that no block has taken. While consumers finish a tile the producer loads the first keys of the next.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attn_forward(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(1024) unsigned char shared[];
    //% if own_output_tile
    const u32 q_tile = shared_address(shared), o_tile = q_tile + Q_BYTES, k_ring = o_tile + O_TILE_BYTES, v_ring = k_ring + STAGES * K_TILE_BYTES;
    //% else
    const u32 q_tile = shared_address(shared), o_tile = q_tile;   // each warpgroup's output takes the place of its queries
    const u32 k_ring = q_tile + Q_TILE_BYTES, v_ring = k_ring + STAGES * K_TILE_BYTES;
    //% endif
    //% if key_bias
    // what a key adds to its products is a slice of their depth: numbers of the keys, ones of the queries
    const u32 ones = v_ring + STAGES * V_TILE_BYTES, bias_ring = ones + ONES_BYTES, bias_offsets = bias_ring + STAGES * BIAS_TILE_BYTES;   // and how far the offset rose, and the offset
    //% if stage_keys
    const u32 key_ring = bias_offsets + 8 * STAGES, q_full = key_ring + STAGES * KEY_RING_BYTES;
    //% else
    const u32 q_full = bias_offsets + 8 * STAGES;
    //% endif
    //% elif stage_keys
    const u32 key_ring = v_ring + STAGES * V_TILE_BYTES, q_full = key_ring + STAGES * KEY_RING_BYTES;
    //% else
    const u32 q_full = v_ring + STAGES * V_TILE_BYTES;
    //% endif
    const u32 q_empty = q_full + 8;
    // of stage i, 8 i bytes on
    const u32 k_full = q_empty + 8, k_empty = k_full + 8 * STAGES, v_full = k_empty + 8 * STAGES, v_empty = v_full + 8 * STAGES;
    //% if keys
    const u32 key_full = v_empty + 8 * STAGES, key_empty = key_full + 8 * STAGES, work_slot = key_empty + 8 * STAGES;
    //% if relatives
    const u32 relative_ring = work_slot + @{ work_bytes };
    //% endif
    //% else
    const u32 work_slot = v_empty + 8 * STAGES;
    //% endif
    //% if tile_mask
    const u32 live_tile_slots = work_slot + @{ work_bytes - 16 };
    //% endif

    if (threadIdx.x == 0) {
        mbarrier_init(q_full, 1), mbarrier_init(q_empty, @{ "4 * " if own_output_tile else "" }CONSUMERS@{ " + KEY_WARPS" if keys else "" });
        for (int stage = 0; stage < STAGES; ++stage) {
            mbarrier_init(k_full + 8 * stage, 1), mbarrier_init(k_empty + 8 * stage, @{ "4 * " if tile_mask else "" }CONSUMERS);
            mbarrier_init(v_full + 8 * stage, 1), mbarrier_init(v_empty + 8 * stage, CONSUMERS);
            //% if keys
            mbarrier_init(key_full + 8 * stage, KEY_WARPS), mbarrier_init(key_empty + 8 * stage, 4 * CONSUMERS);
            //% endif
        }
        mbarrier_init_fence();
    }
    //% if key_bias
    if (threadIdx.x < 64) store_ones(ones, threadIdx.x);
    publish_shared();
    //% endif
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
        //% if packed or tile_mask
        //% include "forward_hopper_walk"
        //% else
        //% include "forward_hopper_copies"
        //% endif
        //% if keys
        //% include "forward_hopper_keys"
        //% endif
        return;
    }

    // ---------------------------------------------------------------- consumers: 64 queries each
    registers_acquire<CONSUMER_REGISTERS>();
    const int group_row = (warpgroup - 1) * 64, warp_row = group_row + threadIdx.x / 32 % 4 * 16;
    // warpgroups take turns to issue products, so that one computes weights while another's products run
    const u32 my_turn = TURN + warpgroup - 1, next_turn = TURN + warpgroup % CONSUMERS, own_warps = OWN_WARPS + warpgroup - 1;
    if (warpgroup == CONSUMERS) named_barrier_arrive(next_turn, 256);
    float s[BLOCK_KV / 2], o[padded(VALUE_DIM) / 2];
    u32 weights[BLOCK_KV / 4];
    auto issue_scores = [&](int stage) {   // s = q k^T
        const u64 q = tile_descriptor(q_tile + group_row * CHUNK_ROW_BYTES, Q_CHUNK_BYTES), k = tile_descriptor(k_ring + stage * K_TILE_BYTES, KV_CHUNK_BYTES);
        pin(s);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < padded(HEAD_DIM) / 16; ++i) multiply_tiles(s, q + column_step(i, Q_CHUNK_BYTES), k + column_step(i, KV_CHUNK_BYTES), i != 0);
        //% if key_bias
        add_numbers(s, slice_descriptor(ones), slice_descriptor(bias_ring + stage * BIAS_TILE_BYTES));
        //% endif
        wgmma_commit();
    };
    auto issue_output = [&](int stage) {   // o += weights v
        const u64 v = tile_descriptor(v_ring + stage * V_TILE_BYTES, KV_CHUNK_BYTES);
        pin(o);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 16; ++i) {
            const u32 a[4] = {weights[4 * i], weights[4 * i + 1], weights[4 * i + 2], weights[4 * i + 3]};
            multiply_weights(o, a, v + row_step(i));
        }
        wgmma_commit();
    };
    //% if sigmoid
    bool small = true;   // whether all y of this warp are below @{ small_y }
    auto pack_weights = [&] {   // two neighbouring accumulators, y = 2^t, are a register of the next product's A: 1 / (1 + 2^-t) = y / (1 + y)
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 4; ++i) weights[i] = pack(fmaf(-s[2 * i], s[2 * i], s[2 * i]), fmaf(-s[2 * i + 1], s[2 * i + 1], s[2 * i + 1]));
        if (!small) {   // up to there y - y^2 is as good as the rounding to @{ dtype }, beyond a reciprocal is needed
            auto exact = [](float y) { y = y > 16777216.f ? 16777216.f : y; return y * reciprocal_approx(1.f + y); };   // a NaN stays one
#pragma unroll
            for (int i = 0; i < BLOCK_KV / 4; ++i) weights[i] = pack(exact(s[2 * i]), exact(s[2 * i + 1]));
        }
    };
    //% else
    auto pack_weights = [&] {   // two neighbouring accumulators are a register of the next product's A
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 4; ++i) weights[i] = pack(s[2 * i], s[2 * i + 1]);
    };
    //% endif
    //% if tile_mask
    auto release_keys = [&](u32 empty) {   // each warp for itself: it has read which tile this is, which no product orders
        __syncwarp();
        if (lane == 0) mbarrier_arrive(empty);
    };
    //% endif
    auto release = [&](u32 empty) {   // the whole warpgroup has waited for its products: one thread can speak for it
        if (threadIdx.x % 128 == 0) mbarrier_arrive(empty);
    };

    //% if own_output_tile
    auto release_queries = [&] {   // each warp for itself: it has read the slot, which no product orders
        __syncwarp();
        if (lane == 0) mbarrier_arrive(q_empty);
    };
    //% endif
    //% if relatives
    u32 relative_table = relative_ring;   // of the tile of keys
    // from there to the place of this thread's first row and column
    const u32 my_distances = (BLOCK_Q + lane % 4 * 2 - warp_row - lane / 4) * 4@{ " + lane / 4 % 2 * (RELATIVE_COPY_BYTES - 4)" if relative_copies > 1 else "" };
    //% endif
    RingPlace place = {0, 0};
    //% if packed
    int sequence = -1;   // whose tensor map of outputs is known
    //% endif
    for (u32 q_parity = 0;; q_parity ^= 1) {
        mbarrier_wait(q_full, q_parity);
        const Work work = load_work(work_slot);
        if (work.head < 0) break;
        const int head = work.head, batch = work.batch;
        //% if packed
        const int q_len = work.q_len, kv_len = work.kv_len;
        //% endif
        const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
        //% if not tile_mask
        const Range range = live_keys_of(arguments, tile, work.q_begin, min(work.q_begin + BLOCK_Q, q_len));
        const int first = range.begin / BLOCK_KV, last = (range.end + BLOCK_KV - 1) / BLOCK_KV;
        //% endif
        //% if origin
        const int q_begin = work.q_begin;
        @{ origin_statements }
        //% endif
        const int first_q = work.q_begin + warp_row + lane / 4;   // this thread's rows: first_q + 8 r
        auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };
        const Query query[2] = {query_at(first_q), query_at(first_q + 8)};
        //% if not residual
        const Range live[2] = {live_keys_of(arguments, tile, first_q, first_q + 1), live_keys_of(arguments, tile, first_q + 8, first_q + 9)};
        //% endif
#pragma unroll
        for (int i = 0; i < padded(VALUE_DIM) / 2; ++i) o[i] = 0.f;
        //% if key_bias
        float bias_offset = 0.f;   // row_max is of products with the keys' terms, which are relative to an offset: here the last one
        //% endif
        //% if shifted
        bool raised;   // whether a row of this warp got a new maximum
        float row_max[2], rescale[2];   // of @{ "the raw products" if scaled else "the exponents, log2 units" }
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
        //% if shifted
#pragma unroll
        for (int r = 0; r < 2; ++r) row_max[r] = @{ row_max_start };
        //% endif

        //% include "forward_hopper_weigh"

        //% if keys
        auto with_keys = [&](int kv_tile, RingPlace place, auto kind) {
            //% if key_bias
            const float rise = load_shared_float(bias_offsets + 8 * place.stage);
            bias_offset = load_shared_float(bias_offsets + 8 * place.stage + 4);
            row_max[0] -= rise, row_max[1] -= rise;
            //% endif
            //% if stage_keys or relatives
            weigh(kv_tile, place.stage, kind);
            //% endif
            //% if relatives
            relative_table = next_relative_table(relative_table, relative_ring);
            //% endif
            __syncwarp();
            if (lane == 0) mbarrier_arrive(key_empty + 8 * place.stage);
            //% if not (stage_keys or relatives)
            weigh(kv_tile, place.stage, kind);
            //% endif
        };
        //% endif

        if (@{ "work.live" if tile_mask else "first < last" }) {
            //% if tile_mask
            mbarrier_wait(k_full + 8 * place.stage, place.parity);
            LiveTile live_tile = load_live_tile(live_tile_slots + 4 * place.stage);
            //% else
            int kv_tile = last - 1;
            mbarrier_wait(k_full + 8 * place.stage, place.parity);
            //% endif
            //% if keys
            mbarrier_wait(key_full + 8 * place.stage, place.parity);
            //% endif
            issue_scores(place.stage);
            wgmma_wait<0>();
            pin(s);
            @{ "release_keys" if tile_mask else "release" }(k_empty + 8 * place.stage);
            //% if tile_mask
            @{ "with_keys" if keys else "weigh" }(live_tile.kv_tile, @{ "place" if keys else "place.stage" }, @{ "live_tile" if tile_branch else "Partial{}" });
            //% else
            @{ "with_keys(kv_tile, place, Partial{})" if keys else "weigh(kv_tile, place.stage, Partial{})" };
            //% endif
            pack_weights();

            // the scores of a tile are computed while the weights of the one before multiply v
            auto step = [&](auto kind) {
                const RingPlace v_place = place;
                advance(place, STAGES);
                //% if not tile_mask
                --kv_tile;
                mbarrier_wait(k_full + 8 * place.stage, place.parity);
                //% endif
                //% if keys
                mbarrier_wait(key_full + 8 * place.stage, place.parity);   // here already: a wait between products costs them their uniform registers
                //% endif
                named_barrier_sync(my_turn, 256);
                issue_scores(place.stage);
                mbarrier_wait(v_full + 8 * v_place.stage, v_place.parity);
                issue_output(v_place.stage);
                named_barrier_arrive(next_turn, 256);
                wgmma_wait<1>();   // the scores
                pin(s);
                @{ "release_keys" if tile_mask else "release" }(k_empty + 8 * place.stage);
                @{ ("with_keys(" if keys else "weigh(") ~ ("live_tile." if tile_mask else "") ~ ("kv_tile, place, kind)" if keys else "kv_tile, place.stage, kind)") };
                wgmma_wait<0>();   // the output
                pin(o);
                release(v_empty + 8 * v_place.stage);
                pack_weights();
                //% if shifted
                if (raised) {
#pragma unroll
                    for (int i = 0; i < padded(VALUE_DIM) / 2; ++i) o[i] *= rescale[i / 2 % 2];
                }
                //% endif
            };
            //% if tile_mask
#pragma unroll 1
            while (!live_tile.is_last) {
                RingPlace next = place;
                advance(next, STAGES);
                mbarrier_wait(k_full + 8 * next.stage, next.parity);
                live_tile = load_live_tile(live_tile_slots + 4 * next.stage);
                //% if tile_branch
                step(live_tile);
                //% else
                if (live_tile.full) step(Full{});
                else step(Partial{});
                //% endif
            }
            //% elif residual
#pragma unroll 1
            while (kv_tile > first) step(Partial{});
            //% else
            //% if masked
            // tiles with dead pairs, and those without
#pragma unroll 1
            while (kv_tile > first && kv_tile * BLOCK_KV > range.full_end) step(Partial{});
            //% endif
#pragma unroll 1
            while (kv_tile > first@{ " && (kv_tile - 1) * BLOCK_KV >= range.full_begin" if begins else "" }) step(Full{});
            //% if begins
#pragma unroll 1
            while (kv_tile > first) step(Partial{});
            //% endif
            //% endif
            //% if own_output_tile
            release_queries();
            //% endif

            mbarrier_wait(v_full + 8 * place.stage, place.parity);
            issue_output(place.stage);
            wgmma_wait<0>();
            pin(o);
            release(v_empty + 8 * place.stage);
            advance(place, STAGES);
        }

        // ---------------------------------------------------------------- epilogue
        //% if has_normalizer
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int q = first_q + 8 * r;
            //% if row_bias or key_bias
            // what was left out of every exponent joins the shift
            //% if row_bias
            const int own_q = min(q, q_len - 1);
            //% endif
            const float own_shift = (row_max[r] + (@{ "bias_offset" if key_bias else "" }@{ " + " if key_bias and row_bias else "" }@{ "row_bias(arguments, tile, own_q, " ~ ("origin" if origin else "(float)own_q") ~ ")" if row_bias else "" })) * tile.exponent_scale;
            const float largest_shift = @{ "fmaxf(own_shift, shift_floor(tile, query[r]))" if late_floor else "own_shift" };
            const float shift = largest_shift == -INFINITY ? 0.f : largest_shift;
            //% elif shifted
            const float shift = row_max[r] == -INFINITY ? 0.f : row_max[r]@{ " * tile.exponent_scale" if scaled else "" };
            //% endif
            //% if rescaled_end
            const float kept = exp2_approx(own_shift - shift);   // of the weights
            //% endif
            //% if sum
            const float sum = @{ "kept * " if rescaled_end else "" }quad_sum(row_sum[r]);
            //% endif
            //% if sum_squares
            const float sum_squares = @{ "kept * kept * " if rescaled_end else "" }quad_sum(row_sum_squares[r]);
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
            const float inverse = z == 0.f ? 0.f : @{ "kept" if rescaled_end else "1.f" } / z;
#pragma unroll
            for (int i = 0; i < padded(VALUE_DIM) / 2; i += 4) o[i + 2 * r] *= inverse, o[i + 2 * r + 1] *= inverse;
            //% if saved
            if (lane % 4 == 0 && q < q_len) {
                const i64 row = @{ "(i64)head * arguments.total_q + work.q_start + q" if packed else "((i64)batch * arguments.heads + head) * q_len + q" };
                //% for save in saved
                @{ save }
                //% endfor
            }
            //% endif
        }
        //% endif
        //% if own_output_tile
        if (threadIdx.x % 128 == 0) tensor_store_wait();   // the last output has left the tile
        //% endif
        named_barrier_sync(own_warps, 128);
        //% if own_output_tile
        if (@{ "!work.live" if tile_mask else "first >= last" }) release_queries();
        //% endif
#pragma unroll
        for (int c = 0; c < padded(VALUE_DIM) / 16; ++c) {
            u32 packed[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) packed[i] = pack(o[8 * c + 2 * i], o[8 * c + 2 * i + 1]);
            store_matrix_x4(tile_address(o_tile, Q_CHUNK_BYTES, warp_row + lane % 16, c * 16 + lane / 16 * 8), packed);
        }
        publish_shared();
        named_barrier_sync(own_warps, 128);
        if (threadIdx.x % 128 == 0) {
            //% if packed
            const TensorMap* maps = arguments.sequence_maps + batch * MAPS;
            if (batch != sequence) acquire_map(maps + O_MAP);
            sequence = batch;
            //% endif
            for (int c = 0; c < chunks(VALUE_DIM); ++c)
                tensor_store(@{ o_map }, o_tile + c * Q_CHUNK_BYTES + group_row * CHUNK_ROW_BYTES, c * CHUNK_COLUMNS, work.q_begin + group_row, head, @{ map_batch });
            tensor_store_commit();
            //% if not own_output_tile
            tensor_store_wait();
            mbarrier_arrive(q_empty);
            //% endif
        }
    }
    if (warpgroup == 1) named_barrier_sync(my_turn, 256);   // the last turn is nobody's
    //% if own_output_tile
    if (threadIdx.x % 128 == 0) tensor_store_wait();
    //% endif
}
