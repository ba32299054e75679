//! Gradients that are suddenly much larger than before are damped, so that one odd batch cannot spoil the optimiser's
//! second moments.
//!
//! A running mean and deviation of the gradient's norm say what is usual. A norm further above it than `limit`
//! deviations is scaled down to `mean + limit² / z · deviation`: the further it is out, the less of it is left. The
//! statistics take in what was left, so that a spike does not become what is usual.
//!
//! # Source
//! Kumar et al., ZClip, arXiv 2504.02507, algorithm 1. Here nothing is done in the first 50 updates, and a deviation
//! counts as at least a tenth of the mean, so that a steady run is not damped for small changes.

use serde::{Deserialize, Serialize};

/// Updates that only fill the statistics.
pub const SETTLING: u64 = 50;
/// Deviations above which a norm is a spike, where nothing else is said.
pub const LIMIT: f64 = 6.0;
/// How much of the running statistics stays in an update.
const MEMORY: f64 = 0.97;
/// Smallest deviation, as a share of the mean.
const LEAST_DEVIATION: f64 = 0.1;

/// What is usual so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpikeGuard {
    mean: f64,
    variance: f64,
    updates: u64,
    spikes: u64,
}

/// A norm far above what is usual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// Deviations above the mean.
    pub z: f64,
    /// What is left of the gradient, as a factor.
    pub factor: f64,
}

impl SpikeGuard {
    /// Looks at the norm of the gradients of an update, which is finite; 0 as `limit` looks at nothing.
    pub fn judge(&mut self, norm: f64, limit: f64) -> Option<Spike> {
        if limit <= 0.0 {
            return None;
        }
        let deviation = self.variance.sqrt().max(LEAST_DEVIATION * self.mean);
        let z = (norm - self.mean) / deviation;
        let is_spike = self.updates >= SETTLING && z > limit;
        let left = if is_spike { self.mean + limit * limit / z * deviation } else { norm };
        self.take_in(left);
        self.spikes += u64::from(is_spike);
        is_spike.then(|| Spike { z, factor: left / norm })
    }

    /// Spikes of the whole run.
    pub fn spikes(&self) -> u64 {
        self.spikes
    }

    fn take_in(&mut self, norm: f64) {
        // The first updates count alike, so that the start is not remembered longer than the rest.
        let memory = MEMORY.min(self.updates as f64 / (self.updates as f64 + 1.0));
        let away = norm - self.mean;
        self.mean += (1.0 - memory) * away;
        self.variance = memory * (self.variance + (1.0 - memory) * away * away);
        self.updates += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use proptest::prelude::*;

    fn norms(seed: u64, spread: f64) -> impl Fn(u64) -> f64 {
        let random = Random::named(seed, "norms");
        move |step| {
            2.0 + spread * ((random.bits(step)[0] >> 11) as f64 / (1_u64 << 53) as f64 - 0.5)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn what_is_usual_is_left_alone(seed: u64, spread in 0.0..3.0) {
            let (mut guard, norm) = (SpikeGuard::default(), norms(seed, spread));
            for step in 0..1000 {
                prop_assert_eq!(guard.judge(norm(step), LIMIT), None);
            }
        }

        #[test]
        fn a_spike_is_damped_to_less_than_the_limit(seed: u64, spread in 0.0..3.0, by in 20.0..1e6) {
            let (mut guard, norm) = (SpikeGuard::default(), norms(seed, spread));
            for step in 0..200 {
                guard.judge(norm(step), LIMIT);
            }
            let before = guard.clone();
            let spike = guard.judge(2.0 * by, LIMIT).unwrap();
            let deviation = before.variance.sqrt().max(LEAST_DEVIATION * before.mean);
            let left = spike.factor * 2.0 * by;
            prop_assert!(spike.z > LIMIT && spike.factor < 1.0);
            prop_assert!(before.mean < left && left <= before.mean + LIMIT * deviation);
            prop_assert_eq!(guard.judge(norm(200), LIMIT), None);
            prop_assert_eq!(guard.spikes(), 1);
        }
    }

    #[test]
    fn a_slow_rise_is_no_spike_and_a_limit_of_0_sees_none() {
        let (mut guard, mut off) = (SpikeGuard::default(), SpikeGuard::default());
        for step in 0..2000 {
            let norm = 1.02_f64.powi(step);
            assert_eq!(guard.judge(norm, LIMIT), None, "step {step}");
            assert_eq!(off.judge(if step == 1000 { 1e9 } else { 1.0 }, 0.0), None);
        }
    }
}
