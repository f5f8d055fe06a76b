        if (threadIdx.x < 32) {
            if (elect_one()) {
                RingPlace place = {0, 1};   // fresh stages are empty
                u32 q_parity = 1;
                for (int number = blockIdx.x;; number = gridDim.x + count_up(arguments.works_taken, works - 1)) {
                    const Work work = work_at(arguments, number);
                    // consumers learn what to do with the queries
                    auto publish = [&](u32 bytes) {
                        mbarrier_wait(q_empty, q_parity);
                        q_parity ^= 1;
                        store_work(work_slot, work);
                        mbarrier_arrive_expect(q_full, bytes);
                    };
                    if (work.head < 0) {
                        publish(0);
                        break;
                    }
                    const int q_begin = work.q_begin, head = work.head, batch = work.batch, kv_head = head / arguments.group;
                    const Tile tile = load_tile_values(arguments, batch, head);
                    const Range range = live_keys_of(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len));
                    const int first = range.begin / BLOCK_KV, last = (range.end + BLOCK_KV - 1) / BLOCK_KV;   // tiles of keys, the last ones first
                    if (first >= last) publish(0);
                    for (int kv_tile = last - 1; kv_tile >= first; --kv_tile, advance(place, STAGES)) {
                        mbarrier_wait(k_empty + 8 * place.stage, place.parity);
                        mbarrier_arrive_expect(k_full + 8 * place.stage, K_TILE_BYTES);
                        for (int c = 0; c < chunks(HEAD_DIM); ++c)
                            tensor_load(k_ring + place.stage * K_TILE_BYTES + c * KV_CHUNK_BYTES, &arguments.k_map, k_full + 8 * place.stage, c * CHUNK_COLUMNS, kv_tile * BLOCK_KV, kv_head, batch, EVICT_LAST);
                        if (kv_tile == last - 1) {
                            publish(Q_BYTES);
                            for (int c = 0; c < chunks(HEAD_DIM); ++c) tensor_load(q_tile + c * Q_CHUNK_BYTES, &arguments.q_map, q_full, c * CHUNK_COLUMNS, q_begin, head, batch, EVICT_FIRST);
                        }
                        mbarrier_wait(v_empty + 8 * place.stage, place.parity);
                        mbarrier_arrive_expect(v_full + 8 * place.stage, V_TILE_BYTES);
                        for (int c = 0; c < chunks(VALUE_DIM); ++c)
                            tensor_load(v_ring + place.stage * V_TILE_BYTES + c * KV_CHUNK_BYTES, &arguments.v_map, v_full + 8 * place.stage, c * CHUNK_COLUMNS, kv_tile * BLOCK_KV, kv_head, batch, EVICT_LAST);
                    }
                }
            }
        }

