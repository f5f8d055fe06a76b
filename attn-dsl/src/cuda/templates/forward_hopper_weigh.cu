        // s becomes @{ "y" if sigmoid else "the weights" }
        auto weigh = [&](int kv_tile, int stage, auto kind) {
            const int first_kv = kv_tile * BLOCK_KV + lane % 4 * 2;   // this thread's columns: first_kv + 8 n + c
            //% if inline_keys
            const float first_kv_as_float = first_kv;
            //% endif
            //% if relatives
            Relative relative[2][2];   // of rows r and columns 8 n + c: the second row has what the first one has 8 columns before
            auto read_relatives = [&](int n) {
                if (n == 0) load_relatives(relative[1], relative_table + my_distances - 8 * 4);
                else relative[1][0] = relative[0][0], relative[1][1] = relative[0][1];
                load_relatives(relative[0], relative_table + my_distances + n * (8 * 4));
            };
            //% endif
            //% if not scaled
#pragma unroll
            for (int n = 0; n < BLOCK_KV / 8; ++n) {
                @{ key_columns }
                //% if relatives
                read_relatives(n);
                //% endif
#pragma unroll
                for (int e = 0; e < 4; ++e) s[4 * n + e] = @{ "exp2_approx(sigmoid_exponent" if sigmoid else "exponent" if shifted else "weight" }(@{ pair_arguments }s[4 * n + e], tile, query[e / 2], key[e % 2]@{ relative_argument })@{ ")" if sigmoid else "" };
            }
            //% endif
            @{ "if (!kind.full) {" if tile_branch else "if constexpr (decltype(kind)::partial) {" }
                //% if residual
#pragma unroll
                for (int n = 0; n < BLOCK_KV / 8; ++n) {
                    @{ key_columns }
#pragma unroll
                    for (int e = 0; e < 4; ++e)
                        if (!(first_kv + 8 * n + e % 2 < kv_len && is_live(@{ mask_arguments }tile, query[e / 2], key[e % 2]))) s[4 * n + e] = @{ dead };
                }
                //% else
#pragma unroll
                for (int i = 0; i < BLOCK_KV / 2; ++i) {
                    const int r = i / 2 % 2, column = i / 4 * 8 + i % 2;
                    if (@{ "column < live[r].begin - first_kv || " if begins else "" }column >= live[r].end - first_kv) s[i] = @{ dead };
                }
                //% endif
            }
            //% if largest
#pragma unroll
            for (int i = 0; i < BLOCK_KV / 2; ++i) {
                // tiles come from the last to the first: of equal ones the first counts
                if (s[i] > largest[i / 2 % 2] || (s[i] == largest[i / 2 % 2] && first_kv + i / 4 * 8 + i % 2 < largest_at[i / 2 % 2])) largest[i / 2 % 2] = s[i], largest_at[i / 2 % 2] = first_kv + i / 4 * 8 + i % 2;
                //% if not shifted
                if (s[i] == -INFINITY) s[i] = 0.f;
                //% endif
            }
            //% endif
            //% if sigmoid
            float squares[2] = {0.f, 0.f};
#pragma unroll
            for (int i = 0; i < BLOCK_KV / 2; ++i) squares[i % 2] = fmaf(s[i], s[i], squares[i % 2]);
            small = __all_sync(~0u, squares[0] + squares[1] < @{ small_squares });
            //% endif
            //% if shifted
            float new_max[2] = {row_max[0], row_max[1]};
#pragma unroll
            for (int i = 0; i < BLOCK_KV / 2; i += 2) new_max[i / 2 % 2] = fmaxf(new_max[i / 2 % 2], fmaxf(s[i], s[i + 1]));
            new_max[0] = quad_max(new_max[0]), new_max[1] = quad_max(new_max[1]);
            // any shift near the maximum serves: one that is exceeded by less than 2^8 stays, and nothing is rescaled
            raised = __any_sync(~0u, fmaxf(new_max[0] - row_max[0], new_max[1] - row_max[1])@{ " * tile.exponent_scale" if scaled else "" } > 8.f);
            if (raised) {
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    // a row that has met no live key yet keeps minus infinity, and must not compute inf - inf
                    rescale[r] = new_max[r] == -INFINITY ? 1.f : exp2_approx(@{ "(row_max[r] - new_max[r]) * tile.exponent_scale" if scaled else "row_max[r] - new_max[r]" });
                    row_max[r] = new_max[r];
                    //% if sum
                    row_sum[r] *= rescale[r];
                    //% endif
                    //% if sum_squares
                    row_sum_squares[r] *= rescale[r] * rescale[r];
                    //% endif
                }
            }
            const float shift[2] = {row_max[0] == -INFINITY ? 0.f : row_max[0]@{ " * tile.exponent_scale" if scaled else "" }, row_max[1] == -INFINITY ? 0.f : row_max[1]@{ " * tile.exponent_scale" if scaled else "" }};
            //% endif
            //% if shifted or sum or sum_squares
#pragma unroll
            for (int i = 0; i < BLOCK_KV / 2; i += 2) {
                const int r = i / 2 % 2;
                //% if shifted
                s[i] = exp2_approx(@{ "fmaf(s[i], tile.exponent_scale, -shift[r])" if scaled else "s[i] - shift[r]" });
                s[i + 1] = exp2_approx(@{ "fmaf(s[i + 1], tile.exponent_scale, -shift[r])" if scaled else "s[i + 1] - shift[r]" });
                //% endif
                //% if sum
                row_sum[r] += s[i] + s[i + 1];
                //% endif
                //% if sum_squares
                row_sum_squares[r] += fmaf(s[i], s[i], s[i + 1] * s[i + 1]);
                //% endif
            }
            //% endif
        };
