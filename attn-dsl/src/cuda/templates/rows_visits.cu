        //% if tile_mask
        for (bool more = work.live; more; advance(place, STAGES)) {
            mbarrier_wait(k_full + 8 * place.stage, place.parity);
            const LiveTile live_tile = load_live_tile(live_tile_slots + 4 * place.stage);
            const int kv_tile = live_tile.kv_tile;
            const bool full = live_tile.full;
            more = !live_tile.is_last;
        //% else
        for (int kv_tile = @{ "first_tile; kv_tile < end_tile; ++kv_tile" if exact else "end_tile - 1; kv_tile >= first_tile; --kv_tile" }, advance(place, STAGES)) {
            mbarrier_wait(k_full + 8 * place.stage, place.parity);
            //% if residual
            const bool full = false;
            //% else
            const bool full = kv_tile * BLOCK_KV >= range.full_begin && (kv_tile + 1) * BLOCK_KV <= range.full_end;
            //% endif
        //% endif
            issue_scores(place.stage);
            wgmma_wait<0>();
            pin(s);
            release_keys(k_empty + 8 * place.stage);
            evaluate(kv_tile, full);
            //% if visited
            visit(@{ "kv_tile" if exact else "" });
            //% endif
        }
