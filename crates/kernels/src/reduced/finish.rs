//! What becomes of a block of sums: `out = activation(scale(sums) + bias) + residual`.

use super::quantize::RowScale;
use super::{PANEL_COLS, STEP_BYTES, TILE_BYTES, TILE_ROWS};
use crate::activation::{Activation, activate_lanes};
use crate::arch::generic::{F32x16, LANES};
use crate::elementwise::SendPointer;

/// The scales of a product of 8-bit operands.
pub(crate) struct Scales<'a> {
    /// One for each row of the block.
    pub(crate) rows: &'a [RowScale],
    /// One for each of the panel's 32 columns.
    pub(crate) columns: &'a [f32],
    /// `Σ q` of each of the panel's columns.
    pub(crate) sums: &'a [i32],
}

/// Where [0, 0] of the whole product goes.
#[derive(Clone, Copy)]
pub(crate) enum OutPlace {
    Rows(SendPointer<f32>),
    Tiles(SendPointer<u8>),
}

/// A block and its place in the product.
pub(crate) struct FinishBlock<'a> {
    pub(crate) rows: usize,
    /// Columns that exist; the panel may be wider.
    pub(crate) cols: usize,
    /// [rows, 32]: `f32` sums, or `i32` where there are scales.
    pub(crate) c: *const f32,
    pub(crate) scales: Option<Scales<'a>>,
    /// From the block's first column on.
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) activation: Activation,
    /// From the block's first value on, rows `n` apart.
    pub(crate) residual: Option<&'a [f32]>,
    /// The block's place, and the width of the product.
    pub(crate) row: usize,
    pub(crate) column: usize,
    pub(crate) n: usize,
    pub(crate) out: OutPlace,
}

/// Finishes a block.
///
/// # Safety
/// The processor has the instruction set of `V`; `c` is readable for `rows` rows of 32 values, and
/// the block's places are inside `out`, with nobody else using them.
#[inline(always)]
pub(crate) unsafe fn finish_block<V: F32x16>(args: &FinishBlock<'_>) {
    // SAFETY: as promised by the caller.
    unsafe {
        // One loop for each activation, so that none is chosen per vector.
        match args.activation {
            Activation::Identity => finish_with::<V>(args, Activation::Identity),
            Activation::Gelu => finish_with::<V>(args, Activation::Gelu),
            Activation::QuickGelu => finish_with::<V>(args, Activation::QuickGelu),
        }
    }
}

/// # Safety
/// As for [`finish_block`].
#[inline(always)]
unsafe fn finish_with<V: F32x16>(args: &FinishBlock<'_>, activation: Activation) {
    for half in 0..PANEL_COLS / LANES {
        let column = half * LANES;
        let count = args.cols.saturating_sub(column).min(LANES);
        // SAFETY: bias and residual hold at least `count` values from the place that is read, the
        // scales of a panel are 32; rows and columns are inside what the caller promises.
        unsafe {
            let zeros = V::splat(0.0);
            let bias = match args.bias {
                Some(bias) if count > 0 => load::<V>(bias[column..].as_ptr(), count),
                _ => zeros,
            };
            for row in 0..args.rows {
                let c = args.c.add(row * PANEL_COLS + column);
                let mut y = match &args.scales {
                    None => V::load(c) + bias,
                    Some(scales) => {
                        let RowScale { scale, zero } = scales.rows[row];
                        let sums = scales.sums[column..].as_ptr();
                        let factors = V::load(scales.columns[column..].as_ptr()) * V::splat(scale);
                        V::from_sums(c.cast(), sums, zero).fma(factors, bias)
                    }
                };
                y = activate_lanes(activation, y);
                if let (Some(residual), true) = (args.residual, count > 0) {
                    y = y + load::<V>(residual[row * args.n + column..].as_ptr(), count);
                }
                match args.out {
                    OutPlace::Rows(out) => {
                        let at = (args.row + row) * args.n + args.column + column;
                        if count == LANES {
                            y.store(out.get().add(at));
                        } else {
                            y.store_head(out.get().add(at), count);
                        }
                    }
                    OutPlace::Tiles(out) => {
                        let steps = args.n.div_ceil(PANEL_COLS);
                        let row = args.row + row;
                        let at = (row / TILE_ROWS * steps + args.column / PANEL_COLS) * TILE_BYTES
                            + row % TILE_ROWS * STEP_BYTES
                            + column * 2;
                        y.store_bf16(out.get().add(at).cast());
                    }
                }
            }
        }
    }
}

/// # Safety
/// The processor has the instruction set of `V`; `p` is readable for `count` values.
#[inline(always)]
unsafe fn load<V: F32x16>(p: *const f32, count: usize) -> V {
    // SAFETY: as promised by the caller.
    unsafe { if count == LANES { V::load(p) } else { V::load_head(p, count, 0.0) } }
}
