//! 95 % intervals by the bootstrap: how much a figure would move had other items been drawn.
//!
//! # Source
//! Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3: the percentile
//! interval. Draws come from a counter, not from a state, so they do not depend on threads.

use crate::Scorer;

/// The share of resamples that an interval covers.
pub const CONFIDENCE: f64 = 0.95;

/// How intervals are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// How often the items are drawn anew; 0 for no intervals.
    pub resamples: usize,
    /// Of the draws; the same seed gives the same intervals.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 1_000, seed: 0 }
    }
}

impl Bootstrap {
    /// An interval for each of the figures that `figures` makes of the sums of all items' columns. The
    /// items of each group are drawn among themselves. `None` without resamples, or for a group without
    /// items.
    pub(crate) fn intervals<const COLUMNS: usize, const FIGURES: usize>(
        self,
        scorer: &Scorer,
        groups: &[Vec<[f32; COLUMNS]>],
        figures: impl Fn(&[f64; COLUMNS]) -> [f64; FIGURES] + Sync,
    ) -> Option<[[f64; 2]; FIGURES]> {
        if self.resamples == 0 || groups.is_empty() || groups.iter().any(Vec::is_empty) {
            return None;
        }
        let resamples = scorer.map(self.resamples, &|resample| {
            let stream = mix(self.seed ^ mix(resample as u64));
            let mut sums = [0.0; COLUMNS];
            for (group, items) in groups.iter().enumerate() {
                // Groups have fewer than 2^32 items, so no two draws have one number.
                let stream = stream.wrapping_add((group as u64) << 32);
                for draw in 0..items.len() {
                    let random = u128::from(mix(stream.wrapping_add(draw as u64)));
                    // Below the number of items: the upper half of the product.
                    let item = &items[((random * items.len() as u128) >> 64) as usize];
                    sums.iter_mut().zip(item).for_each(|(sum, &value)| *sum += f64::from(value));
                }
            }
            figures(&sums)
        });
        Some(std::array::from_fn(|figure| {
            let mut values: Vec<f64> = resamples.iter().map(|values| values[figure]).collect();
            values.sort_unstable_by(f64::total_cmp);
            let tail = (1.0 - CONFIDENCE) / 2.0;
            [quantile(&values, tail), quantile(&values, 1.0 - tail)]
        }))
    }
}

/// The 95 % interval of a share of `count` independent trials.
///
/// # Source
/// Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
pub fn wilson(share: f64, count: u64) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    let n = count.max(1) as f64;
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    [middle - half, middle + half].map(|end| (end / (1.0 + Z * Z / n)).clamp(0.0, 1.0))
}

/// The `share` quantile of sorted values, between two of them by proportion.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let weight = place - below as f64;
    sorted[below] + (sorted[above] - sorted[below]) * weight
}

/// SplitMix64's step and finalizer: a random number of each number.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_numpys() {
        let values: Vec<f64> = (0..=10).map(f64::from).collect();
        assert_eq!(quantile(&values, 0.0), 0.0);
        assert_eq!(quantile(&values, 0.25), 2.5);
        assert_eq!(quantile(&values, 1.0), 10.0);
        assert_eq!(quantile(&[7.0], 0.975), 7.0);
    }

    #[test]
    fn the_interval_of_a_share_is_as_wide_as_theory_says() {
        // 400 items, 100 hits: the standard error is sqrt(0.25 · 0.75 / 400) = 0.0217.
        let items: Vec<[f32; 1]> = (0..400).map(|item| [f32::from(item % 4 == 0)]).collect();
        let share = |sums: &[f64; 1]| [sums[0] / 400.0];
        let bootstrap = Bootstrap { resamples: 4_000, seed: 3 };
        let groups = [items];
        let [[low, high]] = bootstrap.intervals(&Scorer::new(2), &groups, share).unwrap();
        assert!((low - (0.25 - 1.96 * 0.0217)).abs() < 0.005, "{low}");
        assert!((high - (0.25 + 1.96 * 0.0217)).abs() < 0.005, "{high}");
        // The seed decides, the threads do not.
        let again = bootstrap.intervals(&Scorer::new(1), &groups, share);
        assert_eq!(again, Some([[low, high]]));
        let other = Bootstrap { seed: 4, ..bootstrap };
        assert_ne!(other.intervals(&Scorer::new(1), &groups, share), again);
    }

    #[test]
    fn groups_are_drawn_apart() {
        // Two groups of the same items: drawn together their difference would always be zero.
        let of = |column: usize| -> Vec<[f32; 2]> {
            let item = |n: usize| {
                let mut item = [0.0; 2];
                item[column] = f32::from(u8::from(n.is_multiple_of(4)));
                item
            };
            (0..400).map(item).collect()
        };
        let difference = |sums: &[f64; 2]| [(sums[0] - sums[1]) / 400.0];
        let bootstrap = Bootstrap { resamples: 2_000, seed: 1 };
        let groups = [of(0), of(1)];
        let [[low, high]] = bootstrap.intervals(&Scorer::new(2), &groups, difference).unwrap();
        // Independent: the root of two times 0.0217.
        assert!((high - 1.96 * 0.0306).abs() < 0.008 && (low + 1.96 * 0.0306).abs() < 0.008);
    }

    #[test]
    fn an_interval_of_a_share_by_hand() {
        // 10 of 100: (0.1 + 0.0192073 ± 1.959964 · sqrt(0.0009 + 0.0000960)) / 1.0384146.
        let [low, high] = wilson(0.1, 100);
        assert!((low - 0.055_229).abs() < 1e-6 && (high - 0.174_366).abs() < 1e-6, "{low} {high}");
        assert!(wilson(0.0, 50)[0].abs() < 1e-12);
    }

    #[test]
    fn without_resamples_or_items_there_is_no_interval() {
        let scorer = Scorer::new(1);
        let none = Bootstrap { resamples: 0, seed: 0 };
        assert_eq!(none.intervals(&scorer, &[vec![[1.0]]], |sums| *sums), None);
        let empty = |groups: &[Vec<[f32; 1]>]| {
            Bootstrap::default().intervals(&scorer, groups, |sums: &[f64; 1]| *sums)
        };
        assert_eq!((empty(&[]), empty(&[vec![[1.0]], vec![]])), (None, None));
    }
}
