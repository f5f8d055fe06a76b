//! What all tasks of a call share: views of the tensors, the launch's scalars, positions.

use crate::call::{Call, Problem};
use crate::tensor::{HostBuffer, TensorError};

use super::evaluate::{Inputs, Launch, ParameterValues, ParameterView, RowInputs};
use super::extremes::AxisExtremes;
use super::mask::{MaskProgram, MaskTile};
use super::matrix::HeadRows;
use super::{COLUMNS, CpuExecutor, ROWS};

/// A call's arguments as the tasks see them.
pub(super) struct Context<'a> {
    pub(super) executor: &'a CpuExecutor,
    pub(super) problem: Problem,
    pub(super) launch: Launch<'a>,
    pub(super) q: HeadRows<'a>,
    pub(super) k: HeadRows<'a>,
    pub(super) v: HeadRows<'a>,
    first_batch: usize,
    /// 0, 1, 2, ...: positions are slices of it.
    positions: Vec<i32>,
}

/// Query rows `start..start + rows` of one batch and query head.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowTile {
    pub(super) batch: usize,
    pub(super) head: usize,
    pub(super) start: usize,
    pub(super) rows: usize,
}

/// The ranges of a length in steps.
pub(super) fn ranges(len: usize, step: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(step).map(move |start| (start, step.min(len - start)))
}

impl<'a> Context<'a> {
    pub(super) fn new(executor: &'a CpuExecutor, call: &'a Call) -> Result<Self, TensorError> {
        let problem = call.problem;
        let parameters = call.parameters.iter().map(|tensor| {
            let values = match tensor.host()? {
                HostBuffer::I32(values) => ParameterValues::Int(values),
                HostBuffer::F32(values) => ParameterValues::Float(values),
                HostBuffer::F16(_) | HostBuffer::BF16(_) => {
                    unreachable!("the call was checked: parameters are f32 or i32")
                }
            };
            Ok(ParameterView { values, shape: tensor.shape(), strides: tensor.strides(), offset: tensor.offset() })
        });
        let parameters = parameters.collect::<Result<Vec<ParameterView<'_>>, TensorError>>()?;
        let ranges = executor.mask.iter().flat_map(MaskProgram::ranges);
        let extremes = ranges.map(|(parameter, axis)| AxisExtremes::new(parameter, axis, &parameters[parameter]));
        let launch = Launch {
            scale: call.scale,
            head_dim: problem.head_dim,
            q_len: problem.q_len,
            kv_len: problem.kv_len,
            sizes: &call.sizes,
            extremes: extremes.collect(),
            parameters,
        };
        let longest = problem.q_len.max(problem.kv_len) as i32;
        Ok(Context {
            executor,
            problem,
            launch,
            q: HeadRows::new(&call.q)?,
            k: HeadRows::new(&call.k)?,
            v: HeadRows::new(&call.v)?,
            first_batch: call.first_batch,
            positions: (0..longest).collect(),
        })
    }

    /// All row tiles, in the order of the rows.
    pub(super) fn row_tiles(&self) -> Vec<RowTile> {
        let p = &self.problem;
        let heads = (0..p.batch).flat_map(|batch| (0..p.heads).map(move |head| (batch, head)));
        heads
            .flat_map(|(batch, head)| {
                ranges(p.q_len, ROWS).map(move |(start, rows)| RowTile { batch, head, start, rows })
            })
            .collect()
    }

    /// The position of a tile's first row among all rows.
    pub(super) fn row_base(&self, tile: RowTile) -> usize {
        (tile.batch * self.problem.heads + tile.head) * self.problem.q_len + tile.start
    }

    /// What `b` is in a tile.
    pub(super) fn batch_number(&self, tile: RowTile) -> usize {
        self.first_batch + tile.batch
    }

    /// The head of k and v that a query head reads.
    pub(super) fn kv_head(&self, head: usize) -> usize {
        head / self.problem.group()
    }

    /// The inputs of a tile, without products.
    pub(super) fn inputs<'b>(&'b self, tile: RowTile, keys: (usize, usize), rows: RowInputs<'b>) -> Inputs<'b> {
        Inputs {
            launch: &self.launch,
            batch: self.batch_number(tile),
            head: tile.head,
            queries: &self.positions[tile.start..][..tile.rows],
            keys: &self.positions[keys.0..][..keys.1],
            product: &[],
            output_grad_product: &[],
            rows,
        }
    }

    /// The number of live keys of each row.
    pub(super) fn count_live(&self, tile: RowTile, mask: &mut MaskTile<'_>) -> Vec<i32> {
        let mut counts = vec![0; tile.rows];
        for keys in ranges(self.problem.kv_len, COLUMNS) {
            let coverage = mask.cover(&self.inputs(tile, keys, RowInputs::default()));
            mask.count(coverage, keys.1, &mut counts);
        }
        counts
    }
}
