//! How probable it is that a picture is a true match, so that «nothing matches» is an answer.
//!
//! A cosine says little by itself: each query has its own level, and some pictures (black frames, logos)
//! are near to every text. So a picture is compared twice with a null distribution:
//!
//! - with the collection: how far its score is above those of the other pictures for this query;
//! - with the background: how far its score for this query is above its scores for texts of the same
//!   language that have nothing to do with the query.
//!
//! The mean of the background's vectors is taken from the query first, so that a picture that is near to
//! every text gains nothing by it. A logistic function of both distances is the probability.
//!
//! # Source
//! The correction is that of CSLS (Conneau et al., arXiv 1710.04087) with a fixed bank of texts. The
//! parameters are fitted by `examples/p_match.rs`; see [`PARAMETERS`].

use crate::background::Background;
use crate::language::Group;
use crate::search::{Searcher, moments};

/// Fewest pictures for which a probability is said.
pub const LEAST_PICTURES: usize = 50;
/// A match is more probable than not.
pub const MATCHES: f32 = 0.5;
/// Largest cosine of a picture and the mean picture, on average, of a collection of more than one subject.
const ONE_SUBJECT: f32 = 0.95;
/// Least standard deviation that is divided by.
const LEAST_SPREAD: f32 = 1e-4;
/// What logits are divided by.
const TENS: f32 = 10.0;
/// Number of features.
pub const FEATURES: usize = 5;

/// A bias and a weight for each feature.
pub type Parameters = [f32; FEATURES + 1];

/// The parameters of English, of Chinese, and of all other groups.
///
/// # Source
/// `examples/p_match.rs MODEL build/emoji/set noto --fit` on an English teacher of the emoji recipe; all
/// groups have the numbers of English until a model of several languages is fitted.
pub const PARAMETERS: [Parameters; 3] = [[-37.786, 0.3406, -0.4840, 14.8435, 0.9522, 0.6047]; 3];

/// Why no probability is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Uncalibrated {
    /// The collection has fewer than [`LEAST_PICTURES`] pictures.
    FewPictures,
    /// All pictures show nearly the same.
    OneSubject,
    /// The query is a picture.
    PictureQuery,
    /// The query is in a language for which nothing was fitted.
    Language,
}

impl Uncalibrated {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::FewPictures => "fewer than 50 pictures",
            Self::OneSubject => "the pictures all show nearly the same",
            Self::PictureQuery => "probabilities are known for texts only",
            Self::Language => "probabilities are known for English only",
        }
    }
}

/// Judges matches in one collection.
pub struct Judge<'s, 'f> {
    searcher: &'s Searcher<'f>,
    background: &'s Background,
    /// What cosines are multiplied by before a softmax, as the model learned it.
    scale: f32,
    reason: Option<Uncalibrated>,
}

/// A query as a judge sees it.
pub struct Asked {
    /// The query itself.
    pub raw: Vec<f32>,
    /// The query less the mean of the background: what is searched with.
    pub corrected: Vec<f32>,
    pub(crate) group: Option<Group>,
    mean: f32,
    spread: f32,
    /// Mean cosine of the query itself.
    raw_mean: f32,
}

impl<'s, 'f> Judge<'s, 'f> {
    /// A judge of the collection of a searcher; `scale` is the model's `exp(logit_scale)`.
    pub fn new(searcher: &'s Searcher<'f>, background: &'s Background, scale: f32) -> Self {
        let reason = if searcher.flat().len() < LEAST_PICTURES {
            Some(Uncalibrated::FewPictures)
        } else if mean_length(searcher) > ONE_SUBJECT {
            Some(Uncalibrated::OneSubject)
        } else {
            None
        };
        Self { searcher, background, scale, reason }
    }

    /// Why nothing is said of this collection.
    pub fn uncalibrated(&self) -> Option<Uncalibrated> {
        self.reason
    }

    /// Looks at how a query's scores are spread. `group` is that of its text; `None` for a picture.
    pub fn ask(&self, query: Vec<f32>, group: Option<Group>) -> Asked {
        let corrected = match group {
            Some(group) => {
                let mean = self.background.mean(group);
                query.iter().zip(&mean).map(|(q, m)| q - m).collect()
            }
            None => query.clone(),
        };
        let (mean, spread) = self.searcher.spread(&corrected);
        let (raw_mean, _) = self.searcher.spread(&query);
        Asked { raw: query, corrected, group, mean, spread, raw_mean }
    }

    /// What is known of a row: its distance from the collection in standard deviations, beyond that of the
    /// most of so many pictures by chance; its distance from the background in standard deviations; its
    /// logit; that of the mean picture; and its log odds against all background texts. The last three are in
    /// tens.
    pub fn features(&self, asked: &Asked, row: usize) -> [f32; FEATURES] {
        let score = self.searcher.score(row, &asked.raw);
        let corrected = self.searcher.score(row, &asked.corrected);
        let by_chance = (2.0 * (self.searcher.flat().len().max(2) as f32).ln()).sqrt();
        let collection = (corrected - asked.mean) / asked.spread.max(LEAST_SPREAD) - by_chance;
        let (logit, level) = (self.scale * score / TENS, self.scale * asked.raw_mean / TENS);
        let Some(group) = asked.group else { return [collection, 0.0, logit, level, 0.0] };
        let width = self.searcher.flat().width().max(1);
        let vector = self.searcher.flat().vector(row);
        let dot = |text: &[f32]| -> f32 { text.iter().zip(&vector).map(|(a, b)| a * b).sum() };
        let others: Vec<f32> = self.background.rows(group).chunks_exact(width).map(dot).collect();
        let (mean, spread) = moments(others.iter().map(|&x| f64::from(x)));
        let background = (score - mean) / spread.max(LEAST_SPREAD);
        let highest = others.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let rest: f32 = others.iter().map(|x| (self.scale * (x - highest)).exp()).sum();
        let odds = (self.scale * (score - highest) - rest.max(1.0).ln()) / TENS;
        [collection, background, logit, level, odds]
    }

    /// The probability that a row is a true match, whether or not it is calibrated here.
    pub fn probability(&self, asked: &Asked, row: usize) -> f32 {
        let parameters = match asked.group {
            Some(Group::English) | None => &PARAMETERS[0],
            Some(Group::Chinese) => &PARAMETERS[1],
            Some(_) => &PARAMETERS[2],
        };
        logistic(parameters, &self.features(asked, row))
    }
}

/// The probability by a bias and weights.
pub fn logistic(parameters: &Parameters, features: &[f32; FEATURES]) -> f32 {
    let [bias, weights @ ..] = parameters;
    let sum = bias + weights.iter().zip(features).map(|(w, x)| w * x).sum::<f32>();
    1.0 / (1.0 + (-sum).exp())
}

/// Length of the mean picture: 1 where all are the same.
fn mean_length(searcher: &Searcher<'_>) -> f32 {
    searcher.flat().mean.iter().map(|x| x * x).sum::<f32>().sqrt()
}
