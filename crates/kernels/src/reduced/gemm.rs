//! `y = activation(x · Wᵀ + bias) + residual` with a weight of reduced precision.
//!
//! ```text
//! for each group of panels, each chunk of rows (tasks, in parallel):
//!     for each k_steps steps of K:
//!         for each panel of the group:                (its part: 16 or 32 KiB, first level)
//!             for each block of 32 rows of the chunk: (from the second level)
//!                 sums [32, 32] += rows · panel       (block_bf16 or block_i8)
//!                 after the last step: scale, bias, activation, residual, store  (finish.rs)
//! ```
//!
//! A block reads 2 KiB of inputs and 2 KiB of weights a step. Whichever is used again next must
//! come from the first-level cache, or the matrix unit waits: a panel's part of 8 steps takes 16 KiB
//! and stays there while all rows pass. The sums of a chunk wait in a scratch meanwhile.
//! Where there is but one block of rows there is nothing to come back for, and K is not cut.
//!
//! The first steps of the next panel are asked for while the present one is used, since weights
//! come from memory once a product.

use super::finish::{FinishBlock, OutPlace};
use super::quantize::Quantized;
use super::tiles::{Tiles, tiles_bytes};
use super::{
    BLOCK_ROWS, BLOCK_SUMS, BlockArgs, PANEL_COLS, PANEL_STEP_BYTES, PackedBf16, PackedI8,
    STEP_BYTES, TILE_BYTES, TILE_ROWS,
};
use crate::aligned::with_scratch;
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;
use crate::{Activation, Pool};

/// Rows of a chunk at most: their inputs of `k_steps` steps and sums stay in the second level.
const CHUNK_ROWS: usize = 512;
/// Panels of a task at most.
const GROUP_PANELS: usize = 8;
/// Tasks there should be for each thread, so that they end at about the same time.
const TASKS_PER_THREAD: usize = 4;

/// A weight and the inputs in its precision.
#[derive(Clone, Copy, Debug)]
pub enum ReducedWeight<'a> {
    /// `bf16` by `bf16`.
    Bf16(Tiles<'a>, &'a PackedBf16),
    /// 8 bits by 8 bits.
    I8(Quantized<'a>, &'a PackedI8),
}

/// Where a product goes.
#[derive(Debug)]
pub enum Out<'a> {
    /// `f32` rows [M, N].
    Rows(&'a mut [f32]),
    /// `bf16` tiles of [M, N].
    Tiles(&'a mut [u8]),
}

impl Out<'_> {
    fn place(&mut self) -> OutPlace {
        match self {
            Out::Rows(out) => OutPlace::Rows(SendPointer(out.as_mut_ptr())),
            Out::Tiles(out) => OutPlace::Tiles(SendPointer(out.as_mut_ptr())),
        }
    }
}

/// Where the result goes, and where what the activation is applied to.
type Places = (OutPlace, Option<OutPlace>);

/// The arguments of [`Kernels::gemm_reduced`].
#[derive(Clone, Copy, Debug)]
pub struct GemmReduced<'a> {
    /// Inputs [M, K] and weight [N, K].
    pub operands: ReducedWeight<'a>,
    /// Added to every row of the product: one value per column, N.
    pub bias: Option<&'a [f32]>,
    /// Applied after the bias.
    pub activation: Activation,
    /// Added last: [M, N], row after row.
    pub residual: Option<&'a [f32]>,
}

/// What a product is made of, whatever its precision.
struct Shape<'a> {
    m: usize,
    n: usize,
    steps: usize,
    a: &'a [u8],
    b: &'a [u8],
}

impl<'a> GemmReduced<'a> {
    fn shape(&self) -> Shape<'a> {
        let (m, n, steps, a, b, k, cols) = match self.operands {
            ReducedWeight::Bf16(x, w) => {
                let steps = PackedBf16::steps_of(w.k());
                (x.rows(), w.n(), steps, x.bytes(), w.bytes(), w.k(), x.cols())
            }
            ReducedWeight::I8(x, w) => {
                let steps = PackedI8::steps_of(w.k());
                assert_eq!(x.bytes.len(), Quantized::bytes_of(x.scales.len(), x.cols));
                (x.scales.len(), w.n(), steps, x.bytes, w.bytes(), w.k(), x.cols)
            }
        };
        assert_eq!(cols, k, "gemm: inputs of width {cols}, weight of {k}");
        Shape { m, n, steps, a, b: b.as_slice() }
    }

    fn check(&self, m: usize, n: usize, out: &Out<'_>) {
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), n, "gemm: bias has not n values");
        }
        if let Some(residual) = self.residual {
            assert_eq!(residual.len(), m * n, "gemm: residual has not m · n values");
        }
        match out {
            Out::Rows(out) => assert_eq!(out.len(), m * n, "gemm: out has not m · n values"),
            Out::Tiles(out) => {
                assert_eq!(
                    out.len(),
                    tiles_bytes(m, n),
                    "gemm: out has not the bytes of its tiles"
                );
            }
        }
    }
}

impl Kernels {
    /// `out = activation(x · Wᵀ + bias) + residual`.
    ///
    /// A row of `out` has the same bits whatever M is and on any number of threads; with an 8-bit
    /// weight, also on every instruction set.
    ///
    /// # Panics
    /// Panics if lengths do not fit each other.
    pub fn gemm_reduced(&self, pool: &Pool, args: &GemmReduced<'_>, out: Out<'_>) {
        self.gemm_reduced_to(pool, args, out, None);
    }

    /// The same, and `before = x · Wᵀ + bias`, what the activation is applied to: the derivative
    /// needs it.
    ///
    /// # Panics
    /// As [`Kernels::gemm_reduced`], and if `before` is not of the kind of `out`.
    pub fn gemm_reduced_keeping(
        &self,
        pool: &Pool,
        args: &GemmReduced<'_>,
        out: Out<'_>,
        before: Out<'_>,
    ) {
        self.gemm_reduced_to(pool, args, out, Some(before));
    }

    fn gemm_reduced_to(
        &self,
        pool: &Pool,
        args: &GemmReduced<'_>,
        mut out: Out<'_>,
        mut before: Option<Out<'_>>,
    ) {
        let shape = args.shape();
        args.check(shape.m, shape.n, &out);
        if let Some(before) = &before {
            args.check(shape.m, shape.n, before);
            let same = matches!(before, Out::Rows(_)) == matches!(out, Out::Rows(_));
            assert!(same, "gemm: before and out are of different kinds");
        }
        if shape.m == 0 || shape.n == 0 {
            return;
        }
        let panels = shape.n.div_ceil(PANEL_COLS);
        let chunk = shape.m.div_ceil(shape.m.div_ceil(CHUNK_ROWS)).next_multiple_of(BLOCK_ROWS);
        let chunks = shape.m.div_ceil(chunk);
        let wanted = (pool.threads() * TASKS_PER_THREAD).div_ceil(chunks);
        let group = (panels / wanted).clamp(1, GROUP_PANELS);
        let groups = panels.div_ceil(group);
        let places = (out.place(), before.as_mut().map(Out::place));
        pool.run(groups * chunks, &|task| {
            let task = Task {
                rows: (task % chunks * chunk, shape.m.min((task % chunks + 1) * chunk)),
                panels: (task / chunks * group, panels.min((task / chunks + 1) * group)),
            };
            // SAFETY: `shape` and `check` have compared all lengths with the tasks' rows and
            // columns; tasks differ in one of them, and `out` and `before` are borrowed exclusively.
            unsafe { self.task(args, &shape, &task, places) }
        });
    }

    /// The rows and panels of one task.
    ///
    /// # Safety
    /// The operands have passed [`GemmReduced::check`], and nobody else uses the places of the
    /// task's rows and columns in `out`.
    unsafe fn task(&self, args: &GemmReduced<'_>, shape: &Shape<'_>, task: &Task, places: Places) {
        let block = match args.operands {
            ReducedWeight::Bf16(..) => self.reduced.block_bf16,
            ReducedWeight::I8(..) => self.reduced.block_i8,
        };
        let blocks = (task.rows.1 - task.rows.0).div_ceil(BLOCK_ROWS);
        let count = task.panels.1 - task.panels.0;
        let k_steps = if blocks == 1 { shape.steps.max(1) } else { self.reduced.k_steps };
        let cut = shape.steps > k_steps;
        let sums_len = if cut { blocks * count * BLOCK_SUMS } else { BLOCK_SUMS };
        with_scratch(sums_len, |sums| {
            // SAFETY: a table exists only where its instruction set does.
            unsafe { (self.reduced.enter)() };
            for k in (0..shape.steps.max(1)).step_by(k_steps) {
                let steps = k_steps.min(shape.steps - k);
                for panel in task.panels.0..task.panels.1 {
                    for at in 0..blocks {
                        let row = task.rows.0 + at * BLOCK_ROWS;
                        let sum = if cut { (panel - task.panels.0) * blocks + at } else { 0 };
                        let c = sums[sum * BLOCK_SUMS..][..BLOCK_SUMS].as_mut_ptr();
                        let rows = BLOCK_ROWS.min(task.rows.1 - row);
                        let next = if panel + 1 < task.panels.1 {
                            (panel + 1, k)
                        } else {
                            (task.panels.0, k + steps)
                        };
                        let mut step = shape.block(row, rows, panel, (k, steps), c);
                        if blocks > 1 {
                            shape.ask_for(next, k_steps, (at, blocks), &mut step);
                        }
                        // SAFETY: the block's rows and panel are inside the operands, as `Shape`
                        // has found them; `c` holds a block's sums.
                        unsafe { block(&step) };
                        if k + steps == shape.steps {
                            let finish = args.finish(row, rows, panel, shape.n, c, places);
                            // SAFETY: the block's places in bias, residual and out are inside
                            // what `check` has seen, and only this task's.
                            unsafe { (self.reduced.finish)(&finish) };
                        }
                    }
                }
            }
            // SAFETY: as for `enter`.
            unsafe { (self.reduced.leave)() };
        });
    }

    /// Does about `rounds` rounds of the matrix instruction for 8-bit or `bf16` operands on
    /// registers alone; gives back how many operations that was, or `None` where this level has
    /// no such instruction and widens to `f32`.
    pub fn peak_reduced(&self, eight_bits: bool, rounds: usize) -> Option<u64> {
        let peak = if eight_bits { self.reduced.peak_i8 } else { self.reduced.peak_bf16 };
        let (run, operations) = peak?;
        // SAFETY: a table exists only where its instruction set does.
        unsafe {
            (self.reduced.enter)();
            run(rounds);
            (self.reduced.leave)();
        }
        Some((operations * rounds) as u64)
    }
}

/// Rows `rows.0 .. rows.1` by panels `panels.0 .. panels.1`.
struct Task {
    rows: (usize, usize),
    panels: (usize, usize),
}

impl Shape<'_> {
    /// The block of rows from `row` on with `panel`, over steps `k .. k + steps`.
    fn block(
        &self,
        row: usize,
        rows: usize,
        panel: usize,
        (k, steps): (usize, usize),
        c: *mut f32,
    ) -> BlockArgs {
        let a = (row / TILE_ROWS * self.steps + k) * TILE_BYTES;
        let b = (panel * self.steps + k) * PANEL_STEP_BYTES;
        debug_assert!(b + steps * PANEL_STEP_BYTES <= self.b.len());
        BlockArgs {
            steps,
            rows,
            a: self.a[a..].as_ptr(),
            a_block: self.steps * TILE_BYTES,
            b: self.b[b..].as_ptr(),
            c: c.cast(),
            c_row: PANEL_COLS * 4,
            resume: k > 0,
            prefetch: std::ptr::null(),
            prefetch_lines: 0,
        }
    }

    /// Lets a block ask for its share, the `at`th of `blocks`, of the part of the weight that comes
    /// next: panel `panel` from step `k` on. Behind the last step there is nothing to ask for.
    fn ask_for(
        &self,
        (panel, k): (usize, usize),
        k_steps: usize,
        (at, blocks): (usize, usize),
        block: &mut BlockArgs,
    ) {
        let steps = k_steps.min(self.steps - k);
        let lines = steps * PANEL_STEP_BYTES / STEP_BYTES;
        let share = lines.div_ceil(blocks);
        let first = (at * share).min(lines);
        let start = (panel * self.steps + k) * PANEL_STEP_BYTES + first * STEP_BYTES;
        block.prefetch = self.b[start..].as_ptr();
        block.prefetch_lines = share.min(lines - first);
    }
}

impl GemmReduced<'_> {
    fn finish(
        &self,
        row: usize,
        rows: usize,
        panel: usize,
        n: usize,
        c: *const f32,
        (out, before): Places,
    ) -> FinishBlock<'_> {
        let column = panel * PANEL_COLS;
        let scales = match self.operands {
            ReducedWeight::Bf16(..) => None,
            ReducedWeight::I8(x, weight) => Some(super::finish::Scales {
                rows: &x.scales[row..row + rows],
                columns: &weight.scales[column..column + PANEL_COLS],
                sums: &weight.sums[column..column + PANEL_COLS],
            }),
        };
        FinishBlock {
            rows,
            cols: PANEL_COLS.min(n - column),
            c,
            scales,
            bias: self.bias.map(|bias| &bias[column..]),
            activation: self.activation,
            residual: self.residual.map(|residual| &residual[row * n + column..]),
            row,
            column,
            n,
            out,
            before,
        }
    }
}
