//! The shared window of a block, and the loads and stores of C++, which may go anywhere. Each access is checked before it happens.
//!
//! Invariants: an access that leaves its space, is misaligned or conflicts with another never happens; shared memory starts as
//! poison.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};

use super::clock::Knowledge;
use super::global::GlobalAccess;
use super::shadow::{Event, Proxy, Shadow};
use super::{Block, Caller, Raised};
use crate::abi::Address;
use crate::fault::FaultKind;
use crate::memory::POISON;

/// The address of the first byte of the shared window. Hardware keeps the bytes below for itself.
pub(crate) const SHARED_BASE: u32 = 1024;
/// What a block may use of an SM's shared memory on sm_90, static and dynamic together.
pub(crate) const SHARED_LIMIT: u32 = 227 * 1024;
const ALIGNMENT: usize = 1024;

/// The shared memory of a block.
pub(crate) struct SharedMemory {
    bytes: *mut u8,
    layout: Layout,
    dynamic: u32,
    /// Of each static variable: where, and its size.
    statics: Vec<Option<(u32, u32)>>,
    used: u32,
    pub(crate) shadow: Shadow,
}

impl SharedMemory {
    /// Room for the largest block.
    pub(crate) fn new() -> SharedMemory {
        let layout = Layout::from_size_align(SHARED_LIMIT as usize, ALIGNMENT).expect("a constant layout");
        // SAFETY: the layout has a size above 0.
        let bytes = unsafe { alloc_zeroed(layout) };
        if bytes.is_null() {
            handle_alloc_error(layout);
        }
        SharedMemory { bytes, layout, dynamic: 0, statics: vec![], used: 0, shadow: Shadow::default() }
    }

    /// Starts a block with so many bytes of dynamic shared memory.
    pub(crate) fn reset(&mut self, dynamic: u32) {
        self.dynamic = dynamic;
        self.statics.clear();
        self.used = dynamic;
        // SAFETY: the allocation has this size.
        unsafe { self.bytes.write_bytes(POISON, self.layout.size()) };
        self.shadow.reset(SHARED_LIMIT);
    }

    pub(crate) fn begin(&self) -> Address {
        self.bytes as Address
    }

    /// The offset of a host address that lies in the window.
    pub(crate) fn offset_of(&self, address: Address) -> Option<u32> {
        let offset = address.wrapping_sub(self.begin());
        (offset < self.layout.size()).then_some(offset as u32)
    }

    /// The address that kernels use, of an offset.
    pub(crate) fn address_of(&self, offset: u32) -> u32 {
        SHARED_BASE + offset
    }

    /// The offset of `bytes` bytes at a kernel's shared address, a multiple of `alignment`.
    pub(crate) fn range(&self, caller: Caller, address: u32, bytes: u32, alignment: u32) -> Result<u32, Raised> {
        let end = u64::from(address) + u64::from(bytes);
        if address < SHARED_BASE || end > u64::from(SHARED_BASE + self.used) {
            let message = format!(
                "shared addresses {address:#x} to {end:#x}; the block's shared memory is {SHARED_BASE:#x} to {:#x}",
                SHARED_BASE + self.used
            );
            return Err(Raised::new(FaultKind::OutOfBounds, caller, message));
        }
        if !address.is_multiple_of(alignment) {
            let message = format!("shared address {address:#x} is no multiple of {alignment}");
            return Err(Raised::new(FaultKind::Misaligned, caller, message));
        }
        Ok(address - SHARED_BASE)
    }

    /// A static variable: the same for all threads of the block.
    pub(crate) fn variable(&mut self, caller: Caller, id: u32, bytes: u32, alignment: u32) -> Result<Address, Raised> {
        let id = id as usize;
        if self.statics.len() <= id {
            self.statics.resize(id + 1, None);
        }
        let (offset, _) = match self.statics[id] {
            Some(found) => found,
            None => {
                let offset = self.used.next_multiple_of(alignment.max(16));
                if offset + bytes > SHARED_LIMIT {
                    let message = format!(
                        "{bytes} bytes of static shared memory after {offset} others; a block has {SHARED_LIMIT}"
                    );
                    return Err(Raised::new(FaultKind::OutOfBounds, caller, message));
                }
                self.used = offset + bytes;
                *self.statics[id].insert((offset, bytes))
            }
        };
        Ok(self.begin() + offset as usize)
    }

    pub(crate) fn read(&self, offset: u32, to: &mut [u8]) {
        debug_assert!(offset as usize + to.len() <= self.layout.size());
        // SAFETY: the range was checked; only this OS thread touches the window.
        unsafe { to.as_mut_ptr().copy_from_nonoverlapping(self.bytes.add(offset as usize), to.len()) };
    }

    pub(crate) fn write(&mut self, offset: u32, from: &[u8]) {
        debug_assert!(offset as usize + from.len() <= self.layout.size());
        // SAFETY: as above.
        unsafe { self.bytes.add(offset as usize).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.bytes, self.layout) };
    }
}

impl Block {
    /// A load or store that C++ is about to make.
    pub(crate) fn access(&mut self, caller: Caller, address: Address, bytes: u32, write: bool) -> Result<(), Raised> {
        let context = &self.threads[caller.thread].context;
        if (context.stack_begin..context.stack_end).contains(&address) {
            return self.access_registers(caller, address, bytes, write);
        }
        let misaligned = |alignment: usize| {
            let message = format!("{bytes} bytes at {address:#x}, which is no multiple of {alignment}");
            Err(Raised::new(FaultKind::Misaligned, caller, message))
        };
        // vectors of up to 16 bytes are accessed whole, and only whole
        let alignment = if bytes.is_power_of_two() && bytes <= 16 { bytes as usize } else { 1 };
        if let Some(offset) = self.shared.offset_of(address) {
            if !address.is_multiple_of(alignment) {
                return misaligned(alignment);
            }
            let shared_address = self.shared.address_of(offset);
            return if write {
                self.write_shared(caller, shared_address, bytes, 1).map(drop)
            } else {
                self.read_shared(caller, shared_address, bytes, 1).map(drop)
            };
        }
        let access = if write { GlobalAccess::Write } else { GlobalAccess::Read };
        self.check_global(caller, address, bytes, access)?;
        if address.is_multiple_of(alignment) { Ok(()) } else { misaligned(alignment) }
    }

    /// Checks a read of shared memory by the caller; the offset.
    pub(crate) fn read_shared(
        &mut self,
        caller: Caller,
        address: u32,
        bytes: u32,
        alignment: u32,
    ) -> Result<u32, Raised> {
        let offset = self.shared.range(caller, address, bytes, alignment)?;
        self.mbarriers.refuse(caller, address, bytes)?;
        let event: Event = self.event(caller);
        let knowledge: &Knowledge = &self.threads[caller.thread].knowledge;
        let found = self.shared.shadow.read(offset, bytes, event, knowledge, Proxy::Generic);
        found.map_err(|conflict| self.conflict(caller, "reads", conflict))?;
        Ok(offset)
    }

    /// Checks a write of shared memory by the caller; the offset.
    pub(crate) fn write_shared(
        &mut self,
        caller: Caller,
        address: u32,
        bytes: u32,
        alignment: u32,
    ) -> Result<u32, Raised> {
        let offset = self.shared.range(caller, address, bytes, alignment)?;
        self.mbarriers.refuse(caller, address, bytes)?;
        let event = self.event(caller);
        let past = &self.threads[caller.thread].knowledge.past;
        let found = self.shared.shadow.write(offset, bytes, event, past);
        found.map_err(|conflict| self.conflict(caller, "writes", conflict))?;
        Ok(offset)
    }
}
