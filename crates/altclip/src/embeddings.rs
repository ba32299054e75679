//! Rows of the joint space, and what comparing them gives.

use crate::{Error, Result};

/// Vectors of one width, row-major: `[N, E]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Embeddings {
    width: usize,
    numbers: Vec<f32>,
}

impl Embeddings {
    /// Wraps `numbers`, a multiple of `width`.
    ///
    /// # Errors
    /// [`Error::NonFinite`]: no number that is not finite leaves the library.
    pub fn new(width: usize, numbers: Vec<f32>) -> Result<Self> {
        match numbers.iter().position(|number| !number.is_finite()) {
            Some(first) => Err(Error::NonFinite { item: first / width.max(1) }),
            None => Ok(Self { width, numbers }),
        }
    }

    /// Number of rows, `N`.
    pub fn len(&self) -> usize {
        self.numbers.len() / self.width.max(1)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Width of a row, `E`.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Row `n`.
    ///
    /// # Panics
    /// If there are not so many rows.
    pub fn row(&self, n: usize) -> &[f32] {
        &self.numbers[n * self.width..(n + 1) * self.width]
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.numbers.chunks_exact(self.width.max(1))
    }

    /// All numbers, row-major.
    pub fn as_slice(&self) -> &[f32] {
        &self.numbers
    }

    /// The mean of each `count` rows, one after the other: of the captions of each label. Means are not
    /// normalised.
    ///
    /// # Errors
    /// [`Error::NonFinite`] where a sum is over the range.
    pub fn means(&self, count: usize) -> Result<Self> {
        let mean = |rows: &[f32]| {
            let sum =
                |column: usize| rows.chunks_exact(self.width).map(|row| row[column]).sum::<f32>();
            (0..self.width).map(|column| sum(column) / count as f32).collect::<Vec<_>>()
        };
        let groups = self.numbers.chunks_exact((self.width * count).max(1));
        Self::new(self.width, groups.flat_map(mean).collect())
    }

    /// The cosine of every row with every row of `other`, `[N, M]` row-major. Both must be
    /// normalised.
    ///
    /// # Errors
    /// [`Error::Width`] if the widths differ.
    ///
    /// # Numerics
    /// f64 sums, so that the order of the terms does not matter to the printed digits.
    pub fn cosines(&self, other: &Self) -> Result<Vec<f32>> {
        if self.width != other.width {
            return Err(Error::Width { expected: self.width, found: other.width });
        }
        let dot = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>()
        };
        Ok(self.rows().flat_map(|a| other.rows().map(move |b| dot(a, b) as f32)).collect())
    }
}

/// How one picture compares with one label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// `exp(logit_scale) · cosine`
    pub logit: f32,
    /// Softmax of the logits over the labels.
    pub probability: f32,
}

/// A row of labels for each picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Classified {
    labels: usize,
    cells: Vec<Label>,
}

impl Classified {
    /// Scales the cosines `[pictures, labels]` and takes the softmax of each row.
    pub fn from_cosines(labels: usize, scale: f32, cosines: &[f32]) -> Self {
        let row = |cosines: &[f32]| {
            let logits: Vec<f32> = cosines.iter().map(|cosine| scale * cosine).collect();
            let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exps: Vec<f64> =
                logits.iter().map(|logit| f64::from(logit - highest).exp()).collect();
            let sum: f64 = exps.iter().sum();
            let probabilities = exps.into_iter().map(move |exp| (exp / sum) as f32);
            logits
                .into_iter()
                .zip(probabilities)
                .map(|(logit, probability)| Label { logit, probability })
                .collect::<Vec<_>>()
        };
        Self { labels, cells: cosines.chunks_exact(labels.max(1)).flat_map(row).collect() }
    }

    /// The mean of several of one shape: of their logits, and of their probabilities.
    pub(crate) fn mean(all: Vec<Self>) -> Self {
        let count = all.len().max(1) as f32;
        let labels = all.first().map_or(0, |first| first.labels);
        let mean = |at: usize, part: fn(&Label) -> f32| {
            all.iter().filter_map(|each| each.cells.get(at).map(part)).sum::<f32>() / count
        };
        let cells = all.first().map_or(0, |first| first.cells.len());
        let cell = |at| Label {
            logit: mean(at, |label| label.logit),
            probability: mean(at, |label| label.probability),
        };
        Self { labels, cells: (0..cells).map(cell).collect() }
    }

    /// The labels of picture `n`, in the order in which they were given.
    ///
    /// # Panics
    /// If there are not so many pictures.
    pub fn row(&self, n: usize) -> &[Label] {
        &self.cells[n * self.labels..(n + 1) * self.labels]
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[Label]> {
        self.cells.chunks_exact(self.labels.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_not_finite_stay_inside() {
        assert!(matches!(
            Embeddings::new(2, vec![0.0, 1.0, 2.0, f32::NAN]),
            Err(Error::NonFinite { item: 1 })
        ));
        assert!(matches!(
            Embeddings::new(2, vec![f32::INFINITY, 0.0]),
            Err(Error::NonFinite { item: 0 })
        ));
    }

    #[test]
    fn a_softmax_of_large_logits() {
        let classified = Classified::from_cosines(2, 100.0, &[1.0, 0.99, -1.0, 1.0]);
        let [first, second] = [classified.row(0), classified.row(1)];
        assert!((first[0].probability - 0.731_058_6).abs() < 1e-5, "{first:?}");
        assert!((first[0].logit - 100.0).abs() < 1e-4);
        assert_eq!(second[1].probability, 1.0);
    }
}
