//! Features that never change, kept on disk: what a teacher says of a text, what a frozen image tower
//! says of a picture. Computed when first asked for, read from then on.
//!
//! A file of rows of one width, at their number's place; a row carries a checksum, so one that was
//! never written or only half is told from one that is there, after any crash. The file's head names
//! what it was computed from; another model or other data begin a new file. An [`EmbeddingCache`] finds
//! the rows by a hash of their input instead of a number.

use crate::{Error, Result};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128};

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
        let fault = |source| Error::Cache { path: path.to_owned(), source };
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
        self.get_of(number, 0)
    }

    /// As [`FeatureCache::get`], if it is the row of the input of this hash.
    fn get_of(&mut self, number: u64, input: u64) -> Result<Option<Vec<f32>>> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| Error::Cache { path, source }
        };
        self.file.seek(SeekFrom::Start(self.place(number))).map_err(fault(&self.path))?;
        let mut bytes = vec![0; self.row_bytes()];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(fault(&self.path)(error)),
        }
        let (numbers, check) = bytes.split_at(4 * self.width);
        if check != self.checksum(number ^ input, numbers) {
            return Ok(None);
        }
        let number = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        self.hits += 1;
        Ok(Some(numbers.chunks_exact(4).map(number).collect()))
    }

    /// Keeps row `number`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&mut self, number: u64, row: &[f32]) -> Result<()> {
        self.put_of(number, 0, row)
    }

    fn put_of(&mut self, number: u64, input: u64, row: &[f32]) -> Result<()> {
        if !row.iter().all(|value| value.is_finite()) {
            // Such a row is computed anew, and found again.
            return Ok(());
        }
        let mut bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.extend(self.checksum(number ^ input, &bytes));
        self.misses += 1;
        let place = self.place(number);
        self.file
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.file.write_all(&bytes))
            .map_err(|source| Error::Cache { path: self.path.clone(), source })
    }

    /// `what` says whose row it is.
    fn checksum(&self, what: u64, bytes: &[u8]) -> [u8; 8] {
        // Never that of a hole in the file, whose bytes are zero.
        xxh3_64_with_seed(bytes, self.fingerprint ^ what).max(1).to_le_bytes()
    }

    fn row_bytes(&self) -> usize {
        4 * self.width + 8
    }

    fn place(&self, number: u64) -> u64 {
        HEAD + number * self.row_bytes() as u64
    }
}

/// Embeddings of one model by the hash of their input: the bytes of a picture's file, or a text.
///
/// Beside the rows lies a file of the hashes in order. A row's checksum is made with its hash, so
/// whatever two writers or a crash do to these files, a row is that of its input or it is not there.
pub struct EmbeddingCache {
    rows: FeatureCache,
    keys: File,
    numbers: HashMap<u128, u64>,
}

impl EmbeddingCache {
    /// Opens the cache of the model that `made_of` names, in the folder `dir`; `kind` tells what is
    /// embedded.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn open(dir: &Path, kind: &str, made_of: &str, width: usize) -> Result<Self> {
        let path = dir.join(format!("{made_of}-{kind}.rows"));
        let rows = FeatureCache::open(&path, made_of, width)?;
        let path = path.with_extension("keys");
        let fault = |source| Error::Cache { path: path.clone(), source };
        let mut keys = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(fault)?;
        let mut bytes = Vec::new();
        keys.read_to_end(&mut bytes).map_err(fault)?;
        let (known, _half) = bytes.as_chunks::<16>();
        let numbers = (0..).zip(known).map(|(number, key)| (u128::from_le_bytes(*key), number));
        let numbers = numbers.collect();
        keys.seek(SeekFrom::Start(16 * known.len() as u64)).map_err(fault)?;
        Ok(Self { rows, keys, numbers })
    }

    /// The hash by which an input is known.
    pub fn key(input: &[u8]) -> u128 {
        xxh3_128(input)
    }

    /// The row of an input, if it was computed before.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn get(&mut self, key: u128) -> Result<Option<Vec<f32>>> {
        match self.numbers.get(&key) {
            Some(&number) => self.rows.get_of(number, fold(key)),
            None => Ok(None),
        }
    }

    /// Keeps the row of an input.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn put(&mut self, key: u128, row: &[f32]) -> Result<()> {
        let number = match self.numbers.get(&key) {
            Some(&number) => number,
            None => {
                // Positions, not the number of keys: two equal keys may lie in the file.
                let fault = |source| Error::Cache { path: self.rows.path.clone(), source };
                let place = self.keys.stream_position().map_err(fault)?;
                self.keys.write_all(&key.to_le_bytes()).map_err(fault)?;
                self.numbers.insert(key, place / 16);
                place / 16
            }
        };
        self.rows.put_of(number, fold(key), row)
    }
}

/// Half of a hash, to seed another one with.
fn fold(key: u128) -> u64 {
    key as u64 ^ (key >> 64) as u64
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

    #[test]
    fn inputs_are_known_again_and_damage_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let open = |model| EmbeddingCache::open(dir.path(), "text", model, 2).unwrap();
        let [cat, dog] = [EmbeddingCache::key("猫".as_bytes()), EmbeddingCache::key(b"dog")];
        let mut cache = open("a");
        cache.put(cat, &[1.0, 2.0]).unwrap();
        assert_eq!(cache.get(dog).unwrap(), None);
        cache.put(dog, &[3.0, 4.0]).unwrap();
        drop(cache);
        assert_eq!(open("a").get(dog).unwrap(), Some(vec![3.0, 4.0]));
        assert_eq!(open("b").get(dog).unwrap(), None);
        // Keys that changed places, as two writers at once may leave them, are misses.
        let keys = dir.path().join("a-text.keys");
        let mut bytes = std::fs::read(&keys).unwrap();
        bytes.rotate_left(16);
        bytes.extend([7; 5]);
        std::fs::write(&keys, bytes).unwrap();
        let mut cache = open("a");
        assert_eq!((cache.get(cat).unwrap(), cache.get(dog).unwrap()), (None, None));
        cache.put(cat, &[5.0, 6.0]).unwrap();
        drop(cache);
        assert_eq!(open("a").get(cat).unwrap(), Some(vec![5.0, 6.0]));
    }
}
