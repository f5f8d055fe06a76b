attn::attention! {
    /// One run reports everything.
    pub struct Everything {
        slope: f32[h],
        const slope2: f32[h],
        score: |s, b, h, q, kv| s - slop[h] * abs(q - kv),
        activation: sigmoyd,
        normalizer: sum + kv,
        mask: causal & windw(512, 0),
    }
}

fn main() {}
