            float s[BLOCK_Q / 2];
            // the scores of the next tile are computed while this one's gradients leave
            auto step = [&](auto after) {
                const int stage = place.stage;
                const bool partial = @{ "!walked.full" if tile_mask else "true" if residual else "q_tile < full_first || q_tile >= full_last" };
                float dp[BLOCK_Q / 2];
                mbarrier_wait(do_full + 8 * stage, place.parity);
                issue_dp(dp, stage);
                //% if split
                if (partial) weigh(s, stage, Partial{});
                else weigh(s, stage, Full{});
                //% if early_weights
                pack_weights(s);
                //% endif
                wgmma_wait<0>();
                pin(dp);
                //% if early_weights
                issue_dv(stage);
                //% endif
                if (partial) differentiate(s, dp, stage, Partial{});
                else differentiate(s, dp, stage, Full{});
                //% else
                wgmma_wait<0>();
                pin(dp);
                if (partial) weigh(s, dp, stage, Partial{});
                else weigh(s, dp, stage, Full{});
                //% if early_weights
                pack_weights(s);
                issue_dv(stage);
                //% endif
                //% endif
                //% if early_weights
                wgmma_wait<0>();   // dv
                pin(dv);
                release(do_empty + 8 * stage);
                store_ds(dp);
                //% else
                pack_weights(s);
                store_ds(dp);
                issue_dv(stage);
                //% endif
                advance(place, STAGES);
                //% if tile_mask
                if constexpr (!decltype(after)::last) walked = take_walked(walk, walk_place), q_tile = walked.tile;
                //% else
                --q_tile;
                //% endif
                //% if early_weights
                if constexpr (!decltype(after)::last) compute_scores(s);
                //% endif
                named_barrier_sync(ALL_CONSUMERS, 128 * CONSUMERS);   // ds is whole, and all have read what varies by query
                float dq[DQ_REGISTERS];
                issue_dq(dq, ds_tile);
                issue_dk(stage);
                wgmma_wait<1>();   // all but dk
                pin(dq);
                //% if not early_weights
                pin(dv);
                release(do_empty + 8 * stage);
                //% endif
                named_barrier_sync(DQ_EMPTY + consumer, DQ_THREADS);
#pragma unroll
                for (int i = 0; i < DQ_REGISTERS / 4; ++i) store_shared_16(dq_tile + (consumer * DQ_REGISTERS / 4 + i) * 2048 + threadIdx.x % 128 * 16, make_int4(__float_as_int(dq[4 * i]), __float_as_int(dq[4 * i + 1]), __float_as_int(dq[4 * i + 2]), __float_as_int(dq[4 * i + 3])));
                publish_shared();
                named_barrier_arrive(DQ_FULL + consumer, DQ_THREADS);
                ds_tile = ds_tile == ds_ring ? ds_ring + DS_TILE_BYTES : ds_ring;
                wgmma_wait<0>();   // dk
                pin(dk);
                release(q_empty + 8 * stage);
                //% if early_weights
                pin(s);
                //% else
                if constexpr (!decltype(after)::last) {
                    compute_scores(s);
                    wgmma_wait<0>();
                    pin(s);
                }
                //% endif
            };

