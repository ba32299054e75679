//! Accuracy, recall of each class, and what is taken for what.
//!
//! # Against CLIP_benchmark
//! `acc1`, `acc5` and `mean_per_class_recall` as there: the last is the mean over the classes that
//! occur (scikit-learn's balanced accuracy), and `acc5` does not exist below five classes. There the
//! first comes from f32 copies of the scores and the last from f16 ones; here all are of one precision,
//! and of equal scores the lower class comes first.
//!
//! # Source
//! `clip_benchmark/metrics/zeroshot_classification.py`, LAION-AI/CLIP_benchmark@082089f.

use crate::{Error, Result, Rows, Scorer, TokenRows};
use serde::Serialize;
use std::collections::BTreeMap;

/// How many classes a sample may name for `acc5`.
const TOP: usize = 5;

/// Counts of a classification that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classification {
    classes: usize,
    /// Samples by their class and the class they were given; most pairs never occur.
    confusion: BTreeMap<(usize, usize), u64>,
    samples: Vec<u64>,
    top5: u64,
}

/// Figures of classification, as shares from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ClassificationReport {
    /// Samples whose class has the highest score.
    pub acc1: f64,
    /// Samples whose class has one of the five highest scores; `None` below five classes.
    pub acc5: Option<f64>,
    /// The mean over classes of the share of their samples that are given the class.
    pub mean_per_class_recall: f64,
    /// Number of samples.
    pub samples: u64,
    /// Number of classes.
    pub classes: usize,
    /// Classes of which no sample was seen; the mean is over the others.
    pub classes_without_sample: usize,
}

impl Classification {
    /// No sample yet, of so many classes.
    ///
    /// # Errors
    /// [`Error::Empty`] without classes.
    pub fn new(classes: usize) -> Result<Self> {
        if classes == 0 {
            return Err(Error::Empty { what: "classes".into() });
        }
        Ok(Self { classes, confusion: BTreeMap::new(), samples: vec![0; classes], top5: 0 })
    }

    /// Adds samples: `scores` `[N, classes]`, a row for each of `labels`.
    ///
    /// # Errors
    /// [`Error::Count`], [`Error::OutOfRange`] of a label, [`Error::NonFinite`]. Nothing is added then.
    pub fn add(&mut self, scores: &[f32], labels: &[usize]) -> Result<()> {
        if Some(scores.len()) != labels.len().checked_mul(self.classes) {
            return Err(Error::Count {
                what: "scores".into(),
                found: scores.len(),
                of: "labels times classes".into(),
                expected: labels.len().saturating_mul(self.classes),
            });
        }
        check_labels(labels, self.classes)?;
        if let Some(at) = scores.iter().position(|score| !score.is_finite()) {
            let (row, column) = (at / self.classes, at % self.classes);
            return Err(Error::NonFinite { what: "scores".into(), row, column, found: scores[at] });
        }
        for (&label, row) in labels.iter().zip(scores.chunks_exact(self.classes)) {
            let own = row[label];
            let before =
                |(class, &score): (usize, &f32)| score > own || (score == own && class < label);
            let rank = row.iter().enumerate().filter(|&cell| before(cell)).count();
            let mut predicted = 0;
            for (class, &score) in row.iter().enumerate() {
                if score > row[predicted] {
                    predicted = class;
                }
            }
            self.count(label, predicted, rank < TOP);
        }
        Ok(())
    }

    fn count(&mut self, label: usize, predicted: usize, in_top: bool) {
        *self.confusion.entry((label, predicted)).or_default() += 1;
        self.samples[label] += 1;
        self.top5 += u64::from(in_top);
    }

    /// What is taken for what: class, given class, samples. Pairs that never occurred are left out.
    pub fn confusion(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        self.confusion.iter().map(|(&(class, given), &samples)| (class, given, samples))
    }

    /// The matrix of the same, `[classes, classes]`, a row for each class: for few classes.
    pub fn confusion_matrix(&self) -> Vec<u64> {
        let mut matrix = vec![0; self.classes * self.classes];
        for (class, given, samples) in self.confusion() {
            matrix[class * self.classes + given] = samples;
        }
        matrix
    }

    fn right(&self, class: usize) -> u64 {
        self.confusion.get(&(class, class)).copied().unwrap_or(0)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The share of each class's samples that are given the class; `None` for a class without samples.
    pub fn recalls(&self) -> Vec<Option<f64>> {
        let share = |(class, &samples): (usize, &u64)| match samples {
            0 => None,
            _ => Some(self.right(class) as f64 / samples as f64),
        };
        self.samples.iter().enumerate().map(share).collect()
    }

    /// The figures.
    ///
    /// # Errors
    /// [`Error::Empty`] without samples.
    pub fn report(&self) -> Result<ClassificationReport> {
        let samples: u64 = self.samples.iter().sum();
        if samples == 0 {
            return Err(Error::Empty { what: "samples".into() });
        }
        let share = |count: u64| count as f64 / samples as f64;
        let right = (0..self.classes).map(|class| self.right(class)).sum();
        let recalls: Vec<f64> = self.recalls().into_iter().flatten().collect();
        Ok(ClassificationReport {
            acc1: share(right),
            acc5: (self.classes >= TOP).then(|| share(self.top5)),
            mean_per_class_recall: recalls.iter().sum::<f64>() / recalls.len() as f64,
            samples,
            classes: self.classes,
            classes_without_sample: self.classes - recalls.len(),
        })
    }
}

/// The embedding of each class: the mean of those of its captions, `texts` `[classes · captions, E]`, normalised again.
///
/// # Source
/// Radford et al., arXiv 2103.00020, section 3.1.4.
///
/// # Errors
/// [`Error::Count`] if the texts are no whole number of classes; [`Error::Zero`] if captions cancel each other.
pub fn classifier(texts: &Rows<'_>, classes: usize) -> Result<Vec<f32>> {
    let captions = texts.len().checked_div(classes).unwrap_or(0);
    if captions * classes != texts.len() {
        let (what, of) = (texts.what().into(), "captions of all classes".into());
        return Err(Error::Count { what, found: texts.len(), of, expected: captions * classes });
    }
    let mut means = Vec::with_capacity(classes * texts.width());
    for class in 0..classes {
        let mut sum = vec![0.0; texts.width()];
        for text in class * captions..(class + 1) * captions {
            let row = texts.normalized(text).map(f64::from);
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
        let norm = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Err(Error::Zero { what: "class embeddings".into(), row: class });
        }
        means.extend(sum.iter().map(|value| (value / norm) as f32));
    }
    Ok(means)
}

/// Classifies `images` `[N, E]` by the class embeddings of `classifier` `[classes, E]`.
///
/// # Errors
/// [`Error::Width`], [`Error::Count`], and [`Error::OutOfRange`] of a label.
pub fn zeroshot(
    scorer: &Scorer,
    images: &Rows<'_>,
    classifier: &Rows<'_>,
    labels: &[usize],
) -> Result<Classification> {
    let (found, expected) = (labels.len(), images.len());
    if found != expected {
        let (what, of) = ("labels".into(), images.what().into());
        return Err(Error::Count { what, found, of, expected });
    }
    check_labels(labels, classifier.len())?;
    let mut classification = Classification::new(classifier.len())?;
    for (&label, hits) in labels.iter().zip(scorer.top_k(images, classifier, TOP)?) {
        let in_top = hits.iter().any(|hit| hit.row == label);
        classification.count(label, hits.first().map_or(0, |hit| hit.row), in_top);
    }
    Ok(classification)
}

/// Classifies `images` token by token: the softmax over the classes of `scale` times the similarity, and of
/// that the mean over the templates. Each of `templates` has a text for every class.
///
/// # Source
/// mindspore-ai/models `research/mm/wukong/src/model/matrics.py` (commit 19481ec).
///
/// # Errors
/// As [`zeroshot`]; [`Error::Empty`] without templates, [`Error::Count`] where they are of other classes.
pub fn zeroshot_token_wise(
    scorer: &Scorer,
    images: &TokenRows<'_>,
    templates: &[TokenRows<'_>],
    scale: f32,
    labels: &[usize],
) -> Result<Classification> {
    let Some(classes) = templates.first().map(TokenRows::len) else {
        return Err(Error::Empty { what: "templates".into() });
    };
    let count = |what: &str, found, of: &str, expected| {
        Err(Error::Count { what: what.into(), found, of: of.into(), expected })
    };
    if labels.len() != images.len() {
        return count("labels", labels.len(), "images", images.len());
    }
    for template in templates {
        template.check_width(images)?;
        if template.len() != classes {
            return count("texts of a template", template.len(), "classes", classes);
        }
    }
    let mut classification = Classification::new(classes)?;
    for items in images.cuts(scorer.block_sizes().0) {
        let part = images.select(&items.clone().collect::<Vec<_>>())?;
        let mut probabilities = vec![0.0f32; part.len() * classes];
        for template in templates {
            let mut scores = vec![0.0f32; part.len() * classes];
            scorer.token_blocks(template, &part, &mut |block| {
                for class in block.queries.clone() {
                    for (image, &score) in block.candidates.clone().zip(block.row(1, class)) {
                        scores[image * classes + class] = scale * score;
                    }
                }
            });
            let rows = scores.chunks_exact(classes).zip(probabilities.chunks_exact_mut(classes));
            for (scores, probabilities) in rows {
                let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f32 = scores.iter().map(|score| (score - largest).exp()).sum();
                for (mean, score) in probabilities.iter_mut().zip(scores) {
                    *mean += (score - largest).exp() / sum / templates.len() as f32;
                }
            }
        }
        classification.add(&probabilities, &labels[items])?;
    }
    Ok(classification)
}

pub(crate) fn check_labels(labels: &[usize], limit: usize) -> Result<()> {
    match labels.iter().position(|&label| label >= limit) {
        None => Ok(()),
        Some(item) => {
            let found = labels[item] as i128;
            Err(Error::OutOfRange { what: "labels".into(), item, found, limit })
        }
    }
}
