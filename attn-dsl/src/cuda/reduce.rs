//! How partial sums of a parameter's gradient are added up: what a launch of `attn_reduce` is given.
//!
//! Axes of one entry vanish, and axes that lie behind one another become one, so that a thread has few coordinates to find. What
//! is summed over is then a run of terms, which is repeated where heads that are kept lie between batches and positions.
//!
//! Invariant: the order of additions follows from the extents and from what is kept, so that equal inputs give equal bits.

/// The source of `attn_reduce`, which adds partial sums in a fixed order; the same for every variant, shape and target.
pub fn reduce_source() -> &'static str {
    include_str!("templates/reduce.cu")
}

/// The threads of a block of `attn_reduce`.
pub const REDUCE_THREADS: u32 = 512;

/// Axes that the kernel has room for: of a contiguous gradient no more are left, as batches and heads part its other axes twice.
const AXES: usize = 5;

/// Neighbours that read their terms together.
const WARP: usize = 32;

/// Partial sums of one parameter's gradient, contiguous over batches, heads, positions and the axes of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartialSums {
    /// Batches, heads, and rows, keys or tiles of rows.
    pub extents: [usize; 3],
    /// The gradient's strides along these, in elements; an axis without one is summed over.
    pub strides: [Option<usize>; 3],
    /// Extent and stride along each axis of a table, in the order of the parameter's; none is summed over.
    pub table: Vec<(usize, usize)>,
}

/// Elements of the gradient along an axis.
#[derive(Clone, Copy)]
struct Kept {
    extent: usize,
    partial_step: usize,
    gradient_step: usize,
}

/// Terms of an element at equal distances.
#[derive(Clone, Copy)]
struct Summed {
    extent: usize,
    step: usize,
}

/// A launch of `attn_reduce` with [`REDUCE_THREADS`] threads a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduction {
    /// The blocks; none where the gradient has no element.
    pub blocks: u32,
    /// What the argument holds of them.
    steps: Vec<u8>,
    counts: Vec<u8>,
}

impl PartialSums {
    /// The number of partial sums.
    pub fn count(&self) -> usize {
        self.extents.iter().product::<usize>() * self.table.iter().map(|(extent, _)| extent).product::<usize>()
    }

    /// Both kinds of axes, the innermost first.
    fn axes(&self) -> (Vec<Kept>, Vec<Summed>) {
        let (mut kept, mut summed): (Vec<Kept>, Vec<Summed>) = (vec![], vec![]);
        let table = self.table.iter().map(|&(extent, stride)| (extent, Some(stride)));
        let axes: Vec<_> = self.extents.into_iter().zip(self.strides).chain(table).collect();
        let mut step = 1;
        for (extent, stride) in axes.into_iter().rev().filter(|(extent, _)| *extent != 1) {
            match (stride, kept.last_mut(), summed.last_mut()) {
                (Some(stride), Some(last), _)
                    if (step, stride) == (last.partial_step * last.extent, last.gradient_step * last.extent) =>
                {
                    last.extent *= extent;
                }
                (Some(stride), ..) => kept.push(Kept { extent, partial_step: step, gradient_step: stride }),
                (None, _, Some(last)) if step == last.step * last.extent => last.extent *= extent,
                (None, ..) => summed.push(Summed { extent, step }),
            }
            step *= extent;
        }
        (kept, summed)
    }

    /// The launch that adds them up.
    ///
    /// # Panics
    /// If the gradient is laid out in more pieces than a contiguous one.
    pub fn reduction(&self) -> Reduction {
        let (kept, summed) = self.axes();
        assert!(kept.len() <= AXES, "the gradient is not contiguous");
        let elements: usize = kept.iter().map(|axis| axis.extent).product();
        let terms: usize = summed.iter().map(|axis| axis.extent).product();
        let one = Summed { extent: 1, step: 0 };
        let mut both = summed.into_iter();
        let (run, repeated) = (both.next().unwrap_or(one), both.next().unwrap_or(one));
        // where neighbouring elements lie side by side, a warp reads those; else it reads the terms of one element
        let side_by_side = kept.first().is_some_and(|axis| axis.partial_step == 1);
        let neighbours = if side_by_side { elements.next_power_of_two().min(WARP) } else { 1 };
        let threads = REDUCE_THREADS as usize;
        let rows = terms.next_power_of_two().min(threads / neighbours);
        let columns = threads / rows;

        let steps_of = |step: fn(&Kept) -> usize| {
            let all = kept.iter().map(step).chain(std::iter::repeat(0));
            all.take(AXES).flat_map(|step| (step as i64).to_ne_bytes()).collect::<Vec<u8>>()
        };
        let mut steps = steps_of(|axis| axis.partial_step);
        steps.extend(steps_of(|axis| axis.gradient_step));
        steps.extend([repeated.step, run.step].iter().flat_map(|&step| (step as i64).to_ne_bytes()));
        let extents = kept.iter().map(|axis| axis.extent).chain(std::iter::repeat(1)).take(AXES);
        // a length of 0 is no divisor; without terms there are no rounds
        let numbers = [kept.len(), elements, run.extent.max(1), columns, terms / rows, terms % rows];
        let counts = extents.chain(numbers).flat_map(|count| (count as u32).to_ne_bytes()).collect();
        Reduction { blocks: u32::try_from(elements.div_ceil(columns)).unwrap_or(u32::MAX), steps, counts }
    }
}

impl Reduction {
    /// The kernel's argument. A launch that `adds` leaves what the gradient holds, and any other replaces it.
    pub fn argument(&self, partial: u64, gradient: u64, adds: bool) -> Vec<u8> {
        let mut bytes = [partial, gradient].iter().flat_map(|address| address.to_ne_bytes()).collect::<Vec<u8>>();
        bytes.extend(&self.steps);
        bytes.extend(&self.counts);
        bytes.extend(u32::from(adds).to_ne_bytes());
        // the structure is aligned to 8 bytes
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }
}
