//! The records of a zip archive as `torch.save` writes it: stored, never compressed. Only the code of a
//! TorchScript archive may be compressed; it is never read.
//!
//! Only what PyTorch needs is read, and each statement of the archive is checked against the
//! others: one central directory that ends exactly where its end record begins, entries that do
//! not overlap, local headers that name the same entry. So no two tools can see two different
//! archives in one file, and no length is believed before it is compared with the file.
//!
//! # Source
//! PKWARE's APPNOTE 6.3.10, sections 4.3.7 (local header), 4.3.12 (central directory), 4.3.14
//! (zip64 end record), 4.3.15 (its locator), 4.3.16 (end record), 4.5.3 (zip64 extra field).

use crate::error::Error;
use crate::limits;
use crate::names::name_fault;
use std::ops::Range;
use std::path::Path;

const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;

const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;
const END64_BYTES: usize = 56;
const LOCAL_BYTES: u64 = 30;

/// Methods of compression: none, and the one that TorchScript uses for code.
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// Flags that a stored entry may have: 3 = sizes follow the data, 11 = the name is UTF-8.
const KNOWN_FLAGS: u16 = 1 << 3 | 1 << 11;

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Where its name is in the central directory.
    name: Range<usize>,
    /// Where its local header is.
    local: u64,
    /// Where the next entry or the central directory begins.
    limit: u64,
    size: u64,
    crc: u32,
    compressed: bool,
}

impl Record {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// The directory of an archive, sorted by name; names are looked up in the mapped bytes.
pub(crate) struct Archive<'a> {
    bytes: &'a [u8],
    file: &'a Path,
    records: Vec<Record>,
}

impl<'a> Archive<'a> {
    /// Reads and checks the central directory; no record is touched.
    pub(crate) fn open(bytes: &'a [u8], file: &'a Path) -> Result<Self, Error> {
        let mut archive = Self { bytes, file, records: Vec::new() };
        let directory = archive.find_directory()?;
        archive.read_directory(&directory)?;
        archive.refuse_overlaps(directory.start)?;
        archive.sort()?;
        Ok(archive)
    }

    /// The entries with their names, sorted by name.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&'a str, &Record)> {
        self.records.iter().map(|r| (name_of(self.bytes, r), r))
    }

    /// Refuses compressed entries other than those that `unread` names.
    pub(crate) fn refuse_compressed(&self, unread: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        match self.records().find(|(name, record)| record.compressed && !unread(name)) {
            Some((name, _)) => Err(self.fault(COMPRESSED, name)),
            None => Ok(()),
        }
    }

    /// The entry of this name.
    pub(crate) fn find(&self, name: &str) -> Option<&Record> {
        let at = self.records.binary_search_by(|r| name_of(self.bytes, r).cmp(name)).ok()?;
        self.records.get(at)
    }

    /// Where the data of an entry lies, after its local header was checked.
    pub(crate) fn locate(&self, record: &Record) -> Result<Range<usize>, Error> {
        locate(self.bytes, record).map_err(|what| self.fault(what, name_of(self.bytes, record)))
    }

    fn fault(&self, what: &'static str, entry: &str) -> Error {
        zip_fault(self.file, what, entry)
    }

    fn find_directory(&self) -> Result<Directory, Error> {
        self.directory().map_err(|what| self.fault(what, ""))
    }

    fn directory(&self) -> Result<Directory, &'static str> {
        let bytes = self.bytes;
        const LOST: &str = "no end of the central directory (the file is cut off)";
        // PyTorch writes no comment, so the end record is the end of the file. Searching for it
        // would let a comment hold a second archive.
        let end = bytes.len().checked_sub(END_BYTES).ok_or(LOST)?;
        let (disk, central_disk, here, count, size, offset, comment) = (|| {
            let ok = u32_at(bytes, end)? == END;
            ok.then_some((
                u16_at(bytes, end + 4)?,
                u16_at(bytes, end + 6)?,
                u16_at(bytes, end + 8)?,
                u16_at(bytes, end + 10)?,
                u32_at(bytes, end + 12)?,
                u32_at(bytes, end + 16)?,
                u16_at(bytes, end + 20)?,
            ))
        })()
        .ok_or(LOST)?;
        if comment != 0 {
            return Err("the archive has a comment");
        }
        if disk != 0 || central_disk != 0 || here != count {
            return Err("the archive is split");
        }
        let plain =
            Directory { start: u64::from(offset), size: u64::from(size), count: u64::from(count) };
        let locator = end.checked_sub(LOCATOR_BYTES);
        let has64 = locator.is_some_and(|at| u32_at(bytes, at) == Some(LOCATOR64));
        let (directory, directory_end) = match locator {
            Some(locator) if has64 => {
                let (wide, at) = directory64(bytes, locator)?;
                let agrees = |small: u64, mark: u64, wide: u64| small == mark || small == wide;
                if !(agrees(plain.start, 0xffff_ffff, wide.start)
                    && agrees(plain.size, 0xffff_ffff, wide.size)
                    && agrees(plain.count, 0xffff, wide.count))
                {
                    return Err("the zip64 end record disagrees with the end record");
                }
                (wide, at)
            }
            _ => (plain, end as u64),
        };
        if directory.count > limits::ZIP_ENTRIES || directory.size > limits::ZIP_DIRECTORY_BYTES {
            return Err("the central directory is over the limit");
        }
        if directory.start.checked_add(directory.size) != Some(directory_end) {
            return Err("the central directory does not end at its end record");
        }
        Ok(directory)
    }

    fn read_directory(&mut self, directory: &Directory) -> Result<(), Error> {
        // The checks of `directory` put both numbers within the file.
        let mut at = usize::try_from(directory.start).unwrap_or(usize::MAX);
        let end = self.bytes.len().min(at.saturating_add(to_usize(directory.size)));
        for _ in 0..directory.count {
            let (record, next) = match central_entry(self.bytes, at, end) {
                Ok(found) => found,
                Err((what, name)) => {
                    let name = name.and_then(|n| self.bytes.get(n)).unwrap_or_default();
                    return Err(self.fault(what, &String::from_utf8_lossy(name)));
                }
            };
            self.records.push(record);
            at = next;
        }
        if at != end {
            return Err(self.fault("bytes after the last entry of the central directory", ""));
        }
        Ok(())
    }

    /// Local headers, names and data of different entries do not touch each other.
    fn refuse_overlaps(&mut self, directory_start: u64) -> Result<(), Error> {
        self.records.sort_by_key(|r| r.local);
        let ends = self.records.iter().map(|r| r.local).skip(1).chain([directory_start]);
        let ends: Vec<u64> = ends.collect();
        for (record, limit) in self.records.iter_mut().zip(ends) {
            record.limit = limit;
            let name = record.name.len() as u64;
            let end = record
                .local
                .checked_add(LOCAL_BYTES + name)
                .and_then(|n| n.checked_add(record.size));
            if end.is_none_or(|end| end > limit) {
                return Err(zip_fault(self.file, "entries overlap", name_of(self.bytes, record)));
            }
        }
        Ok(())
    }

    fn sort(&mut self) -> Result<(), Error> {
        let bytes = self.bytes;
        self.records.sort_by(|a, b| name_of(bytes, a).cmp(name_of(bytes, b)));
        for pair in self.records.windows(2) {
            if let [a, b] = pair
                && name_of(bytes, a) == name_of(bytes, b)
            {
                return Err(self.fault("an entry occurs twice", name_of(bytes, a)));
            }
        }
        Ok(())
    }
}

struct Directory {
    start: u64,
    size: u64,
    count: u64,
}

/// An error of this module.
pub(crate) fn zip_fault(file: &Path, what: &'static str, entry: &str) -> Error {
    Error::Zip { file: file.to_path_buf(), what, entry: entry.to_owned() }
}

/// The name of an entry; it was checked to be UTF-8 when the directory was read.
fn name_of<'a>(bytes: &'a [u8], record: &Record) -> &'a str {
    bytes.get(record.name.clone()).and_then(|n| std::str::from_utf8(n).ok()).unwrap_or_default()
}

/// The zip64 end record that a locator points to, and where that record is.
fn directory64(bytes: &[u8], locator: usize) -> Result<(Directory, u64), &'static str> {
    const BAD: &str = "the zip64 end record is damaged";
    let at = u64_at(bytes, locator + 8).ok_or(BAD)?;
    // The locator and its record stand together; a record elsewhere is a second directory.
    if at.checked_add(END64_BYTES as u64) != Some(locator as u64) {
        return Err(BAD);
    }
    let start = to_usize(at);
    let fields = (|| {
        Some((
            u32_at(bytes, start)?,
            u64_at(bytes, start + 4)?,
            (u32_at(bytes, start + 16)?, u32_at(bytes, start + 20)?),
            (u64_at(bytes, start + 24)?, u64_at(bytes, start + 32)?),
            (u64_at(bytes, start + 40)?, u64_at(bytes, start + 48)?),
        ))
    })();
    match fields {
        Some((END64, 44, (0, 0), (here, count), (size, offset))) if here == count => {
            Ok((Directory { start: offset, size, count }, at))
        }
        _ => Err(BAD),
    }
}

type EntryFault = (&'static str, Option<Range<usize>>);

/// One entry of the central directory and where the next begins.
fn central_entry(bytes: &[u8], at: usize, end: usize) -> Result<(Record, usize), EntryFault> {
    const CUT: EntryFault = ("the central directory is damaged", None);
    let (flags, method, crc) = (|| {
        (at + 46 <= end && u32_at(bytes, at)? == CENTRAL).then_some(())?;
        Some((u16_at(bytes, at + 8)?, u16_at(bytes, at + 10)?, u32_at(bytes, at + 16)?))
    })()
    .ok_or(CUT)?;
    let lengths = (u16_at(bytes, at + 28), u16_at(bytes, at + 30), u16_at(bytes, at + 32));
    let (Some(name_len), Some(extra_len), Some(comment_len)) = lengths else { return Err(CUT) };
    let name = at + 46..at + 46 + usize::from(name_len);
    let extra = name.end..name.end + usize::from(extra_len);
    let next = extra.end + usize::from(comment_len);
    if next > end {
        return Err(CUT);
    }
    let fault = |what| Err((what, Some(name.clone())));
    match bytes.get(name.clone()).map(std::str::from_utf8) {
        Some(Ok(text)) if name_fault(text).is_none() => {}
        _ => return fault("the name of an entry is not acceptable"),
    }
    if flags & 1 != 0 {
        return fault("an entry is encrypted");
    }
    if !matches!(method, STORED | DEFLATED) {
        return fault("an entry is compressed in an unknown way");
    }
    if flags & !KNOWN_FLAGS != 0 {
        return fault("an entry has unknown flags");
    }
    let extra = bytes.get(extra).unwrap_or_default();
    let Some((packed, size, local)) = wide_sizes(bytes, at, extra) else {
        return fault("the zip64 sizes of an entry are damaged");
    };
    let compressed = method == DEFLATED;
    if packed != size && !compressed {
        return fault("an entry is stored with two sizes");
    }
    // What a compressed entry takes is its stored size; nothing inflates it.
    Ok((Record { name, local, limit: 0, size: packed, crc, compressed }, next))
}

/// Stored size, size and offset of the local header, the wide ones where the narrow ones say so.
fn wide_sizes(bytes: &[u8], at: usize, extra: &[u8]) -> Option<(u64, u64, u64)> {
    let narrow = [u32_at(bytes, at + 24)?, u32_at(bytes, at + 20)?, u32_at(bytes, at + 42)?];
    let mut wide = extra_field64(extra)?;
    let mut values = [0; 3];
    // APPNOTE 4.5.3: size, stored size, offset, each only when its narrow field is all ones.
    for (value, narrow) in values.iter_mut().zip(narrow) {
        *value = if narrow == u32::MAX {
            let (head, tail) = wide.split_first_chunk::<8>()?;
            wide = tail;
            u64::from_le_bytes(*head)
        } else {
            u64::from(narrow)
        };
    }
    let [size, packed, local] = values;
    (u16_at(bytes, at + 34)? == 0).then_some((packed, size, local))
}

/// The contents of the zip64 field among the extra fields; empty when there is none, `None` when
/// the fields do not fill their space or the field occurs twice.
fn extra_field64(mut extra: &[u8]) -> Option<&[u8]> {
    let mut found: Option<&[u8]> = None;
    while !extra.is_empty() {
        let (tag, len) = (u16_at(extra, 0)?, u16_at(extra, 2)?);
        let field = extra.get(4..4 + usize::from(len))?;
        if tag == 1 && found.replace(field).is_some() {
            return None;
        }
        extra = extra.get(4 + usize::from(len)..)?;
    }
    Some(found.unwrap_or_default())
}

const COMPRESSED: &str = "an entry is compressed; PyTorch stores its records";

/// Where the data of an entry lies, after its local header was compared with the directory.
pub(crate) fn locate(bytes: &[u8], record: &Record) -> Result<Range<usize>, &'static str> {
    const BAD: &str = "the local header of an entry disagrees with the central directory";
    if record.compressed {
        return Err(COMPRESSED);
    }
    let at = to_usize(record.local);
    let (flags, method, name_len, extra_len) = (|| {
        (u32_at(bytes, at)? == LOCAL).then_some(())?;
        Some((
            u16_at(bytes, at + 6)?,
            u16_at(bytes, at + 8)?,
            usize::from(u16_at(bytes, at + 26)?),
            usize::from(u16_at(bytes, at + 28)?),
        ))
    })()
    .ok_or(BAD)?;
    let name = bytes.get(at + 30..at + 30 + name_len);
    if method != STORED || flags & !KNOWN_FLAGS != 0 || name != bytes.get(record.name.clone()) {
        return Err(BAD);
    }
    let sizes = (u32_at(bytes, at + 14), u32_at(bytes, at + 18), u32_at(bytes, at + 22));
    let narrow = |size: u64| u32::try_from(size).unwrap_or(u32::MAX);
    let agrees = match sizes {
        // Written before the data was known; the directory has the numbers.
        (Some(0), Some(0), Some(0)) => true,
        (Some(crc), Some(packed), Some(size)) => {
            let same = |n: u32| n == narrow(record.size) || n == u32::MAX;
            crc == record.crc && same(packed) && same(size)
        }
        _ => false,
    };
    let start = at + 30 + name_len + extra_len;
    let end = start.checked_add(to_usize(record.size));
    match end {
        // The overlap check did not know the extra field of the local header.
        Some(end) if agrees && end <= to_usize(record.limit) => Ok(start..end),
        _ => Err(BAD),
    }
}

/// Whether the data of an entry has the checksum of the directory.
pub(crate) fn crc_holds(data: &[u8], record: &Record) -> bool {
    crc32fast::hash(data) == record.crc
}

/// A checksum that grows with the data.
#[derive(Default)]
pub(crate) struct Crc(crc32fast::Hasher);

impl Crc {
    pub(crate) fn add(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    pub(crate) fn holds(self, record: &Record) -> bool {
        self.0.finalize() == record.crc
    }
}

/// A number that is compared with the length of the file before it is used.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX / 2).min(usize::MAX / 2)
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
}
