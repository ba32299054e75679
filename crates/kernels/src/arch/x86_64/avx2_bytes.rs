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

use crate::reduced::{
    BlockArgs, BytesTile, PANEL_COLS, STEP_BYTES, WIDENED_BYTES, WidenedTile, block_i8_in_16_bits,
};

/// Columns of the register tile.
const COLS: usize = 8;

/// A block of unsigned by signed bytes in exact 32-bit integers.
///
/// # Safety
/// The processor has AVX2; the pointers are valid for what [`BlockArgs`] says of them.
#[target_feature(enable = "avx2")]
pub(crate) unsafe fn block_i8(args: &BlockArgs) {
    // SAFETY: as promised by the caller.
    unsafe { block_i8_in_16_bits::<Avx2Bytes, 6>(args) }
}

struct Avx2Bytes;

impl BytesTile for Avx2Bytes {
    #[inline(always)]
    unsafe fn widen(x: *const u8, out: *mut u16) {
        for at in (0..STEP_BYTES).step_by(16) {
            // SAFETY: as promised by the caller.
            unsafe {
                let words = _mm256_cvtepu8_epi16(_mm_loadu_si128(x.add(at).cast()));
                _mm256_storeu_si256(out.add(at).cast(), words);
            }
        }
    }

    #[inline(always)]
    unsafe fn run<const R: usize>(tile: &WidenedTile<u16>) {
        for column in (0..PANEL_COLS).step_by(COLS) {
            // SAFETY: as promised by the caller.
            unsafe {
                let mut sums = [[_mm256_setzero_si256(); 2]; R];
                for group in 0..tile.groups {
                    let b = tile.b.add((group * PANEL_COLS + column) * 4);
                    let low = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.cast()));
                    let high = _mm256_cvtepi8_epi16(_mm_loadu_si128(b.add(16).cast()));
                    for (r, row) in sums.iter_mut().enumerate() {
                        let x = tile.a.add(r * WIDENED_BYTES + group * 4).cast::<i64>();
                        let x = _mm256_set1_epi64x(x.read_unaligned());
                        row[0] = _mm256_add_epi32(row[0], _mm256_madd_epi16(x, low));
                        row[1] = _mm256_add_epi32(row[1], _mm256_madd_epi16(x, high));
                    }
                }
                for (r, row) in sums.iter().enumerate() {
                    // Neighbours are added within halves of 128 bits: columns 0 1 4 5, 2 3 6 7.
                    let pairs = _mm256_hadd_epi32(row[0], row[1]);
                    let mut sum = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
                    let c = tile.sums(r).cast::<i32>().add(column).cast::<__m256i>();
                    if tile.resume {
                        sum = _mm256_add_epi32(sum, _mm256_loadu_si256(c));
                    }
                    _mm256_storeu_si256(c, sum);
                }
            }
        }
    }
}
