//! `out_i = sum_j 2^(A_i + B_j) f_j (a_i . b_j + bias) c_j`, in time linear in rows and columns.
//!
//! Invariant: the state is `2^-R sum_j 2^B_j f_j b_j c_j^T` with `R` the largest `B` so far, so that no factor overflows that a
//! weight does not.

use super::super::math::exp2;

/// The rows of a sum.
pub(super) struct Rows<'a> {
    pub(super) values: &'a [f32],
    pub(super) exponent: Option<&'a [f32]>,
    /// What is added to the products of a row.
    pub(super) bias: Option<&'a [f32]>,
}

/// The columns of a sum.
pub(super) struct Columns<'a> {
    pub(super) b: &'a [f32],
    pub(super) c: &'a [f32],
    pub(super) exponent: Option<&'a [f32]>,
    pub(super) factor: &'a [f32],
    /// What is added to the products of a column.
    pub(super) bias: Option<&'a [f32]>,
}

/// A sum over columns for every row.
pub(super) struct Sum<'a> {
    /// The lengths of rows of `a` and `b`, and of `c` and the result.
    pub(super) widths: [usize; 2],
    pub(super) rows: Rows<'a>,
    pub(super) columns: Columns<'a>,
    /// Row `i` takes the columns up to `i + offset`, from there on where reversed; all columns without one.
    pub(super) offset: Option<isize>,
    pub(super) reversed: bool,
    /// The state before the first column.
    pub(super) initial: Option<State>,
}

/// The columns so far.
#[derive(Clone)]
pub(super) struct State {
    pub(super) reference: f32,
    /// Rows of b's width, of c's width each.
    pub(super) matrix: Vec<f32>,
    pub(super) b_sum: Vec<f32>,
    pub(super) c_sum: Vec<f32>,
}

impl Sum<'_> {
    /// The result row by row, and the rows' sums of weights.
    pub(super) fn run(&self) -> (Vec<f32>, Vec<f32>, State) {
        let [ab, width] = self.widths;
        let (rows, columns) = (self.rows.values.len() / ab, self.columns.factor.len());
        let nothing = || State {
            reference: f32::NEG_INFINITY,
            matrix: vec![0.0; ab * width],
            b_sum: vec![0.0; ab],
            c_sum: vec![0.0; width],
        };
        let mut state = self.initial.clone().unwrap_or_else(nothing);
        let (mut out, mut sums) = (vec![0.0; rows * width], vec![0.0; rows]);
        let mut taken = 0;
        for number in 0..rows {
            let row = if self.reversed { rows - 1 - number } else { number };
            let wanted = match self.offset {
                None => columns,
                Some(offset) => {
                    let at = row as isize + offset;
                    let count = if self.reversed { columns as isize - at } else { at + 1 };
                    count.clamp(0, columns as isize) as usize
                }
            };
            for next in taken..wanted {
                self.absorb(&mut state, if self.reversed { columns - 1 - next } else { next });
            }
            taken = taken.max(wanted);
            sums[row] = self.emit(&state, row, &mut out[row * width..][..width]);
        }
        for next in taken..columns {
            self.absorb(&mut state, if self.reversed { columns - 1 - next } else { next });
        }
        (out, sums, state)
    }

    fn absorb(&self, state: &mut State, column: usize) {
        let [ab, width] = self.widths;
        let Columns { b, c, exponent, factor, bias } = &self.columns;
        let mut scale = factor[column];
        if let Some(exponent) = exponent {
            let next = state.reference.max(exponent[column]);
            if next > state.reference {
                let rescale = exp2(state.reference - next);
                let parts = [&mut state.matrix, &mut state.b_sum, &mut state.c_sum];
                parts.into_iter().flatten().for_each(|value| *value *= rescale);
                state.reference = next;
            }
            if state.reference > f32::NEG_INFINITY {
                scale *= exp2(exponent[column] - state.reference);
            } else {
                scale = 0.0;
            }
        }
        let (b, c) = (&b[column * ab..][..ab], &c[column * width..][..width]);
        for ((row, sum), &b) in state.matrix.chunks_exact_mut(width).zip(&mut state.b_sum).zip(b) {
            let b = scale * b;
            *sum += b;
            row.iter_mut().zip(c).for_each(|(value, c)| *value += b * c);
        }
        let of_column = scale * bias.map_or(1.0, |bias| bias[column]);
        state.c_sum.iter_mut().zip(c).for_each(|(sum, c)| *sum += of_column * c);
    }

    /// Writes a row and returns the sum of its weights.
    fn emit(&self, state: &State, row: usize, out: &mut [f32]) -> f32 {
        let [ab, width] = self.widths;
        let a = &self.rows.values[row * ab..][..ab];
        for (&a, values) in a.iter().zip(state.matrix.chunks_exact(width)) {
            out.iter_mut().zip(values).for_each(|(out, value)| *out += a * value);
        }
        let bias = match (self.rows.bias, self.columns.bias) {
            (Some(bias), _) => bias[row],
            (None, Some(_)) => 1.0,
            (None, None) => 0.0,
        };
        if bias != 0.0 {
            out.iter_mut().zip(&state.c_sum).for_each(|(out, sum)| *out += bias * sum);
        }
        let decay = match self.rows.exponent {
            Some(exponent) if state.reference > f32::NEG_INFINITY => exp2(exponent[row] + state.reference),
            Some(_) => 0.0,
            None => 1.0,
        };
        out.iter_mut().for_each(|out| *out *= decay);
        decay * a.iter().zip(&state.b_sum).map(|(a, sum)| a * sum).sum::<f32>()
    }
}
