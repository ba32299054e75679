//! One bit a dimension: rows that are read sixteen times faster than `f16`, and from which a dot product
//! is estimated without bias.
//!
//! A row less the mean of all rows is turned by an orthogonal transform that looks random, so that no
//! dimension matters more than others; the signs of what comes out are kept, with one factor that makes
//! the estimate right on average. The query is turned too and written in a few bits a dimension.
//!
//! # Source
//! Gao and Long, "RaBitQ", SIGMOD 2024, arXiv 2405.12497: the estimator and its error. The transform here
//! is three rounds of sign changes and Hadamard transforms (Andoni et al., arXiv 1509.02897).

use altclip_kernels::nibbles::TABLE;

/// Bits in which a dimension of a query is written: four of them are below 128, as a table's entry is.
const BITS: u32 = 5;
/// Dimensions whose signs are one code.
const CODE: usize = 4;
const ROUNDS: usize = 3;

/// An orthogonal transform of vectors of one width, filled up to whole words of bits.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    padded: usize,
    block: usize,
}

impl Rotation {
    pub(crate) fn new(width: usize) -> Self {
        let padded = width.next_multiple_of(64).max(64);
        Self { padded, block: 1 << padded.trailing_zeros() }
    }

    /// Bytes of a row's signs.
    pub(crate) fn bytes(&self) -> usize {
        self.padded / 8
    }

    /// The transform of `x`.
    pub(crate) fn turn(&self, x: &[f32]) -> Vec<f32> {
        let mut values = x.to_vec();
        values.resize(self.padded, 0.0);
        let scale = 1.0 / (self.block as f32).sqrt();
        let blocks = self.padded / self.block;
        for round in 0..ROUNDS {
            for (i, value) in values.iter_mut().enumerate() {
                if is_negative(round, i) {
                    *value = -*value;
                }
            }
            for block in values.chunks_exact_mut(self.block) {
                hadamard(block);
            }
            // Blocks are dealt out, so that the next round mixes them.
            let dealt = |i: usize| values[i % blocks * self.block + i / blocks] * scale;
            values = (0..self.padded).map(dealt).collect();
        }
        values
    }
}

/// A sign that looks random.
fn is_negative(round: usize, i: usize) -> bool {
    let mut z = (round as u64) << 32 | i as u64;
    z = (z ^ (z >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) & 1 == 1
}

/// The Hadamard transform without its scale; the length is a power of two.
fn hadamard(values: &mut [f32]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (low, high) = pair.split_at_mut(half);
            for (a, b) in low.iter_mut().zip(high) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        half *= 2;
    }
}

/// What is kept of a row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sketch {
    /// The signs, a set bit for a positive one.
    pub(crate) bits: Vec<u8>,
    /// What the sum of signed query values is multiplied by.
    pub(crate) gain: f32,
    /// Number of set bits.
    pub(crate) ones: u32,
}

/// The sketch of a row less the mean.
pub(crate) fn sketch(rotation: &Rotation, centred: &[f32]) -> Sketch {
    let turned = rotation.turn(centred);
    let byte = |values: &[f32]| {
        values.iter().enumerate().fold(0, |byte, (i, &x)| byte | u8::from(x > 0.0) << i)
    };
    let bits: Vec<u8> = turned.chunks(8).map(byte).collect();
    let squares: f64 = turned.iter().map(|&x| f64::from(x).powi(2)).sum();
    let sizes: f64 = turned.iter().map(|&x| f64::from(x.abs())).sum();
    let gain = if sizes > 0.0 { (squares / sizes) as f32 } else { 0.0 };
    let ones = bits.iter().map(|byte| byte.count_ones()).sum();
    Sketch { bits, gain, ones }
}

/// A query in whole numbers of a few bits.
pub(crate) struct Tables {
    /// What the numbers of four dimensions with a set bit add up to, for each code: `[padded / 4, 16]`.
    pub(crate) sums: Vec<u8>,
    low: f32,
    step: f32,
    sum: f32,
    /// The dot product of the query and the mean.
    base: f32,
}

impl Tables {
    pub(crate) fn new(rotation: &Rotation, query: &[f32], mean: &[f32]) -> Self {
        let turned = rotation.turn(query);
        let low = turned.iter().copied().fold(f32::INFINITY, f32::min);
        let high = turned.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let levels = ((1u32 << BITS) - 1) as f32;
        let step = ((high - low) / levels).max(f32::MIN_POSITIVE);
        let number = |&x: &f32| ((x - low) / step).round().clamp(0.0, levels) as u8;
        let numbers: Vec<u8> = turned.iter().map(number).collect();
        // Of the numbers as they are written, or the estimate would lean to one side.
        let sum = numbers.iter().map(|&number| step.mul_add(f32::from(number), low)).sum();
        let of_code = |four: &[u8], code: usize| -> u8 {
            four.iter()
                .enumerate()
                .filter(|(i, _)| code >> i & 1 == 1)
                .map(|(_, number)| number)
                .sum()
        };
        let fours = numbers.chunks(CODE);
        let sums = fours.flat_map(|four| (0..TABLE).map(move |code| of_code(four, code))).collect();
        let base = query.iter().zip(mean).map(|(q, m)| q * m).sum();
        Self { sums, low, step, sum, base }
    }

    /// The estimate for a row whose codes pick entries of this sum.
    pub(crate) fn estimate(&self, count: u32, gain: f32, ones: u32) -> f32 {
        let positive = self.step * count as f32 + self.low * ones as f32;
        gain.mul_add(2.0 * positive - self.sum, self.base)
    }
}

/// The standard error of an estimate, as a share of the lengths of query and centred row.
///
/// # Source
/// RaBitQ, theorem 3.2, with the expected cosine √(2/π) between a vector and its signs.
pub(crate) fn standard_error(rotation: &Rotation) -> f32 {
    let cosine_squared = std::f32::consts::FRAC_2_PI;
    ((1.0 - cosine_squared) / (cosine_squared * (rotation.padded - 1) as f32)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, len: usize) -> Vec<f32> {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
        let mut next = || {
            z = z.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (z >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..len).map(|_| (0..4).map(|_| next()).sum()).collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn the_transform_keeps_dot_products() {
        for width in [1, 63, 64, 100, 512, 768, 1024] {
            let rotation = Rotation::new(width);
            let (a, b) = (numbers(1, width), numbers(2, width));
            let turned = dot(&rotation.turn(&a), &rotation.turn(&b));
            assert!((turned - dot(&a, &b)).abs() < 1e-3 * width as f32, "{width}");
            // One dimension is spread over all.
            let mut one = vec![0.0; width];
            one[0] = 1.0;
            let largest = rotation.turn(&one).iter().fold(0.0f32, |m, x| m.max(x.abs()));
            assert!(width < 64 || largest < 0.7, "{width}: {largest}");
        }
    }

    #[test]
    fn estimates_are_right_on_average_and_as_far_off_as_said() {
        let width = 768;
        let rotation = Rotation::new(width);
        let mean = numbers(3, width).iter().map(|x| x * 0.1).collect::<Vec<_>>();
        let query = numbers(4, width);
        let tables = Tables::new(&rotation, &query, &mean);
        let (mut sum, mut squares) = (0.0, 0.0);
        let rows = 2000;
        for n in 0..rows {
            let row = numbers(10 + n, width);
            let centred: Vec<f32> = row.iter().zip(&mean).map(|(x, m)| x - m).collect();
            let Sketch { bits, gain, ones } = sketch(&rotation, &centred);
            let codes = bits.iter().flat_map(|byte| [byte & 15, byte >> 4]);
            let picked = codes.zip(tables.sums.chunks_exact(TABLE));
            let count = picked.map(|(code, table)| u32::from(table[code as usize])).sum();
            let scale = dot(&centred, &centred).sqrt() * dot(&query, &query).sqrt();
            let error = (tables.estimate(count, gain, ones) - dot(&row, &query)) / scale;
            sum += f64::from(error);
            squares += f64::from(error).powi(2);
        }
        let (bias, spread) = (sum / rows as f64, (squares / rows as f64).sqrt());
        let said = f64::from(standard_error(&rotation));
        assert!(bias.abs() < 4.0 * said / (rows as f64).sqrt(), "bias {bias}");
        assert!((0.8..1.2).contains(&(spread / said)), "{spread} against {said}");
    }
}
