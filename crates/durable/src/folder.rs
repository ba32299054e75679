//! Several files that belong together, put in place as one.

use crate::error::Error;
use crate::replace::{Sealed, parent, remove_all, seal, temporary};
use crate::vfs::Vfs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A folder that is being written beside its place. It is removed again unless it is published.
pub struct Folder<'a> {
    vfs: &'a dyn Vfs,
    target: PathBuf,
    beside: PathBuf,
    published: bool,
}

impl<'a> Folder<'a> {
    /// Begins a folder that will be `target`; what an interrupted writer left is removed.
    ///
    /// # Errors
    /// [`Error::Exists`] where `target` is taken, [`Error::Io`].
    pub fn begin(vfs: &'a dyn Vfs, target: &Path) -> Result<Self, Error> {
        if vfs.metadata(target).is_ok() {
            return Err(Error::Exists { path: target.to_path_buf() });
        }
        let beside = temporary(target);
        match vfs.metadata(&beside) {
            Ok(_) => remove_all(vfs, &beside)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("look at", &beside)(error)),
        }
        vfs.create_dir(&beside).map_err(Error::io("create", &beside))?;
        Ok(Self { vfs, target: target.to_path_buf(), beside, published: false })
    }

    /// Writes a file of the folder, brings it to the disk and reads it back.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Damaged`].
    pub fn file(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<Sealed, Error> {
        seal(self.vfs, &self.beside.join(name), write)
    }

    /// Gives the folder its name and brings the name to the disk.
    ///
    /// # Errors
    /// [`Error::Io`]. Then the folder is not there, unless the last step failed (the sync of the
    /// folder around it), after which it is whole or not there.
    pub fn publish(mut self) -> Result<(), Error> {
        self.vfs.sync_dir(&self.beside).map_err(Error::io("sync", &self.beside))?;
        self.vfs.rename(&self.beside, &self.target).map_err(Error::io("rename", &self.beside))?;
        // From here on the name may be on the disk: to remove files now could leave a half folder.
        self.published = true;
        let dir = parent(&self.target);
        self.vfs.sync_dir(dir).map_err(Error::io("sync", dir))
    }
}

impl Drop for Folder<'_> {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is removed by `sweep`.
            let _ = remove_all(self.vfs, &self.beside);
        }
    }
}
