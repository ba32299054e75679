//! AdamW, with the operations of `torch.optim.AdamW` in their order.
//!
//! ```text
//! p ← p · (1 - lr · decay)
//! m ← m + (1 - β₁) (g - m)
//! v ← β₂ v + (1 - β₂) g g
//! p ← p - lr / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + ε)
//! ```
//!
//! The factors of a step are computed in `f64` and rounded once. PyTorch fuses some of the additions
//! on some processors; so the two agree to the last bit or the one before, not always in bits.
//!
//! # Source
//! Loshchilov and Hutter, "Decoupled weight decay regularization", 2019; PyTorch 2.15,
//! `torch/optim/adam.py`, `_single_tensor_adam`.

use altclip_kernels::Pool;

use super::{Optimizer, Step, TensorUpdate, pieces};
use crate::elementary::power;
use crate::parallel::map;

/// The factors of one step.
#[derive(Clone, Copy)]
struct Factors {
    gradient_scale: f32,
    /// What a decaying weight is multiplied by.
    keep: f32,
    /// 1 - β₁
    towards: f32,
    beta2: f32,
    /// 1 - β₂
    new: f32,
    /// √(1 - β₂ᵗ)
    root_correction: f32,
    eps: f32,
    /// -lr / (1 - β₁ᵗ)
    move_by: f32,
}

pub(super) fn step(
    optimizer: &Optimizer,
    pool: &Pool,
    step: Step,
    tensors: &mut [TensorUpdate<'_>],
) {
    let Optimizer { beta1, beta2, eps, weight_decay, .. } = *optimizer;
    let factors = Factors {
        gradient_scale: step.gradient_scale,
        keep: (1.0 - step.lr * weight_decay) as f32,
        towards: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        new: (1.0 - beta2) as f32,
        root_correction: (1.0 - power(beta2, step.number)).sqrt() as f32,
        eps: eps as f32,
        move_by: (-step.lr / (1.0 - power(beta1, step.number))) as f32,
    };
    map(pool, pieces(tensors), |mut piece| {
        let keep = if piece.decay { factors.keep } else { 1.0 };
        let factors = Factors { keep, ..factors };
        piece.for_each_run(|master, first, second, gradient| {
            update(&factors, master, first, second, gradient);
        });
    });
}

fn update(
    factors: &Factors,
    master: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
) {
    let f = *factors;
    for (((p, m), v), g) in master.iter_mut().zip(first).zip(second).zip(gradient) {
        let g = g * f.gradient_scale;
        *m += f.towards * (g - *m);
        *v = *v * f.beta2 + f.new * g * g;
        let denominator = v.sqrt() / f.root_correction + f.eps;
        *p = *p * f.keep + f.move_by * *m / denominator;
    }
}
