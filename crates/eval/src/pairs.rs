//! Where in the ranking of each query its match stands: the counting behind recall.
//!
//! A position is found by counting what comes before it, so nothing is sorted and nothing kept:
//! a similarity is looked at once and forgotten. The similarities of the pairs themselves are computed
//! first, with the same bits.

use crate::{Error, Result, Rows, Scorer, scorer::Block};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Images, texts, and which image each text belongs to.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    images: Rows<'a>,
    texts: Rows<'a>,
    text_image_index: Vec<usize>,
}

/// The positions of the matches, from 0 for the first.
///
/// Of equal similarities the lower row comes first, as in a stable sort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// Where the image of each text is among all images.
    pub image_retrieval: Vec<u32>,
    /// Where the first caption of each image is among all texts; `None` for an image without caption.
    pub text_retrieval: Vec<Option<u32>>,
    /// Texts whose position another order of equal similarities could change.
    pub image_retrieval_ties: usize,
    /// Images whose position another order of equal similarities could change.
    pub text_retrieval_ties: usize,
}

impl<'a> Pairs<'a> {
    /// Pairs of `images` `[I, E]` and `texts` `[T, E]`; `text_image_index[t]` is the row of the image
    /// of text `t`.
    ///
    /// # Errors
    /// [`Error::Width`], [`Error::Count`], [`Error::OutOfRange`]; [`Error::Count`] also for more
    /// than 2^32 - 1 rows.
    pub fn new(images: Rows<'a>, texts: Rows<'a>, text_image_index: &[usize]) -> Result<Self> {
        images.check_width(&texts)?;
        for rows in [&images, &texts] {
            if u32::try_from(rows.len()).is_err() {
                return Err(Error::Count {
                    what: rows.what().into(),
                    found: rows.len(),
                    of: "rows at most".into(),
                    expected: u32::MAX as usize,
                });
            }
        }
        let (what, found, expected) =
            ("text_image_index".to_owned(), text_image_index.len(), texts.len());
        if found != expected {
            return Err(Error::Count { what, found, of: texts.what().into(), expected });
        }
        let limit = images.len();
        match text_image_index.iter().position(|&image| image >= limit) {
            Some(item) => {
                let found = text_image_index[item] as i128;
                Err(Error::OutOfRange { what, item, found, limit })
            }
            None => Ok(Self { images, texts, text_image_index: text_image_index.to_vec() }),
        }
    }

    /// The same images with some of the texts.
    ///
    /// # Errors
    /// Those of [`Rows::select`].
    pub fn with_texts(&self, texts: &[usize]) -> Result<Self> {
        let selected = self.texts.select(texts)?;
        let index = texts.iter().map(|&text| self.text_image_index[text]).collect();
        Ok(Self { images: self.images.clone(), texts: selected, text_image_index: index })
    }

    /// The images.
    pub fn images(&self) -> &Rows<'a> {
        &self.images
    }

    /// The texts.
    pub fn texts(&self) -> &Rows<'a> {
        &self.texts
    }

    /// The image of each text.
    pub fn text_image_index(&self) -> &[usize] {
        &self.text_image_index
    }

    /// The position of each match.
    pub fn ranks(&self, scorer: &Scorer) -> Ranks {
        let own = scorer.map(self.texts.len(), &|text| {
            Scorer::score((&self.texts, text), (&self.images, self.text_image_index[text]))
        });
        let best = BestCaptions::new(self.images.len(), &self.text_image_index, &own);
        let of_texts: Vec<Counter> = own.iter().map(|_| Counter::default()).collect();
        let of_images: Vec<Counter> = best.score.iter().map(|_| Counter::default()).collect();
        scorer.blocks(&self.texts, &self.images, &mut |block| {
            scorer.run(block.queries.len(), &|part| {
                let images = block.candidates.clone();
                let mut columns = Columns::new(images.len());
                for text in part.map(|row| block.queries.start + row) {
                    let image = self.text_image_index[text];
                    count_row(block, text, (image, own[text]), &of_texts[text]);
                    let (score, caption) =
                        (&best.score[images.clone()], &best.text[images.clone()]);
                    columns.count(block.row(text), text as u32, score, caption);
                }
                columns.add_to(&of_images[images]);
            });
        });
        let text_ties = of_texts.iter().filter(|count| count.equal.load(Relaxed) > 0).count();
        let image_ties = of_images
            .iter()
            .zip(&best.equal)
            .filter(|(count, own)| count.equal.load(Relaxed) > **own)
            .count();
        let with_caption = |(count, score): (&Counter, &f32)| {
            (*score != f32::INFINITY).then(|| count.before.load(Relaxed))
        };
        Ranks {
            image_retrieval: of_texts.iter().map(|count| count.before.load(Relaxed)).collect(),
            text_retrieval: of_images.iter().zip(&best.score).map(with_caption).collect(),
            image_retrieval_ties: text_ties,
            text_retrieval_ties: image_ties,
        }
    }
}

/// What was counted for a query. Whole numbers, so the order of additions does not matter.
#[derive(Default)]
struct Counter {
    /// Candidates before the match.
    before: AtomicU32,
    /// Candidates as similar as the match, itself not counted for a text, itself counted for an image.
    equal: AtomicU32,
}

impl Counter {
    fn add(&self, before: u32, equal: u32) {
        self.before.fetch_add(before, Relaxed);
        self.equal.fetch_add(equal, Relaxed);
    }
}

/// The caption of each image that comes first in its ranking.
struct BestCaptions {
    /// Its similarity; infinity for an image without caption, which nothing exceeds.
    score: Vec<f32>,
    /// Its row.
    text: Vec<u32>,
    /// How many captions of the image are as similar as it, itself counted.
    equal: Vec<u32>,
}

impl BestCaptions {
    fn new(images: usize, text_image_index: &[usize], own: &[f32]) -> Self {
        let mut best = Self {
            score: vec![f32::INFINITY; images],
            text: vec![0; images],
            equal: vec![0; images],
        };
        for (text, (&image, &score)) in text_image_index.iter().zip(own).enumerate() {
            if best.equal[image] == 0 || score > best.score[image] {
                (best.score[image], best.text[image], best.equal[image]) = (score, text as u32, 1);
            } else if score == best.score[image] {
                best.equal[image] += 1;
            }
        }
        best
    }
}

/// Counts the images of a block that come before `image`, whose similarity with the text is `own`.
fn count_row(block: &Block<'_>, text: usize, (image, own): (usize, f32), counter: &Counter) {
    let row = block.row(text);
    // The columns of lower rows, which win where they are equal, and of higher rows.
    let place = image.clamp(block.candidates.start, block.candidates.end) - block.candidates.start;
    let (lower, rest) = row.split_at(place);
    let higher = if block.candidates.contains(&image) { &rest[1..] } else { rest };
    let above = |scores: &[f32]| count(scores, |score| score > own);
    let equal = |scores: &[f32]| count(scores, |score| score == own);
    let (equal_lower, equal_higher) = (equal(lower), equal(higher));
    counter.add(above(lower) + equal_lower + above(higher), equal_lower + equal_higher);
}

/// How many are so. A block has fewer than 2^32 rows; a check of each addition would keep the loop from
/// being vectorised, and this is the innermost one.
#[inline]
fn count(scores: &[f32], is: impl Fn(f32) -> bool) -> u32 {
    scores.iter().fold(0, |sum: u32, &score| sum.wrapping_add(u32::from(is(score))))
}

/// Counts of the images of a block over some of its texts.
struct Columns {
    before: Vec<u32>,
    equal: Vec<u32>,
}

impl Columns {
    fn new(images: usize) -> Self {
        Self { before: vec![0; images], equal: vec![0; images] }
    }

    /// Adds text `text`: it comes before the best caption if it is more similar, or as similar and of
    /// a lower row. (The best caption itself and its siblings never do.)
    fn count(&mut self, row: &[f32], text: u32, best: &[f32], caption: &[u32]) {
        let counts = self.before.iter_mut().zip(&mut self.equal);
        for ((&score, (&best, &caption)), (before, equal)) in
            row.iter().zip(best.iter().zip(caption)).zip(counts)
        {
            let is_equal = u32::from(score == best);
            let is_before = u32::from(score > best) | (is_equal & u32::from(text < caption));
            // As in `count`: at most one a row of the block.
            *before = before.wrapping_add(is_before);
            *equal = equal.wrapping_add(is_equal);
        }
    }

    fn add_to(&self, counters: &[Counter]) {
        for ((&before, &equal), counter) in self.before.iter().zip(&self.equal).zip(counters) {
            if before + equal > 0 {
                counter.add(before, equal);
            }
        }
    }
}
