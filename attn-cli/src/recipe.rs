//! Values for the parameters of gallery variants in measurements.
//!
//! Invariant: the same seed gives the same values on every machine.

use anyhow::Result;
use attn::{Definition, Parameters, Tensor};
use attn_runtime::testing::Random;

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
            "ln_gamma" => {
                // 1 - 2^-5, 1 - 2^-6, ... as in the paper, over 8 powers of two
                let of = |head: usize| (1.0 - (-5.0 - 8.0 * head as f32 / heads as f32).exp2()).ln();
                Tensor::from_f32(&[heads], (0..heads).map(of).collect())?
            }
            "gates" => {
                let mut sums = Vec::with_capacity(heads * length);
                for _ in 0..heads {
                    let mut sum = 0.0;
                    sums.extend((0..length).map(|_| {
                        sum -= random.uniform(0.0, 0.1);
                        sum
                    }));
                }
                Tensor::from_f64(attn::DType::F32, &[1, heads, length], &sums)?
            }
            "k" => Tensor::from_i32(&[heads], vec![64; heads])?,
            "gamma" => Tensor::from_f32(&[], vec![-0.03])?,
            "zeta" => Tensor::from_f32(&[], vec![1.03])?,
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
