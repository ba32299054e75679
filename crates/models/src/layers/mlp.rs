//! The feed-forward part of a block.

use super::Linear;
use crate::Result;
use crate::weights::Weights;
use altclip_tensor::{Activation, Backend, Tensor};

/// `residual + fc2(activation(fc1(x)))`.
pub struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Mlp {
    /// Maps `[intermediate, width]` and back.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(
        weights: &Weights<'_>,
        [fc1, fc2]: [&str; 2],
        [width, intermediate]: [usize; 2],
        activation: Activation,
    ) -> Result<Self> {
        Ok(Self {
            fc1: Linear::new(weights, fc1, [intermediate, width])?,
            fc2: Linear::new(weights, fc2, [width, intermediate])?,
            activation,
        })
    }

    /// `[T, D]` to `[T, D]`.
    ///
    /// # Errors
    /// As [`Backend::forward`].
    pub fn forward(&self, b: &dyn Backend, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let hidden = self.fc1.forward_inner(b, x, self.activation)?; // [T, F]
        self.fc2.forward_add(b, &hidden, residual)
    }
}
