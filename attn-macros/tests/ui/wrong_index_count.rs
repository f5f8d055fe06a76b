attn::attention! {
    struct A {
        slope: f32[h],
        cap: f32,
        score: |s, b, h, q, kv| slope * s + slope[h, q] + cap[0],
    }
}

fn main() {}
