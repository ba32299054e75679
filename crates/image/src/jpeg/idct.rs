//! The inverse cosine transform of libjpeg's accurate integer method, bit for bit.
//!
//! Loeffler, Ligtenberg and Moschytz' algorithm with 13-bit constants, columns first, 2 extra bits
//! between the passes. Sums wrap where damaged data would overflow them.
//!
//! # Source
//! libjpeg-turbo 3.1, `jidctint.c`, `jpeg_idct_islow`.

use fearless_simd::prelude::*;
use fearless_simd::{i8x16, i16x16, i32x8, u8x16};

use super::block::Block;

const CONST_BITS: u32 = 13;
const PASS1_BITS: u32 = 2;

/// Constants of the transform, times 2^13 and rounded.
const F_0_298: i32 = 2446;
const F_0_390: i32 = 3196;
const F_0_541: i32 = 4433;
const F_0_765: i32 = 6270;
const F_0_899: i32 = 7373;
const F_1_175: i32 = 9633;
const F_1_501: i32 = 12299;
const F_1_847: i32 = 15137;
const F_1_961: i32 = 16069;
const F_2_053: i32 = 16819;
const F_2_562: i32 = 20995;
const F_3_072: i32 = 25172;

/// Writes the 8 x 8 samples of `block` to `out`, rows `stride` apart; `last` is the place of its last
/// coefficient in the order of the file, or any later one.
#[inline(always)]
pub(super) fn idct<S: Simd>(
    simd: S,
    block: &Block,
    quant: &Block,
    last: usize,
    out: &mut [u8],
    stride: usize,
) {
    if last == 0 {
        // A flat block: both passes come down to this.
        let value = i32::from(block[0].wrapping_mul(quant[0])).wrapping_shl(PASS1_BITS);
        let sample = ((value.wrapping_add(16) >> (PASS1_BITS + 3)) + 128).clamp(0, 255) as u8;
        write(out, stride, [[sample; 8]; 8]);
        return;
    }
    let rows = |i: usize| -> [i32x8<S>; 2] {
        let values = i16x16::from_slice(simd, &block[16 * i..16 * i + 16])
            * i16x16::from_slice(simd, &quant[16 * i..16 * i + 16]);
        simd.widen_i16x16(values).into()
    };
    let ([r0, r1], [r2, r3], [r4, r5], [r6, r7]) = (rows(0), rows(1), rows(2), rows(3));
    let columns = pass::<S, { CONST_BITS - PASS1_BITS }>(simd, [r0, r1, r2, r3, r4, r5, r6, r7]);
    let rows = transpose(simd, columns);
    let columns = pass::<S, { CONST_BITS + PASS1_BITS + 3 }>(simd, rows);
    // Two roundings to fewer bits with saturation do what a clamp does: -128..=127, then 128 more.
    let narrow = |a: i32x8<S>, b: i32x8<S>| {
        let ((a0, a1), (b0, b1)) = (simd.split_i32x8(a), simd.split_i32x8(b));
        let (a, b) = (simd.saturating_narrow_i32x4(a0, a1), simd.saturating_narrow_i32x4(b0, b1));
        simd.saturating_narrow_i16x8(a, b)
    };
    let [c0, c1, c2, c3, c4, c5, c6, c7] = columns;
    let columns = [narrow(c0, c1), narrow(c2, c3), narrow(c4, c5), narrow(c6, c7)];
    // Three perfect shuffles of all 64 samples transpose them.
    let shuffle = |[a, b, c, d]: [i8x16<S>; 4]| {
        let ((a, b), (c, d)) = (simd.interleave_i8x16(a, c), simd.interleave_i8x16(b, d));
        [a, b, c, d]
    };
    let rows = shuffle(shuffle(shuffle(columns)));
    let mut samples = [[0u8; 8]; 8];
    for (target, rows) in samples.as_flattened_mut().as_chunks_mut().0.iter_mut().zip(rows) {
        let bytes: u8x16<S> = rows.bitcast();
        *target = (bytes ^ 0x80).into();
    }
    write(out, stride, samples);
}

#[inline(always)]
fn write(out: &mut [u8], stride: usize, samples: [[u8; 8]; 8]) {
    for (target, row) in out.chunks_mut(stride).zip(samples) {
        if let Some(target) = target.first_chunk_mut() {
            *target = row;
        }
    }
}

/// Rows as columns: three perfect shuffles of all 64 values.
#[inline(always)]
fn transpose<S: Simd>(simd: S, mut rows: [i32x8<S>; 8]) -> [i32x8<S>; 8] {
    for _ in 0..3 {
        let [a, b, c, d, e, f, g, h] = rows;
        let (a, b, c, d, e, f, g, h) = {
            let (p, q) = (simd.interleave_i32x8(a, e), simd.interleave_i32x8(b, f));
            let (r, s) = (simd.interleave_i32x8(c, g), simd.interleave_i32x8(d, h));
            (p.0, p.1, q.0, q.1, r.0, r.1, s.0, s.1)
        };
        rows = [a, b, c, d, e, f, g, h];
    }
    rows
}

/// One direction of eight transforms side by side, shifted right by `SHIFT` and rounded.
#[inline(always)]
fn pass<S: Simd, const SHIFT: u32>(simd: S, input: [i32x8<S>; 8]) -> [i32x8<S>; 8] {
    let [i0, i1, i2, i3, i4, i5, i6, i7] = input;
    // Even part.
    let z1 = (i2 + i6) * F_0_541;
    let t2 = z1 - i6 * F_1_847;
    let t3 = z1 + i2 * F_0_765;
    let half = i32x8::splat(simd, 1 << (SHIFT - 1));
    let t0 = ((i0 + i4) << CONST_BITS) + half;
    let t1 = ((i0 - i4) << CONST_BITS) + half;
    let (e0, e1, e2, e3) = (t0 + t3, t1 + t2, t1 - t2, t0 - t3);
    // Odd part.
    let (z1, z2, z3, z4) = (i7 + i1, i5 + i3, i7 + i3, i5 + i1);
    let z5 = (z3 + z4) * F_1_175;
    let (z1, z2) = (z1 * -F_0_899, z2 * -F_2_562);
    let (z3, z4) = (z3 * -F_1_961 + z5, z4 * -F_0_390 + z5);
    let o3 = i7 * F_0_298 + (z1 + z3);
    let o2 = i5 * F_2_053 + (z2 + z4);
    let o1 = i3 * F_3_072 + (z2 + z3);
    let o0 = i1 * F_1_501 + (z1 + z4);
    // Written out, as the closure of a `map` would become a call.
    [
        (e0 + o0) >> SHIFT,
        (e1 + o1) >> SHIFT,
        (e2 + o2) >> SHIFT,
        (e3 + o3) >> SHIFT,
        (e3 - o3) >> SHIFT,
        (e2 - o2) >> SHIFT,
        (e1 - o1) >> SHIFT,
        (e0 - o0) >> SHIFT,
    ]
}

#[cfg(test)]
mod tests {
    use fearless_simd::{Level, dispatch};

    use super::*;

    /// The transform of one block on one instruction set.
    fn samples(level: Level, block: &Block, quant: &Block, last: usize) -> [u8; 64] {
        let mut out = [0; 64];
        dispatch!(level, simd => idct(simd, block, quant, last, &mut out, 8));
        out
    }

    /// Every instruction set that this machine has.
    fn levels() -> Vec<Level> {
        let best = Level::new();
        let mut levels = vec![best, Level::baseline()];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(best.as_avx2().map(|simd| simd.level()));
            levels.extend(best.as_sse4_2().map(|simd| simd.level()));
        }
        levels
    }

    /// The oracle: libjpeg's loops as they stand.
    fn reference(block: &Block, quant: &Block) -> [u8; 64] {
        let value = |i: usize| i32::from(block[i].wrapping_mul(quant[i]));
        let mut work = [0i32; 64];
        for column in 0..8 {
            let input = std::array::from_fn(|row| value(8 * row + column));
            let output = scalar_pass::<{ CONST_BITS - PASS1_BITS }>(input);
            (0..8).for_each(|row| work[8 * row + column] = output[row]);
        }
        let mut out = [0; 64];
        for row in 0..8 {
            let input = std::array::from_fn(|column| work[8 * row + column]);
            let output = scalar_pass::<{ CONST_BITS + PASS1_BITS + 3 }>(input);
            for (column, value) in output.into_iter().enumerate() {
                out[8 * row + column] = value.wrapping_add(128).clamp(0, 255) as u8;
            }
        }
        out
    }

    /// One direction of the transform, with the result shifted right by `SHIFT` and rounded.
    fn scalar_pass<const SHIFT: u32>(input: [i32; 8]) -> [i32; 8] {
        let mul = i32::wrapping_mul;
        let add = i32::wrapping_add;
        let sub = i32::wrapping_sub;
        // Even part.
        let z1 = mul(add(input[2], input[6]), F_0_541);
        let t2 = sub(z1, mul(input[6], F_1_847));
        let t3 = add(z1, mul(input[2], F_0_765));
        let t0 = add(input[0], input[4]).wrapping_shl(CONST_BITS);
        let t1 = sub(input[0], input[4]).wrapping_shl(CONST_BITS);
        let even = [add(t0, t3), add(t1, t2), sub(t1, t2), sub(t0, t3)];
        // Odd part.
        let [t0, t1, t2, t3] = [input[7], input[5], input[3], input[1]];
        let (z1, z2, z3, z4) = (add(t0, t3), add(t1, t2), add(t0, t2), add(t1, t3));
        let z5 = mul(add(z3, z4), F_1_175);
        let (z1, z2) = (mul(z1, -F_0_899), mul(z2, -F_2_562));
        let (z3, z4) = (add(mul(z3, -F_1_961), z5), add(mul(z4, -F_0_390), z5));
        let t0 = add(mul(t0, F_0_298), add(z1, z3));
        let t1 = add(mul(t1, F_2_053), add(z2, z4));
        let t2 = add(mul(t2, F_3_072), add(z2, z3));
        let t3 = add(mul(t3, F_1_501), add(z1, z4));
        let odd = [t3, t2, t1, t0];
        let half = 1 << (SHIFT - 1);
        std::array::from_fn(|i| {
            let sum = if i < 4 { add(even[i], odd[i]) } else { sub(even[7 - i], odd[7 - i]) };
            add(sum, half) >> SHIFT
        })
    }

    #[test]
    fn every_instruction_set_equals_the_loops() {
        let mut state = 2026u64;
        let mut next = || {
            state =
                state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (state >> 33) as i32
        };
        for case in 0..3000 {
            // Ordinary blocks, dense ones, and such as only damaged files have.
            let (n, size) = [(4, 60), (64, 200), (64, 2048), (64, 32_768)][case % 4];
            let mut block = [0i16; 64];
            for _ in 0..n {
                block[(next() % 64) as usize] = (next() % (2 * size) - size) as i16;
            }
            let quant = std::array::from_fn(|_| (1 + next() % 40) as i16);
            let expected = reference(&block, &quant);
            for level in levels() {
                assert_eq!(samples(level, &block, &quant, 63), expected, "{case}, {level:?}");
            }
        }
    }

    #[test]
    fn the_flat_path_equals_the_full_one() {
        for dc in [-1024i16, -77, -1, 0, 1, 5, 512, 1023] {
            let mut block = [0i16; 64];
            block[0] = dc;
            let flat = samples(Level::new(), &block, &[3; 64], 0);
            assert_eq!(flat, samples(Level::new(), &block, &[3; 64], 63), "{dc}");
        }
    }
}
