//! Values for the parameters of gallery variants in tests, where the values that serve every variant would not serve them.
//!
//! Invariant: the same seed gives the same values on every machine.

use attn_runtime::testing::{Arguments, Case, Random};
use attn_runtime::{DType, Tensor, TensorError};

use crate::Definition;

/// The arguments of a case for a variant of the gallery: those of [`Case::arguments`], but for parameters that mean something
/// particular, like a decay or a length.
///
/// # Errors
/// When the extents of the case do not fit the address space.
pub fn arguments(definition: &Definition, case: &Case) -> Result<Arguments, TensorError> {
    let mut case = *case;
    if definition.name == "Cosine" {
        // Its queries and keys have length 1 and its scores no scale: keep the scores' deviation near 1.
        case.spread *= (case.shape.head_dim as f64).powf(-0.25);
    }
    let mut arguments = case.arguments(definition)?;
    let mut random = Random::new(case.seed ^ 0xa77e);
    let mut replace = |name: &str, value: &mut dyn FnMut(&mut Random) -> f64| -> Result<(), TensorError> {
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
        // Running sums of logarithms of gates, one for each key.
        "GatedLinear" => {
            let tokens = case.longest()[1].max(1);
            let old = arguments.parameters.get("gates").map(|old| old.shape().to_vec()).unwrap_or_default();
            let mut values = vec![];
            for _ in 0..old[0] * old[1] {
                let mut sum = 0.0;
                values.extend((0..tokens).map(|_| {
                    sum -= random.uniform(0.0, 0.3);
                    sum
                }));
            }
            let gates = Tensor::from_f64(DType::F32, &[old[0], old[1], tokens], &values)?;
            arguments.parameters.insert("gates", gates);
        }
        // Any length, also none and all.
        "PrefixLm" => replace("length", &mut |random| random.below(case.longest()[1] + 1) as f64)?,
        // More than some rows have, and fewer than most.
        "TopK" => replace("k", &mut |random| 1.0 + random.below(24) as f64)?,
        "ThresholdSoftmax" => replace("reach", &mut |random| random.uniform(0.5, 1.5))?,
        // Around the literature's choices, and both ends of a row's weights are clipped somewhere.
        "ClippedSoftmax" => {
            replace("gamma", &mut |random| -random.uniform(0.005, 0.03))?;
            replace("zeta", &mut |random| random.uniform(1.0, 1.2))?;
        }
        _ => {}
    }
    Ok(arguments)
}
