//! Items of several rows, compared token by token as Wukong does it.
//!
//! The similarity of a query with an item is the mean over the query's tokens of the largest cosine with a
//! token of the item. It depends on the direction: both come of the same products.
//!
//! # Source
//! Yao et al., FILIP, arXiv 2111.07783, equations 4 and 5.

use crate::{Error, Result, Rows, Scorer, scorer::Block};
use std::ops::Range;

/// The tokens of several items, one item after the other.
#[derive(Clone, Debug)]
pub struct TokenRows<'a> {
    rows: Rows<'a>,
    /// Where each item's rows are.
    items: Vec<Range<usize>>,
    /// Whether an item has padding, whose rows are zero: no maximum over it is below zero.
    padded: Vec<bool>,
}

impl<'a> TokenRows<'a> {
    /// Items of `rows` `[T, E]`; item n has `lengths[n]` of them.
    ///
    /// # Errors
    /// [`Error::Count`] if the lengths do not add up to the rows, or `padded` is not one for each item;
    /// [`Error::Empty`] for an item without rows.
    pub fn new(rows: Rows<'a>, lengths: &[usize], padded: Vec<bool>) -> Result<Self> {
        let count = |what: &str, found, of: &str, expected| {
            Err(Error::Count { what: what.into(), found, of: of.into(), expected })
        };
        if padded.len() != lengths.len() {
            return count("marks of padding", padded.len(), "items", lengths.len());
        }
        if lengths.is_empty() || lengths.contains(&0) {
            return Err(Error::Empty { what: format!("tokens of an item of {}", rows.what()) });
        }
        let mut end = 0;
        let place = |&length: &usize| {
            end += length;
            end - length..end
        };
        let items = lengths.iter().map(place).collect();
        if end != rows.len() {
            return count("tokens of all items", end, rows.what(), rows.len());
        }
        Ok(Self { rows, items, padded })
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Never true: there is an item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The items `ids` of these, in that order.
    ///
    /// # Errors
    /// [`Error::Empty`] if there is none, [`Error::OutOfRange`] if one does not exist.
    pub fn select(&self, ids: &[usize]) -> Result<Self> {
        if let Some(item) = ids.iter().position(|&id| id >= self.len()) {
            let (found, limit) = (ids[item] as i128, self.len());
            return Err(Error::OutOfRange { what: self.rows.what().into(), item, found, limit });
        }
        let rows: Vec<usize> = ids.iter().flat_map(|&id| self.items[id].clone()).collect();
        let lengths: Vec<usize> = ids.iter().map(|&id| self.items[id].len()).collect();
        let padded = ids.iter().map(|&id| self.padded[id]).collect();
        Self::new(self.rows.select(&rows)?, &lengths, padded)
    }

    pub(crate) fn check_width(&self, other: &Self) -> Result<()> {
        self.rows.check_width(&other.rows)
    }

    /// Ranges of items of at most `rows` rows together, but at least one item each.
    pub(crate) fn cuts(&self, rows: usize) -> Vec<Range<usize>> {
        let (mut cuts, mut start) = (Vec::new(), 0);
        for item in 1..=self.len() {
            let full = |end: usize| self.items[end].end - self.items[start].start > rows;
            if item == self.len() || full(item) {
                cuts.push(start..item);
                start = item;
            }
        }
        cuts
    }

    /// The rows of a range of items.
    fn rows_of(&self, items: &Range<usize>) -> Range<usize> {
        self.items[items.start].start..self.items[items.end - 1].end
    }

    /// The least that a maximum over an item can be.
    fn floor(&self, item: usize) -> f32 {
        if self.padded[item] { 0.0 } else { f32::NEG_INFINITY }
    }
}

/// The similarities of a text and an image, `[text to image, image to text]`, from the cosines of the text's
/// tokens with each of the image's; `floors` are the least maxima over the text's and the image's tokens.
fn both_ways<'c>(
    cosines: impl ExactSizeIterator<Item = &'c [f32]>,
    text_tokens: usize,
    floors: [f32; 2],
) -> [f32; 2] {
    let image_tokens = cosines.len();
    let mut columns = vec![floors[1]; text_tokens];
    let mut sum = 0.0f32;
    for row in cosines {
        let mut best = floors[0];
        for (column, &cosine) in columns.iter_mut().zip(row) {
            best = best.max(cosine);
            *column = column.max(cosine);
        }
        sum += best;
    }
    [columns.iter().sum::<f32>() / text_tokens as f32, sum / image_tokens as f32]
}

impl Scorer {
    /// The similarities of one pair, with the bits that [`Scorer::token_blocks`] gives them.
    pub(crate) fn token_score(
        (texts, text): (&TokenRows<'_>, usize),
        (images, image): (&TokenRows<'_>, usize),
    ) -> [f32; 2] {
        let tokens = &texts.items[text];
        let row = |image| {
            let cosine = move |text| Scorer::score((&images.rows, image), (&texts.rows, text));
            tokens.clone().map(cosine)
        };
        let cosines: Vec<f32> = images.items[image].clone().flat_map(row).collect();
        let floors = [texts.floor(text), images.floor(image)];
        both_ways(cosines.chunks_exact(tokens.len()), tokens.len(), floors)
    }

    /// Shows `visit` the similarities of every text with every image, a block at a time. Both have one
    /// width.
    pub(crate) fn token_blocks(
        &self,
        texts: &TokenRows<'_>,
        images: &TokenRows<'_>,
        visit: &mut dyn FnMut(&Block<'_>),
    ) {
        let (queries, candidates) = self.block_sizes();
        let image_cuts = images.cuts(queries);
        let mut cosines = Vec::new();
        for text_items in texts.cuts(candidates) {
            let text_rows = texts.rows_of(&text_items);
            let packed = self.pack(&texts.rows, &text_rows);
            for image_items in &image_cuts {
                let image_rows = images.rows_of(image_items);
                let width = text_rows.len();
                cosines.resize(image_rows.len() * width, 0.0);
                let cosines = &mut cosines[..image_rows.len() * width];
                self.products((&images.rows, &image_rows), &packed, cosines);
                let cosines = &*cosines;
                let pairs = self.map(text_items.len(), &|text| {
                    let text = text_items.start + text;
                    let own = texts.items[text].start - text_rows.start;
                    let own = own..own + texts.items[text].len();
                    let pair = |image: usize| {
                        let rows = &images.items[image];
                        let rows = rows.start - image_rows.start..rows.end - image_rows.start;
                        let rows =
                            cosines[rows.start * width..rows.end * width].chunks_exact(width);
                        let floors = [texts.floor(text), images.floor(image)];
                        both_ways(rows.map(|row| &row[own.clone()]), own.len(), floors)
                    };
                    image_items.clone().map(pair).collect::<Vec<[f32; 2]>>()
                });
                let of_way = |way: usize| -> Vec<f32> {
                    pairs.iter().flatten().map(|pair| pair[way]).collect()
                };
                let (to_image, to_text) = (of_way(0), of_way(1));
                visit(&Block {
                    queries: text_items.clone(),
                    candidates: image_items.clone(),
                    scores: [&to_image, &to_text],
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of numbers that are never all zero.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|n| ((n * 7919 + seed * 104_729) % 1009) as f32 - 504.5).collect()
    }

    #[test]
    fn blocks_are_the_plain_formula_and_padding_counts() {
        const WIDTH: usize = 6;
        let (text_lengths, image_lengths) = ([2, 5, 1, 3], [4, 4, 4]);
        let (texts, images) = (numbers(11 * WIDTH, 1), numbers(12 * WIDTH, 2));
        let texts = Rows::new("texts", &texts, WIDTH).unwrap();
        let images = Rows::new("images", &images, WIDTH).unwrap();
        let padded = vec![true, false, true, false];
        let texts = TokenRows::new(texts, &text_lengths, padded.clone()).unwrap();
        let images = TokenRows::new(images, &image_lengths, vec![false; 3]).unwrap();
        let plain = |text: usize, image: usize| {
            let tokens = |side: &TokenRows<'_>, item: usize| -> Vec<Vec<f32>> {
                side.items[item].clone().map(|row| side.rows.normalized(row).collect()).collect()
            };
            let (t, i) = (tokens(&texts, text), tokens(&images, image));
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let mean = |a: &[Vec<f32>], b: &[Vec<f32>], floor: f32| {
                let best = |a: &Vec<f32>| b.iter().map(|b| dot(a, b)).fold(floor, f32::max);
                a.iter().map(best).sum::<f32>() / a.len() as f32
            };
            let floor = if padded[text] { 0.0 } else { f32::NEG_INFINITY };
            [mean(&t, &i, f32::NEG_INFINITY), mean(&i, &t, floor)]
        };
        let mut seen = 0;
        for (threads, queries, candidates) in [(1, 1024, 4096), (2, 5, 3), (3, 1, 1)] {
            let scorer = Scorer::new(threads).with_blocks(queries, candidates);
            scorer.token_blocks(&texts, &images, &mut |block| {
                for text in block.queries.clone() {
                    for (n, image) in block.candidates.clone().enumerate() {
                        let found = [0, 1].map(|way| block.row(way, text)[n]);
                        let one = Scorer::token_score((&texts, text), (&images, image));
                        assert_eq!(found, one);
                        for (a, b) in found.iter().zip(plain(text, image)) {
                            assert!((a - b).abs() < 1e-6, "{text} {image}: {a} {b}");
                        }
                        seen += 1;
                    }
                }
            });
        }
        assert_eq!(seen, 3 * 12);
        assert!(TokenRows::new(texts.rows.clone(), &[11], vec![]).is_err());
        assert!(TokenRows::new(texts.rows.clone(), &[10], vec![false]).is_err());
        assert!(TokenRows::new(texts.rows.clone(), &[11, 0], vec![false; 2]).is_err());
        assert!(texts.select(&[4]).is_err());
        assert_eq!(texts.select(&[1, 0]).unwrap().items, [0..5, 5..7]);
    }
}
