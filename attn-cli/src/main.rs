//! attn
fn main() {}
