//! Gradients of parameters: what each contribution is added to, deterministically.
//!
//! A task of the query pass adds its rows' contributions to a partial array of its own; partial arrays are added to the
//! total in the order of the tasks. Along an axis that is indexed by exactly the batch, the head or the query position a partial
//! array holds only what its task can reach, so that it stays small: one element for a slope per head, the task's rows of a
//! dense bias.

use attn_dsl::definition::Axis;
use attn_dsl::ir::{Input, NodeId, Op};
use attn_dsl::lower::Lowered;

use super::context::{Context, RowTile};
use super::evaluate::{Inputs, ParameterView, Registers, clamp_index};
use super::math;
use super::program::{Program, Stage};

/// How much of an axis a task reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The entry of its batch.
    Batch,
    /// The entry of its head.
    Head,
    /// The entries of its rows.
    Rows,
    /// Any entry.
    All,
}

/// One contribution: the position of its value among a program's roots and of the indices of its `All` axes behind it.
#[derive(Debug)]
struct Contribution {
    /// Which of [`GradientPlan::targets`].
    target: usize,
    root: usize,
}

/// A learnable parameter.
#[derive(Debug)]
struct Target {
    /// Its position in the definition.
    parameter: usize,
    reach: Vec<Reach>,
}

/// The programs of the query pass and where their results go.
#[derive(Debug)]
pub(super) struct GradientPlan {
    targets: Vec<Target>,
    /// Root 0: the product gradient; then contributions of pairs.
    pub(super) pair_program: Program,
    pairs: Vec<Contribution>,
    /// Contributions of rows.
    row_program: Program,
    rows: Vec<Contribution>,
}

/// The partial arrays of one task, by target.
pub(super) struct Partials {
    arrays: Vec<Partial>,
}

struct Partial {
    /// The first entry that is held, and how many are, by axis.
    start: Vec<usize>,
    extent: Vec<usize>,
    strides: Vec<usize>,
    values: Vec<f64>,
}

impl GradientPlan {
    pub(super) fn new(lowered: &Lowered) -> GradientPlan {
        let learnable = lowered.definition.parameters.iter().enumerate().filter(|(_, p)| p.learnable);
        let targets: Vec<Target> = learnable
            .map(|(parameter, declared)| {
                let reach = declared.axes.iter().enumerate();
                Target { parameter, reach: reach.map(|(at, axis)| reach_of(lowered, parameter, at, axis)).collect() }
            })
            .collect();
        let mut roots = [vec![lowered.backward.product_grad], Vec::new()];
        let mut contributions = [Vec::new(), Vec::new()];
        for gradient in &lowered.backward.parameters {
            let list = usize::from(!gradient.per_pair);
            let target = targets.iter().position(|t| t.parameter == gradient.parameter.0 as usize);
            let target = target.expect("only learnable parameters have gradients");
            contributions[list].push(Contribution { target, root: roots[list].len() });
            roots[list].push(gradient.value);
            let free = gradient.index.iter().zip(&targets[target].reach).filter(|(_, reach)| **reach == Reach::All);
            roots[list].extend(free.map(|(&index, _)| index));
        }
        let [pairs, rows] = contributions;
        GradientPlan {
            pair_program: Program::new(&lowered.graph, &roots[0]),
            row_program: Program::new(&lowered.graph, &roots[1]),
            targets,
            pairs,
            rows,
        }
    }

    /// Zeroed partial arrays for a task.
    pub(super) fn partials(&self, context: &Context<'_>, tile: RowTile) -> Partials {
        let arrays = self.targets.iter().map(|target| {
            let shape = context.launch.parameters[target.parameter].shape;
            let one = |index: usize, extent: usize| (clamp_index(index as i32, extent.max(1)), extent.min(1));
            let (start, extent): (Vec<usize>, Vec<usize>) = target
                .reach
                .iter()
                .zip(shape)
                .map(|(reach, &extent)| match reach {
                    Reach::Batch => one(context.batch_number(tile), extent),
                    Reach::Head => one(tile.head, extent),
                    Reach::Rows => (tile.start, tile.rows),
                    Reach::All => (0, extent),
                })
                .unzip();
            let strides = crate::tensor::row_major_strides(&extent);
            let values = vec![0.0; extent.iter().product()];
            Partial { start, extent, strides, values }
        });
        Partials { arrays: arrays.collect() }
    }

    /// The bytes of the partial arrays of the largest task.
    pub(super) fn partial_bytes(&self, context: &Context<'_>, tile: RowTile) -> usize {
        self.partials(context, tile).arrays.iter().map(|p| p.values.len() * size_of::<f64>()).sum()
    }

    /// Zeroed totals, by target.
    pub(super) fn totals(&self, parameters: &[ParameterView<'_>]) -> Vec<Vec<f64>> {
        let zeros = |t: &Target| vec![0.0; parameters[t.parameter].shape.iter().product()];
        self.targets.iter().map(zeros).collect()
    }

    /// The totals with the position of their parameter in the definition.
    pub(super) fn by_parameter(&self, totals: Vec<Vec<f64>>) -> impl Iterator<Item = (usize, Vec<f64>)> {
        self.targets.iter().map(|t| t.parameter).zip(totals)
    }

    /// Whether a pass over pairs has anything to add beside dq.
    pub(super) fn has_pairs(&self) -> bool {
        !self.pairs.is_empty()
    }

    /// Adds the contributions of a tile's pairs. `clear` makes the values of masked pairs and dead rows 0.
    pub(super) fn add_pairs(
        &self,
        partials: &mut Partials,
        registers: &Registers,
        inputs: &Inputs<'_>,
        clear: impl Fn(&mut [f32]),
    ) {
        let (rows, columns) = (inputs.queries.len(), inputs.keys.len());
        let mut values = vec![0.0; rows * columns];
        let mut indices = vec![0; rows * columns];
        let mut positions = vec![0usize; rows * columns];
        for contribution in &self.pairs {
            let target = &self.targets[contribution.target];
            let partial = &mut partials.arrays[contribution.target];
            if partial.values.is_empty() {
                continue;
            }
            registers.float_tile(&self.pair_program, contribution.root, inputs, &mut values);
            clear(&mut values);
            let free = target.reach.iter().filter(|reach| **reach == Reach::All).count();
            let roots = contribution.root + 1..contribution.root + 1 + free;
            let by_row = roots.clone().all(|root| self.pair_program.root_stage(root) <= Stage::Row);
            if by_row {
                // One position a row: the row's sum goes there.
                let mut row_positions = vec![0usize; rows];
                let mut row_indices = vec![0; rows];
                partial.positions(
                    &target.reach,
                    &mut row_positions,
                    1,
                    |root, out| {
                        registers.int_rows(&self.pair_program, contribution.root + 1 + root, inputs, out);
                    },
                    &mut row_indices,
                );
                for (&position, values) in row_positions.iter().zip(values.chunks_exact(columns)) {
                    partial.values[position] += f64::from(math::sum_of(values, |x| x));
                }
            } else {
                partial.positions(
                    &target.reach,
                    &mut positions,
                    columns,
                    |root, out| {
                        registers.int_tile(&self.pair_program, contribution.root + 1 + root, inputs, out);
                    },
                    &mut indices,
                );
                for (&position, &value) in positions.iter().zip(&values) {
                    if value != 0.0 {
                        partial.values[position] += f64::from(value);
                    }
                }
            }
        }
    }

    /// Adds the contributions of rows; `live` says which rows have any.
    pub(super) fn add_rows(&self, partials: &mut Partials, inputs: &Inputs<'_>, live: &[bool]) {
        if self.rows.is_empty() {
            return;
        }
        let rows = inputs.queries.len();
        let mut registers = Registers::new(&self.row_program, rows, 0);
        registers.run_all(&self.row_program, inputs);
        let mut values = vec![0.0; rows];
        let mut positions = vec![0usize; rows];
        let mut indices = vec![0; rows];
        for contribution in &self.rows {
            let partial = &mut partials.arrays[contribution.target];
            if partial.values.is_empty() {
                continue;
            }
            registers.float_rows(&self.row_program, contribution.root, inputs, &mut values);
            partial.positions(
                &self.targets[contribution.target].reach,
                &mut positions,
                1,
                |root, out| {
                    registers.int_rows(&self.row_program, contribution.root + 1 + root, inputs, out);
                },
                &mut indices,
            );
            for ((&position, &value), &live) in positions.iter().zip(&values).zip(live) {
                if live {
                    partial.values[position] += f64::from(value);
                }
            }
        }
    }

    /// Adds a task's partial arrays to the totals.
    pub(super) fn merge(&self, totals: &mut [Vec<f64>], parameters: &[ParameterView<'_>], partials: &Partials) {
        for ((target, total), partial) in self.targets.iter().zip(totals).zip(&partials.arrays) {
            let strides = crate::tensor::row_major_strides(parameters[target.parameter].shape);
            partial.add_to(total, &strides);
        }
    }
}

impl Partial {
    /// The position in the partial array of every value of a tile with `columns` values a row.
    fn positions(
        &self,
        reach: &[Reach],
        positions: &mut [usize],
        columns: usize,
        index: impl Fn(usize, &mut [i32]),
        indices: &mut [i32],
    ) {
        positions.fill(0);
        let mut free = 0;
        for (axis, reach) in reach.iter().enumerate() {
            let (stride, extent) = (self.strides[axis], self.extent[axis]);
            match reach {
                Reach::Batch | Reach::Head => {}
                Reach::Rows => {
                    for (row, positions) in positions.chunks_exact_mut(columns).enumerate() {
                        positions.iter_mut().for_each(|p| *p += row * stride);
                    }
                }
                Reach::All => {
                    index(free, indices);
                    free += 1;
                    positions.iter_mut().zip(&*indices).for_each(|(p, &i)| *p += clamp_index(i, extent) * stride);
                }
            }
        }
    }

    fn add_to(&self, total: &mut [f64], total_strides: &[usize]) {
        for (local, &value) in self.values.iter().enumerate().filter(|(_, value)| **value != 0.0) {
            let mut rest = local;
            let mut position = 0;
            for ((start, stride), total_stride) in self.start.iter().zip(&self.strides).zip(total_strides) {
                position += (start + rest / stride) * total_stride;
                rest %= stride;
            }
            total[position] += value;
        }
    }
}

/// How much of an axis a task reaches: less than all only if every contribution indexes it so.
fn reach_of(lowered: &Lowered, parameter: usize, at: usize, axis: &Axis) -> Reach {
    let indices: Vec<NodeId> = lowered
        .backward
        .parameters
        .iter()
        .filter(|gradient| gradient.parameter.0 as usize == parameter)
        .map(|gradient| gradient.index[at])
        .collect();
    let all = |input: Input| indices.iter().all(|&id| *lowered.graph.op(id) == Op::Input(input));
    if all(Input::Batch) {
        Reach::Batch
    } else if all(Input::Head) {
        Reach::Head
    } else if *axis == Axis::Query && all(Input::Query) {
        Reach::Rows
    } else {
        Reach::All
    }
}
