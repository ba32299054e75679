//! The files of a dataset: read at any offset by any thread, with few of them open, and known again if they change.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::{Error, Fault, Place, Reason};

/// Files kept open.
const MAX_OPEN: usize = 64;
/// Times that a read is tried.
const TRIES: u32 = 3;

/// The files of a dataset, by number.
pub(crate) struct Files {
    list: Vec<Known>,
    /// The most recently used last.
    open: Mutex<VecDeque<(usize, Arc<File>)>>,
}

struct Known {
    path: PathBuf,
    name: Arc<str>,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl Files {
    /// Looks at each file once; they must be regular files.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Result<Self, Error> {
        let mut list = Vec::with_capacity(paths.len());
        for path in paths {
            let metadata = std::fs::metadata(&path).map_err(|source| Error::io(&path, source))?;
            if !metadata.is_file() {
                let kind = io::Error::new(io::ErrorKind::InvalidInput, "not a regular file");
                return Err(Error::io(&path, kind));
            }
            let name = path.display().to_string().into();
            let modified = metadata.modified().ok();
            list.push(Known { path, name, bytes: metadata.len(), modified });
        }
        Ok(Self { list, open: Mutex::new(VecDeque::new()) })
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn path(&self, file: usize) -> &Path {
        &self.list[file].path
    }

    /// The file as it was given, for messages.
    pub(crate) fn name(&self, file: usize) -> &Arc<str> {
        &self.list[file].name
    }

    /// The size that the file had when it was opened.
    pub(crate) fn bytes(&self, file: usize) -> u64 {
        self.list[file].bytes
    }

    /// Compares size and time of every file with what they were.
    pub(crate) fn check_unchanged(&self) -> Result<(), Error> {
        for known in &self.list {
            let metadata =
                std::fs::metadata(&known.path).map_err(|source| Error::io(&known.path, source))?;
            let what = if metadata.len() != known.bytes {
                format!("{} bytes, {} before", metadata.len(), known.bytes)
            } else if metadata.modified().ok() != known.modified {
                "another time of change".to_owned()
            } else {
                continue;
            };
            return Err(Error::Changed { path: known.path.clone(), what });
        }
        Ok(())
    }

    /// Fills `buffer` from `offset` on. What may pass (a network file system that hangs, a device error) is tried
    /// three times.
    pub(crate) fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut tries = 0;
        loop {
            let result =
                self.handle(file).and_then(|handle| read_exact_at(&handle, buffer, offset));
            let Err(error) = result else { return Ok(()) };
            tries += 1;
            let lasting = matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::PermissionDenied
            );
            if lasting || tries == TRIES {
                return Err(error);
            }
            // A stale handle is of no more use.
            self.lock().retain(|(open, _)| *open != file);
            std::thread::sleep(Duration::from_millis(50) * tries);
        }
    }

    /// `len` bytes from `offset` on, or the fault of the sample at `place`.
    pub(crate) fn bytes_at(
        &self,
        file: usize,
        offset: u64,
        len: usize,
        place: impl FnOnce() -> Place,
    ) -> Result<Vec<u8>, Fault> {
        let mut buffer = vec![0; len];
        match self.read(file, offset, &mut buffer) {
            Ok(()) => Ok(buffer),
            Err(error) => Err(Fault::new(Reason::Unreadable, place(), error.to_string())),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(usize, Arc<File>)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, file: usize) -> io::Result<Arc<File>> {
        let mut open = self.lock();
        if let Some(at) = open.iter().position(|(open, _)| *open == file)
            && let Some(entry) = open.remove(at)
        {
            let handle = Arc::clone(&entry.1);
            open.push_back(entry);
            return Ok(handle);
        }
        let handle = Arc::new(File::open(&self.list[file].path)?);
        if open.len() == MAX_OPEN {
            open.pop_front();
        }
        open.push_back((file, Arc::clone(&handle)));
        Ok(handle)
    }
}

/// Fills `buffer` from `offset` on without moving the file's own position.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

/// Fills `buffer` from `offset` on; the file's own position is used by nobody.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        match std::os::windows::fs::FileExt::seek_read(file, &mut buffer[done..], at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => done += read,
        }
    }
    Ok(())
}
