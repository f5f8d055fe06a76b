//! `cp.async`: copies of 4 to 16 bytes from global to shared memory, in groups of the issuing thread.
//!
//! Invariant: what a copy wrote belongs to its thread from the wait on; before, nobody may touch it.

use super::mbarrier::Arrival;
use super::pending::Work;
use super::{Block, Caller, Raised};
use crate::abi::Address;
use crate::fault::FaultKind;
use crate::machine::global::GlobalAccess;
use crate::machine::shadow::Operation;

/// One copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    /// The offset in shared memory.
    to: u32,
    from: Address,
    bytes: u32,
    source_bytes: u32,
}

impl Block {
    pub(crate) fn copy_async(
        &mut self,
        caller: Caller,
        to: u32,
        from: Address,
        bytes: u32,
        source_bytes: u32,
    ) -> Result<(), Raised> {
        if ![4, 8, 16].contains(&bytes) || source_bytes > bytes {
            let message = format!("cp.async of {source_bytes} of {bytes} bytes: 4, 8 or 16 bytes are copied");
            return Err(Raised::new(FaultKind::Misaligned, caller, message));
        }
        let offset = self.shared.range(caller, to, bytes, bytes)?;
        self.mbarriers.refuse(caller, to, bytes)?;
        if source_bytes > 0 {
            self.check_global(caller, from, source_bytes, GlobalAccess::Read)?;
            if !from.is_multiple_of(bytes as usize) {
                let message = format!("cp.async reads {bytes} bytes at {from:#x}, which is no multiple of {bytes}");
                return Err(Raised::new(FaultKind::Misaligned, caller, message));
            }
        }
        let operation = self.pending.next();
        let past = &self.threads[caller.thread].knowledge.past;
        let claimed = self.shared.shadow.begin_write(offset, bytes, operation, past);
        claimed.map_err(|conflict| self.conflict(caller, "cp.async writes", conflict))?;
        self.start(caller, Work::Copy(Copy { to: offset, from, bytes, source_bytes }));
        self.threads[caller.thread].copies.open.push(operation);
        Ok(())
    }

    pub(crate) fn land_copy(&mut self, copy: &Copy) {
        let mut bytes = [0; 16];
        let source = copy.source_bytes as usize;
        // SAFETY: the source was checked to lie in a live buffer when the copy was issued; buffers outlive the launch.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(copy.from as *const u8, source) };
        self.shared.write(copy.to, &bytes[..copy.bytes as usize]);
    }

    pub(crate) fn copy_async_commit(&mut self, caller: Caller) {
        self.threads[caller.thread].copies.commit();
    }

    /// Finishes all groups of the thread but the last `pending`; all copies, committed or not, for `None`.
    pub(crate) fn copy_async_wait(&mut self, caller: Caller, pending: Option<u32>) -> Result<(), Raised> {
        let copies = &mut self.threads[caller.thread].copies;
        if pending.is_none() {
            copies.commit();
        }
        let finished = copies.take(pending.unwrap_or(0));
        let step = self.schedule.step;
        self.trace.note(step, caller, || format!("waits for {} cp.async", finished.len()));
        let event = self.event(caller);
        for operation in finished {
            self.finish_copy(operation, event)?;
        }
        Ok(())
    }

    fn finish_copy(&mut self, operation: Operation, event: super::Event) -> Result<(), Raised> {
        let by = self.describe(operation).map(|(_, by)| by.pc);
        if let Some(Work::Copy(copy)) = self.finish(operation)? {
            let event = super::Event { pc: by.unwrap_or(event.pc), ..event };
            self.shared.shadow.finish_write(copy.to, copy.bytes, event, true);
        }
        Ok(())
    }

    /// `cp.async.mbarrier.arrive`: the thread's copies so far arrive at a barrier, here as late as they may: at once, since
    /// only the arrival orders them.
    pub(crate) fn copy_async_arrive(&mut self, caller: Caller, barrier: u32, no_increment: bool) -> Result<(), Raised> {
        let copies = &mut self.threads[caller.thread].copies;
        copies.commit();
        let finished = copies.take(0);
        let event = self.event(caller);
        for operation in finished {
            self.finish_copy(operation, event)?;
        }
        self.mbarrier_arrive(caller, barrier, Arrival { count: 1, bytes: 0, extra: !no_increment })
    }
}
