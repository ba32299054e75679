//! The cache of one repository on disk, laid out as `huggingface_hub` lays it out.
//!
//! ```text
//! CACHE/models--ORG--NAME/blobs/CHECKSUM               the bytes; CHECKSUM.incomplete while coming
//! CACHE/models--ORG--NAME/snapshots/COMMIT/FILE        a relative link to a blob
//! CACHE/models--ORG--NAME/refs/BRANCH                  the commit, without newline
//! CACHE/.locks/models--ORG--NAME/CHECKSUM.lock         held while a blob is written
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::names::is_commit;
use crate::{Error, RepoId};

/// The paths of one repository in the cache.
#[derive(Debug)]
pub(crate) struct RepoCache {
    cache_dir: PathBuf,
    repo: RepoId,
}

/// How the bytes of a blob are guarded while they are written.
pub(crate) enum Lock {
    /// Held until dropped.
    Held { _file: File },
    /// The file system knows no locks; writers must use names of their own.
    Unsupported,
}

impl RepoCache {
    pub(crate) fn new(cache_dir: &Path, repo: &RepoId) -> Self {
        Self { cache_dir: cache_dir.to_owned(), repo: repo.clone() }
    }

    fn root(&self) -> PathBuf {
        self.cache_dir.join(self.repo.folder_name())
    }

    pub(crate) fn blob(&self, checksum: &str) -> PathBuf {
        self.root().join("blobs").join(checksum)
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root().join("snapshots").join(commit)
    }

    /// Makes the folders of the repository.
    pub(crate) fn create(&self) -> Result<(), Error> {
        let blobs = self.root().join("blobs");
        fs::create_dir_all(&blobs).map_err(|e| failed(&blobs, "make a folder", e))?;
        // Tells backup programs to pass by, https://bford.info/cachedir/. A cache without it works.
        let tag = self.cache_dir.join("CACHEDIR.TAG");
        if !tag.exists() {
            let _ = fs::write(&tag, "Signature: 8a477f597d28d172789f06886806bc55\n");
        }
        Ok(())
    }

    /// The commit that a revision stands for on disk.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.root().join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Writes which commit a branch or tag stands for; a commit needs no entry.
    pub(crate) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), Error> {
        if is_commit(revision) || self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.root().join("refs").join(revision);
        let fresh = path.with_file_name(format!(
            "{}.{}.tmp",
            path.file_name().unwrap_or_default().to_string_lossy(),
            unique()
        ));
        let write = || {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&fresh, commit)?;
            fs::rename(&fresh, &path)
        };
        write().map_err(|e| failed(&path, "write a reference", e))
    }

    /// Takes the lock of a blob, waiting for another process that writes it; `waiting` is called
    /// before the wait.
    pub(crate) fn lock(&self, checksum: &str, waiting: &mut dyn FnMut()) -> Result<Lock, Error> {
        let dir = self.cache_dir.join(".locks").join(self.repo.folder_name());
        let path = dir.join(format!("{checksum}.lock"));
        let open = || {
            fs::create_dir_all(&dir)?;
            OpenOptions::new().create(true).append(true).open(&path)
        };
        let file = open().map_err(|e| failed(&path, "open a lock file", e))?;
        let taken = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()
            }
            Err(TryLockError::Error(e)) => Err(e),
            Ok(()) => Ok(()),
        };
        match taken {
            Ok(()) => Ok(Lock::Held { _file: file }),
            // Some network file systems know no locks. The checksum still guards the blob.
            Err(_) => Ok(Lock::Unsupported),
        }
    }

    /// Puts the blob into a snapshot under its relative path: a relative link, or a copy where
    /// links cannot be made.
    pub(crate) fn link(&self, commit: &str, path: &Path, checksum: &str) -> Result<(), Error> {
        let pointer = self.snapshot(commit).join(path);
        let blob = self.blob(checksum);
        let dir = pointer.parent().unwrap_or(&pointer);
        fs::create_dir_all(dir).map_err(|e| failed(dir, "make a folder", e))?;
        let mut target = PathBuf::new();
        // Up to `models--ORG--NAME` from the folder of the file.
        for _ in 0..path.components().count() + 1 {
            target.push("..");
        }
        target.extend(["blobs", checksum]);
        // A link under a name of its own, then renamed: a reader never finds the name missing.
        let fresh = dir.join(format!(".{checksum}.{}.link", unique()));
        symlink(&target, &fresh)
            .or_else(|_| fs::copy(&blob, &fresh).map(drop))
            .and_then(|()| fs::rename(&fresh, &pointer))
            .map_err(|e| failed(&pointer, "link a file", e))
    }

    /// The folder of a revision, if there is one and it holds anything.
    pub(crate) fn find(&self, revision: &str) -> Option<(String, PathBuf)> {
        let commit = self.commit(revision)?;
        let dir = self.snapshot(&commit);
        let any = fs::read_dir(&dir).ok()?.next().is_some();
        any.then_some((commit, dir))
    }

    /// The names, with slashes, of all files of a snapshot; links to nothing are listed too.
    pub(crate) fn list(&self, commit: &str) -> Result<Vec<String>, Error> {
        /// Deeper than any repository that a model comes from.
        const MAX_DEPTH: usize = 16;
        let mut names = Vec::new();
        let mut folders = vec![(self.snapshot(commit), String::new(), 0)];
        while let Some((dir, prefix, depth)) = folders.pop() {
            let entries = fs::read_dir(&dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            for entry in entries.map_err(|e| failed(&dir, "list a folder", e))? {
                let Ok(name) = entry.file_name().into_string() else { continue };
                let name = format!("{prefix}{name}");
                // The type of the entry itself: a link is a file here, never a way out.
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    names.push(name);
                } else if depth < MAX_DEPTH {
                    folders.push((entry.path(), format!("{name}/"), depth + 1));
                }
            }
        }
        names.sort();
        Ok(names)
    }
}

/// A part of a file name that no other writer uses at the same time.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// The size of the file behind a path, links followed.
pub(crate) fn file_bytes(path: &Path) -> Option<u64> {
    let metadata = fs::metadata(path).ok()?;
    metadata.is_file().then_some(metadata.len())
}

pub(crate) fn failed(path: &Path, action: &'static str, source: io::Error) -> Error {
    Error::Cache { path: path.to_owned(), action, source }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
