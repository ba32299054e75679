//! The packed model file: what it says of itself, and its writer.
//!
//! A safetensors file that any reader opens, in an order and with metadata that make a model start at
//! once: matrices as the kernels read them, at multiples of 64 bytes; vectors and tables with the bits
//! of the source; the small files of the folder as tensors `files/…`. Every 1 MiB of a tensor has a
//! hash in the metadata and the header has one of its own, the seal. `docs/formats.md` is the
//! description for others.
//!
//! The header comes first in the file but its hashes are known last, so its room is left free and
//! filled before the file gets its name.

use crate::dtype::Dtype;
use crate::error::Error;
use crate::write::{Temporary, TensorData, TensorToWrite, header, string, wrong_size};
use std::collections::BTreeMap;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The version that this program writes and reads.
pub(crate) const VERSION: &str = "1";
/// What a packed model file begins with, behind the 8 bytes of length; the seal follows.
pub(crate) const OPENING: &[u8] = b"{\"__metadata__\":{\"format\":\"altclip\",\"seal\":\"";
/// Digits of a hash.
pub(crate) const HASH_DIGITS: usize = 16;
/// Bytes that share a hash.
pub(crate) const BLOCK_BYTES: usize = 1 << 20;
/// A multiple of the cache line: where the data begin.
const ALIGNMENT: usize = 64;
/// Between the names of tensors that are one matrix.
pub(crate) const JOIN: char = '+';
/// Before the name of a small file.
pub(crate) const FILES: &str = "files/";

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatrixFormat {
    /// As the tensors that it consists of.
    F32,
    /// Panels of bfloat16.
    Bf16,
    /// Panels of 8-bit integers with scales and sums.
    Int8,
}

impl MatrixFormat {
    /// `f32`, `bf16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            MatrixFormat::F32 => "f32",
            MatrixFormat::Bf16 => "bf16",
            MatrixFormat::Int8 => "int8",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::F32, Self::Bf16, Self::Int8].into_iter().find(|format| format.name() == name)
    }
}

/// A matrix of a packed model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixInfo {
    /// How it is stored.
    pub format: MatrixFormat,
    /// The shape of each tensor that it consists of.
    pub shape: Vec<usize>,
    /// Rows of the matrix.
    pub n: usize,
    /// Columns of the matrix: dimensions behind the first taken together.
    pub k: usize,
}

/// What a packed model file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedInfo {
    /// Version of the format.
    pub version: String,
    /// The precision that was asked for.
    pub precision: String,
    /// What the file was made from.
    pub fingerprint: String,
    /// Each matrix by the names of its tensors, joined with `+`.
    pub matrices: BTreeMap<String, MatrixInfo>,
}

impl PackedInfo {
    /// Matrices of a format, and their part of the multiplications.
    pub fn share(&self, format: MatrixFormat) -> (usize, f64) {
        let work = |m: &MatrixInfo| m.n as f64 * m.k as f64;
        let all: f64 = self.matrices.values().map(work).sum();
        let those = self.matrices.values().filter(|matrix| matrix.format == format);
        let (count, part) = those.fold((0, 0.0), |(n, sum), matrix| (n + 1, sum + work(matrix)));
        (count, if all > 0.0 { part / all } else { 0.0 })
    }
}

/// A packed matrix to write.
pub struct MatrixToWrite<'a> {
    /// The tensors that it consists of.
    pub names: Vec<String>,
    /// The shape of each.
    pub shape: Vec<usize>,
    /// How it is packed; [`MatrixFormat::F32`] has no bytes here, its tensors are written as others.
    pub format: MatrixFormat,
    /// The panels.
    pub bytes: &'a [u8],
    /// One scale a row, for [`MatrixFormat::Int8`].
    pub scales: &'a [f32],
    /// The sum of each row, for [`MatrixFormat::Int8`].
    pub sums: &'a [i32],
    /// Factors of the inputs.
    pub smoothing: Option<&'a [f32]>,
    /// What is to be added to the products, one value a row.
    pub correction: Option<&'a [f32]>,
}

/// All that goes into a packed model file.
pub struct PackedModel<'a> {
    /// The precision asked for.
    pub precision: String,
    /// What it is made from.
    pub fingerprint: String,
    /// Matrices.
    pub matrices: Vec<MatrixToWrite<'a>>,
    /// Vectors and tables.
    pub tensors: Vec<TensorToWrite<'a>>,
    /// Small files by name.
    pub files: Vec<(String, &'a [u8])>,
}

/// Writes a packed model file and gives its length. `progress` is told the bytes written and the
/// bytes in all.
///
/// The file is written beside `path`, brought to the disk and then renamed.
///
/// # Errors
/// As [`crate::write_safetensors`].
pub fn write_packed(
    path: &Path,
    model: PackedModel<'_>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, Error> {
    let sums: Vec<Vec<u8>> = model
        .matrices
        .iter()
        .map(|matrix| matrix.sums.iter().flat_map(|sum| sum.to_le_bytes()).collect())
        .collect();
    let matrices = matrices_json(&model.matrices)?;
    let tensors = in_order(model.matrices, &sums, model.tensors, model.files);
    let about = About { precision: model.precision, fingerprint: model.fingerprint, matrices };
    let sizes = tensors.iter().map(|t| t.dtype.bytes_of(&t.shape).unwrap_or(0));
    let sizes: Vec<usize> = sizes.collect();
    let unknown = sizes.iter().map(|size| vec![0; size.div_ceil(BLOCK_BYTES)]).collect::<Vec<_>>();
    let room = about.header(&tensors, &unknown)?;
    let total = room.len() as u64 + sizes.iter().map(|&size| size as u64).sum::<u64>();

    let fault = |source| Error::Write { path: path.to_path_buf(), source };
    let temporary = Temporary::create(path).map_err(fault)?;
    let names: Vec<TensorToWrite<'_>> = tensors.iter().map(without_data).collect();
    let write = || -> Result<(), Error> {
        let mut out = BufWriter::with_capacity(BLOCK_BYTES, &temporary.file);
        out.write_all(&room).map_err(fault)?;
        let mut hashes = Vec::new();
        let mut done = room.len() as u64;
        for (tensor, &size) in tensors.into_iter().zip(&sizes) {
            let name = tensor.name;
            let mut report = |bytes| progress(done + bytes, total);
            let mut hashed = Hashed::new(&mut out, &mut report);
            tensor.data.write(&mut hashed).map_err(fault)?;
            let (written, blocks) = hashed.finish();
            if written != size as u64 {
                return Err(fault(wrong_size(&name)));
            }
            done += written;
            hashes.push(blocks);
        }
        let mut header = about.header(&names, &hashes)?;
        let digits = 8 + OPENING.len()..8 + OPENING.len() + HASH_DIGITS;
        let seal = format!("{:016x}", xxh3_64(&header));
        header[digits].copy_from_slice(seal.as_bytes());
        out.seek(SeekFrom::Start(0)).map_err(fault)?;
        out.write_all(&header).map_err(fault)?;
        out.flush().map_err(fault)
    };
    write()?;
    temporary.commit(path).map_err(fault)?;
    Ok(total)
}

/// The tensors of the file: panels first, whose sizes are multiples of 64 bytes, then wide types
/// before narrow ones, so that all are aligned.
fn in_order<'a>(
    matrices: Vec<MatrixToWrite<'a>>,
    sums: &'a [Vec<u8>],
    others: Vec<TensorToWrite<'a>>,
    files: Vec<(String, &'a [u8])>,
) -> Vec<TensorToWrite<'a>> {
    let (mut panels, mut rest) = (Vec::new(), others);
    for (matrix, sums) in matrices.into_iter().zip(sums) {
        if matrix.format == MatrixFormat::F32 {
            continue;
        }
        let joined = joined(&matrix.names);
        let tensor = |suffix: &str, dtype, len, data| TensorToWrite {
            name: format!("{joined}.{suffix}"),
            dtype,
            shape: vec![len],
            data,
        };
        let bytes = TensorData::Bytes(matrix.bytes);
        panels.push(tensor("packed", Dtype::U8, matrix.bytes.len(), bytes));
        if matrix.format == MatrixFormat::Int8 {
            let scales = TensorData::F32(matrix.scales);
            rest.push(tensor("scales", Dtype::F32, matrix.scales.len(), scales));
            rest.push(tensor("sums", Dtype::I32, matrix.sums.len(), TensorData::Bytes(sums)));
        }
        for (suffix, values) in [("smoothing", matrix.smoothing), ("correction", matrix.correction)]
        {
            if let Some(values) = values {
                rest.push(tensor(suffix, Dtype::F32, values.len(), TensorData::F32(values)));
            }
        }
    }
    rest.sort_by(|a, b| b.dtype.bits().cmp(&a.dtype.bits()).then_with(|| a.name.cmp(&b.name)));
    panels.extend(rest);
    panels.extend(files.into_iter().map(|(name, bytes)| TensorToWrite {
        name: format!("{FILES}{name}"),
        dtype: Dtype::U8,
        shape: vec![bytes.len()],
        data: TensorData::Bytes(bytes),
    }));
    panels
}

pub(crate) fn joined(names: &[String]) -> String {
    names.join("+")
}

fn without_data<'n>(tensor: &TensorToWrite<'_>) -> TensorToWrite<'n> {
    TensorToWrite {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        data: TensorData::Stream(Box::new(|_| Ok(()))),
    }
}

fn matrices_json(matrices: &[MatrixToWrite<'_>]) -> Result<String, Error> {
    let mut pairs = Vec::new();
    for matrix in matrices {
        if let Some(name) = matrix.names.iter().find(|name| name.contains(JOIN)) {
            return Err(Error::NotWritable { name: name.clone(), what: "has a + in its name" });
        }
        pairs.push(format!(
            "{}:{{\"format\":\"{}\",\"shape\":{:?}}}",
            string(&joined(&matrix.names)),
            matrix.format.name(),
            matrix.shape
        ));
    }
    Ok(format!("{{{}}}", pairs.join(",")))
}

/// The metadata that do not depend on the data.
struct About {
    precision: String,
    fingerprint: String,
    matrices: String,
}

impl About {
    /// The header with a seal of zeros. Its length depends on the tensors only.
    fn header(&self, tensors: &[TensorToWrite<'_>], hashes: &[Vec<u64>]) -> Result<Vec<u8>, Error> {
        let hashes = tensors.iter().zip(hashes).map(|(tensor, hashes)| {
            let digits: String = hashes.iter().map(|hash| format!("{hash:016x}")).collect();
            format!("{}:\"{digits}\"", string(&tensor.name))
        });
        let hashes = format!("{{{}}}", hashes.collect::<Vec<_>>().join(","));
        let metadata = [
            ("format", &"altclip".to_owned()),
            ("seal", &"0".repeat(HASH_DIGITS)),
            ("version", &VERSION.to_owned()),
            ("precision", &self.precision),
            ("fingerprint", &self.fingerprint),
            ("matrices", &self.matrices),
            ("hashes", &hashes),
        ];
        header(tensors, &metadata, ALIGNMENT)
    }
}

/// Hashes what goes through it, block by block.
struct Hashed<'a, W> {
    out: &'a mut W,
    progress: &'a mut dyn FnMut(u64),
    hasher: Xxh3,
    in_block: usize,
    written: u64,
    blocks: Vec<u64>,
}

impl<'a, W: Write> Hashed<'a, W> {
    fn new(out: &'a mut W, progress: &'a mut dyn FnMut(u64)) -> Self {
        Self { out, progress, hasher: Xxh3::new(), in_block: 0, written: 0, blocks: Vec::new() }
    }

    fn close_block(&mut self) {
        self.blocks.push(self.hasher.digest());
        self.hasher.reset();
        self.in_block = 0;
        (self.progress)(self.written);
    }

    fn finish(mut self) -> (u64, Vec<u64>) {
        if self.in_block > 0 {
            self.close_block();
        }
        (self.written, self.blocks)
    }
}

impl<W: Write> Write for Hashed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(BLOCK_BYTES - self.in_block)];
        let n = self.out.write(bytes)?;
        self.hasher.update(&bytes[..n]);
        self.written += n as u64;
        self.in_block += n;
        if self.in_block == BLOCK_BYTES {
            self.close_block();
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
