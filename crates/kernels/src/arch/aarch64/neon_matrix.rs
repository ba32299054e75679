//! NEON with matrix products: one instruction multiplies two rows by two columns, 8 bytes of each
//! along K: 4 `bf16` (`bfmmla`) or 8 bytes (`usmmla`).
//!
//! ```text
//! inputs    row 0 | row 1              8 bytes of each
//! weights   column 0 | column 1        two groups of 4 bytes, zipped
//! sums      r0·c0  r0·c1  r1·c0  r1·c1
//! ```
//!
//! The register tile is 8 rows × 8 columns: 16 accumulators, 4 registers of inputs, 4 of weights.
//!
//! The intrinsics are not stable, so each product is a piece of assembly of one instruction, for
//! which the compiler finds the registers.
//!
//! `bfmmla` adds the two products of a pair and then the accumulator, each sum rounded to odd;
//! numbers below the normal ones count as zero (Arm ARM, `BFMatMulAdd`).

use std::arch::aarch64::*;
use std::arch::asm;

use super::neon;
use crate::dispatch::{Isa, Kernels};
use crate::reduced::{BlockArgs, GROUPS, PANEL_COLS, Table};

/// NEON with `bf16` and byte matrix products.
pub(crate) static KERNELS: Kernels = Kernels {
    isa: Isa::NeonMatrix,
    reduced: Table {
        block_bf16,
        block_i8,
        peak_bf16: Some((peak_bf16, 16 * 32)),
        peak_i8: Some((peak_i8, 16 * 64)),
        ..neon::TABLE.reduced
    },
    ..neon::TABLE
};

/// Rows of the register tile.
const ROWS: usize = 8;
/// Columns of the register tile.
const COLS: usize = 8;

/// A block by an instruction on pairs of rows and columns.
macro_rules! block {
    ($name:ident, $peak:ident, $features:literal, $product:literal) => {
        /// # Safety
        /// The processor has the features; the pointers are valid for what [`BlockArgs`] says.
        #[target_feature(enable = $features)]
        unsafe fn $name(args: &BlockArgs) {
            for first in (0..args.rows).step_by(ROWS) {
                for column in (0..PANEL_COLS).step_by(COLS) {
                    // SAFETY: tiles are whole, so 8 rows from a multiple of 8 on are readable and
                    // their sums writable; steps and groups are inside the block.
                    unsafe {
                        let c = args.c_row(first).cast::<u32>().add(column);
                        let c_row = args.c_row / 4;
                        let mut sums = [[vdupq_n_u32(0); COLS / 2]; ROWS / 2];
                        if args.resume {
                            load_sums(c, c_row, &mut sums);
                        }
                        for step in 0..args.steps {
                            for group in (0..GROUPS).step_by(2) {
                                let x = load_rows(args.a_group(first, step, group));
                                let w = load_columns(args.b_group(step, group).add(column * 4));
                                for (row, x) in sums.iter_mut().zip(x) {
                                    for (sum, w) in row.iter_mut().zip(w) {
                                        asm!(
                                            $product,
                                            sum = inout(vreg) *sum,
                                            x = in(vreg) x,
                                            w = in(vreg) w,
                                            options(pure, nomem, nostack, preserves_flags),
                                        );
                                    }
                                }
                            }
                        }
                        store_sums(&sums, c, c_row);
                    }
                }
            }
        }

        /// A register-only loop over the block's instruction.
        ///
        /// # Safety
        /// The processor has the features.
        #[target_feature(enable = $features)]
        unsafe fn $peak(rounds: usize) {
            let mut sums = [vdupq_n_u32(0); 16];
            let x = vdupq_n_u32(std::hint::black_box(0));
            for _ in 0..rounds {
                for sum in &mut sums {
                    // SAFETY: no memory is touched.
                    unsafe {
                        asm!(
                            $product,
                            sum = inout(vreg) *sum,
                            x = in(vreg) x,
                            w = in(vreg) x,
                            options(pure, nomem, nostack, preserves_flags),
                        );
                    }
                }
            }
            std::hint::black_box(sums);
        }
    };
}

block!(block_bf16, peak_bf16, "neon,bf16", "bfmmla {sum:v}.4s, {x:v}.8h, {w:v}.8h");
block!(block_i8, peak_i8, "neon,i8mm", "usmmla {sum:v}.4s, {x:v}.16b, {w:v}.16b");

/// Two groups of 8 rows: rows 0 and 1 in the first register, and so on.
///
/// # Safety
/// The rows, 64 bytes apart, are readable for 8 bytes.
#[target_feature(enable = "neon")]
unsafe fn load_rows(a: *const u8) -> [uint32x4_t; ROWS / 2] {
    // SAFETY: as promised by the caller.
    let pair = |r: usize| unsafe {
        vcombine_u32(vld1_u32(a.add(r * 64).cast()), vld1_u32(a.add(r * 64 + 64).cast()))
    };
    [pair(0), pair(2), pair(4), pair(6)]
}

/// Two groups of 8 columns: columns 0 and 1 in the first register, and so on.
///
/// # Safety
/// The groups, 128 bytes apart, are readable for 32 bytes.
#[target_feature(enable = "neon")]
unsafe fn load_columns(b: *const u8) -> [uint32x4_t; COLS / 2] {
    // SAFETY: as promised by the caller.
    unsafe {
        let (this, next) = (b.cast::<u32>(), b.add(PANEL_COLS * 4).cast::<u32>());
        let (this_low, this_high) = (vld1q_u32(this), vld1q_u32(this.add(4)));
        let (next_low, next_high) = (vld1q_u32(next), vld1q_u32(next.add(4)));
        [
            vzip1q_u32(this_low, next_low),
            vzip2q_u32(this_low, next_low),
            vzip1q_u32(this_high, next_high),
            vzip2q_u32(this_high, next_high),
        ]
    }
}

/// Reads sums: two columns of two rows a register.
///
/// # Safety
/// `c` is readable for 8 rows of 8 values, `c_row` apart.
#[target_feature(enable = "neon")]
unsafe fn load_sums(c: *const u32, c_row: usize, sums: &mut [[uint32x4_t; COLS / 2]; ROWS / 2]) {
    for (r, row) in sums.iter_mut().enumerate() {
        for (column, pair) in row.chunks_exact_mut(2).enumerate() {
            // SAFETY: as promised by the caller.
            unsafe {
                let c = c.add(2 * r * c_row + 4 * column);
                let even = vreinterpretq_u64_u32(vld1q_u32(c));
                let odd = vreinterpretq_u64_u32(vld1q_u32(c.add(c_row)));
                pair[0] = vreinterpretq_u32_u64(vzip1q_u64(even, odd));
                pair[1] = vreinterpretq_u32_u64(vzip2q_u64(even, odd));
            }
        }
    }
}

/// Writes what [`load_sums`] reads.
///
/// # Safety
/// `c` is writable for 8 rows of 8 values, `c_row` apart.
#[target_feature(enable = "neon")]
unsafe fn store_sums(sums: &[[uint32x4_t; COLS / 2]; ROWS / 2], c: *mut u32, c_row: usize) {
    for (r, row) in sums.iter().enumerate() {
        for (column, pair) in row.chunks_exact(2).enumerate() {
            // SAFETY: as promised by the caller.
            unsafe {
                let c = c.add(2 * r * c_row + 4 * column);
                let first = vreinterpretq_u64_u32(pair[0]);
                let second = vreinterpretq_u64_u32(pair[1]);
                vst1q_u32(c, vreinterpretq_u32_u64(vzip1q_u64(first, second)));
                vst1q_u32(c.add(c_row), vreinterpretq_u32_u64(vzip2q_u64(first, second)));
            }
        }
    }
}
