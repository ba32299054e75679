//! The shared cases of the kernel tests (feature `testing`).
//!
//! A test states an operation once, its expected values (from [`crate::reference`]) and a bound of
//! the error; [`Runner::check`] runs it on every instruction set and on one and three threads,
//! holds each result against the bound, and holds all of them against each other bit for bit. An
//! instruction set that this processor lacks is named on the standard output.

use crate::{Isa, Kernels, Pool};

/// Runs an operation on every level and thread count.
pub struct Runner {
    pools: [Pool; 2],
    kernels: Vec<&'static Kernels>,
}

/// How far a value may be from the expected one.
pub enum Bound {
    /// At most this, absolutely.
    Absolute(f64),
    /// At most this times `max(1, |expected|)`.
    Relative(f64),
    /// At most this, for each value its own.
    Each(Vec<f64>),
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner {
    /// A runner over the levels of this processor; prints those it lacks.
    #[allow(clippy::print_stdout, reason = "a skipped case must be seen in the test's output")]
    pub fn new() -> Self {
        let mut kernels = Vec::new();
        for isa in Isa::ALL {
            match Kernels::for_isa(isa) {
                Some(found) => kernels.push(found),
                None => println!("skipped: {isa} not present"),
            }
        }
        Runner { pools: [Pool::new(1), Pool::new(3)], kernels }
    }

    /// The levels that are run.
    pub fn kernels(&self) -> &[&'static Kernels] {
        &self.kernels
    }

    /// Runs `op` everywhere and gives back its result, which is the same everywhere.
    ///
    /// # Panics
    /// Panics, with `name` and the place, where a result is out of bound or differs between
    /// levels or thread counts. A NaN must be a NaN, an infinity the same infinity.
    pub fn check(
        &self,
        name: &str,
        expected: &[f32],
        bound: &Bound,
        op: &dyn Fn(&Kernels, &Pool) -> Vec<f32>,
    ) -> Vec<f32> {
        let result = self.same_bits(name, op);
        assert_close(name, &result, expected, bound);
        result
    }

    /// Runs `op` everywhere, for operations whose bits may differ between levels: holds each level
    /// against the bound, and its thread counts against each other bit for bit.
    ///
    /// # Panics
    /// As [`Runner::check`].
    pub fn check_each(
        &self,
        name: &str,
        expected: &[f32],
        bound: &Bound,
        op: &dyn Fn(&Kernels, &Pool) -> Vec<f32>,
    ) {
        for kernels in &self.kernels {
            let name = format!("{name}, {}", kernels.isa());
            let first = op(kernels, &self.pools[0]);
            assert_close(&name, &first, expected, bound);
            for pool in &self.pools[1..] {
                assert_same_bits(&name, &op(kernels, pool), &first);
            }
        }
    }

    /// Runs `op` everywhere and gives back its result, which is the same everywhere.
    ///
    /// # Panics
    /// Panics, with `name` and the place, where two results differ.
    pub fn same_bits(&self, name: &str, op: &dyn Fn(&Kernels, &Pool) -> Vec<f32>) -> Vec<f32> {
        let mut first: Option<Vec<f32>> = None;
        for kernels in &self.kernels {
            for pool in &self.pools {
                let result = op(kernels, pool);
                let name = format!("{name}, {}, {} threads", kernels.isa(), pool.threads());
                match &first {
                    Some(first) => assert_same_bits(&name, &result, first),
                    None => first = Some(result),
                }
            }
        }
        first.unwrap_or_default()
    }
}

/// Holds two results against each other bit for bit; any NaN equals any NaN.
///
/// # Panics
/// Panics, with `name` and the place, where they differ.
pub fn assert_same_bits(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}: lengths");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        let same = a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        assert!(same, "{name}: value {i} is {a:e}, expected {b:e} bit for bit");
    }
}

/// Holds a result against expected values.
///
/// # Panics
/// Panics, with `name` and the worst place, where a value is out of bound.
pub fn assert_close(name: &str, found: &[f32], expected: &[f32], bound: &Bound) {
    assert_eq!(found.len(), expected.len(), "{name}: lengths");
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        let within = match bound {
            Bound::Absolute(bound) => *bound,
            Bound::Relative(bound) => bound * f64::from(b).abs().max(1.0),
            Bound::Each(bounds) => bounds[i],
        };
        let close = if b.is_finite() {
            (f64::from(a) - f64::from(b)).abs() <= within
        } else {
            a == b || (a.is_nan() && b.is_nan())
        };
        assert!(close, "{name}: value {i} is {a:e}, expected {b:e} within {within:e}");
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub struct Random(u64);

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn next_bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A value in [-1, 1), uniform.
    pub fn value(&mut self) -> f32 {
        (self.next_bits() >> 40) as f32 / (1u32 << 23) as f32 - 1.0
    }

    /// `len` values in [-1, 1).
    pub fn values(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value()).collect()
    }

    /// `len` values of very different size, which cancel in sums: ±10^-6 … ±10^6.
    pub fn hostile(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.value() * 10f32.powi((self.next_bits() % 13) as i32 - 6)).collect()
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next_bits() % end as u64) as usize
    }
}

/// Lengths around every vector and tile size: 0–66, and about 96, 128 and 256.
pub fn lengths() -> impl Iterator<Item = usize> {
    (0..=66).chain([95, 96, 97, 127, 128, 129, 130, 255, 256, 257])
}

/// A copy of `values` that begins one value behind a boundary, and the offset at which it begins.
pub fn unaligned(values: &[f32]) -> (Vec<f32>, usize) {
    let mut shifted = vec![f32::NAN];
    shifted.extend_from_slice(values);
    (shifted, 1)
}
