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
