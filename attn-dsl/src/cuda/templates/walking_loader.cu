        if (role == 0) {   // finds tiles and copies them
            const int works = (kv_len + BLOCK_KV - 1) / BLOCK_KV * (arguments.heads / arguments.group) * arguments.batches;
            RingPlace place = {0, 1}, walk_place = {0, 1};   // fresh stages are empty
            for (u32 parity = 1;; parity ^= 1) {
                int number = 0;
                if (lane == 0) number = count_up(arguments.works_taken, works + gridDim.x - 1);
                const Work work = work_at(arguments, __shfl_sync(~0u, number, 0));
                const int kv_head = work.kv_head, batch = work.batch;
                if (elect_one()) {
                    mbarrier_wait(work_empty, parity);
                    store_work(work_slot, work);
                    mbarrier_arrive(work_full);
                    if (kv_head >= 0) {
                        const int kv_begin = work.kv_tile * BLOCK_KV;
                        mbarrier_wait(kv_empty, parity);
                        mbarrier_arrive_expect(kv_full, K_TILE_BYTES + V_TILE_BYTES);
                        for (int c = 0; c < K_CHUNKS; ++c) tensor_load(k_tile + c * KV_CHUNK_BYTES, &arguments.k_map, kv_full, c * CHUNK_COLUMNS, kv_begin, kv_head, batch, EVICT_FIRST);
                        for (int c = 0; c < chunks(VALUE_DIM); ++c) tensor_load(v_tile + c * KV_CHUNK_BYTES, &arguments.v_map, kv_full, c * CHUNK_COLUMNS, kv_begin, kv_head, batch, EVICT_FIRST);
                    }
                }
                __syncwarp();
                if (kv_head < 0) break;
                for (int head = kv_head * arguments.group; head < (kv_head + 1) * arguments.group; ++head) {
                    const Tile tile = load_tile_values(arguments, batch, head);
                    const QueryTiles tiles = query_tiles_of(live_queries_of_tile(arguments, tile, work.kv_tile));
                    LiveTiles seen = none_seen(tiles.last);
                    WalkedTile walked = {-1, false, false};   // the one found last: others are told when it is known whether another follows
                    for (int from = tiles.last - 1; !walked.last; --from) {
                        from = next_live(arguments, tile, seen, work.kv_tile, from, tiles.first);
                        walked.last = from < 0;
                        const int q_tile = walked.tile;
                        if ((q_tile >= 0 || walked.last) && elect_one()) {
                            tell_walked(walk, walk_place, walked);
                            if (q_tile >= 0) {
                                mbarrier_wait(q_empty + 8 * place.stage, place.parity);
                                mbarrier_arrive_expect(q_full + 8 * place.stage, Q_TILE_BYTES);
                                for (int c = 0; c < chunks(HEAD_DIM); ++c)
                                    tensor_load(q_ring + place.stage * Q_TILE_BYTES + c * Q_CHUNK_BYTES, &arguments.q_map, q_full + 8 * place.stage, c * CHUNK_COLUMNS, q_tile * BLOCK_Q, head, batch, EVICT_LAST);
                                mbarrier_wait(do_empty + 8 * place.stage, place.parity);
                                mbarrier_arrive_expect(do_full + 8 * place.stage, DO_TILE_BYTES);
                                for (int c = 0; c < chunks(VALUE_DIM); ++c)
                                    tensor_load(do_ring + place.stage * DO_TILE_BYTES + c * Q_CHUNK_BYTES, &arguments.output_grad_map, do_full + 8 * place.stage, c * CHUNK_COLUMNS, q_tile * BLOCK_Q, head, batch, EVICT_LAST);
                            }
                        }
                        __syncwarp();
                        if (q_tile >= 0 || walked.last) advance(walk_place, WALK_STAGES);
                        if (q_tile >= 0) advance(place, STAGES);
                        if (from >= 0) walked.tile = from, walked.full = is_full(seen, from);
                    }
                }
            }
            return;
        }
