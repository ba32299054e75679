//! Gradients of a layer norm. With `n = (x - mean) / sqrt(variance + eps)` and `g = dy · weight`:
//! `dx = (g - mean(g) - n · mean(g·n)) / sqrt(variance + eps)`, `dweight = Σ dy·n`, `dbias = Σ dy`.
//!
//! The statistics are computed again from `x`, by the arithmetic of the forward form.

use super::{load, store};
use crate::Pool;
use crate::aligned::AlignedF32;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::{SendPointer, check_rows};

/// Rows whose contributions to the gradients of weight and bias are summed up together.
const BLOCK_ROWS: usize = 32;

/// One row, and the sums it is added to.
pub(crate) struct LayerNormRow<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) dy: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) eps: f32,
    pub(crate) dx: &'a mut [f32],
    pub(crate) d_weight: &'a mut [f32],
    pub(crate) d_bias: &'a mut [f32],
}

/// One row.
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have one length.
#[inline(always)]
pub(crate) unsafe fn layer_norm_backward_row<V: F32x16>(row: &mut LayerNormRow<'_>) {
    let len = row.x.len();
    debug_assert!(row.dy.len() == len && row.weight.len() == len && row.dx.len() == len);
    debug_assert!(row.d_weight.len() == len && row.d_bias.len() == len);
    let (x, dy, w) = (row.x.as_ptr(), row.dy.as_ptr(), row.weight.as_ptr());
    let (dx, dw, db) = (row.dx.as_mut_ptr(), row.d_weight.as_mut_ptr(), row.d_bias.as_mut_ptr());
    let zero = 0.0;
    // SAFETY: all offsets stay within the length that the slices have.
    unsafe {
        let mut sum = V::splat(zero);
        for at in (0..len).step_by(LANES) {
            sum = sum + load::<V>(x.add(at), LANES.min(len - at), zero);
        }
        let mean_value = sum.sum() / len as f32;
        let mean = V::splat(mean_value);
        let mut squares = V::splat(zero);
        for at in (0..len).step_by(LANES) {
            let d = load::<V>(x.add(at), LANES.min(len - at), mean_value) - mean;
            squares = d.fma(d, squares);
        }
        let factor = V::splat(1.0 / (squares.sum() / len as f32 + row.eps).sqrt());
        let (mut sum_g, mut sum_gn) = (V::splat(zero), V::splat(zero));
        for at in (0..len).step_by(LANES) {
            let count = LANES.min(len - at);
            let n = (load::<V>(x.add(at), count, mean_value) - mean) * factor;
            let dy = load::<V>(dy.add(at), count, zero);
            let g = dy * load::<V>(w.add(at), count, zero);
            sum_g = sum_g + g;
            sum_gn = g.fma(n, sum_gn);
            store(dy.fma(n, load::<V>(dw.add(at), count, zero)), dw.add(at), count);
            store(dy + load::<V>(db.add(at), count, zero), db.add(at), count);
        }
        let mean_g = V::splat(sum_g.sum() / len as f32);
        let minus_mean_gn = V::splat(-(sum_gn.sum() / len as f32));
        for at in (0..len).step_by(LANES) {
            let count = LANES.min(len - at);
            let n = (load::<V>(x.add(at), count, mean_value) - mean) * factor;
            let g = load::<V>(dy.add(at), count, zero) * load::<V>(w.add(at), count, zero);
            store(n.fma(minus_mean_gn, g - mean_g) * factor, dx.add(at), count);
        }
    }
}

/// The arguments of [`Kernels::layer_norm_backward`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    rows: usize,
    cols: usize,
}

impl Kernels {
    /// The gradients of a layer norm of the rows of `x` [rows, D], D the length of `weight`, from
    /// that of its result: `dx` [rows, D], `d_weight` `[D]` and `d_bias` `[D]`.
    ///
    /// # Panics
    /// Panics if the lengths do not fit each other.
    #[allow(clippy::too_many_arguments, reason = "three operands, three gradients")]
    pub fn layer_norm_backward(
        &self,
        pool: &Pool,
        x: &[f32],
        dy: &[f32],
        weight: &[f32],
        eps: f32,
        dx: &mut [f32],
        [d_weight, d_bias]: [&mut [f32]; 2],
    ) {
        let cols = weight.len();
        check_rows("layer_norm", x, cols, dx);
        check_rows("layer_norm", dy, cols, dx);
        assert!(d_weight.len() == cols && d_bias.len() == cols, "layer_norm: widths differ");
        if cols == 0 {
            return;
        }
        let shape = Shape { rows: x.len() / cols, cols };
        let blocks = shape.rows.div_ceil(BLOCK_ROWS);
        let mut partial = AlignedF32::zeros(blocks * 2 * cols);
        let (start, partials) = (SendPointer(dx.as_mut_ptr()), SendPointer(partial.as_mut_ptr()));
        pool.run(blocks, &|block| {
            // SAFETY: the sums of this block are this task's alone.
            let sums = unsafe {
                std::slice::from_raw_parts_mut(partials.get().add(block * 2 * cols), 2 * cols)
            };
            let (d_weight, d_bias) = sums.split_at_mut(cols);
            for row in block * BLOCK_ROWS..shape.rows.min((block + 1) * BLOCK_ROWS) {
                let at = row * shape.cols;
                // SAFETY: a row of `dx`, this task's alone; all slices are `cols` long; a table
                // exists only where its instruction set does.
                unsafe {
                    (self.backward.layer_norm)(&mut LayerNormRow {
                        x: &x[at..][..cols],
                        dy: &dy[at..][..cols],
                        weight,
                        eps,
                        dx: std::slice::from_raw_parts_mut(start.get().add(at), cols),
                        d_weight,
                        d_bias,
                    });
                }
            }
        });
        for (first, out) in [(0, d_weight), (cols, d_bias)] {
            out.fill(0.0);
            // SAFETY: a table exists only where its instruction set does; each block has `cols`
            // sums from `first` on.
            unsafe {
                let sums = partial.as_ptr().wrapping_add(first);
                (self.backward.add_rows)(sums, 2 * cols, blocks, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Place, Random, Runner, lengths};

    #[test]
    fn gradients_agree_with_the_oracle() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for cols in lengths().filter(|&cols| cols > 0) {
            for rows in [0, 1, 3, 70] {
                let (x, dy) = (random.values(rows * cols), random.values(rows * cols));
                let weight = random.values(cols);
                // A row of one value has no variance; eps keeps its slope near what f32 can say.
                let eps = if cols < 4 { 0.1 } else { 1e-5 };
                let expected = reference::layer_norm_backward(&x, &dy, &weight, eps);
                let run = |kernels: &Kernels, pool: &Pool, place: Place| {
                    let mut dx = place.fill(f32::NAN, rows * cols);
                    let (mut dw, mut db) = (place.fill(f32::NAN, cols), place.fill(f32::NAN, cols));
                    let (x, dy, weight) = (place.put(&x), place.put(&dy), place.put(&weight));
                    let sums = [&mut dw[..], &mut db[..]];
                    kernels.layer_norm_backward(pool, &x, &dy, &weight, eps, &mut dx, sums);
                    [dx.to_vec(), dw.to_vec(), db.to_vec()].concat()
                };
                let name = format!("layer norm backward [{rows}, {cols}]");
                let bound = Bound::Relative(2e-5 * (1.0 + rows as f64).sqrt());
                runner.check(&name, &expected, &bound, &|k, p| run(k, p, Place::Anywhere));
                if cols < 70 {
                    runner.in_all_places(&name, &run);
                }
            }
        }
    }
}
