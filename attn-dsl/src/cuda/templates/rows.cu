// ---------------------------------------------------------------- kernel
//% if entmax
// Greatest score and threshold of each row: Newton's method from the left, which never overshoots, with the scores computed again
// in each step, until no row of the tile moves.
//% else
// The k-th greatest score of each row@{ "" if ties else ", and the last key that is kept among those that have it" }: four bits of
// it a sweep over the scores, which are computed again each time.
//% endif
extern "C" __global__ void __launch_bounds__(THREADS, @{ blocks_per_sm })
attn_rows(const __grid_constant__ Arguments arguments) {
    extern __shared__ __align__(16) unsigned char shared[];
    const u32 q_tile = shared_address(shared), k_ring = q_tile + Q_TILE_BYTES, votes = k_ring + STAGES * K_TILE_BYTES;
    //% if stage_keys
    const u32 key_ring = votes + 16;
    //% endif
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    //% include "query_tile"
    //% include "key_tiles"

    //% if stage_keys
    // positions past the end read what the last one has; nothing of theirs is used
    auto key_at = [&](int kv) { kv = min(kv, kv_len - 1); return load_key(arguments, tile, kv, (float)kv); };
    //% endif
    auto query_at = [&](int q) { q = min(q, q_len - 1); return load_query(arguments, tile, q, (float)q); };

    const element* k_rows = rows_of(arguments.k, @{ kv_rows }, kv_head);
    auto start_loads = [&](int kv_tile, int stage) {
        load_tile<BLOCK_KV, HEAD_DIM>(k_ring + stage * K_TILE_BYTES, k_rows, arguments.k.row, kv_tile * BLOCK_KV, kv_len);
        copy_async_commit();
    };
    load_tile<BLOCK_Q, HEAD_DIM>(q_tile, rows_of(arguments.q, @{ q_rows }, head), arguments.q.row, q_begin, q_len);

    // this thread's rows: q_begin + first_row + 16 m + 8 r
    const int first_row = warp * ROW_TILES * 16 + lane / 4;
    Query query[ROW_TILES][2];
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) query[m][r] = query_at(q_begin + first_row + 16 * m + 8 * r);

    // Whether any thread of the block says so.
    auto vote = [&](bool mine) {
        const int any = __any_sync(~0u, mine);
        if (lane == 0) store_shared(votes + 4 * warp, any);
        __syncthreads();
        int all = 0;
        for (int i = 0; i < WARPS; ++i) all |= load_shared_int(votes + 4 * i);
        return all != 0;
    };

    // Shows every score of this thread's rows to `visit`: the row by m and r, the score, whether the pair is live, its key.
    auto sweep = [&](auto visit) {
        __syncthreads();   // every warp has used the last tile, and read the votes
        //% if tile_mask
        group = -32;       // the tiles are looked at again
        next_live(first);
        //% endif
        if (first < last) start_loads(first, 0);
        //% if stage_keys
        if (first < last && threadIdx.x < BLOCK_KV) store_key(key_ring, threadIdx.x, key_at(first * BLOCK_KV + (int)threadIdx.x));
        //% endif
        //% if tile_mask
        //% if stages > 1
        int stage = 1;
        //% endif
        for (int kv_tile = first, next_tile; kv_tile < last; kv_tile = next_tile) {
            const bool full = full_tiles >> (kv_tile - group) & 1;
            next_tile = next_live(kv_tile + 1);
        //% else
        for (int kv_tile = first; kv_tile < last; ++kv_tile) {
            const bool full = kv_tile * BLOCK_KV >= range.full_begin && (kv_tile + 1) * BLOCK_KV <= range.full_end;
        //% endif
            //% if stages == 1
            if (kv_tile > first) {
                __syncthreads();   // every warp has used the last tile
                start_loads(kv_tile, 0);
                //% if stage_keys
                if (threadIdx.x < BLOCK_KV) store_key(key_ring, threadIdx.x, key_at(kv_tile * BLOCK_KV + (int)threadIdx.x));
                //% endif
            }
            copy_async_wait<0>();
            __syncthreads();
            //% else
            //% if tile_mask
            stage ^= 1;
            //% else
            const int stage = (kv_tile - first) % STAGES;
            //% endif
            copy_async_wait<0>();
            __syncthreads();   // this tile is there, and every warp has used the one before
            //% if tile_mask
            if (next_tile < last) start_loads(next_tile, stage ^ 1);
            //% else
            if (kv_tile + 1 < last) start_loads(kv_tile + 1, stage ^ 1);
            //% endif
            //% if stage_keys
            Key next_key;
            if (threadIdx.x < BLOCK_KV) next_key = key_at(@{ "next_tile" if tile_mask else "(kv_tile + 1)" } * BLOCK_KV + (int)threadIdx.x);
            //% endif
            //% endif

            float s[ROW_TILES][BLOCK_KV / 8][4];
            multiply_rows<HEAD_DIM>(s, q_tile + warp * ROW_TILES * 16 * row_bytes(HEAD_DIM), k_ring + @{ stage } * K_TILE_BYTES);
            const int first_kv = kv_tile * BLOCK_KV + lane % 4 * 2;   // this thread's columns: first_kv + 8 n + c
            //% if inline_keys
            const float first_kv_as_float = first_kv;
            //% endif
            auto pairs = [&](auto kind) {
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n) {
                    @{ key_columns }
#pragma unroll
                    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                        for (int e = 0; e < 4; ++e) {
                            const bool live = !decltype(kind)::partial || (first_kv + 8 * n + e % 2 < kv_len@{ " && is_live(" ~ mask_arguments ~ "tile, query[m][e / 2], key[e % 2])" if masked else "" });
                            visit(m, e / 2, score(@{ pair_arguments }s[m][n][e], tile, query[m][e / 2], key[e % 2]), live, first_kv + 8 * n + e % 2);
                        }
                }
            };
            if (full) pairs(Full{});
            else pairs(Partial{});
            //% if stage_keys and stages > 1
            if (threadIdx.x < BLOCK_KV) store_key(key_ring + (stage ^ 1) * KEY_RING_BYTES, threadIdx.x, next_key);
            //% endif
        }
    };

    //% if entmax
    float greatest[ROW_TILES][2], threshold[ROW_TILES][2];
    bool undefined[ROW_TILES][2] = {};   // a score is no number, or infinite
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) greatest[m][r] = -INFINITY, threshold[m][r] = -1.f;
    sweep([&](int m, int r, float value, bool live, int) {
        if (live) greatest[m][r] = fmaxf(greatest[m][r], value), undefined[m][r] |= !(value < INFINITY);
    });
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) greatest[m][r] = quad_max(greatest[m][r]), undefined[m][r] = quad_any(undefined[m][r]);
    const float factor = entmax_factor(tile);
    bool moves = true;
    for (int step = 0; step < 64 && vote(moves); ++step) {
        // of what is above the threshold: the weights, and their slopes
        float mass[ROW_TILES][2] = {}, slope[ROW_TILES][2] = {};
        sweep([&](int m, int r, float value, bool live, int) {
            const float excess = (value - greatest[m][r]) * factor - threshold[m][r];
            if (!live || !(excess > 0.f)) return;
            //% if power == "1"
            mass[m][r] += excess, slope[m][r] += 1.f;
            //% elif power == "2"
            mass[m][r] = fmaf(excess, excess, mass[m][r]), slope[m][r] += excess;
            //% else
            const float logarithm = @{ "log2f" if dtype == "f32" else "log2_approx" }(excess), weight = exp2_approx(logarithm / factor);
            mass[m][r] += weight, slope[m][r] += weight / excess;
            //% endif
        });
        moves = false;
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const float all = quad_sum(mass[m][r]);
                const float next = threshold[m][r] + (all - 1.f) * factor / quad_sum(slope[m][r]);
                if (!undefined[m][r] && all > 1.0000004f && next > threshold[m][r]) threshold[m][r] = next, moves = true;
            }
    }
    //% else
    // The `need`-th greatest key of each row, and how often it is there; what is not live has key 0, and so has the result of a row
    // with too few. In the end `need` is how many of equal keys are still wanted.
    auto select = [&](int shift, u32 (&found)[ROW_TILES][2], int (&need)[ROW_TILES][2], int (&equal)[ROW_TILES][2], auto key_of) {
        for (bool is_first = true; shift >= 0; shift -= 4, is_first = false) {
            int count[ROW_TILES][2][16] = {};   // of keys that begin as what was found, and whose next digit is at least the index
            sweep([&](int m, int r, float value, bool live, int kv) {
                const u32 key = live ? key_of(m, r, value, kv) : 0;
                const bool begins = key != 0 && (is_first || (key ^ found[m][r]) >> (shift + 3) >> 1 == 0);
                const int digit = begins ? (int)(key >> shift & 15) : -1;
#pragma unroll
                for (int i = 0; i < 16; ++i) count[m][r][i] += digit >= i;
            });
#pragma unroll
            for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    int digit = 0, above = 0, from = 0;
#pragma unroll
                    for (int i = 0; i < 16; ++i) {
                        int all = count[m][r][i];
                        all += __shfl_xor_sync(~0u, all, 1);
                        all += __shfl_xor_sync(~0u, all, 2);
                        const bool enough = i == 0 || all >= need[m][r];
                        if (enough) digit = i, from = all, above = 0;
                        else if (i == digit + 1) above = all;
                    }
                    found[m][r] |= (u32)digit << shift, need[m][r] -= above, equal[m][r] = from - above;
                }
        }
    };
    // greater numbers have greater keys, minus infinity a key above 0; both zeros have the same
    auto ordered = [](float value) {
        const u32 bits = (u32)__float_as_int(value + 0.f);
        return value != value ? ~0u : bits >> 31 ? ~bits : bits | 0x80000000u;
    };
    u32 kth[ROW_TILES][2] = {};
    int need[ROW_TILES][2], equal[ROW_TILES][2] = {};
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) need[m][r] = max(kept_keys(tile, query[m][r]), 1);
    select(28, kth, need, equal, [&](int, int, float value, int) { return ordered(value); });
    //% if not ties
    // rows that keep some of the keys of their k-th score: the lowest
    bool chooses = false;
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) chooses |= kth[m][r] != 0 && need[m][r] < equal[m][r];
    u32 last_kept[ROW_TILES][2] = {};
    int places[ROW_TILES][2] = {};
    const bool any_chooses = vote(chooses);
    if (any_chooses) {
        int wanted[ROW_TILES][2];
#pragma unroll
        for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) wanted[m][r] = need[m][r];
        // lower keys have greater numbers
        select(20, last_kept, wanted, places, [&](int m, int r, float value, int kv) { return ordered(value) == kth[m][r] ? 0xffffffu - (u32)kv : 0u; });
    }
    //% endif
    //% endif

    copy_async_wait_all();   // of a block without live tiles
#pragma unroll
    for (int m = 0; m < ROW_TILES; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int q = q_begin + first_row + 16 * m + 8 * r;
            if (lane % 4 != 0 || q >= q_len) continue;
            const i64 row = @{ "(i64)head * arguments.total_q + q_start" if packed else "((i64)batch * gridDim.y + head) * q_len" } + q;
            //% if entmax
            const bool is_empty = greatest[m][r] == -INFINITY;   // no pair has a weight
            arguments.@{ greatest }[row] = undefined[m][r] || is_empty ? 0.f : greatest[m][r];
            arguments.@{ threshold }[row] = undefined[m][r] ? __int_as_float(0x7fffffff) : is_empty ? INFINITY : threshold[m][r];
            //% else
            const bool none = kept_keys(tile, query[m][r]) < 1;
            const u32 bits = kth[m][r] >> 31 ? kth[m][r] ^ 0x80000000u : ~kth[m][r];
            arguments.@{ kth_score }[row] = none ? INFINITY : kth[m][r] == 0 ? -INFINITY : __int_as_float((int)bits);
            //% if not ties
            const bool chooses_here = any_chooses && kth[m][r] != 0 && need[m][r] < equal[m][r];
            arguments.@{ last_kept }[row] = __int_as_float(none ? -1 : chooses_here ? (int)(0xffffffu - last_kept[m][r]) : 0x7fffffff);
            //% endif
            //% endif
        }
}
