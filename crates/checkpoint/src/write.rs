//! A writer of safetensors files that leaves the old file or the new one, never a part.

use crate::dtype::Dtype;
use crate::error::Error;
use crate::names::name_fault;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A tensor to write.
pub struct TensorToWrite<'a> {
    /// Its name.
    pub name: String,
    /// The element type that the file gets.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub data: TensorData<'a>,
}

/// Where the values of a tensor come from.
pub enum TensorData<'a> {
    /// Values for a tensor of type F32.
    F32(&'a [f32]),
    /// Little-endian bytes of any type, row-major.
    Bytes(&'a [u8]),
    /// A function that writes the little-endian bytes when their turn comes.
    Stream(StreamFn<'a>),
}

/// Writes the bytes of one tensor.
type StreamFn<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

/// A safetensors file whose header is made and whose values come when it is written.
///
/// The order is that of the official writer (wide types first, then by name), so equal tensors give
/// equal bytes.
pub struct SafetensorsFile<'a> {
    header: Vec<u8>,
    tensors: Vec<TensorToWrite<'a>>,
    bytes: u64,
}

impl<'a> SafetensorsFile<'a> {
    /// Puts the tensors in order and makes the header.
    ///
    /// # Errors
    /// [`Error::NotWritable`] for a name that a reader would refuse, a name given twice or data of
    /// another size than the shape's.
    pub fn new(
        tensors: impl IntoIterator<Item = TensorToWrite<'a>>,
        metadata: &BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        let mut tensors: Vec<_> = tensors.into_iter().collect();
        let order = |t: &TensorToWrite<'_>| (std::cmp::Reverse(t.dtype.bits()), t.name.clone());
        tensors.sort_by_cached_key(order);
        let metadata: Vec<_> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let header = header(&tensors, &metadata, 8)?;
        let sizes = tensors.iter().filter_map(|t| t.dtype.bytes_of(&t.shape));
        let bytes = header.len() as u64 + sizes.map(|n| n as u64).sum::<u64>();
        Ok(Self { header, tensors, bytes })
    }

    /// The length of the file in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes the file in blocks; no tensor is copied as a whole.
    ///
    /// # Errors
    /// What `out` says, and `InvalidData` for a stream of another size than its shape's.
    pub fn write(self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.header)?;
        for t in self.tensors {
            let size = t.dtype.bytes_of(&t.shape).map(|n| n as u64);
            let mut counted = Counted { out: &mut *out, written: 0 };
            t.data.write(&mut counted)?;
            if size != Some(counted.written) {
                return Err(wrong_size(&t.name));
            }
        }
        Ok(())
    }
}

/// Writes a safetensors file and gives its length.
///
/// The file is written beside `path`, brought to the disk and then renamed.
///
/// # Errors
/// [`Error::NotWritable`] as [`SafetensorsFile::new`]; [`Error::Write`] for the file system's.
pub fn write_safetensors<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = TensorToWrite<'a>>,
    metadata: &BTreeMap<String, String>,
) -> Result<u64, Error> {
    let file = SafetensorsFile::new(tensors, metadata)?;
    let fault = |source| Error::Write { path: path.to_path_buf(), source };
    let temporary = Temporary::create(path).map_err(fault)?;
    let length = file.bytes();
    let mut out = BufWriter::with_capacity(1 << 20, &temporary.file);
    file.write(&mut out).and_then(|()| out.flush()).map_err(fault)?;
    drop(out);
    temporary.commit(path).map_err(fault)?;
    Ok(length)
}

/// The length, the JSON text and the spaces that align the data; all in the order given.
pub(crate) fn header(
    tensors: &[TensorToWrite<'_>],
    metadata: &[(&str, &String)],
    alignment: usize,
) -> Result<Vec<u8>, Error> {
    let fault = |name: &str, what| Error::NotWritable { name: name.to_owned(), what };
    let mut json = String::from("{");
    if !metadata.is_empty() {
        let pairs: Vec<_> =
            metadata.iter().map(|(k, v)| format!("{}:{}", string(k), string(v))).collect();
        json += &format!("\"__metadata__\":{{{}}},", pairs.join(","));
    }
    let mut names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
    names.sort_unstable();
    if let Some([name, _]) = names.array_windows::<2>().find(|[a, b]| a == b) {
        return Err(fault(name, "is given twice"));
    }
    let mut at: usize = 0;
    for t in tensors {
        if let Some(what) = name_fault(&t.name) {
            return Err(fault(&t.name, what));
        }
        let bytes = t.dtype.bytes_of(&t.shape).and_then(|n| Some((n, at.checked_add(n)?)));
        let given = match t.data {
            TensorData::F32(values) if t.dtype == Dtype::F32 => {
                Some(values.len().saturating_mul(4))
            }
            TensorData::F32(_) => return Err(fault(&t.name, "has f32 values for another type")),
            TensorData::Bytes(bytes) => Some(bytes.len()),
            TensorData::Stream(_) => None,
        };
        let Some((size, end)) = bytes.filter(|(size, _)| given.is_none_or(|n| n == *size)) else {
            return Err(fault(&t.name, "has data of another size than its shape"));
        };
        debug_assert_eq!(at + size, end);
        let (name, dtype, shape) = (string(&t.name), t.dtype, &t.shape);
        json += &format!(
            "{name}:{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{at},{end}]}},"
        );
        at = end;
    }
    if json.ends_with(',') {
        json.pop();
    }
    json.push('}');
    while !(8 + json.len()).is_multiple_of(alignment) {
        json.push(' ');
    }
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.extend_from_slice(json.as_bytes());
    Ok(header)
}

/// A JSON string.
pub(crate) fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out + "\""
}

/// The error for a stream that wrote more or less than its shape says.
pub(crate) fn wrong_size(name: &str) -> io::Error {
    let what = format!("the data of {name} is not of the size of its shape");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl TensorData<'_> {
    /// Writes the little-endian bytes.
    pub(crate) fn write(self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            TensorData::Bytes(bytes) => out.write_all(bytes),
            TensorData::F32(values) => {
                let mut block = Vec::new();
                for values in values.chunks(16 << 10) {
                    block.clear();
                    block.extend(values.iter().flat_map(|v| v.to_le_bytes()));
                    out.write_all(&block)?;
                }
                Ok(())
            }
            TensorData::Stream(stream) => stream(out),
        }
    }
}

struct Counted<W> {
    out: W,
    written: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file beside its target that is removed unless it is committed.
pub(crate) struct Temporary {
    path: PathBuf,
    pub(crate) file: File,
    committed: bool,
}

impl Temporary {
    pub(crate) fn create(target: &Path) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
        sweep(folder_of(target));
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".{}.{number}.{name}{PART}", std::process::id());
            let path = target.with_file_name(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    // Where there are no locks, age alone tells what is unfinished.
                    let _ = file.try_lock();
                    return Ok(Self { path, file, committed: false });
                }
                // A process of the same number left it, perhaps on another machine.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Data on the disk first, then the name, then the folder that holds the name.
    pub(crate) fn commit(mut self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, target)?;
        self.committed = true;
        #[cfg(unix)]
        {
            File::open(folder_of(target))?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing more can be done about a file that cannot be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// What the name of an unfinished file ends with.
const PART: &str = ".part";
/// A file that its process may not have locked yet is younger.
const UNLOCKED: std::time::Duration = std::time::Duration::from_secs(60);

fn folder_of(target: &Path) -> &Path {
    target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a name is `.PROCESS.NUMBER.NAME.part`.
fn is_part(name: &str) -> bool {
    let inner = name.strip_prefix('.').and_then(|name| name.strip_suffix(PART));
    let mut parts = inner.unwrap_or_default().splitn(3, '.');
    let mut is_number = || parts.next().is_some_and(|part| part.parse::<u64>().is_ok());
    is_number() && is_number() && parts.next().is_some()
}

/// Removes what killed processes left unfinished in a folder: old parts that nobody has locked. Whoever writes one holds its lock.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if !is_part(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let age = entry.metadata().and_then(|data| data.modified()).map(|time| time.elapsed());
        let is_old = matches!(age, Ok(Ok(age)) if age > UNLOCKED);
        let Some(file) = is_old.then(|| File::open(entry.path()).ok()).flatten() else { continue };
        if file.try_lock().is_ok() {
            // Whoever comes next tries again.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn what_killed_processes_left_is_removed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, old: bool| {
            let path = dir.path().join(name);
            let file = File::create(&path).unwrap();
            if old {
                file.set_modified(SystemTime::now() - 2 * UNLOCKED).unwrap();
            }
            (path, file)
        };
        let (left, _) = make(".123.0.model.altclip.part", true);
        let (locked, writer) = make(".124.0.model.altclip.part", true);
        writer.lock().unwrap();
        let kept = [
            make(".125.0.a.altclip.part", false),
            make("model.part", true),
            make(".1.x.part", true),
        ];
        let target = dir.path().join("model.altclip");
        Temporary::create(&target).unwrap().commit(&target).unwrap();
        assert!(!left.exists() && locked.exists() && target.exists());
        assert!(kept.iter().all(|(path, _)| path.exists()));
        drop(writer);
        drop(Temporary::create(&target).unwrap());
        assert!(!locked.exists());
    }

    #[test]
    fn a_part_of_the_same_name_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("a");
        let first = Temporary::create(&target).unwrap();
        // Every number that this process may be about to take.
        for number in 0..100 {
            let name = format!(".{}.{number}.a.part", std::process::id());
            let _ = File::create_new(dir.path().join(name));
        }
        let second = Temporary::create(&target).unwrap();
        assert_ne!(first.path, second.path);
    }
}
