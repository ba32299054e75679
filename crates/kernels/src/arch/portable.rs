//! Sixteen lanes as an array: runs everywhere, and gives the same bits as the others.
//!
//! `f32::mul_add` is correctly rounded on every platform. Where the build may not assume an FMA
//! instruction it is a call into the C library, which makes this level slow (it is the last
//! resort, and the yardstick of the tests).

use super::generic::{F32x16, LANES, instantiate, vector_operators};

/// The portable vector.
#[derive(Clone, Copy)]
pub(crate) struct PortableF32([f32; LANES]);

impl PortableF32 {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], other.0[i])))
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    fn over(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }
}

vector_operators!(PortableF32,
    Add add Self::plus, Sub sub Self::minus, Mul mul Self::times, Div div Self::over);

impl F32x16 for PortableF32 {
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; LANES])
    }

    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller promises 16 readable values; the read needs no alignment.
        Self(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller promises 16 writable values; the write needs no alignment.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    fn fma(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(b.0[i], c.0[i])))
    }

    #[inline(always)]
    fn max_or(self, other: Self) -> Self {
        self.zip(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min_or(self, other: Self) -> Self {
        self.zip(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn if_less(self, other: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] < other.0[i] { yes.0[i] } else { no.0[i] }))
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.map(f32::abs))
    }

    #[inline(always)]
    fn pow2_of_low_bits(self) -> Self {
        Self(self.0.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(127 << 23))))
    }
}

instantiate!(Isa::Scalar, PortableF32, [], mr: 6, nv: 1,
    bf16: (4, 1), i8: crate::reduced::block_i8_by_widening,
    tiles: [[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]]);
