//! The autotuner: which plan of a forward pass is the fastest on this machine, for calls of a kind.
//!
//! A kind of calls is a [`Bucket`]. The first call of one compiles every plan, times each on its own arguments, with outputs that
//! nobody reads, and keeps the answer: here for the executor's life, and with the machine's [`Clock`] for later processes. The
//! question that is answered there has the sources of all plans in it, so that an answer never outlives a change of a kernel.
//!
//! Invariants: a plan that fails is out and breaks no call that the plan of the rules would not break; measurements in a process take
//! turns; no lock is held while kernels compile.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use attn_dsl::cuda::Kernel as Source;
use rayon::prelude::*;

use super::compiled::Pass;
use super::{KernelExecutor, Ready};
use crate::call::{Call, Problem};
use crate::error::Error;
use crate::machine::{Clock, Decision};
use crate::plan::{TimedPlan, Tuning};
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
pub(super) struct Bucket {
    dtype: DType,
    head_dim: usize,
    value_dim: usize,
    /// Queries, keys, and batch x heads, each the next power of two.
    extents: [usize; 3],
}

impl Bucket {
    /// That of a call; none where there is nothing to compute.
    pub(super) fn of(problem: &Problem) -> Option<Bucket> {
        let Problem { dtype, batch, heads, q_len, kv_len, head_dim, value_dim, .. } = *problem;
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

/// What was decided so far.
#[derive(Default)]
pub(super) struct Tuned {
    passes: HashMap<Bucket, Pass>,
    tunings: Vec<Tuning>,
}

impl KernelExecutor {
    /// The kernels of a call's forward pass: those of the fastest plan.
    pub(super) fn tuned_forward(&self, call: &Call) -> Result<Pass, Error> {
        let problem = &call.problem;
        let (Some(clock), Some(bucket)) = (self.machine.clock(), Bucket::of(problem)) else {
            return self.library.forward(problem);
        };
        if let Some(pass) = self.tuned().passes.get(&bucket) {
            return Ok(pass.clone());
        }
        let plans = self.library.forward_plans(problem)?;
        if plans.len() == 1 {
            let pass = self.library.forward(problem)?;
            return Ok(self.tuned().passes.entry(bucket).or_insert(pass).clone());
        }
        let kind = bucket.to_string();
        let mut question = vec![kind.as_str()];
        question.extend(plans.iter().flatten().map(|kernel| kernel.source.as_str()));
        let tuning = |decision: &Decision, measured| {
            let Decision { chosen, milliseconds } = decision;
            let times = milliseconds.iter().copied().chain(std::iter::repeat(None));
            let plans = plans.iter().zip(times).filter_map(|(plan, time)| timed(plan, time)).collect();
            let calls = format!("{} {bucket}", self.lowered.definition.name);
            Tuning { calls, plans, chosen: *chosen, measured }
        };
        if let Some(decision) = clock.decision(&question)
            && let Some(plan) = plans.get(decision.chosen)
        {
            match self.library.forward_plan(problem, decision.chosen, plan) {
                Ok(pass) => return Ok(self.decided(bucket, pass, tuning(&decision, false))),
                Err(error) => tracing::warn!(target: "attn::tune", %bucket, "a decision is of no use: {error}"),
            }
        }
        if !clock.is_running() {
            tracing::debug!(target: "attn::tune", %bucket, "a graph is recorded: the rules' plan is taken unmeasured");
            return self.library.forward(problem);
        }
        let compile = |(number, plan): (usize, &Vec<Source>)| {
            let pass = self.library.forward_plan(problem, number, plan);
            pass.inspect_err(|error| dropped(plan, error)).ok()
        };
        let passes: Vec<Option<Pass>> = plans.par_iter().enumerate().map(compile).collect();

        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        // another thread may have measured meanwhile
        if let Some(pass) = self.tuned().passes.get(&bucket) {
            return Ok(pass.clone());
        }
        let milliseconds = self.measure_plans(call, clock, &plans, &passes).unwrap_or_else(|error| {
            tracing::warn!(target: "attn::tune", %bucket, "plans cannot be measured: {error}");
            vec![]
        });
        drop(turn);
        let chosen = fastest(&milliseconds).and_then(|chosen| Some((chosen, passes[chosen].clone()?)));
        let Some((chosen, pass)) = chosen else { return self.library.forward(problem) };
        let decision = Decision { chosen, milliseconds };
        clock.keep_decision(&question, &decision);
        Ok(self.decided(bucket, pass, tuning(&decision, true)))
    }

    /// What was decided so far, in the order of the decisions.
    pub(super) fn tunings(&self) -> Vec<Tuning> {
        self.tuned().tunings.clone()
    }

    fn tuned(&self) -> std::sync::MutexGuard<'_, Tuned> {
        self.tuned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn decided(&self, bucket: Bucket, pass: Pass, tuning: Tuning) -> Pass {
        tracing::info!(target: "attn::tune", "{tuning}");
        let mut tuned = self.tuned();
        if !tuned.passes.contains_key(&bucket) {
            tuned.tunings.push(tuning);
        }
        tuned.passes.entry(bucket).or_insert(pass).clone()
    }

    /// Milliseconds of each plan; none for those that did not compile or run.
    fn measure_plans(
        &self,
        call: &Call,
        clock: &dyn Clock,
        plans: &[Vec<Source>],
        passes: &[Option<Pass>],
    ) -> Result<Vec<Option<f64>>, Error> {
        // all plans have the same arguments: one set of outputs, which nobody reads, serves them all
        let Some(any) = passes.iter().flatten().next() else { return Ok(vec![None; passes.len()]) };
        let scratch = self.prepare_forward(call, any)?;
        let launches = passes.iter().map(|pass| match pass {
            Some(pass) => self.forward_launches(&scratch, pass).map(Some),
            None => Ok(None),
        });
        let launches: Vec<Option<Vec<Ready<'_>>>> = launches.collect::<Result<_, Error>>()?;
        let issue = |launches: &[Ready<'_>]| launches.iter().try_for_each(|ready| self.issue(call, ready.clone()));
        let mut sample = |plan: usize, repeats: usize| {
            let Some(launches) = &launches[plan] else { return Ok(None) };
            // keeps the machine busy while the timed ones are issued, and its caches as a sequence of launches finds them
            issue(launches)?;
            let total = clock.time(&mut || (0..repeats).try_for_each(|_| issue(launches)))?;
            Ok(Some(total / repeats as f64))
        };
        Ok(measure(plans.len(), &mut sample, |plan, error| dropped(&plans[plan], error)))
    }
}

/// A plan and its time; none of kernels that are no forward pass.
fn timed(plan: &[Source], milliseconds: Option<f64>) -> Option<TimedPlan> {
    let &Source { block_q, block_kv, shared_memory, .. } = plan.last()?;
    Some(TimedPlan { block_q, block_kv, shared_memory, milliseconds })
}

fn dropped(plan: &[Source], error: &Error) {
    let file = plan.last().map_or("", |kernel| &kernel.file_name);
    tracing::warn!(target: "attn::tune", file, "a plan is out: {error}");
}

/// The median time of each of `count` plans. `sample` runs one a number of times and says how long one took, or nothing where the
/// plan does not exist; `failed` hears of those that fail, which are not run again.
fn measure(
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
fn fastest(milliseconds: &[Option<f64>]) -> Option<usize> {
    let timed = milliseconds.iter().enumerate().filter_map(|(plan, time)| Some((plan, (*time)?)));
    let (plan, time) = timed.min_by(|(_, a), (_, b)| a.total_cmp(b))?;
    let first = milliseconds.first().copied().flatten();
    Some(if first.is_some_and(|first| time >= WORTH * first) { 0 } else { plan })
}

#[cfg(test)]
mod tests {
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
