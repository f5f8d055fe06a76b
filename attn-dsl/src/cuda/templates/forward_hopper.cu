struct Full { static constexpr bool partial = false; };
struct Partial { static constexpr bool partial = true; };
// ---------------------------------------------------------------- kernel
extern "C" __global__ void __launch_bounds__(THREADS, 1)
attn_forward(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const u32 q_tile = shared_address(shared), k_ring = q_tile + Q_TILE_BYTES, v_ring = k_ring + STAGES * K_TILE_BYTES;
    //% if stage_keys
    const u32 key_ring = v_ring + STAGES * V_TILE_BYTES, q_full = key_ring + STAGES * KEY_RING_BYTES;
    //% else
    const u32 q_full = v_ring + STAGES * V_TILE_BYTES;
    //% endif
    // of stage i, 8 i bytes on
    const u32 k_full = q_full + 8, k_empty = k_full + 8 * STAGES, v_full = k_empty + 8 * STAGES, v_empty = v_full + 8 * STAGES;
    //% if stage_keys or relatives
    const u32 key_full = v_empty + 8 * STAGES, key_empty = key_full + 8 * STAGES;
    //% endif
    //% if relatives
    const u32 relative_ring = key_empty + 8 * STAGES;
    //% endif

    // @{ q_order_comment }
    const int q_begin = @{ q_order } * BLOCK_Q;
    const int head = blockIdx.y, batch = blockIdx.z, kv_head = head / arguments.group;
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    const Tile tile = load_tile_values(arguments, batch, head);
    const Range range = live_keys_of(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len));
    const int first = range.begin / BLOCK_KV, last = (range.end + BLOCK_KV - 1) / BLOCK_KV;   // tiles of keys, the last ones first

    if (threadIdx.x == 0) {
        mbarrier_init(q_full, 1);
        for (int stage = 0; stage < STAGES; ++stage) {
            mbarrier_init(k_full + 8 * stage, 1), mbarrier_init(k_empty + 8 * stage, CONSUMERS);
            mbarrier_init(v_full + 8 * stage, 1), mbarrier_init(v_empty + 8 * stage, CONSUMERS);
            //% if stage_keys or relatives
            mbarrier_init(key_full + 8 * stage, KEY_WARPS), mbarrier_init(key_empty + 8 * stage, 4 * CONSUMERS);
            //% endif
        }
        mbarrier_init_fence();
    }
    __syncthreads();

    const int warpgroup = threadIdx.x / 128, lane = threadIdx.x % 32;
    if (warpgroup == 0) {   // ---------------------------------------- producer
        registers_release<PRODUCER_REGISTERS>();
        if (threadIdx.x < 32) {
            if (first < last && elect_one()) {
                mbarrier_arrive_expect(q_full, Q_BYTES);
                for (int c = 0; c < chunks(HEAD_DIM); ++c) tensor_load(q_tile + c * Q_CHUNK_BYTES, &arguments.q_map, q_full, c * CHUNK_COLUMNS, q_begin, head, batch, EVICT_FIRST);
                RingPlace place = {0, 1};   // fresh stages are empty
                for (int kv_tile = last - 1; kv_tile >= first; --kv_tile, advance(place, STAGES)) {
                    mbarrier_wait(k_empty + 8 * place.stage, place.parity);
                    mbarrier_arrive_expect(k_full + 8 * place.stage, K_TILE_BYTES);
                    for (int c = 0; c < chunks(HEAD_DIM); ++c)
                        tensor_load(k_ring + place.stage * K_TILE_BYTES + c * KV_CHUNK_BYTES, &arguments.k_map, k_full + 8 * place.stage, c * CHUNK_COLUMNS, kv_tile * BLOCK_KV, kv_head, batch, EVICT_LAST);
                    mbarrier_wait(v_empty + 8 * place.stage, place.parity);
                    mbarrier_arrive_expect(v_full + 8 * place.stage, V_TILE_BYTES);
                    for (int c = 0; c < chunks(VALUE_DIM); ++c)
                        tensor_load(v_ring + place.stage * V_TILE_BYTES + c * KV_CHUNK_BYTES, &arguments.v_map, v_full + 8 * place.stage, c * CHUNK_COLUMNS, kv_tile * BLOCK_KV, kv_head, batch, EVICT_LAST);
                }
            }
        }
        //% if stage_keys or relatives
        else {   // three warps compute what varies by @{ "key and by distance" if stage_keys and relatives else "distance" if relatives else "key" }
            RingPlace place = {0, 1};
            //% if relatives
            RingPlace previous = {0, 0};   // of the tile before, once it is full
            u32 table = relative_ring, previous_table = relative_ring;
            //% endif
            for (int kv_tile = last - 1; kv_tile >= first; --kv_tile, advance(place, STAGES)) {
                //% if relatives
                // There is a table more than stages: it is filled while the others are read. The tile before stands BLOCK_KV keys
                // further on: what has the same distance there is copied.
                const bool is_first = kv_tile == last - 1;
                if (!is_first) mbarrier_wait(key_full + 8 * previous.stage, previous.parity), advance(previous, STAGES);
                for (int i = threadIdx.x - 32; i < RELATIVE_VALUES; i += 32 * KEY_WARPS) {
                    const int distance = kv_tile * BLOCK_KV - q_begin + i - BLOCK_Q;
                    if (is_first || i < BLOCK_KV) store_relative(table, i, load_relative(arguments, tile, distance, (float)distance));
                    else store_relative(table, i, load_relative_at(previous_table, i - BLOCK_KV));
                }
                previous_table = table;
                table = next_relative_table(table, relative_ring);
                //% endif
                mbarrier_wait(key_empty + 8 * place.stage, place.parity);
                //% if stage_keys
                for (int column = threadIdx.x - 32; column < BLOCK_KV; column += 32 * KEY_WARPS) {
                    // positions past the end read what the last one has; nothing of theirs is used
                    const int kv = min(kv_tile * BLOCK_KV + column, kv_len - 1);
                    store_key(key_ring + place.stage * KEY_RING_BYTES, column, load_key(arguments, tile, kv, (float)kv));
                }
                //% endif
                __syncwarp();
                if (lane == 0) mbarrier_arrive(key_full + 8 * place.stage);
            }
        }
        //% endif
        return;
    }

    // ---------------------------------------------------------------- consumers: 64 queries each
    registers_acquire<CONSUMER_REGISTERS>();
    const int group_row = (warpgroup - 1) * 64, warp_row = group_row + threadIdx.x / 32 % 4 * 16;
    const int first_q = q_begin + warp_row + lane / 4;   // this thread's rows: first_q + 8 r
    auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };
    const Query query[2] = {query_at(first_q), query_at(first_q + 8)};
    //% if relatives
    u32 relative_table = relative_ring;   // of the tile of keys
    // from there to the place of this thread's first row and column
    const u32 my_distances = (BLOCK_Q + lane % 4 * 2 - warp_row - lane / 4) * 4@{ " + lane / 4 % 2 * (RELATIVE_COPY_BYTES - 4)" if relative_copies > 1 else "" };
    //% endif
    float s[BLOCK_KV / 2], o[padded(VALUE_DIM) / 2];
    u32 weights[BLOCK_KV / 4];
#pragma unroll
    for (int i = 0; i < padded(VALUE_DIM) / 2; ++i) o[i] = 0.f;
    //% if shifted
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

    auto issue_scores = [&](int stage) {   // s = q k^T
        const u64 q = tile_descriptor(q_tile + group_row * CHUNK_ROW_BYTES, Q_CHUNK_BYTES), k = tile_descriptor(k_ring + stage * K_TILE_BYTES, KV_CHUNK_BYTES);
        pin(s);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < padded(HEAD_DIM) / 16; ++i) multiply_tiles(s, q + column_step(i, Q_CHUNK_BYTES), k + column_step(i, KV_CHUNK_BYTES), i != 0);
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
    auto pack_weights = [&] {   // two neighbouring accumulators are a register of the next product's A
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 4; ++i) weights[i] = pack(s[2 * i], s[2 * i + 1]);
    };
    auto release = [&](u32 empty) {   // the whole warpgroup has waited for its products: one thread can speak for it
        if (threadIdx.x % 128 == 0) mbarrier_arrive(empty);
    };

    // s becomes the weights
    auto weigh = [&](int kv_tile, int stage, auto kind) {
        const int first_kv = kv_tile * BLOCK_KV + lane % 4 * 2;   // this thread's columns: first_kv + 8 n + c
        //% if inline_keys
        const float first_kv_as_float = first_kv;
        //% endif
        //% if relatives
        Relative relative[2][2];   // of rows r and columns 8 n + c: the second row has what the first one has 8 columns before
        auto read_relatives = [&](int n) {
            if (n == 0) load_relatives(relative[1], relative_table + my_distances - 8 * 4);
            else relative[1][0] = relative[0][0], relative[1][1] = relative[0][1];
            load_relatives(relative[0], relative_table + my_distances + n * (8 * 4));
        };
        //% endif
        //% if sigmoid
        // where all weights are below 1/64, w = y - y^2 of y = 2^t is right to 2^-12 and needs no reciprocal
        if constexpr (!decltype(kind)::partial) {
            float largest_exponent = -INFINITY;
            //% if rises_with_product
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float product = s[2 * r];
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n) product = fmaxf(product, fmaxf(s[4 * n + 2 * r], s[4 * n + 2 * r + 1]));
                largest_exponent = fmaxf(largest_exponent, sigmoid_exponent(@{ pair_arguments }product, tile, query[r], Key{}));
            }
            //% else
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                @{ key_columns }
                //% if relatives
                read_relatives(n);
                //% endif
#pragma unroll
                for (int e = 0; e < 4; ++e) largest_exponent = fmaxf(largest_exponent, sigmoid_exponent(@{ pair_arguments }s[4 * n + e], tile, query[e / 2], key[e % 2]@{ relative_argument }));
            }
            //% endif
            if (__all_sync(~0u, largest_exponent < -6.f)) {
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n) {
                    @{ key_columns }
                    //% if relatives
                    read_relatives(n);
                    //% endif
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const float y = exp2_approx(sigmoid_exponent(@{ pair_arguments }s[4 * n + e], tile, query[e / 2], key[e % 2]@{ relative_argument }));
                        s[4 * n + e] = fmaf(-y, y, y);
                    }
                }
                return;
            }
        }
        //% endif
        //% if scaled
        if constexpr (decltype(kind)::partial) {
        //% endif
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                //% if masked or not scaled
                @{ key_columns }
                //% endif
                //% if relatives
                read_relatives(n);
                //% endif
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    //% if not scaled
                    s[4 * n + e] = @{ "exponent" if shifted else "weight" }(@{ pair_arguments }s[4 * n + e], tile, query[e / 2], key[e % 2]@{ relative_argument });
                    //% endif
                    if (decltype(kind)::partial && !(first_kv + 8 * n + e % 2 < kv_len@{ " && is_live(" ~ mask_arguments ~ "tile, query[e / 2], key[e % 2])" if masked else "" })) s[4 * n + e] = @{ "-INFINITY" if shifted or largest else "0.f" };
                }
            }
        //% if scaled
        }
        //% endif
        //% if largest
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 2; ++i) {
            // tiles come from the last to the first: of equal ones the first counts
            if (s[i] > largest[i / 2 % 2] || (s[i] == largest[i / 2 % 2] && first_kv + i / 4 * 8 + i % 2 < largest_at[i / 2 % 2])) largest[i / 2 % 2] = s[i], largest_at[i / 2 % 2] = first_kv + i / 4 * 8 + i % 2;
            //% if not shifted
            if (s[i] == -INFINITY) s[i] = 0.f;
            //% endif
        }
        //% endif
        //% if shifted
        float shift[2], new_max[2] = {row_max[0], row_max[1]};
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 2; ++i) new_max[i / 2 % 2] = fmaxf(new_max[i / 2 % 2], s[i]);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            new_max[r] = quad_max(new_max[r]);
            // a row that has met no live key yet keeps minus infinity, and must not compute inf - inf
            shift[r] = new_max[r] == -INFINITY ? 0.f : new_max[r]@{ " * tile.exponent_scale" if scaled else "" };
            rescale[r] = exp2_approx(@{ "fmaf(row_max[r], tile.exponent_scale, -shift[r])" if scaled else "row_max[r] - shift[r]" });
            row_max[r] = new_max[r];
            //% if sum
            row_sum[r] *= rescale[r];
            //% endif
            //% if sum_squares
            row_sum_squares[r] *= rescale[r] * rescale[r];
            //% endif
        }
        //% endif
        //% if shifted or sum or sum_squares
#pragma unroll
        for (int i = 0; i < BLOCK_KV / 2; ++i) {
            //% if shifted
            s[i] = exp2_approx(@{ "fmaf(s[i], tile.exponent_scale, -shift[i / 2 % 2])" if scaled else "s[i] - shift[i / 2 % 2]" });
            //% endif
            //% if sum
            row_sum[i / 2 % 2] += s[i];
            //% endif
            //% if sum_squares
            row_sum_squares[i / 2 % 2] = fmaf(s[i], s[i], row_sum_squares[i / 2 % 2]);
            //% endif
        }
        //% endif
    };
    //% if stage_keys or relatives
    auto with_keys = [&](int kv_tile, RingPlace place, auto kind) {
        //% if not relatives
        mbarrier_wait(key_full + 8 * place.stage, place.parity);
        //% endif
        weigh(kv_tile, place.stage, kind);
        //% if relatives
        relative_table = next_relative_table(relative_table, relative_ring);
        //% endif
        __syncwarp();
        if (lane == 0) mbarrier_arrive(key_empty + 8 * place.stage);
    };
    //% endif

    if (first < last) {
        int kv_tile = last - 1;
        RingPlace place = {0, 0};
        mbarrier_wait(q_full, 0);
        mbarrier_wait(k_full, 0);
        //% if relatives
        mbarrier_wait(key_full, 0);
        //% endif
        issue_scores(0);
        wgmma_wait<0>();
        pin(s);
        release(k_empty);
        @{ "with_keys(kv_tile, place, Partial{})" if stage_keys or relatives else "weigh(kv_tile, 0, Partial{})" };
        pack_weights();

        // the scores of a tile are computed while the weights of the one before multiply v; warpgroups take turns to issue both, so
        // that one computes weights while another's products run
        const u32 my_turn = TURN + warpgroup - 1, next_turn = TURN + warpgroup % CONSUMERS;
        if (warpgroup == CONSUMERS && kv_tile > first) named_barrier_arrive(next_turn, 256);
        auto step = [&](auto kind) {
            const RingPlace v_place = place;
            advance(place, STAGES);
            --kv_tile;
            mbarrier_wait(k_full + 8 * place.stage, place.parity);
            //% if relatives
            mbarrier_wait(key_full + 8 * place.stage, place.parity);   // here already: a wait between products costs them their uniform registers
            //% endif
            named_barrier_sync(my_turn, 256);
            issue_scores(place.stage);
            mbarrier_wait(v_full + 8 * v_place.stage, v_place.parity);
            issue_output(v_place.stage);
            if (warpgroup != CONSUMERS || kv_tile > first) named_barrier_arrive(next_turn, 256);
            wgmma_wait<1>();   // the scores
            pin(s);
            release(k_empty + 8 * place.stage);
            @{ "with_keys(kv_tile, place, kind)" if stage_keys or relatives else "weigh(kv_tile, place.stage, kind)" };
            wgmma_wait<0>();   // the output
            pin(o);
            release(v_empty + 8 * v_place.stage);
            pack_weights();
            //% if shifted
#pragma unroll
            for (int i = 0; i < padded(VALUE_DIM) / 2; ++i) o[i] *= rescale[i / 2 % 2];
            //% endif
        };
        // tiles with dead pairs, those without, and those with dead pairs before them
#pragma unroll 1
        while (kv_tile > first && kv_tile * BLOCK_KV > range.full_end) step(Partial{});
#pragma unroll 1
        while (kv_tile > first && (kv_tile - 1) * BLOCK_KV >= range.full_begin) step(Full{});
        //% if masked
#pragma unroll 1
        while (kv_tile > first) step(Partial{});
        //% endif

        mbarrier_wait(v_full + 8 * place.stage, place.parity);
        issue_output(place.stage);
        wgmma_wait<0>();
        pin(o);
    }

    // ---------------------------------------------------------------- epilogue
    //% if has_normalizer
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        const int q = first_q + 8 * r;
        //% if sum
        const float sum = quad_sum(row_sum[r]);
        //% endif
        //% if sum_squares
        const float sum_squares = quad_sum(row_sum_squares[r]);
        //% endif
        //% if shifted
        const float shift = row_max[r] == -INFINITY ? 0.f : row_max[r]@{ " * tile.exponent_scale" if scaled else "" };
        //% endif
        //% if largest
#pragma unroll
        for (int distance = 1; distance < 4; distance *= 2) {
            const float other = __shfl_xor_sync(~0u, largest[r], distance);
            const int other_at = __shfl_xor_sync(~0u, largest_at[r], distance);
            if (other > largest[r] || (other == largest[r] && other_at < largest_at[r])) largest[r] = other, largest_at[r] = other_at;
        }
        const float max_weight = largest[r] == -INFINITY ? 0.f : @{ "exp2_approx(largest[r] - shift)" if shifted else "largest[r]" };
        //% endif
        const float z = normalizer(tile, query[r]@{ normalizer_arguments });
        const float inverse = z == 0.f ? 0.f : 1.f / z;
#pragma unroll
        for (int i = 0; i < padded(VALUE_DIM) / 2; i += 4) o[i + 2 * r] *= inverse, o[i + 2 * r + 1] *= inverse;
        //% if saved
        if (lane % 4 == 0 && q < q_len) {
            const i64 row = ((i64)batch * gridDim.y + head) * q_len + q;
            //% for save in saved
            @{ save }
            //% endfor
        }
        //% endif
    }
    //% endif
    named_barrier_sync(ALL_CONSUMERS, 128 * CONSUMERS);   // q has been used: its tile takes the output
#pragma unroll
    for (int c = 0; c < padded(VALUE_DIM) / 16; ++c) {
        u32 packed[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) packed[i] = pack(o[8 * c + 2 * i], o[8 * c + 2 * i + 1]);
        store_matrix_x4(tile_address(q_tile, Q_CHUNK_BYTES, warp_row + lane % 16, c * 16 + lane / 16 * 8), packed);
    }
    publish_shared();
    named_barrier_sync(ALL_CONSUMERS, 128 * CONSUMERS);
    if (threadIdx.x == 128) {
        for (int c = 0; c < chunks(VALUE_DIM); ++c) tensor_store(&arguments.o_map, q_tile + c * Q_CHUNK_BYTES, c * CHUNK_COLUMNS, q_begin, head, batch);
        tensor_store_wait();
    }
}
