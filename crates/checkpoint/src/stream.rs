//! A safetensors file of f32 tensors that is read once, from its start to its end.

use crate::dtype::Dtype;
use crate::error::Error;
use crate::safetensors::{LENGTH_BYTES, header_bytes, parse};
use std::io::Read;
use std::path::Path;

/// Values converted at a time.
const BLOCK_VALUES: usize = 16 << 10;

/// Reads the f32 tensors of a file of `bytes` bytes in the order of their data and hands each to
/// `take` with its name and shape. `path` is for messages only.
///
/// Memory for a tensor is asked for only after the header was checked against the file's length.
///
/// # Errors
/// Those of an opened safetensors file, [`Error::DtypeUnsupported`] for another element type than
/// F32, [`Error::Io`] for what `file` says.
pub fn read_safetensors_f32(
    path: &Path,
    bytes: u64,
    file: &mut dyn Read,
    mut take: impl FnMut(String, Vec<usize>, Vec<f32>),
) -> Result<(), Error> {
    let fault = |source| Error::Io { path: path.to_path_buf(), source };
    let mut first = [0; LENGTH_BYTES];
    let whole = bytes >= LENGTH_BYTES as u64;
    if whole {
        file.read_exact(&mut first).map_err(fault)?;
    }
    let length = header_bytes(path, whole.then_some(&first), bytes)?;
    let mut json = vec![0; length];
    file.read_exact(&mut json).map_err(fault)?;
    let header =
        parse(path, &json, LENGTH_BYTES + length, usize::try_from(bytes).unwrap_or(usize::MAX))?;
    let mut block = vec![0; 4 * BLOCK_VALUES];
    for tensor in header.tensors {
        if tensor.dtype != Dtype::F32 {
            return Err(Error::DtypeUnsupported {
                file: path.to_path_buf(),
                tensor: tensor.name,
                dtype: tensor.dtype.as_str().to_owned(),
            });
        }
        let mut left = tensor.bytes.len() / 4;
        let mut values = Vec::new();
        let memory = |_| Error::Memory { name: tensor.name.clone(), bytes: tensor.bytes.len() };
        values.try_reserve_exact(left).map_err(memory)?;
        while left > 0 {
            let n = left.min(BLOCK_VALUES);
            let piece = &mut block[..4 * n];
            file.read_exact(piece).map_err(fault)?;
            values.extend(piece.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
            left -= n;
        }
        take(tensor.name, tensor.shape, values);
    }
    Ok(())
}
