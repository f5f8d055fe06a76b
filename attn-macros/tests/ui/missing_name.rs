attn::attention! {
    pub struct {
        score: |s| tan(s),
    }
}

fn main() {}
