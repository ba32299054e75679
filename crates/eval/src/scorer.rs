//! Similarities in blocks: what every metric is computed from, in bounded memory, on all threads.

use crate::Rows;
use altclip_kernels::{Activation, GemmF32, Kernels, PackedF32, Pool};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Rows of a block of queries and of candidates: with both, some 30 MB for 768 numbers a row.
const QUERIES: usize = 1024;
const CANDIDATES: usize = 4096;

/// Computes the similarities of rows.
///
/// # Numerics
/// A similarity has the same bits wherever its rows stand, in blocks of any size, on any number of
/// threads: one `f32` sum in the order of the columns, with one rounding a term. So equal rows have
/// equal similarities.
#[derive(Debug)]
pub struct Scorer {
    kernels: &'static Kernels,
    pool: Pool,
    queries: usize,
    candidates: usize,
}

/// The similarities of some queries with some candidates.
pub(crate) struct Block<'a> {
    pub(crate) queries: Range<usize>,
    pub(crate) candidates: Range<usize>,
    /// From a query to a candidate, and from a candidate to a query: the same for cosines.
    pub(crate) scores: [&'a [f32]; 2],
}

impl Block<'_> {
    /// The similarities of one of `queries` with `candidates`, one way.
    pub(crate) fn row(&self, way: usize, query: usize) -> &[f32] {
        let width = self.candidates.len();
        &self.scores[way][(query - self.queries.start) * width..][..width]
    }
}

/// A candidate that was found.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Hit {
    /// Its row.
    pub row: usize,
    /// Its cosine with the query.
    pub score: f32,
}

impl Scorer {
    /// A scorer that runs on `threads` threads; 0 counts as 1.
    pub fn new(threads: usize) -> Self {
        Self {
            kernels: Kernels::get(),
            pool: Pool::new(threads),
            queries: QUERIES,
            candidates: CANDIDATES,
        }
    }

    /// The same with blocks of other sizes, at least 1: no result depends on them.
    #[must_use]
    pub fn with_blocks(self, queries: usize, candidates: usize) -> Self {
        Self { queries: queries.max(1), candidates: candidates.max(1), ..self }
    }

    /// Shows `visit` the similarities of every query with every candidate, a block at a time.
    /// Both have one width.
    pub(crate) fn blocks(
        &self,
        queries: &Rows<'_>,
        candidates: &Rows<'_>,
        visit: &mut dyn FnMut(&Block<'_>),
    ) {
        let most = self.queries.min(queries.len()) * self.candidates.min(candidates.len());
        let mut scores = vec![0.0; most];
        for candidate_range in ranges(candidates.len(), self.candidates) {
            let packed = self.pack(candidates, &candidate_range);
            for query_range in ranges(queries.len(), self.queries) {
                let scores = &mut scores[..query_range.len() * candidate_range.len()];
                self.products((queries, &query_range), &packed, scores);
                let scores = &*scores;
                let candidates = candidate_range.clone();
                visit(&Block { queries: query_range, candidates, scores: [scores, scores] });
            }
        }
    }

    /// The products of a range of queries, normalised, with packed candidates.
    pub(crate) fn products(
        &self,
        (queries, range): (&Rows<'_>, &Range<usize>),
        packed: &PackedF32,
        scores: &mut [f32],
    ) {
        let mut rows = vec![0.0; range.len() * queries.width()];
        self.normalize(queries, range, &mut rows);
        let gemm = GemmF32 {
            x: &rows,
            x_stride: queries.width(),
            m: range.len(),
            weight: packed,
            bias: None,
            activation: Activation::Identity,
            residual: None,
        };
        self.kernels.gemm_f32(&self.pool, &gemm, scores);
    }

    /// Rows of a block of queries and of candidates.
    pub(crate) fn block_sizes(&self) -> (usize, usize) {
        (self.queries, self.candidates)
    }

    /// A range of rows, normalised, as the right side of products.
    pub(crate) fn pack(&self, rows: &Rows<'_>, range: &Range<usize>) -> PackedF32 {
        let fill = |part: Range<usize>, out: &mut [f32]| {
            for (row, out) in part.zip(out.chunks_exact_mut(rows.width())) {
                copy(rows, range.start + row, out);
            }
            Ok::<(), Infallible>(())
        };
        let isa = self.kernels.isa();
        match PackedF32::with_rows(&self.pool, isa, range.len(), rows.width(), &fill) {
            Ok(packed) => packed,
            Err(never) => match never {},
        }
    }

    fn normalize(&self, rows: &Rows<'_>, range: &Range<usize>, out: &mut [f32]) {
        let chunks: Vec<_> = out.chunks_exact_mut(rows.width()).map(Mutex::new).collect();
        self.run(chunks.len(), &|part| {
            for row in part {
                let mut out = chunks[row].lock().unwrap_or_else(PoisonError::into_inner);
                copy(rows, range.start + row, &mut out);
            }
        });
    }

    /// Calls `task` with parts of `0..len`, on all threads.
    pub(crate) fn run(&self, len: usize, task: &(dyn Fn(Range<usize>) + Sync)) {
        let parts: Vec<_> = ranges(len, len.div_ceil(4 * self.pool.threads()).max(1)).collect();
        self.pool.run(parts.len(), &|part| task(parts[part].clone()));
    }

    /// `f(0)` … `f(len - 1)` in order, computed on all threads.
    pub(crate) fn map<T: Send>(&self, len: usize, f: &(dyn Fn(usize) -> T + Sync)) -> Vec<T> {
        let parts = Mutex::new(Vec::new());
        self.run(len, &|part| {
            let start = part.start;
            let values: Vec<T> = part.map(f).collect();
            parts.lock().unwrap_or_else(PoisonError::into_inner).push((start, values));
        });
        let mut parts = parts.into_inner().unwrap_or_else(PoisonError::into_inner);
        parts.sort_unstable_by_key(|&(start, _)| start);
        parts.into_iter().flat_map(|(_, values)| values).collect()
    }

    /// The similarity of one row with another, with the bits that [`Scorer::blocks`] gives it.
    pub(crate) fn score(a: (&Rows<'_>, usize), b: (&Rows<'_>, usize)) -> f32 {
        let terms = a.0.normalized(a.1).zip(b.0.normalized(b.1));
        terms.fold(0.0, |sum: f32, (a, b)| a.mul_add(b, sum))
    }

    /// The `k` most similar candidates of each query, best first; of equal ones the lower row first.
    /// There are fewer where there are not `k` candidates.
    ///
    /// # Errors
    /// [`crate::Error::Width`] if the two are not of one width.
    pub fn top_k(
        &self,
        queries: &Rows<'_>,
        candidates: &Rows<'_>,
        k: usize,
    ) -> crate::Result<Vec<Vec<Hit>>> {
        queries.check_width(candidates)?;
        let best: Vec<_> = (0..queries.len()).map(|_| Mutex::new(Vec::new())).collect();
        self.blocks(queries, candidates, &mut |block| {
            self.run(block.queries.len(), &|part| {
                for query in part.map(|row| block.queries.start + row) {
                    let mut best = best[query].lock().unwrap_or_else(PoisonError::into_inner);
                    for (row, &score) in block.candidates.clone().zip(block.row(0, query)) {
                        insert(&mut best, k, Hit { row, score });
                    }
                }
            });
        });
        let lists = best.into_iter();
        Ok(lists.map(|hits| hits.into_inner().unwrap_or_else(PoisonError::into_inner)).collect())
    }
}

/// Puts a hit that came after all of `best` to its place among the `k` best.
#[inline]
pub(crate) fn insert(best: &mut Vec<Hit>, k: usize, hit: Hit) {
    if best.len() >= k {
        match best.last() {
            Some(last) if hit.score > last.score => drop(best.pop()),
            _ => return,
        }
    }
    let place = best.partition_point(|other| other.score >= hit.score);
    best.insert(place, hit);
}

fn copy(rows: &Rows<'_>, row: usize, out: &mut [f32]) {
    out.iter_mut().zip(rows.normalized(row)).for_each(|(out, value)| *out = value);
}

/// `0..len` cut into ranges of `size`, the last one shorter.
fn ranges(len: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(size).map(move |start| start..(start + size).min(len))
}
