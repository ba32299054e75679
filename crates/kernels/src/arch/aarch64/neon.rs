//! Sixteen lanes as four `q` registers (NEON).
//!
//! The register tile is 6 rows × 1 vector: 24 accumulators, 4 registers of weights and one of a
//! broadcast input, 29 of 32.

use std::arch::aarch64::*;

use crate::arch::generic::{F32x16, instantiate, vector_operators};

/// Four `q`: lanes 0–3, 4–7, 8–11 and 12–15.
#[derive(Clone, Copy)]
pub(crate) struct NeonF32([float32x4_t; 4]);

/// Wraps an intrinsic of two vectors.
macro_rules! binary {
    ($name:ident, $intrinsic:ident) => {
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: a value of this type exists only where the processor has NEON.
            self.zip(other, |a, b| unsafe { $intrinsic(a, b) })
        }
    };
}

impl NeonF32 {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(float32x4_t, float32x4_t) -> float32x4_t) -> Self {
        let (a, b) = (self.0, other.0);
        Self([f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])])
    }

    #[inline(always)]
    fn each(self, f: impl Fn(float32x4_t) -> float32x4_t) -> Self {
        let a = self.0;
        Self([f(a[0]), f(a[1]), f(a[2]), f(a[3])])
    }

    binary!(plus, vaddq_f32);
    binary!(minus, vsubq_f32);
    binary!(times, vmulq_f32);
    binary!(over, vdivq_f32);
}

vector_operators!(NeonF32,
    Add add Self::plus, Sub sub Self::minus, Mul mul Self::times, Div div Self::over);

impl F32x16 for NeonF32 {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller promises NEON.
        Self([unsafe { vdupq_n_f32(x) }; 4])
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises NEON and 16 readable values.
        unsafe {
            Self([vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))])
        }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises 16 writable values.
        unsafe {
            vst1q_f32(p, self.0[0]);
            vst1q_f32(p.add(4), self.0[1]);
            vst1q_f32(p.add(8), self.0[2]);
            vst1q_f32(p.add(12), self.0[3]);
        }
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        let (a, b, c) = (self.0, b.0, c.0);
        // SAFETY: a value of this type exists only where the processor has NEON.
        unsafe {
            Self([
                vfmaq_f32(c[0], a[0], b[0]),
                vfmaq_f32(c[1], a[1], b[1]),
                vfmaq_f32(c[2], a[2], b[2]),
                vfmaq_f32(c[3], a[3], b[3]),
            ])
        }
    }

    // `vmaxq_f32` would let a NaN of either side through: compare and select instead.
    #[inline(always)]
    fn max_or(self, other: Self) -> Self {
        // SAFETY: a value of this type exists only where the processor has NEON.
        self.zip(other, |a, b| unsafe { vbslq_f32(vcgtq_f32(a, b), a, b) })
    }

    #[inline(always)]
    fn min_or(self, other: Self) -> Self {
        // SAFETY: a value of this type exists only where the processor has NEON.
        self.zip(other, |a, b| unsafe { vbslq_f32(vcltq_f32(a, b), a, b) })
    }

    #[inline(always)]
    fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
        let (a, b, yes, no) = (self.0, other.0, yes.0, no.0);
        // SAFETY: a value of this type exists only where the processor has NEON.
        unsafe {
            Self([
                vbslq_f32(vcltq_f32(a[0], b[0]), yes[0], no[0]),
                vbslq_f32(vcltq_f32(a[1], b[1]), yes[1], no[1]),
                vbslq_f32(vcltq_f32(a[2], b[2]), yes[2], no[2]),
                vbslq_f32(vcltq_f32(a[3], b[3]), yes[3], no[3]),
            ])
        }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a value of this type exists only where the processor has NEON.
        self.each(|a| unsafe { vabsq_f32(a) })
    }

    #[inline(always)]
    fn pow2_of_low_bits(self) -> Self {
        // SAFETY: a value of this type exists only where the processor has NEON.
        self.each(|a| unsafe {
            let shifted = vshlq_n_u32::<23>(vreinterpretq_u32_f32(a));
            vreinterpretq_f32_u32(vaddq_u32(shifted, vdupq_n_u32(127 << 23)))
        })
    }
}

instantiate!(Isa::Neon, NeonF32, ["neon"], mr: 6, nv: 1,
    bf16: (4, 1), i8: crate::reduced::block_i8_by_widening,
    tiles: [[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]]);
