//! Feature maps on the CPU: q and k mapped before a pass, their gradients chained behind it.
//!
//! Invariant: mapped tensors are f32, whatever the type of q and k.

use attn_dsl::lower::{Feature, Lowered};
use rayon::prelude::*;

use super::evaluate::{Inputs, Launch, Registers, RowInputs};
use super::program::Program;
use crate::attention::Gradients;
use crate::call::{BackwardCall, Call};
use crate::error::Error;
use crate::tensor::Tensor;

/// Elements that are mapped at a time.
const ELEMENTS: usize = 4096;

/// The programs of a map: its value and its derivative.
struct Map {
    value: Program,
    slope: Program,
}

/// The maps of q and of k.
pub(super) struct FeatureMaps {
    maps: [Option<Map>; 2],
}

impl Map {
    fn new(feature: &Feature) -> Map {
        let program = |root| Program::new(&feature.graph, &[root]);
        Map { value: program(feature.value), slope: program(feature.slope) }
    }
}

/// A program of one element, of each.
fn each(program: &Program, elements: &[f32]) -> Vec<f32> {
    let (query, keys) = ([0], vec![0; ELEMENTS]);
    let launch =
        Launch { scale: 1.0, head_dim: 0, q_len: 1, kv_len: 1, sizes: &[], extremes: vec![], parameters: vec![] };
    let parts = elements.par_chunks(ELEMENTS).map_init(
        || Registers::new(program, 1, ELEMENTS),
        |registers, part| {
            let rows = RowInputs::default();
            let keys = &keys[..part.len()];
            let inputs = Inputs {
                launch: &launch,
                batch: 0,
                head: 0,
                queries: &query,
                keys,
                product: part,
                output_grad_product: &[],
                rows,
            };
            registers.run_all(program, &inputs);
            let mut out = vec![0.0; part.len()];
            registers.float_tile(program, 0, &inputs, &mut out);
            out
        },
    );
    parts.flatten_iter().collect()
}

impl FeatureMaps {
    pub(super) fn new(lowered: &Lowered) -> FeatureMaps {
        FeatureMaps { maps: lowered.features.each_ref().map(|feature| feature.as_ref().map(Map::new)) }
    }

    /// The call of mapped queries and keys.
    pub(super) fn call(&self, call: &Call) -> Result<Call, Error> {
        let mapped = |map: &Option<Map>, tensor: &Tensor| {
            let Some(map) = map else { return Ok::<_, Error>(tensor.clone()) };
            Ok(Tensor::from_f32(tensor.shape(), each(&map.value, &tensor.to_f32_vec()?))?)
        };
        let [of_q, of_k] = &self.maps;
        Ok(Call { q: mapped(of_q, &call.q)?, k: mapped(of_k, &call.k)?, ..call.clone() })
    }

    /// The call of mapped queries and keys; its gradients are those in mapped elements.
    pub(super) fn backward_call(&self, backward: &BackwardCall) -> Result<BackwardCall, Error> {
        Ok(BackwardCall { call: self.call(&backward.call)?, ..backward.clone() })
    }

    /// Gradients in q and k from those in their mapped elements.
    pub(super) fn chain(&self, call: &Call, gradients: Gradients) -> Result<Gradients, Error> {
        let chained = |map: &Option<Map>, tensor: &Tensor, gradient: Tensor| {
            let Some(map) = map else { return Ok::<_, Error>(gradient) };
            let slopes = each(&map.slope, &tensor.to_f32_vec()?);
            let values = gradient.to_f32_vec()?.iter().zip(slopes).map(|(gradient, slope)| gradient * slope).collect();
            Ok(Tensor::rounded(tensor.dtype(), tensor.shape(), values)?)
        };
        let [of_q, of_k] = &self.maps;
        let Gradients { q, k, v, parameters } = gradients;
        Ok(Gradients { q: chained(of_q, &call.q, q)?, k: chained(of_k, &call.k, k)?, v, parameters })
    }
}
