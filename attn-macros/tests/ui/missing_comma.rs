attn::attention! {
    struct A {
        cap: f32
        score: |s| s / cap
        mask: causal
    }
}

fn main() {}
