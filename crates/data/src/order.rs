//! The order of an epoch: a permutation that is computed, not stored.
//!
//! A Feistel network over the grid of ⌈√n⌉ columns permutes numbers below a little more than n; numbers that
//! fall outside are sent through again until they fall inside (cycle walking), which keeps it a permutation.
//! A rotation follows, since a Feistel network of an even grid makes even permutations only.
//!
//! # Source
//! Black, Rogaway: Ciphers with arbitrary finite domains (CT-RSA 2002), sections 3 (cycle walking) and 4
//! (generalised Feistel).

use serde::{Deserialize, Serialize};

use crate::philox::philox2x64;

/// Rounds of the network. More than large n need; the tests below measure that small n are served too.
const ROUNDS: u64 = 12;

/// Which sample stands where, for every epoch of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    len: u64,
    seed: u64,
    shuffle: bool,
}

impl Order {
    /// The order of a dataset of `len` samples; without `shuffle` it is the dataset's own in every epoch.
    pub fn new(len: u64, seed: u64, shuffle: bool) -> Self {
        Self { len, seed, shuffle }
    }

    /// Samples in an epoch.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of the sample at a position of an epoch, both from 0.
    ///
    /// # Panics
    /// If `position` is not below `len`.
    pub fn sample(&self, epoch: u64, position: u64) -> u64 {
        assert!(position < self.len, "position {position} of an epoch of {}", self.len);
        if self.shuffle {
            Permutation::new(self.len, self.seed, epoch).at(position)
        } else {
            position
        }
    }

    /// `(epoch, position, sample)` from this position on, without end; nothing if there is no sample.
    pub fn walk(self, epoch: u64, position: u64) -> impl Iterator<Item = (u64, u64, u64)> + Send {
        let first = (epoch, Permutation::new(self.len, self.seed, epoch), position);
        let mut at = (!self.is_empty()).then_some(first);
        std::iter::from_fn(move || {
            let (epoch, permutation, position) = at.as_mut()?;
            if *position >= self.len {
                (*epoch, *position) = (*epoch + 1, 0);
                *permutation = Permutation::new(self.len, self.seed, *epoch);
            }
            let sample = if self.shuffle { permutation.at(*position) } else { *position };
            let item = (*epoch, *position, sample);
            *position += 1;
            Some(item)
        })
    }
}

/// A permutation of the numbers below n, as a function of a seed and an epoch.
#[derive(Clone, Copy, Debug)]
pub struct Permutation {
    len: u64,
    /// The grid: `columns · rows ≥ len`.
    columns: u64,
    rows: u64,
    key: u64,
    rotation: u64,
}

impl Permutation {
    /// The permutation of `len` numbers for this seed and epoch.
    pub fn new(len: u64, seed: u64, epoch: u64) -> Self {
        // Rounded up: a grid of one column could only rotate.
        let columns = len.saturating_sub(1).isqrt() + 1;
        let rows = len.div_ceil(columns).max(1);
        let [key, rotation] = philox2x64([epoch, 0], seed);
        Self { len, columns, rows, key, rotation: rotation % len.max(1) }
    }

    /// Where `position` is sent.
    ///
    /// # Panics
    /// If `position` is not below `len`.
    pub fn at(&self, position: u64) -> u64 {
        assert!(position < self.len, "position {position} of {}", self.len);
        let mut number = self.step(position);
        while number >= self.len {
            number = self.step(number);
        }
        // In u128: the sum of two numbers below len may pass 2^64.
        ((u128::from(number) + u128::from(self.rotation)) % u128::from(self.len)) as u64
    }

    /// One pass through the network: a permutation of the whole grid.
    fn step(&self, number: u64) -> u64 {
        let (mut row, mut column) = (number / self.columns, number % self.columns);
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                row = self.shifted(row, column, round, self.rows);
            } else {
                column = self.shifted(column, row, round, self.columns);
            }
        }
        row * self.columns + column
    }

    /// `value` moved on, modulo `size`, by a random amount that depends on `other`.
    fn shifted(&self, value: u64, other: u64, round: u64, size: u64) -> u64 {
        let random = philox2x64([other, round], self.key)[0] % size;
        ((u128::from(value) + u128::from(random)) % u128::from(size)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn every_number_occurs_once(len in 1u64..3000, seed: u64, epoch in 0u64..1000) {
            let permutation = Permutation::new(len, seed, epoch);
            let mut seen: Vec<u64> = (0..len).map(|position| permutation.at(position)).collect();
            seen.sort_unstable();
            prop_assert!(seen.into_iter().eq(0..len));
        }

        #[test]
        fn large_numbers_stay_inside_and_apart(len in 1u64 << 20..=u64::MAX, seed: u64, at: u64) {
            let permutation = Permutation::new(len, seed, 0);
            let (a, b) = (at % len, at.wrapping_add(1) % len);
            prop_assert!(permutation.at(a) < len);
            prop_assert_eq!(a == b, permutation.at(a) == permutation.at(b));
        }

        #[test]
        fn an_order_may_be_entered_anywhere(len in 1u64..50, seed: u64, start in 0u64..200, shuffle: bool) {
            let order = Order::new(len, seed, shuffle);
            let whole: Vec<_> = order.walk(0, 0).skip(start as usize).take(120).collect();
            let entered: Vec<_> = order.walk(start / len, start % len).take(120).collect();
            prop_assert_eq!(&whole, &entered);
            for (epoch, position, sample) in entered {
                prop_assert_eq!(sample, order.sample(epoch, position));
            }
        }
    }

    /// All orders of a few numbers come about equally often. 99.99 % bounds of chi squared for n! - 1
    /// degrees of freedom.
    #[test]
    fn all_orders_are_equally_likely() {
        for (len, orders, bound) in [(3u64, 6u32, 25.7), (4, 24, 56.0), (5, 120, 183.0)] {
            let draws = 200 * orders;
            let mut counts: BTreeMap<Vec<u64>, u32> = BTreeMap::new();
            for epoch in 0..u64::from(draws) {
                let permutation = Permutation::new(len, 11, epoch);
                *counts.entry((0..len).map(|p| permutation.at(p)).collect()).or_default() += 1;
            }
            assert_eq!(counts.len(), orders as usize, "n = {len}");
            let chi: f64 = counts.values().map(|&n| (f64::from(n) - 200.0).powi(2) / 200.0).sum();
            assert!(chi < bound, "n = {len}: {chi}");
        }
    }

    /// Where a number goes is uniform, and neighbours do not stay neighbours.
    #[test]
    fn large_orders_look_random() {
        let len = 100_000;
        let permutation = Permutation::new(len, 5, 3);
        let order: Vec<u64> = (0..len).map(|position| permutation.at(position)).collect();
        let mean = |values: &[u64]| values.iter().sum::<u64>() as f64 / values.len() as f64;
        // 5 standard errors of the mean of 10,000 draws.
        let error = 5.0 * len as f64 / 12f64.sqrt() / 100.0;
        for part in order.chunks(10_000) {
            assert!((mean(part) - len as f64 / 2.0).abs() < error);
        }
        let close = order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 100).count();
        // Expected 200; Poisson with 5 standard deviations.
        assert!((130..270).contains(&close), "{close}");
        let fixed = order.iter().enumerate().filter(|&(p, &n)| p as u64 == n).count();
        assert!(fixed < 10, "{fixed}");
    }

    #[test]
    fn epochs_and_seeds_differ_and_identity_does_not() {
        let list = |seed, epoch, shuffle| -> Vec<u64> {
            (0..100).map(|p| Order::new(100, seed, shuffle).sample(epoch, p)).collect()
        };
        assert_ne!(list(1, 0, true), list(1, 1, true));
        assert_ne!(list(1, 0, true), list(2, 0, true));
        assert_eq!(list(1, 0, true), list(1, 0, true));
        assert!(list(1, 4, false).into_iter().eq(0..100));
    }

    #[test]
    fn an_empty_order_has_no_sample() {
        assert_eq!(Order::new(0, 1, true).walk(0, 0).next(), None);
    }
}
