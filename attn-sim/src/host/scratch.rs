//! Where a process keeps the object files of its kernels.
//!
//! Kernels that live as long as the process are never dropped, so their files outlive it. A process therefore removes, before it
//! makes its own folder, those of processes that have ended: each holds a lock on a file of its folder as long as it lives.
//!
//! Invariant: the folder of a living process is never removed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

const PREFIX: &str = "attn-sim-";
const LOCK: &str = "lock";
/// How old a folder without a lock must be: a process may be about to make it.
const SETTLED: Duration = Duration::from_secs(600);

/// The folder of this process, and the file whose lock says that it lives.
static OWN: Mutex<Option<(PathBuf, File)>> = Mutex::new(None);

/// The folder of this process.
pub(super) fn folder() -> io::Result<PathBuf> {
    let mut own = OWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((path, _)) = &*own {
        return Ok(path.clone());
    }
    let parent = std::env::temp_dir();
    remove_abandoned(&parent);
    let (path, lock) = claim(&parent)?;
    *own = Some((path.clone(), lock));
    Ok(path)
}

/// A new folder, locked.
fn claim(parent: &Path) -> io::Result<(PathBuf, File)> {
    let path = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?.keep();
    let lock = File::create(path.join(LOCK))?;
    lock.lock()?;
    Ok((path, lock))
}

/// Removes the folders of processes that have ended. What cannot be removed, another user's, stays.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && is_abandoned(&entry.path()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(folder: &Path) -> bool {
    match File::open(folder.join(LOCK)) {
        Ok(lock) => lock.try_lock().is_ok(),
        Err(_) => fs::metadata(folder)
            .and_then(|about| about.modified())
            .is_ok_and(|made| made.elapsed().is_ok_and(|age| age > SETTLED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_ended_processes_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let (ended, lock) = claim(parent.path()).unwrap();
        fs::write(ended.join("kernel.so"), "").unwrap();
        drop(lock);
        let (alive, _lock) = claim(parent.path()).unwrap();
        let starting = parent.path().join("attn-sim-starting");
        fs::create_dir(&starting).unwrap();
        let other = parent.path().join("something-else");
        fs::create_dir(&other).unwrap();
        remove_abandoned(parent.path());
        assert_eq!([&ended, &alive, &starting, &other].map(|path| path.exists()), [false, true, true, true]);
    }

    #[test]
    fn a_process_has_one_folder() {
        assert_eq!(folder().unwrap(), folder().unwrap());
    }
}
