//! An affine map and a layer norm.

use crate::Result;
use crate::weights::Weights;
use altclip_tensor::{Activation, Backend, Op, Tensor, Weight};

/// `y = activation(x · weightᵀ + bias)`.
pub struct Linear {
    weight: Weight,
    bias: Option<Weight>,
}

impl Linear {
    /// `{name}.weight` `[n, k]` and `{name}.bias` `[n]`.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`], here and below.
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

    /// As [`Linear::new`], where a tower begins or ends.
    pub fn edge(weights: &Weights<'_>, name: &str, [n, k]: [usize; 2]) -> Result<Self> {
        Ok(Self {
            weight: weights.edge(&format!("{name}.weight"), &[n, k])?,
            bias: Some(weights.vector(&format!("{name}.bias"), n)?),
        })
    }

    /// `{name}.weight` of this shape where a tower begins or ends, without bias; dimensions behind
    /// the first are flattened.
    pub fn edge_without_bias(weights: &Weights<'_>, name: &str, shape: &[usize]) -> Result<Self> {
        Ok(Self { weight: weights.edge(&format!("{name}.weight"), shape)?, bias: None })
    }

    /// As [`Linear::edge`], with or without bias.
    pub fn edge_with(
        weights: &Weights<'_>,
        name: &str,
        shape: [usize; 2],
        bias: bool,
    ) -> Result<Self> {
        match bias {
            true => Self::edge(weights, name, shape),
            false => Self::edge_without_bias(weights, name, &shape),
        }
    }

    /// `[T, K]` to `[T, N]`.
    ///
    /// # Errors
    /// As [`Backend::forward`].
    pub fn forward(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        self.run(b, x, Activation::Identity, None, false)
    }

    /// With an activation behind it; the result feeds only products and attention.
    ///
    /// # Errors
    /// As [`Backend::forward`], here and below.
    pub fn forward_inner(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        activation: Activation,
    ) -> Result<Tensor> {
        self.run(b, x, activation, None, true)
    }

    /// With a residual added.
    pub fn forward_add(&self, b: &dyn Backend, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.run(b, x, Activation::Identity, Some(residual), false)
    }

    fn run(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        activation: Activation,
        residual: Option<&Tensor>,
        compact: bool,
    ) -> Result<Tensor> {
        Ok(b.forward(&Op::Linear {
            x: x.clone(),
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            activation,
            residual: residual.cloned(),
            compact,
        })?)
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
    /// As [`Backend::forward`], here and below.
    pub fn forward(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        self.run(b, x, false)
    }

    /// The same where the result feeds only products.
    pub fn forward_inner(&self, b: &dyn Backend, x: &Tensor) -> Result<Tensor> {
        self.run(b, x, true)
    }

    fn run(&self, b: &dyn Backend, x: &Tensor, compact: bool) -> Result<Tensor> {
        Ok(b.forward(&Op::LayerNorm {
            x: x.clone(),
            weight: self.weight.clone(),
            bias: self.bias.clone(),
            eps: self.eps,
            compact,
        })?)
    }
}
