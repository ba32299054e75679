//! A file system in memory that fails where it is told to and loses power.
//!
//! What is on the disk and what the running program sees are kept apart. Between them lies the list
//! of effects that no sync has covered: contents in sectors, lengths, names. [`SimFs::crash`] makes
//! of it one of the disks that a power cut may leave: any part of the effects, in any order, sectors
//! torn or zero. It is stricter than usual file systems: a synced file without a synced folder is
//! lost, and after a failed sync a later one that succeeds has not brought the contents to the disk.
//! Everything follows from the calls and the seeds; there is no clock and no chance.

mod crash;
mod fault;
mod state;

pub use crash::{Damage, SECTOR_BYTES};
pub use fault::{Fault, FaultKind, Operation};

use crate::vfs::{Metadata, Vfs, VfsFile};
use state::{Id, State};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file system in memory; clones are the same one. The root is the empty path.
#[derive(Clone, Default)]
pub struct SimFs(Arc<Mutex<State>>);

impl SimFs {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that takes at most so many bytes in one write, as a file system may. More of them
    /// make more points at which it can fail.
    #[must_use]
    pub fn with_write_bytes(self, bytes: usize) -> Self {
        self.state().write_bytes = bytes.max(1);
        self
    }

    /// Lets an operation fail; operations count from 0 since the disk was made.
    pub fn inject(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// No operation fails any more.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Says how much room there is; without it there is no bound.
    pub fn set_free_space(&self, bytes: u64) {
        self.state().free = Some(bytes);
    }

    /// The operations so far, failed ones too, with their paths.
    pub fn operations(&self) -> Vec<(Operation, PathBuf)> {
        self.state().log.clone()
    }

    /// The disk as a power cut at this moment may leave it. The present one stays as it is.
    #[must_use]
    pub fn crash(&self, damage: Damage) -> Self {
        Self(Arc::new(Mutex::new(crash::crash(&self.state(), damage))))
    }

    /// Changes bytes of a file on the disk, as a bad sector does.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.state().tamper(path, change)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SimFile {
    disk: SimFs,
    file: Id,
    path: PathBuf,
    at: usize,
}

impl Write for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.disk.state().write(self.file, &self.path, self.at, bytes)?;
        self.at += n;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl VfsFile for SimFile {
    fn sync(&mut self) -> io::Result<()> {
        self.disk.state().sync(Operation::Sync, self.file, &self.path)
    }

    fn set_len(&mut self, bytes: u64) -> io::Result<()> {
        let length = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.disk.state().set_len(self.file, &self.path, length)?;
        self.at = length;
        Ok(())
    }
}

struct SimReader {
    disk: SimFs,
    file: Id,
    path: PathBuf,
    at: usize,
}

impl Read for SimReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.disk.state().read(self.file, &self.path, self.at, out)?;
        self.at += n;
        Ok(n)
    }
}

impl Vfs for SimFs {
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let file = self.state().create(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), file, path: path.to_path_buf(), at: 0 }))
    }

    fn append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>> {
        let (file, at) = self.state().append(path)?;
        Ok(Box::new(SimFile { disk: self.clone(), file, path: path.to_path_buf(), at }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>> {
        let file = self.state().open(path)?;
        Ok(Box::new(SimReader { disk: self.clone(), file, path: path.to_path_buf(), at: 0 }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.state().rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let id = state.dir(dir)?;
        state.sync(Operation::SyncDir, id, dir)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.state().remove(path, false)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.state().remove(path, true)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.state().create_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.state().list(dir)
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        self.state().metadata(path)
    }

    fn free_space(&self, _: &Path) -> io::Result<u64> {
        Ok(self.state().free.unwrap_or(u64::MAX))
    }
}
