        if (role == 0) {   // finds tiles and copies them
            const int works = @{ "kv_places(arguments) * (arguments.heads / arguments.group)" if packed else "(kv_len + BLOCK_KV - 1) / BLOCK_KV * (arguments.heads / arguments.group) * arguments.batches" };
            RingPlace place = {0, 1}@{ ", walk_place = {0, 1}" if tile_mask else "" };   // fresh stages are empty
            //% if packed
            int sequence = -1;   // whose tensor maps are known
            //% endif
            for (u32 parity = 1;; parity ^= 1) {
                auto take_work = [&] {
                    int number = 0;
                    if (lane == 0) number = count_up(arguments.works_taken, works + gridDim.x - 1);
                    return work_at(arguments, __shfl_sync(~0u, number, 0));
                };
                //% if packed
                Work work = take_work();
                while (work.kv_head >= 0 && work.kv_len == 0) work = take_work();   // places without a tile
                const int q_len = work.q_len, kv_len = work.kv_len;
                //% else
                const Work work = take_work();
                //% endif
                const int kv_head = work.kv_head, batch = work.batch;
                //% if packed
                const TensorMap* maps = arguments.sequence_maps + batch * MAPS;
                if (batch != sequence && kv_head >= 0) acquire_map(@{ q_map }), acquire_map(@{ k_map }), acquire_map(@{ v_map }), acquire_map(@{ output_grad_map });
                sequence = batch;
                //% endif
                if (elect_one()) {
                    mbarrier_wait(work_empty, parity);
                    store_work(work_slot, work);
                    mbarrier_arrive(work_full);
                }
                __syncwarp();
                if (kv_head < 0) break;
                auto load_keys = [&] {   // one lane
                    const int kv_begin = work.kv_tile * BLOCK_KV;
                    mbarrier_wait(kv_empty, parity);
                    mbarrier_arrive_expect(kv_full, K_TILE_BYTES + V_TILE_BYTES);
                    for (int c = 0; c < K_CHUNKS; ++c) tensor_load(k_tile + c * KV_CHUNK_BYTES, @{ k_map }, kv_full, c * CHUNK_COLUMNS, kv_begin, kv_head, @{ map_batch }, EVICT_FIRST);
                    for (int c = 0; c < chunks(VALUE_DIM); ++c) tensor_load(v_tile + c * KV_CHUNK_BYTES, @{ v_map }, kv_full, c * CHUNK_COLUMNS, kv_begin, kv_head, @{ map_batch }, EVICT_FIRST);
                };
                //% if tile_mask
                bool keys_loaded = false;   // after the first tile of queries is found: consumers are at the work before
                //% else
                if (elect_one()) load_keys();
                __syncwarp();
                //% endif
                for (int head = kv_head * arguments.group; head < (kv_head + 1) * arguments.group; ++head) {
                    const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
                    const QueryTiles tiles = query_tiles_of(live_queries_of_tile(arguments, tile, work.kv_tile));
                    auto load_tiles = [&](int q_tile) {   // one lane
                        //% if not wide
                        mbarrier_wait(q_empty + 8 * place.stage, place.parity);
                        mbarrier_arrive_expect(q_full + 8 * place.stage, Q_TILE_BYTES);
                        for (int c = 0; c < chunks(HEAD_DIM); ++c)
                            tensor_load(q_ring + place.stage * Q_TILE_BYTES + c * Q_CHUNK_BYTES, @{ q_map }, q_full + 8 * place.stage, c * CHUNK_COLUMNS, q_tile * BLOCK_Q, head, @{ map_batch }, EVICT_LAST);
                        //% endif
                        mbarrier_wait(do_empty + 8 * place.stage, place.parity);
                        mbarrier_arrive_expect(do_full + 8 * place.stage, DO_TILE_BYTES);
                        for (int c = 0; c < chunks(VALUE_DIM); ++c)
                            tensor_load(do_ring + place.stage * DO_TILE_BYTES + c * Q_CHUNK_BYTES, @{ output_grad_map }, do_full + 8 * place.stage, c * CHUNK_COLUMNS, q_tile * BLOCK_Q, head, @{ map_batch }, EVICT_LAST);
                        //% if wide
                        // consumers are done with do first
                        mbarrier_wait(q_empty + 8 * place.stage, place.parity);
                        mbarrier_arrive_expect(q_full + 8 * place.stage, Q_TILE_BYTES);
                        for (int c = 0; c < chunks(HEAD_DIM); ++c)
                            tensor_load(q_ring + place.stage * Q_TILE_BYTES + c * Q_CHUNK_BYTES, @{ q_map }, q_full + 8 * place.stage, c * CHUNK_COLUMNS, q_tile * BLOCK_Q, head, @{ map_batch }, EVICT_LAST);
                        //% endif
                    };
                    //% if tile_mask
                    LiveTiles seen = none_seen(tiles.last);
                    WalkedTile walked = {-1};   // the one found last: others are told when it is known whether another follows
                    for (int from = tiles.last - 1; !walked.last; --from) {
                        from = next_live(arguments, tile, seen, work.kv_tile, from, tiles.first);
                        if (!keys_loaded && elect_one()) load_keys();
                        __syncwarp();
                        keys_loaded = true;
                        walked.last = from < 0;
                        const int q_tile = walked.tile;
                        if ((q_tile >= 0 || walked.last) && elect_one()) {
                            tell_walked(walk, walk_place, walked);
                            if (q_tile >= 0) load_tiles(q_tile);
                        }
                        __syncwarp();
                        if (q_tile >= 0 || walked.last) advance(walk_place, WALK_STAGES);
                        if (q_tile >= 0) advance(place, STAGES);
                        if (from >= 0) walked.tile = from, walked.full = is_full(seen, from)@{ ", walked.before = before_of(seen, from)" if finds_before else "" };
                    }
                    //% else
                    for (int q_tile = tiles.last - 1; q_tile >= tiles.first; --q_tile) {
                        if (elect_one()) load_tiles(q_tile);
                        __syncwarp();
                        advance(place, STAGES);
                    }
                    //% endif
                }
            }
            return;
        }
