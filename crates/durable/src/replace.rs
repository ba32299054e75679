//! One file put in place of another, so that a crash leaves the old one or the new one.

use crate::digest::{Digest, Hasher};
use crate::error::Error;
use crate::vfs::Vfs;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// How much is read or written at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// Length and hash of a file as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Length in bytes.
    pub bytes: u64,
    /// Hash of the contents.
    pub digest: Digest,
}

/// Writes a file beside `path`, brings it to the disk, reads it back, and gives it the name `path`.
///
/// # Errors
/// [`Error::Io`] for what the file system or `write` says, [`Error::Damaged`] when the file reads
/// back otherwise. Then `path` is as it was, unless the last step failed (the sync of the folder),
/// after which it is the old file or the new one.
pub fn replace(
    vfs: &dyn Vfs,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Sealed, Error> {
    let beside = temporary(path);
    let sealed = seal(vfs, &beside, write).and_then(|sealed| {
        vfs.rename(&beside, path).map_err(Error::io("rename", &beside))?;
        Ok(sealed)
    });
    if sealed.is_err() {
        // What cannot be removed now is removed by `sweep`.
        let _ = vfs.remove_file(&beside);
    }
    let sealed = sealed?;
    let dir = parent(path);
    vfs.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(sealed)
}

/// Writes a file under its own name, brings its contents to the disk and reads them back.
pub(crate) fn seal(
    vfs: &dyn Vfs,
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<Sealed, Error> {
    let mut file = vfs.create(path).map_err(Error::io("create", path))?;
    let mut out = Hashed {
        out: BufWriter::with_capacity(BLOCK_BYTES, &mut file),
        hasher: Hasher::default(),
        bytes: 0,
    };
    write(&mut out).and_then(|()| out.flush()).map_err(Error::io("write", path))?;
    let sealed = Sealed { bytes: out.bytes, digest: out.hasher.digest() };
    drop(out);
    file.sync().map_err(Error::io("sync", path))?;
    drop(file);
    verify(vfs, path, &sealed)?;
    Ok(sealed)
}

struct Hashed<W> {
    out: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..n).unwrap_or(bytes));
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Compares a file with what was written down about it.
///
/// # Errors
/// [`Error::Damaged`] when it differs, [`Error::Io`] when it cannot be read.
pub fn verify(vfs: &dyn Vfs, path: &Path, sealed: &Sealed) -> Result<(), Error> {
    let mut file = vfs.open(path).map_err(Error::io("open", path))?;
    let (mut hasher, mut bytes) = (Hasher::default(), 0);
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let n = match file.read(&mut block) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        if n == 0 {
            break;
        }
        hasher.update(block.get(..n).unwrap_or_default());
        bytes += n as u64;
    }
    let found = Sealed { bytes, digest: hasher.digest() };
    if found == *sealed {
        return Ok(());
    }
    let text = |s: &Sealed| format!("{} bytes with the hash {}", s.bytes, s.digest);
    Err(Error::Damaged { path: path.to_path_buf(), expected: text(sealed), found: text(&found) })
}

/// The contents of a file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`], or [`Error::TooLong`] for a longer file.
pub fn read(vfs: &dyn Vfs, path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let file = vfs.open(path).map_err(Error::io("open", path))?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::TooLong { path: path.to_path_buf(), limit });
    }
    Ok(bytes)
}

/// The name under which a file or folder is written before it gets its own: one for each target, so
/// that crashes do not pile them up.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.part"))
}

/// Removes what interrupted writers left in a folder and gives the names.
///
/// # Errors
/// [`Error::Io`]. A folder that is not there holds nothing.
pub fn sweep(vfs: &dyn Vfs, dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = match vfs.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names.map_err(Error::io("list", dir))?,
    };
    names.retain(|name| name.starts_with('.') && name.ends_with(".part"));
    for name in &names {
        remove_all(vfs, &dir.join(name))?;
    }
    Ok(names)
}

/// Removes a file, or a folder with the files in it. A folder first takes its temporary name, so
/// that one that is half removed is never taken for a whole one.
///
/// # Errors
/// [`Error::Io`]; also for a folder that holds folders.
pub fn remove_all(vfs: &dyn Vfs, path: &Path) -> Result<(), Error> {
    if !vfs.metadata(path).map_err(Error::io("look at", path))?.is_dir {
        return vfs.remove_file(path).map_err(Error::io("remove", path));
    }
    let is_temporary = path.file_name().is_some_and(|name| {
        let name = name.to_string_lossy();
        name.starts_with('.') && name.ends_with(".part")
    });
    let doomed = if is_temporary { path.to_path_buf() } else { temporary(path) };
    if !is_temporary {
        vfs.rename(path, &doomed).map_err(Error::io("rename", path))?;
        let dir = parent(path);
        vfs.sync_dir(dir).map_err(Error::io("sync", dir))?;
    }
    for name in vfs.list(&doomed).map_err(Error::io("list", &doomed))? {
        let file = doomed.join(name);
        vfs.remove_file(&file).map_err(Error::io("remove", &file))?;
    }
    vfs.remove_dir(&doomed).map_err(Error::io("remove", &doomed))
}

/// The folder that holds a path; empty for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}
