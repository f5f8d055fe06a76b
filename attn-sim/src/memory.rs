//! The simulated GPU's global memory: named buffers, poisoned until written.
//!
//! Invariants: a buffer's address is that of its bytes in this process, so that kernels reach them as they would on a GPU; an
//! access is checked against the buffers before it happens; contents are unspecified while a kernel that writes them runs.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Every byte of memory that was not written: as a float of any width it is a NaN.
pub(crate) const POISON: u8 = 0xFF;

/// As `cudaMalloc` aligns.
const ALIGNMENT: usize = 256;

/// The global memory of one simulated GPU. Clones are the same memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    buffers: Arc<Mutex<BTreeMap<usize, Weak<Allocation>>>>,
}

/// Bytes of global memory. Clones are the same bytes; they are freed with the last clone.
#[derive(Clone)]
pub struct Buffer {
    allocation: Arc<Allocation>,
}

pub(crate) struct Allocation {
    name: String,
    bytes: *mut u8,
    layout: Layout,
    len: usize,
}

// SAFETY: the pointer is owned; bytes are only touched through raw copies, as device memory is, and a kernel and its host are
// ordered by the launch, which returns when the kernel has ended.
unsafe impl Send for Allocation {}
// SAFETY: as above.
unsafe impl Sync for Allocation {}

impl Memory {
    /// Empty memory.
    pub fn new() -> Memory {
        Memory::default()
    }

    /// A buffer whose bytes are all `0xFF`: NaN, whatever float they are read as.
    ///
    /// `name` is what reports call it.
    pub fn allocate(&self, name: &str, bytes: usize) -> Buffer {
        let layout = Layout::from_size_align(bytes.max(1), ALIGNMENT).expect("a buffer fits the address space");
        // SAFETY: the layout has a size above 0.
        let pointer = unsafe { alloc(layout) };
        if pointer.is_null() {
            handle_alloc_error(layout);
        }
        // SAFETY: freshly allocated with this size.
        unsafe { pointer.write_bytes(POISON, layout.size()) };
        let allocation = Arc::new(Allocation { name: name.to_owned(), bytes: pointer, layout, len: bytes });
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.retain(|_, buffer| buffer.strong_count() > 0);
        buffers.insert(pointer as usize, Arc::downgrade(&allocation));
        Buffer { allocation }
    }

    /// The live buffers, by address.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Allocation>> {
        let buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        buffers.values().filter_map(Weak::upgrade).collect()
    }
}

impl Allocation {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn begin(&self) -> usize {
        self.bytes as usize
    }

    pub(crate) fn end(&self) -> usize {
        self.begin() + self.len
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, freed once.
        unsafe { dealloc(self.bytes, self.layout) };
    }
}

impl Buffer {
    /// The address of the first byte, a multiple of 256.
    pub fn address(&self) -> u64 {
        self.allocation.begin() as u64
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.allocation.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What reports call it.
    pub fn name(&self) -> &str {
        &self.allocation.name
    }

    /// Overwrites a part.
    ///
    /// # Panics
    /// When the part is not inside the buffer.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        let end = offset.checked_add(bytes.len()).expect("a range inside the buffer");
        assert!(end <= self.len(), "bytes {offset}..{end} of `{}`, which has {}", self.name(), self.len());
        // SAFETY: the range is inside the allocation, which does not overlap a slice of the caller.
        unsafe { self.allocation.bytes.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// A copy of all bytes.
    pub fn read(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        // SAFETY: the allocation has this length.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(self.allocation.bytes, self.len()) };
        bytes
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({}, {} bytes)", self.name(), self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_poisoned_and_freed() {
        let memory = Memory::new();
        let buffer = memory.allocate("q", 10);
        assert!(buffer.read().iter().all(|&byte| byte == POISON) && buffer.address().is_multiple_of(256));
        buffer.write(2, &[1, 2, 3]);
        assert_eq!(buffer.read()[1..6], [POISON, 1, 2, 3, POISON]);
        assert_eq!(memory.snapshot().len(), 1);
        drop(buffer);
        assert!(memory.snapshot().is_empty());
    }

    #[test]
    #[should_panic(expected = "bytes 8..11 of `q`, which has 10")]
    fn writes_outside_are_the_callers_mistake() {
        Memory::new().allocate("q", 10).write(8, &[0; 3]);
    }
}
