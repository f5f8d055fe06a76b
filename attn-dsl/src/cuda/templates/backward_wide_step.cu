            auto store_ds = [&](const float (&dp)[BLOCK_Q / 2]) {   // as a tile of queries
#pragma unroll
                for (int i = 0; i < BLOCK_Q / 4; ++i) ds_packed[i] = pack(dp[2 * i], dp[2 * i + 1]);
                // the other has used the tile before: this one's last part of dq left after the other's last but one
#pragma unroll
                for (int i = 0; i < BLOCK_Q / 16; ++i) {
                    const u32 matrices[4] = {ds_packed[4 * i], ds_packed[4 * i + 1], ds_packed[4 * i + 2], ds_packed[4 * i + 3]};
                    store_matrix_x4_transposed(tile_address(ds_ring, Q_CHUNK_BYTES, i * 16 + lane / 16 * 8 + lane % 8, warp_row + lane / 8 % 2 * 8), matrices);
                }
                publish_shared();
            };

            auto compute_scores = [&](float (&s)[BLOCK_Q / 2]) {
                mbarrier_wait(q_full + 8 * place.stage, place.parity);
                forget(s);
                issue_scores(s, place.stage);
            };
            float s[BLOCK_Q / 2];
            auto step = [&](auto after) {
                const int stage = place.stage;
                const bool partial = @{ "!walked.full" if tile_mask else "true" if residual else "q_tile < full_first || q_tile >= full_last" };
                float dp[BLOCK_Q / 2];
                mbarrier_wait(do_full + 8 * stage, place.parity);
                issue_dp(dp, stage);
                //% if split
                if (partial) weigh(s, stage, Partial{});
                else weigh(s, stage, Full{});
                wgmma_wait<0>();
                pin(dp);
                release(do_empty + 8 * stage);
                if (partial) differentiate(s, dp, stage, Partial{});
                else differentiate(s, dp, stage, Full{});
                //% else
                wgmma_wait<0>();
                pin(dp);
                release(do_empty + 8 * stage);
                if (partial) weigh(s, dp, stage, Partial{});
                else weigh(s, dp, stage, Full{});
                //% endif
                store_ds(dp);
                issue_dk(stage);
                advance(place, STAGES);
                //% if tile_mask
                if constexpr (!decltype(after)::last) walked = take_walked(walk, walk_place), q_tile = walked.tile;
                //% else
                --q_tile;
                //% endif
                named_barrier_sync(ALL_CONSUMERS, 128 * CONSUMERS);   // ds is whole, and all have read what varies by query
                float dq[2 * DQ_REGISTERS];
                issue_dq(dq, 0);
                wgmma_wait<1>();   // dk
                pin(dk);
                release(q_empty + 8 * stage);
                wgmma_wait<0>();   // dq
                pin(dq);
                //% set last_dq = "dq"
                //% if two_rounds
                //% set last_dq = "next_dq"
                // the first columns leave while the others are computed, and these beside the scores of the next tile
                float next_dq[2 * DQ_REGISTERS];
                issue_dq(next_dq, 1);
                leave(dq);
                wgmma_wait<0>();
                pin(next_dq);
                //% endif
                if constexpr (!decltype(after)::last) compute_scores(s);
                leave(@{ last_dq });
                if constexpr (!decltype(after)::last) {
                    wgmma_wait<0>();
                    pin(s);
                }
            };

