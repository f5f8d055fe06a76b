//! NVRTC, NVIDIA's run-time compiler: finding it, and from source text to binary.
//!
//! It needs no GPU and no toolkit. The library is loaded when first asked for; every failure is an [`NvrtcError`]. One
//! loaded library serves every thread: NVRTC allows concurrent compilations of different programs.

mod binding;
mod error;
mod fingerprint;
mod resources;
mod search;

use std::ffi::{CString, c_char, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use error::NvrtcError;
pub use resources::ResourceUsage;

use crate::cuda::searched::Searched;
use binding::{Binding, Program};
use search::{Candidate, Environment};

/// The process's NVRTC, once found. A failure is not kept: the user may install one and try again.
static LOADED: Mutex<Option<Arc<Nvrtc>>> = Mutex::new(None);

/// `NVRTC_ERROR_COMPILATION`.
const COMPILATION_ERROR: c_int = 6;

/// A binary for one target, and what the compiler said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compilation {
    /// The ELF image that a GPU's driver loads.
    pub cubin: Vec<u8>,
    /// Warnings, and the assembler's report.
    pub log: String,
}

impl Compilation {
    /// The resources of each kernel; empty where the options lacked `--ptxas-options=-v`.
    pub fn resources(&self) -> Vec<ResourceUsage> {
        ResourceUsage::parse_log(&self.log)
    }
}

/// The options that kernels are compiled with by default, for a target like `sm_90a`.
///
/// Fast mathematics is not among them: generated source names each approximate instruction where it wants one.
pub fn default_options(target: &str) -> Vec<String> {
    vec![
        format!("--gpu-architecture={target}"),
        "--std=c++17".to_owned(),
        "-default-device".to_owned(),
        "--ptxas-options=-v".to_owned(),
    ]
}

/// A loaded NVRTC.
pub struct Nvrtc {
    binding: Binding,
    path: PathBuf,
    version: (u32, u32),
    fingerprint: String,
    supported: Vec<u32>,
}

impl std::fmt::Debug for Nvrtc {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Nvrtc")
            .field("path", &self.path)
            .field("version", &self.version)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Nvrtc {
    /// The process's NVRTC, found on the first call: `ATTN_NVRTC_PATH` (a file or folder; nothing else is tried when it is
    /// set), a copy that the process has loaded already, `CUDA_HOME`, `CUDA_PATH`, `/usr/local/cuda*`, Python's `nvidia`
    /// packages, the loader's own search.
    pub fn load() -> Result<Arc<Self>, NvrtcError> {
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(nvrtc) = &*loaded {
            return Ok(Arc::clone(nvrtc));
        }
        let maps = mapped();
        let environment = Environment { variable: &|name| std::env::var_os(name), root: Path::new("/"), maps: &maps };
        let nvrtc = Arc::new(Self::find(&environment)?);
        tracing::debug!(target: "attn::nvrtc", path = %nvrtc.path.display(), version = ?nvrtc.version, "loaded NVRTC");
        *loaded = Some(Arc::clone(&nvrtc));
        Ok(nvrtc)
    }

    /// Loads a given library, or the library of a given folder, for this caller alone.
    pub fn load_from(path: impl AsRef<Path>) -> Result<Arc<Self>, NvrtcError> {
        Self::open_named(path.as_ref()).map(Arc::new)
    }

    fn find(environment: &Environment<'_>) -> Result<Self, NvrtcError> {
        if let Some(path) = search::named(environment) {
            return Self::open_named(&path);
        }
        let mut searched = Vec::new();
        for candidate in search::candidates(environment) {
            match candidate {
                Candidate::Nothing { place, outcome } => searched.push(Searched { place, outcome }),
                Candidate::Library(path) => match Self::open(&path) {
                    Ok(nvrtc) => return Ok(nvrtc),
                    Err(reason) => searched.push(Searched::new(path.display().to_string(), reason)),
                },
            }
        }
        Err(NvrtcError::NotFound { searched })
    }

    fn open_named(path: &Path) -> Result<Self, NvrtcError> {
        let unusable = |reason: String| NvrtcError::Unusable { path: path.to_path_buf(), reason };
        if !path.is_dir() {
            return Self::open(path).map_err(unusable);
        }
        let libraries = search::libraries_in(path).map_err(|error| unusable(error.to_string()))?;
        let first = libraries.first().ok_or_else(|| unusable("the folder holds no libnvrtc".to_owned()))?;
        Self::open(first).map_err(unusable)
    }

    fn open(library: &Path) -> Result<Self, String> {
        let binding = Binding::load(library)?;
        let (mut major, mut minor, mut count) = (0, 0, 0);
        // SAFETY: both pointers are to live integers.
        let code = unsafe { (binding.version)(&raw mut major, &raw mut minor) };
        if code != 0 {
            return Err(format!("nvrtcVersion failed: {}", binding.message(code)));
        }
        // SAFETY: the pointer is to a live integer.
        let code = unsafe { (binding.supported_count)(&raw mut count) };
        if code != 0 {
            return Err(format!("nvrtcGetNumSupportedArchs failed: {}", binding.message(code)));
        }
        let mut supported: Vec<c_int> = vec![0; usize::try_from(count).unwrap_or(0)];
        // SAFETY: the array has the length that NVRTC just gave.
        let code = unsafe { (binding.supported)(supported.as_mut_ptr()) };
        if code != 0 {
            return Err(format!("nvrtcGetSupportedArchs failed: {}", binding.message(code)));
        }
        // A bare name was resolved by the loader: the process's map says to which file.
        let is_bare = library.parent().is_none_or(|folder| folder.as_os_str().is_empty());
        let resolved = if is_bare { search::mapped_libraries(&mapped()).into_iter().next() } else { None };
        let path = resolved.unwrap_or_else(|| library.to_path_buf());
        Ok(Self {
            binding,
            version: (u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0)),
            fingerprint: fingerprint::of_library(&path),
            path,
            supported: supported.into_iter().filter_map(|target| u32::try_from(target).ok()).collect(),
        })
    }

    /// The file that was loaded.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Major and minor version.
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// What tells this build from another of the same version; part of the kernel cache's key.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The compute capabilities that it compiles for, as 80 for 8.0.
    pub fn supported_targets(&self) -> &[u32] {
        &self.supported
    }

    /// Compiles to a binary. `options` name a real target (`--gpu-architecture=sm_90a`); see [`default_options`].
    /// `file_name` is how the source is called in messages.
    pub fn compile(&self, source: &str, file_name: &str, options: &[String]) -> Result<Compilation, NvrtcError> {
        self.check_target(options)?;
        let source_text = c_string("source", source)?;
        let name_text = c_string("file name", file_name)?;
        let option_texts: Vec<CString> =
            options.iter().map(|option| c_string("option", option)).collect::<Result<_, _>>()?;
        let option_pointers: Vec<*const c_char> = option_texts.iter().map(|option| option.as_ptr()).collect();
        let option_count = c_int::try_from(options.len()).unwrap_or(c_int::MAX);

        let session = Session::new(self, file_name, &source_text, &name_text)?;
        // SAFETY: the program is live and the array holds as many strings as said, all living past the call.
        let code = unsafe { (self.binding.compile)(session.program, option_count, option_pointers.as_ptr()) };
        let log = session.log()?;
        match code {
            0 => Ok(Compilation { cubin: session.binary()?, log }),
            COMPILATION_ERROR => Err(NvrtcError::Compile {
                file_name: file_name.to_owned(),
                version: self.version,
                options: options.join(" "),
                log,
            }),
            _ => Err(self.failure("nvrtcCompileProgram", file_name, code, log)),
        }
    }

    /// NVRTC's own message for an unknown target names neither the target nor the known ones.
    fn check_target(&self, options: &[String]) -> Result<(), NvrtcError> {
        for option in options {
            let Some((name, target)) = option.split_once('=') else { continue };
            if !matches!(name, "--gpu-architecture" | "-arch") {
                continue;
            }
            let digits: String = target.chars().filter(char::is_ascii_digit).collect();
            if !digits.parse().is_ok_and(|number: u32| self.supported.contains(&number)) {
                let supported: Vec<String> = self.supported.iter().map(|number| format!("sm_{number}")).collect();
                return Err(NvrtcError::UnsupportedTarget {
                    target: target.to_owned(),
                    version: self.version,
                    supported: supported.join(", "),
                });
            }
        }
        Ok(())
    }

    fn failure(&self, function: &'static str, file_name: &str, code: c_int, log: String) -> NvrtcError {
        NvrtcError::Call { function, file_name: file_name.to_owned(), code, message: self.binding.message(code), log }
    }
}

/// A program under compilation, destroyed at the end of its scope.
struct Session<'a> {
    nvrtc: &'a Nvrtc,
    file_name: &'a str,
    program: Program,
}

impl<'a> Session<'a> {
    fn new(nvrtc: &'a Nvrtc, file_name: &'a str, source: &CString, name: &CString) -> Result<Self, NvrtcError> {
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: the strings end in NUL and NVRTC copies them; no headers are passed.
        let code = unsafe {
            let none = std::ptr::null();
            (nvrtc.binding.create)(&raw mut program, source.as_ptr(), name.as_ptr(), 0, none, none)
        };
        match code {
            0 => Ok(Self { nvrtc, file_name, program }),
            _ => Err(nvrtc.failure("nvrtcCreateProgram", file_name, code, String::new())),
        }
    }

    fn log(&self) -> Result<String, NvrtcError> {
        let binding = &self.nvrtc.binding;
        let mut length = 0;
        // SAFETY: the program is live, the pointer is to a live integer.
        let code = unsafe { (binding.log_size)(self.program, &raw mut length) };
        self.check("nvrtcGetProgramLogSize", code)?;
        let mut bytes = vec![0_u8; length];
        // SAFETY: the program is live and the buffer has the length that NVRTC gave.
        let code = unsafe { (binding.log)(self.program, bytes.as_mut_ptr().cast()) };
        self.check("nvrtcGetProgramLog", code)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned())
    }

    fn binary(&self) -> Result<Vec<u8>, NvrtcError> {
        let binding = &self.nvrtc.binding;
        let mut length = 0;
        // SAFETY: the program is live, the pointer is to a live integer.
        let code = unsafe { (binding.binary_size)(self.program, &raw mut length) };
        self.check("nvrtcGetCUBINSize", code)?;
        if length == 0 {
            let log = "the target is virtual (compute_..): name a real one (sm_..) to get a binary".to_owned();
            return Err(self.nvrtc.failure("nvrtcGetCUBINSize", self.file_name, code, log));
        }
        let mut bytes = vec![0_u8; length];
        // SAFETY: the program is live and the buffer has the length that NVRTC gave.
        let code = unsafe { (binding.binary)(self.program, bytes.as_mut_ptr().cast()) };
        self.check("nvrtcGetCUBIN", code)?;
        Ok(bytes)
    }

    fn check(&self, function: &'static str, code: c_int) -> Result<(), NvrtcError> {
        match code {
            0 => Ok(()),
            _ => Err(self.nvrtc.failure(function, self.file_name, code, String::new())),
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // SAFETY: the program was created by this NVRTC and is destroyed once. A failure leaves nothing to do.
        let _ = unsafe { (self.nvrtc.binding.destroy)(&raw mut self.program) };
    }
}

fn c_string(what: &'static str, text: &str) -> Result<CString, NvrtcError> {
    CString::new(text).map_err(|error| NvrtcError::NulByte { what, offset: error.nul_position() })
}

/// The libraries of this process; empty where the system does not list them.
fn mapped() -> String {
    std::fs::read_to_string("/proc/self/maps").unwrap_or_default()
}
