//! Recall of images and texts by CLIP's rule, with intervals, languages and the worst queries.
//!
//! Image retrieval: each text is a query, a hit if its image is among the first k. Text retrieval:
//! each image is a query, a hit if **any** of its captions is among the first k.
//!
//! Where a text fits several images (MUGE) it is a hit if any of them is among the first k. MUGE itself
//! counts that way alone, and ranks by the mean of the three figures.
//!
//! # Against CLIP_benchmark
//! The same numbers where no similarities are equal and every image has a caption. `torch.topk`
//! leaves the order of equal ones open, so its figures depend on version and device; here the lower
//! row comes first (`ties` counts the queries that this decides), so a model that gives everything
//! one embedding is at chance. An image without caption is a miss there and no query here
//! (`images_without_caption` counts them). With fewer than k candidates all are found, where
//! `torch.topk` fails.
//!
//! # Source
//! `clip_benchmark/metrics/zeroshot_retrieval.py`, LAION-AI/CLIP_benchmark@082089f; MUGE's count:
//! `cn_clip/eval/evaluation.py`, OFA-Sys/Chinese-CLIP@2c586c5.

use crate::{Bootstrap, Error, Hit, Pairs, Ranks, Result, Scorer, bootstrap::CONFIDENCE};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;

/// The k of recall@k.
pub const K: [usize; 3] = [1, 5, 10];

/// How many figures have an interval: recall both ways, their mean, and that of image retrieval.
const FIGURES: usize = 2 * K.len() + 2;

/// What a report holds besides recall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrievalOptions {
    /// How intervals are found.
    pub bootstrap: Bootstrap,
    /// How many of the worst queries of each direction are listed.
    pub worst: usize,
}

impl Default for RetrievalOptions {
    fn default() -> Self {
        Self { bootstrap: Bootstrap::default(), worst: 10 }
    }
}

/// Which way is searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From a text to its image.
    ImageRetrieval,
    /// From an image to its captions.
    TextRetrieval,
}

/// Figures of retrieval, as shares from 0 to 1.
///
/// As JSON it begins with CLIP_benchmark's names, `image_retrieval_recall@1` to
/// `text_retrieval_recall@10`, then `mean_recall`, then the rest.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrievalReport {
    /// Texts that find their image among the first [`K`].
    pub image_retrieval_recall: [f64; K.len()],
    /// Images that find one of their captions among the first [`K`].
    pub text_retrieval_recall: [f64; K.len()],
    /// The mean of the six.
    pub mean_recall: f64,
    /// The mean of the three of image retrieval, where a text fits several images: MUGE's figure.
    pub image_retrieval_mean_recall: Option<f64>,
    /// Median position of the match, from 1 for the first.
    pub image_retrieval_median_rank: f64,
    /// Median position of the first caption, from 1 for the first.
    pub text_retrieval_median_rank: f64,
    /// Number of images, all of them candidates.
    pub images: usize,
    /// Number of texts.
    pub texts: usize,
    /// Images that no text belongs to: candidates, not queries.
    pub images_without_caption: usize,
    /// Queries whose position the order of equal similarities decides.
    pub ties: Ties,
    /// 95 % intervals; `None` if none were asked for.
    pub intervals: Option<RetrievalIntervals>,
    /// The queries whose match stands last.
    pub worst: Vec<WorstQuery>,
    /// The same figures for the texts of each language alone, against all images.
    pub languages: BTreeMap<String, RetrievalReport>,
}

/// Queries whose position the order of equal similarities decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Ties {
    /// Texts.
    pub image_retrieval: usize,
    /// Images.
    pub text_retrieval: usize,
}

/// The lower and upper ends of 95 % intervals.
///
/// Images are drawn, each with its captions: captions of one picture are no independent trials. Where a
/// text fits several images, texts and images are drawn each by themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct RetrievalIntervals {
    /// How they were found.
    pub bootstrap: Bootstrap,
    /// Of [`RetrievalReport::image_retrieval_recall`].
    pub image_retrieval_recall: [[f64; 2]; K.len()],
    /// Of [`RetrievalReport::text_retrieval_recall`].
    pub text_retrieval_recall: [[f64; 2]; K.len()],
    /// Of [`RetrievalReport::mean_recall`].
    pub mean_recall: [f64; 2],
    /// Of [`RetrievalReport::image_retrieval_mean_recall`].
    pub image_retrieval_mean_recall: Option<[f64; 2]>,
}

/// A query that finds its match late.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct WorstQuery {
    /// Which way was searched.
    pub direction: Direction,
    /// Row of the text or image that was the query.
    pub query: usize,
    /// Position of its match, from 1 for the first.
    pub rank: usize,
    /// Rows of the image or texts that were found first.
    pub found: Vec<Hit>,
}

/// How many of the rows found first are listed for a bad query.
const SHOWN: usize = 3;

/// Recall both ways.
pub fn retrieval(
    scorer: &Scorer,
    pairs: &Pairs<'_>,
    options: &RetrievalOptions,
) -> RetrievalReport {
    let ranks = pairs.ranks(scorer);
    let groups = groups(pairs, &ranks);
    let sums = groups.iter().flatten().fold([0.0; COLUMNS], |mut sums, item| {
        sums.iter_mut().zip(item).for_each(|(sum, &value)| *sum += f64::from(value));
        sums
    });
    let many = pairs.fitting.is_many();
    let bootstrap = options.bootstrap;
    let intervals = bootstrap.intervals(scorer, &groups, figures).map(|ends| {
        let [i1, i5, i10, t1, t5, t10, mean_recall, image_mean] = ends;
        RetrievalIntervals {
            bootstrap,
            image_retrieval_recall: [i1, i5, i10],
            text_retrieval_recall: [t1, t5, t10],
            mean_recall,
            image_retrieval_mean_recall: many.then_some(image_mean),
        }
    });
    let [i1, i5, i10, t1, t5, t10, mean_recall, image_mean] = figures(&sums);
    let queries = ranks.text_retrieval.iter().flatten();
    RetrievalReport {
        image_retrieval_recall: [i1, i5, i10],
        text_retrieval_recall: [t1, t5, t10],
        mean_recall,
        image_retrieval_mean_recall: many.then_some(image_mean),
        image_retrieval_median_rank: median_rank(ranks.image_retrieval.clone()),
        text_retrieval_median_rank: median_rank(queries.clone().copied().collect()),
        images: pairs.images(),
        texts: pairs.texts(),
        images_without_caption: pairs.images() - queries.count(),
        ties: Ties {
            image_retrieval: ranks.image_retrieval_ties,
            text_retrieval: ranks.text_retrieval_ties,
        },
        intervals,
        worst: worst(scorer, pairs, &ranks, options.worst),
        languages: BTreeMap::new(),
    }
}

/// Recall both ways over all texts, and for the texts of each language alone.
///
/// `languages[t]` is the language of text `t`. All images stay candidates for every language; an image
/// is a query for the languages that it has a caption in, and finds among their texts alone.
///
/// # Errors
/// [`Error::Count`] if there is not one language for each text.
pub fn retrieval_by_language<S: AsRef<str>>(
    scorer: &Scorer,
    pairs: &Pairs<'_>,
    languages: &[S],
    options: &RetrievalOptions,
) -> Result<RetrievalReport> {
    let (found, expected) = (languages.len(), pairs.texts());
    if found != expected {
        let (what, of) = ("languages".into(), "texts".into());
        return Err(Error::Count { what, found, of, expected });
    }
    let mut texts: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (text, language) in languages.iter().enumerate() {
        texts.entry(language.as_ref()).or_default().push(text);
    }
    let mut report = retrieval(scorer, pairs, options);
    for (language, texts) in texts {
        let part = retrieval(scorer, &pairs.with_texts(&texts)?, options);
        report.languages.insert(language.to_owned(), part);
    }
    Ok(report)
}

/// What is counted of texts and of images: how many hit at each k, and how many there are.
const COLUMNS: usize = 2 * (K.len() + 1);

/// What is drawn together: an image with its captions. Where a text fits several images that is no
/// division, and texts and images are drawn apart.
fn groups(pairs: &Pairs<'_>, ranks: &Ranks) -> Vec<Vec<[f32; COLUMNS]>> {
    let hits = |rank: u32| {
        let hit = |k: usize| f32::from(u8::from((rank as usize) < k));
        let [a, b, c] = K.map(hit);
        [a, b, c, 1.0]
    };
    let text = |rank: u32| {
        let [a, b, c, one] = hits(rank);
        [a, b, c, one, 0.0, 0.0, 0.0, 0.0]
    };
    let image = |rank: u32| {
        let [a, b, c, one] = hits(rank);
        [0.0, 0.0, 0.0, 0.0, a, b, c, one]
    };
    if pairs.fitting.is_many() {
        let texts = ranks.image_retrieval.iter().map(|&rank| text(rank)).collect();
        let images = ranks.text_retrieval.iter().flatten().map(|&rank| image(rank)).collect();
        return vec![texts, images];
    }
    let with_captions = ranks.text_retrieval.iter().enumerate().filter_map(|(row, rank)| {
        let captions = pairs.fitting.texts.of(row).iter();
        let captions = captions.map(|&caption| text(ranks.image_retrieval[caption as usize]));
        Some(captions.fold(image((*rank)?), |mut sum, caption| {
            sum.iter_mut().zip(caption).for_each(|(sum, value)| *sum += value);
            sum
        }))
    });
    vec![with_captions.collect()]
}

fn figures(sums: &[f64; COLUMNS]) -> [f64; FIGURES] {
    let [i1, i5, i10, texts, t1, t5, t10, images] = *sums;
    let [i1, i5, i10] = [i1, i5, i10].map(|hits| hits / texts);
    let [t1, t5, t10] = [t1, t5, t10].map(|hits| hits / images);
    let mean = [i1, i5, i10, t1, t5, t10].iter().sum::<f64>() / 6.0;
    [i1, i5, i10, t1, t5, t10, mean, (i1 + i5 + i10) / 3.0]
}

/// The median of positions that count from 0, as one that counts from 1.
fn median_rank(mut ranks: Vec<u32>) -> f64 {
    ranks.sort_unstable();
    let (low, high) = (ranks[(ranks.len() - 1) / 2], ranks[ranks.len() / 2]);
    (f64::from(low) + f64::from(high)) / 2.0 + 1.0
}

/// The `count` worst queries of each direction that miss the first place.
fn worst(scorer: &Scorer, pairs: &Pairs<'_>, ranks: &Ranks, count: usize) -> Vec<WorstQuery> {
    let image_ranks = ranks.image_retrieval.iter().map(|&rank| Some(rank)).collect();
    let directions = [
        (Direction::ImageRetrieval, [0, 1], image_ranks),
        (Direction::TextRetrieval, [1, 0], ranks.text_retrieval.clone()),
    ];
    let mut list = Vec::new();
    for (direction, [from, to], ranks) in directions {
        let ranks: Vec<Option<u32>> = ranks;
        let mut missed: Vec<(usize, u32)> = ranks
            .iter()
            .enumerate()
            .filter_map(|(row, rank)| rank.filter(|&rank| rank > 0).map(|rank| (row, rank)))
            .collect();
        missed.sort_by_key(|&(_, rank)| std::cmp::Reverse(rank));
        missed.truncate(count);
        let rows: Vec<usize> = missed.iter().map(|&(row, _)| row).collect();
        let found = pairs.similarities.found(scorer, direction, &rows, SHOWN);
        for (&(row, rank), mut found) in missed.iter().zip(found) {
            found.iter_mut().for_each(|hit| hit.row = pairs.number(to, hit.row));
            let (query, rank) = (pairs.number(from, row), rank as usize + 1);
            list.push(WorstQuery { direction, query, rank, found });
        }
    }
    list
}

const IMAGE_MEAN: &str = "image_retrieval_mean_recall";

/// Writes the figures under CLIP_benchmark's names.
fn entries<M: SerializeMap, T: Serialize>(
    map: &mut M,
    (image, text, mean): (&[T; K.len()], &[T; K.len()], &T),
) -> std::result::Result<(), M::Error> {
    for (name, values) in [("image", image), ("text", text)] {
        for (k, value) in K.iter().zip(values) {
            map.serialize_entry(&format!("{name}_retrieval_recall@{k}"), value)?;
        }
    }
    map.serialize_entry("mean_recall", mean)
}

impl Serialize for RetrievalReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let recalls = (&self.image_retrieval_recall, &self.text_retrieval_recall);
        entries(&mut map, (recalls.0, recalls.1, &self.mean_recall))?;
        if let Some(mean) = &self.image_retrieval_mean_recall {
            map.serialize_entry(IMAGE_MEAN, mean)?;
        }
        map.serialize_entry("image_retrieval_median_rank", &self.image_retrieval_median_rank)?;
        map.serialize_entry("text_retrieval_median_rank", &self.text_retrieval_median_rank)?;
        map.serialize_entry("images", &self.images)?;
        map.serialize_entry("texts", &self.texts)?;
        map.serialize_entry("images_without_caption", &self.images_without_caption)?;
        map.serialize_entry("ties", &self.ties)?;
        if let Some(intervals) = &self.intervals {
            map.serialize_entry("intervals", intervals)?;
        }
        if !self.worst.is_empty() {
            map.serialize_entry("worst", &self.worst)?;
        }
        if !self.languages.is_empty() {
            map.serialize_entry("languages", &self.languages)?;
        }
        map.end()
    }
}

impl Serialize for RetrievalIntervals {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let recalls = (&self.image_retrieval_recall, &self.text_retrieval_recall);
        entries(&mut map, (recalls.0, recalls.1, &self.mean_recall))?;
        if let Some(mean) = &self.image_retrieval_mean_recall {
            map.serialize_entry(IMAGE_MEAN, mean)?;
        }
        map.serialize_entry("confidence", &CONFIDENCE)?;
        map.serialize_entry("resamples", &self.bootstrap.resamples)?;
        map.serialize_entry("seed", &self.bootstrap.seed)?;
        map.end()
    }
}
