//! Kernels of the process, ready for the simulator: each text is compiled once, whichever device asks.
//!
//! Invariants: one entry a text and entry point; concurrent requests for one kernel compile it once; a failure is not kept.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use attn_sim::{BuildError, Kernel};

/// A kernel, or nothing while it was not compiled. Locked while it compiles.
type Slot = Arc<Mutex<Option<Kernel>>>;

static KERNELS: LazyLock<Mutex<HashMap<blake3::Hash, Slot>>> = LazyLock::new(Mutex::default);

/// The kernel of a text.
pub(super) fn kernel(text: &str, entry: &str) -> Result<Kernel, BuildError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(entry.len() as u64).to_le_bytes()).update(entry.as_bytes()).update(text.as_bytes());
    let slot = KERNELS.lock().unwrap_or_else(PoisonError::into_inner).entry(hasher.finalize()).or_default().clone();
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kernel) = &*slot {
        return Ok(kernel.clone());
    }
    let kernel = Kernel::new(text, entry)?;
    Ok(slot.insert(kernel).clone())
}
