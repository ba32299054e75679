//! A set's pictures and texts by the similarity of their model: one cosine, token by token, or a second look
//! at the best.

use super::embedder::{Embedder, Source};
use super::kept::Kept;
use crate::commands::progress;
use crate::failure::Failure;
use altclip::models::CANDIDATES;
use altclip::{Model, Similarity};
use altclip_eval::{
    Hit, Pairs, RetrievalOptions, RetrievalReport, Rows, Scorer, TokenRows, retrieval,
};
use altclip_report::Report;

/// The pictures of a set, as far as their model compares them.
pub(super) enum Pictures {
    /// `[N, E]`.
    Rows(Vec<f32>),
    Kept(Kept),
}

/// Both sides of a set.
pub(super) enum Compared {
    Rows {
        images: Vec<f32>,
        texts: Vec<f32>,
    },
    Tokens {
        images: Tokens,
        texts: Tokens,
    },
    /// One row each, for what is looked at first, and everything else.
    Reranked {
        images: (Vec<f32>, Box<Kept>),
        texts: (Vec<f32>, Box<Kept>),
    },
}

/// Which rows take part: of the images, of the texts, and pairs `(text, image)` of their places there.
pub(super) struct Part<'a> {
    pub(super) images: &'a [usize],
    pub(super) texts: &'a [usize],
    pub(super) pairs: Vec<(usize, usize)>,
}

/// The tokens of all items of one side.
pub(super) struct Tokens {
    numbers: Vec<f32>,
    lengths: Vec<usize>,
    padded: Vec<bool>,
}

impl Tokens {
    pub(super) fn new(kept: &mut Kept, model: &Model) -> Result<Self, Failure> {
        let mut all = Self { numbers: Vec::new(), lengths: Vec::new(), padded: Vec::new() };
        for row in 0..kept.len() {
            let side = kept.side(model, [row])?;
            if let Some((numbers, lengths, padded)) = side.tokens() {
                all.numbers.extend_from_slice(numbers);
                all.lengths.extend(lengths);
                all.padded.extend_from_slice(padded);
            }
        }
        Ok(all)
    }

    pub(super) fn rows(&self, what: &'static str, width: usize) -> Result<TokenRows<'_>, Failure> {
        let rows = Rows::new(what, &self.numbers, width)?;
        Ok(TokenRows::new(rows, &self.lengths, self.padded.clone())?)
    }
}

impl Pictures {
    /// Embeds `len` pictures: the numbers of those that could be used, and what is wrong with the others.
    pub(super) fn embed(
        embedder: &mut Embedder<'_>,
        len: usize,
        source: Source,
    ) -> Result<(Self, Vec<usize>, Vec<Report>), Failure> {
        if embedder.model.similarity() == Similarity::Cosine {
            let images = embedder.pictures(len, source)?;
            return Ok((Self::Rows(images.rows), images.kept, images.bad));
        }
        let mut kept = embedder.kept_pictures(len, &source)?;
        let (numbers, bad) = (std::mem::take(&mut kept.kept), std::mem::take(&mut kept.bad));
        Ok((Self::Kept(kept), numbers, bad))
    }

    /// With the texts of the set.
    pub(super) fn with_texts(
        self,
        embedder: &mut Embedder<'_>,
        texts: &[&str],
    ) -> Result<Compared, Failure> {
        let mut images = match self {
            Self::Rows(images) => {
                return Ok(Compared::Rows { images, texts: embedder.texts(texts)? });
            }
            Self::Kept(images) => images,
        };
        let (mut texts, model) = (embedder.kept_texts(texts)?, embedder.model);
        Ok(match model.similarity() {
            Similarity::TokenWise => Compared::Tokens {
                images: Tokens::new(&mut images, model)?,
                texts: Tokens::new(&mut texts, model)?,
            },
            _ => Compared::Reranked {
                images: (images.embeddings(model)?, Box::new(images)),
                texts: (texts.embeddings(model)?, Box::new(texts)),
            },
        })
    }
}

impl Compared {
    /// The figures of a part.
    pub(super) fn retrieval(
        &mut self,
        embedder: &Embedder<'_>,
        scorer: &Scorer,
        part: Part<'_>,
        options: &RetrievalOptions,
    ) -> Result<RetrievalReport, Failure> {
        let width = embedder.width();
        let Part { images: used, texts: captions, pairs } = part;
        let pairs = match self {
            Self::Rows { images, texts } => {
                let (images, texts) =
                    (Rows::new(IMAGES, images, width)?, Rows::new(TEXTS, texts, width)?);
                Pairs::many(images.select(used)?, texts.select(captions)?, pairs)?
            }
            Self::Tokens { images, texts } => {
                let (images, texts) = (images.rows(IMAGES, width)?, texts.rows(TEXTS, width)?);
                Pairs::token_wise(images.select(used)?, texts.select(captions)?, pairs)?
            }
            Self::Reranked { images, texts } => {
                let image_rows = Rows::new(IMAGES, &images.0, width)?.select(used)?;
                let text_rows = Rows::new(TEXTS, &texts.0, width)?.select(captions)?;
                let best_images = scorer.top_k(&text_rows, &image_rows, CANDIDATES)?;
                let best_texts = scorer.top_k(&image_rows, &text_rows, CANDIDATES)?;
                let (images, texts) = (&mut *images.1, &mut *texts.1);
                let best_images =
                    SecondLook(embedder, (&mut *texts, captions), (&mut *images, used))
                        .at(best_images)?;
                let best_texts =
                    SecondLook(embedder, (images, used), (texts, captions)).at(best_texts)?;
                Pairs::listed(best_images, best_texts, pairs)?
            }
        };
        let pairs = pairs.numbered(captions.to_vec(), used.to_vec());
        Ok(retrieval(scorer, &pairs, options))
    }
}

/// The names of both sides in errors.
const IMAGES: &str = "image embeddings";
const TEXTS: &str = "text embeddings";

/// Looks again at what queries found; each side with the rows that take part.
struct SecondLook<'a, 'm>(
    &'a Embedder<'m>,
    (&'a mut Kept, &'a [usize]),
    (&'a mut Kept, &'a [usize]),
);

impl SecondLook<'_, '_> {
    /// The same hits by the second similarity, the best first; of equal ones the lower row first.
    fn at(&mut self, lists: Vec<Vec<Hit>>) -> Result<Vec<Vec<Hit>>, Failure> {
        let Self(embedder, (queries, query_rows), (others, other_rows)) = self;
        let bar = progress(lists.len(), embedder.reporter);
        let look = |(query, mut hits): (usize, Vec<Hit>)| -> Result<Vec<Hit>, Failure> {
            bar.inc(1);
            let query = queries.side(embedder.model, query_rows.get(query).copied())?;
            let rows = hits.iter().filter_map(|hit| other_rows.get(hit.row).copied());
            let others = others.side(embedder.model, rows)?;
            let scores = embedder.model.compare(&query, &others)?;
            hits.iter_mut().zip(scores).for_each(|(hit, score)| hit.score = score);
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
            Ok(hits)
        };
        let found = lists.into_iter().enumerate().map(look).collect();
        bar.finish_and_clear();
        found
    }
}
