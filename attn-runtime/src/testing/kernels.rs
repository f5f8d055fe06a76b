//! Generated kernels as text for snapshot tests: what a variant adds to them, and what the assembler makes of them.
//!
//! Invariants: [`kernel_snapshot`] is a function of its arguments alone and needs nothing but this crate; what depends on a
//! compiler is in [`resource_snapshot`], whose first line names the compiler's version.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use attn_dsl::cuda::{self, Kernel, KernelKind};
use attn_dsl::definition::Definition;
use attn_dsl::lower::lower;
use attn_dsl::plan::{PlanError, Shape, Target};
use rayon::prelude::*;

use crate::cuda::testing::nvrtc_for_tests;
use crate::cuda::{ResourceUsage, default_options};
use crate::error::Error;

/// The kernels of both passes, in the order of their launches.
#[derive(Clone, Debug)]
pub struct GeneratedKernels {
    /// Of the forward pass, and those of the second output.
    pub forward: Vec<Kernel>,
    /// Of the backward pass; empty where it has none.
    pub backward: Vec<Kernel>,
    /// What maps q and k and chains their gradients, then both passes of the linear-time schedule; empty where there is neither.
    pub linear: Vec<Kernel>,
    /// Why there is no backward pass: the gradient of a parameter has no kernel.
    pub no_backward: Option<PlanError>,
}

impl GeneratedKernels {
    /// Every kernel once: both passes may count live keys.
    pub fn distinct(&self) -> impl Iterator<Item = &Kernel> {
        let repeated = |kernel: &&Kernel| self.forward.iter().any(|other| other.source == kernel.source);
        self.forward.iter().chain(self.backward.iter().filter(move |kernel| !repeated(kernel))).chain(&self.linear)
    }
}

/// Generates the kernels of both passes.
///
/// # Errors
/// When the variant cannot be lowered, or a kernel cannot be planned for a reason other than a parameter's gradient.
pub fn generated_kernels(definition: &Definition, shape: Shape, target: Target) -> Result<GeneratedKernels, Error> {
    let lowered = lower(definition).map_err(|source| Error::Lower { variant: definition.name.clone(), source })?;
    let mut forward = cuda::forward(&lowered, shape, target)?;
    forward.extend(cuda::second_output(&lowered, shape, target)?);
    let (backward, no_backward) = match cuda::backward(&lowered, shape, target, true) {
        Ok(kernels) => (kernels, None),
        Err(error @ PlanError::ParameterGradient { .. }) => (vec![], Some(error)),
        Err(error) => return Err(error.into()),
    };
    let mut linear = cuda::features(&lowered, shape, target);
    for kernels in [cuda::linear_forward(&lowered, shape, target), cuda::linear_backward(&lowered, shape, target)] {
        match kernels {
            // the backward pass finds delta as the quadratic one does
            Ok(kernels) => linear.extend(kernels.into_iter().filter(|kernel| kernel.kind != KernelKind::Delta)),
            Err(PlanError::NotLinear { .. } | PlanError::ParameterGradient { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(GeneratedKernels { forward, backward, linear, no_backward })
}

/// The variant's own part of every kernel of both passes: its arguments, the values that vary slowly, the mask's bounds, and
/// the functions of a pair. The machinery that all variants share is left out.
///
/// ```no_run
/// use attn_runtime::testing::{ElementType, KernelShape, Target, kernel_snapshot};
///
/// let variant = attn_dsl::compile_one("struct Capped { cap: f32, score: |s| cap * tanh(s / cap), mask: causal }")?;
/// let shape = KernelShape::new(ElementType::Bf16, 128, 128)?;
/// insta::assert_snapshot!(kernel_snapshot(&variant, shape, Target::Sm90a)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`generated_kernels`].
pub fn kernel_snapshot(definition: &Definition, shape: Shape, target: Target) -> Result<String, Error> {
    let kernels = generated_kernels(definition, shape, target)?;
    let mut text = format!("{} {shape} {target}\n", definition.name);
    for kernel in kernels.distinct() {
        write!(text, "\n==== {}\n{}", label(definition, kernel), kernel.variant_part).expect("writing to a string");
    }
    if let Some(reason) = kernels.no_backward {
        writeln!(text, "\n==== no backward pass\n{reason}").expect("writing to a string");
    }
    Ok(text)
}

/// Compiles every kernel of both passes with NVRTC, which needs no GPU: its version, then for each kernel and target the
/// registers, spills, shared memory and barriers, followed by the assembler's advisories and the compiler's warnings.
///
/// NVRTC is that of [`nvrtc_for_tests`]: the numbers change from one version to the next.
///
/// ```no_run
/// use attn_runtime::testing::{ElementType, KernelShape, Target, resource_snapshot};
///
/// let variant = attn_dsl::compile_one("struct Capped { cap: f32, score: |s| cap * tanh(s / cap), mask: causal }")?;
/// let shape = KernelShape::new(ElementType::Bf16, 128, 128)?;
/// insta::assert_snapshot!(resource_snapshot(&variant, shape, &[Target::Sm80, Target::Sm90a])?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`generated_kernels`], and when a kernel does not compile.
///
/// # Panics
/// Where no NVRTC can be had; the message says which command to run.
pub fn resource_snapshot(definition: &Definition, shape: Shape, targets: &[Target]) -> Result<String, Error> {
    let mut wanted: Vec<(Kernel, Target)> = vec![];
    for &target in targets {
        let kernels = generated_kernels(definition, shape, target)?;
        wanted.extend(kernels.distinct().map(|kernel| (kernel.clone(), target)));
    }
    let compile = |(kernel, target): &(Kernel, Target)| {
        report(kernel, *target).map(|report| format!("{}{report}\n", label(definition, kernel)))
    };
    let lines: Result<Vec<String>, Error> = wanted.par_iter().map(compile).collect();
    let (major, minor) = nvrtc_for_tests().version();
    let mut lines = lines?;
    lines.sort_by_key(|line| line.split(' ').next().map(str::to_owned)); // stable: a kernel's targets keep their order
    Ok(format!("NVRTC {major}.{minor}, {} {shape}\n{}", definition.name, lines.concat()))
}

/// A kernel's entry, and the parameter where it belongs to one.
fn label(definition: &Definition, kernel: &Kernel) -> String {
    match kernel.kind {
        KernelKind::Table(id) | KernelKind::Dense(id) => {
            format!("{}({})", kernel.entry, definition.parameter(id).name)
        }
        KernelKind::SecondOutput => format!("{}(second output)", kernel.entry),
        KernelKind::RowPass(number) => format!("{}({number})", kernel.entry),
        KernelKind::LinearState(sum) | KernelKind::LinearPrefix(sum) => format!("{}({})", kernel.entry, sum.name()),
        _ => kernel.entry.to_owned(),
    }
}

/// A line of the compiler's log that says more than that a kernel leaves one of the shared constants unused (177).
fn is_warning(line: &str) -> bool {
    line.contains("warning #") && !line.contains("#177-D")
}

/// What NVRTC says of a kernel, less its name. Kernels that differ in comments alone are compiled once a process.
fn report(kernel: &Kernel, target: Target) -> Result<String, Error> {
    static KNOWN: Mutex<Option<HashMap<blake3::Hash, String>>> = Mutex::new(None);
    let code: String =
        kernel.source.lines().filter(|line| !line.starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    let key = blake3::hash(format!("{target}\n{code}").as_bytes());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(report) = known.get_or_insert_default().get(&key) {
        return Ok(report.clone());
    }
    drop(known); // the same kernel may be compiled twice at the same time, to the same report
    let compiled = nvrtc_for_tests().compile(&kernel.source, &kernel.file_name, &default_options(target.name()))?;
    let usage = compiled.resources();
    let own = usage
        .iter()
        .find(|usage| usage.kernel == kernel.entry)
        .ok_or_else(|| Error::Internal(format!("the compiler's report lacks {}: {}", kernel.entry, compiled.log)))?;
    let report = std::iter::once(own.to_string()[kernel.entry.len()..].to_owned())
        .chain(compiled.log.lines().filter(|line| is_warning(line)).map(|line| format!("  {}", line.trim())))
        .collect::<Vec<_>>()
        .join("\n");
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().insert(key, report.clone());
    debug_assert!(usage.iter().all(|usage: &ResourceUsage| usage.target == target.name()), "{}", compiled.log);
    Ok(report)
}
