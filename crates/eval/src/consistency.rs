//! Whether the same query in two languages finds the same.
//!
//! # Source
//! Rank-biased overlap: Webber, Moffat and Zobel, A Similarity Measure for Indefinite Rankings, ACM
//! TOIS 28 (2010), equation 32 (the extrapolated form).

use crate::{Bootstrap, Error, Hit, Result, Rows, Scorer, retrieval::K};
use serde::Serialize;

/// Persistence of rank-biased overlap: how likely a reader goes on to the next rank.
const P: f64 = 0.9;

/// What is compared, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsistencyOptions {
    /// Ranks that are compared, at least 10.
    pub depth: usize,
    /// How intervals are found, over queries.
    pub bootstrap: Bootstrap,
    /// How many of the worst queries are listed.
    pub worst: usize,
}

impl Default for ConsistencyOptions {
    /// The first 100 ranks have all but 3 parts in 100,000 of the weight.
    fn default() -> Self {
        Self { depth: 100, bootstrap: Bootstrap::default(), worst: 10 }
    }
}

/// How far two languages agree.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConsistencyReport {
    /// Mean share of the first 1, 5 and 10 that both find.
    pub overlap: [f64; K.len()],
    /// Mean rank-biased overlap.
    pub rank_biased_overlap: f64,
    /// Mean cosine of the two queries.
    pub cosine: f64,
    /// Number of queries.
    pub queries: usize,
    /// 95 % intervals of the five figures in this order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intervals: Option<[[f64; 2]; FIGURES]>,
    /// The queries that agree least.
    pub worst: Vec<PairConsistency>,
}

/// How far one query agrees with its translation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairConsistency {
    /// Row of the query.
    pub query: usize,
    /// Share of the first 1, 5 and 10 that both find.
    pub overlap: [f64; K.len()],
    /// Rank-biased overlap.
    pub rank_biased_overlap: f64,
    /// Cosine of the two.
    pub cosine: f64,
}

const FIGURES: usize = K.len() + 2;

/// Compares what `first` `[N, E]` and `second` `[N, E]`, the same queries in two languages, find among
/// `candidates` `[M, E]`.
///
/// # Errors
/// [`Error::Width`] and [`Error::Count`].
pub fn consistency(
    scorer: &Scorer,
    (first, second): (&Rows<'_>, &Rows<'_>),
    candidates: &Rows<'_>,
    options: &ConsistencyOptions,
) -> Result<ConsistencyReport> {
    let (found, expected) = (second.len(), first.len());
    if found != expected {
        let (what, of) = (second.what().into(), first.what().into());
        return Err(Error::Count { what, found, of, expected });
    }
    first.check_width(second)?;
    let depth = options.depth.max(K[K.len() - 1]);
    let found = [scorer.top_k(first, candidates, depth)?, scorer.top_k(second, candidates, depth)?];
    let pairs = scorer.map(first.len(), &|query| {
        let [a, b] = [&found[0][query], &found[1][query]];
        let agreement = agreements(a, b);
        PairConsistency {
            query: first.id(query),
            overlap: K.map(|k| {
                let k = k.min(agreement.len());
                agreement[k - 1] as f64 / k as f64
            }),
            rank_biased_overlap: rank_biased_overlap(&agreement, P),
            cosine: f64::from(Scorer::score((first, query), (second, query))),
        }
    });
    let columns = |pair: &PairConsistency| {
        let [a, b, c] = pair.overlap;
        [a, b, c, pair.rank_biased_overlap, pair.cosine].map(|value| value as f32)
    };
    let items: Vec<[f32; FIGURES]> = pairs.iter().map(columns).collect();
    let queries = pairs.len();
    let mean = |value: &dyn Fn(&PairConsistency) -> f64| {
        pairs.iter().map(value).sum::<f64>() / queries as f64
    };
    let means = |sums: &[f64; FIGURES]| sums.map(|sum| sum / queries as f64);
    let mut report = ConsistencyReport {
        overlap: std::array::from_fn(|k| mean(&|pair| pair.overlap[k])),
        rank_biased_overlap: mean(&|pair| pair.rank_biased_overlap),
        cosine: mean(&|pair| pair.cosine),
        queries,
        intervals: options.bootstrap.intervals(scorer, &[items], means),
        worst: Vec::new(),
    };
    let mut worst = pairs;
    let key = |pair: &PairConsistency| (pair.rank_biased_overlap, pair.cosine);
    worst.sort_by(|a, b| {
        let ((a, a_cosine), (b, b_cosine)) = (key(a), key(b));
        a.total_cmp(&b).then(a_cosine.total_cmp(&b_cosine))
    });
    worst.truncate(options.worst);
    report.worst = worst;
    Ok(report)
}

/// How many candidates the first 1, 2, … of both lists have in common.
fn agreements(a: &[Hit], b: &[Hit]) -> Vec<usize> {
    let mut seen = [std::collections::BTreeSet::new(), std::collections::BTreeSet::new()];
    let mut common = 0;
    let step = |(a, b): (&Hit, &Hit)| {
        common += usize::from(a.row == b.row);
        common += usize::from(seen[1].contains(&a.row)) + usize::from(seen[0].contains(&b.row));
        seen[0].insert(a.row);
        seen[1].insert(b.row);
        common
    };
    a.iter().zip(b).map(step).collect()
}

/// Rank-biased overlap of lists that have `agreement[d - 1]` of their first `d` in common, assuming
/// that they agree behind their end as they do up to it.
fn rank_biased_overlap(agreement: &[usize], p: f64) -> f64 {
    let depth = agreement.len();
    let (mut sum, mut power) = (0.0, 1.0);
    for (index, &common) in agreement.iter().enumerate() {
        power *= p;
        sum += common as f64 / (index + 1) as f64 * power;
    }
    agreement[depth - 1] as f64 / depth as f64 * power + (1.0 - p) / p * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(rows: &[usize]) -> Vec<Hit> {
        rows.iter().map(|&row| Hit { row, score: 0.0 }).collect()
    }

    #[test]
    fn overlap_of_lists_by_hand() {
        let agreement = agreements(&list(&[1, 2, 3, 4]), &list(&[2, 1, 9, 3]));
        assert_eq!(agreement, [0, 2, 2, 3]);
        // p = 0.5: 3/4 · 1/16 + 1 · (0 + 1 · 1/4 + 2/3 · 1/8 + 3/4 · 1/16)
        let expected = 0.75 / 16.0 + 0.25 + 2.0 / 24.0 + 0.75 / 16.0;
        assert!((rank_biased_overlap(&agreement, 0.5) - expected).abs() < 1e-12);
    }

    #[test]
    fn equal_lists_agree_and_disjoint_ones_do_not() {
        let same = agreements(&list(&[5, 6, 7]), &list(&[5, 6, 7]));
        assert!((rank_biased_overlap(&same, 0.9) - 1.0).abs() < 1e-12);
        let other = agreements(&list(&[5, 6, 7]), &list(&[1, 2, 3]));
        assert_eq!(rank_biased_overlap(&other, 0.9), 0.0);
    }
}
