//! The autotuner: which plan of a forward pass is the fastest on this machine, for calls of a kind.
//!
//! A kind of calls is a [`Bucket`]. The first call of one compiles every plan, times each on its own arguments, with outputs that
//! nobody reads, and keeps the answer: here for the executor's life, and with the machine's [`Clock`] for later processes. The
//! question that is answered there has the sources of all plans in it, so that an answer never outlives a change of a kernel.
//!
//! Invariants: a plan that fails is out and breaks no call that the plan of the rules would not break; measurements in a process take
//! turns; no lock is held while kernels compile.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use attn_dsl::cuda::Kernel as Source;
use rayon::prelude::*;

use super::compiled::Pass;
use super::{KernelExecutor, Ready};
use crate::call::Call;
use crate::error::Error;
use crate::machine::{Clock, Decision};
use crate::plan::{TimedPlan, Tuning};
use crate::timing::{Bucket, fastest, measure};

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
        let scratch = self.prepare_forward(call, any, &[])?;
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
