//! One process at a time in a folder.

use crate::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Longest text of a holder that is shown, in bytes.
const HOLDER_BYTES: u64 = 200;

/// The right to work in a folder; given back when dropped, and by the system when the process ends
/// however it ends. So a lock is never stale.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes the lock file `path`, which is made where it is missing and stays when the lock is
    /// given back. `holder` is what a second process is told, for example `process 4711`.
    ///
    /// # Errors
    /// [`Error::Locked`] when another process has it, [`Error::Io`].
    pub fn acquire(path: &Path, holder: &str) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(Error::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = Vec::new();
                // The name of the holder is a courtesy.
                let _ = file.take(HOLDER_BYTES).read_to_end(&mut text);
                let holder = String::from_utf8_lossy(&text).trim().to_owned();
                return Err(Error::Locked { path: path.to_path_buf(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
        }
        let named = file
            .set_len(0)
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| file.write_all(format!("{holder}\n").as_bytes()));
        named.map_err(Error::io("write", path))?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = Lock::acquire(&path, "process 1").unwrap();
        match Lock::acquire(&path, "process 2") {
            Err(Error::Locked { holder, .. }) => assert_eq!(holder, "process 1"),
            other => panic!("{other:?}"),
        }
        drop(first);
        Lock::acquire(&path, "process 2").unwrap();
    }
}
