        //% include "rows_entmax"

        float greatest = -INFINITY;   // score of the row whose candidates are loaded
        // The threshold relative to the greatest score, by at most so many steps of Newton's method from below, where it never passes it
        // since the sum is convex; it is close when a step is small.
        auto solve = [&](int r, int steps, float small) {
            greatest = -INFINITY;
            for_each([&](float score) { greatest = fmaxf(greatest, score); });
            greatest = quad_max(greatest);
            for_each([&](float& score) { score = (score - greatest) * factor; });
            const float known = limit_of(r)@{ " * tile.score_scale" if scaled else "" };
            float threshold = -1.f;
            if (known > -INFINITY && known < INFINITY) threshold = fmaxf(threshold, (known - greatest) * factor - 1e-5f);
#pragma unroll 1
            for (int step = 0; step < steps; ++step) {
                float sum = 0.f, slope = 0.f;
                for_each([&](float score) { add(score - threshold, sum, slope); });
                sum = quad_sum(sum), slope = quad_sum(slope);
                const float next = threshold + (sum - 1.f) * reciprocal_approx(slope);
                const bool is_small = !(next > threshold + small);
                threshold = fmaxf(threshold, next);
                if (__all_sync(~0u, is_small)) break;
            }
            return threshold;
        };
        auto lower_bound = [&](int r) {
            const float threshold = solve(r, 8, 0.03f);
            return greatest > -INFINITY && greatest < INFINITY ? below(greatest + (threshold - 1e-5f) * inverse_factor) : -INFINITY;
        };
        // the first tile's own threshold, before any of it is kept
        auto start = [&] {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float largest = -INFINITY;
#pragma unroll
                for (int i = 0; i < BLOCK_KV / 4; ++i) largest = fmaxf(largest, s[i / 2 * 4 + i % 2 + 2 * r]);
                largest = quad_max(largest);
                const float unit = factor@{ " * tile.score_scale" if scaled else "" };
                float threshold = -1.f;   // not below
#pragma unroll 1
                for (int step = 0; step < 4; ++step) {
                    float sum = 0.f, slope = 0.f;
#pragma unroll
                    for (int i = 0; i < BLOCK_KV / 4; ++i) add(fmaf(s[i / 2 * 4 + i % 2 + 2 * r] - largest, unit, -threshold), sum, slope);
                    threshold = fmaxf(threshold, threshold + (quad_sum(sum) - 1.f) * reciprocal_approx(quad_sum(slope)));
                }
                if (largest > -INFINITY && largest < INFINITY && bound[r] < INFINITY) bound[r] = below(@{ "largest * tile.score_scale" if scaled else "largest" } + (threshold - 1e-5f) * inverse_factor);
            }
        };
