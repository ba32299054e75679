//! An affine map and a layer norm.

use crate::Result;
use crate::weights::Weights;
use altclip_tensor::{Activation, Backend, Ops, Tensor, Weight};

/// `y = activation(x · weightᵀ + bias)`.
pub struct Linear {
    weight: Weight,
    bias: Option<Weight>,
}

impl Linear {
    /// `{name}.weight` `[n, k]` and `{name}.bias` `[n]`.
    ///
    /// # Errors
    /// As [`Weights::matrix`], here and below.
    pub fn new(weights: &Weights<'_>, name: &str, [n, k]: [usize; 2]) -> Result<Self> {
        Self::stacked(weights, &[name], [n, k])
    }

    /// Several maps of one shape read together, their outputs side by side.
    pub fn stacked(weights: &Weights<'_>, names: &[&str], [n, k]: [usize; 2]) -> Result<Self> {
        let with = |suffix| names.iter().map(|name| format!("{name}.{suffix}")).collect::<Vec<_>>();
        Ok(Self {
            weight: weights.stacked_matrix(&with("weight"), &[n, k])?,
            bias: Some(weights.stacked_vector(&with("bias"), n)?),
        })
    }

    /// `{name}.weight` of this shape, without bias; dimensions behind the first are flattened.
    pub fn without_bias(weights: &Weights<'_>, name: &str, shape: &[usize]) -> Result<Self> {
        Ok(Self { weight: weights.matrix(&format!("{name}.weight"), shape)?, bias: None })
    }

    /// `[T, K]` to `[T, N]`.
    ///
    /// # Errors
    /// As [`Backend::forward`], here and below.
    pub fn forward(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        self.forward_act(b, x, Activation::Identity)
    }

    /// With an activation behind it.
    pub fn forward_act(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        activation: Activation,
    ) -> Result<Tensor> {
        Ok(b.linear_act(x, &self.weight, self.bias.as_ref(), activation)?)
    }

    /// With a residual added.
    pub fn forward_add(&self, b: &dyn Backend, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        Ok(b.linear_add(x, &self.weight, self.bias.as_ref(), residual)?)
    }
}

/// Layer norm over the width of a row.
pub struct LayerNorm {
    weight: Weight,
    bias: Weight,
    eps: f32,
}

impl LayerNorm {
    /// `{name}.weight` and `{name}.bias`, both `[width]`.
    ///
    /// # Errors
    /// As [`Weights::vector`].
    pub fn new(weights: &Weights<'_>, name: &str, width: usize, eps: f32) -> Result<Self> {
        Ok(Self {
            weight: weights.vector(&format!("{name}.weight"), width)?,
            bias: weights.vector(&format!("{name}.bias"), width)?,
            eps,
        })
    }

    /// `[T, D]` to `[T, D]`.
    ///
    /// # Errors
    /// As [`Backend::forward`].
    pub fn forward(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        Ok(b.layer_norm(x, &self.weight, &self.bias, self.eps)?)
    }
}
