//! From a query to an answer: vectors, candidates, probabilities, the best.

use crate::judge::{Asked, Judge, MATCHES, Uncalibrated};
use crate::language::Group;
use crate::picture::Picture;
use crate::query::{Content, Query, Term};
use crate::search::{Hit, Scan, Searcher};
use crate::{Error, Filter, Index};
use std::collections::BTreeSet;

/// Candidates of each sum of a query, for each result.
const CANDIDATES_PER_RESULT: usize = 4;
/// Fewest of them.
const LEAST_CANDIDATES: usize = 64;

/// A picture of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Number of its row in the store.
    pub id: i64,
    /// The picture.
    pub picture: Picture,
    /// Row of the search structure.
    pub row: usize,
    /// Its cosine with the query; with the first sum of a query with AND, OR or NOT.
    pub score: f32,
    /// The probability that it is a true match; `None` where that is not known.
    pub probability: Option<f32>,
}

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The best first.
    pub matches: Vec<Match>,
    /// Nothing is probable to match.
    pub no_match: bool,
    /// The filter lets no picture through.
    pub none_passes: bool,
    /// Why there are no probabilities, if so.
    pub uncalibrated: Option<Uncalibrated>,
}

/// How an answer is looked for.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// Most pictures.
    pub top_k: usize,
    /// Which pictures are looked at.
    pub filter: Filter,
    /// How rows are found.
    pub scan: Scan,
}

/// Answers a query. `encode` gives the normalised vector of a text or picture.
///
/// # Errors
/// Those of the store and of `encode`.
pub fn answer<E: From<Error>>(
    index: &Index,
    searcher: &Searcher<'_>,
    judge: &Judge<'_, '_>,
    query: &Query,
    ask: &Ask,
    encode: &mut dyn FnMut(&Content) -> Result<Vec<f32>, E>,
) -> Result<Answer, E> {
    ask.filter.check()?;
    let flat = searcher.flat();
    let among = match ask.filter.is_empty() {
        true => None,
        false => {
            let ids = index.store().select(&ask.filter)?;
            Some(ids.into_iter().filter_map(|id| flat.row_of(id)).collect::<Vec<_>>())
        }
    };
    let sums = query.sums();
    let mut asked = Vec::new();
    for (terms, _) in &sums {
        let (query, group) = vector(terms, encode)?;
        asked.push(Asked { query, group });
    }
    let uncalibrated = asked.iter().find_map(|asked| judge.uncalibrated(asked));
    let wanted = CANDIDATES_PER_RESULT * ask.top_k.min(flat.len());
    let wanted = wanted.max(LEAST_CANDIDATES);
    let mut rows = BTreeSet::new();
    let positive = sums.iter().any(|(_, negated)| !negated);
    for (asked, (_, negated)) in asked.iter().zip(&sums) {
        // Where all is under NOT, what is furthest from it comes first.
        let direction: Vec<f32> = match (negated, positive) {
            (false, _) => asked.query.clone(),
            (true, false) => asked.query.iter().map(|x| -x).collect(),
            (true, true) => continue,
        };
        let hits = searcher.nearest(&direction, wanted, among.as_deref(), ask.scan);
        rows.extend(hits.into_iter().map(|hit| hit.row));
    }
    let score = |row: usize| asked.first().map_or(0.0, |asked| searcher.score(row, &asked.query));
    let probability = |row: usize| {
        query.probability(&mut asked.iter().map(|asked| judge.probability(asked, row)))
    };
    let mut found: Vec<(Hit, f32)> =
        rows.into_iter().map(|row| (Hit { row, score: score(row) }, probability(row))).collect();
    // A picture as the query has no background: its cosine is the order.
    let is_plain = matches!(query, Query::Sum(_)) && asked.iter().all(|a| a.group.is_none());
    found.sort_by(|a, b| {
        let by_score = b.0.score.total_cmp(&a.0.score);
        if is_plain { by_score } else { b.1.total_cmp(&a.1).then(by_score) }
    });
    found.truncate(ask.top_k);
    let calibrated = uncalibrated.is_none();
    let best = found.first().map_or(0.0, |(_, probability)| *probability);
    let no_match = found.is_empty() || (calibrated && best < MATCHES);
    let mut matches = Vec::new();
    for (Hit { row, score }, probability) in found {
        let Some(id) = flat.id(row) else { continue };
        // A writer may have removed it since.
        let Some(picture) = index.store().picture(id)? else { continue };
        matches.push(Match {
            id,
            picture,
            row,
            score,
            probability: calibrated.then_some(probability),
        });
    }
    let none_passes = among.is_some_and(|among| among.is_empty());
    Ok(Answer { matches, no_match, none_passes, uncalibrated })
}

/// The normalised sum of terms, and the group of the text that weighs most; none where a picture does.
fn vector<E: From<Error>>(
    terms: &[Term],
    encode: &mut dyn FnMut(&Content) -> Result<Vec<f32>, E>,
) -> Result<(Vec<f32>, Option<Group>), E> {
    let mut sum: Vec<f32> = Vec::new();
    let (mut heaviest, mut group) = (0.0, None);
    for Term { weight, content } in terms {
        let vector = encode(content)?;
        if sum.is_empty() {
            sum = vec![0.0; vector.len()];
        }
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += weight * x);
        if *weight > heaviest {
            heaviest = *weight;
            group = match content {
                Content::Text(text) => Some(Group::of(text)),
                Content::Picture(_) => None,
            };
        }
    }
    if terms.iter().any(|term| matches!(term.content, Content::Picture(_))) {
        group = None;
    }
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        sum.iter_mut().for_each(|x| *x /= length);
    }
    Ok((sum, group))
}
