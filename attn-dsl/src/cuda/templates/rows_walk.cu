        if (threadIdx.x < 32) {
            const bool copies = elect_one();   // this lane does, all of the warp look for work
            RingPlace place = {0, 1};   // fresh stages are empty
            u32 q_parity = 1@{ ", verdict_parity = 0" if exact else "" };
            //% if packed
            int sequence = -1;   // whose tensor maps are known
            //% endif
            auto next_number = [&] {
                const u32 taken = lane == 0 ? count_up(arguments.works_taken, works - 1) : 0;
                return (int)(gridDim.x + __shfl_sync(~0u, taken, 0));
            };
            for (int number = blockIdx.x;; number = next_number()) {
                @{ "" if tile_mask else "const " }Work work = work_at(arguments, number);
                //% if packed
                if (work.head >= 0 && work.q_len == 0) continue;   // a place without a tile
                //% endif
                // the others learn what to do with the queries
                auto publish = [&](u32 bytes) {
                    mbarrier_wait(q_empty, q_parity);
                    q_parity ^= 1;
                    store_work(work_slot, work);
                    mbarrier_arrive_expect(q_full, bytes);
                };
                if (work.head < 0) {
                    if (copies) publish(0);
                    break;
                }
                const int q_begin = work.q_begin, head = work.head, batch = work.batch, kv_head = head / arguments.group;
                //% if packed
                const int q_len = work.q_len, kv_len = work.kv_len;
                //% endif
                //% if exact
                bool pending = false;
                for (int i = lane; i < BLOCK_Q; i += 32) {
                    const int q = q_begin + i;
                    if (q < q_len && is_left(__float_as_int(arguments.@{ marked }[@{ row_index }]))) pending = true;
                }
                if (!__any_sync(~0u, pending)) continue;
                //% endif
                //% if packed
                const TensorMap* maps = arguments.sequence_maps + batch * MAPS;
                if (copies && batch != sequence) acquire_map(maps + Q_MAP), acquire_map(maps + K_MAP);
                sequence = batch;
                //% endif
                const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
                const Range range = live_keys_of(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len));
                const int first = range.begin / BLOCK_KV, last = (range.end + BLOCK_KV - 1) / BLOCK_KV;   // tiles of keys
                //% if exact
                // pass after pass over the keys, in their order, until the consumers have what they need
                for (bool is_first = true, again = true; again; is_first = false) {
                //% endif
                //% if tile_mask
                // of the 32 tiles from group on: which may have a live pair, and which have no dead one. A lane looks at one of them.
                int group = @{ "first - 32" if exact else "last" };
                u32 live_tiles = 0, full_tiles = 0;
                auto look_at = [&](int from) {
                    group = from;
                    const int kv_begin = (group + lane) * BLOCK_KV, kv_end = min(kv_begin + BLOCK_KV, kv_len);
                    TileLiveness liveness = {false, false};
                    if (group + lane >= first && group + lane < last) liveness = live_tile(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len) - 1, kv_begin, kv_end - 1);
                    live_tiles = __ballot_sync(~0u, liveness.may_live);
                    full_tiles = __ballot_sync(~0u, liveness.all_live && kv_end == kv_begin + BLOCK_KV);
                };
                //% if exact
                auto next_live = [&](int kv_tile) {
                    while (kv_tile < last) {
                        if (kv_tile >= group + 32) look_at(kv_tile);
                        const u32 left = live_tiles >> (kv_tile - group);
                        if (left) return kv_tile + __ffs(left) - 1;
                        kv_tile = group + 32;
                    }
                    return last;
                };
                const int starts = next_live(first), behind = last;
                //% else
                auto next_live = [&](int kv_tile) {
                    while (kv_tile >= first) {
                        if (kv_tile < group) look_at(kv_tile - 31);
                        const u32 left = live_tiles << (31 - (kv_tile - group));
                        if (left) return kv_tile - __clz(left);
                        kv_tile = group - 1;
                    }
                    return first - 1;
                };
                const int starts = next_live(last - 1), behind = first - 1;
                //% endif
                work.live = starts != behind;
                if (copies && !work.live@{ " && is_first" if exact else "" }) publish(0);
                for (int kv_tile = starts, next_tile; kv_tile != behind; kv_tile = next_tile, advance(place, STAGES)) {
                    const bool full = full_tiles >> (kv_tile - group) & 1;
                    next_tile = next_live(kv_tile @{ "+" if exact else "-" } 1);
                    if (!copies) continue;
                    mbarrier_wait(k_empty + 8 * place.stage, place.parity);
                    store_live_tile(live_tile_slots + 4 * place.stage, {kv_tile, full, next_tile == behind});
                //% else
                const int starts = @{ "first" if exact else "last - 1" };
                if (copies && first >= last@{ " && is_first" if exact else "" }) publish(0);
                for (int kv_tile = starts; copies && @{ "kv_tile < last; ++kv_tile" if exact else "kv_tile >= first; --kv_tile" }, advance(place, STAGES)) {
                    mbarrier_wait(k_empty + 8 * place.stage, place.parity);
                //% endif
                    mbarrier_arrive_expect(k_full + 8 * place.stage, K_TILE_BYTES);
                    for (int c = 0; c < chunks(HEAD_DIM); ++c)
                        tensor_load(k_ring + place.stage * K_TILE_BYTES + c * KV_CHUNK_BYTES, @{ k_map }, k_full + 8 * place.stage, c * CHUNK_COLUMNS, kv_tile * BLOCK_KV, kv_head, @{ map_batch }, EVICT_LAST);
                    if (kv_tile == starts@{ " && is_first" if exact else "" }) {
                        publish(Q_BYTES);
                        for (int c = 0; c < chunks(HEAD_DIM); ++c) tensor_load(q_tile + c * Q_CHUNK_BYTES, @{ q_map }, q_full, c * CHUNK_COLUMNS, q_begin, head, @{ map_batch }, EVICT_FIRST);
                    }
                }
                __syncwarp();
                //% if exact
                    mbarrier_wait(verdict_full, verdict_parity);
                    verdict_parity ^= 1;
                    again = load_shared_int(verdict);
                    __syncwarp();
                }
                //% endif
            }
        }
