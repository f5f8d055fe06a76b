//! What tests need: an NVRTC of a known version, fetched if need be, and a GPU where there is one.
//!
//! Registers and spills change from one NVRTC to the next, so that tests which snapshot them use one version: that of
//! [`VERSION`], unless `ATTN_NVRTC_PATH` names another library. Nothing here is silent: where no NVRTC can be had, the test
//! fails with the command to run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use super::device::CudaDevice;
use super::error::CudaError;
use super::nvrtc::Nvrtc;

/// The version that tests compile with.
pub const VERSION: (u32, u32) = (13, 0);

/// The Python package that carries it.
const PACKAGE: &str = "nvidia-cuda-nvrtc==13.0.*";

/// NVRTC for tests: the machine's own where it is of [`VERSION`] or was named by `ATTN_NVRTC_PATH`, else the Python
/// package, installed once into the build's target folder with pip.
///
/// # Panics
/// Where none can be had; the message says what was tried and which command to run.
pub fn nvrtc_for_tests() -> Arc<Nvrtc> {
    static SHARED: OnceLock<Arc<Nvrtc>> = OnceLock::new();
    Arc::clone(SHARED.get_or_init(|| obtain().unwrap_or_else(|reason| panic!("{reason}"))))
}

/// The first GPU, or nothing on a machine that has none, which is said on standard error. With `ATTN_REQUIRE_CUDA` set,
/// having none is a failure, so that a machine meant to test a GPU cannot pass without one.
///
/// # Panics
/// Where there is a GPU that does not work, or none although one is required.
pub fn device_for_tests() -> Option<CudaDevice> {
    let required = std::env::var_os("ATTN_REQUIRE_CUDA").is_some_and(|value| !value.is_empty() && value != "0");
    match CudaDevice::new(0) {
        Ok(device) => Some(device),
        Err(error @ (CudaError::DriverMissing { .. } | CudaError::NoDevice)) if !required => {
            eprintln!("this test's GPU part did not run: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn obtain() -> Result<Arc<Nvrtc>, String> {
    let named = std::env::var_os("ATTN_NVRTC_PATH").is_some_and(|value| !value.is_empty());
    match Nvrtc::load() {
        Ok(nvrtc) if named || nvrtc.version() == VERSION => return Ok(nvrtc),
        Err(error) if named => return Err(error.to_string()),
        Ok(_) | Err(_) => {}
    }
    let folder = target_folder()?.join("nvrtc");
    let library = folder.join("nvidia/cu13/lib");
    if !library.is_dir() {
        install(&folder)?;
    }
    Nvrtc::load_from(&library).map_err(|error| format!("{error}\nDelete {} to fetch it again.", folder.display()))
}

/// Installs the package under a lock, so that test programs that run at the same time do it once, and moves it into place
/// whole, so that an interrupted installation is never taken for a finished one.
fn install(folder: &Path) -> Result<(), String> {
    let failed = |what: &str, reason: String| {
        format!(
            "Tests compile kernels with NVRTC {}.{}, which is not on this machine, and {what} failed: {reason}\n\
             Run\n    python3 -m pip install --target {} '{PACKAGE}'\n\
             or set ATTN_NVRTC_PATH to a libnvrtc.so file. No GPU is needed.",
            VERSION.0,
            VERSION.1,
            folder.display()
        )
    };
    let parent = folder.parent().ok_or_else(|| failed("finding the target folder", folder.display().to_string()))?;
    std::fs::create_dir_all(parent).map_err(|error| failed("creating the target folder", error.to_string()))?;
    let lock =
        File::create(folder.with_extension("lock")).map_err(|error| failed("creating a lock", error.to_string()))?;
    lock.lock().map_err(|error| failed("taking the lock", error.to_string()))?;
    if folder.join("nvidia").is_dir() {
        return Ok(());
    }
    let partial = folder.with_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial).map_err(|error| failed("removing a partial copy", error.to_string()))?;
    }
    let arguments = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"];
    let output = Command::new("python3").args(arguments).arg(&partial).arg(PACKAGE).output();
    let output = output.map_err(|error| failed("starting python3", error.to_string()))?;
    if !output.status.success() {
        return Err(failed("fetching it with pip", String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    std::fs::rename(&partial, folder).map_err(|error| failed("moving it into place", error.to_string()))
}

/// The build's target folder: the one above the running test program that Cargo marked, else `target` beside `Cargo.lock`
/// (documentation tests run from a temporary folder).
fn target_folder() -> Result<PathBuf, String> {
    if let Some(folder) = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let program = std::env::current_exe().map_err(|error| format!("the running test program has no path: {error}"))?;
    if let Some(folder) = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()) {
        return Ok(folder.to_path_buf());
    }
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let workspace =
        package.as_deref().and_then(|package| package.ancestors().find(|folder| folder.join("Cargo.lock").is_file()));
    match workspace {
        Some(workspace) => Ok(workspace.join("target")),
        None => Err("no target folder was found: set CARGO_TARGET_DIR".to_owned()),
    }
}
