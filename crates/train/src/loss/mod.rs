//! Losses with their gradients, on slices of embeddings, row after row.
//!
//! They stand outside the tape: a loss takes what the towers gave and returns the gradient of it.
//! So a batch may be cut for the towers and whole for the loss.
//!
//! Sums are in `f64` and in an order that depends on the shapes alone; products are the kernels'.
//! The bits do not depend on the number of threads, the instruction set or the platform.

mod contrastive;
mod cross_entropy;
mod mse;
mod normalize;
mod positives;

pub use contrastive::{CONTRASTIVE_BLOCK, Contrastive, contrastive};
pub use cross_entropy::{Classification, classification};
pub use mse::mse;
pub use positives::Positives;

/// ln 100: CLIP's largest logit scale, in its logarithmic form.
///
/// The losses use `exp(min(logit_scale, MAX_LOGIT_SCALE))`, and the gradient of a parameter above it
/// is 0, as through `torch.clamp`. To keep it from staying there, the parameter itself is to be cut
/// to this value after each update ([`clamp_logit_scale`]), as in CLIP and open_clip.
pub const MAX_LOGIT_SCALE: f32 = 4.605_170_2;

/// The parameter after an update: at most [`MAX_LOGIT_SCALE`]; NaN stays NaN.
pub fn clamp_logit_scale(logit_scale: f32) -> f32 {
    if logit_scale > MAX_LOGIT_SCALE { MAX_LOGIT_SCALE } else { logit_scale }
}

/// A loss between two sets of features, and its gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct PairLoss {
    /// The loss.
    pub loss: f32,
    /// Gradient of the image features, as they were given.
    pub images: Vec<f32>,
    /// Gradient of the text features, as they were given.
    pub texts: Vec<f32>,
    /// Gradient of the logit scale in its logarithmic form.
    pub logit_scale: f32,
}

#[cfg(test)]
mod tests;
