        // s becomes @{ "the products" if scaled else "the scores" } of live pairs, minus infinity elsewhere
        auto evaluate = [&](int kv_tile, bool full) {
            const int first_kv = kv_tile * BLOCK_KV + lane % 4 * 2;   // this thread's columns: first_kv + 8 n + c
            //% if inline_keys
            const float first_kv_as_float = first_kv;
            //% endif
            //% if evaluated
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                @{ key_columns }
#pragma unroll
                for (int e = 0; e < 4; ++e) s[4 * n + e] = score(@{ pair_arguments }s[4 * n + e], tile, query[e / 2], key[e % 2]);
            }
            //% endif
            if (!full) {
                //% if residual
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n) {
                    @{ key_columns }
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        if (!(first_kv + 8 * n + e % 2 < kv_len && is_live(@{ mask_arguments }tile, query[e / 2], key[e % 2]))) s[4 * n + e] = -INFINITY;
                }
                //% else
#pragma unroll
                for (int i = 0; i < BLOCK_KV / 2; ++i) {
                    const int r = i / 2 % 2, column = i / 4 * 8 + i % 2;
                    if (@{ "column < live[r].begin - first_kv || " if begins else "" }column >= live[r].end - first_kv) s[i] = -INFINITY;
                }
                //% endif
            }
        };
        //% include "rows_visits"

