//! The cross-entropy of pictures over classes that are texts: fine-tuning a zero-shot classifier.
//!
//! The logits are those of the contrastive loss (cosine times scale), so it is that loss in one
//! direction, with one right text per picture.

use altclip_kernels::{Kernels, Pool};

use super::contrastive::{Contrastive, Directions, soft_cross_entropy};
use super::{PairLoss, Positives};

/// What a classification loss is taken of.
#[derive(Clone, Copy, Debug)]
pub struct Classification<'a> {
    /// Image features [B, E], not normalised.
    pub images: &'a [f32],
    /// Features of the class names [C, E], not normalised.
    pub classes: &'a [f32],
    /// E.
    pub width: usize,
    /// The class of each picture.
    pub labels: &'a [u32],
    /// Logarithm of the scale; see [`super::MAX_LOGIT_SCALE`].
    pub logit_scale: f32,
}

/// The mean cross-entropy of the pictures' classes, and the gradients of both sides' features and of
/// the logit scale.
///
/// # Panics
/// Panics if lengths do not fit, or a label is not a class.
pub fn classification(kernels: &Kernels, pool: &Pool, args: &Classification<'_>) -> PairLoss {
    let &Classification { images, classes, width, labels, logit_scale } = args;
    assert!(width > 0, "loss: an empty batch");
    let positives = Positives::labels(labels, classes.len() / width);
    let args = Contrastive { images, texts: classes, width, positives: &positives, logit_scale };
    soft_cross_entropy(kernels, pool, &args, Directions { images: 1.0, texts: 0.0 })
}
