//! Sixteen lanes as four `q` registers (NEON).
//!
//! The register tile is 6 rows × 1 vector: 24 accumulators, 4 registers of weights and one of a
//! broadcast input, 29 of 32. Where `bf16` widens it is 4 rows, since weights come in pairs. Bytes
//! widen to 16 bits; a tile of 4 rows × 4 columns has four sums for each output, one for each byte
//! of a group, which are added at the end.

use std::arch::aarch64::*;

use crate::arch::generic::{F32x16, instantiate, vector_operators};
use crate::reduced::{BlockArgs, BytesTile, PANEL_COLS, STEP_BYTES, WIDENED_BYTES, WidenedTile};

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

/// The bits of the nearest `bf16` per lane, ties to even; a NaN stays a NaN.
///
/// # Safety
/// The processor has NEON.
#[inline(always)]
unsafe fn round_to_bf16(x: float32x4_t) -> uint16x4_t {
    // SAFETY: the caller promises NEON.
    unsafe {
        let bits = vreinterpretq_u32_f32(x);
        let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        let quiet = vorrq_u32(bits, vdupq_n_u32(0x40_0000));
        // A NaN is not equal to itself.
        vshrn_n_u32::<16>(vbslq_u32(vceqq_f32(x, x), rounded, quiet))
    }
}

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

    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // As `widen_f16`, on integers and with one exact product.
        let widen = |x: uint16x4_t| {
            // SAFETY: the caller promises NEON.
            unsafe {
                let wide = vmovl_u16(x);
                let magnitude = vshlq_n_u32::<13>(vandq_u32(wide, vdupq_n_u32(0x7fff)));
                let sign = vshlq_n_u32::<16>(vandq_u32(wide, vdupq_n_u32(0x8000)));
                let is_special = vcgeq_u32(magnitude, vdupq_n_u32(0x7c00 << 13));
                let special = vandq_u32(is_special, vdupq_n_u32(0x7f80_0000));
                let power = vdupq_n_f32(f32::from_bits((127 + 112) << 23));
                let scaled = vmulq_f32(vreinterpretq_f32_u32(magnitude), power);
                let bits = vorrq_u32(vreinterpretq_u32_f32(scaled), vorrq_u32(sign, special));
                vreinterpretq_f32_u32(bits)
            }
        };
        // SAFETY: the caller promises NEON and 16 readable values.
        unsafe {
            let (low, high) = (vld1q_u16(p), vld1q_u16(p.add(8)));
            Self([
                widen(vget_low_u16(low)),
                widen(vget_high_u16(low)),
                widen(vget_low_u16(high)),
                widen(vget_high_u16(high)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the caller promises NEON and 16 readable values.
        unsafe {
            let widen = |x: uint16x4_t| vreinterpretq_f32_u32(vshll_n_u16::<16>(x));
            let (low, high) = (vld1q_u16(p), vld1q_u16(p.add(8)));
            Self([
                widen(vget_low_u16(low)),
                widen(vget_high_u16(low)),
                widen(vget_low_u16(high)),
                widen(vget_high_u16(high)),
            ])
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        let a = self.0;
        // SAFETY: a value of this type exists only where the processor has NEON; the caller
        // promises 16 writable values.
        unsafe {
            let low = vcombine_u16(round_to_bf16(a[0]), round_to_bf16(a[1]));
            let high = vcombine_u16(round_to_bf16(a[2]), round_to_bf16(a[3]));
            vst1q_u16(p, low);
            vst1q_u16(p.add(8), high);
        }
    }

    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u8) -> (Self, Self) {
        // SAFETY: the caller promises NEON and 64 readable bytes.
        unsafe {
            let p = p.cast::<u32>();
            let pairs =
                [vld1q_u32(p), vld1q_u32(p.add(4)), vld1q_u32(p.add(8)), vld1q_u32(p.add(12))];
            let high = vdupq_n_u32(0xffff_0000);
            let first = pairs.map(|pair| vreinterpretq_f32_u32(vshlq_n_u32::<16>(pair)));
            let second = pairs.map(|pair| vreinterpretq_f32_u32(vandq_u32(pair, high)));
            (Self(first), Self(second))
        }
    }

    #[inline(always)]
    unsafe fn from_i32(p: *const i32) -> Self {
        // SAFETY: the caller promises NEON and 16 readable values.
        unsafe {
            let quarters =
                [vld1q_s32(p), vld1q_s32(p.add(4)), vld1q_s32(p.add(8)), vld1q_s32(p.add(12))];
            Self(quarters.map(|quarter| vcvtq_f32_s32(quarter)))
        }
    }

    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8) {
        // SAFETY: a value of this type exists only where the processor has NEON; the caller
        // promises 16 writable bytes.
        unsafe {
            // Every step saturates, and a NaN becomes 0.
            let words = self.0.map(|a| vqmovn_u32(vcvtnq_u32_f32(a)));
            let low = vqmovn_u16(vcombine_u16(words[0], words[1]));
            let high = vqmovn_u16(vcombine_u16(words[2], words[3]));
            vst1q_u8(p, vcombine_u8(low, high));
        }
    }
}

instantiate!(Isa::Neon, NeonF32, ["neon"], mr: 6, nv: 1,
    bf16: (4, 1), i8: block_i8,
    tiles: [[(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]]);

/// Columns of the register tile of bytes.
const COLS: usize = 4;

/// # Safety
/// The processor has NEON; the pointers are valid for what [`BlockArgs`] says of them.
#[target_feature(enable = "neon")]
unsafe fn block_i8(args: &BlockArgs) {
    // SAFETY: as promised by the caller.
    unsafe { crate::reduced::block_i8_in_16_bits::<NeonBytes, 4>(args) }
}

struct NeonBytes;

impl BytesTile for NeonBytes {
    #[inline(always)]
    unsafe fn widen(x: *const u8, out: *mut u16) {
        for at in (0..STEP_BYTES).step_by(8) {
            // SAFETY: as promised by the caller.
            unsafe { vst1q_u16(out.add(at), vmovl_u8(vld1_u8(x.add(at)))) }
        }
    }

    #[inline(always)]
    unsafe fn run<const R: usize>(tile: &WidenedTile<u16>) {
        for column in (0..PANEL_COLS).step_by(COLS) {
            // SAFETY: as promised by the caller.
            unsafe {
                let mut sums = [[vdupq_n_s32(0); COLS]; R];
                for group in 0..tile.groups {
                    let b = vld1q_s8(tile.b.add((group * PANEL_COLS + column) * 4).cast());
                    let low = vmovl_s8(vget_low_s8(b));
                    let high = vmovl_s8(vget_high_s8(b));
                    for (r, row) in sums.iter_mut().enumerate() {
                        let x = tile.a.add(r * WIDENED_BYTES + group * 4).cast::<i16>();
                        let x = vld1_s16(x);
                        row[0] = vmlal_s16(row[0], vget_low_s16(low), x);
                        row[1] = vmlal_s16(row[1], vget_high_s16(low), x);
                        row[2] = vmlal_s16(row[2], vget_low_s16(high), x);
                        row[3] = vmlal_s16(row[3], vget_high_s16(high), x);
                    }
                }
                for (r, row) in sums.iter().enumerate() {
                    let low = vpaddq_s32(row[0], row[1]);
                    let mut sum = vpaddq_s32(low, vpaddq_s32(row[2], row[3]));
                    let c = tile.sums(r).cast::<i32>().add(column);
                    if tile.resume {
                        sum = vaddq_s32(sum, vld1q_s32(c));
                    }
                    vst1q_s32(c, sum);
                }
            }
        }
    }
}
