//! The vector of 16 `f32` lanes that every kernel is written over.
//!
//! All kernels are written once against [`F32x16`]. An instruction set gives sixteen lanes with
//! whatever registers it has: one `zmm`, two `ymm`, four NEON `q`, or an array. Every operation of
//! the trait is exact in the sense of IEEE 754 (correctly rounded, one rounding), or an operation
//! on bits, so the same kernel gives the same bits on every instruction set. What would differ
//! (order of a horizontal sum, approximate reciprocals) is not in the trait.

use std::ops::{Add, Div, Mul, Sub};

/// What [`F32x16::reciprocal_guess`] subtracts from: twice the bits of 1.0, less what makes the
/// largest error smallest.
pub(crate) const RECIPROCAL: u32 = 0x7ef3_11c3;

/// Lanes of a vector, on every instruction set.
pub(crate) const LANES: usize = 16;

/// Sixteen `f32` lanes.
///
/// The functions that make a vector from nothing are `unsafe`: their caller promises that the
/// processor has the instruction set of `Self`. A value of the type is then the proof that lets
/// arithmetic on it be safe.
pub(crate) trait F32x16:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// All lanes `x`.
    ///
    /// # Safety
    /// The processor has this instruction set.
    unsafe fn splat(x: f32) -> Self;

    /// Reads 16 values.
    ///
    /// # Safety
    /// The processor has this instruction set and `p` is readable for 16 values (any alignment).
    unsafe fn load(p: *const f32) -> Self;

    /// Asks for the cache line at `p`, which may be any address.
    #[inline(always)]
    fn prefetch(_p: *const u8) {}

    /// Writes 16 values.
    ///
    /// # Safety
    /// `p` is writable for 16 values (any alignment).
    unsafe fn store(self, p: *mut f32);

    /// Reads `n <= 16` values, the lanes behind them are `fill`.
    ///
    /// # Safety
    /// The processor has this instruction set and `p` is readable for `n` values.
    #[inline(always)]
    unsafe fn load_head(p: *const f32, n: usize, fill: f32) -> Self {
        debug_assert!(n <= LANES);
        let mut lanes = [fill; LANES];
        // SAFETY: `p` is readable for `n` values and `n <= 16`; the array is readable.
        unsafe {
            std::ptr::copy_nonoverlapping(p, lanes.as_mut_ptr(), n);
            Self::load(lanes.as_ptr())
        }
    }

    /// Writes the first `n <= 16` lanes.
    ///
    /// # Safety
    /// `p` is writable for `n` values.
    #[inline(always)]
    unsafe fn store_head(self, p: *mut f32, n: usize) {
        debug_assert!(n <= LANES);
        let lanes = self.to_array();
        // SAFETY: `p` is writable for `n` values and `n <= 16`.
        unsafe { std::ptr::copy_nonoverlapping(lanes.as_ptr(), p, n) }
    }

    /// `self * b + c` with one rounding.
    fn fma(self, b: Self, c: Self) -> Self;

    /// Per lane `if self > other { self } else { other }`: a NaN in `other` goes through.
    fn max_or(self, other: Self) -> Self;

    /// Per lane `if self < other { self } else { other }`: a NaN in `other` goes through.
    fn min_or(self, other: Self) -> Self;

    /// Per lane `if self < other { yes } else { no }`.
    fn if_less(self, other: Self, yes: Self, no: Self) -> Self;

    /// The absolute value.
    fn abs(self) -> Self;

    /// Takes each lane's bits as an integer `i` and gives the float of bits `(i << 23) + (127 << 23)`
    /// (wrapping): `2^n` where `i` has `n` (-126..=127) in its low nine bits.
    fn pow2_of_low_bits(self) -> Self;

    /// Reads 16 `f16` values; every one is an `f32` too.
    ///
    /// # Safety
    /// The processor has this instruction set and `p` is readable for 16 values.
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        // SAFETY: the caller promises 16 readable values.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        let lanes = bits.map(widen_f16);
        // SAFETY: the array is readable.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// Reads 16 `bf16` values.
    ///
    /// # Safety
    /// The processor has this instruction set and `p` is readable for 16 values.
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        // SAFETY: the caller promises 16 readable values.
        let bits = unsafe { p.cast::<[u16; LANES]>().read_unaligned() };
        let lanes = bits.map(|bits| f32::from_bits(u32::from(bits) << 16));
        // SAFETY: the array is readable.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// Writes the lanes as `bf16`, rounded to nearest, ties to even; a NaN stays a NaN.
    ///
    /// # Safety
    /// `p` is writable for 16 values.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16) {
        let bits = self.to_array().map(round_to_bf16);
        // SAFETY: the caller promises 16 writable values.
        unsafe { p.cast::<[u16; LANES]>().write_unaligned(bits) }
    }

    /// Reads 16 pairs of `bf16`: the first of each pair, and the second.
    ///
    /// # Safety
    /// The processor has this instruction set and `p` is readable for 64 bytes.
    #[inline(always)]
    unsafe fn load_bf16_pairs(p: *const u8) -> (Self, Self) {
        // SAFETY: the caller promises 64 readable bytes; the arrays are readable.
        unsafe {
            let pairs = p.cast::<[u32; LANES]>().read_unaligned();
            let first = pairs.map(|pair| f32::from_bits(pair << 16));
            let second = pairs.map(|pair| f32::from_bits(pair & 0xffff_0000));
            (Self::load(first.as_ptr()), Self::load(second.as_ptr()))
        }
    }

    /// Writes 32 values as a line of `bf16`, as [`F32x16::store_bf16`] does.
    ///
    /// # Safety
    /// `p` is writable for 32 values.
    #[inline(always)]
    unsafe fn store_bf16_line(low: Self, high: Self, p: *mut u16) {
        // SAFETY: as promised by the caller.
        unsafe {
            low.store_bf16(p);
            high.store_bf16(p.add(LANES));
        }
    }

    /// Reads 16 integers, each rounded to the nearest `f32`.
    ///
    /// # Safety
    /// The processor has this instruction set and `p` is readable for 16 values.
    #[inline(always)]
    unsafe fn from_i32(p: *const i32) -> Self {
        // SAFETY: as promised by the caller; the array is readable.
        unsafe {
            let lanes = p.cast::<[i32; LANES]>().read_unaligned().map(|x| x as f32);
            Self::load(lanes.as_ptr())
        }
    }

    /// Writes the lanes as bytes: rounded to the nearest integer, ties to even, within 0..=255
    /// (NaN gives 0).
    ///
    /// # Safety
    /// `p` is writable for 16 bytes.
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8) {
        // `as` saturates.
        let bytes = self.to_array().map(|x| x.round_ties_even() as u8);
        // SAFETY: the caller promises 16 writable bytes.
        unsafe { p.cast::<[u8; LANES]>().write_unaligned(bytes) }
    }

    /// Takes each lane's bits as an integer `i` and gives the float of bits `RECIPROCAL - i`
    /// (wrapping): within 5.1 % of `1 / x` for a positive `x`, since the exponent is negated.
    #[inline(always)]
    fn reciprocal_guess(self) -> Self {
        let lanes = self.to_array().map(|x| f32::from_bits(RECIPROCAL.wrapping_sub(x.to_bits())));
        // SAFETY: a value of this type proves the instruction set; the array is readable.
        unsafe { Self::load(lanes.as_ptr()) }
    }

    /// `1 / x` for a positive `x` from 2^-60 to 2^120, within 1.3e-4: one cubic step from the guess.
    /// Much cheaper than a division.
    #[inline(always)]
    fn reciprocal_rough(self) -> Self {
        // SAFETY: a value of this type proves the instruction set.
        let (one, zero) = unsafe { (Self::splat(1.0), Self::splat(0.0)) };
        let guess = self.reciprocal_guess();
        let off = (zero - self).fma(guess, one);
        guess.fma(off.fma(off, off), guess)
    }

    /// The transpose of 16 rows of 16 lanes. Only bits are moved.
    #[inline(always)]
    fn transpose(rows: [Self; LANES]) -> [Self; LANES] {
        let values = rows.map(Self::to_array);
        std::array::from_fn(|column| {
            let lanes: [f32; LANES] = std::array::from_fn(|row| values[row][column]);
            // SAFETY: a value of this type proves the instruction set; the array is readable.
            unsafe { Self::load(lanes.as_ptr()) }
        })
    }

    /// Writes 32 pairs of `bf16`, each one value of `a` and the value of `b` in its place.
    ///
    /// # Safety
    /// The processor has this instruction set; `a` and `b` are readable for 64 bytes, `out` is
    /// writable for 128.
    #[inline(always)]
    unsafe fn pair_bf16(a: *const u8, b: *const u8, out: *mut u8) {
        // SAFETY: as promised by the caller.
        unsafe {
            let a = a.cast::<[u16; 2 * LANES]>().read_unaligned();
            let b = b.cast::<[u16; 2 * LANES]>().read_unaligned();
            let pairs: [u32; 2 * LANES] =
                std::array::from_fn(|i| u32::from(a[i]) | u32::from(b[i]) << 16);
            out.cast::<[u32; 2 * LANES]>().write_unaligned(pairs);
        }
    }

    /// The lanes in order.
    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        // SAFETY: the array is writable for 16 values.
        unsafe { self.store(lanes.as_mut_ptr()) }
        lanes
    }

    /// The sum of the lanes, always in the same tree: halves are added until one value is left.
    #[inline(always)]
    fn sum(self) -> f32 {
        let mut lanes = self.to_array();
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }

    /// The largest lane; where a lane is NaN the result may be any lane.
    #[inline(always)]
    fn largest(self) -> f32 {
        let mut lanes = self.to_array();
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] = if lanes[i] > lanes[i + half] { lanes[i] } else { lanes[i + half] };
            }
            half /= 2;
        }
        lanes[0]
    }
}

/// The `f32` of `f16` bits. Its exponent is 112 too low once the bits are in place; a product with a
/// power of two is exact, and makes subnormal ones normal.
#[inline(always)]
pub(crate) fn widen_f16(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    let special = if magnitude >= 0x7c00 << 13 { 0x7f80_0000 } else { 0 };
    let scaled = f32::from_bits(magnitude) * f32::from_bits((127 + 112) << 23);
    f32::from_bits(scaled.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

/// The nearest `bf16`, ties to even, as bits; a NaN stays a NaN.
#[inline(always)]
pub(crate) fn round_to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Adds `Add`, `Sub`, `Mul` and `Div` to a vector type from four functions on its inner value.
macro_rules! vector_operators {
    ($vector:ty, $($trait:ident $method:ident $function:path),+ $(,)?) => {$(
        impl std::ops::$trait for $vector {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                $function(self, other)
            }
        }
    )+};
}
pub(crate) use vector_operators;

/// Makes the kernel table of one instruction set: every generic body, compiled with the features.
///
/// `mr` and `nv` are the rows and vectors of its register tile, `bf16` those where `bf16` widens;
/// `i8` is the block of bytes.
macro_rules! instantiate {
    ($isa:expr, $vector:ty, [$($feature:literal),*], mr: $mr:literal, nv: $nv:literal,
     bf16: ($bf16_rows:literal, $bf16_vectors:literal), i8: $block_i8:path,
     tiles: [$([$(($m:literal, $v:literal)),+ $(,)?]),+ $(,)?]) => {
        use crate::dispatch::{Isa, Kernels};
        use crate::gemm::{FinishArgs, TileArgs};

        $(#[target_feature(enable = $feature)])*
        unsafe fn tile<const MR: usize, const NV: usize>(args: &TileArgs) {
            // SAFETY: the features of this function are those of the vector; the rest is the
            // caller's promise, which is the same.
            unsafe { crate::gemm::tile::<$vector, MR, NV>(args) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn finish(args: &FinishArgs) {
            // SAFETY: as in `tile`.
            unsafe { crate::gemm::finish::<$vector>(args) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn activate(activation: crate::Activation, x: &[f32], out: &mut [f32]) {
            // SAFETY: as in `tile`.
            unsafe { crate::activation::activate::<$vector>(activation, x, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn softmax_weights(row: &mut [f32], scale: f32) -> f32 {
            // SAFETY: as in `tile`.
            unsafe { crate::softmax::softmax_weights::<$vector>(row, scale) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn scale(x: &[f32], factor: f32, out: &mut [f32]) {
            // SAFETY: as in `tile`.
            unsafe { crate::elementwise::scale::<$vector>(x, factor, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn layer_norm(row: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
            // SAFETY: as in `tile`.
            unsafe { crate::layer_norm::layer_norm_row::<$vector>(row, weight, bias, eps, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn add(a: &[f32], b: &[f32], out: &mut [f32]) {
            // SAFETY: as in `tile`.
            unsafe { crate::elementwise::add::<$vector>(a, b, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn dot(a: &[f32], b: &[f32]) -> f32 {
            // SAFETY: as in `tile`.
            unsafe { crate::elementwise::dot::<$vector>(a, b) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn scan_f16(rows: &[u16], width: usize, queries: &[f32], out: &mut [f32]) {
            // SAFETY: as in `tile`.
            unsafe { crate::scan::scan_f16::<$vector>(rows, width, queries, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn block_bf16(args: &crate::reduced::BlockArgs) {
            // SAFETY: as in `tile`.
            unsafe { crate::reduced::block_bf16_by_widening::<$vector, $bf16_rows, $bf16_vectors>(args) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn finish_block(args: &crate::reduced::FinishBlock<'_>) {
            // SAFETY: as in `tile`.
            unsafe { crate::reduced::finish_block::<$vector>(args) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn pack_row_bf16(row: &[f32], out: *mut u8) {
            // SAFETY: as in `tile`.
            unsafe { crate::reduced::pack_row_bf16::<$vector>(row, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn unpack_row_bf16(row: *const u8, out: &mut [f32]) {
            // SAFETY: as in `tile`.
            unsafe { crate::reduced::unpack_row_bf16::<$vector>(row, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn quantize_row(
            row: crate::reduced::AnyRow<'_>,
            smoothing: Option<&[f32]>,
            out: *mut u8,
        ) -> crate::reduced::RowScale {
            // SAFETY: as in `tile`.
            unsafe { crate::reduced::quantize_row::<$vector>(row, smoothing, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn softmax_bf16(row: &[f32], scale: f32, out: *mut u8) -> f32 {
            // SAFETY: as in `tile`.
            unsafe { crate::reduced::softmax_bf16::<$vector>(row, scale, out) }
        }
        $(#[target_feature(enable = $feature)])*
        unsafe fn peak(steps: usize) -> f32 {
            // SAFETY: as in `tile`.
            unsafe { crate::gemm::peak::<$vector, $mr, $nv>(steps) }
        }

        crate::backward::instantiate_backward!($vector, [$($feature),*]);

        /// The table of this instruction set, on which a level with further instructions builds. It
        /// may be used only where the processor has it.
        pub(crate) const TABLE: Kernels = Kernels {
            isa: $isa,
            mr: $mr,
            nv: $nv,
            tiles: &[$(&[$(tile::<$m, $v>),+]),+],
            finish,
            activate,
            softmax_weights,
            scale,
            layer_norm,
            add,
            dot,
            scan_f16,
            peak,
            backward: BACKWARD,
            reduced: crate::reduced::Table {
                block_bf16,
                block_i8: $block_i8,
                finish: finish_block,
                pack_row: pack_row_bf16,
                pack_weight_row: pack_row_bf16,
                unpack_row: unpack_row_bf16,
                quantize_row,
                softmax: softmax_bf16,
                enter: crate::reduced::nothing,
                leave: crate::reduced::nothing,
                k_steps: 8,
                peak_bf16: None,
                peak_i8: None,
            },
        };
    };
}
pub(crate) use instantiate;
