//! The minimum of a smooth function: limited-memory BFGS with a line search for the weak Wolfe conditions.
//!
//! # Source
//! Nocedal and Wright, Numerical Optimization (2nd ed.), algorithm 7.5; Lewis and Overton, Nonsmooth
//! optimization via quasi-Newton methods, Mathematical Programming 141 (2013), algorithm 2.6.

use std::collections::VecDeque;

/// Pairs of steps and changes of the gradient that are remembered.
const MEMORY: usize = 10;
/// Decrease and curvature that a step must have.
const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// Trials of one line search.
const TRIALS: usize = 40;

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stop {
    /// Largest part of the gradient that counts as zero.
    pub(crate) gradient: f64,
    /// Most steps.
    pub(crate) steps: usize,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct End {
    pub(crate) steps: usize,
    /// Largest part of the gradient.
    pub(crate) gradient: f64,
}

/// Moves `x` to a minimum of `f`, which writes the gradient at its argument and returns the value. Nothing
/// once `f` gives none.
pub(crate) fn minimize(
    x: &mut Vec<f64>,
    stop: Stop,
    mut f: impl FnMut(&[f64], &mut [f64]) -> Option<f64>,
) -> Option<End> {
    let mut gradient = vec![0.0; x.len()];
    let mut value = f(x, &mut gradient)?;
    let mut pairs: VecDeque<(Vec<f64>, Vec<f64>, f64)> = VecDeque::new();
    let mut steps = 0;
    while steps < stop.steps && largest(&gradient) > stop.gradient {
        let mut direction = towards(&gradient, &pairs);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            // Rounding spoiled the memory: begin anew.
            pairs.clear();
            direction = gradient.iter().map(|g| -g).collect();
            slope = dot(&direction, &gradient);
        }
        let first = if pairs.is_empty() { 1.0 / largest(&gradient).max(1.0) } else { 1.0 };
        let (mut low, mut high, mut step) = (0.0, f64::INFINITY, first);
        let (mut next, mut next_gradient) = (x.clone(), gradient.clone());
        let mut found = None;
        for _ in 0..TRIALS {
            for ((next, &x), &d) in next.iter_mut().zip(x.iter()).zip(&direction) {
                *next = x + step * d;
            }
            let next_value = f(&next, &mut next_gradient)?;
            // Written so that what is not a number counts as too far.
            let decreases = next_value <= value + DECREASE * step * slope;
            if !decreases {
                high = step;
            } else if dot(&direction, &next_gradient) < CURVATURE * slope {
                (low, found) = (step, Some(next_value));
            } else {
                found = Some(next_value);
                break;
            }
            step = if high.is_finite() { f64::midpoint(low, high) } else { 2.0 * step };
        }
        let Some(next_value) = found.filter(|&next_value| next_value < value) else { break };
        let moved: Vec<f64> = next.iter().zip(x.iter()).map(|(a, b)| a - b).collect();
        let turned: Vec<f64> = next_gradient.iter().zip(&gradient).map(|(a, b)| a - b).collect();
        let curvature = dot(&moved, &turned);
        if curvature > f64::EPSILON * dot(&turned, &turned) {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back((moved, turned, 1.0 / curvature));
        }
        std::mem::swap(x, &mut next);
        std::mem::swap(&mut gradient, &mut next_gradient);
        value = next_value;
        steps += 1;
    }
    Some(End { steps, gradient: largest(&gradient) })
}

/// Minus the inverse Hessian, as the pairs suggest it, times the gradient.
fn towards(gradient: &[f64], pairs: &VecDeque<(Vec<f64>, Vec<f64>, f64)>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut alphas = Vec::with_capacity(pairs.len());
    for (moved, turned, rho) in pairs.iter().rev() {
        let alpha = rho * dot(moved, &q);
        add(&mut q, -alpha, turned);
        alphas.push(alpha);
    }
    if let Some((_, turned, rho)) = pairs.back() {
        let scale = 1.0 / (rho * dot(turned, turned));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for ((moved, turned, rho), alpha) in pairs.iter().zip(alphas.into_iter().rev()) {
        let beta = rho * dot(turned, &q);
        add(&mut q, alpha - beta, moved);
    }
    q
}

fn add(x: &mut [f64], factor: f64, y: &[f64]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += factor * y);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quadratic_and_a_curved_valley() {
        let stop = Stop { gradient: 1e-9, steps: 500 };
        let mut x = vec![3.0, -4.0, 5.0];
        let end = minimize(&mut x, stop, |x, g| {
            let weights = [1.0, 100.0, 1e4];
            for i in 0..3 {
                g[i] = weights[i] * (x[i] - 1.0);
            }
            Some((0..3).map(|i| 0.5 * weights[i] * (x[i] - 1.0).powi(2)).sum())
        })
        .unwrap();
        assert!(x.iter().all(|x| (x - 1.0).abs() < 1e-8) && end.gradient <= 1e-9, "{x:?} {end:?}");
        let mut x = vec![-1.2, 1.0];
        let end = minimize(&mut x, stop, |x, g| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            g[0] = -2.0 * a - 400.0 * x[0] * b;
            g[1] = 200.0 * b;
            Some(a * a + 100.0 * b * b)
        });
        assert!(end.is_some() && x.iter().all(|x| (x - 1.0).abs() < 1e-6), "{x:?}");
    }
}
