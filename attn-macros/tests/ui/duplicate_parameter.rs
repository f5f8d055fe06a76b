attn::attention! {
    struct A {
        cap: f32,
        cap: f32[h],
        score: |s| s / cap,
    }
}

fn main() {}
