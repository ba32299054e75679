//! The inverse cosine transform of libjpeg's accurate integer method, bit for bit.
//!
//! Loeffler, Ligtenberg and Moschytz' algorithm with 13-bit constants, columns first, 2 extra bits
//! between the passes. Sums wrap where damaged data would overflow them.
//!
//! # Source
//! libjpeg-turbo 3.1, `jidctint.c`, `jpeg_idct_islow`.

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

/// Writes the 8 x 8 samples of `block` to `out`, rows `stride` apart.
pub(super) fn idct(block: &Block, quant: &[u16; 64], last: usize, out: &mut [u8], stride: usize) {
    let value = |i: usize| i32::from(block[i].wrapping_mul(quant[i].cast_signed()));
    if last == 0 {
        // A flat block: both passes come down to this.
        let sample =
            to_sample(value(0).wrapping_shl(PASS1_BITS).wrapping_add(16) >> (PASS1_BITS + 3));
        for row in out.chunks_mut(stride).take(8) {
            row.iter_mut().take(8).for_each(|out| *out = sample);
        }
        return;
    }
    let mut work = [0i32; 64];
    for column in 0..8 {
        let input: [i32; 8] = std::array::from_fn(|row| value(8 * row + column));
        if input[1..] == [0; 7] {
            let flat = input[0].wrapping_shl(PASS1_BITS);
            (0..8).for_each(|row| work[8 * row + column] = flat);
            continue;
        }
        let output = pass::<{ CONST_BITS - PASS1_BITS }>(input);
        (0..8).for_each(|row| work[8 * row + column] = output[row]);
    }
    for (row, input) in out.chunks_mut(stride).zip(work.chunks_exact(8)) {
        let mut values = [0i32; 8];
        values.copy_from_slice(input);
        let output = pass::<{ CONST_BITS + PASS1_BITS + 3 }>(values);
        if let Some(target) = row.first_chunk_mut::<8>() {
            *target = output.map(to_sample);
        }
    }
}

#[inline]
fn to_sample(value: i32) -> u8 {
    value.wrapping_add(128).clamp(0, 255) as u8
}

/// One direction of the transform, with the result shifted right by `SHIFT` and rounded.
#[inline(always)]
fn pass<const SHIFT: u32>(input: [i32; 8]) -> [i32; 8] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flat_path_equals_the_full_one() {
        for dc in [-1024i16, -77, -1, 0, 1, 5, 512, 1023] {
            let mut block = [0i16; 64];
            block[0] = dc;
            let (mut flat, mut full) = ([0u8; 64], [0u8; 64]);
            idct(&block, &[3; 64], 0, &mut flat, 8);
            idct(&block, &[3; 64], 63, &mut full, 8);
            assert_eq!(flat, full, "{dc}");
        }
    }
}
