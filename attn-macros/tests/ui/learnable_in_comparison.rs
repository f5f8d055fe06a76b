attn::attention! {
    struct A {
        threshold: f32[h],
        score: |s, b, h| if s > threshold[h] { s } else { 0.0 },
    }
}

fn main() {}
