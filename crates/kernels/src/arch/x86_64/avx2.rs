//! Sixteen lanes as two `ymm` registers (AVX2 and FMA).
//!
//! The register tile is 6 rows × 1 vector: 12 accumulators, 2 registers of weights and one of a
//! broadcast input, 15 of 16.

use std::arch::x86_64::*;

use crate::arch::generic::{F32x16, instantiate, vector_operators};

/// Two `ymm`: lanes 0–7 and 8–15.
#[derive(Clone, Copy)]
pub(crate) struct Avx2F32(__m256, __m256);

/// Wraps an intrinsic of two vectors.
macro_rules! binary {
    ($name:ident, $intrinsic:ident) => {
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: a value of this type exists only where the processor has AVX2 and FMA.
            unsafe { Self($intrinsic(self.0, other.0), $intrinsic(self.1, other.1)) }
        }
    };
}

impl Avx2F32 {
    binary!(plus, _mm256_add_ps);
    binary!(minus, _mm256_sub_ps);
    binary!(times, _mm256_mul_ps);
    binary!(over, _mm256_div_ps);
}

vector_operators!(Avx2F32,
    Add add Self::plus, Sub sub Self::minus, Mul mul Self::times, Div div Self::over);

impl F32x16 for Avx2F32 {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller promises AVX2 and FMA.
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises AVX2 and 16 readable values.
        unsafe { Self(_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))) }
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises 16 writable values.
        unsafe {
            _mm256_storeu_ps(p, self.0);
            _mm256_storeu_ps(p.add(8), self.1);
        }
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX2 and FMA.
        unsafe { Self(_mm256_fmadd_ps(self.0, b.0, c.0), _mm256_fmadd_ps(self.1, b.1, c.1)) }
    }

    // `vmaxps` and `vminps` give their second operand where the two do not compare.
    binary!(max_or, _mm256_max_ps);
    binary!(min_or, _mm256_min_ps);

    #[inline(always)]
    fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX2 and FMA.
        unsafe {
            let low = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0);
            let high = _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, other.1);
            Self(_mm256_blendv_ps(no.0, yes.0, low), _mm256_blendv_ps(no.1, yes.1, high))
        }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX2 and FMA.
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            Self(_mm256_andnot_ps(sign, self.0), _mm256_andnot_ps(sign, self.1))
        }
    }

    #[inline(always)]
    fn pow2_of_low_bits(self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX2 and FMA.
        unsafe {
            let bias = _mm256_set1_epi32(127 << 23);
            let low = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
            let high = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.1));
            Self(
                _mm256_castsi256_ps(_mm256_add_epi32(low, bias)),
                _mm256_castsi256_ps(_mm256_add_epi32(high, bias)),
            )
        }
    }
}

instantiate!(Isa::Avx2, Avx2F32, ["avx2", "fma"], mr: 6, nv: 1,
    tiles: [[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]]);
