//! Barrier objects in shared memory: phases, pending arrivals, transaction bytes.
//!
//! A phase completes when no arrival and no byte is pending; then the next begins with the count of the initialisation. Whoever
//! waits for a phase knows what all its arrivals, and the copies that it received, knew.
//!
//! Invariants: the eight bytes of a live object are no ordinary memory; a waiting thread is in one object's list.

use std::collections::BTreeMap;

use super::clock::{Actor, Epoch, Knowledge};
use super::{Block, Caller, Raised, Step, Waiting};
use crate::abi::Address;
use crate::fault::FaultKind;

const BYTES: u32 = 8;
/// The most arrivals that an object counts.
const MOST_ARRIVALS: u32 = (1 << 20) - 1;
/// The most transaction bytes that it counts.
const MOST_BYTES: i64 = (1 << 20) - 1;

#[derive(Debug)]
struct Mbarrier {
    count: u32,
    pending: u32,
    bytes: i64,
    parity: u32,
    /// Of the arrivals of this phase.
    arriving: Knowledge,
    /// Of the last phase.
    completed: Knowledge,
    waiting: Vec<usize>,
    initialized: Epoch,
    initialized_at: Caller,
    /// The copy engine that completes transactions here.
    agent: Actor,
    agent_time: u32,
    last: Caller,
}

/// The live objects of a block, by shared address.
#[derive(Debug, Default)]
pub(crate) struct Mbarriers(BTreeMap<u32, Mbarrier>);

/// What arrives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) count: u32,
    /// Transaction bytes that are expected first.
    pub(crate) bytes: u32,
    /// Whether the arrival is one more than the object was initialised for.
    pub(crate) extra: bool,
}

fn misuse(caller: Caller, message: String) -> Raised {
    Raised::new(FaultKind::BarrierMisuse, caller, message)
}

impl Mbarriers {
    /// Refuses an ordinary access to a live object.
    pub(crate) fn refuse(&self, caller: Caller, address: u32, bytes: u32) -> Result<(), Raised> {
        if self.0.is_empty() {
            return Ok(());
        }
        let first = address.saturating_sub(BYTES - 1);
        match self.0.range(first..address + bytes).next() {
            None => Ok(()),
            Some((at, object)) => {
                let message =
                    format!("an ordinary access to shared address {address:#x}, where the mbarrier at {at:#x} lies");
                let (thread, pc) = (object.initialized_at.thread, object.initialized_at.pc);
                Err(misuse(caller, message).with("initialised by", Some(thread), pc))
            }
        }
    }

    /// What a thread that waits here waits for, for reports.
    pub(crate) fn state(&self, address: u32) -> Option<(String, Caller)> {
        self.0.get(&address).map(|object| {
            let text = format!(
                "mbarrier {address:#x}: parity {}, {} of {} arrivals and {} bytes missing; last used by",
                object.parity, object.pending, object.count, object.bytes
            );
            (text, object.last)
        })
    }

    fn get(
        &mut self,
        caller: Caller,
        address: u32,
        knowledge: &Knowledge,
        copy: bool,
    ) -> Result<&mut Mbarrier, Raised> {
        let Some(object) = self.0.get_mut(&address) else {
            return Err(misuse(caller, format!("there is no initialised mbarrier at shared address {address:#x}")));
        };
        let known = knowledge.past.knows(object.initialized);
        let announced =
            !copy || knowledge.announced.knows(object.initialized) || knowledge.published.knows(object.initialized);
        if known && announced {
            object.last = caller;
            return Ok(object);
        }
        let message = if known {
            format!(
                "a copy signals the mbarrier at {address:#x}, whose initialisation no fence.mbarrier_init has announced"
            )
        } else {
            format!("uses the mbarrier at {address:#x}, but nothing orders that after its initialisation")
        };
        let kind = if known { FaultKind::MissingProxyFence } else { FaultKind::Race };
        let (thread, pc) = (object.initialized_at.thread, object.initialized_at.pc);
        Err(Raised::new(kind, caller, message).with("initialised by", Some(thread), pc))
    }
}

impl Block {
    pub(crate) fn mbarrier_init(&mut self, caller: Caller, address: u32, count: u32) -> Result<(), Raised> {
        if count == 0 || count > MOST_ARRIVALS {
            return Err(misuse(
                caller,
                format!("mbarrier.init with {count} arrivals; 1 to {MOST_ARRIVALS} are possible"),
            ));
        }
        self.write_shared(caller, address, BYTES, BYTES)?;
        let agent = self.agent();
        let object = Mbarrier {
            count,
            pending: count,
            bytes: 0,
            parity: 0,
            arriving: Knowledge::default(),
            completed: Knowledge::default(),
            waiting: vec![],
            initialized: self.epoch(caller),
            initialized_at: caller,
            agent,
            agent_time: 0,
            last: caller,
        };
        self.mbarriers.0.insert(address, object);
        Ok(())
    }

    pub(crate) fn mbarrier_invalidate(&mut self, caller: Caller, address: u32) -> Result<(), Raised> {
        let knowledge = &self.threads[caller.thread].knowledge;
        let object = self.mbarriers.get(caller, address, knowledge, false)?;
        if !object.waiting.is_empty() {
            return Err(misuse(caller, format!("mbarrier.inval of {address:#x} while threads wait for it")));
        }
        self.mbarriers.0.remove(&address);
        Ok(())
    }

    pub(crate) fn mbarrier_expect(&mut self, caller: Caller, address: u32, bytes: u32) -> Result<(), Raised> {
        let knowledge = &self.threads[caller.thread].knowledge;
        let object = self.mbarriers.get(caller, address, knowledge, false)?;
        object.bytes += i64::from(bytes);
        if object.bytes > MOST_BYTES {
            let message =
                format!("the mbarrier at {address:#x} expects {} bytes; {MOST_BYTES} are possible", object.bytes);
            return Err(misuse(caller, message));
        }
        Ok(())
    }

    pub(crate) fn mbarrier_arrive(&mut self, caller: Caller, address: u32, arrival: Arrival) -> Result<(), Raised> {
        if arrival.bytes > 0 {
            self.mbarrier_expect(caller, address, arrival.bytes)?;
        }
        let knowledge = &self.threads[caller.thread].knowledge;
        let object = self.mbarriers.get(caller, address, knowledge, false)?;
        if arrival.extra {
            object.pending += arrival.count;
        }
        if arrival.count > object.pending {
            let message = format!(
                "{} arrivals at the mbarrier at {address:#x}, of whose {} only {} are missing ({} bytes are missing)",
                arrival.count, object.count, object.pending, object.bytes
            );
            return Err(misuse(caller, message));
        }
        object.pending -= arrival.count;
        object.arriving.join(knowledge);
        self.tick(caller.thread);
        let step = self.schedule.step;
        self.trace.note(step, caller, || match arrival.bytes {
            0 => format!("arrives at mbarrier {address:#x}"),
            bytes => format!("arrives at mbarrier {address:#x}, expects {bytes} bytes"),
        });
        self.mbarrier_complete(caller, address)
    }

    /// A copy has brought `bytes` bytes: the time at which it did, for those who wait.
    pub(crate) fn mbarrier_receive(&mut self, by: Caller, address: u32, bytes: u32) -> Result<super::Event, Raised> {
        let Some(object) = self.mbarriers.0.get_mut(&address) else {
            return Err(misuse(by, format!("the mbarrier at {address:#x} is gone when a copy arrives")));
        };
        object.bytes -= i64::from(bytes);
        object.agent_time += 1;
        object.arriving.past.set(object.agent, object.agent_time);
        // what the asynchronous proxy wrote, it sees
        object.arriving.published.set(object.agent, object.agent_time);
        let event = super::shadow::event(object.agent, object.agent_time, by.pc);
        self.mbarrier_complete(by, address)?;
        Ok(event)
    }

    /// Starts the next phase if this one is complete.
    fn mbarrier_complete(&mut self, caller: Caller, address: u32) -> Result<(), Raised> {
        let object = self.mbarriers.0.get_mut(&address).expect("the caller found it");
        if object.pending > 0 || object.bytes > 0 {
            return Ok(());
        }
        if object.bytes < 0 {
            let message =
                format!("the mbarrier at {address:#x} received {} bytes more than it expected", -object.bytes);
            return Err(misuse(caller, message));
        }
        object.pending = object.count;
        object.parity ^= 1;
        object.completed = std::mem::take(&mut object.arriving);
        let waiting = std::mem::take(&mut object.waiting);
        let completed = object.completed.clone();
        for thread in waiting {
            self.threads[thread].knowledge.join(&completed);
            self.grant(thread, 1);
        }
        Ok(())
    }

    /// `try_wait.parity`, or `test_wait.parity` if `test`.
    pub(crate) fn mbarrier_wait(
        &mut self,
        caller: Caller,
        address: u32,
        parity: u32,
        test: bool,
    ) -> Result<Step<u64>, Raised> {
        if parity > 1 {
            return Err(misuse(
                caller,
                format!("a wait for parity {parity} of the mbarrier at {address:#x}; it is 0 or 1"),
            ));
        }
        let knowledge = &self.threads[caller.thread].knowledge;
        let object = self.mbarriers.get(caller, address, knowledge, false)?;
        if object.parity != parity {
            let completed = object.completed.clone();
            self.threads[caller.thread].knowledge.join(&completed);
            return Ok(Step::Done(1));
        }
        if test {
            return Ok(Step::Yield(0));
        }
        object.waiting.push(caller.thread);
        let step = self.schedule.step;
        self.trace.note(step, caller, || format!("waits for mbarrier {address:#x}, parity {parity}"));
        Ok(Step::Wait(Waiting::Mbarrier(address, parity)))
    }

    /// Checks that a copy may signal an mbarrier.
    pub(crate) fn mbarrier_for_copy(&mut self, caller: Caller, address: u32) -> Result<(), Raised> {
        let knowledge = &self.threads[caller.thread].knowledge;
        self.mbarriers.get(caller, address, knowledge, true).map(drop)
    }

    /// An address that is waited on, for a report of a deadlock.
    pub(crate) fn mbarrier_report(&self, address: u32) -> Option<(String, usize, Address)> {
        self.mbarriers.state(address).map(|(text, caller)| (text, caller.thread, caller.pc))
    }
}
