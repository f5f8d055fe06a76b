//! The twelve NVRTC functions that are needed, found by name.
//!
//! Their C interface has not changed since CUDA 11.2, so that one binding serves every version; a missing function is an
//! error value. The library stays loaded until the process ends: NVRTC keeps state in thread-local storage.

use std::ffi::{CStr, c_char, c_int};
use std::mem::ManuallyDrop;
use std::path::Path;

use libloading::Library;

use crate::cuda::searched::loader_message;

/// An opaque `nvrtcProgram`.
pub(crate) type Program = *mut std::ffi::c_void;

type Texts = *const *const c_char;
type CreateProgram = unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, Texts, Texts) -> c_int;
type SizeOf = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type CopyOut = unsafe extern "C" fn(Program, *mut c_char) -> c_int;

/// Functions of a loaded NVRTC.
pub(crate) struct Binding {
    pub(crate) version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    pub(crate) error_string: unsafe extern "C" fn(c_int) -> *const c_char,
    pub(crate) supported_count: unsafe extern "C" fn(*mut c_int) -> c_int,
    pub(crate) supported: unsafe extern "C" fn(*mut c_int) -> c_int,
    pub(crate) create: CreateProgram,
    pub(crate) destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    pub(crate) compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    pub(crate) binary_size: SizeOf,
    pub(crate) binary: CopyOut,
    pub(crate) log_size: SizeOf,
    pub(crate) log: CopyOut,
    /// Never unloaded; see the module's head. The second is the builtins library beside the first.
    _libraries: (ManuallyDrop<Library>, Option<ManuallyDrop<Library>>),
}

/// Looks a function up; the message names it.
///
/// # Safety
/// `F` must be the function's type.
unsafe fn find<F: Copy>(library: &Library, name: &str) -> Result<F, String> {
    // SAFETY: the caller vouches for the type; the pointer is used while the library is loaded, which is for ever.
    unsafe { library.get::<F>(name.as_bytes()) }
        .map(|symbol| *symbol)
        .map_err(|error| format!("it has no function {name} ({})", loader_message(&error)))
}

impl Binding {
    /// Loads a library by path or by name.
    pub(crate) fn load(library: &Path) -> Result<Self, String> {
        // NVRTC opens its builtins by bare name. Loading them first, by path, makes that name resolve even where the folder
        // is not on the loader's path, as in a Python package.
        let builtins = builtins_beside(library).and_then(|path| {
            // SAFETY: the library is NVIDIA's data file for NVRTC; its initialisers have no preconditions.
            unsafe { Library::new(path) }.ok().map(ManuallyDrop::new)
        });
        // SAFETY: loading runs the initialisers of a library that the user named or that carries NVRTC's name.
        let library = unsafe { Library::new(library) }.map_err(|error| loader_message(&error))?;
        // SAFETY: the types are those of nvrtc.h.
        unsafe {
            Ok(Self {
                version: find(&library, "nvrtcVersion")?,
                error_string: find(&library, "nvrtcGetErrorString")?,
                supported_count: find(&library, "nvrtcGetNumSupportedArchs")?,
                supported: find(&library, "nvrtcGetSupportedArchs")?,
                create: find(&library, "nvrtcCreateProgram")?,
                destroy: find(&library, "nvrtcDestroyProgram")?,
                compile: find(&library, "nvrtcCompileProgram")?,
                binary_size: find(&library, "nvrtcGetCUBINSize")?,
                binary: find(&library, "nvrtcGetCUBIN")?,
                log_size: find(&library, "nvrtcGetProgramLogSize")?,
                log: find(&library, "nvrtcGetProgramLog")?,
                _libraries: (ManuallyDrop::new(library), builtins),
            })
        }
    }

    /// NVRTC's text for a result code.
    pub(crate) fn message(&self, code: c_int) -> String {
        // SAFETY: the function takes any code and returns a static string, or null.
        let text = unsafe { (self.error_string)(code) };
        if text.is_null() {
            return "unknown error".to_owned();
        }
        // SAFETY: not null, and NVRTC's strings end in NUL and live as long as the library.
        unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
    }
}

/// `libnvrtc-builtins.so.X.Y` in the library's folder.
fn builtins_beside(library: &Path) -> Option<std::path::PathBuf> {
    let folder = library.parent().filter(|folder| !folder.as_os_str().is_empty())?;
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libnvrtc-builtins.so") || (name.starts_with("nvrtc-builtins64") && !name.contains("alt"))
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.pop()
}
