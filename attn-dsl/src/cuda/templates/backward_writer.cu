        if (role == 1) {   // adds finished @{ "parts" if wide else "tiles" } of dq to global memory
            auto may_write = [&] {
                for (int w = 0; w < CONSUMERS; ++w) named_barrier_arrive(DQ_EMPTY + w, DQ_THREADS);
            };
            may_write();
            //% if skips
            RingPlace walk_place = {0, 0};
            //% endif
            for (u32 parity = 0;; parity ^= 1) {
                mbarrier_wait(work_full, parity);
                const Work work = load_work(work_slot);
                __syncwarp();
                if (lane == 0) mbarrier_arrive(work_empty);
                if (work.kv_head < 0) break;
                //% if packed
                const int q_len = work.q_len, kv_len = work.kv_len;
                //% endif
                for (int head = work.kv_head * arguments.group; head < (work.kv_head + 1) * arguments.group; ++head) {
                    //% if deterministic or not skips
                    const Tile tile = load_tile_values(arguments, work.batch, head@{ lengths });
                    //% endif
                    //% if not skips
                    const QueryTiles tiles = query_tiles_of(live_queries_of_tile(arguments, tile, work.kv_tile));
                    //% endif
                    //% if deterministic and not skips
                    // the tile of keys before adds to these, and before this one
                    const QueryTiles before = work.kv_tile == 0 ? QueryTiles{0, 0} : query_tiles_of(live_queries_of_tile(arguments, tile, work.kv_tile - 1));
                    //% endif
                    const i64 first_tile = @{ "(i64)head * (arguments.total_q / BLOCK_Q + arguments.sequences) + work.q_start / BLOCK_Q + work.batch" if packed else "((i64)work.batch * arguments.heads + head) * q_tiles" };
                    //% if skips
                    for (WalkedTile walked = {}; !walked.last;) {
                        walked = take_walked(walk, walk_place);
                        const int q_tile = walked.tile;
                        if (q_tile < 0) break;
                        //% if deterministic
                        const int before = walked.before == NEIGHBOUR ? work.kv_tile - 1 : walked.before == NONE ? -1 : tile_before(arguments, tile, q_tile, work.kv_tile - 1);
                        //% endif
                    //% else
                    for (int q_tile = tiles.last - 1; q_tile >= tiles.first; --q_tile) {
                    //% endif
                        //% set adds = "before >= 0" if skips else "q_tile >= before.first && q_tile < before.last"
                        //% set expected = "before + 1" if skips else "work.kv_tile"
                        //% if wide
                        float* to = arguments.dq_sums + (first_tile + q_tile) * (DQ_PARTS * DQ_PART_BYTES / 4);
                        for (int part = 0; part < DQ_PARTS; ++part, to += DQ_PART_BYTES / 4) {
                            for (int w = 0; w < CONSUMERS; ++w) named_barrier_sync(DQ_FULL + w, DQ_THREADS);
                            if (elect_one()) {
                                //% if deterministic
                                const int* turn = arguments.dq_turns + first_tile + q_tile;
                                if (@{ adds }) {
                                    if (part == 0) {
                                        while (load_acquire(turn) != @{ expected });
                                        publish_global();
                                    }
                                    bulk_add(to, dq_part, DQ_PART_BYTES);
                                } else {
                                    bulk_store(to, dq_part, DQ_PART_BYTES);   // the first to come
                                }
                                //% else
                                bulk_add(to, dq_part, DQ_PART_BYTES);
                                //% endif
                                tensor_store_commit();
                                tensor_store_wait();
                            }
                            __syncwarp();
                            may_write();
                        }
                        //% else
                        for (int w = 0; w < CONSUMERS; ++w) named_barrier_sync(DQ_FULL + w, DQ_THREADS);
                        if (elect_one()) {
                            float* to = arguments.dq_sums + (first_tile + q_tile) * (DQ_TILE_BYTES / 4);
                            //% if deterministic
                            int* turn = arguments.dq_turns + first_tile + q_tile;
                            if (@{ adds }) {
                                while (load_acquire(turn) != @{ expected });
                                publish_global();
                                bulk_add(to, dq_tile, DQ_TILE_BYTES);
                            } else {
                                bulk_store(to, dq_tile, DQ_TILE_BYTES);   // the first to come
                            }
                            //% else
                            bulk_add(to, dq_tile, DQ_TILE_BYTES);
                            //% endif
                            tensor_store_commit();
                            tensor_store_wait();
                        }
                        __syncwarp();
                        may_write();
                        //% endif
                        //% if deterministic
                        if (elect_one()) {
                            bulk_wait();
                            publish_global();
                            store_release(arguments.dq_turns + first_tile + q_tile, work.kv_tile + 1);
                        }
                        __syncwarp();
                        //% endif
                    }
                }
            }
            //% if not deterministic
            if (elect_one()) bulk_wait();
            //% endif
            return;
        }

