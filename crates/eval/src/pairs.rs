//! Where in the ranking of each query its match stands: the counting behind recall.
//!
//! A position is found by counting what comes before it, so nothing is sorted and nothing kept:
//! a similarity is looked at once and forgotten. The similarities of the pairs themselves are computed
//! first, with the same bits. Lists of the best are short; there the position is looked up.

use crate::fitting::{Fitting, Lists};
use crate::similarities::Similarities;
use crate::{Error, Hit, Result, Rows, Scorer, TokenRows, scorer::Block};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Images, texts, how similar they are, and which belong together.
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    pub(crate) similarities: Similarities<'a>,
    pub(crate) fitting: Fitting,
    /// What texts and images are called in a report, where that is not their row.
    numbers: [Option<Vec<usize>>; 2],
}

/// The positions of the matches, from 0 for the first.
///
/// Of equal similarities the lower row comes first, as in a stable sort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranks {
    /// Where the first fitting image of each text is among all images.
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
    /// than 2^32 - 2 rows.
    pub fn new(images: Rows<'a>, texts: Rows<'a>, text_image_index: &[usize]) -> Result<Self> {
        let (what, found, expected) =
            (crate::fitting::INDEX.to_owned(), text_image_index.len(), texts.len());
        if found != expected {
            return Err(Error::Count { what, found, of: texts.what().into(), expected });
        }
        Self::many(images, texts, text_image_index.iter().copied().enumerate())
    }

    /// Pairs `(text, image)` where a text may belong to several images, as in MUGE.
    ///
    /// # Errors
    /// As [`Pairs::new`]; [`Error::Count`] for a text without an image, [`Error::Empty`] without pairs.
    pub fn many(
        images: Rows<'a>,
        texts: Rows<'a>,
        pairs: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<Self> {
        images.check_width(&texts)?;
        Self::of(Similarities::Cosine { images, texts }, pairs)
    }

    /// The same of items that are compared token by token.
    ///
    /// # Errors
    /// As [`Pairs::many`].
    pub fn token_wise(
        images: TokenRows<'a>,
        texts: TokenRows<'a>,
        pairs: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<Self> {
        images.check_width(&texts)?;
        Self::of(Similarities::TokenWise { images, texts }, pairs)
    }

    /// The same where for each query only the best are known, the best first: `images` for each text,
    /// `texts` for each image. Everything else stands behind them.
    ///
    /// # Errors
    /// As [`Pairs::many`]; [`Error::OutOfRange`] for a row that no item has.
    pub fn listed(
        images: Vec<Vec<Hit>>,
        texts: Vec<Vec<Hit>>,
        pairs: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<Self> {
        for (what, lists, limit) in
            [("images of a list", &images, texts.len()), ("texts of a list", &texts, images.len())]
        {
            let outside = |list: &Vec<Hit>| list.iter().find(|hit| hit.row >= limit).copied();
            if let Some((item, hit)) =
                lists.iter().enumerate().find_map(|(item, list)| Some((item, outside(list)?)))
            {
                let (what, found) = (what.to_owned(), hit.row as i128);
                return Err(Error::OutOfRange { what, item, found, limit });
            }
        }
        Self::of(Similarities::Listed { images, texts }, pairs)
    }

    fn of(
        similarities: Similarities<'a>,
        pairs: impl IntoIterator<Item = (usize, usize)>,
    ) -> Result<Self> {
        let fitting = Fitting::new(similarities.counts(), pairs.into_iter())?;
        Ok(Self { similarities, fitting, numbers: [None, None] })
    }

    /// The same with numbers for texts and images, by which a report calls them instead of their rows.
    #[must_use]
    pub fn numbered(self, texts: Vec<usize>, images: Vec<usize>) -> Self {
        Self { numbers: [Some(texts), Some(images)], ..self }
    }

    /// The number of a row among the texts (0) or images (1).
    pub(crate) fn number(&self, side: usize, row: usize) -> usize {
        let numbers = self.numbers[side].as_ref();
        numbers.and_then(|numbers| numbers.get(row)).copied().unwrap_or(row)
    }

    /// The same images with some of the texts, which keep their numbers.
    ///
    /// # Errors
    /// Those of [`Rows::select`].
    pub fn with_texts(&self, texts: &[usize]) -> Result<Self> {
        let own = texts.iter().map(|&text| self.number(0, text)).collect();
        Ok(Self {
            similarities: self.similarities.with_texts(texts)?,
            fitting: self.fitting.with_texts(texts)?,
            numbers: [Some(own), self.numbers[1].clone()],
        })
    }

    /// Number of images.
    pub fn images(&self) -> usize {
        self.fitting.texts.len()
    }

    /// Number of texts.
    pub fn texts(&self) -> usize {
        self.fitting.images.len()
    }

    /// The position of each match.
    pub fn ranks(&self, scorer: &Scorer) -> Ranks {
        let Fitting { images: of_texts, texts: of_images } = &self.fitting;
        let [texts, images] = match &self.similarities {
            Similarities::Listed { images, texts } => {
                [listed(images, of_texts), listed(texts, of_images)]
            }
            _ => self.counted(scorer),
        };
        Ranks {
            // Every text has an image.
            image_retrieval: texts.ranks.into_iter().map(Option::unwrap_or_default).collect(),
            text_retrieval: images.ranks,
            image_retrieval_ties: texts.ties,
            text_retrieval_ties: images.ties,
        }
    }

    /// Positions by counting, of texts and of images.
    fn counted(&self, scorer: &Scorer) -> [Positions; 2] {
        let Self { similarities, fitting, .. } = self;
        let best_of_texts =
            Best::new(scorer, &fitting.images, &|text, image| similarities.pair(text, image)[0]);
        let best_of_images =
            Best::new(scorer, &fitting.texts, &|image, text| similarities.pair(text, image)[1]);
        let counters = |best: &Best| -> Vec<Counter> {
            best.score.iter().map(|_| Counter::default()).collect()
        };
        let (of_texts, of_images) = (counters(&best_of_texts), counters(&best_of_images));
        similarities.blocks(scorer, &mut |block| {
            scorer.run(block.queries.len(), &|part| {
                let images = block.candidates.clone();
                let mut columns = Columns::new(images.len());
                for text in part.map(|row| block.queries.start + row) {
                    count_row(block, text, best_of_texts.of(text), &of_texts[text]);
                    let best = (
                        &best_of_images.score[images.clone()],
                        &best_of_images.row[images.clone()],
                    );
                    columns.count(block.row(1, text), text as u32, best);
                }
                columns.add_to(&of_images[images]);
            });
        });
        [best_of_texts.positions(&of_texts), best_of_images.positions(&of_images)]
    }
}

/// The positions of the matches of one side's queries, and how many ties decide.
struct Positions {
    ranks: Vec<Option<u32>>,
    ties: usize,
}

/// Positions in lists; behind a list, the lower row comes first.
fn listed(lists: &[Vec<Hit>], fitting: &Lists) -> Positions {
    let mut ties = 0;
    let rank = |(query, list): (usize, &Vec<Hit>)| {
        let own = fitting.of(query);
        let fits = |hit: &Hit| own.binary_search(&(hit.row as u32)).is_ok();
        if let Some(rank) = list.iter().position(fits) {
            let equal = |hit: &Hit| hit.score == list[rank].score && !fits(hit);
            ties += usize::from(list.iter().any(equal));
            return Some(rank as u32);
        }
        // None of them is in the list, so the lowest comes first.
        let first = own.first()?;
        let before = list.iter().filter(|hit| hit.row as u32 <= *first).count();
        Some(list.len() as u32 + first - before as u32)
    };
    let ranks = lists.iter().enumerate().map(rank).collect();
    Positions { ranks, ties }
}

/// What was counted for a query. Whole numbers, so the order of additions does not matter.
#[derive(Default)]
struct Counter {
    /// Candidates before the match.
    before: AtomicU32,
    /// Candidates as similar as the match, it and its siblings counted.
    equal: AtomicU32,
}

impl Counter {
    fn add(&self, before: u32, equal: u32) {
        self.before.fetch_add(before, Relaxed);
        self.equal.fetch_add(equal, Relaxed);
    }
}

/// The fitting candidate of each query that comes first in its ranking.
struct Best {
    /// Its similarity; infinity for a query without one, which nothing exceeds.
    score: Vec<f32>,
    /// Its row.
    row: Vec<u32>,
    /// How many fitting candidates are as similar as it, itself counted.
    equal: Vec<u32>,
}

impl Best {
    /// `score(query, candidate)` is the similarity that the blocks have.
    fn new(scorer: &Scorer, fitting: &Lists, score: &(dyn Fn(usize, usize) -> f32 + Sync)) -> Self {
        let best = scorer.map(fitting.len(), &|query| {
            let mut best = (f32::INFINITY, 0, 0);
            for &row in fitting.of(query) {
                let score = score(query, row as usize);
                if best.2 == 0 || score > best.0 {
                    best = (score, row, 1);
                } else if score == best.0 {
                    best.2 += 1;
                }
            }
            best
        });
        Self {
            score: best.iter().map(|best| best.0).collect(),
            row: best.iter().map(|best| best.1).collect(),
            equal: best.iter().map(|best| best.2).collect(),
        }
    }

    fn of(&self, query: usize) -> (f32, usize) {
        (self.score[query], self.row[query] as usize)
    }

    fn positions(&self, counters: &[Counter]) -> Positions {
        let pairs = counters.iter().zip(&self.equal);
        let ties = pairs.clone().filter(|(count, own)| count.equal.load(Relaxed) > **own).count();
        let rank = |(count, own): (&Counter, &u32)| (*own > 0).then(|| count.before.load(Relaxed));
        Positions { ranks: pairs.map(rank).collect(), ties }
    }
}

/// Counts the images of a block that come before `image`, whose similarity with the text is `own`: its
/// siblings never do.
fn count_row(block: &Block<'_>, text: usize, (own, image): (f32, usize), counter: &Counter) {
    let row = block.row(0, text);
    // The columns of lower rows, which win where they are equal, and of the others.
    let place = image.clamp(block.candidates.start, block.candidates.end) - block.candidates.start;
    let (lower, rest) = row.split_at(place);
    let above = |scores: &[f32]| count(scores, |score| score > own);
    let equal = |scores: &[f32]| count(scores, |score| score == own);
    let equal_lower = equal(lower);
    counter.add(above(lower) + equal_lower + above(rest), equal_lower + equal(rest));
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
    fn count(&mut self, row: &[f32], text: u32, (best, caption): (&[f32], &[u32])) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(rows: &[(usize, f32)]) -> Vec<Hit> {
        rows.iter().map(|&(row, score)| Hit { row, score }).collect()
    }

    #[test]
    fn positions_in_lists_and_behind_them() {
        // Five images; each of three texts lists two of them.
        let images = vec![
            hits(&[(3, 0.9), (1, 0.5)]),
            hits(&[(0, 0.7), (2, 0.7)]),
            hits(&[(4, 0.2), (1, 0.1)]),
        ];
        let texts = vec![hits(&[(0, 1.0), (1, 0.5)]); 5];
        let pairs = [(0, 1), (1, 2), (2, 3), (2, 2)];
        let pairs = Pairs::listed(images.clone(), texts, pairs).unwrap();
        let ranks = pairs.ranks(&Scorer::new(1));
        // Text 2: behind two of the list and image 0, which is not in it.
        assert_eq!(ranks.image_retrieval, [1, 1, 3]);
        // Image 3 finds text 2 behind its list.
        assert_eq!(ranks.text_retrieval, [None, Some(0), Some(1), Some(2), None]);
        assert_eq!((ranks.image_retrieval_ties, ranks.text_retrieval_ties), (1, 0));
        assert!(Pairs::listed(images, vec![hits(&[(3, 1.0)]); 5], [(0, 0)]).is_err());
        let one = pairs.with_texts(&[2]).unwrap().ranks(&Scorer::new(1));
        assert_eq!(one.image_retrieval, [3]);
    }
}
