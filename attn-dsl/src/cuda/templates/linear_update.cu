        // S^T = 2^(R - R') S^T + sum of the chunk's c_j (2^(e_j - R') f_j) b_j^T, R' the largest exponent so far
        {
            //% if exponents
            const float next_reference = fmaxf(reference, chunk_maximum(values.column_exponent));
            const float finite_reference = next_reference == -INFINITY ? 0.f : next_reference;
            if (next_reference != reference) {
                const float rescale = exp2_approx(reference - next_reference);
#pragma unroll
                for (int n = 0; n < AB_TILES; ++n)
#pragma unroll
                    for (int e = 0; e < 4; ++e) state[n][e] *= rescale;
                //% if b_vector
#pragma unroll
                for (int i = 0; i < B_SUM_PAIRS; ++i)
#pragma unroll
                    for (int e = 0; e < 4; ++e) b_sum[i][0][e] *= rescale, b_sum[i][1][e] *= rescale;
                //% endif
                //% if c_vector
#pragma unroll
                for (int e = 0; e < 4; ++e) c_sum[0][e] *= rescale;
                //% endif
                reference = next_reference;
            }
            //% endif
            //% if column_scaled
            auto column_scale = [&](int column) { return @{ column_scale }; };
            //% endif
#pragma unroll
            for (int k = 0; k < BLOCK / 16; ++k) {
                FragmentB by_depth;
                load_b_transposed<row_bytes(C_DIM)>(by_depth, c_tile, 16 * k, 16 * warp);
                FragmentA c = transposed(by_depth);
                //% if column_scaled
                const int column = 16 * k + lane % 4 * 2;
                const float2 low = {column_scale(column), column_scale(column + 1)}, high = {column_scale(column + 8), column_scale(column + 9)};
                scale_depth(c, low, high);
                //% elif b_vector
                const float2 low = {1.f, 1.f}, high = {1.f, 1.f};
                //% endif
#pragma unroll
                for (int n = 0; n < AB_TILES / 2; ++n) {
                    FragmentB b;
                    load_b_transposed<row_bytes(AB_DIM)>(b, b_tile, 16 * k, 16 * n);
                    multiply_add(state[2 * n], state[2 * n + 1], c, b);
                    //% if b_vector
                    if (n % WARPS == warp) multiply_add(b_sum[n / WARPS][0], b_sum[n / WARPS][1], a_of_depth(low, high), b);
                    //% endif
                }
                //% if c_vector
                //% if column_bias
                const int at = 16 * k + lane % 4 * 2;
                const float2 low_bias = {values.column_bias[at], values.column_bias[at + 1]}, high_bias = {values.column_bias[at + 8], values.column_bias[at + 9]};
                multiply_add(c_sum[0], c_sum[1], c, b_of_depth(low_bias, high_bias));
                //% else
                multiply_add(c_sum[0], c_sum[1], c, b_of_depth(float2{1.f, 1.f}, float2{1.f, 1.f}));
                //% endif
                //% endif
            }
        }
