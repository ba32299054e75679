//! Random numbers as a function of (seed, stream, index): no state, so resuming needs none.
//!
//! Philox 4x32 with ten rounds, a bijection of 128-bit counters under a 64-bit key. The seed is the
//! key; the counter holds the index in its low half and the stream in its high half. One stream
//! serves one purpose (the initial values of one tensor, the augmentation of one epoch), so that
//! what one purpose draws never moves what another gets.
//!
//! The numbers are the same on every machine: normal numbers too, since logarithm and cosine are
//! computed from correctly rounded operations (`elementary.rs`), not by the platform's library.
//!
//! # Source
//! Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

use altclip_kernels::Pool;

use crate::elementary::{cos_turns, ln};
use crate::parallel::{PIECE, map};

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;

/// One stream of random numbers, read by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Random {
    seed: u64,
    stream: u64,
}

impl Random {
    /// The stream `stream` of the seed `seed`.
    pub fn new(seed: u64, stream: u64) -> Random {
        Random { seed, stream }
    }

    /// The stream whose number is the hash (FNV-1a, 64 bits) of a name, such as a tensor's.
    pub fn named(seed: u64, name: &str) -> Random {
        let stream = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Random { seed, stream }
    }

    /// 128 random bits at `index`, as two numbers.
    pub fn bits(&self, index: u64) -> [u64; 2] {
        let low = |x: u64| x as u32;
        let high = |x: u64| (x >> 32) as u32;
        let counter = [low(index), high(index), low(self.stream), high(self.stream)];
        let [a, b, c, d] = philox(counter, [low(self.seed), high(self.seed)]).map(u64::from);
        [a | b << 32, c | d << 32]
    }

    /// A number in [0, 1) at `index`, a multiple of 2^-53.
    pub fn uniform(&self, index: u64) -> f64 {
        unit(self.bits(index)[0])
    }

    /// An integer in `0..n` at `index`. One value is likelier than another by at most `n` / 2^64.
    ///
    /// # Panics
    /// Panics if `n` is 0.
    pub fn below(&self, index: u64, n: u64) -> u64 {
        assert!(n > 0, "below: no number is below 0");
        ((u128::from(self.bits(index)[0]) * u128::from(n)) >> 64) as u64
    }

    /// A standard normal number at `index`, by the transform of Box and Muller. At most 8.6.
    pub fn normal(&self, index: u64) -> f64 {
        let [radius, angle] = self.bits(index);
        // In (0, 1], so that the logarithm is finite.
        let radius = unit(radius) + 1.0 / (1_u64 << 53) as f64;
        (-2.0 * ln(radius)).sqrt() * cos_turns(unit(angle))
    }

    /// Fills `out` with normal numbers of the standard deviation `std`: `out[i]` from index `i`.
    pub fn fill_normal(&self, pool: &Pool, std: f64, out: &mut [f32]) {
        map(pool, out.chunks_mut(PIECE).enumerate().collect(), |(piece, out)| {
            for (i, out) in out.iter_mut().enumerate() {
                *out = (std * self.normal((piece * PIECE + i) as u64)) as f32;
            }
        });
    }
}

/// The upper 53 bits as a number in [0, 1).
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let [a, b, c, d] = counter;
        let first = u64::from(a) * u64::from(MULTIPLIERS[0]);
        let second = u64::from(c) * u64::from(MULTIPLIERS[1]);
        counter = [
            (second >> 32) as u32 ^ b ^ key[0],
            second as u32,
            (first >> 32) as u32 ^ d ^ key[1],
            first as u32,
        ];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors that the paper's own code is tested with (Random123, `kat_vectors`).
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    /// These bits must never change: a run that resumes with another version relies on them.
    #[test]
    fn the_bits_of_normal_numbers_stay() {
        let random = Random::new(7, 3);
        let bits: Vec<u64> = (0..3).map(|i| random.normal(i).to_bits()).collect();
        assert_eq!(bits, [0xbffa_7c71_7545_1662, 0xbff3_bfd8_ae0e_001e, 0xbfcd_6dc6_ccc4_d509]);
    }

    #[test]
    fn normal_numbers_have_the_moments_and_tails_of_the_distribution() {
        let n = 200_000;
        let mut values = vec![0.0; n];
        Random::named(1, "weight").fill_normal(&Pool::new(2), 1.0, &mut values);
        let mean =
            |power: i32| values.iter().map(|&x| f64::from(x).powi(power)).sum::<f64>() / n as f64;
        // Four standard errors each.
        assert!(mean(1).abs() < 4.0 / (n as f64).sqrt());
        assert!((mean(2) - 1.0).abs() < 4.0 * (2.0 / n as f64).sqrt());
        assert!((mean(4) - 3.0).abs() < 4.0 * (96.0 / n as f64).sqrt());
        let beyond = values.iter().filter(|x| x.abs() > 1.959_964).count() as f64 / n as f64;
        assert!((beyond - 0.05).abs() < 4.0 * (0.05 * 0.95 / n as f64).sqrt());
    }

    #[test]
    fn uniform_numbers_fill_the_interval_evenly_and_streams_differ() {
        let random = Random::new(0, 0);
        let mut counts = [0_u32; 10];
        for i in 0..100_000 {
            let u = random.uniform(i);
            assert!((0.0..1.0).contains(&u));
            counts[random.below(i, 10) as usize] += 1;
            assert_eq!(random.below(i, 10), (u * 10.0) as u64);
        }
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 400), "{counts:?}");
        let others = [Random::new(0, 1), Random::new(1, 0), Random::named(0, "a")];
        assert!(others.iter().all(|other| other.bits(0) != random.bits(0)));
    }

    #[test]
    fn filling_does_not_depend_on_threads() {
        let fill = |threads| {
            let mut out = vec![0.0; 2 * PIECE + 5];
            Random::new(2, 9).fill_normal(&Pool::new(threads), 0.02, &mut out);
            out
        };
        assert_eq!(fill(1), fill(3));
    }
}
