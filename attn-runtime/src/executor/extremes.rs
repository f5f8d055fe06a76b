//! The extremes of blocks of integer parameters, by which kernels tell what a mask leaves of a tile: their memory, their launches, and
//! those that were found before.
//!
//! Tensors never change, so that the extremes of one serve every call that it is given to, of both passes.
//!
//! Invariants: memory and launch follow from the parameter of the call alone; what is kept was found by a launch that was issued,
//! belongs to a tensor that is alive, and is of no recorded graph, which has its own memory and runs at another time.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use attn_dsl::cuda::{EXTREMES_BLOCK, KernelKind};
use attn_dsl::ir::ParameterId;

use super::KernelExecutor;
use super::compiled::Compiled;
use super::pack::Bindings;
use crate::call::Call;
use crate::error::Error;
use crate::machine::{Clock, DeviceMemory};
use crate::tensor::{DType, DeviceBuffer, Storage, Tensor};

/// The extremes of tensors, as long as these live.
#[derive(Debug, Default)]
pub(super) struct KnownExtremes(Mutex<Vec<Known>>);

/// The extremes along an axis of a view.
#[derive(Clone, Debug)]
struct Known {
    buffer: Weak<DeviceBuffer>,
    shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    axis: u32,
    memory: Arc<dyn DeviceMemory>,
}

impl Known {
    fn new(tensor: &Tensor, axis: u32, memory: Arc<dyn DeviceMemory>) -> Option<Known> {
        let Storage::Device(buffer) = tensor.storage() else { return None };
        let (shape, strides) = (tensor.shape().to_vec(), tensor.strides().to_vec());
        Some(Known { buffer: Arc::downgrade(buffer), shape, strides, offset: tensor.offset(), axis, memory })
    }

    fn is_of(&self, tensor: &Tensor, axis: u32) -> bool {
        let Storage::Device(buffer) = tensor.storage() else { return false };
        self.axis == axis
            && std::ptr::eq(self.buffer.as_ptr(), Arc::as_ptr(buffer))
            && (&self.shape[..], &self.strides[..], self.offset) == (tensor.shape(), tensor.strides(), tensor.offset())
    }
}

/// What a call's kernels read of extremes.
#[derive(Debug, Default)]
pub(super) struct CallExtremes {
    /// Whether a launch of the call finds them; parameter, axis, memory.
    all: Vec<(bool, ParameterId, u32, Arc<dyn DeviceMemory>)>,
}

/// The shape of the extremes of blocks along an axis of a parameter.
fn extremes_shape(parameter: &Tensor, axis: u32) -> Vec<usize> {
    let mut shape = parameter.shape().to_vec();
    shape[axis as usize] = shape[axis as usize].div_ceil(EXTREMES_BLOCK);
    shape
}

impl CallExtremes {
    /// The blocks of a kernel that finds extremes, a warp each, and none where they are known; `None` of other kernels.
    pub(super) fn grid(&self, compiled: &Compiled, call: &Call) -> Option<[usize; 3]> {
        let KernelKind::Extremes(parameter, axis) = compiled.source.kind else { return None };
        let is_known = |entry: &(bool, ParameterId, u32, _)| (entry.0, entry.1, entry.2) == (false, parameter, axis);
        if self.all.iter().any(is_known) {
            return Some([0, 1, 1]);
        }
        let shape = extremes_shape(&call.parameters[parameter.0 as usize], axis);
        let warps = compiled.source.threads as usize / 32;
        Some([shape.iter().product::<usize>().div_ceil(warps), 1, 1])
    }
}

impl KernelExecutor {
    /// Memory for the extremes that kernels find, bound: that of an earlier call where the tensor is the same.
    pub(super) fn bind_extremes(
        &self,
        bindings: &mut Bindings<'_>,
        call: &Call,
        kernels: &[Compiled],
    ) -> Result<CallExtremes, Error> {
        let mut extremes = CallExtremes::default();
        for kernel in kernels {
            let KernelKind::Extremes(parameter, axis) = kernel.source.kind else { continue };
            let tensor = &call.parameters[parameter.0 as usize];
            let shape = extremes_shape(tensor, axis);
            let known = self.known_extremes(tensor, axis);
            let is_new = known.is_none();
            let memory = match known {
                Some(memory) => memory,
                None => {
                    let bytes = shape.iter().product::<usize>() * 2 * DType::I32.size();
                    self.machine.allocate("extremes of a parameter", bytes)?.into()
                }
            };
            bindings.extremes.insert((parameter, axis), (memory.address(), shape));
            extremes.all.push((is_new, parameter, axis, memory));
        }
        Ok(extremes)
    }

    /// Keeps what the launches of a call, which were issued, find.
    pub(super) fn keep_extremes(&self, extremes: CallExtremes, call: &Call) {
        if !self.works_now() {
            return;
        }
        let mut known = self.extremes.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, parameter, axis, memory) in extremes.all.into_iter().filter(|(is_new, ..)| *is_new) {
            known.extend(Known::new(&call.parameters[parameter.0 as usize], axis, memory));
        }
    }

    fn known_extremes(&self, tensor: &Tensor, axis: u32) -> Option<Arc<dyn DeviceMemory>> {
        let mut known = self.extremes.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|known| known.buffer.strong_count() > 0);
        let found = known.iter().find(|known| known.is_of(tensor, axis))?;
        self.works_now().then(|| found.memory.clone())
    }

    /// Whether what is issued is done, and not recorded.
    fn works_now(&self) -> bool {
        self.machine.clock().is_none_or(Clock::is_running)
    }
}
