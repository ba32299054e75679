//! Texts, pictures and numbers of Python, copied while the interpreter is held.

use crate::error::Fault;
use altclip::Picture;
use altclip::image::Rgb;
use altclip::tokenizer::{MAX_TEXT_BYTES, check_size};
use altclip_report::{Code, Diagnose as _, Report};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyString, PyTuple};
use std::path::PathBuf;

/// The texts of a list.
pub(crate) fn texts(list: &Bound<'_, PyList>) -> Result<Vec<String>, Fault> {
    list.iter().enumerate().map(|(n, item)| text(n, &item)).collect()
}

fn text(n: usize, item: &Bound<'_, PyAny>) -> Result<String, Fault> {
    let Ok(item) = item.cast::<PyString>() else {
        return Err(not_accepted(n, item, "texts", "str"));
    };
    let Ok(text) = item.to_cow() else {
        return Err(Fault::one(
            Report::new(Code::E3101, "text", "the text is not valid Unicode")
                .place(format!("text {n}"))
                .got("a lone surrogate")
                .expected("text that UTF-8 can have")
                .help("clean it: text.encode('utf-8', 'replace').decode('utf-8')"),
        ));
    };
    let checked = check_size(&text, MAX_TEXT_BYTES);
    checked.map_err(|error| Fault::one(error.report().place(format!("text {n}"))))?;
    Ok(text.into_owned())
}

/// The pictures of a list: `str` is a path, `bytes` a file's contents, `(width, height, bytes)` RGB.
pub(crate) fn pictures(list: &Bound<'_, PyList>) -> Result<Vec<Picture>, Fault> {
    list.iter().enumerate().map(|(n, item)| picture(n, &item)).collect()
}

fn picture(n: usize, item: &Bound<'_, PyAny>) -> Result<Picture, Fault> {
    if let Ok(path) = item.cast::<PyString>() {
        return Ok(Picture::File(path.extract::<PathBuf>().map_err(Fault::Python)?));
    }
    if let Ok(bytes) = item.cast::<PyBytes>() {
        return Ok(Picture::Bytes(bytes.as_bytes().to_vec()));
    }
    let pixels = item.cast::<PyTuple>().ok().and_then(|tuple| {
        let (width, height, data) = tuple.extract::<(u32, u32, Bound<'_, PyBytes>)>().ok()?;
        Some(Rgb::from_raw(width, height, data.as_bytes().to_vec()))
    });
    match pixels {
        Some(pixels) => {
            let at = |error: altclip::image::Error| error.report().place(format!("image {n}"));
            Ok(Picture::Rgb(pixels.map_err(|error| Fault::one(at(error)))?))
        }
        None => Err(not_accepted(n, item, "images", "a path, bytes, a PIL image or a numpy array")),
    }
}

fn not_accepted(
    n: usize,
    item: &Bound<'_, PyAny>,
    what: &'static str,
    expected: &'static str,
) -> Fault {
    let found = item.get_type().name().map_or_else(|_| "an object".into(), |name| name.to_string());
    Fault::one(
        Report::new(Code::E1101, "python", "an argument is of a type that is not accepted")
            .place(format!("{what}[{n}]"))
            .got(found)
            .expected(expected)
            .help("convert it first"),
    )
}

/// Little-endian numbers of single precision.
pub(crate) fn floats(bytes: &Bound<'_, PyBytes>) -> Vec<f32> {
    bytes.as_bytes().as_chunks().0.iter().map(|&four| f32::from_le_bytes(four)).collect()
}

/// Token ids of several texts, one after the other: little-endian, 32 bits.
pub(crate) fn ids(bytes: &Bound<'_, PyBytes>) -> Vec<u32> {
    bytes.as_bytes().as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)).collect()
}

/// Numbers as bytes that numpy takes without a copy.
pub(crate) fn bytes<'py>(py: Python<'py>, numbers: &[f32]) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, size_of_val(numbers), |out| {
        for (four, number) in out.as_chunks_mut().0.iter_mut().zip(numbers) {
            *four = number.to_le_bytes();
        }
        Ok(())
    })
}

/// Ids as bytes, as [`bytes`].
pub(crate) fn id_bytes<'py>(py: Python<'py>, ids: &[u32]) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, size_of_val(ids), |out| {
        for (four, id) in out.as_chunks_mut().0.iter_mut().zip(ids) {
            *four = id.to_le_bytes();
        }
        Ok(())
    })
}
