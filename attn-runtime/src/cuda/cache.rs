//! The kernel cache: a request is compiled once a process, and once a machine.
//!
//! In memory, concurrent callers of one request wait for a single compilation and share its outcome; a failure is handed
//! to those who waited and then forgotten. On disk, entries are named by a hash of all that they depend on and validated
//! when read. Beside them stand decisions: which of several kernels was the fastest. Without a usable folder the cache works in memory and says so once.

mod decision;
mod entry;
mod key;
mod root;
mod store;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use decision::{Decision, Question};
pub use key::{CompilerIdentity, KernelKey, KernelRequest};

use super::nvrtc::{Compilation, Nvrtc, NvrtcError};
use key::Identified;
use root::Root;
use store::{Lookup, Store};

/// A compiler that the cache can stand before.
pub trait Compile {
    /// Its failures; shared by callers that waited together.
    type Error: Clone;
    /// What distinguishes its output from that of any other.
    fn identity(&self) -> CompilerIdentity;
    /// Compiles.
    fn compile_request(&self, request: &KernelRequest) -> Result<Compilation, Self::Error>;
}

impl Compile for Nvrtc {
    type Error = NvrtcError;

    fn identity(&self) -> CompilerIdentity {
        let (major, minor) = self.version();
        CompilerIdentity {
            name: "nvrtc".to_owned(),
            version: format!("{major}.{minor}"),
            fingerprint: self.fingerprint().to_owned(),
        }
    }

    fn compile_request(&self, request: &KernelRequest) -> Result<Compilation, NvrtcError> {
        Nvrtc::compile(self, &request.source, &request.file_name, &request.options)
    }
}

impl<C: Compile + ?Sized> Compile for Arc<C> {
    type Error = C::Error;

    fn identity(&self) -> CompilerIdentity {
        (**self).identity()
    }

    fn compile_request(&self, request: &KernelRequest) -> Result<Compilation, C::Error> {
        (**self).compile_request(request)
    }
}

/// How often each thing happened since the cache was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStatistics {
    /// Found in memory, or compiled meanwhile by another caller.
    pub memory_hits: u64,
    /// Found on disk.
    pub disk_hits: u64,
    /// Compilations, failed ones included.
    pub compilations: u64,
    /// Entries on disk that did not validate.
    pub corrupt: u64,
    /// Failures to read or write the disk.
    pub disk_failures: u64,
}

#[derive(Default)]
struct Counters {
    memory_hits: AtomicU64,
    disk_hits: AtomicU64,
    compilations: AtomicU64,
    corrupt: AtomicU64,
    disk_failures: AtomicU64,
}

/// The place of one compilation. Filled once; callers that find it empty wait for the one that fills it.
type Slot<E> = Arc<OnceLock<Result<Arc<Compilation>, E>>>;

/// A compiler with a memory. See the module's head.
pub struct KernelCache<C: Compile> {
    compiler: C,
    identity: CompilerIdentity,
    slots: Mutex<HashMap<KernelKey, Slot<C::Error>>>,
    store: Option<Store>,
    warned: AtomicBool,
    counters: Counters,
}

impl KernelCache<Arc<Nvrtc>> {
    /// The process's cache before the process's NVRTC, in the folder that the environment says.
    pub fn shared() -> Result<&'static Self, NvrtcError> {
        static SHARED: OnceLock<KernelCache<Arc<Nvrtc>>> = OnceLock::new();
        if let Some(cache) = SHARED.get() {
            return Ok(cache);
        }
        // Found before the cell is filled: a failure must not be kept.
        let nvrtc = Nvrtc::load()?;
        Ok(SHARED.get_or_init(|| KernelCache::from_environment(nvrtc)))
    }
}

impl<C: Compile> KernelCache<C> {
    /// A cache in the folder that the environment says: `ATTN_CACHE_DIR` (empty or `0`: memory alone), else
    /// `$XDG_CACHE_HOME/attn`, else `~/.cache/attn`.
    pub fn from_environment(compiler: C) -> Self {
        match root::resolve(|name| std::env::var_os(name)) {
            Root::Folder(folder) => Self::in_folder(compiler, &folder),
            Root::Off => Self::in_memory(compiler),
            Root::Unknown => {
                let cache = Self::in_memory(compiler);
                cache.warn("neither ATTN_CACHE_DIR nor HOME says where to keep kernels");
                cache
            }
        }
    }

    /// A cache in a given folder, which is created where it is missing.
    pub fn in_folder(compiler: C, folder: &Path) -> Self {
        let mut cache = Self::in_memory(compiler);
        match Store::open(folder) {
            Ok(store) => cache.store = Some(store),
            Err(error) => cache.disk_failure(&format!("{} cannot be created: {error}", folder.display())),
        }
        cache
    }

    /// A cache that lives as long as the process.
    pub fn in_memory(compiler: C) -> Self {
        Self {
            identity: compiler.identity(),
            compiler,
            slots: Mutex::default(),
            store: None,
            warned: AtomicBool::new(false),
            counters: Counters::default(),
        }
    }

    /// The compiler behind the cache.
    pub fn compiler(&self) -> &C {
        &self.compiler
    }

    /// What tells the compiler's output from that of any other.
    pub fn identity(&self) -> &CompilerIdentity {
        &self.identity
    }

    /// The folder, where there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.store.as_ref().map(Store::root)
    }

    /// The key of a request.
    pub fn key(&self, request: &KernelRequest) -> KernelKey {
        Identified::new(request, &self.identity).key
    }

    /// The file that holds, or would hold, a request's entry.
    pub fn entry_path(&self, request: &KernelRequest) -> Option<PathBuf> {
        self.store.as_ref().map(|store| store.path(self.key(request)))
    }

    /// What has happened so far.
    pub fn statistics(&self) -> CacheStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStatistics {
            memory_hits: read(&self.counters.memory_hits),
            disk_hits: read(&self.counters.disk_hits),
            compilations: read(&self.counters.compilations),
            corrupt: read(&self.counters.corrupt),
            disk_failures: read(&self.counters.disk_failures),
        }
    }

    /// The binary of a request: from memory, from disk, or compiled now.
    pub fn get(&self, request: &KernelRequest) -> Result<Arc<Compilation>, C::Error> {
        let identified = Identified::new(request, &self.identity);
        let slot = Arc::clone(self.slots().entry(identified.key).or_default());
        let mut was_first = false;
        let result = slot.get_or_init(|| {
            was_first = true;
            self.fetch(request, &identified).map(Arc::new)
        });
        if !was_first {
            count(&self.counters.memory_hits);
        } else if result.is_err() {
            // Callers that are waiting hold the slot and see this failure; later ones try again.
            self.forget(identified.key, &slot);
        }
        result.clone()
    }

    /// Drops a request's entry from memory and disk, for a binary that the driver refused.
    pub fn remove(&self, request: &KernelRequest) {
        let key = self.key(request);
        self.slots().remove(&key);
        if let Some(Err(error)) = self.store.as_ref().map(|store| store.remove(key)) {
            self.disk_failure(&format!("an entry could not be removed: {error}"));
        }
    }

    /// The decision that was kept for a question, in this process or another; none where there is none that validates.
    pub fn decision(&self, question: &Question) -> Option<Decision> {
        self.store.as_ref()?.read_decision(question)
    }

    /// Keeps a decision for later processes, where there is a folder.
    pub fn keep_decision(&self, question: &Question, decision: &Decision) {
        if let Some(Err(error)) = self.store.as_ref().map(|store| store.write_decision(question, decision)) {
            self.disk_failure(&format!("a decision could not be written: {error}"));
        }
    }

    fn fetch(&self, request: &KernelRequest, identified: &Identified) -> Result<Compilation, C::Error> {
        let key = identified.key;
        match self.store.as_ref().map(|store| store.read(identified)) {
            Some(Lookup::Hit(compilation)) => {
                count(&self.counters.disk_hits);
                tracing::debug!(target: "attn::cache", %key, file = %request.file_name, "kernel found on disk");
                return Ok(compilation);
            }
            Some(Lookup::Corrupt(error)) => {
                count(&self.counters.corrupt);
                tracing::warn!(target: "attn::cache", %key, "a cached kernel is compiled again: {error}");
            }
            Some(Lookup::Unreadable(error)) => self.disk_failure(&format!("an entry could not be read: {error}")),
            Some(Lookup::Miss) | None => {}
        }
        count(&self.counters.compilations);
        let started = std::time::Instant::now();
        let compilation = self.compiler.compile_request(request)?;
        let milliseconds = started.elapsed().as_millis();
        tracing::debug!(target: "attn::cache", %key, file = %request.file_name, milliseconds, "kernel compiled");
        if let Some(Err(error)) = self.store.as_ref().map(|store| store.write(identified, &compilation)) {
            self.disk_failure(&format!("an entry could not be written: {error}"));
        }
        Ok(compilation)
    }

    fn forget(&self, key: KernelKey, slot: &Slot<C::Error>) {
        let mut slots = self.slots();
        if slots.get(&key).is_some_and(|current| Arc::ptr_eq(current, slot)) {
            slots.remove(&key);
        }
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<KernelKey, Slot<C::Error>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk_failure(&self, reason: &str) {
        count(&self.counters.disk_failures);
        self.warn(reason);
    }

    /// Once a cache: a full disk would otherwise be reported for each kernel.
    fn warn(&self, reason: &str) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "attn::cache",
                "compiled kernels are kept in memory only: {reason}. Set ATTN_CACHE_DIR to a writable folder, or to 0 to \
                 silence this"
            );
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
