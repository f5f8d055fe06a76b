//! The transformer: embedding, blocks of attention and MLP behind layer norms, and a projection to the vocabulary.

use attn::{Attention, Error};
use ndarray::Array2;

use crate::attention::SelfAttention;
use crate::layers::{Embedding, LayerNorm, Linear, Mlp, cross_entropy};
use crate::text::Batch;
use crate::variant::{self, Initial};
use crate::weight::Weight;

/// The sizes of a model.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) vocabulary: usize,
    pub(crate) context: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) blocks: usize,
}

impl Sizes {
    pub(crate) fn head_dim(&self) -> usize {
        self.width / self.heads
    }
}

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
struct Block {
    attention_norm: LayerNorm,
    attention: SelfAttention,
    mlp_norm: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn forward(&mut self, x: Array2<f32>) -> Result<Array2<f32>, Error> {
        let x = &x + &self.attention.forward(self.attention_norm.forward(&x))?;
        Ok(&x + &self.mlp.forward(self.mlp_norm.forward(&x)))
    }

    fn backward(&mut self, grad: Array2<f32>) -> Result<Array2<f32>, Error> {
        let grad = &grad + &self.mlp_norm.backward(&self.mlp.backward(&grad));
        Ok(&grad + &self.attention_norm.backward(&self.attention.backward(&grad)?))
    }

    fn weights(&mut self) -> Vec<&mut Weight> {
        let norms = self.attention_norm.weights().into_iter().chain(self.mlp_norm.weights());
        norms.chain(self.attention.weights()).chain(self.mlp.weights()).collect()
    }
}

/// A character-level language model.
pub(crate) struct Model {
    embedding: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Model {
    pub(crate) fn new(attention: &Attention, sizes: Sizes, random: &mut fastrand::Rng) -> Model {
        let Sizes { vocabulary, context, width, heads, blocks } = sizes;
        let initial: Vec<Initial> = variant::initial(attention.definition(), heads, context, sizes.head_dim());
        // The residual stream's variance should not grow with its depth.
        let gain = 1.0 / (2.0 * blocks as f32).sqrt();
        let block = |random: &mut fastrand::Rng| Block {
            attention_norm: LayerNorm::new(width),
            attention: SelfAttention::new(attention, &initial, (width, heads, context), gain, random),
            mlp_norm: LayerNorm::new(width),
            mlp: Mlp::new(width, gain, random),
        };
        Model {
            embedding: Embedding::new(vocabulary, context, width, random),
            blocks: (0..blocks).map(|_| block(random)).collect(),
            norm: LayerNorm::new(width),
            head: Linear::new(width, vocabulary, 0.5, random),
        }
    }

    /// For each character of whole windows, scores of the one that follows.
    pub(crate) fn forward(&mut self, tokens: &[usize]) -> Result<Array2<f32>, Error> {
        let mut x = self.embedding.forward(tokens);
        for block in &mut self.blocks {
            x = block.forward(x)?;
        }
        Ok(self.head.forward(self.norm.forward(&x)))
    }

    /// The loss of a batch; its gradient is added to the weights'.
    pub(crate) fn loss(&mut self, batch: &Batch) -> Result<f32, Error> {
        let logits = self.forward(&batch.inputs)?;
        let (loss, grad) = cross_entropy(&logits, &batch.targets);
        let mut grad = self.norm.backward(&self.head.backward(&grad));
        for block in self.blocks.iter_mut().rev() {
            grad = block.backward(grad)?;
        }
        self.embedding.backward(&grad);
        Ok(loss)
    }

    pub(crate) fn weights(&mut self) -> Vec<&mut Weight> {
        let outer = self.embedding.weights().into_iter().chain(self.norm.weights()).chain(self.head.weights());
        outer.chain(self.blocks.iter_mut().flat_map(Block::weights)).collect()
    }

    /// The learnable parameters of each block's variant.
    pub(crate) fn learned(&self) -> impl Iterator<Item = (usize, &str, Vec<f32>)> {
        let blocks = self.blocks.iter().enumerate();
        blocks.flat_map(|(at, block)| block.attention.learned().map(move |(name, values)| (at, name, values)))
    }
}

#[cfg(test)]
mod tests {
    use attn::Device;

    use super::*;
    use crate::text::Text;
    use crate::weight::Adam;

    const SIZES: Sizes = Sizes { vocabulary: 60, context: 12, width: 16, heads: 2, blocks: 2 };

    fn model(variant: &str, random: &mut fastrand::Rng) -> Model {
        let attention = Attention::new(&variant::find(variant).unwrap(), &Device::Cpu).unwrap();
        Model::new(&attention, SIZES, random)
    }

    /// Every weight of every layer against central differences, halfway between the gradient's direction and a random one.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        const STEP: f32 = 0.02;
        let norm = |x: &Array2<f32>| x.iter().map(|x| x * x).sum::<f32>().sqrt();
        for variant in ["softmax", "sink", "learnable-alibi", "sigmoid-bias", "t5bias"] {
            let random = &mut fastrand::Rng::with_seed(3);
            let mut model = model(variant, random);
            let batch = Text::sonnets().batch(4, SIZES.context, random);
            model.loss(&batch).unwrap();
            for at in 0..model.weights().len() {
                let grad = model.weights()[at].grad.clone();
                let drawn = grad.mapv(|_| random.f32() - 0.5);
                let direction = &drawn / norm(&drawn) + &grad / norm(&grad).max(1e-9);
                let direction = &direction / norm(&direction);
                let mut loss_at = |step: f32| {
                    model.weights()[at].value.scaled_add(step, &direction);
                    let logits = model.forward(&batch.inputs).unwrap();
                    model.weights()[at].value.scaled_add(-step, &direction);
                    cross_entropy(&logits, &batch.targets).0
                };
                let numeric = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * STEP);
                let exact = (&grad * &direction).sum();
                let tolerance = 0.02 * norm(&grad) + 1e-4;
                assert!((numeric - exact).abs() < tolerance, "{variant}, weight {at}: {numeric} for {exact}");
            }
        }
    }

    #[test]
    fn the_loss_falls() {
        let random = &mut fastrand::Rng::with_seed(4);
        let (text, mut model, mut adam) = (Text::sonnets(), model("sink", random), Adam::new());
        let mut losses = Vec::new();
        for _ in 0..60 {
            let batch = text.batch(8, SIZES.context, random);
            losses.push(model.loss(&batch).unwrap());
            adam.step(&mut model.weights(), 1e-2);
        }
        let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len() as f32;
        let (first, last) = (mean(&losses[..5]), mean(&losses[55..]));
        assert!(last < first - 0.8, "from {first} to {last}");
    }
}
