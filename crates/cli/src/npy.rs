//! Writing numpy's `.npy` files, complete or not at all.
//!
//! # Source
//! NumPy Enhancement Proposal 1, format version 1.0.

use crate::failure::{self, Failure};
use altclip_report::{Code, Report, quote};
use std::io::Write;
use std::path::Path;

/// Writes float32 numbers of this shape.
pub(crate) fn write_f32(
    out: &mut impl Write,
    shape: &[usize],
    numbers: &[f32],
) -> std::io::Result<()> {
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

/// Writes a file under a temporary name beside `path` and renames it when it is complete.
pub(crate) fn write_file(
    path: &Path,
    overwrite: bool,
    write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<(), Failure> {
    if !overwrite && path.symlink_metadata().is_ok() {
        return Err(exists(path));
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let result = std::fs::File::create(&temporary).and_then(|file| {
        let mut file = std::io::BufWriter::new(file);
        write(&mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&temporary, path)
    });
    result.map_err(|error| {
        // It may never have been made.
        let _ = std::fs::remove_file(&temporary);
        cannot_write(path, &error)
    })
}

pub(crate) fn exists(path: &Path) -> Failure {
    Failure::one(
        Report::new(Code::E1003, "output", "the output exists already")
            .place(quote(&path.to_string_lossy()))
            .got("an existing file or folder")
            .expected("a new name")
            .help("choose another name, or remove it first"),
    )
}

pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    let help = "check that the folder exists and may be written";
    let (code, help) = failure::cannot_write(error, help);
    Failure::one(
        Report::new(code, "output", format!("the output cannot be written: {error}"))
            .place(quote(&path.to_string_lossy()))
            .help(help),
    )
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
}
