//! The activations of the feed-forward layers.
//!
//! - GELU, exact form: `x · Φ(x)`, Φ the normal distribution function. With `a = |x|` and
//!   `t = 1 / (1 + 0.29·a)`, `Φ(-a) = exp(-a²/2) · p(t)`, where `p` of degree 8 is the
//!   least-squares fit at Chebyshev nodes of `erfcx(a/√2) / 2` on 0 ≤ a ≤ 13.3 in relative error
//!   (6.5e-8); `Φ(a) = 1 - Φ(-a)`. Unlike `1 + erf` this keeps the relative accuracy of the
//!   negative tail. Largest error: 2e-7 · max(1, |x|) (tested).
//! - QuickGELU: `x · σ(1.702·x) = x / (1 + exp(-1.702·x))`, as OpenAI's CLIP has it.
//! - tanh: `(1 - t) / (1 + t)` with `t = exp(-2·|x|)`, and the sign of `x`; BERT's pooler has it.
//!
//! Where the result is rounded to `bf16` ([`activate_rough`]) the first two are `x · σ(z)`: for GELU
//! `z = x·P(x²)`, where `P` of degree 3 is the minimax fit of `logit(Φ(x)) / x` on |x| ≤ 5.6. The
//! largest error is half that of the rounding: 2e-3 of the result, and 2e-4.

use crate::Pool;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::for_chunks;
use crate::exp::{exp, exp_rough};

/// What a layer does to its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `x · Φ(x)`, the exact (erf) form.
    Gelu,
    /// `x · σ(1.702·x)`.
    QuickGelu,
    /// The hyperbolic tangent.
    Tanh,
}

/// The argument of `p` is `1 / (1 + TAIL_SLOPE·|x|)`.
const TAIL_SLOPE: f32 = 0.29;
/// `p`, from the constant upwards.
const TAIL: [f32; 9] = [
    2.831_626_6e-5,
    0.115_068_33,
    0.121_613_35,
    0.074_431_606,
    0.190_160_35,
    -0.156_349_88,
    0.309_707_5,
    -0.194_212_75,
    0.039_553_188,
];
/// `1 / √(2π)`, the normal density at 0.
const DENSITY: f32 = 0.398_942_3;
/// The slope in QuickGELU's sigmoid.
const QUICK_SLOPE: f32 = 1.702;

/// The activation per lane.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn activate_lanes<V: F32x16>(activation: Activation, x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        match activation {
            Activation::Identity => x,
            Activation::Gelu => gelu(x),
            Activation::QuickGelu => quick_gelu(x),
            Activation::Tanh => tanh(x),
        }
    }
}

/// `logit(Φ(x)) / x` in x², from the constant upwards.
const LOGIT: [f32; 4] = [1.594_051_5, 0.075_428_6, -9.574_13e-4, 8.413_182_6e-6];
/// Where the fit ends, squared.
const LOGIT_END: f32 = 31.36;

/// The activation per lane, good enough for a result in `bf16`.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn activate_rough<V: F32x16>(activation: Activation, x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let minus_z = match activation {
            Activation::Identity => return x,
            Activation::QuickGelu => x * V::splat(-QUICK_SLOPE),
            Activation::Tanh => return tanh(x),
            Activation::Gelu => {
                let squared = V::splat(LOGIT_END).min_or(x * x);
                let mut p = V::splat(-LOGIT[3]);
                for coefficient in [LOGIT[2], LOGIT[1], LOGIT[0]] {
                    p = p.fma(squared, V::splat(-coefficient));
                }
                x * p
            }
        };
        // Within ±60 the reciprocal needs no care, and σ(-60) is nothing in `bf16`.
        let minus_z = V::splat(60.0).min_or(V::splat(-60.0).max_or(minus_z));
        x * (V::splat(1.0) + exp_rough(minus_z)).reciprocal_rough()
    }
}

/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
unsafe fn gelu<V: F32x16>(x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let (below, _) = gelu_parts(x);
        x * x.if_less(V::splat(0.0), below, V::splat(1.0) - below)
    }
}

/// `Φ(-|x|)` and `exp(-x²/2)`.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
unsafe fn gelu_parts<V: F32x16>(x: V) -> (V, V) {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let one = V::splat(1.0);
        let a = x.abs();
        let t = one / a.fma(V::splat(TAIL_SLOPE), one);
        let mut p = V::splat(TAIL[8]);
        for i in (0..8).rev() {
            p = p.fma(t, V::splat(TAIL[i]));
        }
        let density = exp(a * a * V::splat(-0.5));
        (p * density, density)
    }
}

/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
unsafe fn quick_gelu<V: F32x16>(x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let one = V::splat(1.0);
        let z = x * V::splat(-QUICK_SLOPE);
        let sigmoid = one / (one + exp(z));
        // `exp` stays finite, so its limit 0 is set by hand: x may be large enough to undo 1/exp.
        x * V::splat(88.0).if_less(z, V::splat(0.0), sigmoid)
    }
}

/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
unsafe fn tanh<V: F32x16>(x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let one = V::splat(1.0);
        let t = exp(x.abs() * V::splat(-2.0));
        let y = (one - t) / (one + t);
        x.if_less(V::splat(0.0), V::splat(0.0) - y, y)
    }
}

/// The derivative of the activation per lane.
///
/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
pub(crate) unsafe fn activation_slope<V: F32x16>(activation: Activation, x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let one = V::splat(1.0);
        match activation {
            Activation::Identity => one,
            Activation::Gelu => {
                let (below, density) = gelu_parts(x);
                let distribution = x.if_less(V::splat(0.0), below, one - below);
                (x * V::splat(DENSITY)).fma(density, distribution)
            }
            Activation::QuickGelu => {
                let z = x * V::splat(-QUICK_SLOPE);
                let sigmoid = one / (one + exp(z));
                // `z` is of any size where the sigmoid is 0 or 1, so its limit is set by hand.
                let slope = sigmoid * (sigmoid - one).fma(z, one);
                let slope = V::splat(40.0).if_less(z, V::splat(0.0), slope);
                z.if_less(V::splat(-40.0), one, slope)
            }
            Activation::Tanh => {
                let y = tanh(x);
                one - y * y
            }
        }
    }
}

/// `out = activation(x)`.
///
/// # Safety
/// The processor has the instruction set of `V`; the slices have one length.
#[inline(always)]
pub(crate) unsafe fn activate<V: F32x16>(activation: Activation, x: &[f32], out: &mut [f32]) {
    debug_assert_eq!(x.len(), out.len());
    let whole = x.len() / LANES * LANES;
    let rest = x.len() - whole;
    // SAFETY: all offsets stay within the length that both slices have.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            let y = activate_lanes(activation, V::load(x.as_ptr().add(i)));
            y.store(out.as_mut_ptr().add(i));
        }
        if rest > 0 {
            let y = activate_lanes(activation, V::load_head(x.as_ptr().add(whole), rest, 0.0));
            y.store_head(out.as_mut_ptr().add(whole), rest);
        }
    }
}

impl Kernels {
    /// `out = x · Φ(x)` per value (GELU, exact form).
    ///
    /// # Panics
    /// Panics if the lengths differ.
    ///
    /// # Numerics
    /// Within 2e-7 · max(1, |x|) of the true value. `+inf` stays, `-inf` gives NaN as in PyTorch.
    pub fn gelu_f32(&self, pool: &Pool, x: &[f32], out: &mut [f32]) {
        self.activation_f32(pool, Activation::Gelu, x, out);
    }

    /// `out = x · σ(1.702·x)` per value (QuickGELU).
    ///
    /// # Panics
    /// Panics if the lengths differ.
    ///
    /// # Numerics
    /// Within 2e-7 · max(1, |x|) of the true value. `+inf` stays, `-inf` gives NaN as in PyTorch.
    pub fn quick_gelu_f32(&self, pool: &Pool, x: &[f32], out: &mut [f32]) {
        self.activation_f32(pool, Activation::QuickGelu, x, out);
    }

    /// `out = activation(x)` per value.
    ///
    /// # Panics
    /// Panics if the lengths differ.
    pub fn activation_f32(&self, pool: &Pool, activation: Activation, x: &[f32], out: &mut [f32]) {
        assert_eq!(x.len(), out.len(), "activation: x and out differ in length");
        for_chunks(pool, out, 1, &|range, out| {
            // SAFETY: a table exists only where its instruction set does; the lengths are equal.
            unsafe { (self.activate)(activation, &x[range], out) }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference;
    use crate::testing::{Bound, Random, Runner, lengths};

    fn check(runner: &Runner, activation: Activation, x: &[f32]) {
        let exact = |&x: &f32| reference::activate(activation, f64::from(x)) as f32;
        let expected: Vec<f32> = x.iter().map(exact).collect();
        let bound = x.iter().map(|x| 2e-7 * f64::from(x.abs()).max(1.0)).collect();
        runner.check(
            &format!("{activation:?}"),
            &expected,
            &Bound::Each(bound),
            &|kernels, pool| {
                let mut out = vec![0.0; x.len()];
                kernels.activation_f32(pool, activation, x, &mut out);
                out
            },
        );
    }

    #[test]
    fn activations_are_close() {
        let runner = Runner::new();
        let fine: Vec<f32> = (-150_000..150_000).map(|i| i as f32 * 1e-4).collect();
        let mut wide = Random::new(1).hostile(2_000);
        wide.extend([0.0, -0.0, 1e-38, 1e30, -1e30, f32::MAX, f32::MIN, 88.0 / 1.702]);
        for activation in
            [Activation::Identity, Activation::Gelu, Activation::QuickGelu, Activation::Tanh]
        {
            check(&runner, activation, &fine);
            check(&runner, activation, &wide);
            for len in lengths() {
                check(&runner, activation, &Random::new(2).values(len + 1)[1..]);
            }
        }
    }

    #[test]
    fn the_tail_of_gelu_keeps_its_relative_accuracy() {
        let x: Vec<f32> = (0..9_000).map(|i| i as f32 * -1e-3).collect();
        let mut out = vec![0.0; x.len()];
        Kernels::get().gelu_f32(&Pool::new(1), &x, &mut out);
        for (&x, &y) in x.iter().zip(&out).skip(1) {
            let exact = reference::activate(Activation::Gelu, f64::from(x));
            // The rounding of x²/2 becomes a relative error of exp: up to 40 · 2^-24 here.
            assert!((f64::from(y) / exact - 1.0).abs() < 3e-6, "{x}: {y:e}, {exact:e}");
        }
    }

    #[test]
    fn values_that_are_no_numbers_stay_so() {
        let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        for kernels in Runner::new().kernels() {
            for activation in [Activation::Gelu, Activation::QuickGelu] {
                let mut y = [0.0; 3];
                kernels.activation_f32(&Pool::new(1), activation, &x, &mut y);
                assert!(y[0].is_nan() && y[1] == f32::INFINITY && y[2].is_nan(), "{y:?}");
            }
        }
    }
}
