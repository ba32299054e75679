//! `exp` on 16 lanes.
//!
//! `exp(x) = 2^n · exp(r)` with `n = round(x / ln 2)` and `r = x - n·ln 2`, |r| ≤ ln 2 / 2.
//! `ln 2` is taken in two parts, so that `n · high` is exact. `exp(r) = 1 + r + r²·q(r)` with `q` of
//! degree 4: the least-squares fit at Chebyshev nodes of the relative error, 3.6e-9. With the
//! roundings the result is within 1e-7 of the true value (tested).
//!
//! [`exp_rough`] is for results that are rounded to `bf16` (4e-3): `ln 2` in one part and a polynomial
//! of degree 3, the minimax fit of the relative error on the same interval, 7.5e-5.

use crate::arch::generic::F32x16;

/// Below this the result is 0 (the true value is below the normal numbers).
const LOWEST: f32 = -87.3;
/// Above this the result stays at `exp(88.3)`, near the largest number.
const HIGHEST: f32 = 88.3;
/// 1.5 · 2^23: adding it rounds to an integer, which is then in the low bits.
const ROUNDER: f32 = 12_582_912.0;
/// The upper bits of ln 2; its last 8 bits are zero, so `n · LN2_HIGH` is exact for |n| ≤ 256.
const LN2_HIGH: f32 = 0.693_145_75;
/// ln 2 - `LN2_HIGH`.
const LN2_LOW: f32 = 1.428_606_8e-6;
/// `q`, from the constant upwards.
const Q: [f32; 5] = [0.499_999_88, 0.166_665_18, 0.041_669_533, 0.008_368_923, 0.001_375_138_2];

/// `exp(x)` per lane: 0 below -87.3 (and for -inf), at most `exp(88.3)`; NaN stays NaN.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn exp<V: F32x16>(x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let lowest = V::splat(LOWEST);
        let clamped = V::splat(HIGHEST).min_or(lowest.max_or(x));
        let shifted = clamped.fma(V::splat(std::f32::consts::LOG2_E), V::splat(ROUNDER));
        let n = shifted - V::splat(ROUNDER);
        let r = n.fma(V::splat(-LN2_LOW), n.fma(V::splat(-LN2_HIGH), clamped));
        let mut q = V::splat(Q[4]);
        for coefficient in [Q[3], Q[2], Q[1], Q[0]] {
            q = q.fma(r, V::splat(coefficient));
        }
        let y = (r * r).fma(q, r) + V::splat(1.0);
        let y = y * shifted.pow2_of_low_bits();
        x.if_less(lowest, V::splat(0.0), y)
    }
}

/// The polynomial of [`exp_rough`], from the constant upwards.
const ROUGH: [f32; 4] = [0.999_928_06, 1.000_164_2, 0.504_963_4, 0.165_668_49];

/// `exp(x)` per lane within 1e-4; below -87.3 as there, above 88.3 as there. NaN stays NaN.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn exp_rough<V: F32x16>(x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let clamped = V::splat(HIGHEST).min_or(V::splat(LOWEST).max_or(x));
        let shifted = clamped.fma(V::splat(std::f32::consts::LOG2_E), V::splat(ROUNDER));
        let n = shifted - V::splat(ROUNDER);
        let r = n.fma(V::splat(-std::f32::consts::LN_2), clamped);
        let mut p = V::splat(ROUGH[3]);
        for coefficient in [ROUGH[2], ROUGH[1], ROUGH[0]] {
            p = p.fma(r, V::splat(coefficient));
        }
        p * shifted.pow2_of_low_bits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::portable::PortableF32;

    #[test]
    fn the_rough_exp_is_within_1e4_of_the_true_value() {
        for i in -870..880 {
            let x = i as f32 * 0.1 + 0.013;
            // SAFETY: the portable vector needs nothing of the processor.
            let found = f64::from(unsafe { exp_rough(PortableF32::splat(x)) }.to_array()[0]);
            assert!((found / f64::from(x).exp() - 1.0).abs() < 1e-4, "{x}: {found:e}");
        }
        // SAFETY: as above.
        let lanes = |x| unsafe { exp_rough(PortableF32::splat(x)) }.to_array()[0];
        assert!(lanes(f32::NEG_INFINITY) < 2e-38 && lanes(f32::NAN).is_nan());
        assert!(lanes(f32::INFINITY).is_finite());
    }

    fn exp1(x: f32) -> f32 {
        // SAFETY: the portable vector needs nothing of the processor.
        unsafe { exp(PortableF32::splat(x)) }.to_array()[0]
    }

    #[test]
    fn exp_is_within_1e7_of_the_true_value() {
        let mut worst = 0.0f64;
        for i in -87_000..88_000 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            worst = worst.max((f64::from(exp1(x)) / exact - 1.0).abs());
        }
        assert!(worst < 1e-7, "{worst:e}");
    }

    #[test]
    fn exp_at_the_edges() {
        assert_eq!(exp1(0.0), 1.0);
        assert_eq!(exp1(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp1(-1e30), 0.0);
        assert!(exp1(f32::NAN).is_nan());
        assert!(exp1(f32::INFINITY) > 2e38 && exp1(f32::INFINITY).is_finite());
        assert!(exp1(-87.29) > 0.0);
    }
}
