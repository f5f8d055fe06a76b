//! Values for the parameters of gallery variants, where the values that serve every variant would not serve them.
//!
//! Invariant: the same seed gives the same values on every machine.

use anyhow::Result;
use attn::{Definition, Parameters, Tensor};
use attn_runtime::testing::{Arguments, Case, Random};

/// The arguments of a test: those of the case, but for parameters that mean something particular.
pub(crate) fn test_arguments(definition: &Definition, case: &Case) -> Result<Arguments> {
    let mut case = *case;
    if definition.name == "Cosine" {
        // Its queries and keys have length 1 and its scores no scale: keep the scores' deviation near 1.
        case.spread *= (case.shape.head_dim as f64).powf(-0.25);
    }
    let mut arguments = case.arguments(definition)?;
    let mut random = Random::new(case.seed ^ 0xa77e);
    let mut replace = |name: &str, value: &mut dyn FnMut(&mut Random) -> f64| -> Result<()> {
        if let Some(old) = arguments.parameters.get(name) {
            let values: Vec<f64> = (0..old.element_count()).map(|_| value(&mut random)).collect();
            let new = Tensor::from_f64(old.dtype(), old.shape(), &values)?;
            arguments.parameters.insert(name, new);
        }
        Ok(())
    };
    match definition.name.as_str() {
        // Decays: logarithms of factors below 1.
        "Retention" => replace("ln_gamma", &mut |random| -random.uniform(0.01, 0.2))?,
        // Any length, also none and all.
        "PrefixLm" => replace("length", &mut |random| random.below(case.shape.kv_len + 1) as f64)?,
        _ => {}
    }
    Ok(arguments)
}

/// The parameters of a measurement, as models have them, for `heads` heads and `length` keys.
pub(crate) fn measured_parameters(definition: &Definition, heads: usize, length: usize) -> Result<Parameters> {
    let mut random = Random::new(7);
    let mut parameters = Parameters::new();
    for parameter in &definition.parameters {
        let name = parameter.name.as_str();
        let tensor = match name {
            "slope" => {
                let slopes = (1..=heads).map(|head| (-8.0 * head as f32 / heads as f32).exp2()).collect();
                Tensor::from_f32(&[heads], slopes)?
            }
            "cap" => Tensor::from_f32(&[], vec![30.0])?,
            "sink" => random.normal_tensor(attn::DType::F32, &[heads])?,
            "table" => random.normal_tensor(attn::DType::F32, &[heads, 32])?,
            "ids" => Tensor::from_i32(&[1, length], (0..length).map(|key| (key * 8 / length) as i32).collect())?,
            _ => anyhow::bail!("no values for parameter `{name}` of `{}` are known", definition.name),
        };
        parameters.insert(name, tensor);
    }
    Ok(parameters)
}
