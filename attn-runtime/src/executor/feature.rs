//! Feature maps on the machine: q and k mapped before the kernels of the quadratic schedule, their gradients chained behind them.
//!
//! Invariant: mapped tensors are row-major and of the type of q and k; gradients are chained in place.

use attn_dsl::cuda::{FEATURE_THREADS, KernelKind};
use attn_dsl::lower::Side;

use super::KernelExecutor;
use super::compiled::{Compiled, Pass};
use crate::attention::Gradients;
use crate::call::Call;
use crate::error::Error;
use crate::machine::KernelLaunch;
use crate::tensor::Tensor;

/// Bytes of a row that a thread maps.
const PIECE_BYTES: usize = 16;

impl KernelExecutor {
    /// The call of mapped queries and keys; none where neither is mapped.
    pub(super) fn mapped(&self, call: &Call) -> Result<Option<Call>, Error> {
        if self.lowered.features.iter().all(Option::is_none) {
            return Ok(None);
        }
        let kernels = self.library.features(&call.problem)?;
        let mapped = |side, name: &str, tensor: &Tensor| {
            let Some(kernel) = find(&kernels, KernelKind::Feature(side)) else { return Ok::<_, Error>(tensor.clone()) };
            let to = self.allocate(name, tensor.dtype(), tensor.shape())?;
            self.map(call, kernel, tensor, &to)?;
            Ok(to)
        };
        let q = mapped(Side::Query, "mapped q", &call.q)?;
        let k = mapped(Side::Key, "mapped k", &call.k)?;
        Ok(Some(Call { q, k, ..call.clone() }))
    }

    /// Gradients in q and k of a call from those in their mapped elements.
    pub(super) fn chain(&self, call: &Call, gradients: &Gradients) -> Result<(), Error> {
        let kernels = self.library.features(&call.problem)?;
        for (side, tensor, gradient) in [(Side::Query, &call.q, &gradients.q), (Side::Key, &call.k, &gradients.k)] {
            if let Some(kernel) = find(&kernels, KernelKind::FeatureGrad(side)) {
                self.map(call, kernel, tensor, gradient)?;
            }
        }
        Ok(())
    }

    fn map(&self, call: &Call, kernel: &Compiled, from: &Tensor, to: &Tensor) -> Result<(), Error> {
        if from.element_count() == 0 {
            return Ok(());
        }
        let from = self.aligned(call, "elements to map", from)?;
        let [batch, heads, rows, columns] = [0, 1, 2, 3].map(|axis| from.shape()[axis]);
        let mut bytes = vec![];
        bytes.extend(from.device_address()?.to_ne_bytes());
        bytes.extend(to.device_address()?.to_ne_bytes());
        from.strides()[..3].iter().for_each(|&stride| bytes.extend((stride as i64).to_ne_bytes()));
        bytes.extend((rows as i32).to_ne_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let pieces = rows * columns * from.dtype().size() / PIECE_BYTES;
        let extent = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let launch = KernelLaunch {
            grid: [extent(pieces.div_ceil(FEATURE_THREADS as usize)), extent(heads), extent(batch)],
            threads: FEATURE_THREADS,
            shared_memory: 0,
        };
        // SAFETY: the bytes are `struct Arguments` of the kernel; both tensors have the extents that it is given.
        unsafe { kernel.kernel.launch(launch, bytes, &self.named(call)) }
    }
}

fn find(kernels: &Pass, kind: KernelKind) -> Option<&Compiled> {
    kernels.iter().find(|compiled| compiled.source.kind == kind)
}
