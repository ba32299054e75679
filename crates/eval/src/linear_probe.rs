//! A linear probe: logistic regression on frozen features, its L2 strength given or found.
//!
//! The objective is the mean cross entropy plus `l2 / 2` times the squared weights; the bias is free. In scikit-learn's
//! terms `C = 1 / (l2 · N)`. Without a strength the best on held-out samples is taken and the probe fitted
//! again on all of them.
//!
//! # Source
//! Radford et al., arXiv 2103.00020, appendix A.3: L-BFGS of at most 1,000 steps; a search from 1e-6 to 1e6
//! that halves its distance around the best value, down to 8 a decade. They sweep C, here it is `l2 · N`.

use crate::lbfgs::{Stop, minimize};
use crate::{Classification, Error, Result, Rows, Scorer};
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// Parts that sums over samples are cut into: a fixed number, so that threads change no bit.
const PARTS: usize = 16;
/// Of so many samples one is held out.
const HELD_OUT: usize = 10;
/// Multiplications between two questions whether to stop: a small part of a second.
const ROUND: usize = 1 << 26;

/// How a probe is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProbeOptions {
    /// L2 strength for the mean of the samples; found if not given.
    pub l2: Option<f64>,
    /// Most steps.
    pub steps: usize,
    /// Largest part of the gradient that counts as zero.
    pub tolerance: f64,
}

impl Default for ProbeOptions {
    /// As the source.
    fn default() -> Self {
        Self { l2: None, steps: 1_000, tolerance: 1e-6 }
    }
}

/// A classifier that was fitted.
#[derive(Clone, Debug)]
pub struct Probe {
    classes: usize,
    /// `[E + 1, classes]`, the bias last.
    weights: Vec<f64>,
    /// How it was fitted.
    pub fit: Fit,
}

/// How a probe was fitted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fit {
    /// L2 strength.
    pub l2: f64,
    /// Steps of the last fit.
    pub steps: usize,
    /// Largest part of the gradient at its end.
    pub gradient: f64,
    /// What was tried: strength and accuracy on the held-out samples.
    pub sweep: Vec<(f64, f64)>,
}

/// Samples of a fit.
struct Samples<'a> {
    features: &'a Rows<'a>,
    labels: &'a [usize],
    classes: usize,
}

impl Probe {
    /// Fits a probe to `features` `[N, E]`, normalised as they are read, and their labels. `is_stopped` is asked
    /// several times a second, on the caller's thread; there is no probe once it says so.
    ///
    /// # Errors
    /// [`Error::Count`], [`Error::OutOfRange`] of a label, [`Error::Empty`] without classes.
    pub fn fit(
        scorer: &Scorer,
        features: &Rows<'_>,
        labels: &[usize],
        classes: usize,
        options: &ProbeOptions,
        is_stopped: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Self>> {
        let (found, expected) = (labels.len(), features.len());
        if found != expected {
            let (what, of) = ("labels".into(), features.what().into());
            return Err(Error::Count { what, found, of, expected });
        }
        crate::classification::check_labels(labels, classes)?;
        if classes == 0 {
            return Err(Error::Empty { what: "classes".into() });
        }
        let mut sweep = Vec::new();
        let l2 = match options.l2 {
            Some(l2) => l2,
            None => {
                let samples = Samples { features, labels, classes };
                match search(scorer, &samples, options, &mut sweep, is_stopped)? {
                    Some(l2) => l2,
                    None => return Ok(None),
                }
            }
        };
        let mut weights = vec![0.0; (features.width() + 1) * classes];
        let samples = Samples { features, labels, classes };
        let end = samples.fit(scorer, l2, options, &mut weights, is_stopped);
        Ok(end.map(|end| {
            let fit = Fit { l2, steps: end.steps, gradient: end.gradient, sweep };
            Self { classes, weights, fit }
        }))
    }

    /// Classifies samples; nothing once `is_stopped` says so, as in [`Probe::fit`].
    ///
    /// # Errors
    /// [`Error::Count`], [`Error::OutOfRange`] of a label, [`Error::Width`].
    pub fn classify(
        &self,
        scorer: &Scorer,
        features: &Rows<'_>,
        labels: &[usize],
        is_stopped: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Classification>> {
        let expected = self.weights.len() / self.classes - 1;
        if features.width() != expected {
            let (what, found) = (features.what().into(), features.width());
            return Err(Error::Width { what, found, other: "the probe".into(), expected });
        }
        let mut logits = Vec::with_capacity(features.len());
        let round = (ROUND / self.weights.len()).max(1);
        for start in (0..features.len()).step_by(round) {
            if is_stopped() {
                return Ok(None);
            }
            logits.extend(scorer.map(round.min(features.len() - start), &|row| {
                let mut logits = vec![0.0; self.classes];
                logits_of(&self.weights, features, start + row, &mut logits);
                logits.iter().map(|&logit| logit as f32).collect::<Vec<f32>>()
            }));
        }
        let mut found = Classification::new(self.classes)?;
        found.add(&logits.concat(), labels)?;
        Ok(Some(found))
    }
}

/// The strength that does best on samples that were held out, one of ten.
fn search(
    scorer: &Scorer,
    all: &Samples<'_>,
    options: &ProbeOptions,
    tried: &mut Vec<(f64, f64)>,
    is_stopped: &mut dyn FnMut() -> bool,
) -> Result<Option<f64>> {
    let Samples { features, labels, classes } = *all;
    // By a hash of the number, so that no order of the samples matters.
    let held = |n: usize| (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let (out, kept): (Vec<usize>, Vec<usize>) =
        (0..features.len()).partition(|&n| (held(n) as usize).is_multiple_of(HELD_OUT));
    let pick = |rows: &[usize]| -> Vec<usize> { rows.iter().map(|&n| labels[n]).collect() };
    let (train, test) = (features.select(&kept)?, features.select(&out)?);
    let (train_labels, test_labels) = (pick(&kept), pick(&out));
    let n = kept.len() as f64;
    let mut best = (0.0, f64::NEG_INFINITY);
    // Nothing once it was stopped.
    let mut try_at = |exponent: f64, best: &mut (f64, f64)| -> Result<Option<()>> {
        let l2 = 10f64.powf(exponent) / n;
        if tried.iter().any(|&(known, _)| (known / l2 - 1.0).abs() < 1e-9) {
            return Ok(Some(()));
        }
        let given = ProbeOptions { l2: Some(l2), ..*options };
        let probe = Probe::fit(scorer, &train, &train_labels, classes, &given, is_stopped)?;
        let Some(probe) = probe else { return Ok(None) };
        let found = probe.classify(scorer, &test, &test_labels, is_stopped)?;
        let Some(found) = found else { return Ok(None) };
        let acc1 = found.report()?.acc1;
        tried.push((l2, acc1));
        if acc1 > best.1 {
            *best = (exponent, acc1);
        }
        Ok(Some(()))
    };
    for exponent in [-6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0] {
        if try_at(exponent, &mut best)?.is_none() {
            return Ok(None);
        }
    }
    for distance in [1.0, 0.5, 0.25, 0.125] {
        let middle = best.0;
        for exponent in [middle - distance, middle + distance] {
            if try_at(exponent, &mut best)?.is_none() {
                return Ok(None);
            }
        }
    }
    Ok(Some(10f64.powf(best.0) / n))
}

impl Samples<'_> {
    fn fit(
        &self,
        scorer: &Scorer,
        l2: f64,
        options: &ProbeOptions,
        weights: &mut Vec<f64>,
        is_stopped: &mut dyn FnMut() -> bool,
    ) -> Option<crate::lbfgs::End> {
        let stop = Stop { gradient: options.tolerance, steps: options.steps };
        minimize(weights, stop, |weights, gradient| {
            self.loss(scorer, l2, weights, gradient, is_stopped)
        })
    }

    /// The objective at `weights`, and its gradient. Every part goes on a few rows at a time, so that stopping
    /// does not wait for the last; the order of each part's sums is that of its rows all the same.
    fn loss(
        &self,
        scorer: &Scorer,
        l2: f64,
        weights: &[f64],
        gradient: &mut [f64],
        is_stopped: &mut dyn FnMut() -> bool,
    ) -> Option<f64> {
        let count = self.features.len();
        let size = count.div_ceil(PARTS);
        let parts: Vec<Mutex<(f64, Vec<f64>)>> =
            (0..PARTS.min(count)).map(|_| Mutex::new((0.0, vec![0.0; weights.len()]))).collect();
        let round = (ROUND / PARTS / weights.len()).max(1);
        for first in (0..size).step_by(round) {
            if is_stopped() {
                return None;
            }
            scorer.run(parts.len(), &|of_thread| {
                let mut logits = vec![0.0; self.classes];
                for part in of_thread {
                    let (start, end) = (part * size, ((part + 1) * size).min(count));
                    let mut sums = parts[part].lock().unwrap_or_else(PoisonError::into_inner);
                    let (loss, sums) = &mut *sums;
                    for row in (start + first)..(start + first + round).min(end) {
                        *loss += self.one(weights, row, &mut logits, sums);
                    }
                }
            });
        }
        gradient.fill(0.0);
        let mut loss = 0.0;
        for part in parts {
            let (part, sums) = part.into_inner().unwrap_or_else(PoisonError::into_inner);
            loss += part;
            gradient.iter_mut().zip(&sums).for_each(|(g, sum)| *g += sum);
        }
        let mean = 1.0 / count as f64;
        gradient.iter_mut().for_each(|g| *g *= mean);
        let free = weights.len() - self.classes;
        let mut squares = 0.0;
        for (g, w) in gradient.iter_mut().zip(weights).take(free) {
            *g += l2 * w;
            squares += w * w;
        }
        Some(mean * loss + 0.5 * l2 * squares)
    }

    /// The cross entropy of one sample; its gradient is added to `sums`.
    fn one(&self, weights: &[f64], row: usize, logits: &mut [f64], sums: &mut [f64]) -> f64 {
        logits_of(weights, self.features, row, logits);
        let label = self.labels[row];
        let own = logits[label];
        let highest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|logit| (logit - highest).exp()).sum();
        logits.iter_mut().for_each(|logit| *logit = (*logit - highest).exp() / sum);
        logits[label] -= 1.0;
        let features = self.features.normalized(row).map(f64::from).chain([1.0]);
        for (x, sums) in features.zip(sums.chunks_exact_mut(self.classes)) {
            sums.iter_mut().zip(logits.iter()).for_each(|(sum, p)| *sum += x * p);
        }
        highest + sum.ln() - own
    }
}

fn logits_of(weights: &[f64], features: &Rows<'_>, row: usize, logits: &mut [f64]) {
    logits.fill(0.0);
    let features = features.normalized(row).map(f64::from).chain([1.0]);
    for (x, weights) in features.zip(weights.chunks_exact(logits.len())) {
        logits.iter_mut().zip(weights).for_each(|(logit, w)| *logit += x * w);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let values = numbers(40 * 5, 1);
        let features = Rows::new("features", &values, 5).unwrap();
        let labels: Vec<usize> = (0..40).map(|n| n % 3).collect();
        let samples = Samples { features: &features, labels: &labels, classes: 3 };
        let weights: Vec<f64> = numbers(18, 2).into_iter().map(f64::from).collect();
        let scorer = Scorer::new(2);
        let mut gradient = vec![0.0; 18];
        samples.loss(&scorer, 0.1, &weights, &mut gradient, &mut || false).unwrap();
        for at in 0..18 {
            let shifted = |by: f64| {
                let mut weights = weights.clone();
                weights[at] += by;
                samples.loss(&scorer, 0.1, &weights, &mut [0.0; 18], &mut || false).unwrap()
            };
            let slope = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
            assert!((slope - gradient[at]).abs() < 1e-9, "{at}: {slope} {}", gradient[at]);
        }
    }

    #[test]
    fn two_points_have_the_solution_of_the_equation() {
        // x = ±1, one class each. By symmetry the classes have ±w, and the gradient is zero where
        // l2 · w = 1 − sigmoid(2w).
        let values = [1.0, -1.0];
        let features = Rows::new("features", &values, 1).unwrap();
        let options = ProbeOptions { l2: Some(0.1), tolerance: 1e-12, ..ProbeOptions::default() };
        let probe = Probe::fit(&Scorer::new(1), &features, &[0, 1], 2, &options, &mut || false);
        let probe = probe.unwrap().unwrap();
        let w = probe.weights[0];
        assert!((w + probe.weights[1]).abs() < 1e-9);
        let sigmoid = 1.0 / (1.0 + (-2.0 * w).exp());
        assert!((0.1 * w - (1.0 - sigmoid)).abs() < 1e-9, "{w}");
        assert!(probe.weights[2].abs() < 1e-9);
    }

    #[test]
    fn a_sweep_finds_a_strength_that_separates_and_threads_change_nothing() {
        let mut values = numbers(200 * 6, 3);
        let labels: Vec<usize> = (0..200).map(|n| n * 7 % 4).collect();
        for (row, &label) in values.chunks_exact_mut(6).zip(&labels) {
            row[label] += 1.0;
        }
        let features = Rows::new("features", &values, 6).unwrap();
        let fit = |threads| {
            let scorer = Scorer::new(threads);
            let options = ProbeOptions { steps: 100, ..ProbeOptions::default() };
            let go_on = &mut || false;
            let probe = Probe::fit(&scorer, &features, &labels, 4, &options, go_on);
            let probe = probe.unwrap().unwrap();
            let found = probe.classify(&scorer, &features, &labels, go_on).unwrap().unwrap();
            (probe.fit, found.report().unwrap().acc1)
        };
        let (first, acc1) = fit(1);
        assert!(acc1 > 0.9, "{acc1} {first:?}");
        assert!(first.sweep.len() >= 13);
        assert_eq!(fit(3).0, first);
    }
    /// Rounds cut the rows of a part anywhere: the bits stay those of one round, and whoever wants to stop is heard
    /// in the middle of a single look at all samples.
    #[test]
    fn a_fit_is_stopped_between_any_two_rounds() {
        let (count, width, classes) = (64, 2048, 600);
        let values = numbers(count * width, 5);
        let features = Rows::new("features", &values, width).unwrap();
        let labels: Vec<usize> = (0..count).map(|n| n * 7 % classes).collect();
        let samples = Samples { features: &features, labels: &labels, classes };
        let weights = vec![0.0; (width + 1) * classes];
        // Four rows a part, of which three are one round.
        assert_eq!(ROUND / PARTS / weights.len(), 3);
        let loss = |rounds: usize| {
            let (mut asked, mut gradient) = (0, vec![0.0; weights.len()]);
            let mut is_stopped = || {
                asked += 1;
                asked > rounds
            };
            let scorer = Scorer::new(2);
            samples.loss(&scorer, 0.0, &weights, &mut gradient, &mut is_stopped).map(|_| gradient)
        };
        assert!(loss(0).is_none() && loss(1).is_none());
        let found = loss(2).unwrap();
        let (mut part, mut logits) = (vec![0.0; weights.len()], vec![0.0; classes]);
        let mut expected = vec![0.0; weights.len()];
        for row in 0..count {
            samples.one(&weights, row, &mut logits, &mut part);
            if row % 4 == 3 {
                expected
                    .iter_mut()
                    .zip(&mut part)
                    .for_each(|(all, part)| *all += std::mem::take(part));
            }
        }
        expected.iter_mut().for_each(|sum| *sum *= 1.0 / count as f64);
        assert!(found == expected);
        let options = ProbeOptions::default();
        let mut left = 5;
        let mut is_stopped = || {
            left -= 1;
            left == 0
        };
        let scorer = Scorer::new(2);
        let probe = Probe::fit(&scorer, &features, &labels, classes, &options, &mut is_stopped);
        assert!(probe.unwrap().is_none());
    }
}
