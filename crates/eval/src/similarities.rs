//! Where the similarities of a set come from: one row an item, one row a token, or lists of the best.

use crate::scorer::{Block, insert};
use crate::{Direction, Hit, Result, Rows, Scorer, TokenRows};
use std::collections::HashMap;

/// The similarities of all texts with all images.
#[derive(Clone, Debug)]
pub(crate) enum Similarities<'a> {
    Cosine {
        images: Rows<'a>,
        texts: Rows<'a>,
    },
    TokenWise {
        images: TokenRows<'a>,
        texts: TokenRows<'a>,
    },
    /// The best of each query, the best first; everything else stands behind them, the lower row first.
    Listed {
        /// Images for each text.
        images: Vec<Vec<Hit>>,
        /// Texts for each image.
        texts: Vec<Vec<Hit>>,
    },
}

impl Similarities<'_> {
    /// Number of texts and of images.
    pub(crate) fn counts(&self) -> (usize, usize) {
        match self {
            Self::Cosine { images, texts } => (texts.len(), images.len()),
            Self::TokenWise { images, texts } => (texts.len(), images.len()),
            // A list for each query of either side.
            Self::Listed { images, texts } => (images.len(), texts.len()),
        }
    }

    /// The same with some of the texts.
    pub(crate) fn with_texts(&self, ids: &[usize]) -> Result<Self> {
        Ok(match self {
            Self::Cosine { images, texts } => {
                Self::Cosine { images: images.clone(), texts: texts.select(ids)? }
            }
            Self::TokenWise { images, texts } => {
                Self::TokenWise { images: images.clone(), texts: texts.select(ids)? }
            }
            Self::Listed { images, texts } => {
                let rows: HashMap<usize, usize> = ids.iter().copied().zip(0..).collect();
                let new_row = |hit: &Hit| Some(Hit { row: *rows.get(&hit.row)?, ..*hit });
                Self::Listed {
                    images: ids.iter().map(|&id| images[id].clone()).collect(),
                    texts: texts.iter().map(|l| l.iter().filter_map(new_row).collect()).collect(),
                }
            }
        })
    }

    /// The similarity of one pair, from text to image and back, with the bits of [`Self::blocks`]; lists
    /// have none.
    pub(crate) fn pair(&self, text: usize, image: usize) -> [f32; 2] {
        match self {
            Self::Cosine { images, texts } => [Scorer::score((texts, text), (images, image)); 2],
            Self::TokenWise { images, texts } => {
                Scorer::token_score((texts, text), (images, image))
            }
            Self::Listed { .. } => [f32::NAN; 2],
        }
    }

    /// Shows `visit` all similarities, texts as queries, a block at a time; those of lists not.
    pub(crate) fn blocks(&self, scorer: &Scorer, visit: &mut dyn FnMut(&Block<'_>)) {
        match self {
            Self::Cosine { images, texts } => scorer.blocks(texts, images, visit),
            Self::TokenWise { images, texts } => scorer.token_blocks(texts, images, visit),
            Self::Listed { .. } => {}
        }
    }

    /// What some queries find first; nothing for queries that do not exist.
    pub(crate) fn found(
        &self,
        scorer: &Scorer,
        direction: Direction,
        queries: &[usize],
        k: usize,
    ) -> Vec<Vec<Hit>> {
        let of_texts = direction == Direction::ImageRetrieval;
        let found = match self {
            Self::Cosine { images, texts } => {
                let (from, to) = if of_texts { (texts, images) } else { (images, texts) };
                from.select(queries).and_then(|rows| scorer.top_k(&rows, to, k))
            }
            Self::TokenWise { images, texts } => {
                let (from, to) = if of_texts { (texts, images) } else { (images, texts) };
                from.select(queries).map(|rows| match of_texts {
                    true => best_tokens(scorer, (&rows, to), 0, k),
                    false => best_tokens(scorer, (to, &rows), 1, k),
                })
            }
            Self::Listed { images, texts } => {
                let lists = if of_texts { images } else { texts };
                let first = |&query: &usize| lists[query].iter().take(k).copied().collect();
                Ok(queries.iter().map(first).collect())
            }
        };
        found.unwrap_or_default()
    }
}

/// The `k` best of each text (`way` 0) or of each image (1); of equal ones the lower row first.
fn best_tokens(
    scorer: &Scorer,
    (texts, images): (&TokenRows<'_>, &TokenRows<'_>),
    way: usize,
    k: usize,
) -> Vec<Vec<Hit>> {
    let queries = if way == 0 { texts.len() } else { images.len() };
    let mut best = vec![Vec::new(); queries];
    // Candidates of a query come in the order of their rows, whichever side it is on.
    scorer.token_blocks(texts, images, &mut |block| {
        for text in block.queries.clone() {
            for (image, &score) in block.candidates.clone().zip(block.row(way, text)) {
                let (query, row) = if way == 0 { (text, image) } else { (image, text) };
                insert(&mut best[query], k, Hit { row, score });
            }
        }
    });
    best
}
