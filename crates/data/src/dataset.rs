//! What every dataset has in common: samples by number, their places, and a fingerprint.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use altclip_report::quote;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use crate::{Error, Fault};

/// Samples that are read by number, from any thread.
pub trait Dataset: Send + Sync {
    /// What a sample is.
    type Sample: Send;

    /// Number of samples, the bad ones included.
    fn len(&self) -> u64;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample of this number, from 0; the same one each time.
    ///
    /// # Errors
    /// A [`Fault`] of this sample; [`Fault::is_fatal`] says whether others can still be read.
    fn get(&self, number: u64) -> Result<Self::Sample, Fault>;

    /// Where the sample of this number is, for messages.
    fn place(&self, number: u64) -> Place;

    /// A hash of what the files hold: texts, and the names and sizes of pictures. Where the files lie and when they
    /// were written has no part in it.
    fn fingerprint(&self) -> Fingerprint;

    /// Compares size and time of the files with what they were when they were opened.
    ///
    /// # Errors
    /// [`Error::Changed`], or [`Error::Unreadable`] where a file is gone.
    fn check_unchanged(&self) -> Result<(), Error>;

    /// What a user should know about the files: byte-order marks, mixed line ends, files left out.
    fn notices(&self) -> &[String];
}

/// A picture that is still encoded.
#[derive(Clone, PartialEq, Eq)]
pub enum Picture {
    /// A regular file.
    File(PathBuf),
    /// The bytes of a picture file.
    Bytes(Vec<u8>),
}

impl fmt::Debug for Picture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Bytes(bytes) => write!(f, "Bytes({} bytes)", bytes.len()),
        }
    }
}

/// Where a sample or a fault is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file or shard as it was given.
    #[serde(serialize_with = "as_text")]
    pub file: Arc<str>,
    /// Line, from 1; in a table the row, from 1.
    pub line: Option<u64>,
    /// Byte of the file.
    pub byte: Option<u64>,
    /// Key in a shard, or the picture's path in a folder.
    pub key: Option<String>,
}

impl Place {
    pub(crate) fn file(file: &Arc<str>) -> Self {
        Self { file: Arc::clone(file), line: None, byte: None, key: None }
    }

    pub(crate) fn line(file: &Arc<str>, line: u64) -> Self {
        Self { line: Some(line), ..Self::file(file) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ", {}", quote(key))?;
        }
        if let Some(byte) = self.byte {
            write!(f, ", byte {byte}")?;
        }
        Ok(())
    }
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

/// A hash of a dataset, 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub u128);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Takes in what the fingerprint covers; each piece with its length, so that borders count.
#[derive(Default)]
pub(crate) struct Hasher(Xxh3);

impl Hasher {
    pub(crate) fn piece(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    pub(crate) fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// Bytes without their length: the caller says the length once, at the end.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> Fingerprint {
        Fingerprint(self.0.digest128())
    }
}
