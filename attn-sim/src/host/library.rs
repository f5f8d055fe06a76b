//! A compiled kernel in this process.

use std::ffi::c_void;
use std::fmt::{self, Debug};
use std::sync::Mutex;

use libloading::Library;
use tempfile::TempDir;

use super::{BuildError, compiler, scratch};
use crate::abi::{self, Table, ThreadContext};
use crate::translate::translate;

/// The headers that precede every kernel, in this order.
pub(super) const HEADERS: &[(&str, &str)] = &[
    ("abi.hpp", include_str!("device/abi.hpp")),
    ("hooks.hpp", include_str!("device/hooks.hpp")),
    ("language.hpp", include_str!("device/language.hpp")),
    ("math.hpp", include_str!("device/math.hpp")),
    ("threads.hpp", include_str!("device/threads.hpp")),
    ("registers.hpp", include_str!("device/registers.hpp")),
    ("instructions.hpp", include_str!("device/instructions.hpp")),
    ("launch.hpp", include_str!("device/launch.hpp")),
];

/// The name of the CUDA text in debug information and messages.
const FILE: &str = "kernel.cu";

/// A place in the CUDA text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: u32,
    /// The function that the line belongs to, without its parameters.
    pub(crate) function: Option<String>,
}

/// A function that runs a kernel as the running CUDA thread.
pub(crate) type Entry = unsafe extern "C" fn(*mut *mut c_void);

/// A kernel, compiled, loaded and bound.
pub(crate) struct Program {
    entries: Vec<String>,
    /// The address at which the library lies.
    base: usize,
    /// Debug information, read at the first question.
    debug: Mutex<Option<addr2line::Loader>>,
    path: std::path::PathBuf,
    library: Library,
    // after the library: fields are dropped in order
    _folder: TempDir,
}

impl Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("entries", &self.entries).field("path", &self.path).finish_non_exhaustive()
    }
}

/// What the loader says, with its reason.
fn load(error: libloading::Error) -> BuildError {
    let reason = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    BuildError::Load { reason: format!("{error}{reason}") }
}

/// The whole C++ text of a kernel.
pub(super) fn compose(source: &str) -> Result<(String, Vec<String>), BuildError> {
    let translation = translate(source)?;
    let mut text = String::new();
    for (name, header) in HEADERS {
        text += &format!("#line 1 \"{name}\"\n{header}");
    }
    text += &format!("#line 1 \"{FILE}\"\n{}\n", translation.text);
    Ok((text, translation.entries))
}

impl Program {
    /// Translates, compiles and loads a CUDA text.
    pub(crate) fn build(source: &str) -> Result<Program, BuildError> {
        Program::build_with(source, &abi::TABLE)
    }

    /// The same, reporting to another table.
    pub(super) fn build_with(source: &str, table: &'static Table) -> Result<Program, BuildError> {
        let (text, entries) = compose(source)?;
        let folder = tempfile::Builder::new().prefix("kernel-").tempdir_in(scratch::folder()?)?;
        let path = compiler::compile(&text, folder.path())?;
        // SAFETY: the library's initialisers are those of a C++ text without constructors.
        let library = unsafe { Library::new(&path) }.map_err(load)?;
        // SAFETY: `abi.hpp` defines these functions with these types; the table is static.
        let base = unsafe {
            let bind = library.get::<unsafe extern "C" fn(*const Table) -> u64>(b"attn_sim_bind").map_err(load)?;
            let size = bind(table);
            if size != table.size {
                return Err(BuildError::Load {
                    reason: format!("its table has {size} bytes, that of the simulator {}", table.size),
                });
            }
            library.get::<unsafe extern "C" fn() -> usize>(b"attn_sim_base").map_err(load)?()
        };
        Ok(Program { entries, base, debug: Mutex::new(None), path, library, _folder: folder })
    }

    /// The function that runs the kernel `name`.
    pub(crate) fn entry(&self, name: &str) -> Result<Entry, BuildError> {
        self.check(name)?;
        // SAFETY: the macro ATTN_SIM_ENTRY defines the function with this type.
        unsafe { self.library.get::<Entry>(format!("attn_sim_{name}")) }.map(|symbol| *symbol).map_err(load)
    }

    /// The size of each parameter of the kernel `name`.
    pub(crate) fn parameters(&self, name: &str) -> Result<Vec<usize>, BuildError> {
        self.check(name)?;
        // SAFETY: the macro ATTN_SIM_ENTRY defines the function with this type; it gives a static list that ends with 0.
        unsafe {
            let list = self
                .library
                .get::<unsafe extern "C" fn() -> *const u32>(format!("attn_sim_parameters_{name}"))
                .map_err(load)?();
            let sizes = (0..).map(|index| *list.add(index) as usize);
            Ok(sizes.take_while(|&size| size != 0).collect())
        }
    }

    /// Refuses names of kernels that aren't there, perhaps because the preprocessor has removed them.
    fn check(&self, name: &str) -> Result<(), BuildError> {
        // SAFETY: the symbol is looked up, not used.
        let is_there = |name: &String| unsafe { self.library.get::<Entry>(format!("attn_sim_{name}")) }.is_ok();
        let available: Vec<&str> = self.entries.iter().filter(|name| is_there(name)).map(String::as_str).collect();
        if available.contains(&name) {
            return Ok(());
        }
        let available = if available.is_empty() { "none".into() } else { available.join(", ") };
        Err(BuildError::MissingEntry { name: name.to_owned(), available })
    }

    /// The calling OS thread's pointer to the running CUDA thread.
    pub(crate) fn thread_slot(&self) -> *mut *const ThreadContext {
        // SAFETY: `abi.hpp` defines the function with this type, and `build` has found its neighbours.
        unsafe {
            self.library
                .get::<unsafe extern "C" fn() -> *mut *const ThreadContext>(b"attn_sim_thread")
                .expect("a bound program has this function")()
        }
    }

    /// The lines of the CUDA text at an address to which a call returns: the innermost inlined function first.
    pub(crate) fn locate(&self, pc: usize) -> Vec<Line> {
        let mut debug = self.debug.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if debug.is_none() {
            *debug = addr2line::Loader::new(&self.path).ok();
        }
        let Some(loader) = debug.as_ref() else { return vec![] };
        // the call itself, not what follows it
        let Some(address) = pc.checked_sub(self.base + 1) else { return vec![] };
        let Ok(mut frames) = loader.find_frames(address as u64) else { return vec![] };
        let mut lines = vec![];
        while let Ok(Some(frame)) = frames.next() {
            let function = frame.function.as_ref().and_then(|name| name.demangle().ok()).map(|name| shorten(&name));
            if let Some((file, number)) = frame.location.and_then(|location| Some((location.file?, location.line?)))
                && std::path::Path::new(file).file_name().is_some_and(|name| name == FILE)
                // the call of a kernel stands in its last line
                && !function.as_ref().is_some_and(|name| name.starts_with("attn_sim_"))
            {
                lines.push(Line { number, function });
            }
        }
        lines
    }
}

/// A function's name without parameters and template arguments.
fn shorten(name: &str) -> String {
    if name.contains("operator()") || name.contains("{lambda") {
        return "a lambda".into();
    }
    let mut depth = 0;
    let mut text = String::new();
    for character in name.chars() {
        match character {
            '<' | '(' => depth += 1,
            '>' | ')' => depth -= 1,
            _ if depth == 0 => text.push(character),
            _ => {}
        }
    }
    text.split_whitespace().last().unwrap_or(name).to_owned()
}
