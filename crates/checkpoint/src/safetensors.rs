//! The safetensors header: 8 bytes of length, a JSON object, then the data.
//!
//! Stricter than the official reader: a name that occurs twice is refused (there the last one
//! wins), as are names that are paths or hold control characters, unknown fields, and headers over
//! 16 MiB. What is accepted here is accepted there, with the same names, shapes and bytes.
//!
//! # Source
//! The format as <https://github.com/huggingface/safetensors/tree/24b0b28#format> describes it.

use crate::dtype::Dtype;
use crate::error::Error;
use crate::json::{Cursor, Fault};
use crate::limits;
use crate::map::Mapped;
use crate::names::name_fault;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Bytes before the JSON text.
pub(crate) const LENGTH_BYTES: usize = 8;

/// A tensor as the header names it; the range counts from the start of the file.
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Range<usize>,
}

/// The tensors in the order of their data, and the strings of `__metadata__`.
pub(crate) struct Header {
    pub(crate) tensors: Vec<Entry>,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Reads and checks the header of a mapped file; the data is not touched.
pub(crate) fn read(map: &Mapped) -> Result<Header, Error> {
    let (json, data_start) = header_text(map.bytes(), map.path())?;
    parse(map.path(), json, data_start, map.bytes().len())
}

/// Checks a header whose data begins at byte `data_start` of a file of `file_bytes`.
pub(crate) fn parse(
    file: &Path,
    json: &[u8],
    data_start: usize,
    file_bytes: usize,
) -> Result<Header, Error> {
    let mut raw = Raw { file, tensors: Vec::new(), metadata: BTreeMap::new() };
    raw.parse(json).map_err(|fault| match fault {
        Stop::Fault(Fault { offset, what }) => {
            Error::Header { file: file.to_path_buf(), offset: offset + LENGTH_BYTES, what }
        }
        Stop::Error(error) => error,
    })?;
    refuse_duplicates(file, &mut raw.tensors)?;
    check_entries(file, &raw.tensors)?;
    let data_len = file_bytes.saturating_sub(data_start) as u64;
    check_layout(file, &mut raw.tensors, data_start as u64, data_len)?;
    let tensors = raw.tensors.into_iter().filter_map(|t| t.finish(data_start)).collect();
    Ok(Header { tensors, metadata: raw.metadata })
}

/// The JSON text and where the data begins.
fn header_text<'a>(bytes: &'a [u8], file: &Path) -> Result<(&'a [u8], usize), Error> {
    let length = header_bytes(file, bytes.first_chunk(), bytes.len() as u64)?;
    let json = bytes.get(LENGTH_BYTES..).and_then(|rest| rest.get(..length)).unwrap_or_default();
    Ok((json, LENGTH_BYTES + length))
}

/// The length of the JSON text as the first bytes of a file declare it: within the limit and the
/// file.
pub(crate) fn header_bytes(
    file: &Path,
    first: Option<&[u8; LENGTH_BYTES]>,
    file_bytes: u64,
) -> Result<usize, Error> {
    let not_weights =
        || Error::NotWeights { file: file.to_path_buf(), found: "a file of a few bytes" };
    let declared = u64::from_le_bytes(*first.ok_or_else(not_weights)?);
    if declared > limits::HEADER_BYTES {
        return Err(Error::HeaderTooLarge {
            file: file.to_path_buf(),
            what: "the length of the header in bytes",
            found: declared,
            limit: limits::HEADER_BYTES,
        });
    }
    if declared > file_bytes.saturating_sub(LENGTH_BYTES as u64) {
        return Err(Error::HeaderLength { file: file.to_path_buf(), declared, file_bytes });
    }
    Ok(usize::try_from(declared).unwrap_or(usize::MAX))
}

/// An entry as parsed, not yet checked.
struct RawEntry {
    name: String,
    /// Byte of the file where the name is.
    at: usize,
    dtype: String,
    shape: Vec<u64>,
    begin: u64,
    end: u64,
}

impl RawEntry {
    fn known_dtype(&self) -> Option<Dtype> {
        // C128 has no name in the format; only PyTorch files hold it.
        Dtype::from_name(&self.dtype).filter(|d| *d != Dtype::C128)
    }

    fn dims(&self) -> Option<Vec<usize>> {
        self.shape.iter().map(|&d| usize::try_from(d).ok()).collect()
    }

    /// `None` cannot happen for an entry that passed the checks.
    fn finish(self, data_start: usize) -> Option<Entry> {
        let begin = data_start.checked_add(usize::try_from(self.begin).ok()?)?;
        let end = data_start.checked_add(usize::try_from(self.end).ok()?)?;
        let (dtype, shape) = (self.known_dtype()?, self.dims()?);
        Some(Entry { name: self.name, dtype, shape, bytes: begin..end })
    }
}

/// Parsing stops at bad JSON (with its byte) or at an error that already has its form.
enum Stop {
    Fault(Fault),
    Error(Error),
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

struct Raw<'a> {
    file: &'a Path,
    tensors: Vec<RawEntry>,
    metadata: BTreeMap<String, String>,
}

impl Raw<'_> {
    fn parse(&mut self, json: &[u8]) -> Result<(), Stop> {
        if json.first() != Some(&b'{') {
            return Err(Fault { offset: 0, what: "the first byte is not `{`" }.into());
        }
        let mut cursor = Cursor::new(json)?;
        cursor.expect(b'{', "expected an object")?;
        let (mut first, mut metadata_at) = (true, None);
        while cursor.more(b'}', &mut first)? {
            cursor.next();
            let at = cursor.offset() + LENGTH_BYTES;
            let name = cursor.key()?;
            if name == "__metadata__" {
                if let Some(first) = metadata_at.replace(at) {
                    return Err(Stop::Error(Error::DuplicateName {
                        file: self.file.to_path_buf(),
                        name: name.into_owned(),
                        first,
                        second: at,
                    }));
                }
                self.parse_metadata(&mut cursor)?;
            } else {
                self.over_limit("the number of tensors", self.tensors.len() + 1, limits::TENSORS)?;
                let entry = parse_entry(&mut cursor, name, at)?;
                self.tensors.push(entry);
            }
        }
        Ok(cursor.end()?)
    }

    fn parse_metadata(&mut self, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        cursor.expect(b'{', "`__metadata__` is not an object")?;
        let (mut first, mut bytes) = (true, 0);
        while cursor.more(b'}', &mut first)? {
            let key = cursor.key()?;
            let value = cursor.string()?;
            bytes += key.len() + value.len();
            self.over_limit("the size of `__metadata__`", bytes, limits::METADATA_BYTES)?;
            if self.metadata.insert(key.into_owned(), value.into_owned()).is_some() {
                cursor.fault("a key of `__metadata__` occurs twice")?;
            }
        }
        Ok(())
    }

    fn over_limit(&self, what: &'static str, found: usize, limit: usize) -> Result<(), Stop> {
        if found <= limit {
            return Ok(());
        }
        Err(Stop::Error(Error::HeaderTooLarge {
            file: self.file.to_path_buf(),
            what,
            found: found as u64,
            limit: limit as u64,
        }))
    }
}

fn parse_entry(cursor: &mut Cursor<'_>, name: Cow<'_, str>, at: usize) -> Result<RawEntry, Fault> {
    cursor.expect(b'{', "a tensor is not an object")?;
    let (mut first, mut dtype, mut shape, mut offsets) = (true, None, None, None);
    while cursor.more(b'}', &mut first)? {
        let again = match &*cursor.key()? {
            "dtype" => dtype.replace(cursor.string()?.into_owned()).is_some(),
            "shape" => shape.replace(parse_numbers(cursor, limits::DIMENSIONS)?).is_some(),
            "data_offsets" => offsets.replace(parse_numbers(cursor, 2)?).is_some(),
            _ => cursor.fault("an unknown field of a tensor")?,
        };
        if again {
            cursor.fault("a field of a tensor occurs twice")?;
        }
    }
    match (dtype, shape, offsets.as_deref()) {
        (Some(dtype), Some(shape), Some(&[begin, end])) => {
            Ok(RawEntry { name: name.into_owned(), at, dtype, shape, begin, end })
        }
        _ => cursor.fault("a tensor needs dtype, shape and two data_offsets"),
    }
}

pub(crate) fn parse_numbers(cursor: &mut Cursor<'_>, most: usize) -> Result<Vec<u64>, Fault> {
    cursor.expect(b'[', "expected a list of numbers")?;
    let (mut first, mut numbers) = (true, Vec::new());
    while cursor.more(b']', &mut first)? {
        if numbers.len() == most {
            cursor.fault("a list of too many numbers")?;
        }
        numbers.push(cursor.unsigned()?);
    }
    Ok(numbers)
}

fn refuse_duplicates(file: &Path, tensors: &mut [RawEntry]) -> Result<(), Error> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name).then(a.at.cmp(&b.at)));
    for pair in tensors.windows(2) {
        if let [a, b] = pair
            && a.name == b.name
        {
            return Err(Error::DuplicateName {
                file: file.to_path_buf(),
                name: a.name.clone(),
                first: a.at,
                second: b.at,
            });
        }
    }
    Ok(())
}

/// Name, dtype and size of each tensor; all faults are collected.
fn check_entries(file: &Path, tensors: &[RawEntry]) -> Result<(), Error> {
    let file_buf = || file.to_path_buf();
    let mut errors = Vec::new();
    for t in tensors {
        if let Some(what) = name_fault(&t.name) {
            errors.push(Error::Name { file: file_buf(), name: t.name.clone(), what });
        }
        let Some(dtype) = t.known_dtype() else {
            let (tensor, dtype) = (t.name.clone(), t.dtype.clone());
            errors.push(Error::DtypeUnsupported { file: file_buf(), tensor, dtype });
            continue;
        };
        let Some(found) = t.end.checked_sub(t.begin) else {
            errors.push(Error::Layout {
                file: file_buf(),
                tensor: t.name.clone(),
                what: "the data ends before it begins",
                expected: t.begin,
                found: t.end,
            });
            continue;
        };
        let needed = t.dims().and_then(|dims| dtype.bytes_of(&dims)).map(|n| n as u64);
        if needed != Some(found) {
            errors.push(Error::Size {
                file: file_buf(),
                tensor: t.name.clone(),
                dtype: dtype.as_str(),
                shape: t.dims().unwrap_or_default(),
                needed,
                found,
            });
        }
    }
    Error::collect(errors)
}

/// The ranges follow each other without overlap or gap and end with the file.
fn check_layout(
    file: &Path,
    tensors: &mut [RawEntry],
    data_start: u64,
    data_len: u64,
) -> Result<(), Error> {
    tensors.sort_by_key(|t| (t.begin, t.end));
    let mut cursor = 0;
    for t in tensors.iter() {
        if t.begin != cursor {
            let what = if t.begin < cursor { "data overlaps" } else { "data leaves a gap" };
            return Err(Error::Layout {
                file: file.to_path_buf(),
                tensor: t.name.clone(),
                what,
                expected: cursor,
                found: t.begin,
            });
        }
        cursor = t.end;
    }
    if cursor < data_len {
        return Err(Error::Layout {
            file: file.to_path_buf(),
            tensor: tensors.last().map(|t| t.name.clone()).unwrap_or_default(),
            what: "bytes after the data",
            expected: cursor,
            found: data_len,
        });
    }
    if cursor > data_len {
        return Err(Error::Truncated {
            file: file.to_path_buf(),
            expected: data_start.saturating_add(cursor),
            found: data_start.saturating_add(data_len),
        });
    }
    Ok(())
}
