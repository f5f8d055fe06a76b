attn::attention! {
    struct A {
        score: |s| s +,
        activation: |s| (s * ),
        normalizer: ,
        mask: causal &,
    }
}

fn main() {}
