//! Features that never change, kept on disk: what a teacher says of a text, what a frozen image tower
//! says of a picture. Computed when first asked for, read from then on.
//!
//! A file of rows of one width, at their number's place; a row carries a checksum, so one that was
//! never written or only half is told from one that is there, after any crash. The file's head names
//! what it was computed from; another model or other data begin a new file.

use crate::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: &[u8; 16] = b"altclip rows 1\n\0";
/// Magic, fingerprint and width.
const HEAD: u64 = 16 + 8 + 8;

/// Rows of `width` numbers by number.
pub struct FeatureCache {
    file: File,
    path: PathBuf,
    width: usize,
    fingerprint: u64,
    /// Rows that were there, and rows that had to be computed.
    pub hits: u64,
    /// Rows that had to be computed.
    pub misses: u64,
}

impl FeatureCache {
    /// Opens the cache at `path`, or begins it anew where it was made of something else.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(path: &Path, made_of: &str, width: usize) -> Result<Self> {
        let fault = |source| Error::Write { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(fault)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(fault)?;
        let fingerprint = xxh3_64(made_of.as_bytes());
        let mut head = Vec::from(*MAGIC);
        head.extend(fingerprint.to_le_bytes());
        head.extend((width as u64).to_le_bytes());
        let mut found = vec![0; HEAD as usize];
        let same = file.read_exact(&mut found).is_ok() && found == head;
        if !same {
            file.set_len(0).map_err(fault)?;
            file.seek(SeekFrom::Start(0)).map_err(fault)?;
            file.write_all(&head).map_err(fault)?;
        }
        Ok(Self { file, path: path.to_owned(), width, fingerprint, hits: 0, misses: 0 })
    }

    /// Row `number`, if it was computed before.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&mut self, number: u64) -> Result<Option<Vec<f32>>> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Read { path, source }
        };
        self.file.seek(SeekFrom::Start(self.place(number))).map_err(fault(&self.path))?;
        let mut bytes = vec![0; self.row_bytes()];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(fault(&self.path)(error)),
        }
        let (numbers, check) = bytes.split_at(4 * self.width);
        if check != self.checksum(number, numbers) {
            return Ok(None);
        }
        let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.hits += 1;
        Ok(Some(numbers.chunks_exact(4).map(number).collect()))
    }

    /// Keeps row `number`, unless something in it is not finite: such a row is computed anew.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&mut self, number: u64, row: &[f32]) -> Result<()> {
        if !row.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        let mut bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.extend(self.checksum(number, &bytes));
        self.misses += 1;
        let place = self.place(number);
        self.file
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.file.write_all(&bytes))
            .map_err(|source| Error::Write { path: self.path.clone(), source })
    }

    fn checksum(&self, number: u64, bytes: &[u8]) -> [u8; 8] {
        // Never that of a hole in the file, whose bytes are zero.
        xxh3_64_with_seed(bytes, self.fingerprint ^ number).max(1).to_le_bytes()
    }

    fn row_bytes(&self) -> usize {
        4 * self.width + 8
    }

    fn place(&self, number: u64) -> u64 {
        HEAD + number * self.row_bytes() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rows");
        let mut cache = FeatureCache::open(&path, "a model", 2).unwrap();
        assert_eq!(cache.get(3).unwrap(), None);
        cache.put(3, &[1.0, -2.5]).unwrap();
        assert_eq!(cache.get(3).unwrap(), Some(vec![1.0, -2.5]));
        // A hole in front of it is no row.
        assert_eq!(cache.get(0).unwrap(), None);
        drop(cache);
        let mut again = FeatureCache::open(&path, "a model", 2).unwrap();
        assert_eq!(again.get(3).unwrap(), Some(vec![1.0, -2.5]));
        drop(again);
        // A changed byte is a row that is not there.
        let mut bytes = std::fs::read(&path).unwrap();
        let last = bytes.len() - 9;
        bytes[last] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(FeatureCache::open(&path, "a model", 2).unwrap().get(3).unwrap(), None);
        // Another model begins anew.
        assert_eq!(FeatureCache::open(&path, "another", 2).unwrap().get(3).unwrap(), None);
    }
}
