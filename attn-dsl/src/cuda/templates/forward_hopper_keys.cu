        else if (threadIdx.x < 32 + 32 * KEY_WARPS) {   // @{ "a warp computes" if key_bias else "three warps compute" } what varies by @{ "key and by distance" if stage_keys and relatives else "distance" if relatives else "key" }
            RingPlace place = {0, 1};
            //% if relatives
            RingPlace previous = {0, 0};   // of the tile before, as its readers see it
            u32 table = relative_ring, previous_table = relative_ring;
            //% endif
            for (u32 q_parity = 0;; q_parity ^= 1) {
                mbarrier_wait(q_full, q_parity);
                const Work work = load_work(work_slot);
                __syncwarp();
                if (lane == 0) mbarrier_arrive(q_empty);
                if (work.head < 0) break;
                const int q_begin = work.q_begin, head = work.head, batch = work.batch;
                //% if packed
                const int q_len = work.q_len, kv_len = work.kv_len;
                //% endif
                const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
                //% if not tile_mask
                const Range range = live_keys_of(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len));
                const int first = range.begin / BLOCK_KV, last = (range.end + BLOCK_KV - 1) / BLOCK_KV;
                //% endif
                //% if origin
                @{ origin_statements }
                //% endif
                //% if key_bias
                constexpr int COLUMNS = (BLOCK_KV + 31) / 32;   // of a lane: lane + 32 i
                // products take the keys' terms relative to the largest so far: those that count are small numbers, and right
                const float lowest = -2e9f / tile.exponent_scale;   // what is beyond counts as much: shifts stay near enough to be subtracted
                float offset = lowest;
                //% endif
                //% if tile_mask
                //% if relatives
                int previous_tile = -1;
                //% endif
                for (bool live = work.live; live; advance(place, STAGES)) {
                    mbarrier_wait(k_full + 8 * place.stage, place.parity ^ 1);
                    const LiveTile live_tile = load_live_tile(live_tile_slots + 4 * place.stage);
                    const int kv_tile = live_tile.kv_tile;
                    live = !live_tile.is_last;
                //% else
                for (int kv_tile = last - 1; kv_tile >= first; --kv_tile, advance(place, STAGES)) {
                //% endif
                    //% if relatives
                    // There is a table more than stages: it is filled while the others are read. The tile before stands BLOCK_KV
                    // keys further on@{ " where none was left out between" if tile_mask else "" }: what has the same distance there is copied.
                    //% if tile_mask
                    const bool is_first = previous_tile != kv_tile + 1;
                    if (previous_tile >= 0) mbarrier_wait(key_full + 8 * previous.stage, previous.parity);
                    previous_tile = kv_tile;
                    //% else
                    const bool is_first = kv_tile == last - 1;
                    if (!is_first) mbarrier_wait(key_full + 8 * previous.stage, previous.parity);
                    //% endif
                    for (int i = threadIdx.x - 32; i < RELATIVE_VALUES; i += 32 * KEY_WARPS) {
                        const int distance = kv_tile * BLOCK_KV - q_begin + i - BLOCK_Q;
                        if (is_first || i < BLOCK_KV) store_relative(table, i, load_relative(arguments, tile, distance, (float)distance));
                        else store_relative(table, i, load_relative_at(previous_table, i - BLOCK_KV));
                    }
                    previous = {place.stage, place.parity ^ 1};
                    previous_table = table;
                    table = next_relative_table(table, relative_ring);
                    //% endif
                    //% if stage_keys or key_bias
                    // positions past the end read what the last one has; nothing of theirs is used
                    auto position = [&](int column) { return min(kv_tile * BLOCK_KV + min(column, BLOCK_KV - 1), kv_len - 1); };
                    //% endif
                    //% if key_bias
                    const float before = offset;
                    float bias[COLUMNS];
#pragma unroll
                    for (int i = 0; i < COLUMNS; ++i) {
                        const int kv = position(lane + 32 * i);
                        bias[i] = key_bias(arguments, tile, kv, @{ "origin" if origin else "(float)kv" });
                        if (bias[i] < INFINITY) offset = fmaxf(offset, bias[i]);
                    }
                    offset = warp_max(offset);
                    mbarrier_wait(key_empty + 8 * place.stage, place.parity);
#pragma unroll
                    for (int i = 0; i < COLUMNS; ++i) {
                        const int column = lane + 32 * i;
                        const float relative = bias[i] - offset;
                        if (column < BLOCK_KV) store_number(bias_ring + place.stage * BIAS_TILE_BYTES, column, relative > -INFINITY ? fmaxf(relative, lowest) : relative);
                    }
                    if (lane == 0) {
                        store_shared(bias_offsets + 8 * place.stage, offset - before);
                        store_shared(bias_offsets + 8 * place.stage + 4, offset);
                    }
                    publish_shared();
                    //% else
                    mbarrier_wait(key_empty + 8 * place.stage, place.parity);
                    //% endif
                    //% if stage_keys
                    for (int column = threadIdx.x - 32; column < BLOCK_KV; column += 32 * KEY_WARPS) {
                        const int kv = position(column);
                        store_key(key_ring + place.stage * KEY_RING_BYTES, column, load_key(arguments, tile, kv, (float)kv));
                    }
                    //% endif
                    __syncwarp();
                    if (lane == 0) mbarrier_arrive(key_full + 8 * place.stage);
                }
            }
        }

