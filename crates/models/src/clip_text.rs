//! CLIP's text tower: causal, pre-LN, pooled at the end-of-text token.
//!
//! # Source
//! Radford et al., arXiv 2103.00020; openai/CLIP `clip/model.py` (commit d05afc4); names as in
//! huggingface/transformers `models/clip/modeling_clip.py` (5.23).

use crate::config::ClipText as Config;
use crate::layers::{LayerNorm, PreNormBlock};
use crate::weights::Weights;
use crate::{Error, Result};
use altclip_tensor::{Backend, Lookup, Ops, Segments, Tensor, Weight};
use std::sync::Arc;

/// A causal text tower.
pub struct ClipText {
    token_embedding: Weight,
    position_embedding: Weight,
    blocks: Vec<PreNormBlock>,
    final_layer_norm: LayerNorm,
    config: Config,
}

impl ClipText {
    /// The tower below `text_model`.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let (width, eps) = (config.blocks.hidden_size, config.blocks.layer_norm_eps);
        Ok(Self {
            token_embedding: weights
                .table("embeddings.token_embedding.weight", [config.vocab_size, width])?,
            position_embedding: weights.table(
                "embeddings.position_embedding.weight",
                [config.max_position_embeddings, width],
            )?,
            blocks: PreNormBlock::stack(weights, "encoder.layers", &config.blocks)?,
            final_layer_norm: LayerNorm::new(weights, "final_layer_norm", width, eps)?,
            config: *config,
        })
    }

    /// The state at the end-of-text token behind `final_layer_norm`, before projection: `[B, D]`.
    /// This is what AltCLIP's teacher-student stage imitates.
    ///
    /// # Errors
    /// [`Error::TooManyTokens`], or as [`Backend::forward`]; here and below.
    pub fn pooled(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<Tensor> {
        // No token sees what follows it, so a text ends at the token where it is pooled.
        let texts: Vec<&[u32]> =
            texts.iter().map(|text| &text[..self.pooled_length(text)]).collect();
        let segments = Segments::from_lengths(texts.iter().map(|text| text.len()));
        let ends: Arc<[u32]> =
            segments.offsets()[1..].iter().map(|&end| end.saturating_sub(1) as u32).collect();
        let x = self.hidden_state(b, &texts, self.blocks.len().saturating_sub(1))?;
        let x = match self.blocks.last() {
            Some(block) => block.forward_rows(b, &x, &segments, &ends)?,
            None => return Err(Error::NoTower("text blocks")),
        };
        self.final_layer_norm.forward(b, &x)
    }

    /// The states of all tokens behind `final_layer_norm`, `[T, D]`.
    pub fn last_hidden_state(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<Tensor> {
        let x = self.hidden_state(b, texts, self.blocks.len())?;
        self.final_layer_norm.forward(b, &x)
    }

    /// The states of all tokens behind the first `layers` blocks, `[T, D]`, without
    /// `final_layer_norm`; 0 gives the embeddings.
    pub fn hidden_state(&self, b: &dyn Backend, texts: &[&[u32]], layers: usize) -> Result<Tensor> {
        let segments = Segments::from_lengths(texts.iter().map(|text| text.len()));
        let limit = self.config.max_position_embeddings;
        if segments.longest() > limit {
            return Err(Error::TooManyTokens { found: segments.longest(), limit });
        }
        let mut x = b.embed(vec![
            Lookup { table: self.token_embedding.clone(), ids: texts.concat().into() },
            Lookup {
                table: self.position_embedding.clone(),
                ids: texts.iter().flat_map(|text| 0..text.len() as u32).collect(),
            },
        ])?;
        for block in &self.blocks[..layers.min(self.blocks.len())] {
            x = block.forward(b, &x, &segments, true)?;
        }
        Ok(x)
    }

    /// Number of blocks.
    pub fn num_hidden_layers(&self) -> usize {
        self.blocks.len()
    }

    /// Tokens up to and with the one that is pooled.
    ///
    /// Upstream: configurations written before transformers 4.31 say `eos_token_id = 2`, which is
    /// not the end-of-text token; there the highest id marks it, as in openai/CLIP.
    fn pooled_length(&self, ids: &[u32]) -> usize {
        let marked = match self.config.eos_token_id {
            2 => {
                let highest = ids.iter().max();
                ids.iter().position(|id| Some(id) == highest)
            }
            eos => ids.iter().position(|&id| id == eos),
        };
        // Without an end-of-text token the reference's argmax over "is it the token" gives 0.
        marked.unwrap_or(0) + usize::from(!ids.is_empty())
    }
}
