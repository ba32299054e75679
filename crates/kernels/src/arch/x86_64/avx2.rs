//! Sixteen lanes as two `ymm` registers (AVX2 and FMA).
//!
//! The register tile is 6 rows × 1 vector: 12 accumulators, 2 registers of weights and one of a
//! broadcast input, 15 of 16.

use std::arch::x86_64::*;

use crate::arch::generic::{F32x16, RECIPROCAL, instantiate, vector_operators};

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

/// The bits of the nearest `bf16` per lane, ties to even, in the low half of the lane; a NaN stays
/// a NaN.
///
/// # Safety
/// The processor has AVX2.
#[inline(always)]
unsafe fn round_to_bf16(x: __m256) -> __m256i {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let carry = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_add_epi32(bits, carry);
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan))
    }
}

impl F32x16 for Avx2F32 {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller promises AVX2 and FMA.
        unsafe { Self(_mm256_set1_ps(x), _mm256_set1_ps(x)) }
    }

    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: every x86-64 processor has it, and it reads nothing that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
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

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: the caller promises AVX2 with F16C and 16 readable values.
        unsafe {
            let (low, high) = (_mm_loadu_si128(p.cast()), _mm_loadu_si128(p.add(8).cast()));
            Self(_mm256_cvtph_ps(low), _mm256_cvtph_ps(high))
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the caller promises AVX2 and 16 readable values.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.add(8).cast()));
            Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            )
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        // SAFETY: a value of this type exists only where the processor has AVX2 and FMA; the caller
        // promises 16 writable values.
        unsafe {
            let both = _mm256_packus_epi32(round_to_bf16(self.0), round_to_bf16(self.1));
            // Packing works in halves of 128 bits: low low, high low, low high, high high.
            _mm256_storeu_si256(p.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(both));
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u8) -> (Self, Self) {
        // SAFETY: the caller promises AVX2 and 64 readable bytes.
        unsafe {
            let low = _mm256_loadu_si256(p.cast());
            let high = _mm256_loadu_si256(p.add(32).cast());
            let mask = _mm256_set1_epi32(0xffff_0000_u32.cast_signed());
            let first = Self(
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            );
            let second = Self(
                _mm256_castsi256_ps(_mm256_and_si256(low, mask)),
                _mm256_castsi256_ps(_mm256_and_si256(high, mask)),
            );
            (first, second)
        }
    }

    #[inline(always)]
    unsafe fn from_i32(p: *const i32) -> Self {
        // SAFETY: the caller promises AVX2 and 16 readable values.
        unsafe {
            Self(
                _mm256_cvtepi32_ps(_mm256_loadu_si256(p.cast())),
                _mm256_cvtepi32_ps(_mm256_loadu_si256(p.add(8).cast())),
            )
        }
    }

    #[inline(always)]
    fn reciprocal_guess(self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX2 and FMA.
        unsafe {
            let from = _mm256_set1_epi32(RECIPROCAL.cast_signed());
            Self(
                _mm256_castsi256_ps(_mm256_sub_epi32(from, _mm256_castps_si256(self.0))),
                _mm256_castsi256_ps(_mm256_sub_epi32(from, _mm256_castps_si256(self.1))),
            )
        }
    }

    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8) {
        // SAFETY: a value of this type exists only where the processor has AVX2 and FMA; the caller
        // promises 16 writable bytes.
        unsafe {
            // Out of range and NaN give the lowest integer; packing lifts what is below 0 to 0.
            let highest = _mm256_set1_ps(255.0);
            let low = _mm256_cvtps_epi32(_mm256_min_ps(highest, self.0));
            let high = _mm256_cvtps_epi32(_mm256_min_ps(highest, self.1));
            // Halves of 128 bits again.
            let words = _mm256_packs_epi32(low, high);
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let (low, high) = (_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(p.cast(), _mm_packus_epi16(low, high));
        }
    }
}

instantiate!(Isa::Avx2, Avx2F32, ["avx2", "fma", "f16c"], mr: 6, nv: 1,
    bf16: (6, 1), i8: super::avx2_bytes::block_i8,
    tiles: [[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]]);
