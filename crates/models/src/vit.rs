//! The vision tower: one ViT for B/32, B/16, L/14, H/14 and any other size.
//!
//! Letters: `B` pictures, `P` patches of a picture, `D` width.
//!
//! # Source
//! Dosovitskiy et al., arXiv 2010.11929, in the form of openai/CLIP `clip/model.py`
//! `VisionTransformer` (commit d05afc4): a patch convolution without bias, a class token, learned
//! positions, a norm before the first block, and pre-LN blocks.

use crate::config::Vision;
use crate::layers::{LayerNorm, Linear, PreNormBlock};
use crate::weights::Weights;
use crate::{Error, Result};
use altclip_tensor::{Backend, Op, Segments, Tensor, Weight};

/// A ViT with its class token.
pub struct Vit {
    patch_embedding: Linear,
    class_embedding: Weight,
    position_embedding: Weight,
    pre_layernorm: LayerNorm,
    blocks: Vec<PreNormBlock>,
    post_layernorm: Option<LayerNorm>,
    config: Vision,
}

impl Vit {
    /// The tower below `vision_model`.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Vision) -> Result<Self> {
        let Vision { blocks, patch_size, num_channels, .. } = *config;
        let (width, eps) = (blocks.hidden_size, blocks.layer_norm_eps);
        let post_layernorm =
            config.post_layernorm.then(|| LayerNorm::new(weights, "post_layernorm", width, eps));
        let patch_shape = [width, num_channels, patch_size, patch_size];
        Ok(Self {
            patch_embedding: Linear::edge_without_bias(
                weights,
                "embeddings.patch_embedding",
                &patch_shape,
            )?,
            class_embedding: weights.vector("embeddings.class_embedding", width)?,
            position_embedding: weights
                .table("embeddings.position_embedding.weight", [config.tokens(), width])?,
            // Upstream: the checkpoint key is misspelt, `pre_layrnorm`.
            pre_layernorm: LayerNorm::new(weights, "pre_layrnorm", width, eps)?,
            blocks: PreNormBlock::stack(weights, "encoder.layers", &config.blocks)?,
            post_layernorm: post_layernorm.transpose()?,
            config: *config,
        })
    }

    /// Pixel values `[B, 3 · Y · X]` to the pooled state of each picture, `[B, D]`: the class token
    /// behind the last block and `post_layernorm`, where there is one.
    ///
    /// # Errors
    /// As [`Backend::forward`], here and below.
    pub fn pooled(&self, b: &dyn Backend, pixels: &Tensor) -> Result<Tensor> {
        let segments = Segments::uniform(pixels.rows(), self.config.tokens());
        let last = self.blocks.len().saturating_sub(1);
        let mut x = self.hidden_state(b, pixels, last)?;
        x = match self.blocks.last() {
            Some(block) => block.forward_rows(b, &x, &segments, &segments.first_rows())?,
            None => return Err(Error::NoTower("vision blocks")),
        };
        self.normed(b, x)
    }

    /// The states of all tokens behind the last block and `post_layernorm`, where there is one:
    /// `[B · (P + 1), D]`.
    pub fn last_hidden_state(&self, b: &dyn Backend, pixels: &Tensor) -> Result<Tensor> {
        let x = self.hidden_state(b, pixels, self.blocks.len())?;
        self.normed(b, x)
    }

    fn normed(&self, b: &dyn Backend, x: Tensor) -> Result<Tensor> {
        match &self.post_layernorm {
            Some(norm) => norm.forward(b, &x),
            None => Ok(x),
        }
    }

    /// The states of all tokens behind the first `layers` blocks, `[B · (P + 1), D]`, without
    /// `post_layernorm`; 0 gives the normed embeddings.
    pub fn hidden_state(&self, b: &dyn Backend, pixels: &Tensor, layers: usize) -> Result<Tensor> {
        let segments = Segments::uniform(pixels.rows(), self.config.tokens());
        let mut x = self.embed(b, pixels)?;
        for block in &self.blocks[..layers.min(self.blocks.len())] {
            x = block.forward(b, &x, &segments, false)?;
        }
        Ok(x)
    }

    fn embed(&self, b: &dyn Backend, pixels: &Tensor) -> Result<Tensor> {
        let Vision { image_size, patch_size, num_channels, .. } = self.config;
        let patches = b.forward(&Op::Patches {
            pixels: pixels.clone(),
            channels: num_channels,
            size: [image_size, image_size],
            patch: patch_size,
        })?; // [B · P, 3 · patch²]
        let x = b.forward(&Op::ClassToken {
            x: self.patch_embedding.forward(b, &patches)?,
            class: self.class_embedding.clone(),
            positions: self.position_embedding.clone(),
        })?; // [B · (P + 1), D]
        self.pre_layernorm.forward(b, &x)
    }
}
