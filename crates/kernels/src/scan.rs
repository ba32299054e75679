//! Rows that are compared with a query: dot products of `f16` rows, the best few.
//!
//! An index is read from end to end for each query, so its rows are small and are read once for up to four
//! queries. A product has two sums (even and odd vectors of 16 values),
//! whatever rows and queries are computed beside it, so its bits depend on nothing else.

use std::ops::Range;

use crate::Pool;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::for_runs;

/// Queries that one reading of the rows serves.
const QUERIES: usize = 4;
/// Rows at a time where there is one query.
const ROWS: usize = 4;
/// Rows between those that are read and those that are asked for.
const AHEAD: usize = 4;
/// Products of rows and queries of one task: enough to be worth its start.
const TASK_PRODUCTS: usize = 1024;

/// The sums of `R` rows with `Q` queries, two each.
type Sums<V, const R: usize, const Q: usize> = [[[V; 2]; Q]; R];

/// Where the operands of a tile lie.
#[derive(Clone, Copy)]
struct Tile {
    rows: *const u16,
    queries: *const f32,
    width: usize,
}

/// Adds the products of the values from `at` on to one half of the sums: 16 of them, or the `rest`.
///
/// (A function and not a closure, since a closure does not have the instruction set of its surroundings.)
///
/// # Safety
/// The processor has the instruction set of `V`; there are `R` rows and `Q` queries, with so many values
/// from `at` on.
#[inline(always)]
unsafe fn step<V: F32x16, const R: usize, const Q: usize>(
    tile: Tile,
    at: usize,
    half: usize,
    rest: Option<usize>,
    sums: &mut Sums<V, R, Q>,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut x = [V::splat(0.0); Q];
        for (q, x) in x.iter_mut().enumerate() {
            let query = tile.queries.add(q * tile.width + at);
            *x = match rest {
                None => V::load(query),
                Some(rest) => V::load_head(query, rest, 0.0),
            };
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let row = tile.rows.add(r * tile.width + at);
            let row = match rest {
                None => V::load_f16(row),
                Some(rest) => {
                    let mut padded = [0; LANES];
                    std::ptr::copy_nonoverlapping(row, padded.as_mut_ptr(), rest);
                    V::load_f16(padded.as_ptr())
                }
            };
            for (x, sums) in x.iter().zip(sums) {
                sums[half] = row.fma(*x, sums[half]);
            }
        }
    }
}

/// The products of `R` rows with `Q` queries, to `out` with `stride` values from row to row.
///
/// # Safety
/// The processor has the instruction set of `V`; there are `R` rows and `Q` queries of the tile's width,
/// and `out` is writable for their products.
#[inline(always)]
unsafe fn tile<V: F32x16, const R: usize, const Q: usize>(
    tile: Tile,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: all offsets stay inside `R` rows and `Q` queries; `out` is the caller's promise.
    unsafe {
        let mut sums: Sums<V, R, Q> = [[[V::splat(0.0); 2]; Q]; R];
        let mut at = 0;
        while at + 2 * LANES <= tile.width {
            // The processor sees no pattern in rows read side by side; without a word it waits for each.
            for r in 0..R {
                V::prefetch(tile.rows.wrapping_add((r + AHEAD) * tile.width + at).cast());
            }
            step(tile, at, 0, None, &mut sums);
            step(tile, at + LANES, 1, None, &mut sums);
            at += 2 * LANES;
        }
        if at + LANES <= tile.width {
            step(tile, at, 0, None, &mut sums);
            at += LANES;
        }
        if at < tile.width {
            step(tile, at, 1, Some(tile.width - at), &mut sums);
        }
        for (r, sums) in sums.iter().enumerate() {
            for (q, sums) in sums.iter().enumerate() {
                *out.add(r * stride + q) = (sums[0] + sums[1]).sum();
            }
        }
    }
}

/// `out[n, q] = rows[n] · queries[q]` with rows `[N, width]` of `f16` and queries `[Q, width]`.
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have these shapes and `width` is above 0.
#[inline(always)]
pub(crate) unsafe fn scan_f16<V: F32x16>(
    rows: &[u16],
    width: usize,
    queries: &[f32],
    out: &mut [f32],
) {
    let (count, stride) = (rows.len() / width, queries.len() / width);
    debug_assert_eq!(out.len(), count * stride);
    let mut q = 0;
    while q + QUERIES <= stride {
        for n in 0..count {
            // SAFETY: the row, the queries and their products are inside of the slices.
            unsafe {
                let (rows, queries) =
                    (rows.as_ptr().add(n * width), queries.as_ptr().add(q * width));
                let out = out.as_mut_ptr().add(n * stride + q);
                tile::<V, 1, QUERIES>(Tile { rows, queries, width }, out, stride);
            }
        }
        q += QUERIES;
    }
    while q < stride {
        let mut n = 0;
        while n < count {
            // SAFETY: as above, for as many rows as the tile takes.
            unsafe {
                let (rows, queries) =
                    (rows.as_ptr().add(n * width), queries.as_ptr().add(q * width));
                let out = out.as_mut_ptr().add(n * stride + q);
                if n + ROWS <= count {
                    tile::<V, ROWS, 1>(Tile { rows, queries, width }, out, stride);
                    n += ROWS;
                } else {
                    tile::<V, 1, 1>(Tile { rows, queries, width }, out, stride);
                    n += 1;
                }
            }
        }
        q += 1;
    }
}

impl Kernels {
    /// Dot products of rows `[N, width]` of `f16` (as bits) with queries `[Q, width]`: `out` is `[N, Q]`.
    ///
    /// # Panics
    /// Panics if the shapes do not fit each other.
    ///
    /// # Numerics
    /// `f16` to `f32` is exact; two vectors of partial sums in `f32`, then a fixed tree.
    pub fn scan_f16(
        &self,
        pool: &Pool,
        rows: &[u16],
        width: usize,
        queries: &[f32],
        out: &mut [f32],
    ) {
        let whole = |len: usize| width > 0 && len.is_multiple_of(width);
        assert!(whole(rows.len()) && whole(queries.len()), "scan_f16: no whole rows of {width}");
        let (count, stride) = (rows.len() / width, queries.len() / width);
        assert_eq!(out.len(), count * stride, "scan_f16: out is not [rows, queries]");
        if stride == 0 {
            return;
        }
        // A run has whole rows of scores.
        let run = |range: Range<usize>, out: &mut [f32]| {
            let rows = &rows[range.start / stride * width..range.end / stride * width];
            // SAFETY: a table exists only where its instruction set does; the shapes are checked.
            unsafe { (self.scan_f16)(rows, width, queries, out) }
        };
        for_runs(pool, out, stride * TASK_PRODUCTS.div_ceil(stride), &run);
    }
}

/// The `k` highest scores with their places, the highest first; of equal ones the lower place. What is
/// not a number is not among them.
pub fn top_k(scores: &[f32], k: usize) -> Vec<(usize, f32)> {
    let before = |a: &(usize, f32), b: &(usize, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    let mut best: Vec<(usize, f32)> = Vec::new();
    let mut floor = f32::NEG_INFINITY;
    let room = k.saturating_mul(2).max(64);
    for (place, &score) in scores.iter().enumerate() {
        // A later one of the same score is behind the earlier.
        if score > floor || (best.len() < k && !score.is_nan()) {
            best.push((place, score));
            if best.len() >= room && k > 0 {
                best.select_nth_unstable_by(k - 1, before);
                best.truncate(k);
                floor = best.iter().map(|best| best.1).fold(f32::INFINITY, f32::min);
            }
        }
    }
    best.sort_unstable_by(before);
    best.truncate(k);
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bound, Random, Runner, lengths};
    use crate::{Isa, reference};
    use half::f16;

    fn rows(random: &mut Random, len: usize) -> Vec<u16> {
        random.values(len).into_iter().map(|x| f16::from_f32(x).to_bits()).collect()
    }

    #[test]
    fn every_f16_is_read_exactly_on_every_level() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let expected: Vec<f32> = all.iter().map(|&bits| f16::from_bits(bits).to_f32()).collect();
        // One value a row: the product with 1 is the value, except that a sum has no negative zero.
        let expected: Vec<f32> = expected.iter().map(|x| x + 0.0).collect();
        Runner::new().check("f16", &expected, &Bound::Absolute(0.0), &|kernels, pool| {
            let mut out = vec![f32::NAN; all.len()];
            kernels.scan_f16(pool, &all, 1, &[1.0], &mut out);
            out
        });
    }

    #[test]
    fn scans_agree_with_the_oracle_whatever_is_beside() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for width in lengths().filter(|&width| width > 0) {
            for (count, queries) in [(1, 1), (5, 1), (9, 2), (3, 4), (6, 7)] {
                let (x, q) = (rows(&mut random, count * width), random.values(queries * width));
                let wide: Vec<f32> = x.iter().map(|&x| f16::from_bits(x).to_f32()).collect();
                let pairs = wide.chunks(width).flat_map(|x| q.chunks(width).map(move |q| (x, q)));
                let dots: Vec<f32> = pairs.map(|(x, q)| reference::dot(x, q) as f32).collect();
                let bound = Bound::Absolute(width as f64 * 2f64.powi(-22));
                let found = runner.check("scan", &dots, &bound, &|kernels, pool| {
                    let mut out = vec![f32::NAN; count * queries];
                    kernels.scan_f16(pool, &x, width, &q, &mut out);
                    out
                });
                // Alone a row has the same bits.
                let (x, q) = (&x[(count - 1) * width..], &q[(queries - 1) * width..]);
                let mut alone = [0.0];
                Kernels::get().scan_f16(&Pool::new(1), x, width, q, &mut alone);
                assert_eq!(alone[0].to_bits(), found[count * queries - 1].to_bits());
            }
        }
    }

    #[test]
    fn many_rows_are_cut_into_tasks() {
        let mut random = Random::new(2);
        let (x, q) = (rows(&mut random, 5000 * 3), random.values(3 * 3));
        Runner::new().same_bits("tasks", &|kernels, pool| {
            let mut out = vec![f32::NAN; 5000 * 3];
            kernels.scan_f16(pool, &x, 3, &q, &mut out);
            out
        });
    }

    #[test]
    fn the_best_are_those_of_a_sort() {
        let mut random = Random::new(4);
        for len in [0, 1, 10, 63, 64, 65, 1000] {
            // Many are equal.
            let mut scores: Vec<f32> = (0..len).map(|_| random.below(50) as f32).collect();
            if len > 3 {
                (scores[1], scores[2]) = (f32::NAN, f32::NEG_INFINITY);
            }
            let mut sorted: Vec<(usize, f32)> =
                scores.iter().copied().enumerate().filter(|(_, s)| !s.is_nan()).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            for k in [0, 1, 3, 40, 2000] {
                let found = top_k(&scores, k);
                assert_eq!(found, sorted[..k.min(sorted.len())], "{len} {k}");
            }
        }
        // The control: a level is really chosen.
        assert!(Isa::available().contains(&Isa::Scalar));
    }

    #[test]
    #[should_panic(expected = "scan_f16: no whole rows of 3")]
    fn broken_rows_are_refused() {
        Kernels::get().scan_f16(&Pool::new(1), &[0; 4], 3, &[0.0; 3], &mut [0.0]);
    }
}
