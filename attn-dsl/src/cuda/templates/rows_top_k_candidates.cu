        // What is kept of a row: scores that are not below one, of those that equal it so many, if not all.
        struct Kept {
            float score;
            int equals;
        };
        const int wanted[2] = {kept_keys(tile, query[0]), kept_keys(tile, query[1])};
        auto count_above = [&](float limit) {
            float count = 0.f;
            for_each([&](float score) { count += score > limit ? 1.f : 0.f; });
            return quad_sum(count);
        };
        auto held = [&](int r) { return quad_sum((float)((r == 0 ? end[0] - slots[0] : end[1] - slots[1]) / SLOT_BYTES)); };
        // Just below the least candidate, and the greatest one.
        auto range_of_candidates = [&](float& low, float& high) {
            float least = INFINITY, most = -INFINITY;
            for_each([&](float score) {
                most = fmaxf(most, score);
                if (score > -INFINITY) least = fminf(least, score);
            });
            least = -quad_max(-least), high = quad_max(most);
            low = least - fmaf(fabsf(least), 1e-6f, 1e-30f);
        };
        // At least as many as are wanted are above it: found where they should be if scores fell off exponentially, else by halves.
        auto lower_bound = [&](int r) {
            const int k = r == 0 ? wanted[0] : wanted[1];
            const float count = held(r);
            float low, high, excess = 0.f, best = -INFINITY;
            range_of_candidates(low, high);
            for_each([&](float score) { excess += fmaxf(score - low, 0.f); });
            excess = quad_sum(excess) / count;
            const bool many = count > k;
            const float room = log2_approx(count / fmaxf(k, 1.f));
            float pivots[4], counts[4] = {0.f, 0.f, 0.f, 0.f};
#pragma unroll
            for (int p = 0; p < 4; ++p) pivots[p] = fmaf(excess * LN2, room - 0.04f - 0.15f * p, low);
            for_each([&](float score) {
#pragma unroll
                for (int p = 0; p < 4; ++p) counts[p] += score > pivots[p] ? 1.f : 0.f;
            });
            // two counts in a number
            const float sums[2] = {quad_sum(fmaf(counts[1], 1024.f, counts[0])), quad_sum(fmaf(counts[3], 1024.f, counts[2]))};
#pragma unroll
            for (int p = 0; p < 4; ++p)
                if ((p % 2 == 0 ? (int)sums[p / 2] % 1024 : (int)sums[p / 2] / 1024) >= k) best = fmaxf(best, pivots[p]);
            bool open = many && !(best > low);
#pragma unroll 1
            for (int step = 0; step < 16 && __any_sync(~0u, open); ++step) {
                const float middle = 0.5f * (low + high), above = count_above(middle);
                if (!open) continue;
                if (above >= k) best = low = middle;
                else high = middle;
                open = above < k || above > k + 8;
            }
            return k < 1 ? INFINITY : many ? below(best) : -INFINITY;
        };
        auto solve = [&](int r) {
            const int k = r == 0 ? wanted[0] : wanted[1];
            const float count = held(r);
            float low, high, above = count, kth = -INFINITY;
            range_of_candidates(low, high);
            bool open = k >= 1 && (count > k || limit_of(r) > -INFINITY);   // a row of which some are out had more than k
            // a few candidates more than are wanted
#pragma unroll 1
            for (int step = 0; step < 24; ++step) {
                const float middle = 0.5f * (low + high);
                const bool narrows = open && above > k + 2 && middle > low && middle < high;
                if (!__any_sync(~0u, narrows)) break;
                const float found = count_above(middle);
                if (narrows) {
                    if (found >= k) low = middle, above = found;
                    else high = middle;
                }
            }
            // the least of them goes until none can
            int equals = 0;
#pragma unroll 1
            while (__any_sync(~0u, open)) {
                float least = INFINITY;
                for_each([&](float score) { if (score > low) least = fminf(least, score); });
                least = -quad_max(-least);
                const float left = count_above(least);
                if (!open) continue;
                if (left < k) kth = least, equals = above > k ? k - (int)left : 0, open = false;
                else low = least, above = left;
            }
            return Kept{k < 1 ? INFINITY : kth, equals};
        };
