//! Retrieval where a text may fit several images, as in MUGE: a hit if any of them is among the first k.

use crate::retrieval::{K, RetrievalReport, Ties};
use crate::{Error, Result, Rows, Scorer};
use std::collections::BTreeMap;

/// Recall both ways from all fitting pairs `(text, image)`. Median ranks are not counted (NaN), nor
/// intervals and worst queries; texts and images without a pair are candidates only.
///
/// # Errors
/// [`Error::Width`], [`Error::OutOfRange`], [`Error::Empty`] without pairs.
pub fn retrieval_of_many(
    scorer: &Scorer,
    images: &Rows<'_>,
    texts: &Rows<'_>,
    pairs: &[(usize, usize)],
) -> Result<RetrievalReport> {
    let mut of_texts = vec![Vec::new(); texts.len()];
    let mut of_images = vec![Vec::new(); images.len()];
    for (item, &(text, image)) in pairs.iter().enumerate() {
        let wrong = |found: usize, limit| {
            let found = found as i128;
            Error::OutOfRange { what: "pairs".into(), item, found, limit }
        };
        of_texts.get_mut(text).ok_or_else(|| wrong(text, texts.len()))?.push(image);
        of_images.get_mut(image).ok_or_else(|| wrong(image, images.len()))?.push(text);
    }
    if pairs.is_empty() {
        return Err(Error::Empty { what: "pairs".into() });
    }
    let image_retrieval_recall = recall(scorer, texts, images, &of_texts)?;
    let text_retrieval_recall = recall(scorer, images, texts, &of_images)?;
    let all = image_retrieval_recall.iter().chain(&text_retrieval_recall);
    Ok(RetrievalReport {
        image_retrieval_recall,
        text_retrieval_recall,
        mean_recall: all.sum::<f64>() / (2 * K.len()) as f64,
        image_retrieval_median_rank: f64::NAN,
        text_retrieval_median_rank: f64::NAN,
        images: images.len(),
        texts: texts.len(),
        images_without_caption: of_images.iter().filter(|texts| texts.is_empty()).count(),
        ties: Ties { image_retrieval: 0, text_retrieval: 0 },
        intervals: None,
        worst: Vec::new(),
        languages: BTreeMap::new(),
    })
}

fn recall(
    scorer: &Scorer,
    queries: &Rows<'_>,
    candidates: &Rows<'_>,
    fitting: &[Vec<usize>],
) -> Result<[f64; K.len()]> {
    let found = scorer.top_k(queries, candidates, K[K.len() - 1])?;
    let mut hits = [0usize; K.len()];
    let mut asked = 0usize;
    for (hits_of, fitting) in found.iter().zip(fitting).filter(|(_, fitting)| !fitting.is_empty()) {
        asked += 1;
        let first = hits_of.iter().position(|hit| fitting.contains(&hit.row));
        for (count, k) in hits.iter_mut().zip(K) {
            *count += usize::from(first.is_some_and(|first| first < k));
        }
    }
    Ok(hits.map(|hits| hits as f64 / asked as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Pairs, RetrievalOptions, retrieval};

    #[test]
    fn one_image_a_text_gives_the_usual_figures() {
        let numbers = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|n| ((n * 7919 + seed * 104729) % 1009) as f32 - 504.5).collect()
        };
        let (images, texts) = (numbers(40 * 6, 1), numbers(90 * 6, 2));
        let images = Rows::new("images", &images, 6).unwrap();
        let texts = Rows::new("texts", &texts, 6).unwrap();
        let index: Vec<usize> = (0..90).map(|n| n % 40).collect();
        let scorer = Scorer::new(2);
        let usual = Pairs::new(images.clone(), texts.clone(), &index).unwrap();
        let usual = retrieval(&scorer, &usual, &RetrievalOptions::default());
        let mut pairs: Vec<(usize, usize)> = index.into_iter().enumerate().collect();
        let many = retrieval_of_many(&scorer, &images, &texts, &pairs).unwrap();
        assert_eq!(many.image_retrieval_recall, usual.image_retrieval_recall);
        assert_eq!(many.text_retrieval_recall, usual.text_retrieval_recall);
        // A text that fits every image is always found.
        pairs.extend((0..40).map(|image| (0, image)));
        let more = retrieval_of_many(&scorer, &images, &texts, &pairs).unwrap();
        assert!(more.image_retrieval_recall[0] >= many.image_retrieval_recall[0]);
        assert!(retrieval_of_many(&scorer, &images, &texts, &[(0, 40)]).is_err());
    }
}
