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
    /// `[32, 32]` sums, `f32` or `i32`.
    pub(crate) c: *mut u8,
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
/// Steps whose inputs are widened together: with a panel's part they stay in the first level.
pub(crate) const WIDENED_STEPS: usize = 8;
/// Values of one row in so many steps.
const WIDENED: usize = WIDENED_STEPS * STEP_BYTES / 2;

/// A block of `bf16` by `bf16` in `f32`. Per group the second product is added first, as
/// `vdpbf16ps` does.
///
/// Inputs are widened once for `MR` rows, into a buffer from which both halves of the panel take
/// them; weights are widened on their way into registers. The register tile is up to `MR` rows
/// (at most 8) by `NV` vectors; one or two rows take the whole panel, for the sums of one vector
/// would wait for each other.
///
/// # Safety
/// The processor has the instruction set of `V`; the pointers are valid for what [`BlockArgs`]
/// says of them.
#[inline(always)]
pub(crate) unsafe fn block_bf16_by_widening<V: F32x16, const MR: usize, const NV: usize>(
    args: &BlockArgs,
) {
    const { assert!(MR <= 8 && (NV == 1 || NV == 2)) };
    let mut widened = [[0.0; WIDENED]; MR];
    let tiles = args.rows.div_ceil(MR);
    for step in (0..args.steps.max(1)).step_by(WIDENED_STEPS) {
        let steps = WIDENED_STEPS.min(args.steps - step);
        let mut first = 0;
        for tile in 0..tiles {
            let rows = (args.rows - first).div_ceil(tiles - tile);
            // SAFETY: rows and steps are inside the block; `c` holds 32 sums for each row.
            unsafe {
                for (r, row) in widened[..rows].iter_mut().enumerate() {
                    widen_row::<V>(args, first + r, step, steps, row);
                }
                let tile = WidenedTile {
                    pairs: steps * GROUPS,
                    a: widened.as_ptr(),
                    b: args.b_group(step, 0),
                    c: args.c.cast::<f32>().add(first * PANEL_COLS),
                    resume: args.resume || step > 0,
                };
                match rows {
                    1 => widened_tile::<V, 1, 2>(&tile),
                    2 => widened_tile::<V, 2, 2>(&tile),
                    3 => widened_tile::<V, 3, NV>(&tile),
                    4 => widened_tile::<V, 4, NV>(&tile),
                    5 if MR >= 5 => widened_tile::<V, 5, NV>(&tile),
                    6 if MR >= 6 => widened_tile::<V, 6, NV>(&tile),
                    7 if MR >= 7 => widened_tile::<V, 7, NV>(&tile),
                    _ if MR >= 8 => widened_tile::<V, 8, NV>(&tile),
                    _ => unreachable!("a tile has at most {MR} rows"),
                }
            }
            first += rows;
        }
    }
}

/// Widens one row's inputs of `steps` steps from `step` on.
///
/// # Safety
/// The processor has the instruction set of `V`; row and steps are inside the block.
#[inline(always)]
unsafe fn widen_row<V: F32x16>(
    args: &BlockArgs,
    row: usize,
    step: usize,
    steps: usize,
    out: &mut [f32; WIDENED],
) {
    for (at, out) in out.chunks_exact_mut(STEP_BYTES / 2).take(steps).enumerate() {
        // SAFETY: a step of a row is 64 bytes, 32 values in and out.
        unsafe {
            let x = args.a_group(row, step + at, 0).cast::<u16>();
            V::load_bf16(x).store(out.as_mut_ptr());
            V::load_bf16(x.add(LANES)).store(out.as_mut_ptr().add(LANES));
        }
    }
}

/// Widened rows by a panel.
struct WidenedTile {
    /// Groups of two values.
    pairs: usize,
    a: *const [f32; WIDENED],
    b: *const u8,
    c: *mut f32,
    resume: bool,
}

/// # Safety
/// The processor has the instruction set of `V`; `a` has `R` rows of `pairs` pairs, `b` as many
/// groups, and `c` sums of `R` rows.
#[inline(always)]
unsafe fn widened_tile<V: F32x16, const R: usize, const NV: usize>(tile: &WidenedTile) {
    for column in (0..PANEL_COLS).step_by(NV * LANES) {
        // SAFETY: as promised by the caller.
        unsafe {
            let c = tile.c.add(column);
            let mut sums = [[V::splat(0.0); NV]; R];
            if tile.resume {
                for (r, row) in sums.iter_mut().enumerate() {
                    for (v, sum) in row.iter_mut().enumerate() {
                        *sum = V::load(c.add(r * PANEL_COLS + v * LANES));
                    }
                }
            }
            let a = tile.a.cast::<f32>();
            for pair in 0..tile.pairs {
                let b = tile.b.add((pair * PANEL_COLS + column) * 4);
                for v in 0..NV {
                    let (w0, w1) = V::load_bf16_pairs(b.add(v * LANES * 4));
                    for (r, row) in sums.iter_mut().enumerate() {
                        let x = a.add(r * WIDENED + 2 * pair);
                        let (x0, x1) = (V::splat(*x), V::splat(*x.add(1)));
                        row[v] = x0.fma(w0, x1.fma(w1, row[v]));
                    }
                }
            }
            for (r, row) in sums.iter().enumerate() {
                for (v, sum) in row.iter().enumerate() {
                    sum.store(c.add(r * PANEL_COLS + v * LANES));
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
            let c = args.c.cast::<[i32; PANEL_COLS]>().add(row);
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
