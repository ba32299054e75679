//! One weight file, mapped read-only. The only unsafe code of this crate is here.

use crate::error::Error;
use memmap2::{Mmap, MmapMut};
use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes that are copied at a time.
const COPY_BYTES: usize = 4 << 20;

/// A mapped file that notices when it is replaced or cut under the reader's feet.
pub(crate) struct Mapped {
    path: PathBuf,
    file: File,
    bytes: Mmap,
    modified: Option<SystemTime>,
    /// The bytes are memory of this process and no longer those of the file.
    copied: bool,
}

impl Mapped {
    /// Maps a regular file that is not empty.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_path_buf(), source };
        // Asked before opening, because opening a named pipe waits for its writer.
        let metadata = std::fs::metadata(path).map_err(io)?;
        if !metadata.is_file() {
            let found = if metadata.is_dir() { "a folder" } else { "not a regular file" };
            return Err(Error::NotWeights { file: path.to_path_buf(), found });
        }
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        if metadata.len() == 0 {
            return Err(Error::NotWeights { file: path.to_path_buf(), found: "an empty file" });
        }
        // SAFETY: the mapping is private and read-only. Other processes can still write the file;
        // every read goes through `unchanged` first, which refuses a file whose length or time of
        // change differs, and values are copied out before they are used. The matrices of a packed
        // model file alone are used where they lie, as plain bytes of which any value is valid.
        // Model files are replaced by rename, which leaves this mapping whole.
        let bytes = unsafe { Mmap::map(&file) }.map_err(io)?;
        let modified = metadata.modified().ok();
        Ok(Self { path: path.to_path_buf(), file, bytes, modified, copied: false })
    }

    /// The same bytes in memory of this process: whatever becomes of the file, they stay.
    pub(crate) fn into_memory(self) -> Result<Self, Error> {
        if self.copied {
            return Ok(self);
        }
        let io = |source| Error::Io { path: self.path.clone(), source };
        self.unchanged()?;
        let mut memory = MmapMut::map_anon(self.bytes.len()).map_err(io)?;
        for start in (0..memory.len()).step_by(COPY_BYTES) {
            let range = start..memory.len().min(start + COPY_BYTES);
            let piece = self.piece(range.clone())?;
            memory.get_mut(range).unwrap_or_default().copy_from_slice(&piece);
        }
        self.unchanged()?;
        let bytes = memory.make_read_only().map_err(io)?;
        Ok(Self { bytes, copied: true, ..self })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Refuses a file that was cut, grown or written since it was opened.
    pub(crate) fn unchanged(&self) -> Result<(), Error> {
        if self.copied {
            return Ok(());
        }
        let changed = || Error::Changed { file: self.path.clone() };
        let now = self.file.metadata().map_err(|_| changed())?;
        let same = now.len() == self.bytes.len() as u64 && now.modified().ok() == self.modified;
        if same { Ok(()) } else { Err(changed()) }
    }

    /// A short piece of the file, for reads that are scattered over a large one.
    ///
    /// Read instead of mapped where the system can: touching a mapped page also maps its
    /// neighbours (16 pages on Linux), so that some thousand rows of a word table would make all of
    /// it resident.
    pub(crate) fn piece(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>, Error> {
        #[cfg(unix)]
        if !self.copied {
            let mut piece = vec![0; range.len()];
            std::os::unix::fs::FileExt::read_exact_at(&self.file, &mut piece, range.start as u64)
                .map_err(|source| match source.kind() {
                std::io::ErrorKind::UnexpectedEof => Error::Changed { file: self.path.clone() },
                _ => Error::Io { path: self.path.clone(), source },
            })?;
            return Ok(Cow::Owned(piece));
        }
        Ok(Cow::Borrowed(self.bytes.get(range).unwrap_or_default()))
    }

    /// Makes the pages of a byte range resident at once, which is several times faster than one
    /// fault for each 16 of them.
    pub(crate) fn populate(&self, range: Range<usize>) {
        // A refusal costs time only: the pages then come when they are touched.
        #[cfg(target_os = "linux")]
        if range.start < range.end && range.end <= self.bytes.len() {
            let (advice, length) = (memmap2::Advice::PopulateRead, range.end - range.start);
            let _ = self.bytes.advise_range(advice, range.start, length);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = range;
    }

    /// Gives the resident pages of a byte range back; they are read from the file when next used.
    pub(crate) fn release(&self, range: Range<usize>) {
        // Memory has no file to be read from again.
        #[cfg(unix)]
        if !self.copied && range.start < range.end && range.end <= self.bytes.len() {
            // SAFETY: the mapping is read-only and, not being copied, backed by a file, so a dropped page is read
            // again on the next touch with the same contents; the range was checked above.
            // A refusal costs memory only, so it is ignored.
            let _ = unsafe {
                self.bytes.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    range.start,
                    range.end - range.start,
                )
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
