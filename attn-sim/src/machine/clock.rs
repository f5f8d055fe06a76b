//! Vector clocks: what happened before what.
//!
//! Every CUDA thread has a clock with one component per thread, and one per agent: an agent stands for hardware that works on
//! its own, such as the copy engine behind one mbarrier. An event is an [`Epoch`]: whose it is and when. It happened before
//! what a thread does now if the thread's clock has reached it.
//!
//! Invariant: a component is missing where it is 0.

/// A thread of the block, or an agent.
pub(crate) type Actor = u16;

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub(crate) actor: Actor,
    pub(crate) time: u32,
}

/// How much of every actor's past is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Vec<u32>);

impl Clock {
    pub(crate) fn get(&self, actor: Actor) -> u32 {
        self.0.get(usize::from(actor)).copied().unwrap_or(0)
    }

    pub(crate) fn set(&mut self, actor: Actor, time: u32) {
        let at = usize::from(actor);
        if at >= self.0.len() {
            self.0.resize(at + 1, 0);
        }
        self.0[at] = time;
    }

    /// Learns all that another clock knows.
    pub(crate) fn join(&mut self, other: &Clock) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).max(*theirs);
        }
    }

    /// Whether the event happened before what the owner of this clock does now.
    pub(crate) fn knows(&self, epoch: Epoch) -> bool {
        self.get(epoch.actor) >= epoch.time
    }

    /// Keeps what the other knows, too.
    fn intersect(&mut self, other: &Clock) {
        self.0.truncate(other.0.len());
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).min(*theirs);
        }
    }
}

/// What a thread passes on when it releases, and learns when it acquires.
#[derive(Clone, Debug, Default)]
pub(crate) struct Knowledge {
    /// What happened before.
    pub(crate) past: Clock,
    /// What of it a proxy fence has made visible to the asynchronous proxy (copy engine, tensor cores).
    pub(crate) published: Clock,
    /// Which initialisations of mbarriers a fence has made visible to it.
    pub(crate) announced: Clock,
}

impl Knowledge {
    pub(crate) fn join(&mut self, other: &Knowledge) {
        self.past.join(&other.past);
        self.published.join(&other.published);
        self.announced.join(&other.announced);
    }

    /// Keeps what the other knows, too.
    pub(crate) fn intersect(&mut self, other: &Knowledge) {
        self.past.intersect(&other.past);
        self.published.intersect(&other.published);
        self.announced.intersect(&other.announced);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_know_what_they_joined() {
        let (mut a, mut b) = (Clock::default(), Clock::default());
        a.set(0, 3);
        b.set(5, 2);
        let event = Epoch { actor: 0, time: 3 };
        assert!(a.knows(event) && !b.knows(event));
        b.join(&a);
        assert!(b.knows(event) && b.knows(Epoch { actor: 5, time: 2 }) && !b.knows(Epoch { actor: 0, time: 4 }));
        assert_eq!(a.get(5), 0);
        b.intersect(&a);
        assert!(b.knows(event) && !b.knows(Epoch { actor: 5, time: 1 }));
    }
}
