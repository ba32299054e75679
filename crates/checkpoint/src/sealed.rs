//! Reading a packed model file: the seal when it is opened, the hash of a block when it is first used.

use crate::checkpoint::{Checkpoint, Entry, Place, TensorInfo};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::json::{Cursor, Fault};
use crate::map::Mapped;
use crate::packed::{
    BLOCK_BYTES, FILES, HASH_DIGITS, JOIN, MatrixFormat, MatrixInfo, OPENING, PackedInfo, VERSION,
};
use crate::{limits, safetensors};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What a packed model file has beside its tensors.
pub(crate) struct Sealed {
    info: PackedInfo,
    /// Everything stored, by its first byte; what is empty has nothing to verify.
    stored: BTreeMap<usize, Blocks>,
    /// Where the parts of matrices and the small files are.
    places: BTreeMap<String, Range<usize>>,
    threads: usize,
}

/// The hashes of one stored tensor.
struct Blocks {
    name: String,
    range: Range<usize>,
    hashes: Vec<(u64, AtomicBool)>,
}

/// What [`read`] found.
pub(crate) struct Found {
    pub(crate) tensors: Vec<Entry>,
    pub(crate) sealed: Sealed,
    pub(crate) metadata: BTreeMap<String, String>,
}

/// Reads the header of a packed model file and checks its seal; the data are not touched.
pub(crate) fn read(map: &Mapped) -> Result<Found, Error> {
    check_seal(map)?;
    let file = map.path();
    let fault = |what, found: &str| Error::Packed {
        file: file.to_path_buf(),
        what,
        found: found.to_owned(),
    };
    let mut header = safetensors::read(map)?;
    let mut field = |name: &'static str| {
        let value = header.metadata.remove(name);
        value.ok_or_else(|| fault("its metadata lack a field", name))
    };
    let version = field("version")?;
    if version != VERSION {
        return Err(fault("it is of another version", &version));
    }
    let (precision, fingerprint) = (field("precision")?, field("fingerprint")?);
    let in_metadata = |_: Fault| fault("its metadata are not valid", "");
    let matrices = parse_matrices(&field("matrices")?).map_err(in_metadata)?;
    let mut hashes = parse_hashes(&field("hashes")?).map_err(in_metadata)?;

    let mut stored = BTreeMap::new();
    let mut places = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    let mut tensors = Vec::new();
    let part_of_matrix = |name: &str| {
        let (joined, _) = name.rsplit_once('.')?;
        matrices.get(joined).filter(|matrix| matrix.format != MatrixFormat::F32)
    };
    for t in header.tensors {
        let blocks = hashes.remove(&t.name).unwrap_or_default();
        if blocks.len() != t.bytes.len().div_ceil(BLOCK_BYTES) {
            return Err(fault("a tensor has another number of hashes than blocks", &t.name));
        }
        let hashes = blocks.into_iter().map(|hash| (hash, AtomicBool::new(false))).collect();
        if !t.bytes.is_empty() {
            let blocks = Blocks { name: t.name.clone(), range: t.bytes.clone(), hashes };
            stored.insert(t.bytes.start, blocks);
        }
        if t.name.starts_with(FILES) || part_of_matrix(&t.name).is_some() {
            kinds.insert(t.name.clone(), (t.dtype, t.bytes.len()));
            places.insert(t.name, t.bytes);
        } else {
            let info = TensorInfo { name: t.name, dtype: t.dtype, shape: t.shape, file: 0 };
            tensors.push(Entry { info, place: Place::Bytes(t.bytes) });
        }
    }
    for (joined, matrix) in &matrices {
        let dtype = match matrix.format {
            MatrixFormat::F32 => continue,
            MatrixFormat::Bf16 => Dtype::BF16,
            MatrixFormat::Int8 => Dtype::I8,
        };
        let kind = |suffix: &str| kinds.get(&format!("{joined}.{suffix}")).copied();
        let is = |suffix, dtype, bytes: Option<usize>| match kind(suffix) {
            Some((found, len)) => found == dtype && bytes.is_none_or(|bytes| bytes == len),
            None => false,
        };
        let per_row = matrix.n.checked_mul(4);
        let sound = is("packed", Dtype::U8, None)
            && (matrix.format != MatrixFormat::Int8
                || (is("scales", Dtype::F32, per_row) && is("sums", Dtype::I32, per_row)))
            && (kind("smoothing").is_none()
                || is("smoothing", Dtype::F32, matrix.k.checked_mul(4)))
            && (kind("correction").is_none() || is("correction", Dtype::F32, per_row));
        if !sound {
            return Err(fault("a matrix lacks a part, or has one of another size", joined));
        }
        tensors.extend(joined.split(JOIN).map(|name| Entry {
            info: TensorInfo { name: name.to_owned(), dtype, shape: matrix.shape.clone(), file: 0 },
            place: Place::Packed,
        }));
    }
    let mut names: Vec<&str> = tensors.iter().map(|entry| entry.info.name.as_str()).collect();
    names.sort_unstable();
    if let Some([name, _]) = names.array_windows::<2>().find(|[a, b]| a == b) {
        return Err(fault("a tensor is stored twice", name));
    }
    let info = PackedInfo { version, precision, fingerprint, matrices };
    let sealed = Sealed { info, stored, places, threads: 1 };
    Ok(Found { tensors, sealed, metadata: header.metadata })
}

/// Compares the header with its seal, which stands at a fixed place.
fn check_seal(map: &Mapped) -> Result<(), Error> {
    let not_packed = || Error::Packed {
        file: map.path().to_path_buf(),
        what: "it does not begin as one",
        found: String::new(),
    };
    let bytes = map.bytes();
    let length = bytes.first_chunk::<8>().ok_or_else(not_packed)?;
    let length = u64::from_le_bytes(*length).min(limits::HEADER_BYTES + 1) as usize;
    // A header that is cut or too long is told better by the reader that follows.
    let header = bytes.get(..8 + length).unwrap_or(bytes);
    let digits = 8 + OPENING.len()..8 + OPENING.len() + HASH_DIGITS;
    let opens = header.get(8..digits.start) == Some(OPENING);
    let (Some(seal), true) = (header.get(digits.clone()), opens) else {
        return Err(not_packed());
    };
    if 8 + length > bytes.len() {
        return Ok(());
    }
    let mut hasher = Xxh3::new();
    hasher.update(header.get(..digits.start).unwrap_or_default());
    hasher.update(&[b'0'; HASH_DIGITS]);
    hasher.update(header.get(digits.end..).unwrap_or_default());
    let (found, expected) = (hasher.digest(), hash_of(seal).unwrap_or(0));
    // The digits are compared as text: an upper-case digit is a change too.
    if seal == format!("{found:016x}").as_bytes() {
        return Ok(());
    }
    let file = map.path().to_path_buf();
    Err(Error::Sealed { file, tensor: String::new(), offset: 0, expected, found })
}

fn hash_of(digits: &[u8]) -> Option<u64> {
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn parse_hashes(json: &str) -> Result<BTreeMap<String, Vec<u64>>, Fault> {
    let mut cursor = Cursor::new(json.as_bytes())?;
    cursor.expect(b'{', "expected an object")?;
    let (mut first, mut hashes) = (true, BTreeMap::new());
    while cursor.more(b'}', &mut first)? {
        let name = cursor.key()?.into_owned();
        let digits = cursor.string()?;
        let blocks = digits.as_bytes().chunks(HASH_DIGITS).map(hash_of).collect::<Option<Vec<_>>>();
        let Some(blocks) = blocks else { return cursor.fault("not a hash") };
        hashes.insert(name, blocks);
    }
    cursor.end()?;
    Ok(hashes)
}

fn parse_matrices(json: &str) -> Result<BTreeMap<String, MatrixInfo>, Fault> {
    let mut cursor = Cursor::new(json.as_bytes())?;
    cursor.expect(b'{', "expected an object")?;
    let (mut first, mut matrices) = (true, BTreeMap::new());
    while cursor.more(b'}', &mut first)? {
        let joined = cursor.key()?.into_owned();
        let matrix = parse_matrix(&mut cursor, joined.split(JOIN).count())?;
        matrices.insert(joined, matrix);
    }
    cursor.end()?;
    Ok(matrices)
}

fn parse_matrix(cursor: &mut Cursor<'_>, parts: usize) -> Result<MatrixInfo, Fault> {
    cursor.expect(b'{', "expected an object")?;
    let (mut first, mut format, mut shape) = (true, None, None);
    while cursor.more(b'}', &mut first)? {
        match &*cursor.key()? {
            "format" => format = MatrixFormat::from_name(&cursor.string()?),
            "shape" => {
                let dims = safetensors::parse_numbers(cursor, limits::DIMENSIONS)?;
                shape = dims.iter().map(|&d| usize::try_from(d).ok()).collect::<Option<Vec<_>>>();
            }
            _ => cursor.fault("an unknown field of a matrix")?,
        }
    }
    let sizes = shape.as_ref().and_then(|shape| {
        let (&rows, rest) = shape.split_first()?;
        let k = rest.iter().try_fold(1usize, |k, &d| k.checked_mul(d))?;
        Some((rows.checked_mul(parts)?, k))
    });
    match (format, shape, sizes) {
        (Some(format), Some(shape), Some((n, k))) => Ok(MatrixInfo { format, shape, n, k }),
        _ => cursor.fault("a matrix needs a format and a shape"),
    }
}

impl Sealed {
    /// Compares the blocks that `range` touches, in the tensor that begins at `start`, with their
    /// hashes, unless that was done before. No page of the file stays resident.
    pub(crate) fn verify(
        &self,
        map: &Mapped,
        start: usize,
        range: Range<usize>,
    ) -> Result<(), Error> {
        let Some(blocks) = self.stored.get(&start).filter(|_| !range.is_empty()) else {
            return Ok(());
        };
        let first = (range.start - start) / BLOCK_BYTES;
        let last = (range.end - 1 - start) / BLOCK_BYTES;
        (first..=last).try_for_each(|nth| {
            if blocks.is_verified(nth) {
                return Ok(());
            }
            let found = xxh3_64(&map.piece(blocks.block(nth))?);
            blocks.judge(nth, found, map.path())
        })
    }

    /// The same for a whole tensor that will be used where it lies, on several threads.
    fn verify_in_place(&self, map: &Mapped, start: usize) -> Result<(), Error> {
        let Some(blocks) = self.stored.get(&start) else { return Ok(()) };
        let open = (0..blocks.hashes.len()).filter(|&nth| !blocks.is_verified(nth)).count();
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= blocks.hashes.len() {
                    return Ok(());
                }
                if blocks.is_verified(nth) {
                    continue;
                }
                map.populate(blocks.block(nth));
                let bytes = map.bytes().get(blocks.block(nth)).unwrap_or_default();
                blocks.judge(nth, xxh3_64(bytes), map.path())?;
            }
        };
        if open < 4 || self.threads < 2 {
            return work();
        }
        std::thread::scope(|scope| {
            let others: Vec<_> =
                (1..self.threads.min(open / 2)).map(|_| scope.spawn(work)).collect();
            let mine = work();
            // A thread that panicked has judged nothing, which is no verdict: so it panics here too.
            let theirs = others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            theirs.fold(mine, |all, one| all.and(one))
        })
    }
}

impl Blocks {
    fn block(&self, nth: usize) -> Range<usize> {
        let start = self.range.start + nth * BLOCK_BYTES;
        start..self.range.end.min(start + BLOCK_BYTES)
    }

    fn is_verified(&self, nth: usize) -> bool {
        self.hashes.get(nth).is_some_and(|(_, verified)| verified.load(Ordering::Relaxed))
    }

    fn judge(&self, nth: usize, found: u64, file: &Path) -> Result<(), Error> {
        match self.hashes.get(nth) {
            Some((expected, verified)) if *expected == found => {
                verified.store(true, Ordering::Relaxed);
                Ok(())
            }
            other => Err(Error::Sealed {
                file: file.to_path_buf(),
                tensor: self.name.clone(),
                offset: self.block(nth).start,
                expected: other.map_or(0, |(expected, _)| *expected),
                found,
            }),
        }
    }
}

/// A part of a mapped file that stays where it lies.
#[derive(Clone)]
pub struct Stored {
    map: Arc<Mapped>,
    range: Range<usize>,
}

impl AsRef<[u8]> for Stored {
    fn as_ref(&self) -> &[u8] {
        self.map.bytes().get(self.range.clone()).unwrap_or_default()
    }
}

/// A matrix of a packed model file, verified.
pub struct PackedMatrix {
    /// How it is packed.
    pub format: MatrixFormat,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub k: usize,
    /// The panels, where they lie in the file.
    pub bytes: Stored,
    /// `n` scales for [`MatrixFormat::Int8`], else none.
    pub scales: Vec<f32>,
    /// `n` sums for [`MatrixFormat::Int8`], else none.
    pub sums: Vec<i32>,
    /// `k` factors of the inputs.
    pub smoothing: Option<Vec<f32>>,
    /// `n` values to be added to the products.
    pub correction: Option<Vec<f32>>,
}

impl Checkpoint {
    /// What a packed model file says of itself; `None` for other weights.
    pub fn packed_info(&self) -> Option<&PackedInfo> {
        self.sealed.as_ref().map(|sealed| &sealed.info)
    }

    /// How many threads may verify a matrix; one unless said otherwise.
    pub fn set_threads(&mut self, threads: usize) {
        if let Some(sealed) = &mut self.sealed {
            sealed.threads = threads;
        }
    }

    /// The matrix of these tensors, their names joined with `+`, if the file has it packed. Its blocks
    /// are compared with their hashes the first time.
    ///
    /// # Errors
    /// [`Error::Sealed`] for damage, [`Error::Changed`], [`Error::NotFinite`] for a scale.
    pub fn packed_matrix(&self, joined: &str) -> Result<Option<PackedMatrix>, Error> {
        let (Some(sealed), Some(source)) = (&self.sealed, self.sources.first()) else {
            return Ok(None);
        };
        let Some(matrix) = sealed.info.matrices.get(joined) else { return Ok(None) };
        if matrix.format == MatrixFormat::F32 {
            return Ok(None);
        }
        source.map.unchanged()?;
        let place = |suffix: &str| sealed.places.get(&format!("{joined}.{suffix}")).cloned();
        let words = |suffix: &str| -> Result<Option<Vec<[u8; 4]>>, Error> {
            let Some(range) = place(suffix) else { return Ok(None) };
            sealed.verify(&source.map, range.start, range.clone())?;
            let bytes = source.map.piece(range)?;
            Ok(Some(bytes.as_chunks::<4>().0.to_vec()))
        };
        let floats = |suffix: &str, allowed: fn(f32) -> bool| -> Result<Option<Vec<f32>>, Error> {
            let Some(words) = words(suffix)? else { return Ok(None) };
            let floats: Vec<f32> = words.into_iter().map(f32::from_le_bytes).collect();
            match floats.iter().position(|&float| !float.is_finite() || !allowed(float)) {
                None => Ok(Some(floats)),
                Some(first) => Err(Error::NotFinite {
                    name: format!("{joined}.{suffix}"),
                    file: source.map.path().to_path_buf(),
                    first,
                    count: 1,
                }),
            }
        };
        let range = place("packed").unwrap_or_default();
        sealed.verify_in_place(&source.map, range.start)?;
        Ok(Some(PackedMatrix {
            format: matrix.format,
            n: matrix.n,
            k: matrix.k,
            bytes: Stored { map: Arc::clone(&source.map), range },
            scales: floats("scales", |scale| scale > 0.0)?.unwrap_or_default(),
            sums: words("sums")?.unwrap_or_default().into_iter().map(i32::from_le_bytes).collect(),
            smoothing: floats("smoothing", |factor| factor > 0.0)?,
            correction: floats("correction", |_| true)?,
        }))
    }

    /// Whether a tensor is in a packed matrix, which is handed out whole and not as numbers.
    pub(crate) fn is_packed(&self, name: &str) -> bool {
        self.tensors.get(name).is_some_and(|entry| matches!(entry.place, Place::Packed))
    }

    /// The joined names of the packed matrix that a tensor is in.
    pub(crate) fn packed_with(&self, name: &str) -> Option<String> {
        let entry = self.tensors.get(name)?;
        let sealed = self.sealed.as_ref().filter(|_| matches!(entry.place, Place::Packed))?;
        let has = |joined: &&String| joined.split(JOIN).any(|part| part == name);
        sealed.info.matrices.keys().find(has).cloned()
    }

    /// A small file inside a packed model file; `None` if it has none of this name.
    ///
    /// # Errors
    /// [`Error::Sealed`] for damage, [`Error::Changed`].
    pub fn packed_file(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let (Some(sealed), Some(source)) = (&self.sealed, self.sources.first()) else {
            return Ok(None);
        };
        let Some(range) = sealed.places.get(&format!("{FILES}{name}")) else { return Ok(None) };
        source.map.unchanged()?;
        sealed.verify(&source.map, range.start, range.clone())?;
        Ok(Some(source.map.piece(range.clone())?.into_owned()))
    }

    /// Names of the small files inside a packed model file.
    pub fn packed_files(&self) -> impl Iterator<Item = &str> {
        let places = self.sealed.iter().flat_map(|sealed| sealed.places.keys());
        places.filter_map(|name| name.strip_prefix(FILES))
    }
}
