attn::attention! {
    struct A {
        scor: |s| s,
        maks: causal,
        normaliser: none,
        weights: |s| s,
    }
}

fn main() {}
