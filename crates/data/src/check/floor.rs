//! How low a contrastive loss can fall when captions repeat.
//!
//! m samples of a batch with one caption have one text embedding. The probabilities that a picture gives them are
//! equal, so its own is at most 1/m and its loss at least ln m; the other way round the m pictures share the
//! probability 1 of their text, so their mean loss is at least ln m too. A batch of B without replacement from N
//! samples, n of them with the caption of a given one, holds 1 + H of these, H hypergeometric. Hence
//!
//! floor = Σ over captions (n/N) · E ln(1 + H(N-1, n-1, B-1))
//!
//! in nats, for each of the two directions and for their mean. Some samples of a larger dataset, drawn at random, give
//! an unbiased estimate: a random batch of a random part is a random batch of the whole.
//!
//! A batch larger than the dataset goes on in the next epoch, so a sample stands in it several times, and its copies
//! are samples with one caption as any others. With B = q·N + r a caption of n samples has m = q·n + H(N, n, r)
//! copies, and
//!
//! floor = 1/B · Σ over captions E m ln m
//!
//! which for q = 0 is the formula above. (A batch that begins in the middle of an epoch has a little more.)

use std::collections::BTreeMap;

/// The lowest expected InfoNCE loss of a batch, in nats, given how often each caption occurs. A batch larger than the
/// number of samples goes on in the next epoch.
pub fn loss_floor(counts: impl IntoIterator<Item = u64>, batch_size: u64) -> f64 {
    let mut captions_by_count: BTreeMap<u64, u64> = BTreeMap::new();
    for count in counts.into_iter().filter(|&count| count > 0) {
        *captions_by_count.entry(count).or_default() += 1;
    }
    let samples: u64 = captions_by_count.iter().map(|(count, captions)| count * captions).sum();
    if samples == 0 || batch_size == 0 {
        return 0.0;
    }
    let (epochs, rest) = (batch_size / samples, batch_size % samples);
    let term = |(&count, &captions): (&u64, &u64)| {
        let copies = |hits: u64| (epochs * count + hits) as f64;
        let entropy =
            |hits| if copies(hits) > 1.0 { copies(hits) * copies(hits).ln() } else { 0.0 };
        captions as f64 * expected(samples, count, rest, entropy) / batch_size as f64
    };
    captions_by_count.iter().map(term).sum()
}

/// E f(H) for `draws` of `all` without replacement, `marked` of which count.
fn expected(all: u64, marked: u64, draws: u64, f: impl Fn(u64) -> f64) -> f64 {
    let least = (marked + draws).saturating_sub(all);
    let most = marked.min(draws);
    // Logarithms of the probabilities up to a constant: the first may be too small for a float.
    let mut logs = Vec::with_capacity((most - least) as usize + 1);
    let mut log = 0.0;
    for hits in least..=most {
        logs.push(log);
        if hits < most {
            let up = (marked - hits) as f64 * (draws - hits) as f64;
            let down = (hits + 1) as f64 * (all + hits + 1 - marked - draws) as f64;
            log += (up / down).ln();
        }
    }
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut total) = (0.0, 0.0);
    for (hits, log) in (least..).zip(logs) {
        let weight = (log - largest).exp();
        total += weight;
        sum += weight * f(hits);
    }
    sum / total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Permutation;

    #[test]
    fn ten_captions_and_none_that_repeats() {
        // Sampling with replacement gives ln 6.4 at the mean multiplicity without oneself; the exact value is near.
        let floor = loss_floor([1000; 10], 64);
        assert!((floor - 6.4f64.ln()).abs() < 0.1, "{floor}");
        assert_eq!(loss_floor([1; 1000], 64), 0.0);
        assert_eq!(loss_floor([], 64), 0.0);
        // All of one caption, or the whole dataset at once.
        assert!((loss_floor([500], 64) - 64f64.ln()).abs() < 1e-12);
        assert!((loss_floor([5; 4], 20) - 5f64.ln()).abs() < 1e-12);
        assert_eq!(loss_floor([1; 3], 0), 0.0);
    }

    /// Fifty epochs in a batch: fifty copies of each sample.
    #[test]
    fn a_batch_larger_than_the_data() {
        assert!((loss_floor([5; 4], 1000) - 250f64.ln()).abs() < 1e-12);
        assert!((loss_floor([1; 24], 48) - 2f64.ln()).abs() < 1e-12);
        // All batches of 6 + 2 of 6 samples: the pair that comes twice.
        let captions = [0, 0, 0, 1, 1, 2];
        let (mut sum, mut batches) = (0.0, 0.0);
        for a in 0..6 {
            for b in a + 1..6 {
                let batch = captions.iter().chain([&captions[a], &captions[b]]);
                let batch: Vec<i32> = batch.copied().collect();
                let same = |x: &i32| batch.iter().filter(|y| *y == x).count() as f64;
                sum += batch.iter().map(|x| same(x).ln()).sum::<f64>() / 8.0;
                batches += 1.0;
            }
        }
        assert!((loss_floor([3, 2, 1], 8) - sum / batches).abs() < 1e-12);
    }

    /// All batches of 3 of 6 samples, one by one.
    #[test]
    fn every_batch_of_a_small_dataset() {
        let captions = [0, 0, 0, 1, 1, 2];
        let (mut sum, mut batches) = (0.0, 0.0);
        for a in 0..6 {
            for b in a + 1..6 {
                for c in b + 1..6 {
                    let batch = [a, b, c].map(|n| captions[n]);
                    let same = |x: &i32| batch.iter().filter(|y| *y == x).count() as f64;
                    sum += batch.iter().map(|x| same(x).ln()).sum::<f64>() / 3.0;
                    batches += 1.0;
                }
            }
        }
        assert!((loss_floor([3, 2, 1], 3) - sum / batches).abs() < 1e-12);
    }

    /// The loss itself, of embeddings that are perfect: it comes down to the floor and not below.
    #[test]
    fn perfect_embeddings_reach_the_floor() {
        let counts = [400u64, 300, 200, 50, 30, 20];
        let captions: Vec<usize> =
            counts.iter().enumerate().flat_map(|(c, &n)| vec![c; n as usize]).collect();
        let (batch_size, scale, batches) = (32, 100.0f64, 2000);
        let mut mean = 0.0;
        for epoch in 0..batches {
            let order = Permutation::new(1000, 1, epoch);
            let batch: Vec<usize> =
                (0..batch_size).map(|at| captions[order.at(at) as usize]).collect();
            for own in &batch {
                let sum: f64 = batch.iter().map(|c| if c == own { scale } else { 0.0 }.exp()).sum();
                mean += (sum.ln() - scale) / (batch_size * batches) as f64;
            }
        }
        let floor = loss_floor(counts, batch_size);
        assert!((mean - floor).abs() < 0.01, "{mean} {floor}");
    }
}
