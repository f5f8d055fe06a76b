        //% include "rows_entmax"

        // the first pass finds the greatest score, each further one is a step of Newton's method from below, where it never passes the
        // threshold since the sum is convex
        bool knows_greatest = false;
        float greatest[2] = {-INFINITY, -INFINITY}, threshold[2] = {-1.f, -1.f}, sum[2], slope[2];
        bool numbers[2] = {true, true};
        int steps = 0;
        auto begin = [&] { sum[0] = sum[1] = slope[0] = slope[1] = 0.f; };
        auto visit = [&](int) {
            if (!knows_greatest) {
#pragma unroll
                for (int i = 0; i < BLOCK_KV / 2; ++i) {
                    greatest[i / 2 % 2] = fmaxf(greatest[i / 2 % 2], s[i]);
                    if (s[i] != s[i]) numbers[i / 2 % 2] = false;
                }
                return;
            }
#pragma unroll
            for (int i = 0; i < BLOCK_KV / 2; ++i) add((s[i] - greatest[i / 2 % 2]) * factor - threshold[i / 2 % 2], sum[i / 2 % 2], slope[i / 2 % 2]);
        };
        auto finish = [&] {   // whether a row of this thread wants another pass
            bool wants = false;
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                if (!knows_greatest) {
                    greatest[r] = quad_max(greatest[r]);
                    numbers[r] = !quad_any(!numbers[r]);
                    const float known = pending[r] ? arguments.@{ greatest }[rows[r]] : -INFINITY;   // the threshold is not below this score
                    if (known > -INFINITY && known < INFINITY) threshold[r] = fmaxf(threshold[r], (known - greatest[r]) * factor - 1e-5f);
                    wants |= pending[r] && numbers[r] && greatest[r] < INFINITY && greatest[r] > -INFINITY;
                } else {
                    const float next = threshold[r] + (quad_sum(sum[r]) - 1.f) * reciprocal_approx(quad_sum(slope[r]));
                    const bool rises = next > threshold[r] + 1.2e-7f;
                    if (rises) threshold[r] = next;
                    wants |= rises && pending[r];
                }
            }
            knows_greatest = true;
            return wants && ++steps < 64;
        };
        auto store = [&](int r) {
            arguments.@{ greatest }[rows[r]] = greatest[r] == -INFINITY ? 0.f : greatest[r];
            arguments.@{ threshold }[rows[r]] = !numbers[r] || greatest[r] == INFINITY ? __int_as_float(0x7fc00000) : greatest[r] == -INFINITY ? INFINITY : threshold[r];
        };
