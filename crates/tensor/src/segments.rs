//! Where each sequence begins and ends in a matrix of packed rows.

use std::sync::Arc;

/// Offsets of packed sequences: sequence `s` is the rows `offsets[s]..offsets[s + 1]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments(Arc<[usize]>);

impl Segments {
    /// Segments of these lengths, one after the other.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0;
        let rest = lengths.into_iter().map(|length| {
            end += length;
            end
        });
        Self(std::iter::once(0).chain(rest.collect::<Vec<_>>()).collect())
    }

    /// `count` segments of `length` rows each.
    pub fn uniform(count: usize, length: usize) -> Self {
        Self::from_lengths(std::iter::repeat_n(length, count))
    }

    /// The offsets, one more than there are segments; the first is 0.
    pub fn offsets(&self) -> &[usize] {
        &self.0
    }

    /// Number of segments.
    pub fn len(&self) -> usize {
        self.0.len() - 1
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rows of all segments together.
    pub fn rows(&self) -> usize {
        self.0.last().copied().unwrap_or(0)
    }

    /// First row of every segment (that of the class token).
    pub fn first_rows(&self) -> Arc<[u32]> {
        self.0[..self.len()].iter().map(|&row| row as u32).collect()
    }

    /// Longest segment.
    pub fn longest(&self) -> usize {
        self.0.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_lengths() {
        let segments = Segments::from_lengths([3, 0, 2]);
        assert_eq!(segments.offsets(), [0, 3, 3, 5]);
        assert_eq!((segments.len(), segments.rows(), segments.longest()), (3, 5, 3));
        assert_eq!(&*segments.first_rows(), [0, 3, 3]);
        assert!(Segments::from_lengths([]).is_empty());
    }
}
