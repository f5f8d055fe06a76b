    float s[BLOCK_KV / 2];
    auto issue_scores = [&](int stage) {   // s = q k^T
        const u64 q = tile_descriptor(q_tile + group_row * CHUNK_ROW_BYTES, Q_CHUNK_BYTES), k = tile_descriptor(k_ring + stage * K_TILE_BYTES, KV_CHUNK_BYTES);
        pin(s);
        wgmma_begin();
#pragma unroll
        for (int i = 0; i < padded(HEAD_DIM) / 16; ++i) multiply_tiles(s, q + column_step(i, Q_CHUNK_BYTES), k + column_step(i, KV_CHUNK_BYTES), i != 0);
        wgmma_commit();
    };
    auto release_keys = [&](u32 empty) {   // each warp for itself: it may have read which tile this is, which no product orders
        __syncwarp();
        if (lane == 0) mbarrier_arrive(empty);
    };
