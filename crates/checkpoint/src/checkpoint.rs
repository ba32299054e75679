//! One namespace of tensors over one or more mapped files.

use crate::convert::to_f32;
use crate::dtype::Dtype;
use crate::error::Error;
use crate::map::Mapped;
use crate::names::name_fault;
use crate::torch::View;
use crate::zip::{self, Record};
use crate::{limits, safetensors, shards, torch};
use altclip_report::{Code, Report};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The weight files of a model folder, in the order of preference.
pub(crate) const FILE_NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

/// Bytes that are read before their pages are given back.
const CHUNK_BYTES: usize = 4 << 20;
/// Reads of rows shorter than this keep their pages: the same rows are often read again.
const KEEP_BYTES: usize = 1 << 20;

/// What a checkpoint says of a tensor without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, after [`Checkpoint::rename`].
    pub name: String,
    /// Its element type in the file.
    pub dtype: Dtype,
    /// Its sizes, the slowest dimension first; empty for a scalar.
    pub shape: Vec<usize>,
    /// The file it is in: an index into [`Checkpoint::files`].
    pub file: usize,
}

/// The format of a weight file, recognised by its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A safetensors file.
    Safetensors,
    /// A zip archive of `torch.save` with a pickle inside.
    PickleZip,
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its format.
    pub format: Format,
    /// The strings of `__metadata__` of a safetensors file.
    pub metadata: BTreeMap<String, String>,
}

/// The values of a tensor that are NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// Row-major index of the first.
    pub first: usize,
    /// How many there are.
    pub count: usize,
}

/// Tensors by name, over one or more mapped weight files.
///
/// Opening reads headers only. Values are read when they are asked for, converted to f32, checked
/// to be finite, and the pages of the file are given back.
pub struct Checkpoint {
    sources: Vec<Source>,
    files: Vec<FileInfo>,
    tensors: BTreeMap<String, Entry>,
    warnings: Vec<Report>,
}

struct Source {
    map: Mapped,
    /// The storages of a PyTorch archive, and whether their checksums were compared.
    records: Vec<(Record, AtomicBool)>,
}

struct Entry {
    info: TensorInfo,
    place: Place,
}

enum Place {
    /// Row-major, at these bytes of the file.
    Bytes(Range<usize>),
    /// A view of a record.
    View(View),
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checkpoint({} tensors in {:?})", self.tensors.len(), self.files)
    }
}

impl Checkpoint {
    /// Opens the weights of a model folder: `model.safetensors`, else its shards, else
    /// `pytorch_model.bin`, else its shards. Where several are present the first is used and a
    /// warning names both.
    ///
    /// # Errors
    /// A missing, damaged or hostile file, as [`Checkpoint::open_file`] says; [`Error::NoWeights`]
    /// where the folder has none; [`Error::Index`] where index and shards disagree.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: dir.to_path_buf(), source };
        std::fs::read_dir(dir).map_err(io)?;
        let present: Vec<&str> =
            FILE_NAMES.into_iter().filter(|name| dir.join(name).exists()).collect();
        let Some((&used, others)) = present.split_first() else {
            return Err(Error::NoWeights { dir: dir.to_path_buf() });
        };
        let path = dir.join(used);
        let mut checkpoint = if used.ends_with(".index.json") {
            Self::open_index(&path, dir)?
        } else {
            Self::open_file(&path)?
        };
        checkpoint.warnings.extend(others.iter().map(|other| {
            Report::new(Code::W2120, "checkpoint", format!("{used} is used, {other} is not read"))
                .place(dir.display().to_string())
                .help("remove the one that is not meant")
        }));
        Ok(checkpoint)
    }

    /// Opens one weight file; its kind is found from its contents, not from its name.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotWeights`] for a page, a pointer or another kind of file, and the
    /// errors of the two formats for a damaged or hostile one.
    pub fn open_file(path: &Path) -> Result<Self, Error> {
        let mut checkpoint = Self::empty();
        for entry in checkpoint.add_file(path)? {
            checkpoint.tensors.insert(entry.info.name.clone(), entry);
        }
        Ok(checkpoint)
    }

    fn empty() -> Self {
        let (sources, files, warnings) = (Vec::new(), Vec::new(), Vec::new());
        Self { sources, files, tensors: BTreeMap::new(), warnings }
    }

    fn open_index(index_path: &Path, dir: &Path) -> Result<Self, Error> {
        let index = shards::read(index_path)?;
        let fault = |what, name: &str| Error::Index {
            file: index_path.to_path_buf(),
            what,
            name: name.to_owned(),
        };
        let mut checkpoint = Self::empty();
        let mut errors = Vec::new();
        for (shard, name) in index.shards.iter().enumerate() {
            for entry in checkpoint.add_file(&dir.join(name))? {
                let tensor = &entry.info.name;
                match index.map.get(tensor) {
                    Some(&expected) if expected == shard => {
                        // A shard names a tensor once, so it cannot be here already.
                        checkpoint.tensors.insert(tensor.clone(), entry);
                    }
                    Some(_) => errors.push(fault("a tensor is in another shard", tensor)),
                    None => errors.push(fault("a tensor of a shard is not in the index", tensor)),
                }
            }
        }
        for tensor in index.map.keys().filter(|name| !checkpoint.tensors.contains_key(*name)) {
            errors.push(fault("a tensor is not in its shard", tensor));
        }
        Error::collect(errors)?;
        Ok(checkpoint)
    }

    /// Maps a file, notes it, and gives its tensors.
    fn add_file(&mut self, path: &Path) -> Result<Vec<Entry>, Error> {
        let map = Mapped::open(path)?;
        let file = self.sources.len();
        let bytes = map.bytes().len() as u64;
        let format = format_of(map.bytes())
            .map_err(|found| Error::NotWeights { file: path.to_path_buf(), found })?;
        let (entries, records, metadata) = match format {
            Format::Safetensors => {
                let header = safetensors::read(&map)?;
                let entries = header.tensors.into_iter().map(|t| Entry {
                    info: TensorInfo { name: t.name, dtype: t.dtype, shape: t.shape, file },
                    place: Place::Bytes(t.bytes),
                });
                (entries.collect(), Vec::new(), header.metadata)
            }
            Format::PickleZip => {
                let found = torch::read(&map)?;
                let entries = found.tensors.into_iter().map(|t| Entry {
                    info: TensorInfo { name: t.name, dtype: t.dtype, shape: t.shape, file },
                    place: Place::View(t.view),
                });
                let records = found.records.into_iter().map(|r| (r, AtomicBool::new(false)));
                self.warnings.extend(found.warnings);
                (entries.collect(), records.collect(), BTreeMap::new())
            }
        };
        self.files.push(FileInfo { path: path.to_path_buf(), bytes, format, metadata });
        self.sources.push(Source { map, records });
        Ok(entries)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Name, type and shape of a tensor.
    pub fn get(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name).map(|entry| &entry.info)
    }

    /// The shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.get(name).map(|info| info.shape.as_slice())
    }

    /// The files that the tensors are in.
    pub fn files(&self) -> &[FileInfo] {
        &self.files
    }

    /// What is worth saying although the checkpoint can be used.
    pub fn warnings(&self) -> &[Report] {
        &self.warnings
    }

    /// The file of a tensor, for messages.
    pub(crate) fn path_of(&self, info: &TensorInfo) -> PathBuf {
        self.files.get(info.file).map(|f| f.path.clone()).unwrap_or_default()
    }

    /// Gives tensors other names; `None` keeps a name.
    ///
    /// # Errors
    /// [`Error::RenameCollision`] where two tensors would get one name, [`Error::Name`] where the
    /// new name is not acceptable. The checkpoint is then as it was.
    pub fn rename(&mut self, new_name: &dyn Fn(&str) -> Option<String>) -> Result<(), Error> {
        let mut renamed: BTreeMap<String, &String> = BTreeMap::new();
        for (old, entry) in &self.tensors {
            let name = new_name(old).unwrap_or_else(|| old.clone());
            if let Some(what) = name_fault(&name) {
                return Err(Error::Name { file: self.path_of(&entry.info), name, what });
            }
            match renamed.entry(name) {
                Slot::Vacant(slot) => {
                    slot.insert(old);
                }
                Slot::Occupied(slot) => {
                    let (first, second) = ((*slot.get()).clone(), old.clone());
                    return Err(Error::RenameCollision { first, second, name: slot.key().clone() });
                }
            }
        }
        let old_to_new: Vec<(String, String)> =
            renamed.into_iter().map(|(new, old)| (old.clone(), new)).collect();
        let mut old = std::mem::take(&mut self.tensors);
        for (from, to) in old_to_new {
            if let Some(mut entry) = old.remove(&from) {
                entry.info.name.clone_from(&to);
                self.tensors.insert(to, entry);
            }
        }
        Ok(())
    }

    /// A whole tensor as f32, row-major. F32, F16 and BF16 are converted exactly, F64 is rounded.
    /// The pages of the file are given back on the way, so the tensor is never held twice; a
    /// storage of a PyTorch file is compared with its checksum the first time.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::DtypeUnsupported`], [`Error::NotFinite`],
    /// [`Error::Zip`] for a wrong checksum, [`Error::Changed`], [`Error::Memory`].
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>, Error> {
        let entry = self.readable(name)?;
        self.verify(entry)?;
        let len = entry.info.shape.iter().product();
        let mut out = Vec::new();
        if out.try_reserve_exact(len).is_err() {
            return Err(Error::Memory { name: name.to_owned(), bytes: len.saturating_mul(4) });
        }
        out.resize(len, 0.0);
        self.fill(entry, 0..entry.rows(), &mut out, 0)?;
        self.release(name);
        Ok(out)
    }

    /// Rows `rows` of the first dimension as f32 into `out`; a scalar is one row. Short reads keep
    /// their pages, as of a word table whose rows come back; [`Checkpoint::release`] drops them.
    ///
    /// # Errors
    /// As [`Checkpoint::read_f32`], except that no checksum is compared; [`Error::Rows`] where the
    /// tensor lacks the rows or `out` is not of their size.
    pub fn read_rows_f32(
        &self,
        name: &str,
        rows: Range<usize>,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let entry = self.readable(name)?;
        let row_len = entry.row_len();
        let len = rows.end.checked_sub(rows.start).and_then(|n| n.checked_mul(row_len));
        if rows.end > entry.rows() || len != Some(out.len()) {
            return Err(Error::Rows {
                name: name.to_owned(),
                shape: entry.info.shape.clone(),
                start: rows.start,
                end: rows.end,
                buffer: out.len(),
            });
        }
        self.fill(entry, rows, out, KEEP_BYTES)
    }

    /// Gives the memory pages of a tensor back; they are read again when next used.
    pub fn release(&self, name: &str) {
        let Some(entry) = self.tensors.get(name) else { return };
        let Some(source) = self.sources.get(entry.info.file) else { return };
        match &entry.place {
            Place::Bytes(range) => source.map.release(range.clone()),
            Place::View(view) => {
                if let Some((record, _)) = source.records.get(view.record)
                    && let Ok(range) = zip::locate(source.map.bytes(), record)
                {
                    source.map.release(range);
                }
            }
        }
    }

    /// Looks at every value of a tensor without keeping it, and compares the checksum of its
    /// storage. Types other than F32, F16, BF16 and F64 have no values that are not finite.
    ///
    /// # Errors
    /// [`Error::TensorMissing`], [`Error::Zip`] for a wrong checksum, [`Error::Changed`].
    pub fn scan_non_finite(&self, name: &str) -> Result<Option<NonFinite>, Error> {
        let entry = self.entry(name)?;
        self.verify(entry)?;
        if !entry.info.dtype.is_readable() {
            self.release(name);
            return Ok(None);
        }
        let mut scratch = vec![0.0; CHUNK_BYTES / entry.info.dtype.width()];
        let mut found = Tally::default();
        self.for_chunks(entry, 0..entry.rows(), 0, &mut |start, bytes| {
            let values = bytes.len() / entry.info.dtype.width();
            let scratch = scratch.get_mut(..values).unwrap_or_default();
            if !to_f32(entry.info.dtype, bytes, scratch) {
                found.add(start, scratch);
            }
        })?;
        self.release(name);
        Ok(found.result())
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        let missing = || Error::TensorMissing { name: name.to_owned(), nearest: None };
        self.tensors.get(name).ok_or_else(missing)
    }

    fn readable(&self, name: &str) -> Result<&Entry, Error> {
        let entry = self.entry(name)?;
        if entry.info.dtype.is_readable() {
            return Ok(entry);
        }
        Err(Error::DtypeUnsupported {
            file: self.path_of(&entry.info),
            tensor: name.to_owned(),
            dtype: entry.info.dtype.as_str().to_owned(),
        })
    }

    /// Compares the checksum of a tensor's storage, once.
    fn verify(&self, entry: &Entry) -> Result<(), Error> {
        let Some(source) = self.sources.get(entry.info.file) else { return Ok(()) };
        source.map.unchanged()?;
        let Place::View(view) = &entry.place else { return Ok(()) };
        let Some((record, verified)) = source.records.get(view.record) else { return Ok(()) };
        if verified.load(Ordering::Relaxed) {
            return Ok(());
        }
        let fault = |what| zip::zip_fault(source.map.path(), what, &entry.info.name);
        let range = zip::locate(source.map.bytes(), record).map_err(fault)?;
        let mut crc = zip::Crc::default();
        for start in range.clone().step_by(CHUNK_BYTES) {
            let chunk = start..range.end.min(start + CHUNK_BYTES);
            crc.add(source.map.bytes().get(chunk.clone()).unwrap_or_default());
            // A small storage is wanted again at once, to be converted.
            if range.len() > CHUNK_BYTES {
                source.map.release(chunk);
            }
        }
        if !crc.holds(record) {
            return Err(fault("the checksum of a storage does not hold"));
        }
        verified.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn fill(
        &self,
        entry: &Entry,
        rows: Range<usize>,
        out: &mut [f32],
        keep_bytes: usize,
    ) -> Result<(), Error> {
        let first = rows.start * entry.row_len();
        let mut bad = Tally::default();
        self.for_chunks(entry, rows, keep_bytes, &mut |start, bytes| {
            let end = start + bytes.len() / entry.info.dtype.width();
            let out = out.get_mut(start..end).unwrap_or_default();
            if !to_f32(entry.info.dtype, bytes, out) {
                bad.add(first + start, out);
            }
        })?;
        match bad.result() {
            None => Ok(()),
            Some(NonFinite { first, count }) => Err(Error::NotFinite {
                name: entry.info.name.clone(),
                file: self.path_of(&entry.info),
                first,
                count,
            }),
        }
    }

    /// Calls `f` with the index of the first element (from the first row on) and the stored bytes,
    /// in row-major order; the pages of each chunk longer than `keep_bytes` are given back.
    fn for_chunks(
        &self,
        entry: &Entry,
        rows: Range<usize>,
        keep_bytes: usize,
        f: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Error> {
        let Some(source) = self.sources.get(entry.info.file) else { return Ok(()) };
        source.map.unchanged()?;
        let width = entry.info.dtype.width();
        let row_len = entry.row_len();
        let (start, strides) = match &entry.place {
            Place::Bytes(range) => (range.start, None),
            Place::View(view) => {
                let Some((record, _)) = source.records.get(view.record) else { return Ok(()) };
                let range = zip::locate(source.map.bytes(), record)
                    .map_err(|what| zip::zip_fault(source.map.path(), what, &entry.info.name))?;
                let strided = !is_row_major(&entry.info.shape, &view.strides);
                (range.start + view.offset * width, strided.then_some(&view.strides))
            }
        };
        let bytes = source.map.bytes();
        if let Some(strides) = strides {
            let gather = Gather { bytes, start, width, shape: &entry.info.shape, strides };
            gather.for_chunks(rows, row_len, f);
            return Ok(());
        }
        let range = start + rows.start * row_len * width..start + rows.end * row_len * width;
        for at in range.clone().step_by(CHUNK_BYTES) {
            let chunk = at..range.end.min(at + CHUNK_BYTES);
            f((at - range.start) / width, bytes.get(chunk.clone()).unwrap_or_default());
            if chunk.len() > keep_bytes {
                source.map.release(chunk);
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Size of the first dimension; a scalar is one row.
    fn rows(&self) -> usize {
        self.info.shape.first().copied().unwrap_or(1)
    }

    /// Elements of a row. The product was checked when the file was opened.
    fn row_len(&self) -> usize {
        self.info.shape.iter().skip(1).product()
    }
}

/// Counts the values that are not finite.
#[derive(Default)]
struct Tally {
    first: Option<usize>,
    count: usize,
}

impl Tally {
    fn add(&mut self, start: usize, values: &[f32]) {
        for (at, _) in values.iter().enumerate().filter(|(_, v)| !v.is_finite()) {
            self.first.get_or_insert(start + at);
            self.count += 1;
        }
    }

    fn result(&self) -> Option<NonFinite> {
        self.first.map(|first| NonFinite { first, count: self.count })
    }
}

/// Whether strides are those of the row-major order; a dimension of size 1 has no step.
fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    if shape.contains(&0) {
        return true;
    }
    let mut step = 1;
    shape.iter().zip(strides).rev().all(|(&size, &stride)| {
        let fits = size == 1 || stride == step;
        step *= size;
        fits
    })
}

/// Elements of a view that is not row-major, brought into row-major order.
struct Gather<'a> {
    bytes: &'a [u8],
    start: usize,
    width: usize,
    shape: &'a [usize],
    strides: &'a [usize],
}

impl Gather<'_> {
    fn for_chunks(&self, rows: Range<usize>, row_len: usize, f: &mut dyn FnMut(usize, &[u8])) {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES.min(rows.len() * row_len * self.width));
        let (first, last) = (rows.start * row_len, rows.end * row_len);
        let mut sent = 0;
        for element in first..last {
            let at = self.start + self.offset(element) * self.width;
            // The reach of the view was compared with its storage when the file was opened.
            chunk.extend_from_slice(self.bytes.get(at..at + self.width).unwrap_or_default());
            if chunk.len() + self.width > CHUNK_BYTES || element + 1 == last {
                f(sent, &chunk);
                sent += chunk.len() / self.width;
                chunk.clear();
            }
        }
    }

    /// Where an element of the row-major order lies, in elements.
    fn offset(&self, mut element: usize) -> usize {
        let mut offset = 0;
        for (&size, &stride) in self.shape.iter().zip(self.strides).rev() {
            offset += element % size * stride;
            element /= size;
        }
        offset
    }
}

/// The format of a file, or what it looks like instead.
fn format_of(bytes: &[u8]) -> Result<Format, &'static str> {
    /// The long integer 0x1950a86a20f9469cfc6c that opens every file of PyTorch before 1.6.
    const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";
    if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        return Ok(Format::PickleZip);
    }
    let length = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    if length.is_some_and(|length| length <= limits::HEADER_BYTES) {
        // Nothing else begins so, while the length of a header can begin with any byte.
        return Ok(Format::Safetensors);
    }
    let head = bytes.get(..512).unwrap_or(bytes);
    let text = head.trim_ascii_start();
    Err(if head.starts_with(LEGACY) {
        "a legacy PyTorch file"
    } else if matches!(head, [0x80, 2..=5, b'}' | b'(' | b'c' | b'X' | b']' | 0x95 | 0x8c, ..]) {
        "a pickle without archive"
    } else if text.starts_with(b"version https://git-lfs") {
        "a Git LFS pointer"
    } else if text.starts_with(b"<") {
        "an HTML page"
    } else if text.starts_with(b"{") {
        "a JSON answer"
    } else if head.starts_with(b"\x1f\x8b") {
        "a gzip file"
    } else if head.len() < 8 {
        "a file of a few bytes"
    } else if head.iter().take(8).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) {
        "a text file"
    } else {
        // The reader says that the length is over the limit.
        return Ok(Format::Safetensors);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_major_strides_are_recognised() {
        assert!(is_row_major(&[2, 3], &[3, 1]));
        assert!(is_row_major(&[2, 1, 3], &[3, 99, 1]));
        assert!(is_row_major(&[], &[]));
        assert!(is_row_major(&[0, 3], &[7, 7]));
        assert!(!is_row_major(&[2, 3], &[1, 2]));
        assert!(!is_row_major(&[2, 3], &[4, 1]));
    }

    #[test]
    fn other_files_are_named() {
        for (bytes, expected) in [
            (&b"version https://git-lfs.github.com/spec/v1\n"[..], "a Git LFS pointer"),
            (b"\n<!DOCTYPE html>", "an HTML page"),
            (b"{\"error\": 1}", "a JSON answer"),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02", "a legacy PyTorch file"),
            (b"\x80\x02}q\x00.", "a pickle without archive"),
            (b"%PDF-1.7\n", "a text file"),
            (b"abc", "a file of a few bytes"),
        ] {
            assert_eq!(format_of(bytes), Err(expected));
        }
        // The lengths 60 and 123 begin with the bytes `<` and `{`.
        for first in 0..=255 {
            let file = [&[first, 2, 0, 0, 0, 0, 0, 0][..], b"{}"].concat();
            assert_eq!(format_of(&file), Ok(Format::Safetensors));
        }
    }
}
