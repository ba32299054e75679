//! Softmax of rows: `exp(x - max) / Σ exp(x - max)`.

use crate::Pool;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::{check_rows, for_chunks};
use crate::exp::exp;

/// Replaces `row` by `exp(scale·row - max)` and gives back the sum: the caller divides, where that
/// is cheapest. An empty row gives 0.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn softmax_weights<V: F32x16>(row: &mut [f32], scale: f32) -> f32 {
    let whole = row.len() / LANES * LANES;
    let rest = row.len() - whole;
    let row = row.as_mut_ptr();
    // SAFETY: all offsets stay within the length of `row`.
    unsafe {
        let scale = V::splat(scale);
        let mut largest = V::splat(f32::NEG_INFINITY);
        for i in (0..whole).step_by(LANES) {
            let x = V::load(row.add(i)) * scale;
            x.store(row.add(i));
            largest = largest.max_or(x);
        }
        if rest > 0 {
            let x = V::load_head(row.add(whole), rest, 0.0) * scale;
            x.store_head(row.add(whole), rest);
            // The lanes behind the end must not win: they are read back as -inf.
            largest = largest.max_or(V::load_head(row.add(whole), rest, f32::NEG_INFINITY));
        }
        let largest = V::splat(largest.largest());
        let mut sum = V::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let weight = exp(V::load(row.add(i)) - largest);
            weight.store(row.add(i));
            sum = sum + weight;
        }
        if rest > 0 {
            let x = V::load_head(row.add(whole), rest, f32::NEG_INFINITY);
            let weight = exp(x - largest);
            weight.store_head(row.add(whole), rest);
            sum = sum + weight;
        }
        sum.sum()
    }
}

impl Kernels {
    /// The softmax of each row of `x` [rows, `cols`].
    ///
    /// A row that holds a NaN, or nothing but -inf, gives NaN in every place.
    ///
    /// # Panics
    /// Panics if the lengths differ or are no multiple of `cols`.
    pub fn softmax_rows(&self, pool: &Pool, x: &[f32], cols: usize, out: &mut [f32]) {
        check_rows("softmax_rows", x, cols, out);
        for_chunks(pool, out, cols.max(1), &|range, out| {
            out.copy_from_slice(&x[range]);
            for row in out.chunks_exact_mut(cols) {
                // SAFETY: a table exists only where its instruction set does.
                let sum = unsafe { (self.softmax_weights)(row, 1.0) };
                for weight in row {
                    *weight /= sum;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Random, Runner, lengths};

    fn check(runner: &Runner, x: &[f32], cols: usize) {
        let expected: Vec<f32> = x.chunks(cols).flat_map(reference::softmax).collect();
        runner.check(
            &format!("softmax {cols}"),
            &expected,
            &Bound::Absolute(3e-7),
            &|kernels, pool| {
                let mut out = vec![0.0; x.len()];
                kernels.softmax_rows(pool, x, cols, &mut out);
                out
            },
        );
    }

    #[test]
    fn softmax_agrees_with_the_oracle() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for cols in lengths().filter(|&cols| cols > 0) {
            check(&runner, &random.values(3 * cols), cols);
            check(&runner, &random.hostile(3 * cols), cols);
            // All equal, and far from zero.
            check(&runner, &vec![-1e30; cols], cols);
        }
        check(&runner, &random.values(40 * 2_000), 2_000);
    }

    #[test]
    fn values_that_are_no_numbers() {
        for kernels in Runner::new().kernels() {
            for cols in [1, 16, 17, 40] {
                for place in [0, cols - 1] {
                    let mut x = vec![1.0; 2 * cols];
                    x[place] = f32::NAN;
                    let mut out = vec![0.0; 2 * cols];
                    kernels.softmax_rows(&Pool::new(1), &x, cols, &mut out);
                    assert!(out[..cols].iter().all(|y| y.is_nan()), "{cols} {place}");
                    assert!(out[cols..].iter().all(|y| y.is_finite()), "{cols} {place}");
                    if cols > 1 {
                        x[place] = f32::NEG_INFINITY;
                        kernels.softmax_rows(&Pool::new(1), &x, cols, &mut out);
                        assert_eq!(out[place], 0.0);
                        assert!(out.iter().all(|y| y.is_finite()));
                    }
                }
            }
            let mut out = [0.0; 3];
            kernels.softmax_rows(&Pool::new(1), &[f32::NEG_INFINITY; 3], 3, &mut out);
            assert!(out.iter().all(|y| y.is_nan()));
        }
    }
}
