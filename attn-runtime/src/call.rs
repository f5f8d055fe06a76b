//! A call of an attention, checked: one validation that all devices share.
//!
//! Invariants of a [`Call`]: q, k and v have rank 4, one float dtype and a contiguous last axis; shapes agree and the number of
//! query heads is a multiple of the number of key heads; every declared parameter is there, in the order of declaration, with
//! its type and with extents that fit; every extent is below 2^24, so that indices are exact in f32. The sequences of a packed
//! call have all of its rows.

use attn_dsl::definition::{Axis, Definition};

use crate::attention::Output;
use crate::packing::{PackedLengths, Packing};
use crate::parameter::{Parameters, dtype_of};
use crate::tensor::{DType, Location, Tensor};

/// Extents stay below this, so that a position is exact as f32 and as i32.
pub(crate) const EXTENT_LIMIT: usize = 1 << 24;

/// Why the arguments of a call do not fit.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the messages say what each field is")]
pub enum ArgumentError {
    #[error("`{tensor}` has rank {rank} (shape {shape:?}); its axes must be [{axes}]")]
    Rank { tensor: String, rank: usize, shape: Vec<usize>, axes: &'static str },
    #[error("`{tensor}` is {dtype}; {needed} is needed")]
    DType { tensor: String, dtype: DType, needed: String },
    #[error("axis {axis} (`{axis_name}`) of `{tensor}` is {extent}, but {needed} is needed; its shape is {shape:?}")]
    Extent { tensor: String, axis: usize, axis_name: String, extent: usize, needed: String, shape: Vec<usize> },
    #[error("q has {heads} heads and k has {kv_heads}; the heads of q must be a multiple of those of k and v")]
    Group { heads: usize, kv_heads: usize },
    #[error("axis {axis} of `{tensor}` is {extent}; extents must be below 2^24")]
    TooLong { tensor: String, axis: usize, extent: usize },
    #[error(
        "the last axis of `{tensor}` has stride {stride} (shape {shape:?}); it must be contiguous, so pass `{tensor}.contiguous()`"
    )]
    Stride { tensor: String, stride: usize, shape: Vec<usize> },
    #[error("`{tensor}` is on {location}, but this attention runs on {needed}; move it there")]
    Location { tensor: String, location: Location, needed: Location },
    #[error("parameter `{name}: {ty}` is missing; insert it into the parameters")]
    MissingParameter { name: String, ty: String },
    #[error("the variant has no parameter `{name}`{}", suggestion(.nearest, .known))]
    UnknownParameter { name: String, nearest: Option<String>, known: Vec<String> },
    #[error("parameter `{name}` has rank {rank} (shape {shape:?}); it is declared as {ty}, of rank {needed}")]
    ParameterRank { name: String, rank: usize, shape: Vec<usize>, ty: String, needed: usize },
    #[error("scale is {scale}; it must be a finite number above 0")]
    Scale { scale: f32 },
    #[error("a gradient of the statistic was given, but `{variant}` has no row statistic: pass None")]
    NoStatistic { variant: String },
    #[error(
        "`output` is not what `forward` of this attention returned: it holds {given} saved rows, {needed} are needed; pass the output of the forward pass on the same device"
    )]
    Saved { given: usize, needed: usize },
    #[error(
        "`output` was computed without what gradients need: leave out `gradients(false)` where a backward pass follows"
    )]
    NoGradients,
    #[error(
        "`{tensor}` {}; it must begin with 0, where the first sequence starts",
        .first.map_or_else(|| "is empty".to_owned(), |first| format!("begins with {first}"))
    )]
    FirstStart { tensor: &'static str, first: Option<i32> },
    #[error(
        "`{tensor}` falls from {start} to {end} at sequence {sequence}; it must hold the rows before each sequence, then all: sums of lengths"
    )]
    FallingStarts { tensor: &'static str, sequence: usize, start: i32, end: i32 },
    #[error("`{tensor}` ends with {end}, but {of} has {rows} rows; its last entry must be the rows of all sequences")]
    LastStart { tensor: &'static str, end: usize, of: &'static str, rows: usize },
    #[error(
        "`cu_seqlens_q` has {q_entries} entries and `cu_seqlens_kv` has {kv_entries}; both must have one more than there are sequences"
    )]
    SequenceCount { q_entries: usize, kv_entries: usize },
    #[error("there is no plan {plan}: the forward pass of these head dimensions has {plans}, counted from 0")]
    Plan { plan: usize, plans: usize },
}

fn suggestion(nearest: &Option<String>, known: &[String]) -> String {
    match (nearest, known) {
        (Some(nearest), _) => format!("; did you mean `{nearest}`?"),
        (None, []) => ": it has none".to_owned(),
        (None, known) => format!("; it has `{}`", known.join("`, `")),
    }
}

/// The lengths of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Problem {
    pub(crate) dtype: DType,
    pub(crate) batch: usize,
    /// Query heads.
    pub(crate) heads: usize,
    /// Heads of k and v; `heads` is a multiple.
    pub(crate) kv_heads: usize,
    pub(crate) q_len: usize,
    pub(crate) kv_len: usize,
    /// The last extent of q and k.
    pub(crate) head_dim: usize,
    /// The last extent of v and of the output.
    pub(crate) value_dim: usize,
    /// Of a packed batch, whose `batch` is 1 and whose `q_len` and `kv_len` are those of all sequences together.
    pub(crate) packing: Option<PackedLengths>,
}

impl Problem {
    /// Query heads that share one head of k and v. 1 where there are no heads.
    pub(crate) fn group(&self) -> usize {
        self.heads.checked_div(self.kv_heads).unwrap_or(1).max(1)
    }

    pub(crate) fn output_shape(&self) -> [usize; 4] {
        [self.batch, self.heads, self.q_len, self.value_dim]
    }

    /// The shape of a state: one more column where it has that of the normalizer.
    pub(crate) fn state_shape(&self, has_normalizer: bool) -> [usize; 4] {
        [self.batch, self.heads, self.head_dim, self.value_dim + usize::from(has_normalizer)]
    }

    /// The shape of the statistic and of every saved row.
    pub(crate) fn row_shape(&self) -> [usize; 3] {
        [self.batch, self.heads, self.q_len]
    }
}

/// The checked arguments of a forward pass.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) problem: Problem,
    pub(crate) q: Tensor,
    pub(crate) k: Tensor,
    pub(crate) v: Tensor,
    pub(crate) scale: f32,
    /// In the order of declaration.
    pub(crate) parameters: Vec<Tensor>,
    /// The named run-time lengths, in the order of the definition.
    pub(crate) sizes: Vec<usize>,
    /// Where the sequences of a packed batch begin.
    pub(crate) packing: Option<Packing>,
    /// What `b` is in the first entry of the batch: the number of the sequence where a call is one of a packed batch, else 0.
    pub(crate) first_batch: usize,
    /// Whether a backward pass may follow a forward pass.
    pub(crate) gradients: bool,
}

/// The checked arguments that a backward pass takes beside those of the forward pass.
#[derive(Clone, Debug)]
pub(crate) struct BackwardCall {
    pub(crate) call: Call,
    pub(crate) output: Tensor,
    pub(crate) output_grad: Tensor,
    /// f32 `[b, h, q]`.
    pub(crate) statistic_grad: Option<Tensor>,
    /// What the forward pass saved: f32 `[b, h, q]` each.
    pub(crate) saved: Vec<Tensor>,
    /// The second output, where the variant has one: `[b, h, q, dv]`.
    pub(crate) second: Option<Tensor>,
}

fn check_tensor(name: &str, tensor: &Tensor, axes: &'static str, location: Location) -> Result<(), ArgumentError> {
    let shape = tensor.shape().to_vec();
    if shape.len() != axes.split(", ").count() {
        return Err(ArgumentError::Rank { tensor: name.into(), rank: shape.len(), shape, axes });
    }
    check_layout(name, tensor, location)
}

fn check_layout(name: &str, tensor: &Tensor, location: Location) -> Result<(), ArgumentError> {
    let tensor_name = || name.to_owned();
    let shape = tensor.shape().to_vec();
    if tensor.location() != location {
        let (location, needed) = (tensor.location(), location);
        return Err(ArgumentError::Location { tensor: tensor_name(), location, needed });
    }
    if let Some(axis) = shape.iter().position(|&extent| extent >= EXTENT_LIMIT) {
        return Err(ArgumentError::TooLong { tensor: tensor_name(), axis, extent: shape[axis] });
    }
    if !tensor.last_axis_is_contiguous() {
        let stride = tensor.strides().last().copied().unwrap_or(1);
        return Err(ArgumentError::Stride { tensor: tensor_name(), stride, shape });
    }
    Ok(())
}

fn check_dtype(name: &str, tensor: &Tensor, needed: DType, why: &str) -> Result<(), ArgumentError> {
    if tensor.dtype() == needed {
        return Ok(());
    }
    Err(ArgumentError::DType { tensor: name.into(), dtype: tensor.dtype(), needed: format!("{needed}{why}") })
}

/// Asserts the extent of one axis; `why` says where the number comes from.
fn check_extent(
    name: &str,
    tensor: &Tensor,
    axis: usize,
    axis_name: &str,
    needed: usize,
    why: &str,
) -> Result<(), ArgumentError> {
    if tensor.shape()[axis] == needed {
        return Ok(());
    }
    Err(wrong_extent(name, tensor, axis, axis_name, format!("{needed} ({why})")))
}

/// The same where more will do: axes of positions in a packed batch serve sequences of all lengths.
fn check_least(
    name: &str,
    tensor: &Tensor,
    axis: usize,
    axis_name: &str,
    needed: usize,
    why: &str,
) -> Result<(), ArgumentError> {
    if tensor.shape()[axis] >= needed {
        return Ok(());
    }
    Err(wrong_extent(name, tensor, axis, axis_name, format!("{needed} or more ({why})")))
}

fn empty_axis(name: &str, tensor: &Tensor, axis: usize, axis_name: &str) -> ArgumentError {
    wrong_extent(name, tensor, axis, axis_name, "1 or more".into())
}

fn wrong_extent(name: &str, tensor: &Tensor, axis: usize, axis_name: &str, needed: String) -> ArgumentError {
    let shape = tensor.shape().to_vec();
    let extent = shape[axis];
    ArgumentError::Extent { tensor: name.into(), axis, axis_name: axis_name.into(), extent, needed, shape }
}

impl Call {
    /// Checks the arguments of a forward pass for execution at `location`: of a packed batch where its sequences are given.
    pub(crate) fn new(
        definition: &Definition,
        scale: Option<f32>,
        location: Location,
        [q, k, v]: [&Tensor; 3],
        parameters: &Parameters,
        packing: Option<&Packing>,
    ) -> Result<Call, ArgumentError> {
        check_tensor("q", q, "b, h, q, d", location)?;
        check_tensor("k", k, "b, h_kv, kv, d", location)?;
        check_tensor("v", v, "b, h_kv, kv, dv", location)?;
        if !q.dtype().is_float() {
            let needed = "f32, f16 or bf16".to_owned();
            return Err(ArgumentError::DType { tensor: "q".into(), dtype: q.dtype(), needed });
        }
        check_dtype("k", k, q.dtype(), ", the type of q,")?;
        check_dtype("v", v, q.dtype(), ", the type of q,")?;
        check_extent("k", k, 0, "b", q.shape()[0], "that of q")?;
        check_extent("v", v, 0, "b", q.shape()[0], "that of q")?;
        check_extent("v", v, 1, "h_kv", k.shape()[1], "that of k")?;
        check_extent("v", v, 2, "kv", k.shape()[2], "that of k")?;
        check_extent("k", k, 3, "d", q.shape()[3], "that of q")?;
        for (name, tensor) in [("q", q), ("v", v)] {
            if tensor.shape()[3] == 0 {
                return Err(empty_axis(name, tensor, 3, "d"));
            }
        }
        let (heads, kv_heads) = (q.shape()[1], k.shape()[1]);
        if (kv_heads == 0 && heads != 0) || (kv_heads != 0 && heads % kv_heads != 0) {
            return Err(ArgumentError::Group { heads, kv_heads });
        }
        packing.map_or(Ok(()), |packing| packing.check(q, k))?;
        let problem = Problem {
            dtype: q.dtype(),
            batch: q.shape()[0],
            heads,
            kv_heads,
            q_len: q.shape()[2],
            kv_len: k.shape()[2],
            head_dim: q.shape()[3],
            value_dim: v.shape()[3],
            packing: packing.map(Packing::lengths),
        };
        let scale = scale.unwrap_or((1.0 / (problem.head_dim as f64).sqrt()) as f32);
        check_scale(scale)?;
        let (parameters, sizes) = check_parameters(definition, &problem, location, parameters)?;
        let (q, k, v, packing) = (q.clone(), k.clone(), v.clone(), packing.cloned());
        Ok(Call { problem, q, k, v, scale, parameters, sizes, packing, first_batch: 0, gradients: true })
    }
}

/// A scale is finite and above 0, so that lowering may move it through maxima.
pub(crate) fn check_scale(scale: f32) -> Result<(), ArgumentError> {
    if scale.is_finite() && scale > 0.0 { Ok(()) } else { Err(ArgumentError::Scale { scale }) }
}

impl BackwardCall {
    /// Checks what a backward pass takes beside the arguments of the forward pass.
    pub(crate) fn new(
        definition: &Definition,
        call: Call,
        location: Location,
        output_grad: &Tensor,
        statistic: (bool, Option<&Tensor>),
        (saved, has_second): (usize, bool),
        forward: &Output,
    ) -> Result<BackwardCall, ArgumentError> {
        let Output { output, saved: given, second, .. } = forward;
        let shape = call.problem.output_shape();
        for (name, tensor) in [("output", output), ("output_grad", output_grad)] {
            check_tensor(name, tensor, "b, h, q, dv", location)?;
            check_dtype(name, tensor, call.problem.dtype, ", the type of q, k and v,")?;
            for (axis, axis_name) in ["b", "h", "q", "dv"].into_iter().enumerate() {
                check_extent(name, tensor, axis, axis_name, shape[axis], "that of the output of these q, k and v")?;
            }
        }
        let (has_statistic, statistic_grad) = statistic;
        if let Some(tensor) = statistic_grad {
            if !has_statistic {
                return Err(ArgumentError::NoStatistic { variant: definition.name.clone() });
            }
            check_row("statistic_grad", tensor, &call.problem, location)?;
        }
        if given.len() != saved {
            return Err(ArgumentError::Saved { given: given.len(), needed: saved });
        }
        if has_second && second.is_none() {
            return Err(ArgumentError::NoGradients);
        }
        for tensor in given {
            check_row("output.saved", tensor, &call.problem, location)?;
        }
        Ok(BackwardCall {
            call,
            output: output.clone(),
            output_grad: output_grad.clone(),
            statistic_grad: statistic_grad.cloned(),
            saved: given.clone(),
            second: second.clone(),
        })
    }
}

fn check_row(name: &str, tensor: &Tensor, problem: &Problem, location: Location) -> Result<(), ArgumentError> {
    check_tensor(name, tensor, "b, h, q", location)?;
    check_dtype(name, tensor, DType::F32, "")?;
    for (axis, axis_name) in ["b", "h", "q"].into_iter().enumerate() {
        check_extent(name, tensor, axis, axis_name, problem.row_shape()[axis], "that of q")?;
    }
    Ok(())
}

/// Checks a state: f32 `[b, h, d, dv]`, or a column more; returns it row by row.
pub(crate) fn check_state(
    name: &str,
    tensor: &Tensor,
    shape: [usize; 4],
    location: Location,
) -> Result<Tensor, ArgumentError> {
    check_tensor(name, tensor, "b, h, d, dv", location)?;
    check_dtype(name, tensor, DType::F32, "")?;
    for (axis, axis_name) in ["b", "h", "d", "dv"].into_iter().enumerate() {
        let why = if axis == 3 { "that of v, and one for a normalizer's sum" } else { "that of q" };
        check_extent(name, tensor, axis, axis_name, shape[axis], why)?;
    }
    Ok(tensor.clone())
}

/// The declared type of a parameter, as the user wrote it: `f32[h, 32]`.
fn declared(definition: &Definition, index: usize) -> String {
    let parameter = &definition.parameters[index];
    let dtype = dtype_of(parameter.ty);
    if parameter.axes.is_empty() {
        return dtype.to_string();
    }
    let axes: Vec<String> = parameter.axes.iter().map(|axis| axis_name(definition, axis)).collect();
    format!("{dtype}[{}]", axes.join(", "))
}

fn axis_name(definition: &Definition, axis: &Axis) -> String {
    match axis {
        Axis::Batch => "b".into(),
        Axis::Head => "h".into(),
        Axis::Query => "q".into(),
        Axis::Key => "kv".into(),
        Axis::Fixed(n) => n.to_string(),
        Axis::Named(id) => definition.sizes[id.0 as usize].clone(),
    }
}

/// The parameters in the order of declaration, and the named lengths that they define.
fn check_parameters(
    definition: &Definition,
    problem: &Problem,
    location: Location,
    given: &Parameters,
) -> Result<(Vec<Tensor>, Vec<usize>), ArgumentError> {
    if let Some((name, _)) = given.iter().find(|(name, _)| definition.parameters.iter().all(|p| p.name != *name)) {
        let known: Vec<String> = definition.parameters.iter().map(|p| p.name.clone()).collect();
        return Err(ArgumentError::UnknownParameter { name: name.into(), nearest: nearest(name, &known), known });
    }
    let mut sizes: Vec<Option<(usize, String)>> = vec![None; definition.sizes.len()];
    let mut tensors = Vec::with_capacity(definition.parameters.len());
    for (index, parameter) in definition.parameters.iter().enumerate() {
        let ty = declared(definition, index);
        let name = &parameter.name;
        let Some(tensor) = given.get(name) else {
            return Err(ArgumentError::MissingParameter { name: name.clone(), ty });
        };
        check_dtype(name, tensor, dtype_of(parameter.ty), &format!(" (declared as {ty})"))?;
        let shape = tensor.shape().to_vec();
        if shape.len() != parameter.axes.len() {
            let (rank, needed) = (shape.len(), parameter.axes.len());
            return Err(ArgumentError::ParameterRank { name: name.clone(), rank, shape, ty, needed });
        }
        check_layout(name, tensor, location)?;
        for (axis, declared_axis) in parameter.axes.iter().enumerate() {
            let axis_name = axis_name(definition, declared_axis);
            let extent = shape[axis];
            let check = |needed, why: &str| check_extent(name, tensor, axis, &axis_name, needed, why);
            let at_least = |needed, why: &str| check_least(name, tensor, axis, &axis_name, needed, why);
            match (declared_axis, problem.packing) {
                (Axis::Batch | Axis::Head, _) if extent == 1 => {}
                (Axis::Batch, Some(packing)) => check(packing.sequences, "the number of sequences, or 1 for all")?,
                (Axis::Batch, None) => check(problem.batch, "the batch of q, or 1 for all")?,
                (Axis::Head, _) => check(problem.heads, "the heads of q, or 1 for all")?,
                (Axis::Query, Some(packing)) => at_least(packing.max_seqlen_q, "the longest sequence of q")?,
                (Axis::Query, None) => check(problem.q_len, "the length of q")?,
                (Axis::Key, Some(packing)) => at_least(packing.max_seqlen_kv, "the longest sequence of k")?,
                (Axis::Key, None) => check(problem.kv_len, "the length of k")?,
                (Axis::Fixed(n), _) => check(*n as usize, "as declared")?,
                (Axis::Named(id), _) => match &sizes[id.0 as usize] {
                    Some((size, owner)) => check(*size, &format!("that of parameter `{owner}`"))?,
                    None if extent == 0 => return Err(empty_axis(name, tensor, axis, &axis_name)),
                    None => sizes[id.0 as usize] = Some((extent, name.clone())),
                },
            }
        }
        tensors.push(tensor.clone());
    }
    // A size that no parameter carries cannot be written in the language.
    let sizes = sizes.into_iter().map(|size| size.map_or(1, |(extent, _)| extent)).collect();
    Ok((tensors, sizes))
}

/// The known name closest to a wrong one, if it is close.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    let distance = |other: &str| strsim::levenshtein(&name.to_lowercase(), &other.to_lowercase());
    let best = known.iter().min_by_key(|other| distance(other))?;
    (distance(best) <= 2.max(name.len() / 3)).then(|| best.clone())
}
