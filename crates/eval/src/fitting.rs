//! Which texts belong to which images: one image a text in most sets, several in MUGE.

use crate::{Error, Result};

/// For each item of one side the rows of the other that fit it, ascending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lists {
    starts: Vec<u32>,
    rows: Vec<u32>,
}

impl Lists {
    /// From pairs `(item, row)`; each once, whatever their order.
    fn new(items: usize, pairs: &mut [(u32, u32)]) -> Self {
        pairs.sort_unstable();
        let mut lists = Self { starts: vec![0], rows: Vec::with_capacity(pairs.len()) };
        let mut rest = &*pairs;
        for item in 0..items as u32 {
            let own = rest.partition_point(|pair| pair.0 <= item);
            let (of_item, behind) = rest.split_at(own);
            rest = behind;
            for (n, &(_, row)) in of_item.iter().enumerate() {
                if n == 0 || of_item[n - 1].1 != row {
                    lists.rows.push(row);
                }
            }
            lists.starts.push(lists.rows.len() as u32);
        }
        lists
    }

    pub(crate) fn of(&self, item: usize) -> &[u32] {
        &self.rows[self.starts[item] as usize..self.starts[item + 1] as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len() - 1
    }
}

/// The pairs of a set, from both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fitting {
    /// The images of each text.
    pub(crate) images: Lists,
    /// The texts of each image; none for an image without caption.
    pub(crate) texts: Lists,
}

impl Fitting {
    /// From pairs `(text, image)`.
    ///
    /// # Errors
    /// [`Error::OutOfRange`]; [`Error::Count`] for a text without an image, and for more than 2^32 - 1
    /// rows or pairs; [`Error::Empty`] without pairs.
    pub(crate) fn new(
        (texts, images): (usize, usize),
        pairs: impl Iterator<Item = (usize, usize)>,
    ) -> Result<Self> {
        const LIMIT: usize = u32::MAX as usize;
        let too_many = |what: &str, found| {
            let of = "rows at most".into();
            Error::Count { what: what.into(), found, of, expected: LIMIT }
        };
        for (what, found) in [("texts", texts), ("images", images)] {
            if found >= LIMIT {
                return Err(too_many(what, found));
            }
        }
        let mut by_text = Vec::new();
        for (item, (text, image)) in pairs.enumerate() {
            for (what, found, limit) in [("text of a pair", text, texts), (INDEX, image, images)] {
                if found >= limit {
                    let (what, found) = (what.to_owned(), found as i128);
                    return Err(Error::OutOfRange { what, item, found, limit });
                }
            }
            by_text.push((text as u32, image as u32));
        }
        if by_text.is_empty() {
            return Err(Error::Empty { what: "pairs of a text and an image".into() });
        }
        if by_text.len() >= LIMIT {
            return Err(too_many("pairs", by_text.len()));
        }
        let mut by_image: Vec<_> = by_text.iter().map(|&(text, image)| (image, text)).collect();
        let fitting = Self {
            images: Lists::new(texts, &mut by_text),
            texts: Lists::new(images, &mut by_image),
        };
        match (0..texts).filter(|&text| fitting.images.of(text).is_empty()).count() {
            0 => Ok(fitting),
            without => Err(Error::Count {
                what: "texts with an image".into(),
                found: texts - without,
                of: "texts".into(),
                expected: texts,
            }),
        }
    }

    /// The same for some of the texts, in that order.
    pub(crate) fn with_texts(&self, texts: &[usize]) -> Result<Self> {
        let images = |(new, &text): (usize, &usize)| {
            self.images.of(text).iter().map(move |&image| (new, image as usize))
        };
        let pairs = texts.iter().enumerate().flat_map(images);
        Self::new((texts.len(), self.texts.len()), pairs)
    }

    /// Whether some text belongs to several images.
    pub(crate) fn is_many(&self) -> bool {
        self.images.rows.len() > self.images.len()
    }
}

/// The name of the images of texts in errors.
pub(crate) const INDEX: &str = "text_image_index";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_seen_from_both_sides() {
        let pairs = [(1, 0), (0, 2), (1, 2), (0, 2)];
        let fitting = Fitting::new((2, 3), pairs.into_iter()).unwrap();
        assert_eq!((fitting.images.of(0), fitting.images.of(1)), (&[2][..], &[0, 2][..]));
        let texts = [0, 1, 2].map(|image| fitting.texts.of(image).to_vec());
        assert_eq!(texts, [vec![1], vec![], vec![0, 1]]);
        assert!(fitting.is_many() && !fitting.with_texts(&[0, 0]).unwrap().is_many());
        let error = |texts, pairs: &[(usize, usize)]| {
            Fitting::new((texts, 3), pairs.iter().copied()).unwrap_err()
        };
        assert!(matches!(error(1, &[]), Error::Empty { .. }));
        assert!(matches!(error(2, &[(0, 1)]), Error::Count { found: 1, expected: 2, .. }));
        assert!(matches!(error(1, &[(0, 1), (0, 3)]), Error::OutOfRange { item: 1, found: 3, .. }));
    }
}
