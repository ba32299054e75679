//! The nearest pictures of a query: all rows exactly, or those exactly that an estimate from one bit a
//! dimension leaves in the race.

use crate::flat::Flat;
use crate::sketch::{Tables, standard_error};
use altclip_kernels::nibbles::BLOCK_ROWS;
use altclip_kernels::{Kernels, Pool, top_k};
use half::f16;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Candidates whose exact scores set the bar, for each result that is asked for.
const FIRST_PER_RESULT: usize = 16;
/// How many standard errors an estimate may be wrong. What is further below the bar is left out.
const ERRORS: f32 = 3.5;
/// At most this share of the rows is scored exactly after the estimate.
const LARGEST_SHARE: usize = 12;
/// Rows from which an estimate pays.
const ESTIMATE_ROWS: usize = 20_000;
/// Parts of a collection for each thread.
const PARTS: usize = 4;
/// Rows whose counts are turned into estimates while they are near.
const NEAR_ROWS: usize = 16 * BLOCK_ROWS;
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
        let most = (FIRST_PER_RESULT * k).max(64);
        let mut first = self.in_parts(&|rows| {
            let best = top_k(estimates.get(rows.clone()).unwrap_or_default(), most);
            best.into_iter().map(|(place, score)| (rows.start + place, score)).collect()
        });
        first.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        first.truncate(most);
        let mut places: Vec<usize> = first.iter().map(|&(row, _)| row).collect();
        places.sort_unstable();
        let best = self.best(&places, query, k);
        let (Some(bar), Some(floor)) = (best.get(k - 1), first.last()) else { return best };
        // What could still be above the bar. A gain is near the length of a centred row times √(π/2) / √D.
        let length = query.iter().map(|x| x * x).sum::<f32>().sqrt();
        let rotation = &self.flat.rotation;
        let of_gain = (rotation.bytes() as f32 * 8.0 * std::f32::consts::FRAC_2_PI).sqrt();
        let slack = ERRORS * standard_error(rotation) * length * of_gain;
        let mut more: Vec<(usize, f32)> = self.in_parts(&|rows| {
            let gains = self.flat.gains.get(rows.clone()).unwrap_or_default();
            let estimates = estimates.get(rows.clone()).unwrap_or_default();
            let rows = rows.zip(estimates).zip(gains);
            let could = |&((_, &estimate), &gain): &((usize, &f32), &f32)| {
                estimate <= floor.1 && estimate + slack * gain > bar.score
            };
            rows.filter(could).map(|((row, &estimate), _)| (row, estimate)).collect()
        });
        let most = self.flat.len() / LARGEST_SHARE;
        if more.len() > most {
            more.select_nth_unstable_by(most, |a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            more.truncate(most);
        }
        let mut more: Vec<usize> = more.into_iter().map(|(row, _)| row).collect();
        more.sort_unstable();
        let mut all: Vec<Hit> = best;
        all.extend(self.best(&more, query, k));
        all.sort_unstable_by(|a, b| b.score.total_cmp(&a.score).then(a.row.cmp(&b.row)));
        all.dedup_by_key(|hit| hit.row);
        all.truncate(k);
        all
    }

    /// Rows of a part of the collection, of which each thread takes several.
    fn part_rows(&self) -> usize {
        self.flat.len().div_ceil(PARTS * self.pool.threads()).next_multiple_of(NEAR_ROWS)
    }

    /// What a function gives for all parts of the collection, in their order.
    fn in_parts<T: Send>(&self, of: &(dyn Fn(Range<usize>) -> Vec<T> + Sync)) -> Vec<T> {
        let (len, part) = (self.flat.len(), self.part_rows());
        let found: Vec<Mutex<Vec<T>>> = (0..len.div_ceil(part)).map(|_| Mutex::default()).collect();
        self.pool.run(found.len(), &|task| {
            let of = of(task * part..len.min((task + 1) * part));
            if let Some(found) = found.get(task) {
                *found.lock().unwrap_or_else(PoisonError::into_inner) = of;
            }
        });
        let parts = found.into_iter();
        parts.flat_map(|found| found.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
    }

    /// An estimate of the dot product of each row with a query.
    pub fn estimates(&self, query: &[f32]) -> Vec<f32> {
        let Flat { bits, gains, ones, mean, rotation, .. } = self.flat;
        let tables = Tables::new(rotation, query, mean);
        let bytes = rotation.bytes();
        let mut estimates = vec![0.0; self.flat.len()];
        let part = self.part_rows();
        let parts: Vec<Mutex<&mut [f32]>> = estimates.chunks_mut(part).map(Mutex::new).collect();
        self.pool.run(parts.len(), &|task| {
            let Some(estimates) = parts.get(task) else { return };
            let mut estimates = estimates.lock().unwrap_or_else(PoisonError::into_inner);
            let mut counts = [0; NEAR_ROWS];
            let mut from = task * part;
            for estimates in estimates.chunks_mut(NEAR_ROWS) {
                let rows = from..from + estimates.len();
                let end = rows.end.next_multiple_of(BLOCK_ROWS);
                let bits = bits.get(rows.start * bytes..end * bytes).unwrap_or_default();
                let counts = counts.get_mut(..estimates.len()).unwrap_or_default();
                self.kernels.scan_nibbles(&self.alone, bits, bytes, &tables.sums, counts);
                let gains = gains.get(rows.clone()).unwrap_or_default();
                let ones = ones.get(rows.clone()).unwrap_or_default();
                let rows = counts.iter().zip(gains).zip(ones);
                for (estimate, ((&count, &gain), &ones)) in estimates.iter_mut().zip(rows) {
                    *estimate = tables.estimate(count, gain, ones);
                }
                from += estimates.len();
            }
        });
        drop(parts);
        estimates
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
