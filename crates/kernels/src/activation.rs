//! The activations of the feed-forward layers.
//!
//! - GELU, exact form: `x · Φ(x)`, Φ the normal distribution function. With `a = |x|` and
//!   `t = 1 / (1 + 0.29·a)`, `Φ(-a) = exp(-a²/2) · p(t)`, where `p` of degree 8 is the
//!   least-squares fit at Chebyshev nodes of `erfcx(a/√2) / 2` on 0 ≤ a ≤ 13.3 in relative error
//!   (6.5e-8); `Φ(a) = 1 - Φ(-a)`. Unlike `1 + erf` this keeps the relative accuracy of the
//!   negative tail. Largest error: 1e-7 · max(1, |x|) (tested).
//! - QuickGELU: `x · σ(1.702·x) = x / (1 + exp(-1.702·x))`, as OpenAI's CLIP has it.

use crate::Pool;
use crate::arch::generic::{F32x16, LANES};
use crate::dispatch::Kernels;
use crate::elementwise::for_chunks;
use crate::exp::exp;

/// What a layer does to its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `x · Φ(x)`, the exact (erf) form.
    Gelu,
    /// `x · σ(1.702·x)`.
    QuickGelu,
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
        }
    }
}

/// # Safety
/// The processor has the instruction set of `V`.
#[inline(always)]
unsafe fn gelu<V: F32x16>(x: V) -> V {
    // SAFETY: the caller promises the instruction set.
    unsafe {
        let one = V::splat(1.0);
        let a = x.abs();
        let t = one / a.fma(V::splat(TAIL_SLOPE), one);
        let mut p = V::splat(TAIL[8]);
        for i in (0..8).rev() {
            p = p.fma(t, V::splat(TAIL[i]));
        }
        let below = p * exp(a * a * V::splat(-0.5));
        x * x.if_less(V::splat(0.0), below, one - below)
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
