//! What a kernel did wrong, and where.
//!
//! Invariant: a [`Fault`] names the thread and the kernel's line of the access that showed it, and those of the earlier events
//! that made it wrong.

use std::fmt;

/// A kind of mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// An access outside of every buffer, or of shared memory.
    OutOfBounds,
    /// An address that is no multiple of what the access needs.
    Misaligned,
    /// A read of shared memory that nothing has written.
    Uninitialized,
    /// Two accesses to the same memory, one of them a write, that nothing orders.
    Race,
    /// An access to memory that an unfinished asynchronous copy writes.
    CopyInFlight,
    /// A write to memory that an unfinished asynchronous operation still reads.
    OverwrittenInFlight,
    /// Shared memory written by ordinary stores and read by the asynchronous proxy, or a tensor map changed and used by a copy,
    /// without a proxy fence between.
    MissingProxyFence,
    /// An accumulator touched between the issue of a `wgmma` and the wait for it.
    AccumulatorInFlight,
    /// An accumulator written by ordinary code and used by a `wgmma` without a `wgmma.fence` between.
    MissingWgmmaFence,
    /// A barrier with a number of threads that does not fit.
    BarrierCount,
    /// A barrier object used before it was initialised, beyond its counts, or as ordinary memory.
    BarrierMisuse,
    /// No thread can go on.
    Deadlock,
    /// Threads of one collective operation that do not execute it together.
    Divergence,
    /// `setmaxnreg` beyond the registers that there are.
    RegisterBudget,
    /// A `wgmma` descriptor that describes nothing.
    BadDescriptor,
    /// A tensor map that is none, or a copy that does not fit it.
    BadTensorMap,
    /// Asynchronous work that still needs the block's memory when the block ends.
    UnfinishedAtExit,
    /// The kernel executed a trap.
    Trap,
    /// More operations than the limit of a run.
    TooLong,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FaultKind::OutOfBounds => "access out of bounds",
            FaultKind::Misaligned => "misaligned access",
            FaultKind::Uninitialized => "read of shared memory that nothing has written",
            FaultKind::Race => "data race",
            FaultKind::CopyInFlight => "access to memory that an unfinished copy writes",
            FaultKind::OverwrittenInFlight => "write to memory that an unfinished operation still reads",
            FaultKind::MissingProxyFence => "missing proxy fence",
            FaultKind::AccumulatorInFlight => "accumulator touched before the wait",
            FaultKind::MissingWgmmaFence => "missing wgmma.fence",
            FaultKind::BarrierCount => "wrong number of threads at a barrier",
            FaultKind::BarrierMisuse => "misuse of a barrier object",
            FaultKind::Deadlock => "deadlock",
            FaultKind::Divergence => "divergence in a collective operation",
            FaultKind::RegisterBudget => "registers out of budget",
            FaultKind::BadDescriptor => "bad matrix descriptor",
            FaultKind::BadTensorMap => "bad tensor copy",
            FaultKind::UnfinishedAtExit => "unfinished asynchronous work at the end of a block",
            FaultKind::Trap => "trap",
            FaultKind::TooLong => "too many operations",
        })
    }
}

/// A thread and where it stands in the kernel's text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The thread's number in its block; `None` for hardware that works on its own.
    pub thread: Option<u32>,
    /// Lines of the kernel, from the innermost function to the kernel itself; empty where none is known.
    pub lines: Vec<Line>,
}

/// A line of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: u32,
    /// Its text, trimmed.
    pub text: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.thread {
            Some(thread) => write!(f, "thread {thread} (warp {}, lane {})", thread / 32, thread % 32)?,
            None => f.write_str("hardware")?,
        }
        for (at, line) in self.lines.iter().enumerate() {
            write!(f, "\n      {} line {:>4}: {}", if at == 0 { "at" } else { "in" }, line.number, line.text)?;
        }
        Ok(())
    }
}

/// What went wrong, where, and which earlier events made it wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The kind of mistake.
    pub kind: FaultKind,
    /// The particulars: addresses, numbers, what to look for.
    pub message: String,
    /// The block, along x, y, z.
    pub block: [u32; 3],
    /// Where it showed.
    pub place: Place,
    /// Earlier events, each with what it was.
    pub history: Vec<(String, Place)>,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [x, y, z] = self.block;
        write!(f, "{}: {}\n  block ({x}, {y}, {z}), {}", self.kind, self.message, self.place)?;
        for (what, place) in &self.history {
            write!(f, "\n  {what} {place}")?;
        }
        Ok(())
    }
}
