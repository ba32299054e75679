//! Byte products with AVX2: both operands widen to 16 bits, `vpmaddwd` multiplies and adds pairs in
//! 32.
//!
//! (`vpmaddubsw` takes bytes as they are, but adds two products in 16 bits and saturates: 2 · 255 ·
//! 127 does not fit.)
//!
//! The register tile is 6 rows × 8 columns: 12 accumulators, 2 registers of weights, one of a
//! broadcast input, one product. A column has two sums, of the first and of the last two bytes of
//! its groups, which are added at the end: integers, so no order shows.
//!
//! ```text
//! weights   w00 w01 w02 w03  w10 w11 w12 w13  w20 …    16 bits each: 4 columns, a group of 4 bytes
//! inputs    x0  x1  x2  x3   x0  x1  x2  x3   x0  …    one group of a row
//! sums      Σ x0·w00 + x1·w01,  Σ x2·w02 + x3·w03,  …  32 bits each
//! ```

use std::arch::x86_64::*;

use crate::reduced::{BlockArgs, GROUPS, PANEL_COLS, WIDENED_STEPS};

/// Rows of the register tile.
const ROWS: usize = 6;
/// Columns of the register tile.
const COLS: usize = 8;
/// Values of a row that are widened together.
const WIDENED: usize = WIDENED_STEPS * GROUPS * 4;

/// A block of unsigned by signed bytes in exact 32-bit integers.
///
/// # Safety
/// The processor has AVX2; the pointers are valid for what [`BlockArgs`] says of them.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn block_i8(args: &BlockArgs) {
    let mut widened = [[0; WIDENED]; ROWS];
    let tiles = args.rows.div_ceil(ROWS);
    for step in (0..args.steps.max(1)).step_by(WIDENED_STEPS) {
        let steps = WIDENED_STEPS.min(args.steps - step);
        let mut first = 0;
        for tile in 0..tiles {
            let rows = (args.rows - first).div_ceil(tiles - tile);
            // SAFETY: rows and steps are inside the block; `c` holds 32 sums for each row.
            unsafe {
                for (r, row) in widened[..rows].iter_mut().enumerate() {
                    widen_row(args, first + r, step, steps, row);
                }
                let tile = Tile {
                    groups: steps * GROUPS,
                    a: widened.as_ptr(),
                    b: args.b_group(step, 0),
                    c: args.c.cast::<i32>().add(first * PANEL_COLS),
                    resume: args.resume || step > 0,
                };
                match rows {
                    1 => tile.run::<1>(),
                    2 => tile.run::<2>(),
                    3 => tile.run::<3>(),
                    4 => tile.run::<4>(),
                    5 => tile.run::<5>(),
                    _ => tile.run::<ROWS>(),
                }
            }
            first += rows;
        }
    }
}

/// Widens one row's inputs of `steps` steps from `step` on.
///
/// # Safety
/// Row and steps are inside the block.
#[target_feature(enable = "avx2")]
unsafe fn widen_row(
    args: &BlockArgs,
    row: usize,
    step: usize,
    steps: usize,
    out: &mut [u16; WIDENED],
) {
    for (at, out) in out.chunks_exact_mut(GROUPS * 4).take(steps).enumerate() {
        // SAFETY: a step of a row is 64 bytes, 64 values in and out.
        unsafe {
            let x = args.a_group(row, step + at, 0);
            for quarter in (0..GROUPS * 4).step_by(16) {
                let bytes = _mm_loadu_si128(x.add(quarter).cast());
                let words = _mm256_cvtepu8_epi16(bytes);
                _mm256_storeu_si256(out.as_mut_ptr().add(quarter).cast(), words);
            }
        }
    }
}

/// Widened rows by a panel.
struct Tile {
    /// Groups of four values.
    groups: usize,
    a: *const [u16; WIDENED],
    b: *const u8,
    c: *mut i32,
    resume: bool,
}

impl Tile {
    /// The first `R` rows.
    ///
    /// # Safety
    /// `a` has `R` rows of `groups` groups, `b` as many, and `c` sums of `R` rows.
    #[target_feature(enable = "avx2")]
    unsafe fn run<const R: usize>(&self) {
        for column in (0..PANEL_COLS).step_by(COLS) {
            // SAFETY: as promised by the caller.
            unsafe {
                let mut sums = [[_mm256_setzero_si256(); 2]; R];
                let a = self.a.cast::<i64>();
                for group in 0..self.groups {
                    let b = self.b.add((group * PANEL_COLS + column) * 4);
                    let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast()));
                    let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.add(16).cast()));
                    for (r, row) in sums.iter_mut().enumerate() {
                        let x = a.add(r * WIDENED / 4 + group).read_unaligned();
                        let x = _mm256_set1_epi64x(x);
                        row[0] = _mm256_add_epi32(row[0], _mm256_madd_epi16(x, low));
                        row[1] = _mm256_add_epi32(row[1], _mm256_madd_epi16(x, high));
                    }
                }
                for (r, row) in sums.iter().enumerate() {
                    // Neighbours are added within halves of 128 bits: columns 0 1 4 5, 2 3 6 7.
                    let pairs = _mm256_hadd_epi32(row[0], row[1]);
                    let mut sum = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
                    let c = self.c.add(r * PANEL_COLS + column).cast::<__m256i>();
                    if self.resume {
                        sum = _mm256_add_epi32(sum, _mm256_loadu_si256(c));
                    }
                    _mm256_storeu_si256(c, sum);
                }
            }
        }
    }
}
