//! What becomes of a block of sums: `out = activation(scale(sums) + bias) + residual`, and where
//! asked what the activation is applied to.

use super::quantize::RowScale;
use super::{PANEL_COLS, STEP_BYTES, TILE_BYTES, TILE_ROWS};
use crate::activation::{Activation, activate_lanes, activate_rough};
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
    /// Where the sums with their bias go, of the same kind as `out`.
    pub(crate) before: Option<OutPlace>,
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
            Activation::Identity => finish_as::<V, IDENTITY>(args),
            Activation::Gelu => finish_as::<V, GELU>(args),
            Activation::QuickGelu => finish_as::<V, QUICK_GELU>(args),
            Activation::Tanh => finish_as::<V, TANH>(args),
        }
    }
}

/// Activations as constants.
const IDENTITY: u8 = 0;
const GELU: u8 = 1;
const QUICK_GELU: u8 = 2;
const TANH: u8 = 3;

/// # Safety
/// As for [`finish_block`].
#[inline(always)]
unsafe fn finish_as<V: F32x16, const ACTIVATION: u8>(args: &FinishBlock<'_>) {
    // SAFETY: as promised by the caller.
    unsafe {
        match (args.scales.is_some(), args.out) {
            (false, OutPlace::Rows(_)) => finish_rows::<V, ACTIVATION, false, false>(args),
            (false, OutPlace::Tiles(_)) => finish_rows::<V, ACTIVATION, false, true>(args),
            (true, OutPlace::Rows(_)) => finish_rows::<V, ACTIVATION, true, false>(args),
            (true, OutPlace::Tiles(_)) => finish_rows::<V, ACTIVATION, true, true>(args),
        }
    }
}

/// The loop over rows, for sums of 8-bit products (`SCALED`) or of `bf16`, to `bf16` tiles (`TILES`)
/// or `f32` rows.
///
/// # Safety
/// As for [`finish_block`].
#[inline(always)]
unsafe fn finish_rows<V: F32x16, const ACTIVATION: u8, const SCALED: bool, const TILES: bool>(
    args: &FinishBlock<'_>,
) {
    let activation = match ACTIVATION {
        GELU => Activation::Gelu,
        QUICK_GELU => Activation::QuickGelu,
        TANH => Activation::Tanh,
        _ => Activation::Identity,
    };
    // Columns of each half that exist; the rest of a panel is zeros.
    let counts = [args.cols.min(LANES), args.cols.saturating_sub(LANES)];
    // SAFETY: bias and residual hold as many values as there are columns from the block's first on,
    // the scales of a panel are 32; rows and columns are inside what the caller promises.
    unsafe {
        let zeros = V::splat(0.0);
        let (mut bias, mut factors, mut sums) = ([zeros; 2], [zeros; 2], [zeros; 2]);
        for half in 0..2 {
            if let (Some(values), true) = (args.bias, counts[half] > 0) {
                bias[half] = load::<V>(values.as_ptr().add(half * LANES), counts[half]);
            }
            if let (Some(scales), true) = (&args.scales, SCALED) {
                factors[half] = V::load(scales.columns.as_ptr().add(half * LANES));
                sums[half] = V::from_i32(scales.sums.as_ptr().add(half * LANES));
            }
        }
        let residual = args.residual.map_or(std::ptr::null(), <[f32]>::as_ptr);
        for row in 0..args.rows {
            let place = Place::<TILES>::new(args, args.out, row);
            let mut values = [zeros; 2];
            let mut before = [zeros; 2];
            for (half, value) in values.iter_mut().enumerate() {
                let c = args.c.wrapping_add(row * PANEL_COLS + half * LANES);
                let mut y = match &args.scales {
                    Some(scales) if SCALED => {
                        let RowScale { scale, zero } = *scales.rows.as_ptr().add(row);
                        // Sums below 2^24 are exact, and so is the product; one rounding more above.
                        let sum = sums[half].fma(V::splat(-(zero as f32)), V::from_i32(c.cast()));
                        sum.fma(factors[half] * V::splat(scale), bias[half])
                    }
                    _ => V::load(c) + bias[half],
                };
                before[half] = y;
                y = if TILES {
                    activate_rough(activation, y)
                } else {
                    activate_lanes(activation, y)
                };
                let count = counts[half];
                if !residual.is_null() && count > 0 {
                    y = y + load::<V>(residual.wrapping_add(row * args.n + half * LANES), count);
                }
                *value = y;
            }
            place.store(values, counts);
            if let Some(out) = args.before {
                Place::<TILES>::new(args, out, row).store(before, counts);
            }
        }
    }
}

/// Where a row of a block goes.
struct Place<const TILES: bool> {
    rows: *mut f32,
    tiles: *mut u16,
}

impl<const TILES: bool> Place<TILES> {
    #[inline(always)]
    fn new(args: &FinishBlock<'_>, out: OutPlace, row: usize) -> Self {
        let row = args.row.wrapping_add(row);
        let (rows, tiles) = match out {
            OutPlace::Rows(out) => {
                let at = row.wrapping_mul(args.n).wrapping_add(args.column);
                (out.get().wrapping_add(at), std::ptr::null_mut())
            }
            OutPlace::Tiles(out) => {
                let steps = args.n.div_ceil(PANEL_COLS);
                let tile = (row / TILE_ROWS).wrapping_mul(steps) + args.column / PANEL_COLS;
                let at = tile.wrapping_mul(TILE_BYTES) + row % TILE_ROWS * STEP_BYTES;
                (std::ptr::null_mut(), out.get().wrapping_add(at).cast())
            }
        };
        Self { rows, tiles }
    }

    /// Stores the row; `counts` columns of its halves exist.
    ///
    /// # Safety
    /// The row's columns are inside the output, and only the caller's.
    #[inline(always)]
    unsafe fn store<V: F32x16>(&self, [low, high]: [V; 2], counts: [usize; 2]) {
        // SAFETY: as promised; a tile is always whole.
        unsafe {
            if TILES {
                V::store_bf16_line(low, high, self.tiles);
            } else if counts[1] == LANES {
                low.store(self.rows);
                high.store(self.rows.wrapping_add(LANES));
            } else {
                low.store_head(self.rows, counts[0]);
                high.store_head(self.rows.wrapping_add(LANES), counts[1]);
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
