//! A tour of the language: two variants that no library ships, the same from text, what a mistake looks like, and the checks
//! that a new variant deserves.
//!
//! ```text
//! cargo run --release --example custom_variant
//! ```

use std::error::Error;

use attn::compiler::lower;
use attn::testing::{Case, Random, Report, check_variant, gradient_check};
use attn::{Attention, DType, Definition, Device, Variant, attention};

attention! {
    /// Capped scores, a learnable penalty on distance, a learnable sink, and a window: each known from one model, together from none.
    #[derive(Clone, Debug)]
    pub struct Everything {
        /// No score is larger than this; learnable.
        cap: f32,
        /// The penalty of each head; learnable.
        slope: f32[h],
        /// The logit of each head's sink; learnable.
        sink: f32[h],
        score: |s, b, h, q, kv| {
            let distance = abs(q + kv_len - q_len - kv);
            cap * tanh(s / cap) - slope[h] * distance
        },
        normalizer: sum + exp(sink[h]),
        mask: causal & window(48, 0),
    }

    /// An elementwise one: each pair has a gate, and the gates swing with the distance. Nothing is summed over a row but the
    /// output, so there is no softmax, and nothing is saved for the backward pass.
    #[derive(Clone, Debug)]
    pub struct Swing {
        /// How fast each head's gate swings; learnable.
        frequency: f32[h],
        /// How far; learnable.
        depth: f32[h],
        score: |s, b, h, q, kv| s + depth[h] * cos(frequency[h] * (q + kv_len - q_len - kv)),
        activation: |s| sigmoid(s) * tanh(s),
        normalizer: count,
        mask: causal,
    }
}

/// The text form of [`Swing`]: what an `.attn` file holds.
const SWING: &str = "\
struct Swing {
    frequency: f32[h],
    depth: f32[h],
    score: |s, b, h, q, kv| s + depth[h] * cos(frequency[h] * (q + kv_len - q_len - kv)),
    activation: |s| sigmoid(s) * tanh(s),
    normalizer: count,
    mask: causal,
}
";

/// Four mistakes: a name that is not there, a parameter without its index, an activation with a typing error, and a learnable
/// parameter where no gradient reaches it.
const WRONG: &str = "\
struct Wrong {
    frequency: f32[h],
    width: f32,
    score: |s, b, h, q, kv| s + depth * cos(frequency * (q - kv)),
    activation: sigmoyd,
    mask: |b, h, q, kv| q - kv < width,
}
";

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::best();
    let everything =
        Everything { cap: 15.0.into(), slope: [0.5, 0.25, 0.125, 0.0625].into(), sink: [0.0, 0.5, 1.0, -1.0].into() };
    let swing = Swing { frequency: [0.1, 0.2, 0.4, 0.8].into(), depth: [1.0; 4].into() };

    heading("Two variants, declared in Rust");
    show(Everything::definition())?;
    show(Swing::definition())?;

    heading(&format!("Forward and backward on {device}"));
    train_step(&everything, &device)?;
    train_step(&swing, &device)?;

    heading("The same from text");
    let from_text = attn::compile_one(SWING).map_err(|errors| errors.render(SWING, "swing.attn"))?;
    println!("The text computes what the macro does: {}\n", same(&from_text, Swing::definition())?);
    let windowed = from_text.with_mask("window(16, 0) | prefix(4)")?;
    println!("With one more mask:\n{}", windowed.text);

    heading("Mistakes, all at once");
    match attn::compile_one(WRONG) {
        Ok(_) => return Err("the wrong text was accepted".into()),
        Err(errors) => println!("{}", errors.render(WRONG, "wrong.attn")),
    }

    heading("Checks");
    for definition in [Everything::definition(), Swing::definition(), &windowed] {
        verdict("both passes against the f64 oracle", &check_variant(definition, &device, &[Case::default()])?)?;
        verdict("gradients against finite differences", &gradient_check(definition, &[small()])?)?;
    }
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}\n");
}

/// A variant in the text form, and how it will be computed.
fn show(definition: &Definition) -> Result<(), Box<dyn Error>> {
    println!("{}\n  is computed as: {:?}\n", definition.text.trim(), lower::lower(definition)?.class);
    Ok(())
}

/// Whether two variants are the same mathematics. Programs that print alike compute alike.
fn same(a: &Definition, b: &Definition) -> Result<bool, Box<dyn Error>> {
    Ok(lower::lower(a)?.to_string() == lower::lower(b)?.to_string())
}

/// Both passes on random tensors: 2 sequences, 4 query heads over 2 key heads.
fn train_step(variant: &impl Variant, device: &Device) -> Result<(), attn::Error> {
    let mut random = Random::new(7);
    let q = random.normal_tensor(DType::F32, &[2, 4, 100, 32])?.to_device(device)?;
    let k = random.normal_tensor(DType::F32, &[2, 2, 120, 32])?.to_device(device)?;
    let v = random.normal_tensor(DType::F32, &[2, 2, 120, 32])?.to_device(device)?;
    let parameters = variant.parameters().to_device(device)?;
    let attention = Attention::of(variant, device)?;
    let output = attention.forward(&q, &k, &v, &parameters)?;
    // The gradient of the loss in the output; for the loss |output|^2 / 2 it is the output.
    let loss_grad = output.output.clone();
    let gradients = attention.backward(&q, &k, &v, &parameters, &output, &loss_grad, None)?.to_host()?;
    println!("{attention:?}: o {:?}, dq {:?}, dk {:?}", output.output, gradients.q, gradients.k);
    for (name, gradient) in gradients.parameters.iter() {
        println!("  d_{name}: {:.4?}", gradient.to_f32_vec()?);
    }
    Ok(())
}

/// Finite differences evaluate the whole forward pass many times.
fn small() -> Case {
    let mut case = Case::default();
    (case.shape.batch, case.shape.q_len, case.shape.kv_len) = (1, 19, 23);
    case
}

fn verdict(what: &str, report: &Report) -> Result<(), String> {
    if report.passed() {
        println!("{:<11} {what}: passed", report.variant);
        Ok(())
    } else {
        Err(format!("{what} failed:\n{report}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tour_runs() {
        main().unwrap();
    }

    #[test]
    fn text_and_macro_are_the_same_mathematics() {
        let from_text = attn::compile_one(SWING).unwrap();
        assert!(same(&from_text, Swing::definition()).unwrap());
        assert!(!same(&from_text.with_mask("window(16, 0)").unwrap(), Swing::definition()).unwrap());
    }

    #[test]
    fn every_mistake_is_reported() {
        let errors = attn::compile_one(WRONG).unwrap_err();
        assert_eq!(errors.len(), 4, "{}", errors.render(WRONG, "wrong.attn"));
    }
}
