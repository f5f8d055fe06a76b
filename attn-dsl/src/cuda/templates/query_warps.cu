        if (role >= 4 - QUERY_WARPS) {   // @{ "computes what varies by query" if stage_queries else "" }@{ " and " if stage_queries and relatives else "" }@{ "by distance" if stage_queries and relatives else "computes what varies by distance" if relatives else "" }@{ ", " if by_query and tables else "" }@{ "sums ds along diagonals" if tables else "" }
            const int thread = threadIdx.x - 32 * (4 - QUERY_WARPS);
            //% if by_query
            RingPlace place = {0, 1};
            //% endif
            //% if skips
            RingPlace walk_place = {0, 0};
            //% endif
            //% if tables
            RingPlace summed = {0, 0};   // of ds
            //% endif
            for (u32 parity = 0;; parity ^= 1) {
                mbarrier_wait(work_full, parity);
                const Work work = load_work(work_slot);
                __syncwarp();
                if (lane == 0) mbarrier_arrive(work_empty);
                if (work.kv_head < 0) break;
                for (int head = work.kv_head * arguments.group; head < (work.kv_head + 1) * arguments.group; ++head) {
                    const int batch = work.batch;
                    const Tile tile = load_tile_values(arguments, batch, head);
                    //% if not skips
                    const QueryTiles tiles = query_tiles_of(live_queries_of_tile(arguments, tile, work.kv_tile));
                    //% endif
                    //% if relatives or tables
                    constexpr int OWN = BLOCK_Q / (32 * QUERY_WARPS);   // of a thread: thread + 32 QUERY_WARPS i
                    //% endif
                    //% if by_query
                    auto store_values = [&](int q_tile@{ ", bool follows" if skips and relatives else "" }) {@{ "   // `follows`: its neighbour came before it" if skips and relatives else "" }
                        //% if stage_queries
                        auto query_at = [&](int column) {   // positions past the end read what the last one has; nothing of theirs is used
                            const int q = min(q_tile * BLOCK_Q + column, q_len - 1);
                            return load_query(arguments, tile, q, (float)q);
                        };
                        //% endif
                        //% if relatives
                        auto relative_at = [&](int place) {
                            const int distance = work.kv_tile * BLOCK_KV + BLOCK_KV - place - q_tile * BLOCK_Q;
                            return load_relative(arguments, tile, distance, (float)distance);
                        };
                        // everything is read before any of it is waited for
                        //% if stage_queries
                        Query queries[OWN];
#pragma unroll
                        for (int i = 0; i < OWN; ++i) queries[i] = query_at(thread + 32 * QUERY_WARPS * i);
                        //% endif
                        // of the distances that the tile before has, too, this thread has stored the values, BLOCK_Q places before
                        const u32 table = relative_ring + place.stage * RELATIVE_TABLE_BYTES, before = relative_ring + (place.stage + STAGES - 1) % STAGES * RELATIVE_TABLE_BYTES;
                        Relative relatives[RELATIVE_VALUES / BLOCK_Q * OWN];
#pragma unroll
                        for (int i = 0; i < RELATIVE_VALUES / BLOCK_Q * OWN; ++i) {
                            const int at = thread + 32 * QUERY_WARPS * i;
                            relatives[i] = i < OWN || @{ "!follows" if skips else "q_tile == tiles.last - 1" } ? relative_at(at) : load_relative_at(before, at - BLOCK_Q);
                        }
                        mbarrier_wait(q_empty + 8 * place.stage, place.parity);
                        //% if stage_queries
#pragma unroll
                        for (int i = 0; i < OWN; ++i) store_query(query_ring + place.stage * QUERY_RING_BYTES, thread + 32 * QUERY_WARPS * i, queries[i]);
                        //% endif
#pragma unroll
                        for (int i = 0; i < RELATIVE_VALUES / BLOCK_Q * OWN; ++i) store_relative(table, thread + 32 * QUERY_WARPS * i, relatives[i]);
                        //% else
                        mbarrier_wait(q_empty + 8 * place.stage, place.parity);
                        for (int column = thread; column < BLOCK_Q; column += 32 * QUERY_WARPS) store_query(query_ring + place.stage * QUERY_RING_BYTES, column, query_at(column));
                        //% endif
                        __syncwarp();
                        if (lane == 0) mbarrier_arrive(q_full + 8 * place.stage);
                        advance(place, STAGES);
                    };
                    //% endif
                    //% if tables
                    // each warp has entries of its own, which a second kernel adds up
                    const i64 row = (((i64)batch * arguments.heads + head) * ((kv_len + BLOCK_KV - 1) / BLOCK_KV) + work.kv_tile) * QUERY_WARPS + thread / 32;
                    //% for table in tables
                    float* own_@{ table.name } = arguments.grad_@{ table.name } + row * entries_of_@{ table.name }(arguments);
                    for (int entry = lane; entry < entries_of_@{ table.name }(arguments); entry += 32) own_@{ table.name }[entry] = 0.f;
                    //% endfor
                    named_barrier_sync(QUERY_WARPS_MEET, 32 * QUERY_WARPS);   // the walk before is finished
                    for (int i = thread; i < DIAGONALS * 2; i += 32 * QUERY_WARPS) store_shared_16(sums + 16 * i, make_int4(0, 0, 0, 0));
                    named_barrier_sync(QUERY_WARPS_MEET, 32 * QUERY_WARPS);
                    //% for table in tables
                    //% for read in table.reads
                    Pending pending_@{ read.entry } = {0, 0.f};
                    //% endfor
                    //% endfor
                    auto finish = [&](int first) {   // BLOCK_Q distances get no more pairs
#pragma unroll
                        for (int i = 0; i < OWN; ++i) {
                            const int distance = first + thread + 32 * QUERY_WARPS * i;
                            const float sum = diagonal_sum(sums, distance);
                            //% for table in tables
                            //% for read in table.reads
                            add_later(own_@{ table.name }, pending_@{ read.entry }, @{ read.entry }(arguments, tile, distance, (float)distance), @{ "-" if read.negative else "" }sum, lane);
                            //% endfor
                            //% endfor
                        }
                    };
                    // queries are computed ahead, as far as there are stages
                    for (int q_tile = tiles.last - 1; q_tile >= tiles.first - STAGES; --q_tile) {
                        //% if by_query
                        if (q_tile >= tiles.first) store_values(q_tile);
                        //% endif
                        const int q_summed = q_tile + STAGES;
                        if (q_summed >= tiles.last) continue;
                        const int distance = work.kv_tile * BLOCK_KV - q_summed * BLOCK_Q;
                        mbarrier_wait(ds_full + 8 * summed.stage, summed.parity);
                        add_diagonals(sums, distance, ds_ring + summed.stage * DS_TILE_BYTES, thread / 32, lane);
                        named_barrier_sync(QUERY_WARPS_MEET, 32 * QUERY_WARPS);   // sums are whole, and ds is read
                        if (lane == 0) mbarrier_arrive(ds_empty + 8 * summed.stage);
                        finish(distance - BLOCK_Q);
                        if (BLOCK_Q == BLOCK_KV) named_barrier_sync(QUERY_WARPS_MEET, 32 * QUERY_WARPS);   // the next tile needs their places
                        advance(summed, STAGES);
                    }
                    if (tiles.first >= tiles.last) continue;
                    const int rest = work.kv_tile * BLOCK_KV - tiles.first * BLOCK_Q;
                    // the next diagonal of blocks, which no tile has, would have added to the last 8 distances
                    if (thread / 8 + thread % 8 >= 8) store_shared(sum_address(sums, sum_place(rest + BLOCK_KV - 8 + thread / 8, thread % 8)), 0.f);
                    named_barrier_sync(QUERY_WARPS_MEET, 32 * QUERY_WARPS);
#pragma unroll 1
                    for (int i = 0; i < BLOCK_KV; i += BLOCK_Q) finish(rest + i);
                    //% for table in tables
                    //% for read in table.reads
                    add_to_entries(own_@{ table.name }, pending_@{ read.entry }, lane);
                    //% endfor
                    //% endfor
                    //% elif skips
                    //% if relatives
                    int walked_before = -1;
                    //% endif
                    for (WalkedTile walked = {0, false, false}; !walked.last;) {
                        walked = take_walked(walk, walk_place);
                        if (walked.tile < 0) break;
                        store_values(walked.tile@{ ", walked.tile + 1 == walked_before" if relatives else "" });
                        //% if relatives
                        walked_before = walked.tile;
                        //% endif
                    }
                    //% else
                    for (int q_tile = tiles.last - 1; q_tile >= tiles.first; --q_tile) store_values(q_tile);
                    //% endif
                }
            }
        }

