//! numpy's `.npy` files: embeddings and indices to and from other programs.
//!
//! Read are arrays of floats and whole numbers in C order, little-endian, of format versions 1 to 3. An
//! array of Python objects is refused as every other kind: nothing in a file is ever executed.
//!
//! # Source
//! NumPy Enhancement Proposal 1, and the module `numpy.lib.format`.

use crate::{Error, Result};
use half::f16;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"\x93NUMPY";
/// Longest header: what numpy itself writes for plain arrays is 118 bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Bytes that are read at once, a multiple of every size of a number.
const CHUNK_BYTES: usize = 1 << 20;
const KINDS: &str = "floats (<f2, <f4, <f8) or whole numbers (<i1 to <i8, <u1 to <u8)";

/// The array of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    path: PathBuf,
    shape: Vec<usize>,
    numbers: Numbers,
}

/// The numbers of an array, row-major.
#[derive(Clone, Debug, PartialEq)]
enum Numbers {
    /// float16, float32 or float64, as float32.
    Floats(Vec<f32>),
    /// Signed or unsigned; what is above the largest `i64` is that.
    Whole(Vec<i64>),
}

impl Array {
    /// Length of each dimension.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The numbers of a matrix of floats, row-major, and the length of a row.
    ///
    /// # Errors
    /// [`Error::Array`] for another shape or whole numbers.
    pub fn into_matrix(self) -> Result<(Vec<f32>, usize)> {
        let found = self.description();
        match (self.numbers, self.shape.as_slice()) {
            (Numbers::Floats(numbers), &[_, width]) => Ok((numbers, width)),
            _ => Err(unfit(&self.path, "the array is no matrix of floats", found, "floats [N, E]")),
        }
    }

    /// The numbers of a list of whole numbers.
    ///
    /// # Errors
    /// [`Error::Array`] for another shape or floats.
    pub fn into_list(self) -> Result<Vec<i64>> {
        let found = self.description();
        match (self.numbers, self.shape.len()) {
            (Numbers::Whole(numbers), 1) => Ok(numbers),
            _ => {
                let what = "the array is no list of whole numbers";
                Err(unfit(&self.path, what, found, "whole numbers [N]"))
            }
        }
    }

    fn description(&self) -> String {
        let kind = match self.numbers {
            Numbers::Floats(_) => "floats",
            Numbers::Whole(_) => "whole numbers",
        };
        format!("{kind} {:?}", self.shape)
    }
}

/// Reads the array of a file.
///
/// # Errors
/// [`Error::ArrayFile`] where it cannot be read, [`Error::Array`] where it is no such array or is longer
/// or shorter than its header says, [`Error::ArrayMemory`]. No memory is asked for that the file does not
/// fill.
pub fn read(path: &Path) -> Result<Array> {
    let io = |source| Error::ArrayFile { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if !metadata.is_file() {
        return Err(io(std::io::Error::other("it is not a regular file")));
    }
    let mut file = File::open(path).map_err(io)?;
    read_from(path, &mut file, metadata.len())
}

fn read_from(path: &Path, file: &mut dyn Read, file_bytes: u64) -> Result<Array> {
    let io = |source| Error::ArrayFile { path: path.to_owned(), source };
    let not_npy = |got: String| unfit(path, "the file is no .npy file", got, "a header of numpy");
    let mut start = Vec::new();
    (&mut *file).take(8).read_to_end(&mut start).map_err(io)?;
    let (Some(MAGIC), Some(&version)) = (start.get(..6), start.get(6)) else {
        return Err(not_npy("another start".into()));
    };
    let length_bytes = match version {
        1 => 2,
        2 | 3 => 4,
        _ => return Err(not_npy(format!("format version {version}"))),
    };
    let mut length = [0; 4];
    let ended = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => not_npy("an end inside the header".into()),
        _ => io(error),
    };
    file.read_exact(&mut length[..length_bytes]).map_err(ended)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_HEADER_BYTES {
        return Err(not_npy(format!("a header of {length} bytes")));
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(ended)?;
    let header = Header::parse(&header)
        .ok_or_else(|| not_npy("a header that numpy does not write".into()))?;
    if header.fortran_order {
        return Err(unfit(
            path,
            "the array is in Fortran order",
            "columns".into(),
            "rows, one after the other",
        ));
    }
    let Some(kind) = Kind::named(&header.descr) else {
        let got = altclip_report::quote(&header.descr);
        return Err(unfit(path, "the array holds other things than it may", got, KINDS));
    };
    let data_start = (8 + length_bytes + length) as u64;
    let bytes = header.shape.iter().try_fold(kind.bytes(), |bytes, &dim| bytes.checked_mul(dim));
    let expected = bytes.and_then(|bytes| data_start.checked_add(bytes as u64));
    if expected != Some(file_bytes) {
        let got = format!("{file_bytes} bytes for {} {:?}", header.descr, header.shape);
        return Err(unfit(
            path,
            "the file is longer or shorter than its header says",
            got,
            "what the shape needs",
        ));
    }
    let numbers = kind.read(path, file, bytes.unwrap_or(0))?;
    Ok(Array { path: path.to_owned(), shape: header.shape, numbers })
}

/// A kind of number, by its letter and size.
#[derive(Clone, Copy)]
struct Kind {
    letter: u8,
    size: usize,
}

impl Kind {
    fn named(descr: &str) -> Option<Self> {
        match *descr.as_bytes() {
            [b'<' | b'|' | b'=', letter @ (b'i' | b'u'), b'1'] => Some(Self { letter, size: 1 }),
            [b'<', letter @ (b'i' | b'u' | b'f'), digit @ (b'2' | b'4' | b'8')] => {
                Some(Self { letter, size: usize::from(digit - b'0') })
            }
            _ => None,
        }
    }

    fn bytes(self) -> usize {
        self.size
    }

    fn read(self, path: &Path, file: &mut dyn Read, bytes: usize) -> Result<Numbers> {
        fn le<const N: usize>(bytes: &[u8]) -> [u8; N] {
            let mut out = [0; N];
            out.copy_from_slice(bytes);
            out
        }
        let len = bytes / self.size;
        let numbers = match (self.letter, self.size) {
            (b'f', 2) => Numbers::Floats(each(path, file, self.size, len, |b| {
                f16::from_le_bytes(le(b)).to_f32()
            })?),
            (b'f', 4) => {
                Numbers::Floats(each(path, file, self.size, len, |b| f32::from_le_bytes(le(b)))?)
            }
            (b'f', _) => Numbers::Floats(each(path, file, self.size, len, |b| {
                f64::from_le_bytes(le(b)) as f32
            })?),
            (b'i', size) => Numbers::Whole(each(path, file, size, len, |b| match size {
                1 => i8::from_le_bytes(le(b)).into(),
                2 => i16::from_le_bytes(le(b)).into(),
                4 => i32::from_le_bytes(le(b)).into(),
                _ => i64::from_le_bytes(le(b)),
            })?),
            (_, size) => Numbers::Whole(each(path, file, size, len, |b| match size {
                1 => u8::from_le_bytes(le(b)).into(),
                2 => u16::from_le_bytes(le(b)).into(),
                4 => u32::from_le_bytes(le(b)).into(),
                _ => u64::from_le_bytes(le(b)).try_into().unwrap_or(i64::MAX),
            })?),
        };
        Ok(numbers)
    }
}

/// `len` numbers of `size` bytes each.
fn each<T>(
    path: &Path,
    file: &mut dyn Read,
    size: usize,
    len: usize,
    number: impl Fn(&[u8]) -> T,
) -> Result<Vec<T>> {
    let mut numbers = Vec::new();
    let memory =
        |_| Error::ArrayMemory { path: path.to_owned(), bytes: len.saturating_mul(size_of::<T>()) };
    numbers.try_reserve_exact(len).map_err(memory)?;
    let mut chunk = vec![0; CHUNK_BYTES.min(len * size)];
    while numbers.len() < len {
        let chunk = &mut chunk[..CHUNK_BYTES.min((len - numbers.len()) * size)];
        let io = |source| Error::ArrayFile { path: path.to_owned(), source };
        file.read_exact(chunk).map_err(io)?;
        numbers.extend(chunk.chunks_exact(size).map(&number));
    }
    Ok(numbers)
}

/// The Python dictionary at the head of a file.
#[derive(Debug, PartialEq)]
struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    /// Reads the one form that numpy writes: three keys, a string, a truth value and a tuple.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut text = Text(std::str::from_utf8(bytes).ok()?);
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        text.token("{")?;
        while text.token("}").is_none() {
            let key = text.string()?;
            text.token(":")?;
            let is_new = match key {
                "descr" => descr.replace(text.string()?.to_owned()).is_none(),
                "fortran_order" => fortran_order.replace(text.truth()?).is_none(),
                "shape" => shape.replace(text.tuple()?).is_none(),
                _ => false,
            };
            // After a value comes a comma, or the end with or without one.
            if !is_new || (text.token(",").is_none() && !text.0.trim_start().starts_with('}')) {
                return None;
            }
        }
        let (descr, fortran_order, shape) = (descr?, fortran_order?, shape?);
        text.0.trim().is_empty().then_some(Self { descr, fortran_order, shape })
    }
}

/// What is left of a header.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    fn token(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
        let (string, rest) = text[1..].split_once(quote)?;
        self.0 = rest;
        Some(string)
    }

    fn truth(&mut self) -> Option<bool> {
        match self.token("True") {
            Some(()) => Some(true),
            None => self.token("False").map(|()| false),
        }
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        self.token("(")?;
        let mut numbers = Vec::new();
        while self.token(")").is_none() {
            let text = self.0.trim_start();
            let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            numbers.push(text[..digits].parse().ok()?);
            self.0 = &text[digits..];
            if self.token(",").is_none() && !self.0.trim_start().starts_with(')') {
                return None;
            }
        }
        Some(numbers)
    }
}

fn unfit(path: &Path, what: &'static str, got: String, expected: &'static str) -> Error {
    Error::Array { path: path.to_owned(), what, got, expected }
}

/// Writes float32 numbers of this shape, in format version 1.
///
/// # Errors
/// Those of `out`.
pub fn write_f32(out: &mut impl Write, shape: &[usize], numbers: &[f32]) -> std::io::Result<()> {
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let dims = if shape.len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({dims}), }}");
    // The data begin at a multiple of 64 bytes, behind 10 bytes of magic and length and a newline.
    let padding = 63 - (10 + header.len()) % 64;
    header.extend(std::iter::repeat_n(' ', padding));
    header.push('\n');
    out.write_all(b"\x93NUMPY\x01\x00")?;
    out.write_all(&(header.len() as u16).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    numbers.iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_numpys() {
        for shape in [&[3usize, 2][..], &[6], &[1, 2, 3]] {
            let mut bytes = Vec::new();
            write_f32(&mut bytes, shape, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
            let data = bytes.len() - 24;
            assert_eq!(data % 64, 0);
            assert_eq!(bytes[data - 1], b'\n');
            assert_eq!(bytes[data + 4..data + 8], 1.0f32.to_le_bytes());
        }
        let mut bytes = Vec::new();
        write_f32(&mut bytes, &[6], &[0.0; 6]).unwrap();
        assert!(String::from_utf8_lossy(&bytes).contains("'shape': (6,), }"));
    }

    fn parse(bytes: &[u8]) -> Result<Array> {
        read_from(Path::new("a.npy"), &mut &bytes[..], bytes.len() as u64)
    }

    /// A file with this header and data, as format version 1 has it.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [b"\x93NUMPY\x01\0", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data]
            .concat()
    }

    fn header(descr: &str, shape: &str) -> String {
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n")
    }

    #[test]
    fn what_is_written_is_read() {
        for shape in [&[3usize, 2][..], &[6], &[1, 2, 3]] {
            let mut bytes = Vec::new();
            write_f32(&mut bytes, shape, &[0.0, 1.0, 2.0, 3.0, 4.0, 5.5]).unwrap();
            let array = parse(&bytes).unwrap();
            assert_eq!(array.shape(), shape);
            assert_eq!(array.numbers, Numbers::Floats(vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.5]));
            assert_eq!(array.into_matrix().is_ok(), shape.len() == 2);
            // Any end before the last byte is seen, and any byte too many.
            for end in 0..bytes.len() {
                assert!(matches!(parse(&bytes[..end]), Err(Error::Array { .. })), "{end}");
            }
            bytes.push(0);
            assert!(matches!(parse(&bytes), Err(Error::Array { .. })));
        }
    }

    #[test]
    fn every_kind_of_number() {
        let whole: [(&str, Vec<u8>, i64); 8] = [
            ("|i1", (-3i8).to_le_bytes().into(), -3),
            ("|u1", 200u8.to_le_bytes().into(), 200),
            ("<i2", (-300i16).to_le_bytes().into(), -300),
            ("<u2", 60_000u16.to_le_bytes().into(), 60_000),
            ("<i4", (-70_000i32).to_le_bytes().into(), -70_000),
            ("<u4", u32::MAX.to_le_bytes().into(), u32::MAX.into()),
            ("<i8", i64::MIN.to_le_bytes().into(), i64::MIN),
            ("<u8", u64::MAX.to_le_bytes().into(), i64::MAX),
        ];
        for (descr, data, expected) in whole {
            let array = parse(&file(&header(descr, "(1,)"), &data)).unwrap();
            assert!(array.clone().into_matrix().is_err());
            assert_eq!(array.into_list().unwrap(), [expected], "{descr}");
        }
        let floats: [(&str, Vec<u8>); 3] = [
            ("<f2", f16::from_f32(-0.25).to_le_bytes().into()),
            ("<f4", (-0.25f32).to_le_bytes().into()),
            ("<f8", (-0.25f64).to_le_bytes().into()),
        ];
        for (descr, data) in floats {
            let array = parse(&file(&header(descr, "(1, 1)"), &data)).unwrap();
            assert!(array.clone().into_list().is_err());
            assert_eq!(array.into_matrix().unwrap(), (vec![-0.25], 1), "{descr}");
        }
        // Versions 2 and 3 have a longer length.
        let header = header("<f4", "(1,)");
        for version in [2, 3] {
            let length = (header.len() as u32).to_le_bytes();
            let start = [b'\x93', b'N', b'U', b'M', b'P', b'Y', version, 0];
            let bytes = [&start, &length[..], header.as_bytes(), &[0; 4]].concat();
            assert_eq!(parse(&bytes).unwrap().shape(), [1]);
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        let data = [0; 4];
        let good = header("<f4", "(1,)");
        assert!(parse(&file(&good, &data)).is_ok());
        let huge = header("<f4", "(4611686018427387904, 4)");
        let bad = [
            header("|O", "(1,)"),
            header(">f4", "(1,)"),
            header("<f3", "(1,)"),
            header("<c8", "(1,)"),
            header("<U1", "(1,)"),
            header("<f4", "(2,)"),
            header("<f4", "(-1,)"),
            header("<f4", "(1"),
            header("<f4", "(1 1)"),
            header("<f4", "(99999999999999999999,)"),
            header("<f4", "[1]"),
            header("<f4', 'shape': (1,), 'x", "(1,)"),
            header("<f4", "(1,), 'shape': (1,)"),
            good.replace("False", "True"),
            good.replace("False", "0"),
            good.replace("'descr': '<f4', ", ""),
            good.replace("'<f4'", "[('a', '<f4')]"),
            good.replace("}", "} + evil()"),
            good.replace("'descr'", "descr"),
            good.replace(", }", ""),
            huge,
            String::new(),
            "{".into(),
            "{'".into(),
            "\u{1f600}".into(),
        ];
        for header in bad {
            assert!(matches!(parse(&file(&header, &data)), Err(Error::Array { .. })), "{header}");
        }
        let long = [&b"\x93NUMPY\x02\0"[..], &u32::MAX.to_le_bytes()].concat();
        assert!(matches!(parse(&long), Err(Error::Array { .. })));
        let version = [&b"\x93NUMPY\x04\0"[..], &[0; 60]].concat();
        assert!(matches!(parse(&version), Err(Error::Array { .. })));
    }
}
