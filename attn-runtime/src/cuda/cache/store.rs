//! Entries on disk: `<root>/v1/<first two digits of the key>/<key>.attnk`, and decisions beside them, `.attnd`.
//!
//! A writer fills a temporary file of its own in the entry's folder and renames it, so that a reader sees a whole entry or
//! none; two writers of one entry write the same bytes, and the last one wins. Readers open exact names and never list
//! folders. What does not validate is deleted and counts as absent. The disk is never needed: every failure is reported to
//! the caller, who goes on without.
//!
//! The checksum guards against damage, not against people: whoever may write to the folder decides what runs on the GPU.

use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::decision::{self, Decision, Question};
use super::entry;
use super::key::{Identified, KernelKey};
use crate::cuda::nvrtc::Compilation;

/// What a look-up found.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// A valid entry.
    Hit(Compilation),
    /// None.
    Miss,
    /// An entry that did not validate, now deleted if that was possible.
    Corrupt(entry::EntryError),
    /// The entry could not be read.
    Unreadable(io::Error),
}

/// A folder of entries.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens a folder, creating it, for its owner alone, where it is missing.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        create_private(root)?;
        Ok(Self { root: root.to_path_buf() })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, key: KernelKey) -> PathBuf {
        let name = key.to_string();
        self.root.join("v1").join(&name[..2]).join(format!("{name}.attnk"))
    }

    pub(crate) fn read(&self, identified: &Identified) -> Lookup {
        let path = self.path(identified.key);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            // A file in a folder's place is as good as nothing there; writing will report it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Lookup::Miss;
            }
            Err(error) => return Lookup::Unreadable(error),
        };
        match entry::decode(&bytes, identified) {
            Ok(compilation) => Lookup::Hit(compilation),
            Err(error) => {
                // Another process may have replaced or deleted it meanwhile; both are fine.
                let _ = std::fs::remove_file(&path);
                Lookup::Corrupt(error)
            }
        }
    }

    pub(crate) fn write(&self, identified: &Identified, compilation: &Compilation) -> io::Result<()> {
        self.write_whole(&self.path(identified.key), &entry::encode(identified, compilation))
    }

    pub(crate) fn decision_path(&self, question: &Question) -> PathBuf {
        let name = question.name();
        self.root.join("v1").join(&name[..2]).join(format!("{name}.attnd"))
    }

    /// The decision of a question; none where there is none that validates.
    pub(crate) fn read_decision(&self, question: &Question) -> Option<Decision> {
        decision::decode(&std::fs::read(self.decision_path(question)).ok()?, question)
    }

    pub(crate) fn write_decision(&self, question: &Question, decision: &Decision) -> io::Result<()> {
        self.write_whole(&self.decision_path(question), &decision::encode(question, decision))
    }

    fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        create_private(folder)?;
        let mut file = tempfile::Builder::new().prefix(".writing-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    pub(crate) fn remove(&self, key: KernelKey) -> io::Result<()> {
        match std::fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn create_private(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}
