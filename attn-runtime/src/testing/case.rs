//! Cases: a shape, a type and a seed, from which all arguments of a call follow.

use std::fmt;

use attn_dsl::definition::{Axis, Definition, Parameter};

use super::random::Random;
use crate::call::EXTENT_LIMIT;
use crate::parameter::{Parameters, dtype_of};
use crate::tensor::{DType, Tensor, TensorError};

/// The extents of a call. In a packed case `batch`, `q_len` and `kv_len` follow from its sequences and are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are those of the axes")]
pub struct Shape {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub q_len: usize,
    pub kv_len: usize,
    pub head_dim: usize,
    pub value_dim: usize,
}

/// A call to test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Case {
    /// The extents.
    pub shape: Shape,
    /// The type of q, k and v.
    pub dtype: DType,
    /// Decides all values.
    pub seed: u64,
    /// Whether q, k, v and the output's gradient are laid out `[b, n, h, d]` and padded, as models keep them.
    pub strided: bool,
    /// Whether parameters with a batch or head axis have one entry for all of it.
    pub broadcast: bool,
    /// The deviation of q and k; scores have about this deviation squared.
    pub spread: f64,
    /// The numbers of queries and of keys of each sequence of a packed batch.
    pub packed: Option<&'static [[usize; 2]]>,
}

impl Default for Case {
    fn default() -> Self {
        let shape = Shape { batch: 2, heads: 4, kv_heads: 2, q_len: 75, kv_len: 83, head_dim: 24, value_dim: 16 };
        Case { shape, dtype: DType::F32, seed: 1, strided: true, broadcast: false, spread: 1.0, packed: None }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim } = self.extents();
        write!(f, "{} b{batch} h{heads}/{kv_heads} q{q_len} kv{kv_len} d{head_dim}/{value_dim}", self.dtype)?;
        if let Some(sequences) = self.packed {
            write!(f, " packed {}", sequences.len())?;
        }
        write!(f, "{}", if self.strided { " strided" } else { "" })?;
        write!(f, "{} seed {}", if self.broadcast { " broadcast" } else { "" }, self.seed)
    }
}

/// The arguments of a forward and a backward pass.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are those of the arguments")]
pub struct Arguments {
    pub q: Tensor,
    pub k: Tensor,
    pub v: Tensor,
    pub parameters: Parameters,
    pub output_grad: Tensor,
    /// Of the statistic, where the variant has one.
    pub statistic_grad: Option<Tensor>,
    /// Of q and of k and v, where the batch is packed: see [`crate::Attention::packed`].
    pub cu_seqlens: Option<[Tensor; 2]>,
}

impl Case {
    /// The arguments of the case for a variant.
    ///
    /// Learnable and constant floats are drawn from 0.5..1.5, so that they serve as a temperature, a cap or a bias; integers are
    /// small and rise along their last axis, as document ids do; in a table of two computed axes, as one of blocks is, a third are 0
    /// and the others 1.
    pub fn arguments(&self, definition: &Definition) -> Result<Arguments, TensorError> {
        let Shape { batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim } = self.extents();
        let mut random = Random::new(self.seed);
        let q = self.tensor(&mut random, [batch, heads, q_len, head_dim], self.spread)?;
        let k = self.tensor(&mut random, [batch, kv_heads, kv_len, head_dim], self.spread)?;
        let v = self.tensor(&mut random, [batch, kv_heads, kv_len, value_dim], 1.0)?;
        let output_grad = self.tensor(&mut random, [batch, heads, q_len, value_dim], 1.0)?;
        let statistic_grad = match crate::oracle::statistic_kind(definition) {
            Some(_) => Some(random.normal_tensor(DType::F32, &[batch, heads, q_len])?),
            None => None,
        };
        let mut parameters = Parameters::new();
        for parameter in &definition.parameters {
            let shape: Vec<usize> = parameter.axes.iter().map(|axis| self.extent(axis)).collect();
            parameters.insert(parameter.name.clone(), draw(&mut random, parameter, &shape)?);
        }
        let cu_seqlens = self.packed.map(|sequences| [0, 1].map(|side| cu_seqlens(sequences, side)));
        let cu_seqlens = match cu_seqlens {
            Some([q, kv]) => Some([q?, kv?]),
            None => None,
        };
        Ok(Arguments { q, k, v, parameters, output_grad, statistic_grad, cu_seqlens })
    }

    /// The extents of the tensors.
    fn extents(&self) -> Shape {
        let Some(sequences) = self.packed else { return self.shape };
        let total = |side: usize| sequences.iter().map(|lengths| lengths[side]).sum();
        Shape { batch: 1, q_len: total(0), kv_len: total(1), ..self.shape }
    }

    /// The most queries and keys that one row of the batch has: what parameters with axes of positions need.
    pub fn longest(&self) -> [usize; 2] {
        let Some(sequences) = self.packed else { return [self.shape.q_len, self.shape.kv_len] };
        [0, 1].map(|side| sequences.iter().map(|lengths| lengths[side]).max().unwrap_or(0))
    }

    fn extent(&self, axis: &Axis) -> usize {
        let one = |extent| if self.broadcast { 1 } else { extent };
        // a packed batch may have parameters that are longer than its longest sequence
        let beyond = if self.packed.is_some() { 3 * (self.seed % 2) as usize } else { 0 };
        match axis {
            Axis::Batch => one(self.packed.map_or(self.shape.batch, <[_]>::len)),
            Axis::Head => one(self.shape.heads),
            Axis::Query => self.longest()[0] + beyond,
            Axis::Key => self.longest()[1] + beyond,
            Axis::Fixed(n) => *n as usize,
            // Odd, and longer for some sizes than for others.
            Axis::Named(id) => 5 + 2 * id.0 as usize,
        }
    }

    fn tensor(&self, random: &mut Random, shape: [usize; 4], spread: f64) -> Result<Tensor, TensorError> {
        let values: Vec<f64> = (0..shape.iter().product()).map(|_| spread * random.normal()).collect();
        let tensor = Tensor::from_f64(self.dtype, &shape, &values)?;
        if self.strided { strided(&tensor) } else { Ok(tensor) }
    }
}

/// The rows before each sequence, then all.
fn cu_seqlens(sequences: &[[usize; 2]], side: usize) -> Result<Tensor, TensorError> {
    let mut starts = vec![0];
    for lengths in sequences {
        let rows = i32::try_from(lengths[side]).expect("the lengths of a test are below 2^24");
        starts.push(starts[starts.len() - 1] + rows);
    }
    Tensor::from_i32(&[starts.len()], starts)
}

/// The same values, laid out `[b, n, h, d + 3]`, between poison that no kernel may read.
fn strided(tensor: &Tensor) -> Result<Tensor, TensorError> {
    let [b, h, n, d] = [0, 1, 2, 3].map(|axis| tensor.shape()[axis]);
    let inner = tensor.transpose(1, 2)?.to_f64_vec()?;
    let poison = [f64::NAN; 3];
    let padded: Vec<f64> = inner.chunks(d.max(1)).flat_map(|row| row.iter().chain(&poison).copied()).collect();
    let outer = Tensor::from_f64(tensor.dtype(), &[b, n, h, d + 3], &padded)?;
    outer.narrow(3, 0, d)?.transpose(1, 2)
}

fn draw(random: &mut Random, parameter: &Parameter, shape: &[usize]) -> Result<Tensor, TensorError> {
    let dtype = dtype_of(parameter.ty);
    if dtype != DType::I32 {
        return random.uniform_tensor(dtype, shape, 0.5, 1.5);
    }
    let count: usize = shape.iter().product();
    let is_computed = |axis: &&Axis| matches!(axis, Axis::Fixed(_) | Axis::Named(_));
    if parameter.axes.iter().filter(is_computed).count() > 1 {
        return Tensor::from_i32(shape, (0..count).map(|_| i32::from(random.below(3) > 0)).collect());
    }
    let row = shape.last().copied().unwrap_or(1).clamp(1, EXTENT_LIMIT);
    let mut value = 0;
    let values = (0..count).map(|at| {
        value = if at % row == 0 { 0 } else { value + i32::from(random.below(6) == 0) };
        value
    });
    Tensor::from_i32(shape, values.collect())
}
