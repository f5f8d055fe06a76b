            //% if packed
            const int works = all_places(arguments) * (arguments.heads@{ " / arguments.group" if of_keys else "" });
            int sequence = -1;   // whose tensor maps are known
            //% else
            const int works = (@{ row_len } + BLOCK_ROWS - 1) / BLOCK_ROWS * arguments.heads@{ " / arguments.group" if of_keys else "" } * arguments.batches;
            //% endif
            RingPlace place = {0, 1}, grad_place = {0, 1}@{ ", walk_place = {0, 1}" if tile_mask else "" };   // fresh stages are empty
            int number = blockIdx.x;
            auto next_number = [&] {
                if (lane == 0) number = gridDim.x + count_up(arguments.works_taken, works - 1);
                number = __shfl_sync(~0u, number, 0);
            };
            for (u32 parity = 1;; parity ^= 1, next_number()) {
                //% if packed
                Work work = work_at(arguments, number);
                while (work.head >= 0 && work.@{ row_len } == 0) next_number(), work = work_at(arguments, number);   // places without a tile
                const int q_len = work.q_len, kv_len = work.kv_len, batch = work.batch;
                const TensorMap* maps = arguments.sequence_maps + batch * MAPS;
                if (batch != sequence && work.head >= 0) acquire_map(@{ own_map }), acquire_map(@{ other_map }), acquire_map(@{ other_grad_map })@{ ", acquire_map(" ~ own_grad_map ~ ")" if want_ds else "" };
                sequence = batch;
                //% else
                const Work work = work_at(arguments, number);
                const int batch = work.batch;
                //% endif
                if (elect_one()) {
                    mbarrier_wait(work_empty, parity);
                    store_work(work_slot, work);
                    mbarrier_arrive(work_full);
                    if (work.head >= 0) {
                        const int row_begin = work.tile * BLOCK_ROWS;
                        mbarrier_wait(own_empty, parity);
                        mbarrier_arrive_expect(own_full, chunks(HEAD_DIM) * OWN_CHUNK_BYTES@{ " + OWN_GRAD_TILE_BYTES" if want_ds else "" });
                        for (int c = 0; c < chunks(HEAD_DIM); ++c) tensor_load(@{ own }_tile + c * OWN_CHUNK_BYTES, @{ own_map }, own_full, c * CHUNK_COLUMNS, row_begin, work.head, @{ map_batch }, EVICT_FIRST);
                        //% if want_ds
                        for (int c = 0; c < chunks(VALUE_DIM); ++c) tensor_load(@{ own_grad }_tile + c * OWN_CHUNK_BYTES, @{ own_grad_map }, own_full, c * CHUNK_COLUMNS, row_begin, work.head, @{ map_batch }, EVICT_FIRST);
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
                    const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
                    const ColumnTiles tiles = column_tiles_of(live_of_tile(arguments, tile, work.tile));
                    auto load_tiles = [&](int column_tile) {   // one lane
                        mbarrier_wait(empty + 8 * place.stage, place.parity);
                        mbarrier_arrive_expect(full + 8 * place.stage, OTHER_TILE_BYTES);
                        for (int c = 0; c < chunks(HEAD_DIM); ++c)
                            tensor_load(@{ other }_ring + place.stage * OTHER_TILE_BYTES + c * OTHER_CHUNK_BYTES, @{ other_map }, full + 8 * place.stage, c * CHUNK_COLUMNS, column_tile * BLOCK_COLUMNS, other_head, @{ map_batch }, EVICT_LAST);
                        mbarrier_wait(grad_empty + 8 * grad_place.stage, grad_place.parity);
                        mbarrier_arrive_expect(grad_full + 8 * grad_place.stage, OTHER_GRAD_TILE_BYTES);
                        for (int c = 0; c < chunks(VALUE_DIM); ++c)
                            tensor_load(@{ other_grad }_ring + grad_place.stage * OTHER_GRAD_TILE_BYTES + c * OTHER_CHUNK_BYTES, @{ other_grad_map }, grad_full + 8 * grad_place.stage, c * CHUNK_COLUMNS, column_tile * BLOCK_COLUMNS, other_head, @{ map_batch }, EVICT_LAST);
                    };
                    //% if tile_mask
                    LiveTiles seen = none_seen(tiles.last);
                    WalkedTile walked = {-1, false, false};   // the one found last: others are told when it is known whether another follows
                    for (int from = tiles.last - 1; !walked.last; --from) {
                        from = next_live(arguments, tile, seen, work.tile, from, tiles.first);
                        walked.last = from < 0;
                        const int column_tile = walked.tile;
                        if ((column_tile >= 0 || walked.last) && elect_one()) {
                            tell_walked(walk, walk_place, walked);
                            if (column_tile >= 0) load_tiles(column_tile);
                        }
                        __syncwarp();
                        if (column_tile >= 0 || walked.last) advance(walk_place, WALK_STAGES);
                        if (column_tile >= 0) advance(place, STAGES), advance(grad_place, GRAD_STAGES);
                        if (from >= 0) walked.tile = from, walked.full = is_full(seen, from);
                    }
                    //% else
                    for (int column_tile = tiles.last - 1; column_tile >= tiles.first; --column_tile) {
                        if (elect_one()) load_tiles(column_tile);
                        __syncwarp();
                        advance(place, STAGES), advance(grad_place, GRAD_STAGES);
                    }
                    //% endif
                }
            }
