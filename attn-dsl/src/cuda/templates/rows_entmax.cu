        const float factor = @{ factor }, inverse_factor = 1.f / factor;   // alpha - 1
        // what a score of `rest` above the threshold adds to the sum of the weights, @{ weight_formula }, and to its slope
        auto add = [&](float rest, float& sum, float& slope) {
            //% if power == "linear"
            if (rest > 0.f) sum += rest, slope += 1.f;
            //% elif power == "square"
            rest = fmaxf(rest, 0.f);
            sum = fmaf(rest, rest, sum), slope += 2.f * rest;
            //% else
            if (rest > 0.f) {
                const float weight = exp2_approx(log2_approx(rest) * inverse_factor);
                sum += weight, slope += inverse_factor * weight / rest;
            }
            //% endif
        };
