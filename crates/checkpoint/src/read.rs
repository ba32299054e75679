//! The values of tensors as f32: whole, by rows, or only looked at.
//!
//! Values are copied out of the mapped file in chunks whose pages are given back, so packing a
//! model never holds a tensor twice.

use crate::checkpoint::{Checkpoint, Entry, Place};
use crate::convert::to_f32;
use crate::error::Error;
use crate::zip;
use std::ops::Range;
use std::sync::atomic::Ordering;

/// Bytes that are read before their pages are given back.
const CHUNK_BYTES: usize = 4 << 20;
/// Reads of rows up to this length leave no page resident: they are scattered over a large table.
const PIECE_BYTES: usize = 1 << 20;

/// The values of a tensor that are NaN or infinite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonFinite {
    /// Row-major index of the first.
    pub first: usize,
    /// How many there are.
    pub count: usize,
}

impl Checkpoint {
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

    /// Rows `rows` of the first dimension as f32 into `out`; a scalar is one row. No page of the
    /// file stays resident, so that a word table costs no more than the rows that are used.
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
        self.fill(entry, rows, out, PIECE_BYTES)
    }

    /// Gives the memory pages of a tensor back; they are read again when next used.
    pub fn release(&self, name: &str) {
        let Some(entry) = self.tensors.get(name) else { return };
        let Some(source) = self.sources.get(entry.info.file) else { return };
        match &entry.place {
            Place::Bytes(range) | Place::Turned(range, _) => source.map.release(range.clone()),
            Place::View(view) => {
                if let Some((record, _)) = source.records.get(view.record)
                    && let Ok(range) = zip::locate(source.map.bytes(), record)
                {
                    source.map.release(range);
                }
            }
            // Its pages are used where they lie.
            Place::Packed => {}
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
        if let Some(joined) = self.packed_with(name) {
            // Read for its hashes; a packed value has no form that is not finite.
            self.packed_matrix(&joined)?;
            return Ok(None);
        }
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

    /// Writes the bytes of a tensor as they are stored, row-major, to `out`. Returns what went wrong
    /// with the file; what went wrong with `out` is inside.
    ///
    /// # Errors
    /// As [`Checkpoint::scan_non_finite`].
    pub fn copy_bytes(
        &self,
        name: &str,
        out: &mut dyn std::io::Write,
    ) -> Result<std::io::Result<()>, Error> {
        let entry = self.entry(name)?;
        self.verify(entry)?;
        let mut result = Ok(());
        self.for_chunks(entry, 0..entry.rows(), 0, &mut |_, bytes| {
            if result.is_ok() {
                result = out.write_all(bytes);
            }
        })?;
        self.release(name);
        Ok(result)
    }

    fn entry(&self, name: &str) -> Result<&Entry, Error> {
        let missing = || Error::TensorMissing { name: name.to_owned(), nearest: None };
        self.tensors.get(name).ok_or_else(missing)
    }

    fn readable(&self, name: &str) -> Result<&Entry, Error> {
        let entry = self.entry(name)?;
        if entry.info.dtype.is_readable() && !matches!(entry.place, Place::Packed) {
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
        piece_bytes: usize,
    ) -> Result<(), Error> {
        let first = rows.start * entry.row_len();
        let mut bad = Tally::default();
        self.for_chunks(entry, rows, piece_bytes, &mut |start, bytes| {
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
    /// in row-major order. The pages of each chunk are given back; up to `piece_bytes` in all are read
    /// past the mapping.
    fn for_chunks(
        &self,
        entry: &Entry,
        rows: Range<usize>,
        piece_bytes: usize,
        f: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Error> {
        let Some(source) = self.sources.get(entry.info.file) else { return Ok(()) };
        source.map.unchanged()?;
        let width = entry.info.dtype.width();
        let row_len = entry.row_len();
        let (start, strides) = match &entry.place {
            Place::Bytes(range) => (range.start, None),
            Place::Turned(range, strides) => (range.start, Some(strides)),
            Place::View(view) => {
                let Some((record, _)) = source.records.get(view.record) else { return Ok(()) };
                let range = zip::locate(source.map.bytes(), record)
                    .map_err(|what| zip::zip_fault(source.map.path(), what, &entry.info.name))?;
                let strided = !is_row_major(&entry.info.shape, &view.strides);
                (range.start + view.offset * width, strided.then_some(&view.strides))
            }
            Place::Packed => return Ok(()),
        };
        let bytes = source.map.bytes();
        if let Some(strides) = strides {
            let gather = Gather { bytes, start, width, shape: &entry.info.shape, strides };
            gather.for_chunks(rows, row_len, f);
            return Ok(());
        }
        let range = start + rows.start * row_len * width..start + rows.end * row_len * width;
        if let Some(sealed) = &self.sealed {
            sealed.verify(&source.map, start, range.clone())?;
        }
        if range.len() <= piece_bytes {
            f(0, &source.map.piece(range)?);
            return Ok(());
        }
        for at in range.clone().step_by(CHUNK_BYTES) {
            let chunk = at..range.end.min(at + CHUNK_BYTES);
            f((at - range.start) / width, bytes.get(chunk.clone()).unwrap_or_default());
            source.map.release(chunk);
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
}
