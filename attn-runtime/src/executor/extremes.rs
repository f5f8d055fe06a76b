//! The extremes of blocks of integer parameters, by which kernels tell what a mask leaves of a tile: their memory and launches.
//!
//! Invariant: memory and launch follow from the parameter of the call alone, so that both passes find the same extremes.

use attn_dsl::cuda::{EXTREMES_BLOCK, KernelKind};

use super::KernelExecutor;
use super::compiled::Compiled;
use super::pack::Bindings;
use crate::call::Call;
use crate::error::Error;
use crate::machine::DeviceMemory;
use crate::tensor::{DType, Tensor};

/// The shape of the extremes of blocks along an axis of a parameter.
fn extremes_shape(parameter: &Tensor, axis: u32) -> Vec<usize> {
    let mut shape = parameter.shape().to_vec();
    shape[axis as usize] = shape[axis as usize].div_ceil(EXTREMES_BLOCK);
    shape
}

/// The blocks of a kernel that finds extremes, a warp each; none of others.
pub(super) fn extremes_grid(compiled: &Compiled, call: &Call) -> Option<[usize; 3]> {
    let KernelKind::Extremes(parameter, axis) = compiled.source.kind else { return None };
    let shape = extremes_shape(&call.parameters[parameter.0 as usize], axis);
    let warps = compiled.source.threads as usize / 32;
    Some([shape.iter().product::<usize>().div_ceil(warps), 1, 1])
}

impl KernelExecutor {
    /// Memory for the extremes that kernels find, bound.
    pub(super) fn bind_extremes(
        &self,
        bindings: &mut Bindings<'_>,
        call: &Call,
        kernels: &[Compiled],
    ) -> Result<Vec<Box<dyn DeviceMemory>>, Error> {
        let mut memory = vec![];
        for kernel in kernels {
            if let KernelKind::Extremes(parameter, axis) = kernel.source.kind {
                let shape = extremes_shape(&call.parameters[parameter.0 as usize], axis);
                let bytes = shape.iter().product::<usize>() * 2 * DType::I32.size();
                let extremes = self.machine.allocate("extremes of a parameter", bytes)?;
                bindings.extremes.insert((parameter, axis), (extremes.address(), shape));
                memory.push(extremes);
            }
        }
        Ok(memory)
    }
}
