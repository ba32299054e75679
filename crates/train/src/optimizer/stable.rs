//! StableAdamW: AdamW that slows a tensor down while its second moment lags behind its gradients.
//!
//! ```text
//! β̂ᵢ = βᵢ (1 - βᵢᵗ⁻¹) / (1 - βᵢᵗ)
//! m ← β̂₁ m + (1 - β̂₁) g
//! v ← β̂₂ v + (1 - β̂₂) g g
//! η = lr / max(1, √ mean(g g / max(v, ε²)))       the mean is over one tensor
//! p ← p - η · decay · p - η · m / (√v + ε)
//! ```
//!
//! The moments carry their bias correction in β̂, so they are not those of AdamW: a run cannot change
//! the algorithm half-way.
//!
//! # Source
//! Wortsman et al., "Stable and low-precision training for large-scale vision-language models",
//! arXiv 2304.13013, algorithm 2.

use altclip_kernels::Pool;

use super::{Optimizer, Piece, Step, TensorUpdate, pieces};
use crate::elementary::power;
use crate::parallel::{lane_sum, map, tree_sum};

pub(super) fn step(
    optimizer: &Optimizer,
    pool: &Pool,
    step: Step,
    tensors: &mut [TensorUpdate<'_>],
) {
    let eps = optimizer.eps;
    let corrected =
        |beta: f64| beta * (1.0 - power(beta, step.number - 1)) / (1.0 - power(beta, step.number));
    let moments = Means {
        gradient_scale: step.gradient_scale,
        beta1: corrected(optimizer.beta1),
        beta2: corrected(optimizer.beta2),
        floor: (eps * eps) as f32,
    };
    let sums = map(pool, pieces(tensors), |piece| (piece.tensor, moments.update(piece)));
    let rates: Vec<f64> = (0..tensors.len())
        .map(|index| {
            let start = sums.partition_point(|&(tensor, _)| tensor < index);
            let own: Vec<f64> =
                sums[start..].iter().take_while(|sum| sum.0 == index).map(|sum| sum.1).collect();
            let mean = tree_sum(&own) / tensors[index].master.len().max(1) as f64;
            step.lr / mean.sqrt().max(1.0)
        })
        .collect();
    map(pool, pieces(tensors), |piece| {
        let rate = rates[piece.tensor];
        let decay = if piece.decay { optimizer.weight_decay } else { 0.0 };
        let (keep, move_by, eps) = ((1.0 - rate * decay) as f32, -rate as f32, eps as f32);
        for ((p, m), v) in piece.master.iter_mut().zip(piece.first).zip(piece.second) {
            *p = *p * keep + move_by * *m / (v.sqrt() + eps);
        }
    });
}

/// How the running means of a step move.
struct Means {
    gradient_scale: f32,
    beta1: f64,
    beta2: f64,
    /// ε²
    floor: f32,
}

impl Means {
    /// Moves the means of a piece; the sum of `g g / max(v, ε²)` over it.
    fn update(&self, mut piece: Piece<'_>) -> f64 {
        let (beta1, beta2) = (self.beta1 as f32, self.beta2 as f32);
        let (new1, new2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        let (scale, floor) = (self.gradient_scale, self.floor);
        let mut sum = 0.0;
        piece.for_each_run(|_, first, second, gradient| {
            for ((m, v), g) in first.iter_mut().zip(&mut *second).zip(gradient) {
                let g = g * scale;
                *m = *m * beta1 + new1 * g;
                *v = *v * beta2 + new2 * g * g;
            }
            sum += lane_sum(gradient, second, |g, v| {
                let g = g * scale;
                f64::from(g * g / if v > floor { v } else { floor })
            });
        });
        sum
    }
}
