    const int segment = blockIdx.x, head = blockIdx.y, batch = blockIdx.z, kv_head = head / arguments.group;
    const int q_len = arguments.q_len, kv_len = arguments.kv_len, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    //% if causal
    // positions of chunks are those of keys; query i stands at i + offset
    const int offset = kv_len - q_len, first_position = min(0, offset), positions = kv_len - first_position;
    //% endif
    //% if tile
    const Tile tile = load_tile_values(arguments, batch, head);
    //% endif
    //% if reads_queries
    auto query_at = [&](int q) { q = max(0, min(q, q_len - 1)); return load_query(arguments, tile, q, (float)q); };
    //% endif
    //% if reads_keys
    auto key_at = [&](int kv) { kv = max(0, min(kv, kv_len - 1)); return load_key(arguments, tile, kv, (float)kv); };
    //% endif
    const int slots = arguments.segments + 1;
    const i64 head_slots = ((i64)batch * gridDim.y + head) * slots;
