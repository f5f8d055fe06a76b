//! scratch
use attn_dsl::plan::*;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let text = std::fs::read_to_string(&a[1]).unwrap();
    let e = match a[2].as_str() { "f32" => ElementType::F32, "f16" => ElementType::F16, _ => ElementType::Bf16 };
    let shape = Shape::new(e, a[3].parse().unwrap(), a[4].parse().unwrap()).unwrap();
    let target = Target::parse(&a[5]).unwrap();
    for d in attn_dsl::compile_text(&text).unwrap() {
        let l = attn_dsl::lower::lower(&d).unwrap();
        for k in attn_dsl::cuda::forward(&l, shape, target).unwrap().into_iter().chain(attn_dsl::cuda::backward(&l, shape, target).unwrap()) {
            std::fs::write(format!("{}/{}_{}", a[6], k.entry, k.file_name), &k.source).unwrap();
        }
    }
}
