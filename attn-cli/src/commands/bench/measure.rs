//! The measurement of one pass, and of its error.
//!
//! Time depends on the shape, hardly on the values; the error is that of a small slice of the same variant in the same type and
//! head dimension, against the CPU's computation in f32 on the same rounded values.

use std::collections::HashMap;

use anyhow::{Context, Result};
use attn::{Attention, DType, Device, Gradients, Output, Parameters, Tensor};
use attn_cli::measurements::{Pass, median};
use attn_runtime::testing::{Comparison, Random, Tolerance};

use super::cases::{Shape, Workload};
use crate::device::time;
use crate::recipe::measured_parameters;

/// Rounds that are not timed.
const WARM_UP: u32 = 3;
/// Numbers drawn before they repeat: a prime, so that no two rows are the same.
const PERIOD: usize = 1_000_003;

/// q, k, v and the gradient of the output, on a device.
pub(super) struct Inputs {
    pub(super) shape: Shape,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output_grad: Tensor,
}

fn normal(seed: u64, dtype: DType, shape: &[usize]) -> Result<Tensor> {
    let count: usize = shape.iter().product();
    let once = Random::new(seed).normal_tensor(dtype, &[count.min(PERIOD)])?.to_bytes()?;
    let mut bytes = Vec::with_capacity(count * dtype.size());
    while bytes.len() < count * dtype.size() {
        let missing = count * dtype.size() - bytes.len();
        bytes.extend_from_slice(&once[..once.len().min(missing)]);
    }
    Ok(Tensor::from_bytes(dtype, shape, &bytes)?)
}

impl Inputs {
    pub(super) fn new(shape: &Shape, device: &Device) -> Result<Inputs> {
        let extents = [shape.batch, shape.heads, shape.length, shape.head_dim];
        let tensor = |seed| -> Result<Tensor> { Ok(normal(seed, shape.dtype, &extents)?.to_device(device)?) };
        Ok(Inputs { shape: *shape, q: tensor(1)?, k: tensor(2)?, v: tensor(3)?, output_grad: tensor(4)? })
    }

    pub(super) fn forward(&self, attention: &Attention, parameters: &Parameters) -> Result<Output> {
        Ok(attention.forward(&self.q, &self.k, &self.v, parameters)?)
    }

    pub(super) fn backward(
        &self,
        attention: &Attention,
        parameters: &Parameters,
        output: &Output,
    ) -> Result<Gradients> {
        let Inputs { q, k, v, output_grad, .. } = self;
        Ok(attention.backward(q, k, v, parameters, output, output_grad, None)?)
    }

    /// The values of the variant's parameters, on the device.
    pub(super) fn parameters(&self, attention: &Attention) -> Result<Parameters> {
        let parameters = measured_parameters(attention.definition(), self.shape.heads, self.shape.length)?;
        Ok(parameters.to_device(attention.device())?)
    }
}

/// The attention of a workload: that of its sequences where its batch is packed.
pub(super) fn packed(attention: &Attention, workload: &Workload, shape: &Shape) -> Result<Attention> {
    let Some(lengths) = workload.packed_lengths(shape) else {
        return Ok(attention.clone());
    };
    let mut starts = vec![0];
    for length in lengths {
        starts.push(starts[starts.len() - 1] + i32::try_from(length)?);
    }
    let cu_seqlens = Tensor::from_i32(&[starts.len()], starts)?;
    Ok(attention.packed(&cu_seqlens, &cu_seqlens)?)
}

/// The median time of a pass in milliseconds; of a forward pass without what only a backward pass needs, unless for training.
pub(super) fn pass(attention: &Attention, inputs: &Inputs, pass: Pass, training: bool, rounds: u32) -> Result<f64> {
    let parameters = inputs.parameters(attention)?;
    match pass {
        Pass::Forward => {
            let attention = &attention.clone().gradients(training);
            median_time(attention.device(), rounds, || inputs.forward(attention, &parameters).map(drop))
        }
        Pass::Backward => {
            let output = inputs.forward(attention, &parameters)?;
            median_time(attention.device(), rounds, || inputs.backward(attention, &parameters, &output).map(drop))
        }
    }
}

fn median_time(device: &Device, rounds: u32, work: impl Fn() -> Result<()>) -> Result<f64> {
    for _ in 0..WARM_UP {
        work()?;
    }
    let times = (0..rounds).map(|_| time(device, &work)).collect::<Result<Vec<f64>>>()?;
    median(times).context("no round was timed")
}

/// Errors of the slices, each computed once.
pub(super) struct Errors {
    device: Device,
    deterministic: bool,
    /// By variant, type and head dimension: forward and backward.
    known: HashMap<(&'static str, DType, usize), (f64, f64)>,
}

impl Errors {
    pub(super) fn new(device: &Device, deterministic: bool) -> Errors {
        Errors { device: device.clone(), deterministic, known: HashMap::new() }
    }

    /// The relative RMS error of the output, or the largest of those of dq, dk and dv.
    pub(super) fn of(&mut self, workload: &Workload, shape: &Shape, pass: Pass) -> Result<f64> {
        let key = (workload.name, shape.dtype, shape.head_dim);
        let (forward, backward) = match self.known.get(&key) {
            Some(&known) => known,
            None => {
                let found = slice_error(workload, shape, &self.device, self.deterministic)?;
                self.known.insert(key, found);
                found
            }
        };
        Ok(if pass == Pass::Forward { forward } else { backward })
    }
}

fn slice_error(workload: &Workload, shape: &Shape, device: &Device, deterministic: bool) -> Result<(f64, f64)> {
    let definition = workload.definition()?;
    let slice = Shape { batch: 1, heads: 2, length: workload.checked_length(), ..*shape };
    let tested = Inputs::new(&slice, device)?;
    let rounded = Inputs::new(&slice, &Device::Cpu)?;
    let wide = |tensor: &Tensor| tensor.to_dtype(DType::F32);
    let exact = Inputs {
        shape: Shape { dtype: DType::F32, ..slice },
        q: wide(&rounded.q)?,
        k: wide(&rounded.k)?,
        v: wide(&rounded.v)?,
        output_grad: wide(&rounded.output_grad)?,
    };
    let both = |inputs: &Inputs, device: &Device| -> Result<[Tensor; 4]> {
        let attention = Attention::new(&definition, device)?.deterministic(deterministic);
        let attention = packed(&attention, workload, &inputs.shape)?;
        let parameters = inputs.parameters(&attention)?;
        let output = inputs.forward(&attention, &parameters)?;
        let Gradients { q, k, v, .. } = inputs.backward(&attention, &parameters, &output)?;
        Ok([output.output, q, k, v])
    };
    let (found, reference) = (both(&tested, device)?, both(&exact, &Device::Cpu)?);
    let mut errors = [0.0; 4];
    for ((error, found), reference) in errors.iter_mut().zip(&found).zip(&reference) {
        let (found, reference) = (found.to_host()?.to_f64_vec()?, reference.to_f64_vec()?);
        *error = Comparison::new("", &found, &reference, &[], Tolerance::forward(shape.dtype)).rms_relative;
    }
    Ok((errors[0], errors[1..].iter().copied().fold(0.0, f64::max)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_repeat_after_a_period() {
        let long = normal(5, DType::BF16, &[2, PERIOD - 1]).unwrap().to_f32_vec().unwrap();
        let short = normal(5, DType::BF16, &[100]).unwrap().to_f32_vec().unwrap();
        assert_eq!(long.len(), 2 * (PERIOD - 1));
        assert_eq!(long[..100], short);
        assert_eq!(long[PERIOD..PERIOD + 100], short);
        let deviation = (long.iter().map(|x| f64::from(x * x)).sum::<f64>() / long.len() as f64).sqrt();
        assert!((deviation - 1.0).abs() < 0.01, "{deviation}");
    }

    #[test]
    fn errors_are_those_of_the_type() {
        let softmax = &super::super::cases::WORKLOADS[1];
        let error = |dtype| {
            let shape = Shape { dtype, batch: 1, heads: 1, length: 256, head_dim: 16 };
            slice_error(softmax, &shape, &Device::Cpu, true).unwrap()
        };
        let (bf16, f16, f32) = (error(DType::BF16), error(DType::F16), error(DType::F32));
        assert!(bf16.0 > f16.0 && f16.0 > 1e-5 && bf16.1 < 8e-3, "{bf16:?} {f16:?}");
        assert_eq!(f32, (0.0, 0.0), "the same computation twice");
    }
}
