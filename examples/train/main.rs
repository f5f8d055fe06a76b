//! Trains a small character-level transformer on Shakespeare's sonnets, its attention being any variant of the gallery.
//!
//! ```text
//! cargo run --release --example train -- --variant sink
//! cargo run --release --example train -- --variant my_variant.attn --steps 200
//! ```
//!
//! attn computes the attention and its gradients, those of the variant's parameters included; the dense layers around it are
//! written out in this folder, with ndarray.

mod attention;
mod layers;
mod model;
mod text;
mod variant;
mod weight;

use std::error::Error;
use std::time::Instant;

use attn::{Attention, Device};
use clap::Parser;

use model::{Model, Sizes};
use text::Text;
use weight::Adam;

/// Trains a small character-level transformer with a variant of attention.
#[derive(Parser)]
struct Arguments {
    /// The name of a gallery variant, or the path of an .attn file.
    #[arg(long, default_value = "learnable-alibi")]
    variant: String,
    /// Where attention runs: best, cuda, cpu or oracle.
    #[arg(long, default_value = "best")]
    device: String,
    /// Steps of training.
    #[arg(long, default_value_t = 400)]
    steps: usize,
    /// Windows of text in a step.
    #[arg(long, default_value_t = 16)]
    batch: usize,
    /// Characters in a window.
    #[arg(long, default_value_t = 64)]
    context: usize,
    /// The largest learning rate.
    #[arg(long, default_value_t = 4e-3)]
    rate: f32,
    /// Decides weights and batches.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const WIDTH: usize = 64;
const HEADS: usize = 4;
const BLOCKS: usize = 2;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let text = Text::sonnets();
    let sizes = Sizes {
        vocabulary: text.vocabulary_size(),
        context: arguments.context,
        width: WIDTH,
        heads: HEADS,
        blocks: BLOCKS,
    };
    if !(1..text.len()).contains(&arguments.context) {
        return Err(format!("--context is {}; the text has {} characters", arguments.context, text.len()).into());
    }
    let definition = variant::find(&arguments.variant)?;
    let attention = Attention::new(&definition, &device(&arguments.device)?)?;
    let random = &mut fastrand::Rng::with_seed(arguments.seed);
    let mut model = Model::new(&attention, sizes, random);

    println!("{}", definition.text);
    let count: usize = model.weights().iter().map(|weight| weight.value.len()).sum();
    println!(
        "{count} weights, {} characters of text, {} of them in a step, attention on {}\n",
        text.len(),
        arguments.batch * arguments.context,
        attention.device()
    );
    train(&mut model, &text, &arguments, random)?;
    for (block, name, values) in model.learned() {
        let shown: Vec<String> = values.iter().take(8).map(|value| format!("{value:.4}")).collect();
        let more = if values.len() > shown.len() { ", ..." } else { "" };
        println!("learned {name} of block {block}: [{}{more}]", shown.join(", "));
    }
    println!("\nThe model goes on from the first sonnet's beginning:\n\n{}", sample(&mut model, &text, sizes, random)?);
    Ok(())
}

fn device(name: &str) -> Result<Device, Box<dyn Error>> {
    match name {
        "best" => Ok(Device::best()),
        "cuda" => Ok(Device::cuda(0)?),
        "cpu" => Ok(Device::Cpu),
        "oracle" => Ok(Device::Oracle),
        _ => Err(format!("--device is `{name}`; use best, cuda, cpu or oracle").into()),
    }
}

/// Prints the mean loss of every twentieth part of the steps.
fn train(
    model: &mut Model,
    text: &Text,
    arguments: &Arguments,
    random: &mut fastrand::Rng,
) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let mut adam = Adam::new();
    let every = (arguments.steps / 20).max(1);
    let mut sum = 0.0;
    for step in 1..=arguments.steps {
        let batch = text.batch(arguments.batch, arguments.context, random);
        sum += model.loss(&batch)?;
        adam.step(&mut model.weights(), arguments.rate * schedule(step, arguments.steps));
        if step % every == 0 {
            let mean = sum / every as f32;
            let bar = "#".repeat((12.0 * mean) as usize);
            println!("step {step:5}   loss {mean:.3}   {:6.1} s   {bar}", start.elapsed().as_secs_f32());
            sum = 0.0;
        }
    }
    println!();
    Ok(())
}

/// A rise over the first steps, then a cosine down to a tenth.
fn schedule(step: usize, steps: usize) -> f32 {
    let rise = (step as f32 / 20.0).min(1.0);
    let fall = (std::f32::consts::PI * step as f32 / steps as f32).cos();
    rise * (0.55 + 0.45 * fall)
}

/// Some characters drawn from the model, one after the other.
fn sample(model: &mut Model, text: &Text, sizes: Sizes, random: &mut fastrand::Rng) -> Result<String, attn::Error> {
    let mut tokens = text.beginning(sizes.context).to_vec();
    for _ in 0..240 {
        let logits = model.forward(&tokens[tokens.len() - sizes.context..])?;
        let last = logits.row(sizes.context - 1);
        let largest = last.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        // A temperature below 1 keeps to the likelier characters.
        let weights = last.mapv(|x| ((x - largest) / 0.6).exp());
        let mut left = random.f32() * weights.sum();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left <= 0.0
        });
        tokens.push(drawn.unwrap_or(sizes.vocabulary - 1));
    }
    Ok(text.decode(&tokens))
}
