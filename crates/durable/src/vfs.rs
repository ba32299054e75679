//! The few things that are asked of a file system.

use std::io::{self, Read, Write};
use std::path::Path;

/// A file system. Paths are those of the implementation; a rename stays within one folder.
pub trait Vfs: Send + Sync {
    /// A new, empty file; one that was there is emptied.
    ///
    /// # Errors
    /// What the file system says; so with every method here.
    fn create(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// A file that is written at its end; it is made where there is none.
    fn append(&self, path: &Path) -> io::Result<Box<dyn VfsFile>>;

    /// A file to read from its start.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send>>;

    /// Gives `from` the name `to`, which a file that was there loses in the same instant.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Brings the names in a folder to the disk.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Removes the name of a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty folder.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder in one that exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// The names in a folder, sorted; those that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// What lies at a path; a link is not followed.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Bytes that may still be written to the disk of a folder.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
}

/// A file that is being written.
pub trait VfsFile: Write + Send {
    /// Brings contents and length to the disk. After an error the contents are not to be trusted,
    /// whatever a later call says.
    ///
    /// # Errors
    /// What the file system says.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the file.
    ///
    /// # Errors
    /// What the file system says.
    fn set_len(&mut self, bytes: u64) -> io::Result<()>;
}

/// What lies at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Length of a file in bytes.
    pub bytes: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
}
