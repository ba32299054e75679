//! Layer norm: `(x - mean) / sqrt(variance + eps) · weight + bias` per row.
//!
//! Two passes over the row (it is in the first-level cache after the first): the mean, then the
//! variance around it, each as 16 lanes of partial sums in `f32`. The variance is the mean of
//! squares of differences, so a large mean does not cancel.

use crate::Pool;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::{check_rows, for_chunks};

/// One row.
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have one length.
#[inline(always)]
pub(crate) unsafe fn layer_norm_row<V: F32x16>(
    row: &[f32],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    out: &mut [f32],
) {
    let len = row.len();
    debug_assert!(weight.len() == len && bias.len() == len && out.len() == len);
    let whole = len / LANES * LANES;
    let rest = len - whole;
    let (x, w, b) = (row.as_ptr(), weight.as_ptr(), bias.as_ptr());
    let out = out.as_mut_ptr();
    // SAFETY: all offsets stay within the length that the slices have.
    unsafe {
        let mut sum = V::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            sum = sum + V::load(x.add(i));
        }
        if rest > 0 {
            sum = sum + V::load_head(x.add(whole), rest, 0.0);
        }
        let mean_value = sum.sum() / len as f32;
        let mean = V::splat(mean_value);
        let mut squares = V::splat(0.0);
        for i in (0..whole).step_by(LANES) {
            let d = V::load(x.add(i)) - mean;
            squares = d.fma(d, squares);
        }
        if rest > 0 {
            let d = V::load_head(x.add(whole), rest, mean_value) - mean;
            squares = d.fma(d, squares);
        }
        let variance = squares.sum() / len as f32;
        let factor = V::splat(1.0 / (variance + eps).sqrt());
        for i in (0..whole).step_by(LANES) {
            let d = (V::load(x.add(i)) - mean) * factor;
            d.fma(V::load(w.add(i)), V::load(b.add(i))).store(out.add(i));
        }
        if rest > 0 {
            let d = (V::load_head(x.add(whole), rest, 0.0) - mean) * factor;
            let (w, b) = (w.add(whole), b.add(whole));
            let y = d.fma(V::load_head(w, rest, 0.0), V::load_head(b, rest, 0.0));
            y.store_head(out.add(whole), rest);
        }
    }
}

impl Kernels {
    /// The layer norm of each row of `x` [rows, D], D the length of `weight` and `bias`; `eps` is
    /// added to the variance, inside the root.
    ///
    /// # Panics
    /// Panics if the lengths do not fit each other.
    pub fn layer_norm_f32(
        &self,
        pool: &Pool,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        eps: f32,
        out: &mut [f32],
    ) {
        let cols = weight.len();
        check_rows("layer_norm", x, cols, out);
        assert_eq!(bias.len(), cols, "layer_norm: weight and bias differ in length");
        for_chunks(pool, out, cols.max(1), &|range, out| {
            for (x, out) in x[range].chunks_exact(cols).zip(out.chunks_exact_mut(cols)) {
                // SAFETY: a table exists only where its instruction set does; all have `cols`.
                unsafe { (self.layer_norm)(x, weight, bias, eps, out) }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Random, Runner, lengths};

    fn check(runner: &Runner, x: &[f32], cols: usize, eps: f32, bound: f64) {
        let mut random = Random::new(9);
        let (weight, bias) = (random.values(cols), random.values(cols));
        let expected: Vec<f32> = x
            .chunks(cols)
            .flat_map(|row| reference::layer_norm(row, &weight, &bias, eps))
            .collect();
        let name = format!("layer norm {cols}");
        runner.check(&name, &expected, &Bound::Relative(bound), &|kernels, pool| {
            let mut out = vec![0.0; x.len()];
            kernels.layer_norm_f32(pool, x, &weight, &bias, eps, &mut out);
            out
        });
    }

    #[test]
    fn layer_norm_agrees_with_the_oracle() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for cols in lengths().filter(|&cols| cols > 0).chain([1024]) {
            check(&runner, &random.values(3 * cols), cols, 1e-5, 2e-6);
            check(&runner, &random.hostile(3 * cols), cols, 1e-12, 2e-6);
            // A mean of 100 deviations: the two passes keep it from cancelling the variance. The
            // mean itself is known to about 100 · 2^-24 · a few.
            let far: Vec<f32> = random.values(3 * cols).iter().map(|x| x + 100.0).collect();
            check(&runner, &far, cols, 1e-3, 4e-4);
        }
    }

    #[test]
    fn eps_is_inside_the_root() {
        // Rows of one value have no variance: (x - mean) / sqrt(eps) = 0, so the bias is left.
        for kernels in Runner::new().kernels() {
            let mut out = [0.0; 20];
            let x = [3.0; 20];
            kernels.layer_norm_f32(&Pool::new(1), &x, &[1.0; 20], &[0.5; 20], 1e-5, &mut out);
            assert_eq!(out, [0.5; 20]);
            // Variance 1e-4, eps 3e-4: the divisor is 0.02.
            let mut out = [0.0; 2];
            let x = [0.01, -0.01];
            kernels.layer_norm_f32(&Pool::new(1), &x, &[1.0; 2], &[0.0; 2], 3e-4, &mut out);
            assert!((out[0] - 0.5).abs() < 1e-6 && (out[1] + 0.5).abs() < 1e-6, "{out:?}");
        }
    }

    #[test]
    fn a_nan_stays_in_its_row() {
        for kernels in Runner::new().kernels() {
            for bad in [f32::NAN, f32::INFINITY] {
                let mut x = Random::new(3).values(3 * 37);
                x[37 + 36] = bad;
                let mut out = vec![0.0; x.len()];
                kernels.layer_norm_f32(&Pool::new(1), &x, &[1.0; 37], &[0.0; 37], 1e-5, &mut out);
                assert!(out[37..74].iter().all(|y| y.is_nan()));
                assert!(out[..37].iter().chain(&out[74..]).all(|y| y.is_finite()));
            }
        }
    }
}
