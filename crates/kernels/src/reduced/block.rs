//! A block of sums: up to 32 rows by one panel of 32 columns.
//!
//! `c[r, n] (+)= Σ_steps Σ_groups dot(a[r, group], b[group, n])`, where a group is 2 `bf16` or
//! 4 bytes. These are the forms without instructions of their own: `bf16` widens to `f32` (an
//! exact shift) and takes two multiply-adds; bytes widen to 32 bits.

use std::marker::PhantomData;

use super::{PANEL_COLS, PANEL_STEP_BYTES, STEP_BYTES, TILE_BYTES, TILE_ROWS};
use crate::arch::generic::{F32x16, LANES};

/// What a block computes.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "only x86-64 asks ahead"))]
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
/// Steps whose inputs are widened together: with a panel's part they stay in the first level.
const WIDENED_STEPS: usize = 8;
/// Values of one row in so many steps: of `bf16`, and of bytes.
const WIDENED: usize = WIDENED_STEPS * STEP_BYTES / 2;
pub(crate) const WIDENED_BYTES: usize = WIDENED_STEPS * STEP_BYTES;

/// Widened rows by a panel.
pub(crate) struct WidenedTile<T> {
    /// Groups of K.
    pub(crate) groups: usize,
    /// The rows, [`WIDENED`] or [`WIDENED_BYTES`] values apart.
    pub(crate) a: *const T,
    /// The panel's first group, 32 columns of 4 bytes; the next is 128 bytes further.
    pub(crate) b: *const u8,
    /// `[32]` sums a row, rows `c_row` bytes apart.
    pub(crate) c: *mut u8,
    pub(crate) c_row: usize,
    /// Begin with what `c` holds instead of zeros.
    pub(crate) resume: bool,
}

impl<T> WidenedTile<T> {
    /// Where the sums of row `row` are.
    ///
    /// # Safety
    /// The row is inside the tile.
    #[inline(always)]
    pub(crate) unsafe fn sums(&self, row: usize) -> *mut u8 {
        // SAFETY: inside the sums.
        unsafe { self.c.add(row * self.c_row) }
    }
}

/// A block whose inputs are widened first, `LEN` values of a row at a time, for up to `MR` rows.
trait Widening<const MR: usize, const LEN: usize> {
    /// What inputs widen to.
    type Input: Copy + Default;

    /// Widens one row's inputs of `steps` steps from `step` on.
    ///
    /// # Safety
    /// The processor has the instruction set; row and steps are inside the block.
    unsafe fn widen(
        args: &BlockArgs,
        row: usize,
        step: usize,
        steps: usize,
        out: &mut [Self::Input; LEN],
    );

    /// Adds `rows` rows (1 to `MR`) by the panel to their sums.
    ///
    /// # Safety
    /// The processor has the instruction set; `a` has `rows` rows of `groups` groups, `b` as many,
    /// and `c` sums of `rows` rows.
    unsafe fn run(rows: usize, tile: &WidenedTile<Self::Input>);
}

/// Cuts a block into tiles of up to `MR` rows of about the same height and `WIDENED_STEPS` steps.
/// Inputs of a tile are widened once, into a buffer from which all columns take them.
///
/// (A trait and not two closures: a closure would not be compiled with the instruction set.)
///
/// # Safety
/// The processor has the instruction set of `W`; the pointers are valid for what [`BlockArgs`]
/// says of them.
#[inline(always)]
unsafe fn in_tiles<W: Widening<MR, LEN>, const MR: usize, const LEN: usize>(args: &BlockArgs) {
    let mut widened = [[W::Input::default(); LEN]; MR];
    let tiles = args.rows.div_ceil(MR);
    for step in (0..args.steps.max(1)).step_by(WIDENED_STEPS) {
        let steps = WIDENED_STEPS.min(args.steps - step);
        let mut first = 0;
        for tile in 0..tiles {
            let rows = (args.rows - first).div_ceil(tiles - tile);
            // SAFETY: rows and steps are inside the block; `c` holds 32 sums for each row.
            unsafe {
                for (r, row) in widened[..rows].iter_mut().enumerate() {
                    W::widen(args, first + r, step, steps, row);
                }
                let tile = WidenedTile {
                    groups: steps * GROUPS,
                    a: widened.as_ptr().cast(),
                    b: args.b_group(step, 0),
                    c: args.c_row(first),
                    c_row: args.c_row,
                    resume: args.resume || step > 0,
                };
                W::run(rows, &tile);
            }
            first += rows;
        }
    }
}

/// A block of `bf16` by `bf16` in `f32`. Per group the second product is added first, as
/// `vdpbf16ps` does.
///
/// The register tile is up to `MR` rows (4 to 8) by `NV` vectors, whose weights are widened on
/// their way into registers; one or two rows take the whole panel, for the sums of one vector
/// would wait for each other.
///
/// # Safety
/// The processor has the instruction set of `V`; the pointers are valid for what [`BlockArgs`]
/// says of them.
#[inline(always)]
pub(crate) unsafe fn block_bf16_by_widening<V: F32x16, const MR: usize, const NV: usize>(
    args: &BlockArgs,
) {
    // SAFETY: as promised by the caller.
    unsafe { in_tiles::<Bf16Block<V, NV>, MR, WIDENED>(args) }
}

struct Bf16Block<V, const NV: usize>(PhantomData<V>);

impl<V: F32x16, const MR: usize, const NV: usize> Widening<MR, WIDENED> for Bf16Block<V, NV> {
    type Input = f32;

    #[inline(always)]
    unsafe fn widen(
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

    #[inline(always)]
    unsafe fn run(rows: usize, tile: &WidenedTile<f32>) {
        const { assert!(4 <= MR && MR <= 8 && (NV == 1 || NV == 2)) };
        // SAFETY: as promised by the caller.
        unsafe {
            match rows {
                1 => widened_tile::<V, 1, 2>(tile),
                2 => widened_tile::<V, 2, 2>(tile),
                3 => widened_tile::<V, 3, NV>(tile),
                4 => widened_tile::<V, 4, NV>(tile),
                5 if MR >= 5 => widened_tile::<V, 5, NV>(tile),
                6 if MR >= 6 => widened_tile::<V, 6, NV>(tile),
                7 if MR >= 7 => widened_tile::<V, 7, NV>(tile),
                8 if MR >= 8 => widened_tile::<V, 8, NV>(tile),
                _ => unreachable!("a tile has at most {MR} rows"),
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set of `V`; `a` has `R` rows of `groups` groups, `b` as many,
/// and `c` sums of `R` rows.
#[inline(always)]
unsafe fn widened_tile<V: F32x16, const R: usize, const NV: usize>(tile: &WidenedTile<f32>) {
    for column in (0..PANEL_COLS).step_by(NV * LANES) {
        // SAFETY: as promised by the caller.
        unsafe {
            let mut sums = [[V::splat(0.0); NV]; R];
            if tile.resume {
                for (r, row) in sums.iter_mut().enumerate() {
                    for (v, sum) in row.iter_mut().enumerate() {
                        *sum = V::load(tile.sums(r).cast::<f32>().add(column + v * LANES));
                    }
                }
            }
            for pair in 0..tile.groups {
                let b = tile.b.add((pair * PANEL_COLS + column) * 4);
                for v in 0..NV {
                    let (w0, w1) = V::load_bf16_pairs(b.add(v * LANES * 4));
                    for (r, row) in sums.iter_mut().enumerate() {
                        let x = tile.a.add(r * WIDENED + 2 * pair);
                        let (x0, x1) = (V::splat(*x), V::splat(*x.add(1)));
                        row[v] = x0.fma(w0, x1.fma(w1, row[v]));
                    }
                }
            }
            for (r, row) in sums.iter().enumerate() {
                for (v, sum) in row.iter().enumerate() {
                    sum.store(tile.sums(r).cast::<f32>().add(column + v * LANES));
                }
            }
        }
    }
}

/// The register tile of an instruction set that multiplies bytes in 16 bits.
pub(crate) trait BytesTile {
    /// Widens 64 bytes.
    ///
    /// # Safety
    /// The processor has the instruction set; `x` is readable and `out` writable for 64 values.
    unsafe fn widen(x: *const u8, out: *mut u16);

    /// `R` rows (at most 6) by the panel.
    ///
    /// # Safety
    /// The processor has the instruction set; `a` has `R` rows of `groups` groups, `b` as many, and
    /// `c` sums of `R` rows.
    unsafe fn run<const R: usize>(tile: &WidenedTile<u16>);
}

/// A block of unsigned by signed bytes in exact 32-bit integers, by tiles of up to `MR` rows (4 to
/// 6).
///
/// # Safety
/// The processor has the instruction set of `T`; the pointers are valid for what [`BlockArgs`] says
/// of them.
#[inline(always)]
pub(crate) unsafe fn block_i8_in_16_bits<T: BytesTile, const MR: usize>(args: &BlockArgs) {
    // SAFETY: as promised by the caller.
    unsafe { in_tiles::<BytesBlock<T>, MR, WIDENED_BYTES>(args) }
}

struct BytesBlock<T>(PhantomData<T>);

impl<T: BytesTile, const MR: usize> Widening<MR, WIDENED_BYTES> for BytesBlock<T> {
    type Input = u16;

    #[inline(always)]
    unsafe fn widen(
        args: &BlockArgs,
        row: usize,
        step: usize,
        steps: usize,
        out: &mut [u16; WIDENED_BYTES],
    ) {
        for (at, out) in out.chunks_exact_mut(STEP_BYTES).take(steps).enumerate() {
            // SAFETY: a step of a row is 64 bytes, 64 values in and out.
            unsafe { T::widen(args.a_group(row, step + at, 0), out.as_mut_ptr()) }
        }
    }

    #[inline(always)]
    unsafe fn run(rows: usize, tile: &WidenedTile<u16>) {
        const { assert!(4 <= MR && MR <= 6) };
        // SAFETY: as promised by the caller.
        unsafe {
            match rows {
                1 => T::run::<1>(tile),
                2 => T::run::<2>(tile),
                3 => T::run::<3>(tile),
                4 => T::run::<4>(tile),
                5 if MR >= 5 => T::run::<5>(tile),
                6 if MR >= 6 => T::run::<6>(tile),
                _ => unreachable!("a tile has at most {MR} rows"),
            }
        }
    }
}

/// A block of unsigned by signed bytes in exact 32-bit integers, without any instruction set.
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
