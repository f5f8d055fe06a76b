    // @{ q_order_comment }
    //% if packed
    const PackedTile place = find_tile<BLOCK_Q>(arguments.cu_seqlens_q, arguments.sequences, blockIdx.x);
    const int head = blockIdx.y, batch = place.sequence, kv_head = head / arguments.group;
    const int q_start = arguments.cu_seqlens_q[batch], q_len = arguments.cu_seqlens_q[batch + 1] - q_start;
    const int kv_start = arguments.cu_seqlens_kv[batch], kv_len = arguments.cu_seqlens_kv[batch + 1] - kv_start;
    const int q_tiles = (q_len + BLOCK_Q - 1) / BLOCK_Q;
    if (place.tile >= q_tiles) return;   // past the end of its sequence
    const int q_begin = @{ q_order } * BLOCK_Q;
    //% else
    const int q_begin = @{ q_order } * BLOCK_Q;
    const int head = blockIdx.y, batch = blockIdx.z, kv_head = head / arguments.group;
    const int q_len = arguments.q_len, kv_len = arguments.kv_len;
    //% endif
    const Tile tile = load_tile_values(arguments, batch, head@{ lengths });
    const Range range = live_keys_of(arguments, tile, q_begin, min(q_begin + BLOCK_Q, q_len));

