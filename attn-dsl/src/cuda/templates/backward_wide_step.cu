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

