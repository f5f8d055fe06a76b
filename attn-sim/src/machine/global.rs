//! The buffers of global memory and who wrote them last in this launch.
//!
//! Every two bytes have a [`Mark`]: the last write, by block, thread and time. An access by another block must know of it, which
//! takes a release and an acquire on some word ([`super::word`]). Atomic operations need no order between each other; where two
//! blocks made some without one, nobody can know of both.
//!
//! Invariants: an access is checked before it happens; within a block, global memory is checked for bounds and alignment alone; a
//! write after another block's read is not seen; additions after an ordered plain write hide that write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::clock::{Epoch, Others};
use super::word::SharedWords;
use super::{Block, Caller, Raised};
use crate::abi::Address;
use crate::fault::FaultKind;
use crate::memory::Allocation;

/// The last write of two bytes. From the lowest bit: the time, the thread, the block, whether it was an atomic operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark(u64);

const TIME_BITS: u32 = 28;
const THREAD_BITS: u32 = 10;
const BLOCK_BITS: u32 = 25;
/// The time of a write that nobody may rely on yet.
const IN_FLIGHT: u32 = (1 << TIME_BITS) - 1;
/// The most blocks of a launch.
pub(crate) const MOST_BLOCKS: u32 = (1 << BLOCK_BITS) - 2;

impl Mark {
    const NOBODY: Mark = Mark(0);
    /// Atomic operations of several blocks that nothing orders.
    const SEVERAL: Mark = Mark(u64::MAX);

    fn new(block: u32, thread: usize, time: u32, atomic: bool) -> Mark {
        let (block, thread) = (u64::from(block), thread as u64);
        let head = u64::from(atomic) << BLOCK_BITS | block;
        Mark((head << THREAD_BITS | thread) << TIME_BITS | u64::from(time))
    }

    fn time(self) -> u32 {
        self.0 as u32 & IN_FLIGHT
    }

    fn thread(self) -> usize {
        (self.0 >> TIME_BITS) as usize & ((1 << THREAD_BITS) - 1)
    }

    fn block(self) -> u32 {
        (self.0 >> (TIME_BITS + THREAD_BITS)) as u32 & ((1 << BLOCK_BITS) - 1)
    }

    fn atomic(self) -> bool {
        self.0 >> 63 != 0
    }

    fn at(self, time: u32) -> Mark {
        Mark(self.0 & !u64::from(IN_FLIGHT) | u64::from(time))
    }
}

/// A buffer and who wrote it during this launch.
pub(crate) struct Watched {
    allocation: Arc<Allocation>,
    marks: Vec<AtomicU64>,
}

impl Watched {
    pub(crate) fn new(allocation: Arc<Allocation>) -> Watched {
        let halves = (allocation.end() - allocation.begin()).div_ceil(2);
        Watched { allocation, marks: (0..halves).map(|_| AtomicU64::new(Mark::NOBODY.0)).collect() }
    }
}

/// What an access to global memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GlobalAccess {
    Read,
    Write,
    /// An addition, or another atomic change.
    Add,
    /// A load or store that is an atomic operation to all blocks.
    StrongRead,
    StrongWrite,
}

impl GlobalAccess {
    fn atomic(self) -> bool {
        !matches!(self, GlobalAccess::Read | GlobalAccess::Write)
    }

    fn verb(self) -> &'static str {
        match self {
            GlobalAccess::Read | GlobalAccess::StrongRead => "reads",
            GlobalAccess::Write | GlobalAccess::StrongWrite => "writes",
            GlobalAccess::Add => "adds to",
        }
    }
}

/// Who accesses global memory, when, and what they know.
struct Accessor<'a> {
    block: u32,
    thread: usize,
    time: u32,
    others: &'a Others,
}

impl Accessor<'_> {
    fn mark(&self, atomic: bool) -> Mark {
        Mark::new(self.block, self.thread, self.time, atomic)
    }

    /// Whether a write happened before the access, as far as that is checked.
    fn knows(&self, mark: Mark) -> bool {
        let epoch = Epoch { actor: mark.thread() as u16, time: mark.time() };
        mark == Mark::NOBODY
            || mark.block() == self.block
            || mark != Mark::SEVERAL && mark.time() != IN_FLIGHT && self.others.know(mark.block(), epoch)
    }

    /// Accesses two bytes; the write that is in the way.
    fn access(&self, cell: &AtomicU64, access: GlobalAccess) -> Result<(), Mark> {
        let old = match access {
            GlobalAccess::Read | GlobalAccess::StrongRead => cell.load(Ordering::Relaxed),
            GlobalAccess::Write => cell.swap(self.mark(false).0, Ordering::Relaxed),
            GlobalAccess::Add | GlobalAccess::StrongWrite => {
                let next = |old: u64| {
                    let old = Mark(old);
                    let unordered = old.atomic() && !self.knows(old);
                    Some(if unordered { Mark::SEVERAL.0 } else { self.mark(true).0 })
                };
                cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).expect("the update always succeeds")
            }
        };
        let old = Mark(old);
        if self.knows(old) || access.atomic() && old.atomic() { Ok(()) } else { Err(old) }
    }
}

/// The global memory that a launch reaches.
#[derive(Clone)]
pub(crate) struct GlobalView {
    /// By address.
    buffers: Arc<Vec<Watched>>,
    pub(crate) words: SharedWords,
}

impl GlobalView {
    /// Of a launch of so many blocks.
    pub(crate) fn new(buffers: Vec<Watched>, blocks: u32) -> GlobalView {
        GlobalView { buffers: Arc::new(buffers), words: SharedWords::new(blocks) }
    }

    /// The last buffer that begins at or before an address.
    fn buffer(&self, address: Address) -> Option<&Watched> {
        let after = self.buffers.partition_point(|buffer| buffer.allocation.begin() <= address);
        after.checked_sub(1).map(|at| &self.buffers[at])
    }

    /// The buffer that has these bytes, and the marks of them.
    fn find(&self, address: Address, bytes: u32) -> Option<(&Watched, &[AtomicU64])> {
        let end = address.checked_add(bytes as usize)?;
        let buffer = self.buffer(address).filter(|buffer| end <= buffer.allocation.end())?;
        let begin = buffer.allocation.begin();
        Some((buffer, &buffer.marks[(address - begin) / 2..(end - begin).div_ceil(2)]))
    }

    /// An address as reports call it.
    pub(crate) fn place(&self, address: Address) -> String {
        match self.buffer(address) {
            Some(buffer) => {
                let allocation = &buffer.allocation;
                format!("offset {} of `{}`", address - allocation.begin(), allocation.name())
            }
            None => format!("{address:#x}"),
        }
    }

    fn outside(&self, caller: Caller, address: Address, bytes: u32, access: GlobalAccess) -> Raised {
        let distance = |buffer: &&Watched| {
            let (begin, end) = (buffer.allocation.begin(), buffer.allocation.end());
            begin.saturating_sub(address).max(address.saturating_sub(end))
        };
        let nearest = self.buffers.iter().min_by_key(distance).map(|buffer| {
            let (begin, end) = (buffer.allocation.begin(), buffer.allocation.end());
            let name = buffer.allocation.name();
            if address < begin {
                format!("; {} bytes before `{name}`", begin - address)
            } else {
                format!("; offset {} of `{name}`, which has {} bytes", address - begin, end - begin)
            }
        });
        let message = format!(
            "{} {bytes} bytes at {address:#x}{}",
            access.verb(),
            nearest.unwrap_or_else(|| "; there are no buffers".into())
        );
        Raised::new(FaultKind::OutOfBounds, caller, message)
    }
}

impl Block {
    /// Checks `bytes` bytes of global memory before they are accessed now.
    pub(crate) fn check_global(
        &self,
        caller: Caller,
        address: Address,
        bytes: u32,
        access: GlobalAccess,
    ) -> Result<(), Raised> {
        let time = self.now(caller).min(IN_FLIGHT - 1);
        self.check_global_at(caller, address, bytes, access, time)
    }

    /// Checks bytes that are written from now until [`Block::global_is_written`].
    pub(crate) fn check_global_in_flight(
        &self,
        caller: Caller,
        address: Address,
        bytes: u32,
        access: GlobalAccess,
    ) -> Result<(), Raised> {
        self.check_global_at(caller, address, bytes, access, IN_FLIGHT)
    }

    fn check_global_at(
        &self,
        caller: Caller,
        address: Address,
        bytes: u32,
        access: GlobalAccess,
        time: u32,
    ) -> Result<(), Raised> {
        let Some((buffer, marks)) = self.global.find(address, bytes) else {
            return Err(self.global.outside(caller, address, bytes, access));
        };
        let others = &self.threads[caller.thread].knowledge.others;
        let accessor = Accessor { block: self.number, thread: caller.thread, time, others };
        for cell in marks {
            accessor.access(cell, access).map_err(|mark| {
                let offset = address - buffer.allocation.begin();
                let reason = match mark {
                    Mark::SEVERAL => "to which other blocks add in this launch".to_owned(),
                    mark if mark.time() == IN_FLIGHT => {
                        format!(
                            "which block {} writes in this launch, by a copy that it has not waited for",
                            mark.block() - 1
                        )
                    }
                    mark => format!(
                        "which another block writes in this launch (block {}), with nothing that orders the two",
                        mark.block() - 1
                    ),
                };
                let name = buffer.allocation.name();
                let message = format!("{} {bytes} bytes at offset {offset} of `{name}`, {reason}", access.verb());
                Raised::new(FaultKind::Race, caller, message)
            })?;
        }
        Ok(())
    }

    /// What the caller was writing to these bytes is there now.
    pub(crate) fn global_is_written(&self, caller: Caller, address: Address, bytes: u32) {
        let time = self.now(caller).min(IN_FLIGHT - 1);
        let Some((_, marks)) = self.global.find(address, bytes) else { return };
        for cell in marks {
            let mine = |mark: Mark| {
                (mark.block(), mark.thread(), mark.time()) == (self.number, caller.thread, IN_FLIGHT)
                    && mark != Mark::SEVERAL
            };
            // another block may have come in between
            let next = |old| mine(Mark(old)).then_some(Mark(old).at(time).0);
            let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::Clock;
    use super::*;

    fn accessor(block: u32, time: u32, others: &Others) -> Accessor<'_> {
        Accessor { block, thread: 5, time, others }
    }

    /// What is known of block 1 up to a time of its thread 5.
    fn knowing(time: u32) -> Others {
        let mut past = Clock::default();
        past.set(5, time);
        Others::default().with(1, &past)
    }

    #[test]
    fn marks_hold_what_is_put_in() {
        let mark = Mark::new(MOST_BLOCKS, 1023, IN_FLIGHT, true);
        assert_eq!((mark.block(), mark.thread(), mark.time(), mark.atomic()), (MOST_BLOCKS, 1023, IN_FLIGHT, true));
        assert_ne!(mark, Mark::SEVERAL);
        let mark = Mark::new(3, 0, 9, false).at(17);
        assert_eq!((mark.block(), mark.thread(), mark.time(), mark.atomic()), (3, 0, 17, false));
    }

    #[test]
    fn plain_writes_need_an_order_between_blocks() {
        let (nothing, before, after) = (Others::default(), knowing(6), knowing(7));
        for access in [GlobalAccess::Read, GlobalAccess::Write, GlobalAccess::Add, GlobalAccess::StrongRead] {
            let cell = AtomicU64::new(Mark::NOBODY.0);
            accessor(1, 7, &nothing).access(&cell, GlobalAccess::Write).unwrap();
            accessor(1, 9, &nothing).access(&cell, GlobalAccess::Read).unwrap();
            let write = cell.load(Ordering::Relaxed);
            for others in [&nothing, &before] {
                let conflict = accessor(2, 1, others).access(&cell, access).unwrap_err();
                assert_eq!((conflict.block(), conflict.time()), (1, 7), "{access:?}");
                cell.store(write, Ordering::Relaxed);
            }
            accessor(2, 1, &after).access(&cell, access).unwrap();
        }
    }

    #[test]
    fn atomic_operations_need_none_between_each_other() {
        let nothing = Others::default();
        let cell = AtomicU64::new(Mark::NOBODY.0);
        accessor(1, 7, &nothing).access(&cell, GlobalAccess::StrongWrite).unwrap();
        accessor(2, 1, &nothing).access(&cell, GlobalAccess::StrongRead).unwrap();
        assert!(accessor(2, 1, &nothing).access(&cell, GlobalAccess::Read).is_err());
        accessor(2, 1, &knowing(7)).access(&cell, GlobalAccess::Read).unwrap();
        // an ordered addition hides the one before, an unordered one makes it impossible to know
        accessor(2, 1, &knowing(7)).access(&cell, GlobalAccess::Add).unwrap();
        assert_eq!(Mark(cell.load(Ordering::Relaxed)).block(), 2);
        accessor(3, 1, &nothing).access(&cell, GlobalAccess::Add).unwrap();
        assert_eq!(cell.load(Ordering::Relaxed), Mark::SEVERAL.0);
        accessor(4, 1, &nothing).access(&cell, GlobalAccess::Add).unwrap();
        assert!(accessor(4, 1, &knowing(7)).access(&cell, GlobalAccess::Read).is_err());
    }

    #[test]
    fn nobody_knows_of_what_is_in_flight() {
        let cell = AtomicU64::new(Mark::NOBODY.0);
        accessor(1, IN_FLIGHT, &Others::default()).access(&cell, GlobalAccess::Write).unwrap();
        assert!(accessor(2, 1, &knowing(u32::MAX)).access(&cell, GlobalAccess::Read).is_err());
    }
}
