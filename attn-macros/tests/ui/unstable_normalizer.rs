attn::attention! {
    /// Exponential weights overflow before they are squared.
    struct Squared {
        normalizer: sum_squares + sum,
    }

    struct Sigmoid {
        sink: f32[h],
        normalizer: sum + sigmoid(max) * exp(sink[h]),
    }

    struct Saturated {
        gate: f32[kv],
        score: |s, b, h, q, kv| s + gate[kv],
        normalizer: tanh(sum),
    }
}

fn main() {}
