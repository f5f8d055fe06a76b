//! Packed batches: sequences of different lengths one after the other, without padding.
//!
//! A packed call has a batch of 1: its queries are those of all sequences in order, and so are its keys. Every sequence is an attention
//! of its own, in which `b` is its number and positions are counted from its first row.
//!
//! Invariants of a [`Packing`]: both lists have one entry more than there are sequences, at least one, begin with 0 and never fall;
//! the host knows them, and the device has them as well.

use std::ops::Range;
use std::sync::Arc;

use attn_dsl::definition::{Axis, Definition};

use crate::attention::{Gradients, Output};
use crate::call::{ArgumentError, BackwardCall, Call, Problem};
use crate::device::Device;
use crate::error::Error;
use crate::parameter::Parameters;
use crate::tensor::{DType, Tensor, TensorError};

/// The lengths of a packed call, beside those of its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PackedLengths {
    pub(crate) sequences: usize,
    /// The queries of the longest sequence.
    pub(crate) max_seqlen_q: usize,
    /// The keys of the longest sequence.
    pub(crate) max_seqlen_kv: usize,
}

/// Where the sequences of a packed batch begin.
#[derive(Clone, Debug)]
pub(crate) struct Packing {
    /// Of queries and of keys: where each sequence begins, then where the last one ends.
    starts: [Arc<[usize]>; 2],
    /// The same, i32 `[sequences + 1]`, on the attention's device.
    pub(crate) cu_seqlens_q: Tensor,
    pub(crate) cu_seqlens_kv: Tensor,
}

/// The entries of one list, checked.
fn starts(name: &'static str, tensor: &Tensor) -> Result<Arc<[usize]>, Error> {
    let shape = tensor.shape().to_vec();
    if tensor.dtype() != DType::I32 {
        let needed = "i32".to_owned();
        return Err(ArgumentError::DType { tensor: name.into(), dtype: tensor.dtype(), needed }.into());
    }
    if shape.len() != 1 {
        let (rank, axes) = (shape.len(), "sequences + 1");
        return Err(ArgumentError::Rank { tensor: name.into(), rank, shape, axes }.into());
    }
    let values: Vec<i32> = tensor.to_host()?.to_elements()?;
    if values.first() != Some(&0) {
        return Err(ArgumentError::FirstStart { tensor: name, first: values.first().copied() }.into());
    }
    if let Some(at) = values.windows(2).position(|pair| pair[1] < pair[0]) {
        let (start, end) = (values[at], values[at + 1]);
        return Err(ArgumentError::FallingStarts { tensor: name, sequence: at, start, end }.into());
    }
    Ok(values.into_iter().map(|value| value as usize).collect())
}

impl Packing {
    /// Checks both lists and brings them to the device. Reads them, and so waits for the device where they are on one.
    pub(crate) fn new(cu_seqlens_q: &Tensor, cu_seqlens_kv: &Tensor, device: &Device) -> Result<Packing, Error> {
        let named = [("cu_seqlens_q", cu_seqlens_q), ("cu_seqlens_kv", cu_seqlens_kv)];
        let [q, kv] = named.map(|(name, tensor)| starts(name, tensor));
        let starts = [q?, kv?];
        let [q_entries, kv_entries] = [starts[0].len(), starts[1].len()];
        if q_entries != kv_entries {
            return Err(ArgumentError::SequenceCount { q_entries, kv_entries }.into());
        }
        let [q, kv] = named.map(|(name, tensor)| tensor.to_device_as(device, name)?.to_contiguous());
        Ok(Packing { starts, cu_seqlens_q: q?, cu_seqlens_kv: kv? })
    }

    pub(crate) fn sequences(&self) -> usize {
        self.starts[0].len() - 1
    }

    pub(crate) fn lengths(&self) -> PackedLengths {
        let [max_seqlen_q, max_seqlen_kv] = [0, 1].map(|side| {
            let pairs = self.starts[side].windows(2);
            pairs.map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
        });
        PackedLengths { sequences: self.sequences(), max_seqlen_q, max_seqlen_kv }
    }

    /// The sequences that executors of the host run: a batch without any is one of no rows, so that its results have their kind.
    pub(crate) fn runs(&self) -> Range<usize> {
        0..self.sequences().max(1)
    }

    /// The rows of a sequence among those of q.
    pub(crate) fn queries(&self, sequence: usize) -> Range<usize> {
        self.rows(0, sequence)
    }

    /// The rows of a sequence among those of k and v.
    pub(crate) fn keys(&self, sequence: usize) -> Range<usize> {
        self.rows(1, sequence)
    }

    fn rows(&self, side: usize, sequence: usize) -> Range<usize> {
        let starts = &self.starts[side];
        starts[sequence]..starts[(sequence + 1).min(self.sequences())]
    }

    /// Checks that the sequences are those of q and k.
    pub(crate) fn check(&self, q: &Tensor, k: &Tensor) -> Result<(), ArgumentError> {
        let batch = q.shape()[0];
        if batch != 1 {
            return Err(ArgumentError::Extent {
                tensor: "q".into(),
                axis: 0,
                axis_name: "b".into(),
                extent: batch,
                needed: "1 (the sequences of a packed batch follow each other along axis 2)".into(),
                shape: q.shape().to_vec(),
            });
        }
        for (name, starts, of, tensor) in
            [("cu_seqlens_q", &self.starts[0], "q", q), ("cu_seqlens_kv", &self.starts[1], "k", k)]
        {
            let (end, rows) = (starts[starts.len() - 1], tensor.shape()[2]);
            if end != rows {
                return Err(ArgumentError::LastStart { tensor: name, end, of, rows });
            }
        }
        Ok(())
    }
}

/// The part of a tensor that belongs to rows along an axis.
fn rows(tensor: &Tensor, axis: usize, range: &Range<usize>) -> Result<Tensor, TensorError> {
    tensor.narrow(axis, range.start, range.len())
}

impl Call {
    /// The call of one sequence of a packed call, which is not packed. Parameters keep their axis of batches, where the sequence finds
    /// its entry by its number; along axes of queries and keys they lose what is beyond its lengths.
    pub(crate) fn sequence(
        &self,
        definition: &Definition,
        packing: &Packing,
        sequence: usize,
    ) -> Result<Call, TensorError> {
        let (queries, keys) = (packing.queries(sequence), packing.keys(sequence));
        let parameters = definition.parameters.iter().zip(&self.parameters).map(|(declared, tensor)| {
            let axes = declared.axes.iter().enumerate();
            axes.into_iter().try_fold(tensor.clone(), |tensor, (at, axis)| match axis {
                Axis::Query => tensor.narrow(at, 0, queries.len()),
                Axis::Key => tensor.narrow(at, 0, keys.len()),
                Axis::Batch | Axis::Head | Axis::Fixed(_) | Axis::Named(_) => Ok(tensor),
            })
        });
        Ok(Call {
            problem: Problem { q_len: queries.len(), kv_len: keys.len(), packing: None, ..self.problem },
            q: rows(&self.q, 2, &queries)?,
            k: rows(&self.k, 2, &keys)?,
            v: rows(&self.v, 2, &keys)?,
            parameters: parameters.collect::<Result<_, _>>()?,
            packing: None,
            first_batch: sequence,
            ..self.clone()
        })
    }
}

impl BackwardCall {
    /// The same of a sequence of a packed backward pass.
    fn sequence(&self, definition: &Definition, packing: &Packing, sequence: usize) -> Result<Self, TensorError> {
        let queries = packing.queries(sequence);
        let row = |tensor: &Tensor| rows(tensor, 2, &queries);
        Ok(BackwardCall {
            call: self.call.sequence(definition, packing, sequence)?,
            output: row(&self.output)?,
            output_grad: row(&self.output_grad)?,
            statistic_grad: self.statistic_grad.as_ref().map(row).transpose()?,
            saved: self.saved.iter().map(row).collect::<Result<_, _>>()?,
            second: self.second.as_ref().map(row).transpose()?,
        })
    }
}

/// Host tensors `[1, h, rows]` or `[1, h, rows, d]` one after the other along their rows.
fn concatenated(dtype: DType, shape: &[usize], parts: &[Tensor]) -> Result<Tensor, TensorError> {
    let mut bytes = Vec::with_capacity(shape.iter().product::<usize>() * dtype.size());
    for head in 0..shape[1] {
        for part in parts {
            bytes.extend(part.narrow(1, head, 1)?.to_bytes()?);
        }
    }
    Tensor::from_bytes(dtype, shape, &bytes)
}

/// Adds an array to the corner of one that is as long or longer along every axis, both in row-major order.
pub(crate) fn add_corner(sum: &mut [f64], shape: &[usize], part: &[f64], part_shape: &[usize]) {
    for (at, value) in part.iter().enumerate() {
        let (mut rest, mut position, mut stride) = (at, 0, 1);
        for (&extent, &part_extent) in shape.iter().zip(part_shape).rev() {
            position += rest % part_extent * stride;
            rest /= part_extent;
            stride *= extent;
        }
        sum[position] += value;
    }
}

/// The forward pass of a packed call on the host, sequence by sequence.
pub(crate) fn forward(
    definition: &Definition,
    call: &Call,
    packing: &Packing,
    run: impl Fn(&Call) -> Result<Output, Error>,
) -> Result<Output, Error> {
    let outputs = packing.runs().map(|sequence| run(&call.sequence(definition, packing, sequence)?));
    let outputs: Vec<Output> = outputs.collect::<Result<_, Error>>()?;
    let problem = &call.problem;
    let rows = |parts: Vec<Tensor>| concatenated(DType::F32, &problem.row_shape(), &parts);
    let statistic: Option<Vec<Tensor>> = outputs.iter().map(|output| output.statistic.clone()).collect();
    let saved = (0..outputs[0].saved.len()).map(|at| rows(outputs.iter().map(|o| o.saved[at].clone()).collect()));
    let whole = |parts: Vec<Tensor>| concatenated(problem.dtype, &problem.output_shape(), &parts);
    let second: Option<Vec<Tensor>> = outputs.iter().map(|output| output.second.clone()).collect();
    Ok(Output {
        output: whole(outputs.iter().map(|output| output.output.clone()).collect())?,
        second: second.map(whole).transpose()?,
        statistic: statistic.map(rows).transpose()?,
        saved: saved.collect::<Result<_, _>>()?,
    })
}

/// The backward pass of a packed call on the host, sequence by sequence.
pub(crate) fn backward(
    definition: &Definition,
    backward: &BackwardCall,
    packing: &Packing,
    run: impl Fn(&BackwardCall) -> Result<Gradients, Error>,
) -> Result<Gradients, Error> {
    let call = &backward.call;
    let mut sums: Vec<Vec<f64>> = call.parameters.iter().map(|tensor| vec![0.0; tensor.element_count()]).collect();
    let [mut q, mut k, mut v] = [vec![], vec![], vec![]];
    // one after the other: what each adds to parameters may be as large as they are
    for sequence in packing.runs() {
        let gradients = run(&backward.sequence(definition, packing, sequence)?)?;
        for ((declared, sum), of) in definition.parameters.iter().zip(&mut sums).zip(&call.parameters) {
            if let Some(part) = gradients.parameters.get(&declared.name) {
                add_corner(sum, of.shape(), &part.to_f64_vec()?, part.shape());
            }
        }
        q.push(gradients.q);
        k.push(gradients.k);
        v.push(gradients.v);
    }
    let mut parameters = Parameters::new();
    for ((declared, sum), of) in definition.parameters.iter().zip(&sums).zip(&call.parameters) {
        if declared.learnable {
            parameters.insert(declared.name.clone(), Tensor::from_f64(DType::F32, of.shape(), sum)?);
        }
    }
    let like = |tensor: &Tensor, parts: &[Tensor]| concatenated(tensor.dtype(), tensor.shape(), parts);
    Ok(Gradients { q: like(&call.q, &q)?, k: like(&call.k, &k)?, v: like(&call.v, &v)?, parameters })
}
