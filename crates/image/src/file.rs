//! Reading a picture file: only regular files, and only as much as allowed.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::path::Path;

use crate::decode::DecodeOptions;
use crate::error::Error;
use crate::rgb::with_room;

/// The bytes of the picture file at `path`.
///
/// Never waits: a pipe or a device is refused after opening it without blocking.
///
/// # Errors
/// [`Error::NotRegular`], [`Error::Io`], [`Error::FileTooLarge`] (before anything is read, or while
/// reading where the file grows), [`Error::Memory`].
pub fn read_file(path: &Path, options: &DecodeOptions) -> Result<Vec<u8>, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = open(path).map_err(|source| match kind_of(path) {
        // A folder or a socket may already refuse to be opened; its kind says more than the errno.
        Some(kind) => Error::NotRegular { path: path.to_owned(), kind },
        None => io(source),
    })?;
    let metadata = file.metadata().map_err(io)?;
    if let Some(kind) = kind_name(metadata.file_type()) {
        return Err(Error::NotRegular { path: path.to_owned(), kind });
    }
    let limit = options.limits.file_bytes;
    let too_large = |bytes| Error::FileTooLarge { path: Some(path.to_owned()), bytes, limit };
    if metadata.len() > limit {
        return Err(too_large(metadata.len()));
    }
    let size = usize::try_from(metadata.len()).map_err(|_| too_large(metadata.len()))?;
    let mut bytes = with_room(size)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    options.open(path)
}

fn kind_of(path: &Path) -> Option<&'static str> {
    std::fs::metadata(path).ok().and_then(|metadata| kind_name(metadata.file_type()))
}

fn kind_name(kind: std::fs::FileType) -> Option<&'static str> {
    if kind.is_file() {
        return None;
    }
    if kind.is_dir() {
        return Some("a folder");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if kind.is_fifo() {
            return Some("a pipe");
        }
        if kind.is_socket() {
            return Some("a socket");
        }
        if kind.is_char_device() || kind.is_block_device() {
            return Some("a device");
        }
    }
    Some("something that is not a regular file")
}
