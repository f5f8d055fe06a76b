    //% if tile_mask
    const int last = (range.end + BLOCK_KV - 1) / BLOCK_KV;   // tiles of keys

    // of the 32 tiles from group on: which may have a live pair, and which have no dead one. A lane looks at one of them.
    int group = -32;
    u32 live_tiles = 0, full_tiles = 0;
    auto next_live = [&](int kv_tile) {
        while (kv_tile < last) {
            if (kv_tile >= group + 32) {
                group = kv_tile;
                const int kv_begin = (group + lane) * BLOCK_KV, kv_end = min(kv_begin + BLOCK_KV, kv_len);
                TileLiveness liveness = {false, false};
                if (group + lane < last) liveness = live_tile(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len) - 1, kv_begin, kv_end - 1);
                live_tiles = __ballot_sync(~0u, liveness.may_live);
                full_tiles = __ballot_sync(~0u, liveness.all_live && kv_end == kv_begin + BLOCK_KV);
            }
            const u32 ahead = live_tiles >> (kv_tile - group);
            if (ahead) return kv_tile + __ffs(ahead) - 1;
            kv_tile = group + 32;
        }
        return last;
    };
    const int first = next_live(range.begin / BLOCK_KV);
    //% else
    const int first = range.begin / BLOCK_KV, last = (range.end + BLOCK_KV - 1) / BLOCK_KV;   // tiles of keys
    //% endif
