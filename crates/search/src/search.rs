//! The nearest pictures of a query: all rows exactly, or those exactly that an estimate from one bit a
//! dimension leaves in the race.

use crate::flat::Flat;
use crate::sketch::{Planes, standard_error};
use altclip_kernels::{Kernels, Pool, top_k};
use half::f16;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Candidates whose exact scores set the bar, for each result that is asked for.
const FIRST_PER_RESULT: usize = 16;
/// How many standard errors an estimate may be wrong. What is further below the bar is left out.
const ERRORS: f32 = 3.5;
/// At most this share of the rows is scored exactly after the estimate.
const LARGEST_SHARE: usize = 12;
/// Rows from which an estimate pays.
const ESTIMATE_ROWS: usize = 20_000;
/// Candidates of one task.
const TASK_ROWS: usize = 256;
/// Rows that tell how scores are spread in a collection.
pub(crate) const SAMPLE_ROWS: usize = 8192;

/// How rows are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scan {
    /// Estimates where there are many rows.
    #[default]
    Auto,
    /// Every row exactly.
    Exact,
    /// Estimates, then the best of them exactly.
    Estimated,
}

/// A row and its score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Row of the search structure.
    pub row: usize,
    /// Dot product with the query.
    pub score: f32,
}

/// Searches one structure.
#[derive(Debug)]
pub struct Searcher<'f> {
    flat: &'f Flat,
    pool: &'f Pool,
    /// No workers: a task's own work.
    alone: Pool,
    kernels: &'static Kernels,
    /// Rows spread evenly over a large collection.
    sample: OnceLock<Vec<u16>>,
}

impl<'f> Searcher<'f> {
    /// A searcher that works on a pool.
    pub fn new(flat: &'f Flat, pool: &'f Pool) -> Self {
        let (alone, kernels, sample) = (Pool::new(1), Kernels::get(), OnceLock::new());
        Self { flat, pool, alone, kernels, sample }
    }

    /// What it searches.
    pub fn flat(&self) -> &'f Flat {
        self.flat
    }

    /// The `k` rows with the highest dot products, the highest first. `among` restricts them to some rows,
    /// ascending.
    pub fn nearest(
        &self,
        query: &[f32],
        k: usize,
        among: Option<&[usize]>,
        scan: Scan,
    ) -> Vec<Hit> {
        if query.len() != self.flat.width || k == 0 || self.flat.is_empty() {
            return Vec::new();
        }
        match (among, scan) {
            (Some(rows), _) => self.best(rows, query, k),
            (None, Scan::Auto) if self.flat.len() < ESTIMATE_ROWS => self.exact(query, k),
            (None, Scan::Exact) => self.exact(query, k),
            (None, Scan::Auto | Scan::Estimated) => self.estimated(query, k),
        }
    }

    fn exact(&self, query: &[f32], k: usize) -> Vec<Hit> {
        hits(top_k(&self.scores(query), k).into_iter())
    }

    /// The dot products of all rows with a query.
    pub fn scores(&self, query: &[f32]) -> Vec<f32> {
        let mut scores = vec![0.0; self.flat.len()];
        let Flat { rows, width, .. } = self.flat;
        self.kernels.scan_f16(self.pool, rows, *width, query, &mut scores);
        scores
    }

    fn estimated(&self, query: &[f32], k: usize) -> Vec<Hit> {
        let estimates = self.estimates(query);
        let first = top_k(&estimates, (FIRST_PER_RESULT * k).max(64));
        let mut places: Vec<usize> = first.iter().map(|&(row, _)| row).collect();
        places.sort_unstable();
        let best = self.best(&places, query, k);
        let (Some(bar), Some(floor)) = (best.get(k - 1), first.last()) else { return best };
        // What could still be above the bar. A gain is near the length of a centred row times √(π/2) / √D.
        let length = query.iter().map(|x| x * x).sum::<f32>().sqrt();
        let words = self.flat.rotation.words();
        let of_gain = (words as f32 * 64.0 * std::f32::consts::FRAC_2_PI).sqrt();
        let slack = ERRORS * standard_error(words) * length * of_gain;
        let could = |&(row, &estimate): &(usize, &f32)| {
            estimate <= floor.1 && estimate + slack * self.flat.gains[row] > bar.score
        };
        let more: Vec<(usize, f32)> =
            estimates.iter().enumerate().filter(could).map(|(row, &e)| (row, e)).collect();
        let most = self.flat.len() / LARGEST_SHARE;
        let mut more: Vec<usize> = if more.len() <= most {
            more.into_iter().map(|(row, _)| row).collect()
        } else {
            let scores: Vec<f32> = more.iter().map(|&(_, estimate)| estimate).collect();
            top_k(&scores, most).into_iter().map(|(place, _)| more[place].0).collect()
        };
        more.sort_unstable();
        let mut all: Vec<Hit> = best;
        all.extend(self.best(&more, query, k));
        all.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        all.dedup_by_key(|hit| hit.row);
        all.truncate(k);
        all
    }

    /// An estimate of the dot product of each row with a query.
    pub fn estimates(&self, query: &[f32]) -> Vec<f32> {
        let Flat { bits, gains, ones, mean, rotation, .. } = self.flat;
        let planes = Planes::new(rotation, query, mean);
        let mut counts = vec![0; self.flat.len()];
        let words = rotation.words();
        self.kernels.scan_bits(self.pool, bits, words, &planes.planes, &mut counts);
        let rows = counts.iter().zip(gains).zip(ones);
        rows.map(|((&count, &gain), &ones)| planes.estimate(count, gain, ones)).collect()
    }

    /// The best of some rows.
    fn best(&self, rows: &[usize], query: &[f32], k: usize) -> Vec<Hit> {
        let found = Mutex::new(Vec::new());
        self.pool.run(rows.len().div_ceil(TASK_ROWS), &|task| {
            let rows = rows.chunks(TASK_ROWS).nth(task).unwrap_or_default();
            let score = |&row: &usize| (row, self.score(row, query));
            let scores: Vec<(usize, f32)> = rows.iter().map(score).collect();
            found.lock().unwrap_or_else(PoisonError::into_inner).extend(scores);
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        found.truncate(k);
        hits(found.into_iter())
    }

    /// The dot product of one row with a query, with the bits that a scan gives.
    pub fn score(&self, row: usize, query: &[f32]) -> f32 {
        let mut score = [f32::NAN];
        let bits = self.flat.row_bits(row);
        if bits.len() == query.len() && !bits.is_empty() {
            self.kernels.scan_f16(&self.alone, bits, bits.len(), query, &mut score);
        }
        score[0]
    }

    /// The dot products of a query with rows spread evenly over the collection; with all of a small one.
    pub(crate) fn sample_scores(&self, query: &[f32]) -> Vec<f32> {
        let Flat { rows, width, .. } = self.flat;
        let step = self.flat.len().div_ceil(SAMPLE_ROWS).max(1);
        let pick = || (0..self.flat.len()).step_by(step).flat_map(|row| self.flat.row_bits(row));
        let rows = match step {
            1 => rows,
            _ => self.sample.get_or_init(|| pick().copied().collect()),
        };
        let mut scores = vec![0.0; rows.len() / width.max(&1)];
        if query.len() == *width {
            self.kernels.scan_f16(self.pool, rows, *width, query, &mut scores);
        }
        scores
    }

    /// Groups of rows that are nearly the same: connected by pairs of at least `similarity`.
    pub fn duplicates(&self, similarity: f32) -> Vec<Vec<usize>> {
        let count = self.flat.len();
        let mut parent: Vec<usize> = (0..count).collect();
        fn root(parent: &mut [usize], mut at: usize) -> usize {
            while parent[at] != at {
                parent[at] = parent[parent[at]];
                at = parent[at];
            }
            at
        }
        let Flat { rows, width, .. } = self.flat;
        for row in 0..count {
            let query: Vec<f32> =
                self.flat.row_bits(row).iter().map(|&bits| f16::from_bits(bits).to_f32()).collect();
            let rest = rows.get((row + 1) * width..).unwrap_or_default();
            let mut scores = vec![0.0; rest.len() / width.max(&1)];
            self.kernels.scan_f16(self.pool, rest, *width, &query, &mut scores);
            for (other, &score) in scores.iter().enumerate() {
                if score >= similarity {
                    let (a, b) = (root(&mut parent, row), root(&mut parent, row + 1 + other));
                    parent[a.max(b)] = a.min(b);
                }
            }
        }
        let mut groups = std::collections::BTreeMap::<usize, Vec<usize>>::new();
        for row in 0..count {
            groups.entry(root(&mut parent, row)).or_default().push(row);
        }
        groups.into_values().filter(|group| group.len() > 1).collect()
    }
}

fn hits(found: impl Iterator<Item = (usize, f32)>) -> Vec<Hit> {
    found.map(|(row, score)| Hit { row, score }).collect()
}

/// Mean and standard deviation.
pub(crate) fn moments(values: impl Iterator<Item = f64>) -> (f32, f32) {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for value in values {
        count += 1.0;
        let off = value - mean;
        mean += off / count;
        squares += off * (value - mean);
    }
    (mean as f32, if count > 0.0 { (squares / count).sqrt() as f32 } else { 0.0 })
}
