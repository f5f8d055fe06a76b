//! The least and greatest element of an integer parameter in a range: of one axis from those of blocks, found once a call; of
//! few elements from all of them.
//!
//! Invariant: ranges of one axis are exact; one costs the elements of its two ends and an entry for each block between. Others are
//! exact up to [`RANGE_ELEMENTS`], and bounded by what 32 bits hold beyond.

use attn_dsl::ir::{Extreme, RANGE_ELEMENTS};

use super::evaluate::{ParameterValues, ParameterView, clamp_index};

/// Elements of a block, as many as a tile has rows or columns.
const BLOCK: usize = 64;

/// The extremes of all blocks along an axis of a parameter.
#[derive(Clone, Debug)]
pub(super) struct AxisExtremes {
    pub(super) parameter: usize,
    pub(super) axis: usize,
    /// Of `least` and `greatest`, whose extent along the axis is the number of blocks.
    strides: Vec<usize>,
    least: Vec<i32>,
    greatest: Vec<i32>,
}

impl AxisExtremes {
    pub(super) fn new(parameter: usize, axis: usize, view: &ParameterView<'_>) -> AxisExtremes {
        let extent = view.shape[axis];
        let mut shape = view.shape.to_vec();
        shape[axis] = extent.div_ceil(BLOCK);
        let strides = crate::tensor::row_major_strides(&shape);
        let count = shape.iter().product();
        let (mut least, mut greatest) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for block in 0..count {
            let index = strides.iter().zip(&shape).map(|(stride, extent)| block / stride % extent);
            let index: Vec<usize> = index.collect();
            let base: usize = (0..shape.len()).filter(|&at| at != axis).map(|at| index[at] * view.strides[at]).sum();
            let first = index[axis] * BLOCK;
            let elements = (first..extent.min(first + BLOCK)).map(|at| element(view, base + at * view.strides[axis]));
            let (low, high) = elements.fold((i32::MAX, i32::MIN), |(low, high), x| (low.min(x), high.max(x)));
            least.push(low);
            greatest.push(high);
        }
        AxisExtremes { parameter, axis, strides, least, greatest }
    }

    /// The extreme element from `index` to `last` along the axis, each index clamped into its axis; 0 of a parameter without
    /// elements.
    pub(super) fn find(&self, view: &ParameterView<'_>, extreme: Extreme, index: &[i32], last: i32) -> i32 {
        if view.shape.contains(&0) {
            return 0;
        }
        let at: Vec<usize> = index.iter().zip(view.shape).map(|(&i, &extent)| clamp_index(i, extent)).collect();
        let others = |strides: &[usize]| -> usize {
            (0..at.len()).filter(|&axis| axis != self.axis).map(|axis| at[axis] * strides[axis]).sum()
        };
        let (base, block_base) = (others(view.strides), others(&self.strides));
        let (blocks, pick): (_, fn(i32, i32) -> i32) = match extreme {
            Extreme::Least => (&self.least, i32::min),
            Extreme::Greatest => (&self.greatest, i32::max),
        };
        let end = clamp_index(last, view.shape[self.axis]) + 1;
        let mut next = at[self.axis];
        let mut found = element(view, base + next * view.strides[self.axis]);
        while next < end {
            let (value, step) = if next.is_multiple_of(BLOCK) && next + BLOCK <= end {
                (blocks[block_base + next / BLOCK * self.strides[self.axis]], BLOCK)
            } else {
                (element(view, base + next * view.strides[self.axis]), 1)
            };
            found = pick(found, value);
            next += step;
        }
        found
    }
}

/// The extreme element from `first` to `last`, an index per axis, each clamped into it; 0 of a parameter without elements.
pub(super) fn extreme_of_few(view: &ParameterView<'_>, extreme: Extreme, first: &[i32], last: &[i32]) -> i32 {
    if view.shape.contains(&0) {
        return 0;
    }
    let clamped = |index: &[i32]| -> Vec<usize> {
        index.iter().zip(view.shape).map(|(&i, &extent)| clamp_index(i, extent)).collect()
    };
    let (first, last) = (clamped(first), clamped(last));
    let extents: Vec<usize> = first.iter().zip(&last).map(|(first, last)| last.max(first) - first + 1).collect();
    let count = extents.iter().try_fold(1, |count: usize, &extent| count.checked_mul(extent));
    let Some(count) = count.filter(|&count| count <= RANGE_ELEMENTS) else {
        return if extreme == Extreme::Least { i32::MIN } else { i32::MAX };
    };
    let elements = (0..count).map(|number| {
        let (mut rest, mut at) = (number, 0);
        for axis in (0..extents.len()).rev() {
            at += (first[axis] + rest % extents[axis]) * view.strides[axis];
            rest /= extents[axis];
        }
        element(view, at)
    });
    let found = if extreme == Extreme::Least { elements.min() } else { elements.max() };
    found.expect("a range is not empty")
}

fn element(view: &ParameterView<'_>, at: usize) -> i32 {
    match view.values {
        ParameterValues::Int(values) => values[view.offset + at],
        ParameterValues::Float(_) => unreachable!("graphs are well typed: ranges are of integer parameters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_all_their_elements() {
        let values: Vec<i32> = (0..1200).map(|i: i32| i.wrapping_mul(i).wrapping_mul(2_654_435) % 1000).collect();
        // [3, 200] of a tensor of rows of 400, every other element
        let view =
            ParameterView { values: ParameterValues::Int(&values), shape: &[3, 200], strides: &[400, 2], offset: 1 };
        for (axis, index, last) in [
            (1, [0, 0], 199),
            (1, [2, 64], 127),
            (1, [1, 3], 3),
            (1, [1, -9], 70),
            (1, [7, 63], 1000),
            (1, [2, 500], 600),
            (0, [0, 17], 2),
        ] {
            let extremes = AxisExtremes::new(0, axis, &view);
            let clamp = |i: i32, axis: usize| clamp_index(i, view.shape[axis]);
            let elements = (clamp(index[axis], axis)..=clamp(last, axis)).map(|i| {
                let mut at = [clamp(index[0], 0), clamp(index[1], 1)];
                at[axis] = i;
                element(&view, at[0] * 400 + at[1] * 2)
            });
            let elements: Vec<i32> = elements.collect();
            let found = [Extreme::Least, Extreme::Greatest].map(|extreme| extremes.find(&view, extreme, &index, last));
            let expected = [elements.iter().min(), elements.iter().max()].map(|x| *x.expect("a range is not empty"));
            assert_eq!(found, expected, "{index:?} to {last} along {axis}");
            let mut ends = index;
            ends[axis] = last;
            let found =
                [Extreme::Least, Extreme::Greatest].map(|extreme| extreme_of_few(&view, extreme, &index, &ends));
            assert_eq!(found, expected, "{index:?} to {ends:?}");
        }
        let few = |index: [i32; 2], last: [i32; 2]| {
            [Extreme::Least, Extreme::Greatest].map(|e| extreme_of_few(&view, e, &index, &last))
        };
        let of = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
            let elements = rows.flat_map(|row| columns.clone().map(move |column| row * 400 + column * 2));
            let elements: Vec<i32> = elements.map(|at| element(&view, at)).collect();
            [elements.iter().min(), elements.iter().max()].map(|x| *x.expect("there are some"))
        };
        assert_eq!(few([1, 20], [2, 100]), of(1..3, 20..101));
        assert_eq!(few([-1, 198], [9, 400]), of(0..3, 198..200));
        assert_eq!(few([0, 0], [2, 100]), [i32::MIN, i32::MAX], "these are too many");
    }
}
