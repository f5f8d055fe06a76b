//! Runs a [`Program`] on one tile: every step is one loop over contiguous vectors.
//!
//! Row, column and tile stages run as a tile of one row. A pair step walks the tile row by row; what varies by row alone is
//! a scalar there, what varies by column alone the same slice for each row.

use attn_dsl::ir::{Binary, Compare, Input, Op, Reduction, Type, Unary};

use super::extremes::{AxisExtremes, extreme_of_few};
use super::found::Found;
use super::math;
use super::program::{Operand, Program, Stage, Step, bank};

/// A parameter's elements in host memory.
#[derive(Clone, Copy, Debug)]
pub(super) enum ParameterValues<'a> {
    Float(&'a [f32]),
    Int(&'a [i32]),
}

/// A parameter as a strided array.
#[derive(Clone, Debug)]
pub(super) struct ParameterView<'a> {
    pub(super) values: ParameterValues<'a>,
    pub(super) shape: &'a [usize],
    pub(super) strides: &'a [usize],
    pub(super) offset: usize,
}

/// What is the same for the whole launch.
#[derive(Clone, Debug)]
pub(super) struct Launch<'a> {
    pub(super) scale: f32,
    pub(super) head_dim: usize,
    pub(super) q_len: usize,
    pub(super) kv_len: usize,
    pub(super) sizes: &'a [usize],
    pub(super) parameters: Vec<ParameterView<'a>>,
    /// Of the parameters and axes of which the mask's tile program reads ranges.
    pub(super) extremes: Vec<AxisExtremes>,
}

/// The inputs of a tile. A slice that no expression reads may be empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a> {
    pub(super) launch: &'a Launch<'a>,
    pub(super) batch: usize,
    pub(super) head: usize,
    /// Query positions of the rows.
    pub(super) queries: &'a [i32],
    /// Key positions of the columns.
    pub(super) keys: &'a [i32],
    /// Row-major, rows x columns.
    pub(super) product: &'a [f32],
    pub(super) output_grad_product: &'a [f32],
    pub(super) rows: RowInputs<'a>,
}

/// The inputs that vary by row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RowInputs<'a> {
    pub(super) live_keys: &'a [i32],
    pub(super) sum: &'a [f32],
    pub(super) max: &'a [f32],
    pub(super) sum_squares: &'a [f32],
    pub(super) shift: &'a [f32],
    pub(super) statistic: &'a [f32],
    pub(super) delta: &'a [f32],
    pub(super) arg_max: &'a [i32],
    pub(super) found: Found<'a>,
}

/// The registers of one program on one thread.
#[derive(Debug, Default)]
pub(super) struct Registers {
    floats: Vec<Vec<f32>>,
    ints: Vec<Vec<i32>>,
    bools: Vec<Vec<bool>>,
}

/// A vector operand of a tile.
#[derive(Clone, Copy)]
enum Source<'a, T> {
    Scalar(T),
    /// One value a row.
    Row(&'a [T]),
    /// One value a column.
    Column(&'a [T]),
    /// One value a pair, row-major.
    Pair(&'a [T]),
}

/// A row of an operand.
enum Lane<'a, T> {
    Scalar(T),
    Slice(&'a [T]),
}

impl<'a, T: Copy> Source<'a, T> {
    /// The value of what is constant within the tile.
    fn of_tile(&self) -> T {
        match self {
            Source::Scalar(x) => *x,
            _ => unreachable!("it varies within the tile"),
        }
    }

    fn lane(&self, row: usize, columns: usize) -> Lane<'a, T> {
        match self {
            Source::Scalar(x) => Lane::Scalar(*x),
            Source::Row(values) => Lane::Scalar(values[row]),
            Source::Column(values) => Lane::Slice(&values[..columns]),
            Source::Pair(values) => Lane::Slice(&values[row * columns..][..columns]),
        }
    }
}

impl<T: Copy> Lane<'_, T> {
    #[inline]
    fn at(&self, column: usize) -> T {
        match self {
            Lane::Scalar(x) => *x,
            Lane::Slice(values) => values[column],
        }
    }
}

/// The extents of a stage's loop.
#[derive(Clone, Copy)]
struct Extent {
    stage: Stage,
    rows: usize,
    columns: usize,
}

impl Extent {
    fn len(self) -> usize {
        self.rows * self.columns
    }
}

fn map1<A: Copy, R>(extent: Extent, out: &mut [R], a: Source<'_, A>, f: impl Fn(A) -> R) {
    for (row, out) in out[..extent.len()].chunks_exact_mut(extent.columns.max(1)).enumerate() {
        match a.lane(row, extent.columns) {
            Lane::Scalar(x) => out.iter_mut().for_each(|r| *r = f(x)),
            Lane::Slice(x) => out.iter_mut().zip(x).for_each(|(r, &x)| *r = f(x)),
        }
    }
}

fn map2<A: Copy, R>(extent: Extent, out: &mut [R], a: Source<'_, A>, b: Source<'_, A>, f: impl Fn(A, A) -> R) {
    for (row, out) in out[..extent.len()].chunks_exact_mut(extent.columns.max(1)).enumerate() {
        match (a.lane(row, extent.columns), b.lane(row, extent.columns)) {
            (Lane::Scalar(x), Lane::Scalar(y)) => out.iter_mut().for_each(|r| *r = f(x, y)),
            (Lane::Slice(x), Lane::Scalar(y)) => out.iter_mut().zip(x).for_each(|(r, &x)| *r = f(x, y)),
            (Lane::Scalar(x), Lane::Slice(y)) => out.iter_mut().zip(y).for_each(|(r, &y)| *r = f(x, y)),
            (Lane::Slice(x), Lane::Slice(y)) => {
                out.iter_mut().zip(x).zip(y).for_each(|((r, &x), &y)| *r = f(x, y));
            }
        }
    }
}

fn select<T: Copy>(extent: Extent, out: &mut [T], c: Source<'_, bool>, a: Source<'_, T>, b: Source<'_, T>) {
    for (row, out) in out[..extent.len()].chunks_exact_mut(extent.columns.max(1)).enumerate() {
        let lanes = (c.lane(row, extent.columns), a.lane(row, extent.columns), b.lane(row, extent.columns));
        match lanes {
            (Lane::Slice(c), Lane::Slice(a), Lane::Slice(b)) => {
                for (((r, &c), &a), &b) in out.iter_mut().zip(c).zip(a).zip(b) {
                    *r = if c { a } else { b };
                }
            }
            (c, a, b) => {
                for (column, r) in out.iter_mut().enumerate() {
                    *r = if c.at(column) { a.at(column) } else { b.at(column) };
                }
            }
        }
    }
}

/// Reads a parameter at clamped indices.
fn gather<T: Copy + Default>(
    extent: Extent,
    out: &mut [T],
    view: &ParameterView<'_>,
    values: &[T],
    index: &[Source<'_, i32>],
) {
    if view.shape.contains(&0) {
        out[..extent.len()].fill(T::default());
        return;
    }
    for (row, out) in out[..extent.len()].chunks_exact_mut(extent.columns.max(1)).enumerate() {
        let lanes: Vec<Lane<'_, i32>> = index.iter().map(|source| source.lane(row, extent.columns)).collect();
        let position = |i: i32, axis: usize| clamp_index(i, view.shape[axis]) * view.strides[axis];
        let mut base = view.offset;
        let mut varying = Vec::new();
        for (axis, lane) in lanes.iter().enumerate() {
            match lane {
                Lane::Scalar(i) => base += position(*i, axis),
                Lane::Slice(values) => varying.push((axis, *values)),
            }
        }
        match varying.as_slice() {
            [] => out.fill(values[base]),
            [(axis, index)] => {
                out.iter_mut().zip(*index).for_each(|(r, &i)| *r = values[base + position(i, *axis)]);
            }
            several => {
                for (column, r) in out.iter_mut().enumerate() {
                    let at: usize = several.iter().map(|(axis, index)| position(index[column], *axis)).sum();
                    *r = values[base + at];
                }
            }
        }
    }
}

/// The nearest position inside an axis that is not empty.
pub(super) fn clamp_index(index: i32, extent: usize) -> usize {
    usize::try_from(index).unwrap_or(0).min(extent - 1)
}

macro_rules! source {
    ($name:ident, $ty:ty, $bank:ident, $constant:pat => $value:expr, $input:ident) => {
        fn $name<'a>(&'a self, inputs: &Inputs<'a>, stage: Stage, operand: Operand) -> Source<'a, $ty> {
            match operand {
                $constant => Source::Scalar($value),
                Operand::Input(input) => Self::at_stage(stage, $input(inputs, input)),
                Operand::Register { stage: own, register, .. } => {
                    let values = &self.$bank[register][..];
                    Self::at_stage(
                        stage,
                        match own {
                            Stage::Tile => Source::Scalar(values[0]),
                            Stage::Row => Source::Row(values),
                            Stage::Column => Source::Column(values),
                            Stage::Pair => Source::Pair(values),
                        },
                    )
                }
                other => unreachable!("graphs are well typed: {other:?}"),
            }
        }
    };
}

fn float_input<'a>(inputs: &Inputs<'a>, input: Input) -> Source<'a, f32> {
    let rows = &inputs.rows;
    match input {
        Input::Scale => Source::Scalar(inputs.launch.scale),
        Input::Product => Source::Pair(inputs.product),
        Input::OutputGradProduct => Source::Pair(inputs.output_grad_product),
        Input::Reduction(Reduction::Sum) => Source::Row(rows.sum),
        Input::Reduction(Reduction::Max) => Source::Row(rows.max),
        Input::Reduction(Reduction::SumSquares) => Source::Row(rows.sum_squares),
        Input::Shift => Source::Row(rows.shift),
        Input::Statistic => Source::Row(rows.statistic),
        Input::Delta => Source::Row(rows.delta),
        Input::Row(row) => Source::Row(rows.found.floats(row, inputs.queries.len())),
        other => unreachable!("{other:?} is not a float of a lowered program"),
    }
}

fn int_input<'a>(inputs: &Inputs<'a>, input: Input) -> Source<'a, i32> {
    // Extents are below 2^24, so each fits.
    let scalar = |x: usize| Source::Scalar(x as i32);
    let launch = inputs.launch;
    match input {
        Input::Batch => scalar(inputs.batch),
        Input::Head => scalar(inputs.head),
        Input::HeadDim => scalar(launch.head_dim),
        Input::QueryLen => scalar(launch.q_len),
        Input::KeyLen => scalar(launch.kv_len),
        Input::Size(id) => scalar(launch.sizes[id.0 as usize]),
        Input::Query => Source::Row(inputs.queries),
        Input::Key => Source::Column(inputs.keys),
        Input::LiveKeys => Source::Row(inputs.rows.live_keys),
        Input::ArgMax => Source::Row(inputs.rows.arg_max),
        Input::Row(row) => Source::Row(inputs.rows.found.ints(row, inputs.queries.len())),
        Input::FirstQuery => Source::Scalar(inputs.queries[0]),
        Input::LastQuery => Source::Scalar(inputs.queries[inputs.queries.len() - 1]),
        Input::FirstKey => Source::Scalar(inputs.keys[0]),
        Input::LastKey => Source::Scalar(inputs.keys[inputs.keys.len() - 1]),
        other => unreachable!("{other:?} is not an int of a lowered program"),
    }
}

fn bool_input<'a>(_: &Inputs<'a>, input: Input) -> Source<'a, bool> {
    unreachable!("no input is a bool: {input:?}")
}

impl Registers {
    /// Registers for tiles of at most `rows` by `columns`.
    pub(super) fn new(program: &Program, rows: usize, columns: usize) -> Registers {
        let size = |stage: &Stage| match stage {
            Stage::Tile => 1,
            Stage::Row => rows,
            Stage::Column => columns,
            Stage::Pair => rows * columns,
        };
        Registers {
            floats: program.registers(Type::Float).iter().map(|s| vec![0.0; size(s)]).collect(),
            ints: program.registers(Type::Int).iter().map(|s| vec![0; size(s)]).collect(),
            bools: program.registers(Type::Bool).iter().map(|s| vec![false; size(s)]).collect(),
        }
    }

    /// A row or column vector is a whole operand of its own stage, which runs as one row.
    fn at_stage<T>(stage: Stage, source: Source<'_, T>) -> Source<'_, T> {
        match (stage, source) {
            (Stage::Row, Source::Row(values)) | (Stage::Column, Source::Column(values)) => Source::Pair(values),
            (_, source) => source,
        }
    }

    source!(float_source, f32, floats, Operand::Float(x) => x, float_input);
    source!(int_source, i32, ints, Operand::Int(x) => x, int_input);
    source!(bool_source, bool, bools, Operand::Bool(x) => x, bool_input);

    /// Runs the steps of a stage. Stages that it contains have been run for this tile before.
    pub(super) fn run_stage(&mut self, program: &Program, stage: Stage, inputs: &Inputs<'_>) {
        let (rows, columns) = (inputs.queries.len(), inputs.keys.len());
        let extent = match stage {
            Stage::Tile => Extent { stage, rows: 1, columns: 1 },
            Stage::Row => Extent { stage, rows: 1, columns: rows },
            Stage::Column => Extent { stage, rows: 1, columns },
            Stage::Pair => Extent { stage, rows, columns },
        };
        for step in program.steps(stage) {
            self.step(step, extent, inputs);
        }
    }

    /// Runs all stages. What varies by row or column alone is a small part of a tile's work, so nothing is kept between tiles.
    pub(super) fn run_all(&mut self, program: &Program, inputs: &Inputs<'_>) {
        for stage in [Stage::Tile, Stage::Row, Stage::Column, Stage::Pair] {
            self.run_stage(program, stage, inputs);
        }
    }

    fn step(&mut self, step: &Step, extent: Extent, inputs: &Inputs<'_>) {
        match bank(step.ty) {
            0 => {
                let mut out = std::mem::take(&mut self.floats[step.register]);
                self.float_step(step, extent, inputs, &mut out);
                self.floats[step.register] = out;
            }
            1 => {
                let mut out = std::mem::take(&mut self.ints[step.register]);
                self.int_step(step, extent, inputs, &mut out);
                self.ints[step.register] = out;
            }
            _ => {
                let mut out = std::mem::take(&mut self.bools[step.register]);
                self.bool_step(step, extent, inputs, &mut out);
                self.bools[step.register] = out;
            }
        }
    }

    fn float_step(&self, step: &Step, e: Extent, inputs: &Inputs<'_>, out: &mut [f32]) {
        let float = |at: usize| self.float_source(inputs, e.stage, step.operands[at]);
        match &step.op {
            Op::Unary(op, _) => {
                let a = float(0);
                match op {
                    Unary::Neg => map1(e, out, a, |x| -x),
                    Unary::Abs => map1(e, out, a, f32::abs),
                    Unary::Exp => map1(e, out, a, math::exp),
                    Unary::Exp2 => map1(e, out, a, math::exp2),
                    Unary::Ln => map1(e, out, a, f32::ln),
                    Unary::Log2 => map1(e, out, a, f32::log2),
                    Unary::Sqrt => map1(e, out, a, f32::sqrt),
                    Unary::Tanh => map1(e, out, a, math::tanh),
                    Unary::Sigmoid => map1(e, out, a, math::sigmoid),
                    Unary::Softplus => map1(e, out, a, math::softplus),
                    Unary::Erf => map1(e, out, a, libm::erff),
                    Unary::Sin => map1(e, out, a, f32::sin),
                    Unary::Cos => map1(e, out, a, f32::cos),
                    Unary::Floor => map1(e, out, a, f32::floor),
                    Unary::Not => unreachable!("graphs are well typed: `!` gives a bool"),
                }
            }
            Op::Binary(op, ..) => {
                let (a, b) = (float(0), float(1));
                match op {
                    Binary::Add => map2(e, out, a, b, |x, y| x + y),
                    Binary::Sub => map2(e, out, a, b, |x, y| x - y),
                    Binary::Mul => map2(e, out, a, b, |x, y| x * y),
                    Binary::Div => map2(e, out, a, b, |x, y| x / y),
                    Binary::Min => map2(e, out, a, b, f32::min),
                    Binary::Max => map2(e, out, a, b, f32::max),
                    Binary::Rem | Binary::And | Binary::Or => unreachable!("graphs are well typed: {op:?}"),
                }
            }
            Op::Select { .. } => {
                select(e, out, self.bool_source(inputs, e.stage, step.operands[0]), float(1), float(2));
            }
            Op::Cast(..) if is_bool(step.operands[0]) => {
                map1(e, out, self.bool_source(inputs, e.stage, step.operands[0]), |x| f32::from(u8::from(x)));
            }
            Op::Cast(..) => map1(e, out, self.int_source(inputs, e.stage, step.operands[0]), |x| x as f32),
            Op::Parameter { parameter, .. } => {
                let view = &inputs.launch.parameters[parameter.0 as usize];
                let ParameterValues::Float(values) = view.values else {
                    unreachable!("the call was checked: a float parameter is f32");
                };
                gather(e, out, view, values, &self.index(step, e, inputs));
            }
            op => unreachable!("{op:?} is not a step of floats"),
        }
    }

    fn int_step(&self, step: &Step, e: Extent, inputs: &Inputs<'_>, out: &mut [i32]) {
        let int = |at: usize| self.int_source(inputs, e.stage, step.operands[at]);
        match &step.op {
            Op::Unary(Unary::Neg, _) => map1(e, out, int(0), i32::wrapping_neg),
            Op::Unary(Unary::Abs, _) => map1(e, out, int(0), i32::wrapping_abs),
            Op::Binary(op, ..) => {
                let (a, b) = (int(0), int(1));
                match op {
                    Binary::Add => map2(e, out, a, b, i32::wrapping_add),
                    Binary::Sub => map2(e, out, a, b, i32::wrapping_sub),
                    Binary::Mul => map2(e, out, a, b, i32::wrapping_mul),
                    Binary::Div => map2(e, out, a, b, |x, y| if y == 0 { 0 } else { x.wrapping_div(y) }),
                    Binary::Rem => map2(e, out, a, b, |x, y| if y == 0 { 0 } else { x.wrapping_rem(y) }),
                    Binary::Min => map2(e, out, a, b, i32::min),
                    Binary::Max => map2(e, out, a, b, i32::max),
                    Binary::And | Binary::Or => unreachable!("graphs are well typed: {op:?}"),
                }
            }
            Op::Select { .. } => {
                select(e, out, self.bool_source(inputs, e.stage, step.operands[0]), int(1), int(2));
            }
            Op::Cast(..) if is_bool(step.operands[0]) => {
                map1(e, out, self.bool_source(inputs, e.stage, step.operands[0]), i32::from);
            }
            Op::Cast(..) => map1(e, out, self.float_source(inputs, e.stage, step.operands[0]), |x| x as i32),
            Op::Parameter { parameter, .. } => {
                let view = &inputs.launch.parameters[parameter.0 as usize];
                let ParameterValues::Int(values) = view.values else {
                    unreachable!("the call was checked: an int parameter is i32");
                };
                gather(e, out, view, values, &self.index(step, e, inputs));
            }
            Op::Extreme { extreme, parameter, blocks, .. } => {
                let parameter = parameter.0 as usize;
                let view = &inputs.launch.parameters[parameter];
                let index: Vec<i32> = self.index(step, e, inputs).iter().map(|source| source.of_tile()).collect();
                let (first, last) = index.split_at(index.len() / 2);
                out[0] = if let Some(axis) = *blocks {
                    let extremes = inputs.launch.extremes.iter().find(|e| (e.parameter, e.axis) == (parameter, axis));
                    let extremes = extremes.expect("the context has those of every range that is read");
                    extremes.find(view, *extreme, first, last[axis])
                } else {
                    extreme_of_few(view, *extreme, first, last)
                };
            }
            op => unreachable!("{op:?} is not a step of ints"),
        }
    }

    fn bool_step(&self, step: &Step, e: Extent, inputs: &Inputs<'_>, out: &mut [bool]) {
        let bool = |at: usize| self.bool_source(inputs, e.stage, step.operands[at]);
        match &step.op {
            Op::Unary(Unary::Not, _) => map1(e, out, bool(0), |x| !x),
            Op::Binary(Binary::And, ..) => map2(e, out, bool(0), bool(1), |x, y| x & y),
            Op::Binary(Binary::Or, ..) => map2(e, out, bool(0), bool(1), |x, y| x | y),
            Op::Select { .. } => select(e, out, bool(0), bool(1), bool(2)),
            Op::Compare(op, ..) if is_int(step.operands[0]) || is_int(step.operands[1]) => {
                let int = |at: usize| self.int_source(inputs, e.stage, step.operands[at]);
                compare(e, out, *op, int(0), int(1));
            }
            Op::Compare(op, ..) => {
                let float = |at: usize| self.float_source(inputs, e.stage, step.operands[at]);
                compare(e, out, *op, float(0), float(1));
            }
            op => unreachable!("{op:?} is not a step of bools"),
        }
    }

    fn index<'a>(&'a self, step: &Step, extent: Extent, inputs: &Inputs<'a>) -> Vec<Source<'a, i32>> {
        step.operands.iter().map(|&operand| self.int_source(inputs, extent.stage, operand)).collect()
    }

    /// Copies a float root to a row-major tile, whatever its rate.
    pub(super) fn float_tile(&self, program: &Program, root: usize, inputs: &Inputs<'_>, out: &mut [f32]) {
        let source = self.float_source(inputs, Stage::Pair, program.root(root));
        map1(Self::tile(inputs), out, source, |x| x);
    }

    /// Copies an int root to a row-major tile, whatever its rate.
    pub(super) fn int_tile(&self, program: &Program, root: usize, inputs: &Inputs<'_>, out: &mut [i32]) {
        let source = self.int_source(inputs, Stage::Pair, program.root(root));
        map1(Self::tile(inputs), out, source, |x| x);
    }

    /// Copies a bool root to a row-major tile, whatever its rate.
    pub(super) fn bool_tile(&self, program: &Program, root: usize, inputs: &Inputs<'_>, out: &mut [bool]) {
        let source = self.bool_source(inputs, Stage::Pair, program.root(root));
        map1(Self::tile(inputs), out, source, |x| x);
    }

    /// A bool root that is constant within the tile.
    pub(super) fn bool_of_tile(&self, program: &Program, root: usize, inputs: &Inputs<'_>) -> bool {
        self.bool_source(inputs, Stage::Tile, program.root(root)).of_tile()
    }

    /// Copies a float root that does not vary along the keys: one value a row.
    pub(super) fn float_rows(&self, program: &Program, root: usize, inputs: &Inputs<'_>, out: &mut [f32]) {
        let source = self.float_source(inputs, Stage::Row, program.root(root));
        map1(Extent { stage: Stage::Row, rows: 1, columns: inputs.queries.len() }, out, source, |x| x);
    }

    /// Copies an int root that does not vary along the keys: one value a row.
    pub(super) fn int_rows(&self, program: &Program, root: usize, inputs: &Inputs<'_>, out: &mut [i32]) {
        let source = self.int_source(inputs, Stage::Row, program.root(root));
        map1(Extent { stage: Stage::Row, rows: 1, columns: inputs.queries.len() }, out, source, |x| x);
    }

    fn tile(inputs: &Inputs<'_>) -> Extent {
        Extent { stage: Stage::Pair, rows: inputs.queries.len(), columns: inputs.keys.len() }
    }
}

fn compare<T: Copy + PartialOrd>(e: Extent, out: &mut [bool], op: Compare, a: Source<'_, T>, b: Source<'_, T>) {
    match op {
        Compare::Lt => map2(e, out, a, b, |x, y| x < y),
        Compare::Le => map2(e, out, a, b, |x, y| x <= y),
        Compare::Gt => map2(e, out, a, b, |x, y| x > y),
        Compare::Ge => map2(e, out, a, b, |x, y| x >= y),
        Compare::Eq => map2(e, out, a, b, |x, y| x == y),
        Compare::Ne => map2(e, out, a, b, |x, y| x != y),
    }
}

fn is_int(operand: Operand) -> bool {
    match operand {
        Operand::Int(_) => true,
        Operand::Input(input) => input.ty() == Type::Int,
        Operand::Register { ty, .. } => ty == Type::Int,
        _ => false,
    }
}

fn is_bool(operand: Operand) -> bool {
    matches!(operand, Operand::Bool(_) | Operand::Register { ty: Type::Bool, .. })
}
