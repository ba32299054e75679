//! Sixteen lanes as one `zmm` register (AVX-512 F).
//!
//! The register tile is 6 rows × 4 vectors: 24 accumulators, 4 registers of weights and one of a
//! broadcast input, 29 of 32.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Sub};

use crate::arch::generic::{F32x16, LANES, RECIPROCAL, instantiate, vector_operators};

/// One `zmm`; `BF16` where the processor rounds to `bf16` by itself (then numbers below the normal
/// ones become zero).
#[derive(Clone, Copy)]
pub(crate) struct Avx512<const BF16: bool>(__m512);

/// Where AVX-512 F is all there is.
pub(crate) type Avx512F32 = Avx512<false>;

/// Wraps an intrinsic of two vectors.
macro_rules! binary {
    ($name:ident, $intrinsic:ident) => {
        #[inline(always)]
        fn $name(self, other: Self) -> Self {
            // SAFETY: a value of this type exists only where the processor has AVX-512 F.
            Self(unsafe { $intrinsic(self.0, other.0) })
        }
    };
}

impl<const BF16: bool> Avx512<BF16> {
    binary!(plus, _mm512_add_ps);
    binary!(minus, _mm512_sub_ps);
    binary!(times, _mm512_mul_ps);
    binary!(over, _mm512_div_ps);
}

vector_operators!(Avx512<false>,
    Add add Self::plus, Sub sub Self::minus, Mul mul Self::times, Div div Self::over);
vector_operators!(Avx512<true>,
    Add add Self::plus, Sub sub Self::minus, Mul mul Self::times, Div div Self::over);

impl<const BF16: bool> F32x16 for Avx512<BF16>
where
    Self: Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>,
{
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        // SAFETY: the caller promises AVX-512 F.
        Self(unsafe { _mm512_set1_ps(x) })
    }

    #[inline(always)]
    fn prefetch(p: *const u8) {
        // SAFETY: every x86-64 processor has it, and it reads nothing that a program could see.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises AVX-512 F and 16 readable values.
        Self(unsafe { _mm512_loadu_ps(p) })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises 16 writable values.
        unsafe { _mm512_storeu_ps(p, self.0) }
    }

    #[inline(always)]
    unsafe fn load_head(p: *const f32, n: usize, fill: f32) -> Self {
        debug_assert!(n <= LANES);
        let mask = ((1u32 << n) - 1) as __mmask16;
        // SAFETY: lanes outside the mask are not read; the caller promises the first `n`.
        Self(unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask, p) })
    }

    #[inline(always)]
    unsafe fn store_head(self, p: *mut f32, n: usize) {
        debug_assert!(n <= LANES);
        let mask = ((1u32 << n) - 1) as __mmask16;
        // SAFETY: lanes outside the mask are not written; the caller promises the first `n`.
        unsafe { _mm512_mask_storeu_ps(p, mask, self.0) }
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX-512 F.
        Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
    }

    // `vmaxps` and `vminps` give their second operand where the two do not compare.
    binary!(max_or, _mm512_max_ps);
    binary!(min_or, _mm512_min_ps);

    #[inline(always)]
    fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX-512 F.
        Self(unsafe {
            let mask = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0);
            _mm512_mask_blend_ps(mask, no.0, yes.0)
        })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX-512 F.
        Self(unsafe { _mm512_abs_ps(self.0) })
    }

    #[inline(always)]
    fn pow2_of_low_bits(self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX-512 F.
        Self(unsafe {
            let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
            _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(127 << 23)))
        })
    }

    #[inline(always)]
    fn reciprocal_guess(self) -> Self {
        // SAFETY: a value of this type exists only where the processor has AVX-512 F.
        Self(unsafe {
            let from = _mm512_set1_epi32(RECIPROCAL.cast_signed());
            _mm512_castsi512_ps(_mm512_sub_epi32(from, _mm512_castps_si512(self.0)))
        })
    }

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: the caller promises AVX-512 F and 16 readable values.
        Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(p.cast())) })
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the caller promises AVX-512 F and 16 readable values.
        Self(unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        // SAFETY: a value of this type exists only where the processor has AVX-512 F, and BF16 where
        // it says so; the caller promises 16 writable values.
        unsafe {
            if BF16 {
                let rounded: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(self.0));
                return _mm256_storeu_si256(p.cast(), rounded);
            }
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let carry = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let rounded = _mm512_add_epi32(bits, carry);
            let quiet = _mm512_set1_epi32(0x40_0000);
            let rounded = _mm512_mask_or_epi32(rounded, nan, bits, quiet);
            let narrow = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
            _mm256_storeu_si256(p.cast(), narrow);
        }
    }

    #[inline(always)]
    unsafe fn store_bf16_line(low: Self, high: Self, p: *mut u16) {
        // SAFETY: as in `store_bf16`, for 32 values.
        unsafe {
            if BF16 {
                let line: __m512i = std::mem::transmute(_mm512_cvtne2ps_pbh(high.0, low.0));
                return _mm512_storeu_si512(p.cast(), line);
            }
            low.store_bf16(p);
            high.store_bf16(p.add(LANES));
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u8) -> (Self, Self) {
        // SAFETY: the caller promises AVX-512 F and 64 readable bytes.
        unsafe {
            let pairs = _mm512_loadu_si512(p.cast());
            let high = _mm512_set1_epi32(0xffff_0000_u32.cast_signed());
            let first = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs));
            let second = _mm512_castsi512_ps(_mm512_and_si512(pairs, high));
            (Self(first), Self(second))
        }
    }

    #[inline(always)]
    fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
        let (mut a, mut b) = (rows.map(|row| row.0), rows.map(|row| row.0));
        // SAFETY: a value of this type exists only where the processor has AVX-512 F.
        unsafe {
            // In each quarter of a register: 4 × 4 values of four rows.
            for i in (0..LANES).step_by(2) {
                b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
                b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
            }
            for i in (0..LANES).step_by(4) {
                for half in 0..2 {
                    let low = _mm512_castps_pd(b[i + half]);
                    let high = _mm512_castps_pd(b[i + half + 2]);
                    a[i + 2 * half] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
                    a[i + 2 * half + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
                }
            }
            // Quarters: even ones together and odd ones together, twice.
            for i in [0, 8] {
                for j in i..i + 4 {
                    b[j] = _mm512_shuffle_f32x4::<0x88>(a[j], a[j + 4]);
                    b[j + 4] = _mm512_shuffle_f32x4::<0xdd>(a[j], a[j + 4]);
                }
            }
            for j in 0..8 {
                a[j] = _mm512_shuffle_f32x4::<0x88>(b[j], b[j + 8]);
                a[j + 8] = _mm512_shuffle_f32x4::<0xdd>(b[j], b[j + 8]);
            }
        }
        a.map(Self)
    }

    #[inline(always)]
    unsafe fn pair_bf16(a: *const u8, b: *const u8, out: *mut u8) {
        // SAFETY: the caller promises AVX-512 F, twice 64 readable and 128 writable bytes.
        unsafe {
            let (a, b) = (_mm512_loadu_si512(a.cast()), _mm512_loadu_si512(b.cast()));
            let low = _mm512_set1_epi32(0xffff);
            let even = _mm512_or_si512(_mm512_and_si512(a, low), _mm512_slli_epi32::<16>(b));
            let odd = _mm512_or_si512(_mm512_srli_epi32::<16>(a), _mm512_andnot_si512(low, b));
            let first = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
            let last = _mm512_add_epi32(first, _mm512_set1_epi32(8));
            let out = out.cast::<__m512i>();
            _mm512_storeu_si512(out.cast(), _mm512_permutex2var_epi32(even, first, odd));
            _mm512_storeu_si512(out.add(1).cast(), _mm512_permutex2var_epi32(even, last, odd));
        }
    }

    #[inline(always)]
    unsafe fn from_i32(p: *const i32) -> Self {
        // SAFETY: the caller promises AVX-512 F and 16 readable values.
        Self(unsafe { _mm512_cvtepi32_ps(_mm512_loadu_si512(p.cast())) })
    }

    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8) {
        // SAFETY: a value of this type exists only where the processor has AVX-512 F; the caller
        // promises 16 writable bytes.
        unsafe {
            // Out of range and NaN give the lowest integer, which the maximum lifts to 0.
            let highest = _mm512_set1_ps(255.0);
            let whole = _mm512_cvtps_epi32(_mm512_min_ps(highest, self.0));
            let whole = _mm512_max_epi32(whole, _mm512_setzero_si512());
            _mm_storeu_si128(p.cast(), _mm512_cvtusepi32_epi8(whole));
        }
    }
}

/// The table of a level with 512-bit vectors.
macro_rules! table {
    ($isa:expr, $vector:ty, [$($feature:literal),*]) => {
        instantiate!($isa, $vector, [$($feature),*], mr: 6, nv: 4,
            bf16: (8, 2), i8: crate::arch::x86_64::avx2_bytes::block_i8, tiles: [
            [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)],
            [(1, 2), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2)],
            [(1, 3), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3)],
            [(1, 4), (2, 4), (3, 4), (4, 4), (5, 4), (6, 4)],
        ]);
    };
}

/// The same kernels where the processor rounds to `bf16` by itself.
pub(crate) mod with_bf16 {
    use super::{Avx512, instantiate};

    table!(Isa::Avx512Bf16, Avx512<true>, ["avx512f", "avx512bf16"]);
}

table!(Isa::Avx512, Avx512F32, ["avx512f"]);
