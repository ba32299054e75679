//! What tells whether files changed, without reading all of them.

use crate::error::Error;
use crate::{checkpoint, limits, shards};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;
use xxhash_rust::xxh3::Xxh3;

/// Files up to this size are hashed whole.
const WHOLE_BYTES: u64 = 1 << 20;
/// Bytes at each end of a larger file that are hashed: a PyTorch archive has its directory at the end.
const END_BYTES: u64 = 64 << 10;

/// A hash over names, sizes, times of change and the telling parts of files.
pub struct Identity(Xxh3);

impl Identity {
    /// Begins with what the caller's own result depends on.
    pub fn new(own: &str) -> Self {
        let mut hash = Xxh3::new();
        hash.update(own.as_bytes());
        Self(hash)
    }

    /// Adds the weight files that [`checkpoint::Checkpoint::open`] would use.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NoWeights`], and those of a shard index.
    pub fn add_weights(&mut self, dir: &Path) -> Result<(), Error> {
        let used = checkpoint::FILE_NAMES.into_iter().find(|name| dir.join(name).exists());
        let Some(used) = used else {
            let path = checkpoint::original(dir)?;
            return self.add_file(dir, &path.file_name().unwrap_or_default().to_string_lossy());
        };
        self.add_file(dir, used)?;
        if used.ends_with(".index.json") {
            for shard in shards::read(&dir.join(used))?.shards {
                self.add_file(dir, &shard)?;
            }
        }
        Ok(())
    }

    /// Adds one file; that it is absent counts too.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn add_file(&mut self, dir: &Path, name: &str) -> Result<(), Error> {
        let path = dir.join(name);
        self.add_text(name);
        match self.add_contents(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.add_text("absent");
                Ok(())
            }
            result => result.map_err(|source| Error::Io { path, source }),
        }
    }

    fn add_contents(&mut self, path: &Path) -> std::io::Result<()> {
        let metadata = std::fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(std::io::ErrorKind::InvalidInput.into());
        }
        let mut file = File::open(path)?;
        let length = metadata.len();
        let since = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        self.0.update(&length.to_le_bytes());
        self.0.update(&since.map_or(0, |since| since.as_nanos()).to_le_bytes());
        let mut start = [0; 8];
        if length <= WHOLE_BYTES {
            return self.add_bytes(&mut file, 0, length);
        }
        file.read_exact(&mut start)?;
        // The header of a safetensors file, where the first bytes are its length.
        let header = u64::from_le_bytes(start);
        let head = if header <= limits::HEADER_BYTES { 8 + header } else { END_BYTES };
        self.add_bytes(&mut file, 0, head.min(length))?;
        self.add_bytes(&mut file, length - END_BYTES, END_BYTES)
    }

    fn add_bytes(&mut self, file: &mut File, from: u64, count: u64) -> std::io::Result<()> {
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(count).read_to_end(&mut bytes)?;
        self.0.update(&bytes);
        Ok(())
    }

    /// Adds anything else that the caller's result depends on.
    pub fn add_text(&mut self, text: &str) {
        self.0.update(&(text.len() as u64).to_le_bytes());
        self.0.update(text.as_bytes());
    }

    /// 32 hexadecimal digits.
    pub fn finish(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}
