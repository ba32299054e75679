//! The register tile: `MR` rows by `NV` vectors of the product, and what is done to a finished one.

use crate::activation::{Activation, activate_lanes};
use crate::arch::generic::{F32x16, LANES};

/// What a tile computes: `c (+)= a · b`.
pub(crate) struct TileArgs {
    /// Terms of each sum.
    pub(crate) k: usize,
    /// The inputs: value `k` of row `r` is at `a + r · a_row`, plus `k`.
    pub(crate) a: *const f32,
    pub(crate) a_row: usize,
    /// A panel: the vectors of `k` are at `b + k · NV · 16`.
    pub(crate) b: *const f32,
    /// The sums: row `r` is at `c + r · c_row`.
    pub(crate) c: *mut f32,
    pub(crate) c_row: usize,
    /// Begin with what `c` holds instead of zeros.
    pub(crate) resume: bool,
}

/// Computes a tile. Each output is one accumulator; terms are added in the order of k, each with
/// one fused multiply-add. So the result depends neither on `MR` and `NV` nor on where k was cut.
///
/// # Safety
/// The processor has the instruction set of `V`; `a` is readable for `MR` rows of `k` values, `b`
/// for `k · NV · 16` values, and `c` is readable and writable for `MR` rows of `NV · 16` values.
#[inline(always)]
pub(crate) unsafe fn tile<V: F32x16, const MR: usize, const NV: usize>(args: &TileArgs) {
    let &TileArgs { k, a, a_row, b, c, c_row, resume } = args;
    // SAFETY: the offsets are those that the caller promises.
    unsafe {
        let mut sums = [[V::splat(0.0); NV]; MR];
        if resume {
            for (r, row) in sums.iter_mut().enumerate() {
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = V::load(c.add(r * c_row + v * LANES));
                }
            }
        }
        let mut rows = [a; MR];
        for (r, row) in rows.iter_mut().enumerate() {
            *row = a.add(r * a_row);
        }
        let mut b = b;
        let whole = k / UNROLL * UNROLL;
        for i in (0..whole).step_by(UNROLL) {
            for step in 0..UNROLL {
                step_of::<V, MR, NV>(&mut sums, &rows, i + step, b.add(step * NV * LANES));
            }
            b = b.add(UNROLL * NV * LANES);
        }
        for i in whole..k {
            step_of::<V, MR, NV>(&mut sums, &rows, i, b);
            b = b.add(NV * LANES);
        }
        for (r, row) in sums.iter().enumerate() {
            for (v, sum) in row.iter().enumerate() {
                sum.store(c.add(r * c_row + v * LANES));
            }
        }
    }
}

/// Terms that are added in one round of the loop.
const UNROLL: usize = 4;

/// Adds term `i` to all sums.
///
/// # Safety
/// As for [`tile`]: `rows` are readable at `i`, `b` for `NV` vectors.
#[inline(always)]
unsafe fn step_of<V: F32x16, const MR: usize, const NV: usize>(
    sums: &mut [[V; NV]; MR],
    rows: &[*const f32; MR],
    i: usize,
    b: *const f32,
) {
    // SAFETY: as promised by the caller.
    unsafe {
        let mut weights = [V::splat(0.0); NV];
        for (v, weight) in weights.iter_mut().enumerate() {
            *weight = V::load(b.add(v * LANES));
        }
        for (row, a) in sums.iter_mut().zip(rows) {
            let x = V::splat(*a.add(i));
            for (sum, weight) in row.iter_mut().zip(weights) {
                *sum = x.fma(weight, *sum);
            }
        }
    }
}

/// What becomes of a finished tile: `out = activation(c + bias) + residual`, and where asked
/// `before = c + bias`.
pub(crate) struct FinishArgs {
    pub(crate) rows: usize,
    /// Columns that exist; the tile may be wider.
    pub(crate) cols: usize,
    pub(crate) c: *const f32,
    pub(crate) c_row: usize,
    /// `[cols]`, or null.
    pub(crate) bias: *const f32,
    pub(crate) activation: Activation,
    /// [rows, cols] with rows `out_row` apart, or null.
    pub(crate) residual: *const f32,
    pub(crate) out: *mut f32,
    pub(crate) out_row: usize,
    /// As `out`, or null.
    pub(crate) before: *mut f32,
}

/// Finishes a tile.
///
/// # Safety
/// The processor has the instruction set of `V`; the pointers are valid for what [`FinishArgs`]
/// says of them.
#[inline(always)]
pub(crate) unsafe fn finish<V: F32x16>(args: &FinishArgs) {
    // SAFETY: the instruction set is the caller's promise.
    unsafe {
        // One loop for each activation, so that none is chosen per vector.
        match args.activation {
            Activation::Identity => finish_with::<V>(args, Activation::Identity),
            Activation::Gelu => finish_with::<V>(args, Activation::Gelu),
            Activation::QuickGelu => finish_with::<V>(args, Activation::QuickGelu),
            Activation::Tanh => finish_with::<V>(args, Activation::Tanh),
        }
    }
}

/// # Safety
/// As for [`finish`].
#[inline(always)]
unsafe fn finish_with<V: F32x16>(args: &FinishArgs, activation: Activation) {
    for row in 0..args.rows {
        for col in (0..args.cols).step_by(LANES) {
            let count = LANES.min(args.cols - col);
            // SAFETY: row and column are inside the tile; only `count` columns are touched of
            // what is no wider than `cols`, and `c` is as wide as whole vectors.
            unsafe {
                let mut y = V::load(args.c.add(row * args.c_row + col));
                if !args.bias.is_null() {
                    y = y + load::<V>(args.bias.add(col), count);
                }
                let at = row * args.out_row + col;
                if !args.before.is_null() {
                    store(y, args.before.add(at), count);
                }
                y = activate_lanes(activation, y);
                if !args.residual.is_null() {
                    y = y + load::<V>(args.residual.add(at), count);
                }
                store(y, args.out.add(at), count);
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

/// # Safety
/// `p` is writable for `count` values.
#[inline(always)]
unsafe fn store<V: F32x16>(y: V, p: *mut f32, count: usize) {
    // SAFETY: as promised by the caller.
    unsafe { if count == LANES { y.store(p) } else { y.store_head(p, count) } }
}

/// Does `steps` rounds of the tile's multiply-adds on registers alone, `MR · NV · 16` each: the
/// most that a product could reach. Gives back a value that depends on all of them.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn peak<V: F32x16, const MR: usize, const NV: usize>(steps: usize) -> f32 {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let mut sums = [[V::splat(0.0); NV]; MR];
        let (x, y) = (V::splat(std::hint::black_box(0.5)), V::splat(std::hint::black_box(0.25)));
        for _ in 0..steps {
            for row in &mut sums {
                for sum in row {
                    *sum = sum.fma(x, y);
                }
            }
        }
        let mut total = V::splat(0.0);
        for row in sums {
            for sum in row {
                total = total + sum;
            }
        }
        total.sum()
    }
}
