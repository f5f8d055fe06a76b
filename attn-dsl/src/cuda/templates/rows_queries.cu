        const int head = work.head, batch = work.batch;
        //% if packed
        const int q_len = work.q_len, kv_len = work.kv_len;
        //% endif
        const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
        const int first_q = work.q_begin + warp_row + lane / 4;   // this thread's rows: first_q + 8 r
        auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };
        const Query query[2] = {query_at(first_q), query_at(first_q + 8)};
        //% if not residual
        const Range live[2] = {live_keys_of(arguments, tile, first_q, first_q + 1), live_keys_of(arguments, tile, first_q + 8, first_q + 9)};
        //% endif
        //% if not tile_mask
        const Range range = live_keys_of(arguments, tile, work.q_begin, min(work.q_begin + BLOCK_Q, q_len));
        const int first_tile = range.begin / BLOCK_KV, end_tile = (range.end + BLOCK_KV - 1) / BLOCK_KV;
        //% endif
