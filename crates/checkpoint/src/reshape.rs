//! Tensors seen in another way: cut into equal parts, turned, put together with those of another
//! checkpoint. Nothing is copied; only the note of where the elements lie changes.
//!
//! Authors' own files keep queries, keys and values in one matrix and some projections transposed; with
//! this they look like the Hub's.

use crate::checkpoint::{Checkpoint, Entry, Place};
use crate::error::Error;
use crate::torch::View;

impl Checkpoint {
    /// Replaces a tensor by as many equal parts of its first dimension as there are names.
    ///
    /// # Errors
    /// [`Error::TensorMissing`]; [`Error::ShapeMismatch`] where the dimension is no multiple;
    /// [`Error::RenameCollision`] where a name is taken.
    pub fn split(&mut self, name: &str, parts: &[String]) -> Result<(), Error> {
        let entry = self.tensors.get(name).ok_or_else(|| missing(name))?;
        let mut shape = entry.info.shape.clone();
        let count = parts.len().max(1);
        let mismatch = || Error::ShapeMismatch {
            name: name.to_owned(),
            file: self.path_of(&entry.info),
            found: entry.info.shape.clone(),
            expected: vec![count],
        };
        let rows = match shape.first_mut() {
            Some(rows) if rows.is_multiple_of(count) => {
                *rows /= count;
                *rows
            }
            _ => return Err(mismatch()),
        };
        let elements: usize = shape.iter().product();
        let (width, mut made) = (entry.info.dtype.width(), Vec::new());
        for (nth, part) in parts.iter().enumerate() {
            if let Some(taken) = self.tensors.get(part) {
                return Err(Error::RenameCollision {
                    first: taken.info.name.clone(),
                    second: name.to_owned(),
                    name: part.clone(),
                });
            }
            let place = match &entry.place {
                Place::Bytes(range) => {
                    let start = range.start + nth * elements * width;
                    Place::Bytes(start..start + elements * width)
                }
                Place::View(view) => {
                    let step = view.strides.first().copied().unwrap_or(0);
                    let offset = view.offset + nth * rows * step;
                    Place::View(View { record: view.record, offset, strides: view.strides.clone() })
                }
                Place::Turned(..) | Place::Packed => return Err(mismatch()),
            };
            let mut info = entry.info.clone();
            (info.name, info.shape) = (part.clone(), shape.clone());
            made.push(Entry { info, place });
        }
        self.tensors.remove(name);
        self.tensors.extend(made.into_iter().map(|entry| (entry.info.name.clone(), entry)));
        Ok(())
    }

    /// Turns a matrix `[n, k]` into its transpose `[k, n]`.
    ///
    /// # Errors
    /// [`Error::TensorMissing`]; [`Error::ShapeMismatch`] where it is no matrix.
    pub fn transpose(&mut self, name: &str) -> Result<(), Error> {
        let entry = self.tensors.get(name).ok_or_else(|| missing(name))?;
        let &[n, k] = entry.info.shape.as_slice() else {
            return Err(Error::ShapeMismatch {
                name: name.to_owned(),
                file: self.path_of(&entry.info),
                found: entry.info.shape.clone(),
                expected: vec![1, 1],
            });
        };
        if let Some(entry) = self.tensors.get_mut(name) {
            match &mut entry.place {
                Place::Bytes(range) => entry.place = Place::Turned(range.clone(), vec![1, k]),
                Place::View(View { strides, .. }) | Place::Turned(_, strides) => strides.reverse(),
                Place::Packed => {}
            }
            entry.info.shape = vec![k, n];
        }
        Ok(())
    }

    /// Forgets the tensors for which `keep` is false.
    pub fn retain(&mut self, keep: &dyn Fn(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// Adds the tensors and files of another checkpoint.
    ///
    /// # Errors
    /// [`Error::RenameCollision`] where both have a name. Packed model files cannot be merged.
    pub fn merge(&mut self, other: Self) -> Result<(), Error> {
        if let Some(name) = other.tensors.keys().find(|name| self.tensors.contains_key(*name)) {
            let (first, second) = (name.clone(), name.clone());
            return Err(Error::RenameCollision { first, second, name: name.clone() });
        }
        self.append(other);
        Ok(())
    }
}

fn missing(name: &str) -> Error {
    Error::TensorMissing { name: name.to_owned(), nearest: None }
}
