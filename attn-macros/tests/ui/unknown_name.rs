attn::attention! {
    pub struct Capped {
        cap: f32,
        score: |s| cpa * tanh(s / cap),
    }
}

fn main() {}
