//! Vector clocks: what happened before what.
//!
//! Every CUDA thread has a clock with one component per thread, and one per agent: an agent stands for hardware that works on
//! its own, such as the copy engine behind one mbarrier. An event is an [`Epoch`]: whose it is and when. It happened before
//! what a thread does now if the thread's clock has reached it. Of other blocks, a thread knows the clocks that it acquired through
//! words of global memory ([`Others`]).
//!
//! Invariants: a component is missing where it is 0; a clock that several own is never changed in place.

use std::collections::BTreeMap;
use std::sync::Arc;

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

    /// Whether it knows all that another clock knows.
    fn covers(&self, other: &Clock) -> bool {
        other.0.iter().zip(0..).all(|(&time, actor)| self.get(actor) >= time)
    }

    /// Keeps what the other knows, too.
    fn intersect(&mut self, other: &Clock) {
        self.0.truncate(other.0.len());
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine = (*mine).min(*theirs);
        }
    }
}

/// What is known of the pasts of blocks, by their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Others(BTreeMap<u32, Arc<Clock>>);

impl Others {
    /// Whether the event of that block happened before what the owner does now.
    pub(crate) fn know(&self, block: u32, epoch: Epoch) -> bool {
        self.0.get(&block).is_some_and(|clock| clock.knows(epoch))
    }

    /// What is known of one block.
    pub(crate) fn of(&self, block: u32) -> Option<&Clock> {
        self.0.get(&block).map(|clock| &**clock)
    }

    /// The same with the past of a block.
    pub(crate) fn with(&self, block: u32, past: &Clock) -> Others {
        let mut others = self.clone();
        others.0.insert(block, Arc::new(past.clone()));
        others
    }

    /// Learns all that others know. Clocks are shared where one covers the other.
    pub(crate) fn join(&mut self, other: &Others) {
        for (&block, theirs) in &other.0 {
            let mine = self.0.entry(block).or_insert_with(|| theirs.clone());
            if Arc::ptr_eq(mine, theirs) || mine.covers(theirs) {
                continue;
            }
            if theirs.covers(mine) {
                *mine = theirs.clone();
            } else {
                Arc::make_mut(mine).join(theirs);
            }
        }
    }

    /// Keeps what the other knows, too.
    fn intersect(&mut self, other: &Others) {
        self.0.retain(|block, _| other.0.contains_key(block));
        for (block, mine) in &mut self.0 {
            let theirs = &other.0[block];
            if !Arc::ptr_eq(mine, theirs) && !theirs.covers(mine) {
                Arc::make_mut(mine).intersect(theirs);
            }
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
    /// What happened before in other blocks.
    pub(crate) others: Others,
}

impl Knowledge {
    pub(crate) fn join(&mut self, other: &Knowledge) {
        self.past.join(&other.past);
        self.published.join(&other.published);
        self.announced.join(&other.announced);
        self.others.join(&other.others);
    }

    /// Keeps what the other knows, too.
    pub(crate) fn intersect(&mut self, other: &Knowledge) {
        self.past.intersect(&other.past);
        self.published.intersect(&other.published);
        self.announced.intersect(&other.announced);
        self.others.intersect(&other.others);
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

    #[test]
    fn blocks_know_what_they_acquired() {
        let (mut early, mut late, mut aside) = (Clock::default(), Clock::default(), Clock::default());
        early.set(3, 1);
        late.set(3, 2);
        aside.set(4, 7);
        let epoch = |actor, time| Epoch { actor, time };
        let mut mine = Others::default().with(1, &early);
        assert!(mine.know(1, epoch(3, 1)) && !mine.know(1, epoch(3, 2)) && !mine.know(2, epoch(3, 1)));
        let theirs = Others::default().with(1, &late).with(2, &aside);
        mine.join(&theirs);
        assert!(mine.know(1, epoch(3, 2)) && mine.know(2, epoch(4, 7)));
        // the later clock is shared, and joining what is aside of it leaves its other owner alone
        assert!(Arc::ptr_eq(&mine.0[&1], &theirs.0[&1]));
        mine.join(&Others::default().with(1, &aside));
        assert!(mine.know(1, epoch(3, 2)) && mine.know(1, epoch(4, 7)) && !theirs.know(1, epoch(4, 7)));
        mine.intersect(&Others::default().with(1, &early));
        assert!(mine.know(1, epoch(3, 1)) && !mine.know(1, epoch(3, 2)) && mine.of(2).is_none());
    }
}
