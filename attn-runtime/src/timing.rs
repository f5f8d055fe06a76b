//! What the autotuner does without a machine: kinds of calls, rounds of measurement, and which plan the times speak for.

use std::fmt;

use crate::call::Problem;
use crate::error::Error;
use crate::tensor::DType;

/// Rounds of measurement, of which each plan's median counts.
const ROUNDS: usize = 5;
/// Launches are repeated up to this time in a round, so that the time to issue one is hidden behind the one before.
const ROUND_MILLISECONDS: f64 = 0.5;
const MOST_REPEATS: usize = 16;
/// What a plan's time must be below, as a part of that of the rules' plan, to be worth a deviation.
const WORTH: f64 = 0.99;

/// Calls that one decision serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Bucket {
    dtype: DType,
    head_dim: usize,
    value_dim: usize,
    /// Queries, keys, and batch x heads, each the next power of two.
    extents: [usize; 3],
}

impl Bucket {
    /// That of a call; none where there is nothing to compute, or the batch is packed: lengths of sequences
    /// are on the device, and no two batches have the same.
    pub(crate) fn of(problem: &Problem) -> Option<Bucket> {
        let Problem { dtype, batch, heads, q_len, kv_len, head_dim, value_dim, packing: None, .. } = *problem else {
            return None;
        };
        let extents = [q_len, kv_len, batch * heads];
        let extents = (!extents.contains(&0)).then(|| extents.map(usize::next_power_of_two))?;
        Some(Bucket { dtype, head_dim, value_dim, extents })
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bucket { dtype, head_dim, value_dim, extents: [q_len, kv_len, heads] } = self;
        write!(f, "{dtype} d{head_dim}/{value_dim} q{q_len} kv{kv_len} bh{heads}")
    }
}

/// The median time of each of `count` plans. `sample` runs one a number of times and says how long one took, or nothing where the
/// plan does not exist; `failed` hears of those that fail, which are not run again.
pub(crate) fn measure(
    count: usize,
    sample: &mut dyn FnMut(usize, usize) -> Result<Option<f64>, Error>,
    failed: impl Fn(usize, &Error),
) -> Vec<Option<f64>> {
    let mut times: Vec<Option<Vec<f64>>> = vec![Some(vec![]); count];
    let mut round = |times: &mut [Option<Vec<f64>>], repeats: usize| {
        for (plan, times) in times.iter_mut().enumerate() {
            let Some(known) = times else { continue };
            match sample(plan, repeats) {
                Ok(Some(time)) => known.push(time),
                Ok(None) => *times = None,
                Err(error) => {
                    failed(plan, &error);
                    *times = None;
                }
            }
        }
    };
    // to warm up, and to learn how often a launch is to be repeated
    round(&mut times, 1);
    let fastest = times.iter().flatten().flatten().copied().fold(f64::INFINITY, f64::min);
    let repeats = ((ROUND_MILLISECONDS / fastest).ceil() as usize).clamp(1, MOST_REPEATS);
    times.iter_mut().flatten().for_each(Vec::clear);
    // round after round, not plan after plan: what the machine's clocks do in the meantime happens to all
    (0..ROUNDS).for_each(|_| round(&mut times, repeats));
    times.into_iter().map(|times| median(times?)).collect()
}

fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

/// The plan with the least time; the first, which is that of the rules, unless another is clearly faster.
pub(crate) fn fastest(milliseconds: &[Option<f64>]) -> Option<usize> {
    let timed = milliseconds.iter().enumerate().filter_map(|(plan, time)| Some((plan, (*time)?)));
    let (plan, time) = timed.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let first = milliseconds.first().copied().flatten();
    Some(if first.is_some_and(|first| time >= WORTH * first) { 0 } else { plan })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn failure() -> Error {
        Error::Internal("a test's".to_owned())
    }

    #[test]
    fn medians_of_alternating_rounds() {
        let mut order = vec![];
        // the first plan has one slow round, the second is always slower, the third fails in its third round, the fourth is none
        let mut sample = |plan: usize, repeats: usize| {
            order.push((plan, repeats));
            let round = order.iter().filter(|(other, _)| *other == plan).count();
            match (plan, round) {
                (0, 4) => Ok(Some(9.0)),
                (0, _) => Ok(Some(0.1)),
                (1, _) => Ok(Some(0.2)),
                (2, 3) => Err(failure()),
                (2, _) => Ok(Some(0.05)),
                _ => Ok(None),
            }
        };
        let failed = Mutex::new(vec![]);
        let times = measure(4, &mut sample, |plan, _| failed.lock().unwrap().push(plan));
        assert_eq!(times, [Some(0.1), Some(0.2), None, None]);
        assert_eq!(*failed.lock().unwrap(), [2]);
        assert_eq!(order[..7], [(0, 1), (1, 1), (2, 1), (3, 1), (0, 10), (1, 10), (2, 10)]);
        let runs = |plan| order.iter().filter(|(other, _)| *other == plan).count();
        assert_eq!([0, 1, 2, 3].map(runs), [1 + ROUNDS, 1 + ROUNDS, 3, 1]);
    }

    #[test]
    fn repeats_are_bounded() {
        for (time, expected) in [(100.0, 1), (0.5, 1), (0.2, 3), (1e-6, MOST_REPEATS)] {
            let mut most = 0;
            let mut sample = |_, repeats| {
                most = repeats;
                Ok(Some(time))
            };
            assert_eq!(measure(1, &mut sample, |_, _| ()), [Some(time)]);
            assert_eq!(most, expected, "{time}");
        }
    }

    #[test]
    fn the_first_is_left_for_a_clear_gain_alone() {
        assert_eq!(fastest(&[Some(1.0), Some(0.9), Some(0.8)]), Some(2));
        assert_eq!(fastest(&[Some(1.0), Some(0.995)]), Some(0));
        assert_eq!(fastest(&[Some(1.0), Some(1.5)]), Some(0));
        assert_eq!(fastest(&[None, Some(1.5), Some(1.4)]), Some(2));
        assert_eq!(fastest(&[None, None]), None);
        assert_eq!(fastest(&[]), None);
    }

    #[test]
    fn buckets_go_up_to_powers_of_two() {
        let problem = |q_len, kv_len, batch| Problem {
            dtype: DType::BF16,
            batch,
            heads: 12,
            kv_heads: 4,
            q_len,
            kv_len,
            head_dim: 128,
            value_dim: 64,
            packing: None,
        };
        let bucket = |q_len, kv_len, batch| Bucket::of(&problem(q_len, kv_len, batch)).map(|bucket| bucket.to_string());
        assert_eq!(bucket(4096, 4097, 2).unwrap(), "bf16 d128/64 q4096 kv8192 bh32");
        assert_eq!(bucket(1, 3, 1).unwrap(), "bf16 d128/64 q1 kv4 bh16");
        assert_eq!(bucket(2049, 8192, 2), bucket(4096, 4097, 2));
        assert_ne!(bucket(2048, 8192, 2), bucket(4096, 4097, 2));
        assert_eq!([bucket(0, 1, 1), bucket(1, 0, 1), bucket(1, 1, 0)], [None, None, None]);
        assert_ne!(Bucket::of(&problem(8, 8, 1)), Bucket::of(&Problem { dtype: DType::F16, ..problem(8, 8, 1) }));
        assert_ne!(Bucket::of(&problem(8, 8, 1)), Bucket::of(&Problem { value_dim: 128, ..problem(8, 8, 1) }));
    }
}
