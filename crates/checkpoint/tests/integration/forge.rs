//! Builders of weight files, good and bad: a safetensors writer that obeys, a small pickle
//! assembler, and a zip writer whose lies are patched in afterwards.

use altclip_checkpoint::{Checkpoint, Error};
use altclip_report::{Code, Diagnose};
use std::io::Write;

/// A file of this JSON header and this data.
pub(crate) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend_from_slice(data);
    file
}

/// A pickle, opcode by opcode.
#[derive(Clone, Default)]
pub(crate) struct Asm(pub(crate) Vec<u8>);

impl Asm {
    pub(crate) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        let len = u32::try_from(text.len()).unwrap();
        self.raw(b"X").raw(&len.to_le_bytes()).raw(text.as_bytes())
    }

    /// A number as LONG1 with 8 bytes.
    pub(crate) fn int(self, n: i64) -> Self {
        self.raw(b"\x8a\x08").raw(&n.to_le_bytes())
    }

    pub(crate) fn ints(self, numbers: &[i64]) -> Self {
        numbers.iter().fold(self.raw(b"("), |asm, &n| asm.int(n)).raw(b"t")
    }

    /// A storage by its persistent id.
    pub(crate) fn storage(self, class: &str, key: &str, len: i64) -> Self {
        let asm = self.raw(b"(").text("storage").global("torch", class).text(key).text("cpu");
        asm.int(len).raw(b"tQ")
    }

    /// A tensor, as `_rebuild_tensor_v2` describes it.
    pub(crate) fn tensor(self, t: &View<'_>) -> Self {
        let asm = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(");
        let asm = asm.storage(t.class, t.key, t.len).int(t.offset).ints(t.size).ints(t.stride);
        asm.raw(b"\x89").global("collections", "OrderedDict").raw(b")RtR")
    }

    pub(crate) fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// A view of a storage.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) class: &'a str,
    pub(crate) key: &'a str,
    pub(crate) len: i64,
    pub(crate) offset: i64,
    pub(crate) size: &'a [i64],
    pub(crate) stride: &'a [i64],
}

/// The storage `0` of six floats as a [2, 3] tensor.
pub(crate) const PLAIN: View<'static> =
    View { class: "FloatStorage", key: "0", len: 6, offset: 0, size: &[2, 3], stride: &[3, 1] };

/// The data of [`PLAIN`].
pub(crate) fn six_floats() -> Vec<u8> {
    [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0].iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// A state dict of these tensors.
pub(crate) fn state_dict(tensors: &[(&str, View<'_>)]) -> Vec<u8> {
    let dict = Asm::new().raw(b"}(");
    tensors.iter().fold(dict, |asm, (name, view)| asm.text(name).tensor(view)).raw(b"u").stop()
}

/// An archive and where its parts are.
#[derive(Clone)]
pub(crate) struct Zip {
    pub(crate) bytes: Vec<u8>,
    pub(crate) locals: Vec<usize>,
    pub(crate) centrals: Vec<usize>,
    /// Where the end record is; the zip64 records stand 76 bytes before it when there are any.
    pub(crate) end: usize,
}

impl Zip {
    /// Overwrites bytes at a place.
    pub(crate) fn patch(mut self, at: usize, bytes: &[u8]) -> Self {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }
}

/// A zip archive of stored entries, as PyTorch writes it.
pub(crate) fn zip(entries: &[(&str, &[u8])], wide: bool) -> Zip {
    let (mut bytes, mut locals, mut centrals, mut directory) = (vec![], vec![], vec![], vec![]);
    for (name, data) in entries {
        let crc = crc32fast::hash(data).to_le_bytes();
        let (len, at) = (data.len() as u32, bytes.len() as u32);
        let name_len = (name.len() as u16).to_le_bytes();
        locals.push(bytes.len());
        bytes.extend_from_slice(b"PK\x03\x04\0\0\0\x08\0\0\0\0\0\0");
        bytes.extend_from_slice(&crc);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(&name_len);
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(data);
        centrals.push(directory.len());
        directory.extend_from_slice(b"PK\x01\x02\0\0\0\0\0\x08\0\0\0\0\0\0");
        directory.extend_from_slice(&crc);
        directory.extend_from_slice(&len.to_le_bytes());
        directory.extend_from_slice(&len.to_le_bytes());
        directory.extend_from_slice(&name_len);
        directory.extend_from_slice(&[0; 12]);
        directory.extend_from_slice(&at.to_le_bytes());
        directory.extend_from_slice(name.as_bytes());
    }
    let (start, count) = (bytes.len(), entries.len() as u16);
    let centrals = centrals.into_iter().map(|at: usize| at + start).collect();
    bytes.extend_from_slice(&directory);
    if wide {
        let at = bytes.len() as u64;
        bytes.extend_from_slice(b"PK\x06\x06");
        bytes.extend_from_slice(&44u64.to_le_bytes());
        bytes.extend_from_slice(&[0; 12]);
        for n in [u64::from(count), u64::from(count), directory.len() as u64, start as u64] {
            bytes.extend_from_slice(&n.to_le_bytes());
        }
        bytes.extend_from_slice(b"PK\x06\x07\0\0\0\0");
        bytes.extend_from_slice(&at.to_le_bytes());
        bytes.extend_from_slice(&1u32.to_le_bytes());
    }
    let end = bytes.len();
    bytes.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&(directory.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&(start as u32).to_le_bytes());
    bytes.extend_from_slice(&[0, 0]);
    Zip { bytes, locals, centrals, end }
}

/// An archive of this pickle and the storage `0` of six floats.
pub(crate) fn torch_zip(pickle: &[u8]) -> Zip {
    let entries = [
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &six_floats()),
        ("archive/version", b"3\n"),
    ];
    zip(&entries, true)
}

/// Writes bytes to a new temporary file.
pub(crate) fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.flush().unwrap();
    file
}

/// Opens a file of these bytes and reads every tensor that can be read.
pub(crate) fn load(bytes: &[u8]) -> Result<Vec<(String, Vec<f32>)>, Error> {
    let file = file_of(bytes);
    let checkpoint = Checkpoint::open_file(file.path())?;
    let mut tensors = Vec::new();
    for name in checkpoint.names() {
        if checkpoint.get(name).is_some_and(|info| info.dtype.is_readable()) {
            tensors.push((name.to_owned(), checkpoint.read_f32(name)?));
        } else {
            checkpoint.scan_non_finite(name)?;
        }
    }
    Ok(tensors)
}

/// Asserts the code of the refusal, its form, and the memory it took; gives the printed line.
pub(crate) fn assert_refused(label: &str, bytes: &[u8], code: Code) -> String {
    const LIMIT: usize = 16 << 20;
    let (result, peak) = crate::alloc::peak_of(|| load(bytes));
    let error = match result {
        Ok(tensors) => panic!("{label}: accepted with {} tensors", tensors.len()),
        Err(error) => error,
    };
    let report = error.report();
    assert_eq!(report.code, code, "{label}: {report}");
    assert!(peak <= LIMIT, "{label}: {peak} bytes");
    let line = report.to_string();
    assert!(!line.chars().any(char::is_control) && line.contains("help:"), "{label}: {line}");
    line
}
