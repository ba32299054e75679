//! Sums and products of slices: `add`, `dot`, `l2_normalize_rows`; and how rows become tasks.

use std::ops::Range;

use crate::Pool;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;

/// A task of a loop over rows has about this many values: some 10 µs.
const TASK_VALUES: usize = 32_768;

/// Cuts `out` into runs of whole rows of `cols` values and calls `f(range of values, run)` for each
/// in parallel.
pub(crate) fn for_chunks(
    pool: &Pool,
    out: &mut [f32],
    cols: usize,
    f: &(dyn Fn(Range<usize>, &mut [f32]) + Sync),
) {
    for_runs(pool, out, (TASK_VALUES / cols).max(1) * cols, f);
}

/// Cuts `out` into runs of `chunk` values and calls `f(range of values, run)` for each in parallel.
pub(crate) fn for_runs<T: Send>(
    pool: &Pool,
    out: &mut [T],
    chunk: usize,
    f: &(dyn Fn(Range<usize>, &mut [T]) + Sync),
) {
    let len = out.len();
    let start = SendPointer(out.as_mut_ptr());
    pool.run(len.div_ceil(chunk), &|task| {
        let range = task * chunk..len.min((task + 1) * chunk);
        // SAFETY: the range lies inside `out`, which is borrowed exclusively for this call, and
        // the ranges of different tasks do not meet.
        let run =
            unsafe { std::slice::from_raw_parts_mut(start.get().add(range.start), range.len()) };
        f(range, run);
    });
}

/// A pointer that tasks share to write disjoint places.
#[derive(Clone, Copy)]
pub(crate) struct SendPointer<T>(pub(crate) *mut T);

impl<T> SendPointer<T> {
    /// The pointer. (A method, so that closures capture the wrapper and not its field.)
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: only a carrier; whoever follows the pointer shows that no two tasks write one place.
unsafe impl<T> Send for SendPointer<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for SendPointer<T> {}

/// `Σ a·b`: four vectors of partial sums over blocks of 64, the rest into the first, then
/// `(s0 + s1) + (s2 + s3)` and the tree of [`F32x16::sum`].
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have one length.
#[inline(always)]
pub(crate) unsafe fn dot<V: F32x16>(a: &[f32], b: &[f32]) -> f32 {
    debug_assert_eq!(a.len(), b.len());
    let len = a.len();
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: all offsets stay within the length that both slices have.
    unsafe {
        let mut sums = [V::splat(0.0); 4];
        let mut at = 0;
        while at + 4 * LANES <= len {
            for (i, sum) in sums.iter_mut().enumerate() {
                let at = at + i * LANES;
                *sum = V::load(a.add(at)).fma(V::load(b.add(at)), *sum);
            }
            at += 4 * LANES;
        }
        while at + LANES <= len {
            sums[0] = V::load(a.add(at)).fma(V::load(b.add(at)), sums[0]);
            at += LANES;
        }
        if at < len {
            let rest = len - at;
            let (a, b) = (V::load_head(a.add(at), rest, 0.0), V::load_head(b.add(at), rest, 0.0));
            sums[0] = a.fma(b, sums[0]);
        }
        ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum()
    }
}

/// `out = a + b`.
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have one length.
#[inline(always)]
pub(crate) unsafe fn add<V: F32x16>(a: &[f32], b: &[f32], out: &mut [f32]) {
    debug_assert!(a.len() == out.len() && b.len() == out.len());
    let whole = out.len() / LANES * LANES;
    // SAFETY: all offsets stay within the length that the slices have.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            let sum = V::load(a.as_ptr().add(i)) + V::load(b.as_ptr().add(i));
            sum.store(out.as_mut_ptr().add(i));
        }
    }
    for i in whole..out.len() {
        out[i] = a[i] + b[i];
    }
}

/// `out = x · factor`.
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have one length.
#[inline(always)]
pub(crate) unsafe fn scale<V: F32x16>(x: &[f32], factor: f32, out: &mut [f32]) {
    debug_assert_eq!(x.len(), out.len());
    let whole = out.len() / LANES * LANES;
    // SAFETY: all offsets stay within the length that both slices have.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            (V::load(x.as_ptr().add(i)) * V::splat(factor)).store(out.as_mut_ptr().add(i));
        }
    }
    for i in whole..out.len() {
        out[i] = x[i] * factor;
    }
}

impl Kernels {
    /// `out = a + b` per value.
    ///
    /// # Panics
    /// Panics if the lengths differ.
    pub fn add(&self, pool: &Pool, a: &[f32], b: &[f32], out: &mut [f32]) {
        assert_eq!(a.len(), out.len(), "add: a and out differ in length");
        assert_eq!(b.len(), out.len(), "add: b and out differ in length");
        for_chunks(pool, out, 1, &|range, out| {
            // SAFETY: a table exists only where its instruction set does; the lengths are equal.
            unsafe { (self.add)(&a[range.clone()], &b[range], out) }
        });
    }

    /// The dot product of `a` and `b`.
    ///
    /// # Panics
    /// Panics if the lengths differ.
    ///
    /// # Numerics
    /// 64 partial sums in `f32`, then a fixed tree.
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "dot: a and b differ in length");
        // SAFETY: a table exists only where its instruction set does; the lengths are equal.
        unsafe { (self.dot)(a, b) }
    }

    /// Each row of `x` [rows, `cols`] divided by its Euclidean length.
    ///
    /// A row of zeros gives NaN, as the reference's division does: callers who can meet one test
    /// for it.
    ///
    /// # Panics
    /// Panics if the lengths differ or are no multiple of `cols`.
    pub fn l2_normalize_rows(&self, pool: &Pool, x: &[f32], cols: usize, out: &mut [f32]) {
        check_rows("l2_normalize_rows", x, cols, out);
        for_chunks(pool, out, cols.max(1), &|range, out| {
            for (x, out) in x[range].chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
                let norm = self.dot(x, x).sqrt();
                for (out, x) in out.iter_mut().zip(x) {
                    *out = x / norm;
                }
            }
        });
    }
}

/// Checks the arguments of an operation on rows.
///
/// # Panics
/// Panics, with `op` in the message, if they do not fit each other.
pub(crate) fn check_rows(op: &str, x: &[f32], cols: usize, out: &[f32]) {
    assert_eq!(x.len(), out.len(), "{op}: x and out differ in length");
    assert!(
        x.is_empty() || (cols > 0 && x.len().is_multiple_of(cols)),
        "{op}: {} values are not whole rows of {cols}",
        x.len()
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Random, Runner, lengths};

    #[test]
    fn sums_and_dots_agree_with_the_oracle() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for len in lengths().chain([100_000]) {
            for hostile in [false, true] {
                let mut values = |len| {
                    if hostile { random.hostile(len) } else { random.values(len) }
                };
                let (a, b) = (values(len + 1), values(len));
                let a = &a[1..];
                let sum: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
                runner.check("add", &sum, &Bound::Absolute(0.0), &|kernels, pool| {
                    let mut out = vec![f32::NAN; len];
                    kernels.add(pool, a, &b, &mut out);
                    out
                });
                let size: f64 = a.iter().zip(&b).map(|(a, b)| f64::from((a * b).abs())).sum();
                let bound = Bound::Absolute((len / 64 + 12) as f64 * size * 2f64.powi(-24));
                let dot = reference::dot(a, &b) as f32;
                runner.check("dot", &[dot], &bound, &|kernels, _| vec![kernels.dot(a, &b)]);
            }
        }
    }

    #[test]
    fn rows_get_length_one() {
        let runner = Runner::new();
        let mut random = Random::new(2);
        for cols in lengths().filter(|&cols| cols > 0) {
            let x = random.values(3 * cols);
            let expected: Vec<f32> = x.chunks(cols).flat_map(reference::l2_normalize).collect();
            runner.check("l2", &expected, &Bound::Absolute(5e-7), &|kernels, pool| {
                let mut out = vec![0.0; x.len()];
                kernels.l2_normalize_rows(pool, &x, cols, &mut out);
                out
            });
        }
    }

    #[test]
    fn a_nan_stays_in_its_place() {
        for kernels in Runner::new().kernels() {
            let mut a = vec![1.0; 40];
            (a[17], a[39]) = (f32::NAN, f32::INFINITY);
            let mut out = vec![0.0; 40];
            kernels.add(&Pool::new(1), &a, &[1.0; 40], &mut out);
            for (i, y) in out.iter().enumerate() {
                assert_eq!(!y.is_finite(), i == 17 || i == 39);
            }
            assert!(kernels.dot(&a, &a).is_nan());
            // A row of zeros has no direction.
            let mut out = [0.0; 4];
            kernels.l2_normalize_rows(&Pool::new(1), &[0.0, 0.0, 3.0, 4.0], 2, &mut out);
            assert!(out[0].is_nan() && out[1].is_nan());
            assert_eq!(out[2..], [0.6, 0.8]);
        }
    }

    #[test]
    #[should_panic(expected = "l2_normalize_rows: 5 values are not whole rows of 2")]
    fn broken_rows_are_refused() {
        Kernels::get().l2_normalize_rows(&Pool::new(1), &[0.0; 5], 2, &mut [0.0; 5]);
    }
}
