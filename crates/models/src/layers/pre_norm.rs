//! The pre-LN block of CLIP: the same in its vision tower and in its causal text tower.

use super::{Attention, AttentionNames, LayerNorm, Mask, Mlp};
use crate::Result;
use crate::config::Transformer;
use crate::weights::Weights;
use altclip_tensor::{Backend, Ops, Segments, Tensor};
use std::sync::Arc;

const NAMES: AttentionNames = AttentionNames {
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.out_proj",
};

/// `h = x + attention(LN1(x))`, `y = h + mlp(LN2(h))`.
pub struct PreNormBlock {
    layer_norm1: LayerNorm,
    attention: Attention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

impl PreNormBlock {
    /// The blocks `{name}.0 … {name}.{L − 1}` of a tower.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn stack(weights: &Weights<'_>, name: &str, config: &Transformer) -> Result<Vec<Self>> {
        (0..config.num_hidden_layers)
            .map(|layer| {
                weights.scope(&format!("{name}.{layer}"), |weights| Self::new(&weights, config))
            })
            .collect()
    }

    fn new(weights: &Weights<'_>, config: &Transformer) -> Result<Self> {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        Ok(Self {
            layer_norm1: LayerNorm::new(weights, "layer_norm1", width, eps)?,
            attention: Attention::new(weights, &NAMES, [width; 2], config.num_attention_heads)?,
            layer_norm2: LayerNorm::new(weights, "layer_norm2", width, eps)?,
            mlp: Mlp::new(
                weights,
                ["mlp.fc1", "mlp.fc2"],
                [width, config.intermediate_size],
                config.hidden_act,
            )?,
        })
    }

    /// All rows: `[T, D]` to `[T, D]`.
    ///
    /// # Errors
    /// As [`Backend::forward`], here and below.
    pub fn forward(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        segments: &Segments,
        causal: bool,
    ) -> Result<Tensor> {
        let normed = self.layer_norm1.forward_inner(b, x)?;
        let mask = Mask { queries: segments, keys: segments, causal };
        let h = self.attention.forward(b, (&normed, &normed), x, &mask)?;
        let y = self.mlp.forward(b, &self.layer_norm2.forward_inner(b, &h)?, &h)?;
        b.block_end(&y);
        Ok(y)
    }

    /// One row of each segment, the only one that is needed behind the last block: `[T, D]` to
    /// `[B, D]`. In a causal tower the row must be the last of its segment.
    pub fn forward_rows(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        segments: &Segments,
        rows: &Arc<[u32]>,
    ) -> Result<Tensor> {
        let normed = self.layer_norm1.forward_inner(b, x)?;
        let one_each = Segments::uniform(rows.len(), 1);
        let mask = Mask { queries: &one_each, keys: segments, causal: false };
        let h = self.attention.forward(
            b,
            (&b.rows(&normed, rows)?, &normed),
            &b.rows(x, rows)?,
            &mask,
        )?;
        let y = self.mlp.forward(b, &self.layer_norm2.forward_inner(b, &h)?, &h)?;
        b.block_end(&y);
        Ok(y)
    }
}
