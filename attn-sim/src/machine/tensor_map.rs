//! Tensor maps that kernels change: `tensormap.replace` in global memory, and the fences around it.
//!
//! Copies read maps through a proxy of their own. A thread that changed a map releases it (`fence.proxy.tensormap` with `.release`),
//! in this launch or one before, and the thread that issues copies acquires it, each map by its address. Maps among a kernel's
//! parameters need neither.
//!
//! Invariants: no copy takes a map from global memory that its thread has not acquired; a block ends with every change released.

use std::collections::HashSet;

use super::global::GlobalAccess;
use super::{Block, Caller, Raised};
use crate::abi::Address;
use crate::fault::FaultKind;
use crate::numeric::tensor_map::TensorMap;

/// Bytes of a map, and what an address in global memory that `tensormap.replace` and fences take is a multiple of.
const BYTES: u32 = 128;

/// The tensor maps in global memory that one thread has to do with.
#[derive(Default)]
pub(crate) struct MapUser {
    acquired: HashSet<Address>,
    /// Where it changed maps since its last release.
    changed: Vec<Address>,
}

impl Block {
    fn map_in_global_memory(&self, caller: Caller, map: Address, access: GlobalAccess) -> Result<(), Raised> {
        if !map.is_multiple_of(BYTES as usize) {
            let message = format!("the tensor map's address {map:#x} is no multiple of {BYTES}");
            return Err(Raised::new(FaultKind::Misaligned, caller, message));
        }
        self.check_global(caller, map, BYTES, access)
    }

    /// `tensormap.replace`: `field` 0 is the address, others are the extents, from the innermost axis on.
    pub(crate) fn replace_in_map(
        &mut self,
        caller: Caller,
        map: Address,
        field: u32,
        value: u64,
    ) -> Result<(), Raised> {
        self.map_in_global_memory(caller, map, GlobalAccess::Write)?;
        let bad = |message: String| Raised::new(FaultKind::BadTensorMap, caller, message);
        // SAFETY: 128 bytes of a live buffer, as was just checked.
        let bytes = unsafe { *(map as *const [u8; BYTES as usize]) };
        let old = TensorMap::from_bytes(&bytes).ok_or_else(|| bad("the bytes are no tensor map".into()))?;
        let new = match field.checked_sub(1) {
            None => old.with_address(value),
            Some(axis) => old.with_extent(axis as usize, value),
        };
        let new = new.map_err(|error| bad(error.to_string()))?;
        // SAFETY: as above.
        unsafe { *(map as *mut [u8; BYTES as usize]) = new.to_bytes() };
        self.threads[caller.thread].maps.changed.push(caller.pc);
        Ok(())
    }

    /// `fence.proxy.tensormap::generic.release`.
    pub(crate) fn release_maps(&mut self, caller: Caller) {
        self.threads[caller.thread].maps.changed.clear();
    }

    /// `fence.proxy.tensormap::generic.acquire`.
    pub(crate) fn acquire_map(&mut self, caller: Caller, map: Address) -> Result<(), Raised> {
        self.map_in_global_memory(caller, map, GlobalAccess::Read)?;
        self.threads[caller.thread].maps.acquired.insert(map);
        Ok(())
    }

    /// Refuses a map in global memory to a copy whose thread has not acquired it.
    pub(crate) fn check_acquired(&self, caller: Caller, map: Address) -> Result<(), Raised> {
        if self.threads[caller.thread].maps.acquired.contains(&map) {
            return Ok(());
        }
        let message = format!(
            "a copy takes the tensor map at {map:#x} in global memory, which its thread has not acquired; it needs \
             fence.proxy.tensormap::generic.acquire before"
        );
        Err(Raised::new(FaultKind::MissingProxyFence, caller, message))
    }

    /// The block ends: what it changed must be released.
    pub(crate) fn maps_at_exit(&self) -> Result<(), Raised> {
        for (thread, state) in self.threads.iter().enumerate() {
            if let Some(&pc) = state.maps.changed.first() {
                let message = "a tensor map was changed and never released; its thread needs \
                               fence.proxy.tensormap::generic.release";
                return Err(Raised::new(FaultKind::MissingProxyFence, Caller { thread, pc }, message));
            }
        }
        Ok(())
    }
}
