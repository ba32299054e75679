//! How probable it is that a picture is a true match, so that «nothing matches» is an answer.
//!
//! A cosine says little by itself: models, languages and collections have their own levels. So the score of
//! a picture is compared with a null distribution of this collection: the best scores that the background
//! texts reach in it ([`Group::texts`]: what people photograph, in the language of the query). Its distance
//! from their mean, in their standard deviations, is the *level* of the picture for the query, and a
//! logistic function of the level is the probability. The level has no unit of a model's in it.
//!
//! Some pictures (black frames, logos, screenshots) are near to every text. How near a picture is to the
//! mean of the background's vectors tells them, and what it has of that beyond [`HUB`] standard deviations
//! of the collection is taken from its scores.
//!
//! # Source
//! The correction is that of CSLS (Conneau et al., arXiv 1710.04087) with a fixed bank of texts, and for
//! outliers only. The parameters are fitted by `examples/p_match.rs`; see [`parameters`].

use crate::background::Background;
use crate::language::Group;
use crate::search::{Searcher, moments};
use std::sync::{Arc, OnceLock};

/// Fewest pictures for which a probability is said.
pub const LEAST_PICTURES: usize = 50;
/// A match is more probable than not.
pub const MATCHES: f32 = 0.5;
/// Largest cosine of a picture and the mean picture, on average, of a collection of more than one subject.
const ONE_SUBJECT: f32 = 0.95;
/// Standard deviations above which a picture is near to every text.
pub const HUB: f32 = 2.0;
/// Least standard deviation that is divided by.
const LEAST_SPREAD: f32 = 1e-4;

/// A bias, and a weight for the level.
pub type Parameters = [f32; 2];

/// The parameters of a group of languages, where they were fitted.
///
/// # Source
/// `just p-match crates/nano/model --fit`: the miniature, Noto's pictures, whole subgroups of CLDR taken out; Latin is
/// Spanish, French and Italian, Cyrillic is Russian. Half of the queries have no match there.
pub fn parameters(group: Group) -> Option<Parameters> {
    Some(match group {
        Group::English => [-1.402, 3.056],
        Group::Chinese => [-0.811, 2.504],
        Group::Japanese => [-1.803, 1.631],
        Group::Korean => [-0.630, 2.421],
        Group::Cyrillic => [-1.003, 1.839],
        Group::Arabic => [-1.107, 1.340],
        Group::Latin => [-1.689, 1.598],
        Group::Hindi | Group::Thai => return None,
    })
}

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
    /// The model does not tell the pictures apart by texts of the query's language.
    Indistinct,
}

impl Uncalibrated {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::FewPictures => "fewer than 50 pictures",
            Self::OneSubject => "the pictures all show nearly the same",
            Self::PictureQuery => "probabilities are known for texts only",
            Self::Language => "nothing was fitted for the language of the query",
            Self::Indistinct => "the model does not tell the pictures apart by texts",
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
    nulls: Arc<Nulls>,
}

/// The null distributions of a collection, each computed when a query first needs it: to be kept, by whoever
/// answers more than one query, as long as rows, background and scale are the same.
#[derive(Default)]
pub struct Nulls([OnceLock<Null>; Group::ALL.len()]);

/// A query as a judge sees it.
pub struct Asked {
    /// Its normalised vector.
    pub query: Vec<f32>,
    /// The group of its text, none for a picture.
    pub group: Option<Group>,
}

/// What the background texts of a group reach in a collection.
struct Null {
    /// Mean of their vectors.
    mean: Vec<f32>,
    /// Above this score for the mean a picture is near to every text.
    hub: f32,
    /// Mean and standard deviation of their best scores.
    best: (f32, f32),
    /// How far the best is above the mean picture, on average, in units of the model's softmax.
    advantage: f32,
}

impl Null {
    fn new(searcher: &Searcher<'_>, background: &Background, group: Group, scale: f32) -> Self {
        let mean = background.mean(group);
        let common = searcher.sample_scores(&mean);
        let (middle, spread) = moments(common.iter().map(|&x| f64::from(x)));
        let hub = HUB.mul_add(spread, middle);
        // Of so many normal numbers the highest is about √(2 ln n) standard deviations above the mean.
        let highest = |n: usize| (2.0 * (n.max(2) as f32).ln()).sqrt();
        let unseen = highest(searcher.flat().len()) - highest(common.len());
        let (mut best, mut advantage) = (Vec::new(), 0.0);
        let texts = background.rows(group).chunks_exact(searcher.flat().width().max(1));
        let count = texts.len().max(1) as f32;
        for text in texts {
            let mut scores = searcher.sample_scores(text);
            scores.iter_mut().zip(&common).for_each(|(score, x)| *score -= (x - hub).max(0.0));
            let (middle, spread) = moments(scores.iter().map(|&x| f64::from(x)));
            let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let highest = unseen.mul_add(spread, highest);
            best.push(f64::from(highest));
            advantage += scale * (highest - middle) / count;
        }
        Self { mean, hub, best: moments(best.into_iter()), advantage }
    }
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
        Self { searcher, background, scale, reason, nulls: Arc::default() }
    }

    /// The same judge with what others of the same collection, background and scale have computed.
    pub fn keeping(self, nulls: &Arc<Nulls>) -> Self {
        Self { nulls: Arc::clone(nulls), ..self }
    }

    /// Why no probability is said of a query here, if so.
    pub fn uncalibrated(&self, asked: &Asked) -> Option<Uncalibrated> {
        let of_query = || match asked.group {
            None => Some(Uncalibrated::PictureQuery),
            Some(group) if parameters(group).is_none() => Some(Uncalibrated::Language),
            Some(group) => {
                // A softmax over the collection would leave the best picture less than an even share.
                let even = (self.searcher.flat().len().max(1) as f32).ln();
                (self.null(group).advantage < even).then_some(Uncalibrated::Indistinct)
            }
        };
        self.reason.or_else(of_query)
    }

    fn null(&self, group: Group) -> &Null {
        let place = Group::ALL.iter().position(|&other| other == group).unwrap_or(0);
        self.nulls.0[place]
            .get_or_init(|| Null::new(self.searcher, self.background, group, self.scale))
    }

    /// How far the score of a row for a query is above the best scores of the background, in standard
    /// deviations of those; for a picture as the query, above chance in those of its own scores.
    pub fn level(&self, asked: &Asked, row: usize) -> f32 {
        let score = self.searcher.score(row, &asked.query);
        let Some(group) = asked.group else { return score };
        let null = self.null(group);
        let excess = (self.searcher.score(row, &null.mean) - null.hub).max(0.0);
        (score - excess - null.best.0) / null.best.1.max(LEAST_SPREAD)
    }

    /// The probability that a row is a true match, whether or not it is calibrated here.
    pub fn probability(&self, asked: &Asked, row: usize) -> f32 {
        let fitted = asked.group.and_then(parameters);
        logistic(&fitted.unwrap_or([0.0, 1.0]), self.level(asked, row))
    }
}

/// The probability by bias and weight.
pub fn logistic([bias, weight]: &Parameters, level: f32) -> f32 {
    1.0 / (1.0 + (-weight.mul_add(level, *bias)).exp())
}

/// Length of the mean picture: 1 where all are the same.
fn mean_length(searcher: &Searcher<'_>) -> f32 {
    searcher.flat().mean.iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::SAMPLE_ROWS;
    use crate::{Flat, Hit, Scan};
    use altclip_kernels::Pool;
    use half::f16;

    const WIDTH: usize = 96;
    /// What a trained model has.
    const SCALE: f32 = 50.0;

    fn noise(seed: u64) -> Vec<f32> {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            z ^= z << 13;
            z ^= z >> 7;
            z ^= z << 17;
            (z >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        unit((0..WIDTH).map(|_| (0..6).map(|_| next()).sum()).collect())
    }

    fn unit(mut x: Vec<f32>) -> Vec<f32> {
        let length = x.iter().map(|x| x * x).sum::<f32>().sqrt();
        x.iter_mut().for_each(|x| *x /= length);
        x
    }

    fn sum(parts: &[(f32, &[f32])]) -> Vec<f32> {
        let at = |i: usize| parts.iter().map(|(weight, part)| weight * part[i]).sum();
        unit((0..WIDTH).map(at).collect())
    }

    /// The vector of a text about a concept: the concept, what texts have in common, and noise.
    fn text(concept: u64, seed: u64) -> Vec<f32> {
        sum(&[(1.0, &noise(concept)), (0.8, &noise(1 << 40)), (0.5, &noise(seed ^ 1 << 50))])
    }

    fn picture(concept: u64) -> Vec<f32> {
        sum(&[(1.0, &noise(concept)), (0.8, &noise(1 << 41)), (0.8, &noise(concept ^ 1 << 51))])
    }

    /// Texts of the background are about concepts from 1,000 on; the first half of them is photographed.
    fn background() -> Background {
        let rows = |group: Group| (0..group.texts().count() as u64).flat_map(|n| text(1000 + n, n));
        Background::of_rows(WIDTH, Group::ALL.map(|group| rows(group).collect()).to_vec())
    }

    fn flat(pictures: &[Vec<f32>]) -> Flat {
        let bits = pictures.iter().flatten().map(|&x| f16::from_f32(x).to_bits()).collect();
        Flat::new(0, WIDTH, (0..pictures.len() as i64).collect(), bits)
    }

    /// 300 pictures of other concepts, and 20 of those of the background.
    fn collection() -> Vec<Vec<f32>> {
        (0..300).chain(1000..1020).map(picture).collect()
    }

    fn judged<T>(pictures: &[Vec<f32>], ask: impl FnOnce(&Searcher<'_>, &Judge<'_, '_>) -> T) -> T {
        let (flat, pool, background) = (flat(pictures), Pool::new(1), background());
        let searcher = Searcher::new(&flat, &pool);
        ask(&searcher, &Judge::new(&searcher, &background, SCALE))
    }

    fn english(query: Vec<f32>) -> Asked {
        Asked { query, group: Some(Group::English) }
    }

    /// The most probable row and its probability.
    fn best(searcher: &Searcher<'_>, judge: &Judge<'_, '_>, asked: &Asked) -> (usize, f32) {
        let hits = searcher.nearest(&asked.query, 20, None, Scan::Exact);
        let judged = hits.into_iter().map(|hit| (hit.row, judge.probability(asked, hit.row)));
        judged.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
    }

    #[test]
    fn what_is_there_is_probable_and_what_is_not_there_is_not() {
        judged(&collection(), |searcher, judge| {
            let (mut found, mut wrong) = (0, 0);
            for n in 0..100 {
                let asked = english(text(n, n + 500));
                assert_eq!(judge.uncalibrated(&asked), None);
                let (row, p) = best(searcher, judge, &asked);
                found += u32::from(row as u64 == n && p >= MATCHES);
                let (_, p) = best(searcher, judge, &english(text(n + 400, n + 500)));
                wrong += u32::from(p >= MATCHES);
            }
            assert!(found >= 80 && wrong <= 15, "{found} found, {wrong} wrong");
        });
    }

    #[test]
    fn what_is_kept_judges_alike() {
        judged(&collection(), |searcher, judge| {
            let (asked, background) = (english(text(3, 503)), background());
            let nulls = Arc::default();
            for _ in 0..2 {
                let keeping = Judge::new(searcher, &background, SCALE).keeping(&nulls);
                assert_eq!(keeping.probability(&asked, 3), judge.probability(&asked, 3));
            }
            assert_eq!(nulls.0.iter().filter(|null| null.get().is_some()).count(), 1);
        });
    }

    #[test]
    fn a_picture_near_to_every_text_is_the_answer_to_none() {
        let mut pictures = collection();
        pictures.push(noise(1 << 40));
        let hub = pictures.len() - 1;
        judged(&pictures, |searcher, judge| {
            let (mut first, mut found, mut probable) = (0, 0, 0);
            for n in 0..50 {
                let asked = english(text(n, n + 500));
                let nearest = searcher.nearest(&asked.query, 1, None, Scan::Exact);
                first += u32::from(matches!(nearest[..], [Hit { row, .. }] if row == hub));
                found += u32::from(best(searcher, judge, &asked).0 as u64 == n);
                probable += u32::from(judge.probability(&asked, hub) >= MATCHES);
            }
            // By the cosine it comes first; it is the control.
            assert!(first >= 40, "{first}");
            assert!(found >= 40 && probable == 0, "{found} found, {probable} times the hub");
            let found = crate::hubs(searcher, &background(), 3.0);
            assert_eq!(found.iter().map(|hit| hit.row).collect::<Vec<_>>(), [hub]);
        });
    }

    #[test]
    fn a_model_that_knows_nothing_says_so() {
        let pictures: Vec<Vec<f32>> = (0..300).map(|n| noise(n + 5000)).collect();
        let (flat, pool) = (flat(&pictures), Pool::new(1));
        let rows = |group: Group| (0..group.texts().count() as u64).flat_map(|n| noise(n + 9000));
        let background = Background::of_rows(WIDTH, Group::ALL.map(|g| rows(g).collect()).to_vec());
        let searcher = Searcher::new(&flat, &pool);
        // The scale that models begin their training with; and the control, what the planted one has.
        let judge = Judge::new(&searcher, &background, 14.3);
        assert_eq!(judge.uncalibrated(&english(noise(1))), Some(Uncalibrated::Indistinct));
        judged(&collection(), |_, judge| {
            assert_eq!(judge.uncalibrated(&english(text(1, 1))), None);
        });
    }

    #[test]
    fn where_nothing_can_be_said_the_reason_is_given() {
        let reason = |pictures: &[Vec<f32>], group| {
            let asked = Asked { query: text(1, 1), group };
            judged(pictures, |_, judge| judge.uncalibrated(&asked))
        };
        let all = collection();
        assert_eq!(reason(&all[..49], Some(Group::English)), Some(Uncalibrated::FewPictures));
        assert_eq!(reason(&all, None), Some(Uncalibrated::PictureQuery));
        assert_eq!(reason(&all, Some(Group::Thai)), Some(Uncalibrated::Language));
        let same: Vec<Vec<f32>> =
            (0..60).map(|n| sum(&[(1.0, &noise(1)), (0.1, &noise(n + 2))])).collect();
        assert_eq!(reason(&same, Some(Group::English)), Some(Uncalibrated::OneSubject));
        assert_eq!(reason(&all, Some(Group::English)), None);
    }

    #[test]
    fn a_sample_stands_for_a_large_collection() {
        let pictures: Vec<Vec<f32>> = (0..SAMPLE_ROWS as u64 + 4000).map(picture).collect();
        judged(&pictures, |searcher, judge| {
            assert!(searcher.sample_scores(&noise(1)).len() < pictures.len());
            let asked = english(text(77, 1));
            assert_eq!(best(searcher, judge, &asked).0, 77);
        });
    }
}
