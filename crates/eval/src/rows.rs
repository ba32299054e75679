//! Embeddings as they lie in memory, checked once: a view, with the length of each row.

use crate::{Error, Result};
use std::sync::Arc;

/// A view of embeddings `[N, E]`, row-major, or of some of their rows.
///
/// The rows need not be normalised; whoever computes with them normalises as it reads.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    what: &'a str,
    values: &'a [f32],
    width: usize,
    /// The Euclidean length of each row of `values`.
    lengths: Arc<[f64]>,
    /// The rows that are seen, in order; `None` for all.
    selected: Option<Arc<[usize]>>,
}

impl<'a> Rows<'a> {
    /// A view of `values` `[N, width]`; `what` names them in errors.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::Ragged`], [`Error::NonFinite`] and [`Error::Zero`].
    pub fn new(what: &'a str, values: &'a [f32], width: usize) -> Result<Self> {
        if values.is_empty() || width == 0 {
            return Err(Error::Empty { what: what.into() });
        }
        if !values.len().is_multiple_of(width) {
            return Err(Error::Ragged { what: what.into(), numbers: values.len(), width });
        }
        let length = |(row, values): (usize, &[f32])| {
            if let Some(column) = values.iter().position(|value| !value.is_finite()) {
                let found = values[column];
                return Err(Error::NonFinite { what: what.into(), row, column, found });
            }
            // Finite and above zero for every row that is not all zeros: squares are in f64.
            let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
            if squares > 0.0 {
                Ok(squares.sqrt())
            } else {
                Err(Error::Zero { what: what.into(), row })
            }
        };
        let lengths = values.chunks_exact(width).enumerate().map(length).collect::<Result<_>>()?;
        Ok(Self { what, values, width, lengths, selected: None })
    }

    /// The rows `ids` of these rows, in that order.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is none, [`Error::OutOfRange`] if one does not exist.
    pub fn select(&self, ids: &[usize]) -> Result<Self> {
        if ids.is_empty() {
            return Err(Error::Empty { what: self.what.into() });
        }
        if let Some(item) = ids.iter().position(|&id| id >= self.len()) {
            let (found, limit) = (ids[item] as i128, self.len());
            return Err(Error::OutOfRange { what: self.what.into(), item, found, limit });
        }
        let selected = Some(ids.iter().map(|&id| self.id(id)).collect());
        Ok(Self { selected, ..self.clone() })
    }

    /// How many rows there are, N.
    pub fn len(&self) -> usize {
        self.selected.as_ref().map_or(self.lengths.len(), |ids| ids.len())
    }

    /// Never true: a view has a row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers of a row, E.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The name in errors.
    pub fn what(&self) -> &'a str {
        self.what
    }

    /// The number that row `row` has in the slice that was given to [`Rows::new`].
    ///
    /// # Panics
    /// If there are not so many rows.
    pub fn id(&self, row: usize) -> usize {
        self.selected.as_ref().map_or(row, |ids| ids[row])
    }

    /// The numbers of row `row`, normalised.
    ///
    /// # Numerics
    /// Length and quotient in f64, one rounding to f32.
    ///
    /// # Panics
    /// If there are not so many rows.
    pub fn normalized(&self, row: usize) -> impl ExactSizeIterator<Item = f32> {
        let id = self.id(row);
        let length = self.lengths[id];
        self.values[id * self.width..][..self.width]
            .iter()
            .map(move |&value| (f64::from(value) / length) as f32)
    }

    /// An error unless rows of `other` can be compared with these.
    pub(crate) fn check_width(&self, other: &Rows<'_>) -> Result<()> {
        if self.width == other.width {
            return Ok(());
        }
        Err(Error::Width {
            what: other.what.into(),
            found: other.width,
            other: self.what.into(),
            expected: self.width,
        })
    }
}
