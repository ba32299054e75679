//! One namespace of tensors over one or more mapped files.

use crate::dtype::Dtype;
use crate::error::Error;
use crate::map::Mapped;
use crate::names::name_fault;
use crate::sealed::{self, Sealed};
use crate::torch::View;
use crate::zip::Record;
use crate::{limits, safetensors, shards, torch};
use altclip_report::{Code, Report};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The weight files of a model folder, in the order of preference.
pub(crate) const FILE_NAMES: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];

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
    /// A packed model file.
    Packed,
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

/// Tensors by name, over one or more mapped weight files.
///
/// Opening reads headers only. Values are read when they are asked for, converted to f32, checked
/// to be finite, and the pages of the file are given back.
pub struct Checkpoint {
    pub(crate) sources: Vec<Source>,
    files: Vec<FileInfo>,
    pub(crate) tensors: BTreeMap<String, Entry>,
    warnings: Vec<Report>,
    /// What a packed model file has beside tensors.
    pub(crate) sealed: Option<Sealed>,
}

pub(crate) struct Source {
    pub(crate) map: Arc<Mapped>,
    /// The storages of a PyTorch archive, and whether their checksums were compared.
    pub(crate) records: Vec<(Record, AtomicBool)>,
}

pub(crate) struct Entry {
    pub(crate) info: TensorInfo,
    pub(crate) place: Place,
}

pub(crate) enum Place {
    /// Row-major, at these bytes of the file.
    Bytes(Range<usize>),
    /// At these bytes of the file, with steps of its own, in elements.
    Turned(Range<usize>, Vec<usize>),
    /// A view of a record.
    View(View),
    /// In a matrix of a packed model file, which is only handed out whole.
    Packed,
}

impl std::fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checkpoint({} tensors in {:?})", self.tensors.len(), self.files)
    }
}

impl Checkpoint {
    /// Opens the weights of a model folder: `model.safetensors`, else its shards, else
    /// `pytorch_model.bin`, else its shards, else the only `.pt` or `.pth` file. Where several are
    /// present the first is used and a warning names both.
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
            return Self::open_file(&original(dir)?);
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

    /// No tensors at all: what the configuration of a model that does not exist yet is read against.
    pub fn empty() -> Self {
        let (sources, files, warnings) = (Vec::new(), Vec::new(), Vec::new());
        Self { sources, files, tensors: BTreeMap::new(), warnings, sealed: None }
    }

    /// Opens a packed model file, made by [`crate::write_packed`]. Its tensors have the names and
    /// shapes of the model that was packed; the data are compared with their hashes when they are
    /// first read.
    ///
    /// # Errors
    /// As [`Checkpoint::open_file`]; [`Error::Packed`] where it is no such file or of another
    /// version, [`Error::Sealed`] where its header is damaged.
    pub fn open_packed(path: &Path) -> Result<Self, Error> {
        let map = Mapped::open(path)?;
        format_of(map.bytes())
            .map_err(|found| Error::NotWeights { file: path.to_path_buf(), found })?;
        let found = sealed::read(&map)?;
        let mut checkpoint = Self::empty();
        checkpoint.tensors = found.tensors.into_iter().map(|e| (e.info.name.clone(), e)).collect();
        checkpoint.files.push(FileInfo {
            path: path.to_path_buf(),
            bytes: map.bytes().len() as u64,
            format: Format::Packed,
            metadata: found.metadata,
        });
        checkpoint.sealed = Some(found.sealed);
        checkpoint.sources.push(Source { map: Arc::new(map), records: Vec::new() });
        Ok(checkpoint)
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

    /// The same tensors over memory of this process instead of files: whatever becomes of the files, what
    /// was read stays. It takes as much memory as they are long.
    ///
    /// # Errors
    /// [`Error::Changed`], [`Error::Io`].
    pub fn into_memory(mut self) -> Result<Self, Error> {
        let held = |source: Source| match Arc::try_unwrap(source.map) {
            Ok(map) => Ok(Source { map: Arc::new(map.into_memory()?), records: source.records }),
            // A part of it was handed out already; that part is no copy.
            Err(map) => Err(Error::Changed { file: map.path().to_path_buf() }),
        };
        self.sources = self.sources.into_iter().map(held).collect::<Result<_, _>>()?;
        Ok(self)
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
            Format::PickleZip | Format::Packed => {
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
        self.sources.push(Source { map: Arc::new(map), records });
        Ok(entries)
    }

    /// Adds everything of another checkpoint; its names are not in this one.
    pub(crate) fn append(&mut self, other: Self) {
        let before = self.sources.len();
        self.sources.extend(other.sources);
        self.files.extend(other.files);
        self.warnings.extend(other.warnings);
        self.tensors.extend(other.tensors.into_iter().map(|(name, mut entry)| {
            entry.info.file += before;
            (name, entry)
        }));
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
}

/// The only file of a folder with the name of an original weight file.
pub(crate) fn original(dir: &Path) -> Result<PathBuf, Error> {
    let io = |source| Error::Io { path: dir.to_path_buf(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if is_original(&path) {
            found.push(path);
        }
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        _ => Err(Error::NoWeights { dir: dir.to_path_buf() }),
    }
}

/// Whether a path names a weight file as authors publish it beside the Hub: `ViT-B-32.pt`.
pub fn is_original(path: &Path) -> bool {
    let known = |extension: &std::ffi::OsStr| extension == "pt" || extension == "pth";
    path.extension().is_some_and(known) && path.is_file()
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
