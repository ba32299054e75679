//! Rows of activations in 8 bits: `x ≈ scale · (q - zero)`, one scale and zero point a row, found
//! from the row itself.
//!
//! The range always holds 0, so `zero` is in 0..=255 and a zero stays exactly zero. A row with a
//! value that is not finite gets the scale NaN, and so do all its products.

use super::tiles::Source;
use super::{STEP_BYTES, TILE_BYTES, TILE_ROWS};
use crate::Pool;
use crate::aligned::with_scratch;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::SendPointer;

/// How one row is quantised.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C)]
pub struct RowScale {
    /// Size of one step of `q`.
    pub scale: f32,
    /// The `q` of zero.
    pub zero: i32,
}

/// Rows in 8 bits, in tiles of 16 rows by 64 values.
#[derive(Clone, Copy, Debug)]
pub struct Quantized<'a> {
    /// The tiles.
    pub bytes: &'a [u8],
    /// One for each row.
    pub scales: &'a [RowScale],
    /// Values of a row.
    pub cols: usize,
}

impl Quantized<'_> {
    /// Bytes that `rows` rows of `cols` values take.
    ///
    /// # Panics
    /// Panics if that is more than can be addressed.
    pub fn bytes_of(rows: usize, cols: usize) -> usize {
        let tiles = rows.div_ceil(TILE_ROWS).checked_mul(cols.div_ceil(STEP_BYTES));
        let bytes = tiles.and_then(|tiles| tiles.checked_mul(TILE_BYTES));
        bytes.expect("tiles larger than the address space; this is a bug")
    }
}

/// Multiplies `row` by `smoothing` in place and writes it in 8 bits to its places in tiles.
///
/// # Safety
/// The processor has the instruction set of `V`; `smoothing` is as long as `row`; `out` is writable
/// for 64 bytes in each of the `row.len() / 64` tiles, 1024 bytes apart.
#[inline(always)]
pub(crate) unsafe fn quantize_row<V: F32x16>(
    row: &mut [f32],
    smoothing: Option<&[f32]>,
    out: *mut u8,
) -> RowScale {
    let len = row.len();
    let whole = len / LANES * LANES;
    let rest = len - whole;
    let x = row.as_mut_ptr();
    // SAFETY: all offsets stay within the length of `row`, and of `out` as the caller promises.
    unsafe {
        let zeros = V::splat(0.0);
        let (mut lowest, mut highest, mut poison) = (zeros, zeros, zeros);
        for at in (0..whole).step_by(LANES) {
            let mut lanes = V::load(x.add(at));
            if let Some(factors) = smoothing {
                lanes = lanes * V::load(factors.as_ptr().add(at));
                lanes.store(x.add(at));
            }
            lowest = lanes.min_or(lowest);
            highest = lanes.max_or(highest);
            // 0 · x is 0 for a finite x, NaN for any other.
            poison = lanes.fma(zeros, poison);
        }
        if rest > 0 {
            let mut lanes = V::load_head(x.add(whole), rest, 0.0);
            if let Some(factors) = smoothing {
                lanes = lanes * V::load_head(factors.as_ptr().add(whole), rest, 0.0);
                lanes.store_head(x.add(whole), rest);
            }
            lowest = lanes.min_or(lowest);
            highest = lanes.max_or(highest);
            poison = lanes.fma(zeros, poison);
        }
        let lowest = -(zeros - lowest).largest();
        let highest = highest.largest();
        let range = highest - lowest;
        if poison.sum() != 0.0 || !range.is_finite() {
            return write_nothing(len, out);
        }
        let scale = if range > 0.0 { range / 255.0 } else { 1.0 };
        let inverse = 1.0 / scale;
        if !inverse.is_finite() {
            // A row of numbers below the normal ones: nothing to tell from zero.
            write_nothing(len, out);
            return RowScale { scale: 0.0, zero: 0 };
        }
        let zero = (-lowest * inverse).round_ties_even().clamp(0.0, 255.0);
        let (inverse, offset) = (V::splat(inverse), V::splat(zero));
        for at in (0..len.next_multiple_of(STEP_BYTES)).step_by(LANES) {
            let out = out.add(at / STEP_BYTES * TILE_BYTES + at % STEP_BYTES);
            let lanes = if at < whole {
                V::load(x.add(at))
            } else {
                V::load_head(x.add(at.min(len)), len.saturating_sub(at).min(LANES), 0.0)
            };
            lanes.fma(inverse, offset).store_u8(out);
        }
        RowScale { scale, zero: zero as i32 }
    }
}

/// A row without values that can be told.
///
/// # Safety
/// As for `out` of [`quantize_row`].
unsafe fn write_nothing(len: usize, out: *mut u8) -> RowScale {
    for step in 0..len.div_ceil(STEP_BYTES) {
        // SAFETY: the step's 64 bytes are writable.
        unsafe { out.add(step * TILE_BYTES).write_bytes(0, STEP_BYTES) };
    }
    RowScale { scale: f32::NAN, zero: 0 }
}

impl Kernels {
    /// Quantises the rows of `x` [`rows`, `cols`], each multiplied by `smoothing` first.
    ///
    /// # Panics
    /// Panics if lengths do not fit each other.
    #[allow(clippy::too_many_arguments, reason = "two shapes, two inputs, two outputs")]
    pub fn quantize(
        &self,
        pool: &Pool,
        x: &Source<'_>,
        rows: usize,
        cols: usize,
        smoothing: Option<&[f32]>,
        out: &mut [u8],
        scales: &mut [RowScale],
    ) {
        assert_eq!(out.len(), Quantized::bytes_of(rows, cols), "quantize: wrong number of bytes");
        assert_eq!(scales.len(), rows, "quantize: not one scale a row");
        assert!(smoothing.is_none_or(|factors| factors.len() == cols), "quantize: smoothing");
        let block = cols.div_ceil(STEP_BYTES) * TILE_BYTES;
        let start = SendPointer(out.as_mut_ptr());
        let scales = SendPointer(scales.as_mut_ptr());
        pool.run(rows.div_ceil(TILE_ROWS), &|task| {
            with_scratch(cols, |values| {
                for row in task * TILE_ROWS..rows.min((task + 1) * TILE_ROWS) {
                    self.read_row(x, row, cols, values);
                    let at = task * block + row % TILE_ROWS * STEP_BYTES;
                    // SAFETY: a table exists only where its instruction set does; lengths are
                    // checked above, and each row has its own places and its own scale.
                    unsafe {
                        let out = start.get().add(at);
                        *scales.get().add(row) = (self.reduced.quantize_row)(values, smoothing, out);
                    }
                }
            });
        });
    }
}
