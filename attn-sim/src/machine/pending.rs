//! Asynchronous work between its issue and the wait for it.
//!
//! An operation *lands* when its bytes move: when something waits for it, or at a step that the seed chose. It is *finished*
//! when whoever waits for it may rely on that. In between, the shadow keeps everyone off what it reads and writes.
//!
//! Invariant: every operation lands exactly once, and finishes at most once, after it landed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use super::bulk::{BulkLoad, BulkStore};
use super::copy_async::Copy;
use super::shadow::Operation;
use super::wgmma::Product;
use super::{Block, Caller, Raised};

/// What an operation does.
#[derive(Clone, Debug)]
pub(crate) enum Work {
    /// `cp.async`.
    Copy(Copy),
    /// A bulk or tensor copy to shared memory.
    Load(BulkLoad),
    /// A bulk or tensor copy, or reduction, to global memory.
    Store(BulkStore),
    /// `wgmma.mma_async`.
    Product(Product),
}

impl Work {
    fn name(&self) -> &'static str {
        match self {
            Work::Copy(_) => "cp.async",
            Work::Load(load) => load.name,
            Work::Store(store) => store.name,
            Work::Product(_) => "wgmma.mma_async",
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    by: Caller,
    landed: bool,
    work: Work,
}

/// All unfinished operations of a block.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    entries: BTreeMap<Operation, Entry>,
    last: Operation,
    /// Operations that land early, by step.
    early: BinaryHeap<Reverse<(u64, Operation)>>,
}

/// The groups of a thread's asynchronous copies of one kind.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) open: Vec<Operation>,
    pub(crate) committed: VecDeque<Vec<Operation>>,
}

impl Groups {
    pub(crate) fn commit(&mut self) {
        let group = std::mem::take(&mut self.open);
        self.committed.push_back(group);
    }

    /// Takes all groups but the last `pending`, oldest first.
    pub(crate) fn take(&mut self, pending: u32) -> Vec<Operation> {
        let count = self.committed.len().saturating_sub(pending as usize);
        self.committed.drain(..count).flatten().collect()
    }
}

/// An operation that lands early does so within this many steps.
const EARLY: u64 = 400;

impl Pending {
    /// The operation's name and who issued it.
    pub(crate) fn describe(&self, operation: Operation) -> Option<(&'static str, Caller)> {
        self.entries.get(&operation).map(|entry| (entry.work.name(), entry.by))
    }

    /// The number that the next operation gets.
    pub(crate) fn next(&self) -> Operation {
        self.last + 1
    }

    /// Any load that has not landed.
    pub(crate) fn loads(&self) -> impl Iterator<Item = Operation> {
        let is_load = |entry: &Entry| !entry.landed && matches!(entry.work, Work::Load(_));
        self.entries.iter().filter(move |(_, entry)| is_load(entry)).map(|(&operation, _)| operation)
    }

    /// Bulk copies that still read or write the block's shared memory.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = (&'static str, Caller)> {
        self.entries.values().map(|entry| (entry.work.name(), entry.by))
    }

    /// A store that is not finished.
    pub(crate) fn store(&mut self, operation: Operation) -> Option<&mut BulkStore> {
        self.entries.get_mut(&operation).and_then(|entry| match &mut entry.work {
            Work::Store(store) => Some(store),
            _ => None,
        })
    }

    /// Stores that have read shared memory and may still write.
    pub(crate) fn stores_that_were_read(&self) -> Vec<Operation> {
        let was_read = |entry: &Entry| matches!(&entry.work, Work::Store(store) if store.was_read());
        self.entries.iter().filter(|(_, entry)| was_read(entry)).map(|(&operation, _)| operation).collect()
    }
}

impl Block {
    /// Starts an operation, which lands early by chance.
    pub(crate) fn start(&mut self, by: Caller, work: Work) -> Operation {
        let operation = self.pending.next();
        self.pending.last = operation;
        let step = self.schedule.step;
        self.trace.note(step, by, || format!("{} starts", work.name()));
        self.pending.entries.insert(operation, Entry { by, landed: false, work });
        if self.schedule.random.bool() {
            let due = step + self.schedule.random.u64(1..EARLY);
            self.pending.early.push(Reverse((due, operation)));
        }
        operation
    }

    /// Lands what is due.
    pub(crate) fn land_due(&mut self) -> Result<(), Raised> {
        while let Some(&Reverse((due, operation))) = self.pending.early.peek() {
            if due > self.schedule.step {
                break;
            }
            self.pending.early.pop();
            self.land(operation)?;
        }
        Ok(())
    }

    /// Lands a load, if there is one, that nothing but its arrival can finish.
    pub(crate) fn land_any_load(&mut self) -> Result<bool, Raised> {
        let loads: Vec<Operation> = self.pending.loads().collect();
        if loads.is_empty() {
            return Ok(false);
        }
        let chosen = loads[self.schedule.random.usize(..loads.len())];
        self.land(chosen)?;
        Ok(true)
    }

    /// Moves the bytes of an operation, unless they have moved.
    pub(crate) fn land(&mut self, operation: Operation) -> Result<(), Raised> {
        let Some(entry) = self.pending.entries.get_mut(&operation).filter(|entry| !entry.landed) else { return Ok(()) };
        entry.landed = true;
        let (by, work) = (entry.by, entry.work.clone());
        let name = work.name();
        let step = self.schedule.step;
        self.trace.note(step, by, || format!("{name} lands"));
        match work {
            Work::Copy(copy) => self.land_copy(&copy),
            Work::Load(load) => {
                self.pending.entries.remove(&operation);
                self.land_load(by, &load)?;
            }
            Work::Store(store) => self.land_store(&store),
            Work::Product(product) => self.land_product(operation, &product)?,
        }
        Ok(())
    }

    /// Lands an operation and takes it out.
    pub(crate) fn finish(&mut self, operation: Operation) -> Result<Option<Work>, Raised> {
        self.land(operation)?;
        Ok(self.pending.entries.remove(&operation).map(|entry| entry.work))
    }
}
