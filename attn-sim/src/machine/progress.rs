//! Whether any block of a launch can still go on, where blocks wait for words of global memory.
//!
//! A block is stalled when all its threads wait and those that poll words have seen no change since the last change of any word.
//! When all running blocks are stalled, nothing can ever change: a deadlock, or the end of a launch of which another block failed.
//! Blocks that have not started may yet start on an OS thread that is free, and are given time to.
//!
//! Invariant: a claim to be stalled counts until any word changes, or until its block goes on or ends.

use std::time::Duration;

/// What the running blocks tell each other.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    unstarted: u32,
    running: u32,
    /// Claims since the last change.
    stalled: u32,
    changes: u64,
    failed: bool,
    deadlocked: bool,
}

/// A block's claim: the number of changes that it is for.
pub(crate) type Claim = Option<u64>;

/// What a stalled block does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It polls again.
    Again,
    /// The same, and if that lasts for so long it is a deadlock.
    Unless(Duration),
    /// It ends, since a block on which it may depend has failed.
    Abandon,
    Deadlock,
}

/// How long blocks that could start on another OS thread are waited for, and how long it takes where there are none.
const STARTING: Duration = Duration::from_secs(1);
const STARTED: Duration = Duration::from_millis(30);

impl Progress {
    pub(crate) fn new(blocks: u32) -> Progress {
        Progress { unstarted: blocks, ..Progress::default() }
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// A word has changed.
    pub(crate) fn change(&mut self) {
        self.changes += 1;
        self.stalled = 0;
    }

    pub(crate) fn start(&mut self) {
        self.unstarted -= 1;
        self.running += 1;
    }

    pub(crate) fn end(&mut self, claim: Claim, failed: bool) {
        self.withdraw(claim);
        self.running -= 1;
        self.failed |= failed;
    }

    /// The caller has seen all changes so far, and could do nothing.
    pub(crate) fn claim(&mut self, claim: &mut Claim) {
        if *claim != Some(self.changes) {
            *claim = Some(self.changes);
            self.stalled += 1;
        }
    }

    /// The caller goes on.
    pub(crate) fn withdraw(&mut self, claim: Claim) {
        if claim == Some(self.changes) {
            self.stalled -= 1;
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match () {
            () if self.deadlocked => Verdict::Deadlock,
            () if self.stalled < self.running => Verdict::Again,
            () if self.failed => Verdict::Abandon,
            () if self.unstarted > 0 => Verdict::Unless(STARTING),
            () => Verdict::Unless(STARTED),
        }
    }

    /// The time was up: all stalled blocks report it, so that the first in the grid is heard.
    pub(crate) fn give_up(&mut self) {
        self.deadlocked = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_must_have_seen_the_last_change() {
        let mut progress = Progress::new(2);
        let (mut first, mut second) = (None, None);
        progress.start();
        progress.claim(&mut first);
        progress.claim(&mut first);
        assert_eq!(progress.verdict(), Verdict::Unless(STARTING));
        progress.start();
        assert_eq!(progress.verdict(), Verdict::Again);
        progress.claim(&mut second);
        assert_eq!(progress.verdict(), Verdict::Unless(STARTED));
        progress.change();
        assert_eq!(progress.verdict(), Verdict::Again);
        progress.withdraw(second);
        progress.claim(&mut first);
        assert_eq!(progress.verdict(), Verdict::Again);
        progress.claim(&mut second);
        progress.withdraw(second.take());
        assert_eq!(progress.verdict(), Verdict::Again);
        progress.end(second, false);
        assert_eq!(progress.verdict(), Verdict::Unless(STARTED));
        progress.give_up();
        assert_eq!(progress.verdict(), Verdict::Deadlock);
    }

    #[test]
    fn who_waits_for_a_block_that_failed_gives_up() {
        let mut progress = Progress::new(3);
        let mut claim = None;
        progress.start();
        progress.start();
        progress.claim(&mut claim);
        assert_eq!(progress.verdict(), Verdict::Again);
        progress.end(None, true);
        assert_eq!(progress.verdict(), Verdict::Abandon);
        progress.end(claim, false);
        assert_eq!((progress.stalled, progress.running, progress.unstarted), (0, 0, 1));
    }
}
