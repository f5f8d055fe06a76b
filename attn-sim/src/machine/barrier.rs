//! The sixteen barriers of `bar.sync` and `bar.arrive`; barrier 0 is that of `__syncthreads`.
//!
//! A barrier completes when as many threads have arrived as its users say. All who use it must say the same number; without a
//! number it is that of the block's threads that have not exited.
//!
//! Invariant: a waiting thread is in exactly one barrier's list; completing a barrier empties it for its next use.

use super::clock::Knowledge;
use super::{Block, Caller, Raised, State, Step, WARP, Waiting};
use crate::abi::Address;
use crate::fault::FaultKind;

/// Barriers of a block.
pub(crate) const BARRIERS: usize = 16;

#[derive(Debug, Default)]
struct Barrier {
    /// The number of threads that the first to arrive gave; `None` for all of the block.
    expected: Option<Option<u32>>,
    arrived: u32,
    waiting: Vec<usize>,
    knowledge: Knowledge,
    first: Option<(usize, Address)>,
}

/// All barriers of a block.
#[derive(Debug, Default)]
pub(crate) struct Barriers([Barrier; BARRIERS]);

impl Block {
    /// `bar.sync`, or `bar.arrive` if not `wait`.
    pub(crate) fn barrier(&mut self, caller: Caller, id: u32, threads: u32, wait: bool) -> Result<Step<()>, Raised> {
        let wrong = |message: String| Err(Raised::new(FaultKind::BarrierCount, caller, message));
        if id as usize >= BARRIERS {
            return wrong(format!("barrier {id}: a block has barriers 0 to {}", BARRIERS - 1));
        }
        if !(threads as usize).is_multiple_of(WARP) || threads as usize > self.threads.len() {
            let all = self.threads.len();
            return wrong(format!(
                "barrier {id} for {threads} threads: a multiple of {WARP} up to the block's {all} is needed"
            ));
        }
        if !wait && threads == 0 {
            return wrong(format!("bar.arrive on barrier {id} needs a number of threads"));
        }
        let given = (threads > 0).then_some(threads);
        let barrier = &mut self.barriers.0[id as usize];
        match barrier.expected {
            None => {
                barrier.expected = Some(given);
                barrier.first = Some((caller.thread, caller.pc));
            }
            Some(expected) if expected != given => {
                let text =
                    |count: Option<u32>| count.map_or("all threads".to_owned(), |count| format!("{count} threads"));
                let message = format!("barrier {id} for {}, which others use for {}", text(given), text(expected));
                let raised = Raised::new(FaultKind::BarrierCount, caller, message);
                let first = barrier.first.expect("someone was first");
                return Err(raised.with("the first to arrive was", Some(first.0), first.1));
            }
            Some(_) => {}
        }
        barrier.arrived += 1;
        barrier.knowledge.join(&self.threads[caller.thread].knowledge);
        self.tick(caller.thread);
        if wait {
            self.barriers.0[id as usize].waiting.push(caller.thread);
        }
        let name = if wait { "bar.sync" } else { "bar.arrive" };
        self.trace.note(self.schedule.step, caller, || format!("{name} {id}"));
        if self.barrier_complete(id as usize, wait.then_some(caller.thread)) || !wait {
            Ok(Step::Done(()))
        } else {
            Ok(Step::Wait(Waiting::Barrier(id)))
        }
    }

    /// Completes a barrier if all have arrived. `running` is the thread that need not be woken.
    fn barrier_complete(&mut self, id: usize, running: Option<usize>) -> bool {
        let alive = self.threads.iter().filter(|thread| thread.state != State::Exited).count() as u32;
        let barrier = &mut self.barriers.0[id];
        let Some(expected) = barrier.expected else { return false };
        if barrier.arrived < expected.unwrap_or(alive) {
            return false;
        }
        let barrier = std::mem::take(barrier);
        for &thread in &barrier.waiting {
            self.threads[thread].knowledge.join(&barrier.knowledge);
            if running != Some(thread) {
                self.grant(thread, 0);
            }
        }
        true
    }

    /// A thread has exited: barriers of all threads may be complete now.
    pub(crate) fn barriers_after_exit(&mut self) {
        for id in 0..BARRIERS {
            if self.barriers.0[id].expected == Some(None) {
                self.barrier_complete(id, None);
            }
        }
    }

    /// At the end of a block: nobody may have arrived at a barrier that never completed.
    pub(crate) fn barriers_at_exit(&self) -> Result<(), Raised> {
        for (id, barrier) in self.barriers.0.iter().enumerate() {
            if let (Some(Some(expected)), Some((thread, pc))) = (barrier.expected, barrier.first) {
                let message =
                    format!("barrier {id} for {expected} threads never completed: {} arrived", barrier.arrived);
                return Err(Raised::new(FaultKind::BarrierCount, Caller { thread, pc }, message));
            }
        }
        Ok(())
    }
}
