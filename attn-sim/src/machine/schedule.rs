//! Which thread runs next: a function of the seed.
//!
//! Three policies, by seed: warps at random; warps by random priorities that change now and then, which lets one warp run far
//! ahead of the others (after Burckhardt et al. 2010, "A randomized scheduler with probabilistic guarantees of finding bugs");
//! warps in turn.
//!
//! Invariant: every thread that is ready is picked sooner or later.

use fastrand::Rng;

use super::WARP;

#[derive(Clone, Copy, Debug)]
enum Policy {
    Random,
    Priorities,
    Turns,
}

/// The threads that are ready, and who is next.
#[derive(Debug)]
pub(crate) struct Schedule {
    policy: Policy,
    /// By warp.
    ready: Vec<Vec<u16>>,
    priorities: Vec<u32>,
    last: usize,
    waiting_turns: u32,
    count: usize,
    pub(crate) random: Rng,
    /// Threads picked so far: the machine's time.
    pub(crate) step: u64,
}

/// A warp with the highest priority loses it after about this many steps.
const CHANGE: u32 = 500;

impl Schedule {
    pub(crate) fn new(threads: usize, seed: u64) -> Schedule {
        let policy = match seed % 3 {
            0 => Policy::Random,
            1 => Policy::Priorities,
            _ => Policy::Turns,
        };
        let warps = threads.div_ceil(WARP);
        let mut random = Rng::with_seed(seed ^ 0x5EED);
        let mut priorities: Vec<u32> = (0..warps as u32).collect();
        random.shuffle(&mut priorities);
        Schedule {
            policy,
            ready: vec![vec![]; warps],
            priorities,
            last: 0,
            waiting_turns: CHANGE,
            count: 0,
            random,
            step: 0,
        }
    }

    /// The thread can run.
    pub(crate) fn ready(&mut self, thread: usize) {
        self.ready[thread / WARP].push(thread as u16);
        self.count += 1;
    }

    /// The next thread, no longer ready.
    pub(crate) fn pick(&mut self) -> Option<usize> {
        if self.count == 0 {
            return None;
        }
        self.step += 1;
        let warps = self.ready.len();
        let is_ready = |warp: &usize| !self.ready[*warp].is_empty();
        let warp = match self.policy {
            Policy::Random => {
                let start = self.random.usize(..warps);
                (start..start + warps).map(|warp| warp % warps).find(is_ready)
            }
            Policy::Turns => (self.last + 1..=self.last + warps).map(|warp| warp % warps).find(is_ready),
            Policy::Priorities => (0..warps).filter(is_ready).max_by_key(|&warp| self.priorities[warp]),
        }?;
        if matches!(self.policy, Policy::Priorities) {
            self.waiting_turns -= 1;
            if self.waiting_turns == 0 {
                self.waiting_turns = self.random.u32(1..2 * CHANGE);
                let low = self.priorities.iter().min().copied().unwrap_or(0);
                self.priorities.iter_mut().for_each(|priority| *priority += 1);
                self.priorities[warp] = low;
            }
        }
        self.last = warp;
        let lane = self.random.usize(..self.ready[warp].len());
        self.count -= 1;
        Some(usize::from(self.ready[warp].swap_remove(lane)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_picks_everyone_and_repeats_itself() {
        for seed in 0..6 {
            let order = |seed| {
                let mut schedule = Schedule::new(100, seed);
                (0..100).for_each(|thread| schedule.ready(thread));
                let mut order = vec![];
                for _ in 0..3000 {
                    let thread = schedule.pick().unwrap();
                    order.push(thread);
                    schedule.ready(thread);
                }
                order
            };
            let picked = order(seed);
            assert_eq!(picked, order(seed));
            let mut distinct = picked.clone();
            distinct.sort_unstable();
            distinct.dedup();
            assert_eq!(distinct.len(), if seed % 3 == 1 { distinct.len() } else { 100 });
            assert!(distinct.len() >= 32);
        }
    }

    #[test]
    fn nothing_ready_is_nothing_picked() {
        let mut schedule = Schedule::new(32, 0);
        assert_eq!(schedule.pick(), None);
        schedule.ready(5);
        assert_eq!((schedule.pick(), schedule.pick()), (Some(5), None));
    }
}
