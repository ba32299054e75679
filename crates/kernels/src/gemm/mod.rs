//! Matrix products with prepacked weights: `y = activation(x · Wᵀ + bias) + residual`.
//!
//! `x` is [M, K] row after row, `W` is packed into panels (`packed.rs`), `y` is [M, N]. Sums are
//! accumulated in `f32` with one fused multiply-add per term, in the order of k.
//!
//! ```text
//! for each block of rows, each panel (tasks, in parallel; blocks of rows outermost):
//!     for each block of K_BLOCK terms:
//!         for each tile of up to MR rows:
//!             sums of the tile += x[rows, block] · panel[block]      (tile.rs, in registers)
//!             after the last block: bias, activation, residual, store
//! ```
//!
//! Why so: a panel's block of 256 terms (64 KiB at 64 columns) is used by every tile of the row
//! block, so it stays in the second-level cache, from which the tile reads 256 bytes in the time
//! of its 24 multiply-adds. The inputs of a tile (6 × 256 values) stay in the first level. Sums
//! that wait for the next block of terms are in a thread's scratch, not in `y`, whose rows lie a
//! power of two apart and would fall into the same few cache sets. A block of rows is bounded so
//! that its inputs stay in the third level while all panels pass.

mod packed;
mod tile;

pub use packed::{FillRows, PackedF32};
pub(crate) use packed::{for_panels, pack_panel, panel_width};
pub(crate) use tile::{FinishArgs, TileArgs, finish, peak, tile};

use crate::Pool;
use crate::activation::Activation;
use crate::aligned::with_scratch;
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;

/// Terms of the sums that are done for all rows of a block before the next terms.
const K_BLOCK: usize = 256;
/// Rows of a block.
const ROW_BLOCK: usize = 384;
/// Rows that a block keeps even if that leaves threads without work.
const ROW_BLOCK_MIN: usize = 24;
/// Tasks there should be for each thread, so that they end at about the same time.
const TASKS_PER_THREAD: usize = 4;

/// The arguments of [`Kernels::gemm_f32`].
#[derive(Clone, Copy, Debug)]
pub struct GemmF32<'a> {
    /// Inputs [M, K]; row `i` begins at `i · x_stride`.
    pub x: &'a [f32],
    /// Values from one row of `x` to the next, at least K.
    pub x_stride: usize,
    /// M, the rows of `x`.
    pub m: usize,
    /// The weight [N, K].
    pub weight: &'a PackedF32,
    /// Added to every row of the product: one value per column, N.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Activation,
    /// Added last: [M, N], row after row.
    pub residual: Option<&'a [f32]>,
}

impl Kernels {
    /// `out = activation(x · Wᵀ + bias) + residual`, `out` [M, N] row after row.
    ///
    /// A row of `out` has the same bits whatever M is, on any number of threads and on every
    /// instruction set.
    ///
    /// # Panics
    /// Panics if lengths do not fit each other, or the weight is packed for another level.
    ///
    /// # Numerics
    /// One `f32` accumulator per output, terms in the order of k, one rounding per term.
    pub fn gemm_f32(&self, pool: &Pool, args: &GemmF32<'_>, out: &mut [f32]) {
        self.gemm_f32_to(pool, args, out, None);
    }

    /// The same, and `before = x · Wᵀ + bias`, what the activation is applied to: the derivative
    /// needs it.
    ///
    /// # Panics
    /// As [`Kernels::gemm_f32`].
    pub fn gemm_f32_keeping(
        &self,
        pool: &Pool,
        args: &GemmF32<'_>,
        out: &mut [f32],
        before: &mut [f32],
    ) {
        self.gemm_f32_to(pool, args, out, Some(before));
    }

    fn gemm_f32_to(
        &self,
        pool: &Pool,
        args: &GemmF32<'_>,
        out: &mut [f32],
        before: Option<&mut [f32]>,
    ) {
        let (m, n, k) = (args.m, args.weight.n(), args.weight.k());
        self.check(args, out);
        if let Some(before) = &before {
            assert_eq!(before.len(), m * n, "gemm: before has not m · n values");
        }
        if m == 0 || n == 0 {
            return;
        }
        let width = self.isa.panel_width();
        let panels = n.div_ceil(width);
        let block_rows = self.block_rows(m, panels, pool.threads());
        let blocks = m.div_ceil(block_rows);
        let start = SendPointer(out.as_mut_ptr());
        let keep = SendPointer(before.map_or(std::ptr::null_mut(), |b| b.as_mut_ptr()));
        pool.run(blocks * panels, &|task| {
            let row = task / panels * block_rows;
            let column = task % panels * width;
            let rows = block_rows.min(m - row);
            let (panel, panel_width) = args.weight.panel(column);
            let at = row * n + column;
            let block = Block {
                rows,
                cols: width.min(n - column),
                k,
                x: args.x[row * args.x_stride..].as_ptr(),
                x_row: args.x_stride,
                panel,
                panel_width,
                bias: args.bias.map_or(std::ptr::null(), |bias| bias[column..].as_ptr()),
                activation: args.activation,
                residual: args.residual.map_or(std::ptr::null(), |r| r[at..].as_ptr()),
                // SAFETY: inside `out`, whose length `check` has compared with m · n.
                out: unsafe { start.get().add(at) },
                out_row: n,
                before: if keep.get().is_null() { keep.get() } else { keep.get().wrapping_add(at) },
            };
            // SAFETY: `check` has seen that x holds `rows` rows of k values from `row` on, bias n
            // values, residual and out m · n; a panel is k · panel_width. Tasks differ in rows or
            // columns of `out` and `before`, which are borrowed exclusively.
            unsafe { self.gemm_block(&block) }
        });
    }

    fn check(&self, args: &GemmF32<'_>, out: &[f32]) {
        let (m, n, k) = (args.m, args.weight.n(), args.weight.k());
        assert_eq!(args.weight.isa(), self.isa, "gemm: the weight is packed for another level");
        assert!(args.x_stride >= k, "gemm: x_stride {} is below k {k}", args.x_stride);
        let needed = if m == 0 { 0 } else { (m - 1) * args.x_stride + k };
        assert!(args.x.len() >= needed, "gemm: x has {} values, needs {needed}", args.x.len());
        assert_eq!(out.len(), m * n, "gemm: out has not m · n values");
        if let Some(bias) = args.bias {
            assert_eq!(bias.len(), n, "gemm: bias has not n values");
        }
        if let Some(residual) = args.residual {
            assert_eq!(residual.len(), m * n, "gemm: residual has not m · n values");
        }
    }

    /// Rows of a block: as many as the caches bear, fewer where threads would have nothing to do.
    fn block_rows(&self, m: usize, panels: usize, threads: usize) -> usize {
        let wanted = (threads * TASKS_PER_THREAD).div_ceil(panels).max(m.div_ceil(ROW_BLOCK));
        let wanted = if threads == 1 { m.div_ceil(ROW_BLOCK) } else { wanted };
        m.div_ceil(wanted).max(ROW_BLOCK_MIN).next_multiple_of(self.mr)
    }

    /// One task of a product.
    ///
    /// # Safety
    /// The pointers of `block` are valid for what [`Block`] says of them, and nobody else uses
    /// the places of its `out`.
    unsafe fn gemm_block(&self, block: &Block<'_>) {
        let &Block { rows, k, panel_width, .. } = block;
        let tiles = &self.tiles[panel_width / crate::arch::generic::LANES - 1];
        // Without a second block of terms a tile is finished at once: one tile of sums will do.
        let sum_rows = if k <= K_BLOCK { self.mr } else { rows };
        with_scratch(sum_rows * panel_width, |sums| {
            let sums = sums.as_mut_ptr();
            let mut k_start = 0;
            loop {
                let k_count = K_BLOCK.min(k - k_start);
                let last = k_start + k_count == k;
                for row in (0..rows).step_by(self.mr) {
                    let count = self.mr.min(rows - row);
                    let sum_row = if k <= K_BLOCK { 0 } else { row };
                    // SAFETY: the tile has `count` rows of the block and `k_count` terms from
                    // `k_start`, inside x and the panel; its sums are `count` rows of scratch.
                    unsafe {
                        let c = sums.add(sum_row * panel_width);
                        tiles[count - 1](&TileArgs {
                            k: k_count,
                            a: block.x.add(row * block.x_row + k_start),
                            a_row: block.x_row,
                            b: block.panel.as_ptr().add(k_start * panel_width),
                            c,
                            c_row: panel_width,
                            resume: k_start > 0,
                        });
                        if last {
                            (self.finish)(&block.finish(row, count, c));
                        }
                    }
                }
                k_start += k_count;
                if last {
                    break;
                }
            }
        });
    }

    /// Does `steps` rounds of multiply-adds on registers alone and gives back how many floating
    /// point operations that was: the yardstick of the benchmarks.
    pub fn peak_f32(&self, steps: usize) -> u64 {
        // SAFETY: a table exists only where its instruction set does.
        std::hint::black_box(unsafe { (self.peak)(steps) });
        (self.mr * self.nv * 16 * 2 * steps) as u64
    }
}

/// A block of rows times one panel.
struct Block<'a> {
    rows: usize,
    /// Columns that exist in the panel.
    cols: usize,
    k: usize,
    /// [rows, k] with rows `x_row` apart.
    x: *const f32,
    x_row: usize,
    /// [k, panel_width].
    panel: &'a [f32],
    panel_width: usize,
    /// `[cols]`, or null.
    bias: *const f32,
    activation: Activation,
    /// [rows, cols] with rows `out_row` apart, or null.
    residual: *const f32,
    /// [rows, cols] with rows `out_row` apart.
    out: *mut f32,
    out_row: usize,
    /// As `out`, or null.
    before: *mut f32,
}

impl Block<'_> {
    /// How to finish `count` rows from `row` on, whose sums are at `c`.
    ///
    /// # Safety
    /// The rows are inside the block.
    unsafe fn finish(&self, row: usize, count: usize, c: *const f32) -> FinishArgs {
        let at = row * self.out_row;
        let residual = self.residual;
        // SAFETY: the row is inside what `residual` and `out` cover.
        unsafe {
            FinishArgs {
                rows: count,
                cols: self.cols,
                c,
                c_row: self.panel_width,
                bias: self.bias,
                activation: self.activation,
                residual: if residual.is_null() { residual } else { residual.add(at) },
                out: self.out.add(at),
                out_row: self.out_row,
                before: if self.before.is_null() { self.before } else { self.before.add(at) },
            }
        }
    }
}

#[cfg(test)]
mod tests;
