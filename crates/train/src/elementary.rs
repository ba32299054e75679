//! `exp`, `ln`, `cos` and powers from additions, multiplications and divisions alone.
//!
//! The platform's own functions differ in their last bits from one system to the next. A run must
//! give the same bits everywhere, so what feeds weights is computed here, from operations that
//! IEEE 754 rounds in one way only. No fused multiply-add, whose absence would be slow.

use std::f64::consts::{FRAC_PI_2, LN_2, LOG2_E, SQRT_2};

/// The upper 32 bits of ln 2: `n` times it is exact for |n| < 2^20.
const LN2_HIGH: f64 = f64::from_bits(LN_2.to_bits() & !0x1f_ffff);
/// What `LN2_HIGH` leaves of ln 2: the part within `LN_2`, and the part below it.
const LN2_LOW: f64 = (LN_2 - LN2_HIGH) + 2.319_046_813_846_299_6e-17;

/// `e^x` within 2e-16 (relative); 0 and infinity beyond the range, NaN for NaN.
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x > 709.0 {
        return f64::INFINITY;
    }
    if x < -708.0 {
        return 0.0;
    }
    let n = (x * LOG2_E).round();
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // |r| ≤ 0.35: the term of degree 14 is below 5e-18.
    let mut sum = 1.0;
    for k in (1..=13).rev() {
        sum = 1.0 + r / f64::from(k) * sum;
    }
    sum * f64::from_bits(((n as i64 + 1023) as u64) << 52)
}

/// `ln x` within 4e-16 (relative, absolute near 1) for a positive normal number.
///
/// `x = 2^n · m` with m in [√½, √2); `ln m = 2 artanh((m - 1) / (m + 1))`.
pub(crate) fn ln(x: f64) -> f64 {
    debug_assert!(x.is_normal() && x > 0.0);
    let bits = x.to_bits();
    let mut n = (bits >> 52) as i32 - 1023;
    let mut m = f64::from_bits(bits & ((1 << 52) - 1) | 1023 << 52);
    if m > SQRT_2 {
        m *= 0.5;
        n += 1;
    }
    let z = (m - 1.0) / (m + 1.0);
    // |z| ≤ 0.172: the term of degree 23 is below 2e-18.
    let square = z * z;
    let mut sum = 0.0;
    for k in (1..=10).rev() {
        sum = square * (1.0 / f64::from(2 * k + 1) + sum);
    }
    let n = f64::from(n);
    n * LN2_HIGH + (2.0 * z + (2.0 * z * sum + n * LN2_LOW))
}

/// `cos(2π · turns)` within 4e-16 for 0 ≤ turns ≤ 1.
pub(crate) fn cos_turns(turns: f64) -> f64 {
    let quarter = (4.0 * turns).round();
    let angle = (4.0 * turns - quarter) * FRAC_PI_2;
    // |angle| ≤ π/4: the terms of degree 18 and 19 are below 2e-18.
    let square = angle * angle;
    let series = |first: i32, last: i32| {
        let mut sum = 1.0;
        for k in (first..=last).rev().step_by(2) {
            sum = 1.0 - square / f64::from((k - 1) * k) * sum;
        }
        sum
    };
    match quarter as i64 & 3 {
        0 => series(2, 16),
        1 => -angle * series(3, 17),
        2 => -series(2, 16),
        _ => angle * series(3, 17),
    }
}

/// `base^exponent` by squaring.
pub(crate) fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// 1.5 · 2^23: adding it rounds to an integer, which is then in the low bits.
const ROUNDER: f32 = 12_582_912.0;
/// `exp(r) = 1 + r + r² · (Q0 + Q1 r + …)` for |r| ≤ ln 2 / 2, to 3e-8: Taylor's series.
const Q: [f32; 6] = [0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0];

/// `e^x` for x ≤ 0 within 3e-7 (relative): 0 below -87; NaN stays NaN. Without branches, so that a
/// loop over it becomes vector code.
#[inline(always)]
pub(crate) fn exp_f32(x: f32) -> f32 {
    // Not `max`, which would turn NaN into the bound.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    // ln 2 in two parts, the first with zeros at its end so that the product is exact.
    let r = (clamped - n * 0.693_145_75) - n * 1.428_606_8e-6;
    let mut q = Q[5];
    for coefficient in [Q[4], Q[3], Q[2], Q[1], Q[0]] {
        q = q * r + coefficient;
    }
    let y = 1.0 + (r + r * r * q);
    let y = y * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if x < -87.0 { 0.0 } else { y }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(name: &str, x: f64, found: f64, expected: f64, bound: f64) {
        let error = (found - expected).abs();
        assert!(error <= bound, "{name}({x}) = {found}, expected {expected}");
    }

    #[test]
    fn near_the_functions_of_the_platform() {
        for i in 0..20_000 {
            let x = -60.0 + f64::from(i) * 0.006_123;
            let e = x.exp();
            assert_near("exp", x, exp(x), e, 4e-16 * e);
            assert_near("ln", e, ln(e), e.ln(), 4e-16 * e.ln().abs().max(1.0));
            let turns = f64::from(i) / 19_999.0;
            let cosine = (turns * std::f64::consts::TAU).cos();
            assert_near("cos", turns, cos_turns(turns), cosine, 8e-16);
            let x = -f64::from(i) * 0.004_35;
            let small = f64::from(exp_f32(x as f32));
            let e = f64::from(x as f32).exp();
            assert_near("exp_f32", x, small, e, 3e-7 * e);
        }
    }

    #[test]
    fn the_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-1e9), 0.0);
        assert_eq!(exp(1e9), f64::INFINITY);
        assert!(exp(f64::NAN).is_nan() && exp_f32(f32::NAN).is_nan());
        assert_eq!(exp_f32(0.0), 1.0);
        assert_eq!(exp_f32(-200.0), 0.0);
        assert_eq!(exp_f32(f32::NEG_INFINITY), 0.0);
        assert_eq!(ln(1.0), 0.0);
        assert_eq!(
            [0.0, 0.25, 0.5, 0.75, 1.0].map(cos_turns).map(f64::abs),
            [1.0, 0.0, 1.0, 0.0, 1.0]
        );
        assert_eq!(cos_turns(0.5), -1.0);
        assert_eq!(power(0.9, 0), 1.0);
        assert_eq!(power(3.0, 5), 243.0);
    }
}
