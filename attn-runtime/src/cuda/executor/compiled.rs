//! Kernels of a variant, compiled and loaded on first use and kept for the executor's life.
//!
//! Invariant: one entry per pass, element type and head dimensions; a failure is not kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use attn_dsl::cuda::{self as generate, Kernel as Source};
use attn_dsl::lower::Lowered;
use attn_dsl::plan::{ElementType, Shape, Target};
use rayon::prelude::*;

use crate::call::Problem;
use crate::cuda::{CudaDevice, Kernel, KernelCache, KernelRequest, LoadError, Module};
use crate::error::Error;
use crate::tensor::DType;

/// A kernel and what it was made from.
pub(super) struct Compiled {
    pub(super) source: Source,
    pub(super) kernel: Kernel,
}

type Pass = Arc<Vec<Compiled>>;

/// The kernels of one variant on one device.
pub(super) struct Library {
    lowered: Arc<Lowered>,
    device: CudaDevice,
    forward: Mutex<HashMap<Shape, Pass>>,
    backward: Mutex<HashMap<Shape, Pass>>,
    reduce: OnceLock<Kernel>,
    copy: OnceLock<Kernel>,
}

fn shape_of(problem: &Problem) -> Result<Shape, Error> {
    let element = match problem.dtype {
        DType::F16 => ElementType::F16,
        DType::BF16 => ElementType::Bf16,
        DType::F32 | DType::I32 => ElementType::F32,
    };
    Ok(Shape::new(element, problem.head_dim, problem.value_dim)?)
}

impl Library {
    pub(super) fn new(lowered: Arc<Lowered>, device: CudaDevice) -> Self {
        Library {
            lowered,
            device,
            forward: Mutex::default(),
            backward: Mutex::default(),
            reduce: OnceLock::new(),
            copy: OnceLock::new(),
        }
    }

    pub(super) fn forward(&self, problem: &Problem) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        self.pass(&self.forward, shape, |target| Ok(generate::forward(&self.lowered, shape, target)?))
    }

    pub(super) fn backward(&self, problem: &Problem) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        self.pass(&self.backward, shape, |target| Ok(generate::backward(&self.lowered, shape, target)?))
    }

    /// The lock is held while kernels compile, so that concurrent callers of one executor compile once.
    fn pass(
        &self,
        kept: &Mutex<HashMap<Shape, Pass>>,
        shape: Shape,
        generate: impl FnOnce(Target) -> Result<Vec<Source>, Error>,
    ) -> Result<Pass, Error> {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pass) = kept.get(&shape) {
            return Ok(pass.clone());
        }
        let (major, minor) = self.device.compute_capability();
        let target = Target::of_compute_capability(major, minor)?;
        let compile = |source: Source| {
            let kernel = self.compile(&source.source, &source.file_name, source.entry, target)?;
            kernel.set_dynamic_shared_memory(source.shared_memory as usize)?;
            Ok(Compiled { source, kernel })
        };
        let pass: Result<Vec<Compiled>, Error> = generate(target)?.into_par_iter().map(compile).collect();
        let pass = Arc::new(pass?);
        kept.insert(shape, pass.clone());
        Ok(pass)
    }

    fn compile(&self, source: &str, file_name: &str, entry: &str, target: Target) -> Result<Kernel, Error> {
        let cache = KernelCache::shared()?;
        let request = KernelRequest::new(source, file_name, target.name());
        let module = Module::compile(&self.device, cache, &request).map_err(|error| match error {
            LoadError::Compile(error) => Error::from(error),
            LoadError::Cuda(error) => Error::from(error),
        })?;
        Ok(module.kernel(entry)?)
    }

    /// The kernel that adds partial sums.
    pub(super) fn reduce(&self) -> Result<Kernel, Error> {
        self.shared(&self.reduce, generate::reduce_source(), "attn_reduce")
    }

    /// The kernel that copies misaligned tensors.
    pub(super) fn copy(&self) -> Result<Kernel, Error> {
        self.shared(&self.copy, generate::copy_source(), "attn_copy")
    }

    fn shared(&self, kept: &OnceLock<Kernel>, source: &str, entry: &str) -> Result<Kernel, Error> {
        if let Some(kernel) = kept.get() {
            return Ok(kernel.clone());
        }
        let (major, minor) = self.device.compute_capability();
        let target = Target::of_compute_capability(major, minor)?;
        let kernel = self.compile(source, &format!("{entry}.cu"), entry, target)?;
        Ok(kept.get_or_init(|| kernel).clone())
    }
}
