//! Which variant is trained, and where its parameters begin.
//!
//! Every variant gets the mask `causal` on top of its own: a model that predicts the next character must not see it.

use std::error::Error;
use std::path::Path;

use attn::compiler::definition::{Axis, Parameter};
use attn::compiler::ir::Type;
use attn::{Definition, Tensor, TensorError, gallery};

/// A parameter's first value, the same for every layer.
#[derive(Clone)]
pub(crate) struct Initial {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    values: Values,
}

#[derive(Clone)]
enum Values {
    Learnable(Vec<f32>),
    Constant(Vec<f32>),
    Integers(Vec<i32>),
}

impl Initial {
    /// The values, if they are to be learned.
    pub(crate) fn learnable_values(&self) -> Option<Vec<f32>> {
        match &self.values {
            Values::Learnable(values) => Some(values.clone()),
            Values::Constant(_) | Values::Integers(_) => None,
        }
    }

    pub(crate) fn tensor(&self) -> Result<Tensor, TensorError> {
        match &self.values {
            Values::Learnable(values) | Values::Constant(values) => Tensor::from_f32(&self.shape, values.clone()),
            Values::Integers(values) => Tensor::from_i32(&self.shape, values.clone()),
        }
    }
}

/// A variant of the gallery by its name, or of a file by its path, masked causally.
pub(crate) fn find(name: &str) -> Result<Definition, Box<dyn Error>> {
    let definition = match gallery::find(name) {
        Some(entry) => (entry.definition)().clone(),
        None if Path::new(name).is_file() => {
            let source = std::fs::read_to_string(name)?;
            attn::compile_one(&source).map_err(|errors| errors.render(&source, name))?
        }
        None => {
            let known: Vec<&str> = gallery::all().iter().map(|entry| entry.name).collect();
            return Err(format!("`{name}` is neither a file nor in the gallery, which has {}", known.join(", ")).into());
        }
    };
    Ok(definition.with_mask("causal")?)
}

/// Where the parameters of a variant begin, for a number of heads, a context and a head dimension.
pub(crate) fn initial(definition: &Definition, heads: usize, context: usize, head_dim: usize) -> Vec<Initial> {
    definition
        .parameters
        .iter()
        .map(|parameter| {
            let shape: Vec<usize> = parameter.axes.iter().map(|axis| extent(axis, heads, context)).collect();
            let count: usize = shape.iter().product();
            // Of a parameter with a head axis, the heads differ; it is the first axis but for `[b, h, ...]`.
            let per_head = if parameter.axes.contains(&Axis::Head) { count / heads } else { count };
            let values = (0..count).map(|at| first_value(parameter, at / per_head.max(1), heads, context, head_dim));
            Initial { name: parameter.name.clone(), shape, values: kind(parameter, values) }
        })
        .collect()
}

fn kind(parameter: &Parameter, values: impl Iterator<Item = f32>) -> Values {
    match parameter.ty {
        // Prefixes are empty and all keys are of one document: anything else would show the next character.
        Type::Int => Values::Integers(values.map(|_| 0).collect()),
        _ if parameter.learnable => Values::Learnable(values.collect()),
        _ => Values::Constant(values.collect()),
    }
}

/// One entry serves all batches: sequences are independent samples.
fn extent(axis: &Axis, heads: usize, context: usize) -> usize {
    match axis {
        Axis::Batch => 1,
        Axis::Head => heads,
        Axis::Query | Axis::Key => context,
        Axis::Fixed(extent) => *extent as usize,
        Axis::Named(_) => 32,
    }
}

/// The value that the variants' papers begin with, by the parameter's name; 0 for a name that is not known, so that biases,
/// tables and sinks of a user's own begin without influence.
fn first_value(parameter: &Parameter, head: usize, heads: usize, context: usize, head_dim: usize) -> f32 {
    match (parameter.name.as_str(), parameter.axes.len()) {
        ("slope", _) => (-8.0 * (head + 1) as f32 / heads as f32).exp2(),
        ("ln_gamma", _) => (1.0 - (-5.0 - head as f32).exp2()).ln(),
        // A sigmoid's; a bias of pairs begins at 0.
        ("bias", 1) => -(context as f32).ln(),
        ("w", _) => 1.0 / (context as f32).ln(),
        ("tau", _) => 1.0 / (head_dim as f32).sqrt(),
        ("cap", _) => 30.0,
        ("factor" | "temperature" | "n", _) => 1.0,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_gallery_variant_is_causal_and_has_first_values() {
        for entry in gallery::all() {
            let definition = find(entry.name).unwrap();
            assert!(definition.mask.is_some(), "{}", entry.name);
            for initial in initial(&definition, 4, 16, 8) {
                let tensor = initial.tensor().unwrap();
                assert!(tensor.to_f64_vec().unwrap().iter().all(|value| value.is_finite()), "{}", entry.name);
            }
        }
    }

    #[test]
    fn unknown_names_list_the_known_ones() {
        let error = find("sofmax").unwrap_err().to_string();
        assert!(error.contains("softmax-1"), "{error}");
    }
}
