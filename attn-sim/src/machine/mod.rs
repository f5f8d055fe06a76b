//! The machine that runs one block: its threads as fibers, its shared memory, its barriers, and the engines that work beside it.
//!
//! A thread runs until it waits; then the scheduler picks the next one. The whole block lives on one OS thread, so that nothing
//! but global memory ([`global`], [`word`]) is concurrent: what a GPU does at the same time is an order that the seed decides, and what no order forbids is found
//! by clocks (see [`clock`] and [`shadow`]).
//!
//! Asynchronous work is a [`pending::Pending`] operation. It lands when something waits for it, at a random earlier step, or, for
//! copies that only a barrier object waits for, when nothing else can go on.
//!
//! Invariants: a primitive either completes, suspends its thread until another thread's primitive grants it to go on, or raises
//! a fault, after which no thread of the block runs again; no borrow of the block is held across a suspension.

mod atomic;
mod barrier;
mod bulk;
mod clock;
mod copy_async;
pub(crate) mod entry;
mod fiber;
mod global;
mod launch;
mod matrix;
mod mbarrier;
mod memory;
mod pending;
mod progress;
mod registers;
mod schedule;
mod shadow;
mod tensor_map;
mod trace;
mod warp;
mod wgmma;
mod word;

use std::fmt;

pub(crate) use global::MOST_BLOCKS;
pub(crate) use launch::{BlockOutcome, GridLaunch, MOST_ARGUMENTS, run_block};

use self::barrier::Barriers;
use self::clock::{Actor, Epoch, Knowledge};
use self::fiber::Fiber;
use self::global::GlobalView;
use self::mbarrier::Mbarriers;
use self::memory::SharedMemory;
use self::pending::{Groups, Pending};
use self::registers::Registers;
use self::schedule::Schedule;
use self::shadow::{Conflict, Event, Operation};
use self::tensor_map::MapUser;
use self::trace::Trace;
use self::warp::Collectives;
use self::wgmma::Warpgroup;
use self::word::{Stall, WordUser};
use crate::abi::{Address, ThreadContext};
use crate::fault::FaultKind;

/// Threads of a warp.
pub(crate) const WARP: usize = 32;
/// Threads of a warpgroup.
pub(crate) const WARPGROUP: usize = 128;

/// Who executes a primitive, and where in the kernel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) thread: usize,
    pub(crate) pc: Address,
}

impl Caller {
    pub(crate) fn warp(self) -> usize {
        self.thread / WARP
    }

    pub(crate) fn lane(self) -> usize {
        self.thread % WARP
    }

    pub(crate) fn actor(self) -> Actor {
        self.thread as Actor
    }
}

/// A fault whose places are still addresses of the compiled kernel.
#[derive(Clone, Debug)]
pub(crate) struct Raised {
    pub(crate) kind: FaultKind,
    pub(crate) message: String,
    pub(crate) thread: usize,
    pub(crate) pc: Address,
    pub(crate) history: Vec<(String, Option<usize>, Address)>,
}

impl Raised {
    pub(crate) fn new(kind: FaultKind, caller: Caller, message: impl Into<String>) -> Raised {
        Raised { kind, message: message.into(), thread: caller.thread, pc: caller.pc, history: vec![] }
    }

    pub(crate) fn with(mut self, what: impl Into<String>, thread: Option<usize>, pc: Address) -> Raised {
        self.history.push((what.into(), thread, pc));
        self
    }
}

/// What a thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// The other lanes of a warp, or threads of a warpgroup, in a collective operation.
    Collective(&'static str),
    /// A barrier of `bar.sync`.
    Barrier(u32),
    /// The phase of an mbarrier at this shared address.
    Mbarrier(u32, u32),
    /// Registers of `setmaxnreg.inc`.
    Registers(u32),
    /// Another value of so many bytes of global memory.
    Word { address: Address, bytes: u32, value: u128 },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Waiting::Collective(name) => write!(f, "the other threads of {name}"),
            Waiting::Barrier(id) => write!(f, "barrier {id}"),
            Waiting::Mbarrier(address, parity) => {
                write!(f, "the mbarrier at shared address {address:#x} to complete the phase of parity {parity}")
            }
            Waiting::Registers(count) => write!(f, "{count} registers a thread"),
            Waiting::Word { address, bytes, value } => {
                write!(f, "the {bytes} bytes at {address:#x}, which are {value}, to change")
            }
        }
    }
}

/// What a thread does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Runnable,
    Waiting(Waiting, Address),
    /// It waits for something that no thread of the block may do, and looks again now and then.
    Polling(Waiting, Address),
    Exited,
}

/// One CUDA thread.
pub(crate) struct Thread {
    pub(crate) state: State,
    pub(crate) context: Box<ThreadContext>,
    pub(crate) fiber: Option<Fiber>,
    pub(crate) knowledge: Knowledge,
    /// What the event that ended the last wait handed over.
    pub(crate) granted: u64,
    pub(crate) copies: Groups,
    /// Bulk stores that may still read shared memory, and those that may still write global memory.
    pub(crate) bulk: Groups,
    pub(crate) bulk_writes: Groups,
    pub(crate) words: WordUser,
    pub(crate) maps: MapUser,
}

/// A running block.
pub(crate) struct Block {
    /// The block's number in its grid, from 1.
    pub(crate) number: u32,
    pub(crate) threads: Vec<Thread>,
    pub(crate) schedule: Schedule,
    pub(crate) shared: SharedMemory,
    pub(crate) global: GlobalView,
    pub(crate) barriers: Barriers,
    pub(crate) mbarriers: Mbarriers,
    pub(crate) collectives: Collectives,
    pub(crate) pending: Pending,
    pub(crate) warpgroups: Vec<Warpgroup>,
    pub(crate) registers: Registers,
    pub(crate) trace: Trace,
    pub(crate) fault: Option<Raised>,
    pub(crate) operations: u64,
    /// Operations that change nothing: loops that wait for another block may make them.
    pub(crate) quiet: u64,
    /// Threads that poll.
    pub(crate) pollers: Vec<usize>,
    pub(crate) stall: Stall,
    agents: Actor,
}

/// How a primitive goes on.
pub(crate) enum Step<T> {
    /// With its result.
    Done(T),
    /// With its result, once other threads have had a chance to run.
    Yield(T),
    /// The same, where it has seen that what it waits for has not happened.
    Poll(T, Waiting),
    /// Once another thread grants it.
    Wait(Waiting),
}

impl Block {
    /// A new actor for hardware that works on its own.
    pub(crate) fn agent(&mut self) -> Actor {
        self.agents += 1;
        self.agents - 1
    }

    /// The time of an actor that is a thread: its own component.
    pub(crate) fn now(&self, caller: Caller) -> u32 {
        self.threads[caller.thread].knowledge.past.get(caller.actor())
    }

    pub(crate) fn event(&self, caller: Caller) -> Event {
        shadow::event(caller.actor(), self.now(caller), caller.pc)
    }

    /// After a release: what the thread does next is not covered by it.
    pub(crate) fn tick(&mut self, thread: usize) {
        let past = &mut self.threads[thread].knowledge.past;
        let time = past.get(thread as Actor);
        past.set(thread as Actor, time + 1);
    }

    /// Lets a waiting thread go on.
    pub(crate) fn grant(&mut self, thread: usize, value: u64) {
        debug_assert!(matches!(self.threads[thread].state, State::Waiting(..)));
        self.threads[thread].state = State::Runnable;
        self.threads[thread].granted = value;
        self.schedule.ready(thread);
    }

    /// Synchronises threads with each other: each then knows what all knew.
    pub(crate) fn meet(&mut self, threads: &[usize]) {
        let mut all = Knowledge::default();
        threads.iter().for_each(|&thread| all.join(&self.threads[thread].knowledge));
        for &thread in threads {
            self.threads[thread].knowledge.join(&all);
            self.tick(thread);
        }
    }

    /// A conflict in shared memory as a fault of the caller.
    pub(crate) fn conflict(&self, caller: Caller, what: &str, conflict: Conflict) -> Raised {
        let address = self.shared.address_of(conflict.offset);
        let reason = match conflict.kind {
            FaultKind::Uninitialized => "which nothing has written",
            FaultKind::Race => "with nothing that orders the two; a barrier or a wait is missing",
            FaultKind::CopyInFlight => "before anything waited for the copy that writes there",
            FaultKind::OverwrittenInFlight => "while it is still being read",
            FaultKind::MissingProxyFence => {
                "by the asynchronous proxy; the writer needs fence.proxy.async before the barrier"
            }
            _ => "",
        };
        let mut raised = Raised::new(conflict.kind, caller, format!("{what} shared address {address:#x}, {reason}"));
        if let Some((how, event)) = conflict.earlier {
            let thread = usize::from(event.epoch.actor);
            raised = raised.with(how, (thread < self.threads.len()).then_some(thread), event.pc);
        }
        if let Some(operation) = conflict.operation
            && let Some((name, by)) = self.pending.describe(operation)
        {
            raised = raised.with(format!("{name} issued by"), Some(by.thread), by.pc);
        }
        raised
    }

    /// The operation's number as a label.
    pub(crate) fn describe(&self, operation: Operation) -> Option<(&'static str, Caller)> {
        self.pending.describe(operation)
    }

    /// An epoch of a thread now.
    pub(crate) fn epoch(&self, caller: Caller) -> Epoch {
        Epoch { actor: caller.actor(), time: self.now(caller) }
    }
}
