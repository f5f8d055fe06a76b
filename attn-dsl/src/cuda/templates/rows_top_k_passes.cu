        // The numbers from 0 on, in the order of the scores; a NaN is greater than any.
        auto rank_of = [](float score) {
            const u32 bits = __float_as_int(score + 0.f);   // one zero
            return score != score ? 0xFFFFFFFEu : bits >> 31 ? ~bits : bits | 0x80000000u;
        };
        auto score_of = [](u32 rank) { return __int_as_float(rank >> 31 ? rank & 0x7FFFFFFFu : ~rank); };
        auto quad_count = [](int count) {
            count += __shfl_xor_sync(~0u, count, 1);
            return count + __shfl_xor_sync(~0u, count, 2);
        };
        // Of k wanted ones: at least k have the rank low or more, fewer have the rank high. Passes count what is above three ranks in
        // between until the two are neighbours. A last one finds where the k-th is among equals.
        enum { RANGE, NARROW, CUT } phase = RANGE;
        const int wanted[2] = {kept_keys(tile, query[0]), kept_keys(tile, query[1])};
        const u32 least = rank_of(-INFINITY);
        u32 low[2] = {least, least}, high[2] = {least, least}, pivots[2][3];
        int from_low[2], from_high[2] = {0, 0}, counts[2][3], met[2], cut[2] = {0x7fffffff, 0x7fffffff};
        bool few[2] = {false, false};   // keys
        //% if not ties
        bool knows[2];   // the k-th score: no more is missing than where it is among equals
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int mark = pending[r] ? __float_as_int(arguments.@{ last_kept }[rows[r]]) : PENDING;
            knows[r] = mark != PENDING;
            if (knows[r]) low[r] = rank_of(arguments.@{ kth_score }[rows[r]]), high[r] = low[r] + 1, from_high[r] = wanted[r] - (FIRST_EQUALS - mark), from_low[r] = wanted[r] + 1;
        }
        if (__all_sync(~0u, (knows[0] || !pending[0]) && (knows[1] || !pending[1]))) phase = CUT;
        //% endif
        auto begin = [&] {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                counts[r][0] = counts[r][1] = counts[r][2] = met[r] = 0;
                const u32 quarter = max((high[r] - low[r]) / 4, 1u);
#pragma unroll
                for (int p = 0; p < 3; ++p) pivots[r][p] = phase == NARROW ? min(low[r] + (p + 1) * quarter, high[r]) : least + 1;
            }
        };
        auto visit = [&](int kv_tile) {
            if (phase != CUT) {
#pragma unroll
                for (int i = 0; i < BLOCK_KV / 2; ++i) {
                    const int r = i / 2 % 2;
                    const u32 rank = rank_of(s[i]);
                    if (phase == RANGE@{ "" if ties else " && !knows[r]" }) high[r] = max(high[r], rank + 1);
#pragma unroll
                    for (int p = 0; p < 3; ++p) counts[r][p] += rank >= pivots[r][p];
                }
                return;
            }
            //% if not ties
            bool any = false;
#pragma unroll
            for (int i = 0; i < BLOCK_KV / 2; ++i) any |= rank_of(s[i]) == low[i / 2 % 2];
            if (!__any_sync(~0u, any)) return;
            const u32 lanes_before = (1u << lane % 4) - 1;
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int needed = wanted[r] - from_high[r];
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n) {
                    const bool first = rank_of(s[4 * n + 2 * r]) == low[r], second = rank_of(s[4 * n + 2 * r + 1]) == low[r];
                    const u32 firsts = __ballot_sync(~0u, first) >> lane / 4 * 4 & 15, seconds = __ballot_sync(~0u, second) >> lane / 4 * 4 & 15;
                    const int before = met[r] + __popc(firsts & lanes_before) + __popc(seconds & lanes_before), kv = kv_tile * BLOCK_KV + 8 * n + lane % 4 * 2;
                    if (first && before + 1 == needed) cut[r] = kv;
                    if (second && before + first + 1 == needed) cut[r] = kv + 1;
                    met[r] += __popc(firsts) + __popc(seconds);
                }
            }
            //% endif
        };
        auto finish = [&] {   // whether a row of this thread wants another pass
            bool narrows = false, cuts = false;
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                if (phase == RANGE) {
                    u32 most = max(high[r], __shfl_xor_sync(~0u, high[r], 1));
                    most = max(most, __shfl_xor_sync(~0u, most, 2));
                    const int count = quad_count(counts[r][0]);
                    if (@{ "true" if ties else "!knows[r]" }) {
                        low[r] = least + 1, high[r] = most, from_low[r] = count;
                        few[r] = count <= wanted[r] || wanted[r] < 1;
                    }
                } else if (phase == NARROW) {
#pragma unroll
                    for (int p = 0; p < 3; ++p) {
                        const int count = quad_count(counts[r][p]);
                        if (count >= wanted[r] && pivots[r][p] > low[r]) low[r] = pivots[r][p], from_low[r] = count;
                        if (count < wanted[r] && pivots[r][p] < high[r]) high[r] = pivots[r][p], from_high[r] = count;
                    }
                }
                narrows |= pending[r] && !few[r] && high[r] - low[r] > 1;
                cuts |= pending[r] && !few[r] && from_low[r] > wanted[r];
            }
            if (phase == CUT) {
#pragma unroll
                for (int r = 0; r < 2; ++r) cut[r] = min(cut[r], __shfl_xor_sync(~0u, cut[r], 1)), cut[r] = min(cut[r], __shfl_xor_sync(~0u, cut[r], 2));
                return false;
            }
            // all rows of the warp go through the phases together
            narrows = __any_sync(~0u, narrows), cuts = @{ "false" if ties else "__any_sync(~0u, cuts)" };
            phase = narrows ? NARROW : CUT;
            return narrows || cuts;
        };
        auto store = [&](int r) {
            arguments.@{ kth_score }[rows[r]] = wanted[r] < 1 ? INFINITY : few[r] ? -INFINITY : low[r] == 0xFFFFFFFEu ? __int_as_float(0x7fc00000) : score_of(low[r]);
            //% if not ties
            arguments.@{ last_kept }[rows[r]] = __int_as_float(wanted[r] < 1 ? -1 : few[r] || from_low[r] <= wanted[r] ? 0x7fffffff : cut[r]);
            //% endif
        };
