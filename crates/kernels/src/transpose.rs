//! Transposed operands: what the gradients of a product need.
//!
//! With `y = x · Wᵀ` and `dy` given, `dx = dy · W` and `dW = dyᵀ · x`. A packed right side holds the
//! columns of what it multiplies side by side, so packing `x` or `W` for these is copying pieces of
//! rows; only `dyᵀ`, a left side, is really transposed, in squares of 16 × 16.

use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;
use crate::gemm::{FillRows, for_panels, panel_width};
use crate::{PackedF32, Pool};

/// Columns that one task transposes.
const TASK_COLUMNS: usize = 64;
/// Rows that one task copies to panels.
const TASK_ROWS: usize = 64;

/// A matrix and where its transpose goes.
pub(crate) struct TransposeArgs {
    /// [rows, cols] with rows `x_row` values apart.
    pub(crate) x: *const f32,
    pub(crate) x_row: usize,
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    /// [cols, rows] with rows `out_row` values apart.
    pub(crate) out: *mut f32,
    pub(crate) out_row: usize,
}

/// Transposes a matrix of 32-bit values, whatever their bits mean.
///
/// # Safety
/// The processor has the instruction set of `V`; the pointers are valid for what [`TransposeArgs`]
/// says of them.
#[inline(always)]
pub(crate) unsafe fn transpose<V: F32x16>(args: &TransposeArgs) {
    let &TransposeArgs { x, x_row, rows, cols, out, out_row } = args;
    for row in (0..rows).step_by(LANES) {
        for col in (0..cols).step_by(LANES) {
            let (down, across) = (LANES.min(rows - row), LANES.min(cols - col));
            // SAFETY: the square is inside both matrices; only what exists of it is touched.
            unsafe {
                let (x, out) = (x.add(row * x_row + col), out.add(col * out_row + row));
                let mut square = [V::splat(0.0); LANES];
                if down == LANES && across == LANES {
                    for (r, line) in square.iter_mut().enumerate() {
                        *line = V::load(x.add(r * x_row));
                    }
                    for (c, line) in V::transpose(square).into_iter().enumerate() {
                        line.store(out.add(c * out_row));
                    }
                } else {
                    for (r, line) in square.iter_mut().take(down).enumerate() {
                        *line = V::load_head(x.add(r * x_row), across, 0.0);
                    }
                    for (c, line) in V::transpose(square).into_iter().take(across).enumerate() {
                        line.store_head(out.add(c * out_row), down);
                    }
                }
            }
        }
    }
}

impl Kernels {
    /// `out` [`cols`, `rows`] becomes the transpose of `x` [`rows`, `cols`].
    ///
    /// # Panics
    /// Panics if the lengths do not fit.
    pub fn transpose_f32(&self, pool: &Pool, x: &[f32], rows: usize, cols: usize, out: &mut [f32]) {
        assert_eq!(x.len(), rows * cols, "transpose: x has not rows · cols values");
        assert_eq!(out.len(), x.len(), "transpose: out differs from x in length");
        let start = SendPointer(out.as_mut_ptr());
        pool.run(cols.div_ceil(TASK_COLUMNS), &|task| {
            let first = task * TASK_COLUMNS;
            // SAFETY: a table exists only where its instruction set does; the columns are inside
            // `x`, and become rows of `out` that are this task's alone.
            unsafe {
                (self.backward.transpose)(&TransposeArgs {
                    x: x.as_ptr().wrapping_add(first),
                    x_row: cols,
                    rows,
                    cols: TASK_COLUMNS.min(cols - first),
                    out: start.get().wrapping_add(first * rows),
                    out_row: rows,
                });
            }
        });
    }

    /// Packs a weight [`n`, `k`] that `fill` gives in pieces, as [`PackedF32::with_rows`] does; see
    /// [`PackedF32::from_panels`].
    ///
    /// # Errors
    /// An error of `fill`, as it is.
    ///
    /// # Panics
    /// Panics if `out` has not the values of the panels.
    pub fn pack_rows_f32<E: Send>(
        &self,
        pool: &Pool,
        n: usize,
        k: usize,
        fill: FillRows<'_, E>,
        out: &mut [f32],
    ) -> Result<(), E> {
        assert_eq!(out.len(), PackedF32::len_of(n, k), "pack: out is no such panels");
        let width = self.isa.panel_width();
        for_panels(pool, (n, k, width), width * k, out, fill, &|_, rows, panel| {
            let count = rows.len() / k.max(1);
            let width = count.next_multiple_of(LANES);
            if count < width {
                panel.fill(0.0);
            }
            assert!(rows.len() >= count * k && panel.len() >= k * width);
            // SAFETY: a table exists only where its instruction set does; `count` rows of `k`
            // values, and `k` lines of `width`.
            unsafe {
                (self.backward.transpose)(&TransposeArgs {
                    x: rows.as_ptr(),
                    x_row: k,
                    rows: count,
                    cols: k,
                    out: panel.as_mut_ptr(),
                    out_row: width,
                });
            }
        })
    }

    /// Packs the transpose of `x` [`rows`, `cols`] as the weight [`cols`, `rows`] of a product; see
    /// [`PackedF32::from_panels`].
    ///
    /// # Panics
    /// Panics if the lengths do not fit.
    pub fn pack_columns_f32(
        &self,
        pool: &Pool,
        x: &[f32],
        rows: usize,
        cols: usize,
        out: &mut [f32],
    ) {
        assert_eq!(x.len(), rows * cols, "pack: x has not rows · cols values");
        assert_eq!(out.len(), PackedF32::len_of(cols, rows), "pack: out is no such panels");
        let full = self.isa.panel_width();
        let start = SendPointer(out.as_mut_ptr());
        pool.run(rows.div_ceil(TASK_ROWS), &|task| {
            for row in task * TASK_ROWS..rows.min((task + 1) * TASK_ROWS) {
                for first in (0..cols).step_by(full) {
                    let width = panel_width(full, cols, first);
                    let values = &x[row * cols + first..][..width.min(cols - first)];
                    // SAFETY: the line of this row in the panel of `first`: inside `out`, and
                    // this task's alone.
                    let line = unsafe {
                        let line = start.get().add(first * rows + row * width);
                        std::slice::from_raw_parts_mut(line, width)
                    };
                    line[..values.len()].copy_from_slice(values);
                    line[values.len()..].fill(0.0);
                }
            }
        });
    }

    /// The weight [N, K] as the weight [K, N] of the product with its transpose; see
    /// [`PackedF32::from_panels`].
    ///
    /// # Panics
    /// Panics if it is packed for another level, or `out` has not the values of the panels.
    pub fn transpose_packed_f32(&self, pool: &Pool, weight: &PackedF32, out: &mut [f32]) {
        assert_eq!(weight.isa(), self.isa, "transposed: the weight is packed for another level");
        let (n, k, full) = (weight.n(), weight.k(), self.isa.panel_width());
        assert_eq!(out.len(), PackedF32::len_of(k, n), "transposed: out is no such panels");
        let start = SendPointer(out.as_mut_ptr());
        pool.run(k.div_ceil(full), &|task| {
            let first = task * full;
            let width = panel_width(full, k, first);
            if first + width > k {
                // SAFETY: the panel of `first`, this task's alone: columns that do not exist.
                unsafe {
                    let panel = start.get().add(first * n);
                    std::slice::from_raw_parts_mut(panel, width * n).fill(0.0);
                }
            }
            for column in (0..n).step_by(full) {
                let (panel, panel_width) = weight.panel(column);
                // SAFETY: a table exists only where its instruction set does; the square of the
                // rows `first ..` of this panel and its columns that exist; the target is the
                // panel of `first`, this task's alone, from line `column` on.
                unsafe {
                    (self.backward.transpose)(&TransposeArgs {
                        x: panel.as_ptr().add(first * panel_width),
                        x_row: panel_width,
                        rows: full.min(k - first),
                        cols: full.min(n - column),
                        out: start.get().add(first * n + column * width),
                        out_row: width,
                    });
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Place, Random, Runner, assert_same_bits};
    use crate::{Activation, GemmF32};
    use std::convert::Infallible;
    use std::sync::Arc;

    const SIZES: [(usize, usize); 8] =
        [(1, 1), (15, 17), (16, 16), (33, 5), (3, 70), (64, 130), (130, 64), (200, 79)];

    #[test]
    fn rows_become_columns() {
        let runner = Runner::new();
        let mut random = Random::new(1);
        for (rows, cols) in SIZES {
            let x = random.values(rows * cols);
            let expected: Vec<f32> =
                (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect();
            let run = |kernels: &Kernels, pool: &Pool, place: Place| {
                let mut out = place.fill(f32::NAN, rows * cols);
                kernels.transpose_f32(pool, &place.put(&x), rows, cols, &mut out);
                out.to_vec()
            };
            let found = runner.same_bits("transpose", &|k, p| run(k, p, Place::Anywhere));
            assert_same_bits("transpose", &found, &expected);
            runner.in_all_places("transpose", &run);
        }
    }

    #[test]
    fn a_packed_transpose_multiplies_by_the_transpose() {
        let runner = Runner::new();
        let mut random = Random::new(2);
        for (k, n) in SIZES {
            // The weight [n, k] of which `w` [k, n] is the transpose.
            let w = random.values(k * n);
            let x = random.values(3 * k);
            let plain: Vec<f32> = (0..k * n).map(|i| w[i % k * n + i / k]).collect();
            for kernels in runner.kernels() {
                let pool = Pool::new(2);
                let run = |weight: &PackedF32| {
                    let mut out = vec![0.0; 3 * n];
                    let (activation, m) = (Activation::Identity, 3);
                    let (bias, residual) = (None, None);
                    let args =
                        GemmF32 { x: &x, x_stride: k, m, weight, bias, activation, residual };
                    kernels.gemm_f32(&pool, &args, &mut out);
                    out
                };
                let expected = run(&PackedF32::pack(kernels.isa(), &plain, n, k));
                let mut panels = Place::BeforePage.fill(f32::NAN, PackedF32::len_of(n, k));
                kernels.pack_columns_f32(&pool, &w, k, n, &mut panels);
                let packed = PackedF32::from_panels(kernels.isa(), n, k, Arc::new(panels));
                assert_same_bits("columns", &run(&packed), &expected);
                let forward = PackedF32::pack(kernels.isa(), &w, k, n);
                let mut panels = Place::AfterPage.fill(f32::NAN, PackedF32::len_of(n, k));
                kernels.transpose_packed_f32(&pool, &forward, &mut panels);
                let packed = PackedF32::from_panels(kernels.isa(), n, k, Arc::new(panels));
                assert_same_bits("transposed", &run(&packed), &expected);
                let fill = |rows: std::ops::Range<usize>, out: &mut [f32]| {
                    out.copy_from_slice(&plain[rows.start * k..rows.end * k]);
                    Ok::<(), Infallible>(())
                };
                let mut panels = Place::BeforePage.fill(f32::NAN, PackedF32::len_of(n, k));
                kernels.pack_rows_f32(&pool, n, k, &fill, &mut panels).unwrap();
                let packed = PackedF32::from_panels(kernels.isa(), n, k, Arc::new(panels));
                assert_same_bits("rows", &run(&packed), &expected);
            }
        }
    }
}
