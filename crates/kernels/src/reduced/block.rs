//! A block of sums: up to 32 rows by one panel of 32 columns.
//!
//! `c[r, n] (+)= Σ_steps Σ_groups dot(a[r, group], b[group, n])`, where a group is 2 `bf16` or
//! 4 bytes. These are the forms without instructions of their own: `bf16` widens to `f32` (an
//! exact shift) and takes two multiply-adds; bytes widen to 32 bits.

use super::{PANEL_COLS, PANEL_STEP_BYTES, STEP_BYTES, TILE_BYTES, TILE_ROWS};
use crate::arch::generic::{F32x16, LANES};

/// What a block computes.
pub(crate) struct BlockArgs {
    /// Steps of 64 bytes along K.
    pub(crate) steps: usize,
    /// Rows that count, at most 32; sums of the others up to the whole tile may be anything.
    pub(crate) rows: usize,
    /// The first tile of the first 16 rows; the next step is 1024 bytes further.
    pub(crate) a: *const u8,
    /// From there to the next 16 rows.
    pub(crate) a_block: usize,
    /// The panel's first step; the next is 2048 bytes further.
    pub(crate) b: *const u8,
    /// `[32, 32]` sums, `f32` or `i32`, with rows `c_row` bytes apart.
    pub(crate) c: *mut u8,
    pub(crate) c_row: usize,
    /// Begin with what `c` holds instead of zeros.
    pub(crate) resume: bool,
    /// Bytes that will be read soon, and how many lines of 64 of them.
    pub(crate) prefetch: *const u8,
    pub(crate) prefetch_lines: usize,
}

impl BlockArgs {
    /// Where k group `group` of step `step` of row `row` is.
    ///
    /// # Safety
    /// The row is inside the block, and so is the step.
    #[inline(always)]
    pub(crate) unsafe fn a_group(&self, row: usize, step: usize, group: usize) -> *const u8 {
        // SAFETY: inside the tiles that `a` and `a_block` cover.
        unsafe {
            let tile = self.a.add(row / TILE_ROWS * self.a_block + step * TILE_BYTES);
            tile.add(row % TILE_ROWS * STEP_BYTES + group * 4)
        }
    }

    /// Where the sums of row `row` are.
    ///
    /// # Safety
    /// The row is inside the block.
    #[inline(always)]
    pub(crate) unsafe fn c_row(&self, row: usize) -> *mut u8 {
        // SAFETY: inside the sums.
        unsafe { self.c.add(row * self.c_row) }
    }

    /// Where k group `group` of step `step` of the panel is: 32 columns of 4 bytes.
    ///
    /// # Safety
    /// The step is inside the block.
    #[inline(always)]
    pub(crate) unsafe fn b_group(&self, step: usize, group: usize) -> *const u8 {
        // SAFETY: inside the panel.
        unsafe { self.b.add(step * PANEL_STEP_BYTES + group * PANEL_COLS * 4) }
    }
}

/// Groups of a step.
pub(crate) const GROUPS: usize = STEP_BYTES / 4;
/// Rows whose sums are in registers together.
const ROWS: usize = 4;

/// A block of `bf16` by `bf16` in `f32`. Per group the second product is added first, as
/// `vdpbf16ps` does.
///
/// # Safety
/// The processor has the instruction set of `V`; the pointers are valid for what [`BlockArgs`]
/// says of them.
#[inline(always)]
pub(crate) unsafe fn block_bf16_by_widening<V: F32x16>(args: &BlockArgs) {
    for first in (0..args.rows).step_by(ROWS) {
        for half in 0..PANEL_COLS / LANES {
            // SAFETY: tiles are whole, so the rows up to the next multiple of 16 are readable and
            // their sums writable.
            unsafe {
                let c = |r: usize| args.c_row(first + r).cast::<f32>().add(half * LANES);
                let mut sums = [V::splat(0.0); ROWS];
                if args.resume {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(c(r));
                    }
                }
                for step in 0..args.steps {
                    for group in 0..GROUPS {
                        let b = args.b_group(step, group).add(half * LANES * 4);
                        let (w0, w1) = V::load_bf16_pairs(b);
                        for (r, sum) in sums.iter_mut().enumerate() {
                            let pair = args.a_group(first + r, step, group).cast::<u32>();
                            let pair = pair.read_unaligned();
                            let x0 = V::splat(f32::from_bits(pair << 16));
                            let x1 = V::splat(f32::from_bits(pair & 0xffff_0000));
                            *sum = x0.fma(w0, x1.fma(w1, *sum));
                        }
                    }
                }
                for (r, sum) in sums.iter().enumerate() {
                    sum.store(c(r));
                }
            }
        }
    }
}

/// A block of unsigned by signed bytes in exact 32-bit integers.
///
/// # Safety
/// The pointers are valid for what [`BlockArgs`] says of them.
pub(crate) unsafe fn block_i8_by_widening(args: &BlockArgs) {
    for row in 0..args.rows {
        // SAFETY: the row is inside the block.
        unsafe {
            let c = args.c_row(row).cast::<[i32; PANEL_COLS]>();
            let mut sums = if args.resume { c.read_unaligned() } else { [0; PANEL_COLS] };
            for step in 0..args.steps {
                for group in 0..GROUPS {
                    let x = args.a_group(row, step, group).cast::<[u8; 4]>().read_unaligned();
                    let weights = args.b_group(step, group).cast::<[[i8; 4]; PANEL_COLS]>();
                    for (sum, w) in sums.iter_mut().zip(&*weights) {
                        for (&x, &w) in x.iter().zip(w) {
                            *sum += i32::from(x) * i32::from(w);
                        }
                    }
                }
            }
            c.write_unaligned(sums);
        }
    }
}
