//! Kernels of a variant, compiled and loaded on first use and kept for the executor's life.
//!
//! Invariant: one entry per pass, element type, head dimensions and plan; a failure is not kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use attn_dsl::cuda::{self as generate, Kernel as Source};
use attn_dsl::lower::Lowered;
use attn_dsl::plan::{ElementType, Shape, Target};
use rayon::prelude::*;

use crate::call::{ArgumentError, Problem};
use crate::error::Error;
use crate::machine::{KernelSource, LoadedKernel, Machine};
use crate::tensor::DType;

/// A kernel and what it was made from.
pub(super) struct Compiled {
    pub(super) source: Source,
    pub(super) kernel: Arc<dyn LoadedKernel>,
}

pub(super) type Pass = Arc<Vec<Compiled>>;

/// By shape and number of the plan; of backward passes 0 is the deterministic one.
type Kept = HashMap<(Shape, usize), Pass>;

/// The kernels of one variant on one machine.
pub(super) struct Library {
    lowered: Arc<Lowered>,
    machine: Arc<dyn Machine>,
    forward: Mutex<Kept>,
    second: Mutex<Kept>,
    backward: Mutex<Kept>,
    linear_forward: Mutex<Kept>,
    linear_backward: Mutex<Kept>,
    features: Mutex<Kept>,
    group_sum: Mutex<Kept>,
    reduce: OnceLock<Arc<dyn LoadedKernel>>,
    copy: OnceLock<Arc<dyn LoadedKernel>>,
}

pub(super) fn shape_of(problem: &Problem) -> Result<Shape, Error> {
    let element = match problem.dtype {
        DType::F16 => ElementType::F16,
        DType::BF16 => ElementType::Bf16,
        DType::F32 | DType::I32 => ElementType::F32,
    };
    let shape = Shape::new(element, problem.head_dim, problem.value_dim)?;
    Ok(if problem.packing.is_some() { shape.packed() } else { shape })
}

impl Library {
    pub(super) fn new(lowered: Arc<Lowered>, machine: Arc<dyn Machine>) -> Self {
        Library {
            lowered,
            machine,
            forward: Mutex::default(),
            second: Mutex::default(),
            backward: Mutex::default(),
            linear_forward: Mutex::default(),
            linear_backward: Mutex::default(),
            features: Mutex::default(),
            group_sum: Mutex::default(),
            reduce: OnceLock::new(),
            copy: OnceLock::new(),
        }
    }

    pub(super) fn forward(&self, problem: &Problem) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        self.pass(&self.forward, (shape, 0), |target| Ok(generate::forward(&self.lowered, shape, target)?))
    }

    /// The kernels of every plan of the forward pass; the first are those of [`Library::forward`].
    pub(super) fn forward_plans(&self, problem: &Problem) -> Result<Vec<Vec<Source>>, Error> {
        Ok(generate::forward_choices(&self.lowered, shape_of(problem)?, self.machine.target()?)?)
    }

    /// The kernels of one of them, which has this number and these sources.
    pub(super) fn forward_plan(&self, problem: &Problem, number: usize, plan: &[Source]) -> Result<Pass, Error> {
        self.pass(&self.forward, (shape_of(problem)?, number), |_| Ok(plan.to_vec()))
    }

    /// The kernels of the plan with this number.
    pub(super) fn forward_choice(&self, problem: &Problem, number: usize) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        self.pass(&self.forward, (shape, number), |target| {
            let plans = generate::forward_choices(&self.lowered, shape, target)?;
            let missing = ArgumentError::Plan { plan: number, plans: plans.len() };
            Ok(plans.into_iter().nth(number).ok_or(missing)?)
        })
    }

    /// The kernels of the second output; none where the variant has none.
    pub(super) fn second_output(&self, problem: &Problem) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        let kernels = |target| Ok(generate::second_output(&self.lowered, shape, target)?);
        self.pass(&self.second, (shape, 0), kernels)
    }

    pub(super) fn backward(&self, problem: &Problem, deterministic: bool) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        let kernels = |target| Ok(generate::backward(&self.lowered, shape, target, deterministic)?);
        self.pass(&self.backward, (shape, usize::from(!deterministic)), kernels)
    }

    pub(super) fn linear_forward(&self, problem: &Problem) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        let kernels = |target| Ok(generate::linear_forward(&self.lowered, shape, target)?);
        self.pass(&self.linear_forward, (shape, 0), kernels)
    }

    pub(super) fn linear_backward(&self, problem: &Problem) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        let kernels = |target| Ok(generate::linear_backward(&self.lowered, shape, target)?);
        self.pass(&self.linear_backward, (shape, 0), kernels)
    }

    /// The kernels that map q and k, and those that chain gradients.
    pub(super) fn features(&self, problem: &Problem) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        self.pass(&self.features, (shape, 0), |target| Ok(generate::features(&self.lowered, shape, target)))
    }

    /// The kernel that adds up query heads of a group, alone.
    pub(super) fn group_sum(&self, problem: &Problem) -> Result<Pass, Error> {
        let shape = shape_of(problem)?;
        self.pass(&self.group_sum, (shape, 0), |target| Ok(vec![generate::group_sum(&self.lowered, shape, target)]))
    }

    /// The lock is not held while kernels compile: a thread that waits for the others of its pool may take up another call of
    /// this executor meanwhile, and would wait for itself. Machines make a kernel once, however many ask for it.
    fn pass(
        &self,
        kept: &Mutex<Kept>,
        key: (Shape, usize),
        generate: impl FnOnce(Target) -> Result<Vec<Source>, Error>,
    ) -> Result<Pass, Error> {
        if let Some(pass) = kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(pass.clone());
        }
        let target = self.machine.target()?;
        let compile = |source: Source| {
            let kernel = self.machine.compile(&KernelSource {
                text: &source.source,
                file_name: &source.file_name,
                entry: source.entry,
                target,
                shared_memory: source.shared_memory,
            })?;
            Ok(Compiled { source, kernel })
        };
        let pass: Result<Vec<Compiled>, Error> = generate(target)?.into_par_iter().map(compile).collect();
        let pass = Arc::new(pass?);
        Ok(kept.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_insert(pass).clone())
    }

    /// The kernel that adds partial sums.
    pub(super) fn reduce(&self) -> Result<Arc<dyn LoadedKernel>, Error> {
        self.shared(&self.reduce, generate::reduce_source(), "attn_reduce")
    }

    /// The kernel that copies misaligned tensors.
    pub(super) fn copy(&self) -> Result<Arc<dyn LoadedKernel>, Error> {
        self.shared(&self.copy, generate::copy_source(), "attn_copy")
    }

    fn shared(
        &self,
        kept: &OnceLock<Arc<dyn LoadedKernel>>,
        source: &str,
        entry: &str,
    ) -> Result<Arc<dyn LoadedKernel>, Error> {
        if let Some(kernel) = kept.get() {
            return Ok(kernel.clone());
        }
        let target = self.machine.target()?;
        let file_name = format!("{entry}.cu");
        let kernel = self.machine.compile(&KernelSource {
            text: source,
            file_name: &file_name,
            entry,
            target,
            shared_memory: 0,
        })?;
        Ok(kept.get_or_init(|| kernel).clone())
    }
}
