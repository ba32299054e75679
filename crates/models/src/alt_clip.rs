//! AltCLIP's text tower: XLM-RoBERTa, a norm and a linear map; and the states that AltDiffusion takes
//! from it.
//!
//! # Source
//! AltCLIP, arXiv 2211.06679, section 3; huggingface/transformers `models/altclip` (5.23).
//! AltDiffusion: huggingface/diffusers `pipelines/deprecated/alt_diffusion`; m18:
//! FlagAI-Open/FlagAI `flagai/model/mm/modeling_berts_m18.py` (commit 9a885f33).

use crate::bert::{Bert, TokenBatch};
use crate::config::AltClipText as Config;
use crate::layers::{LayerNorm, Linear};
use crate::weights::Weights;
use crate::{Error, Result};
use altclip_tensor::{Backend, Tensor};

/// Rows of one prompt that AltDiffusion attends to.
pub const CONDITIONING_TOKENS: usize = 77;

/// Which generation of AltDiffusion the states are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conditioning {
    /// AltDiffusion and -m9: `transformation` of the last state, without `pre_LN`.
    M9,
    /// AltDiffusion-m18: `transformation_pre` of `pre_LN` of the last but one state.
    M18,
}

/// XLM-RoBERTa with AltCLIP's head.
pub struct AltClipText {
    roberta: Bert,
    pre_ln: LayerNorm,
    transformation: Linear,
    transformation_pre: Option<Linear>,
    config: Config,
}

impl AltClipText {
    /// The tower below `text_model`. `transformation_pre` is optional: m18 files have it, the
    /// embeddings do not need it.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let width = config.bert.blocks.hidden_size;
        let pre = weights.has("transformation_pre.weight").then(|| {
            let square = [width, width];
            Linear::edge(weights, "transformation_pre", square)
        });
        Ok(Self {
            roberta: weights.scope("roberta", |weights| Bert::new(&weights, &config.bert))?,
            // The norms behind the encoder have the eps of the encoder's own.
            pre_ln: LayerNorm::new(weights, "pre_LN", width, config.bert.blocks.layer_norm_eps)?,
            transformation: Linear::edge(weights, "transformation", [config.project_dim, width])?,
            transformation_pre: pre.transpose()?,
            config: *config,
        })
    }

    /// The pooled state of each text before projection, `[B, project_dim]`: the first token behind
    /// `pre_LN` and `transformation`.
    ///
    /// # Errors
    /// [`Error::TooManyTokens`], or as [`Backend::forward`]; here and below.
    pub fn pooled(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<Tensor> {
        let cls = self.roberta.cls(b, &TokenBatch::new(texts, &self.config.bert))?;
        // Norm and map work row by row, so only the first token needs them.
        self.transformation.forward(b, &self.pre_ln.forward(b, &cls)?)
    }

    /// The states behind the first `layers` blocks, `[T, D]`.
    pub fn hidden_state(&self, b: &dyn Backend, texts: &[&[u32]], layers: usize) -> Result<Tensor> {
        self.roberta.hidden_state(b, &TokenBatch::new(texts, &self.config.bert), layers)
    }

    /// `pre_LN` and `transformation` of every token: `last_hidden_state` of the reference.
    pub fn last_hidden_state(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<Tensor> {
        let x = self.hidden_state(b, texts, self.num_hidden_layers())?;
        self.transformation.forward(b, &self.pre_ln.forward(b, &x)?)
    }

    /// Number of blocks.
    pub fn num_hidden_layers(&self) -> usize {
        self.roberta.num_hidden_layers()
    }

    /// Which generation of AltDiffusion this file belongs to.
    pub fn generation(&self) -> Conditioning {
        if self.transformation_pre.is_some() { Conditioning::M18 } else { Conditioning::M9 }
    }

    /// The 77 states per prompt that condition AltDiffusion's UNet: `[B · 77, D]`, with `D` =
    /// `project_dim` (m9) or the width (m18). Prompts are padded to 77 rows; padding is not attended
    /// to, but its own states are part of the result.
    pub fn conditioning(
        &self,
        b: &dyn Backend,
        texts: &[&[u32]],
        generation: Conditioning,
    ) -> Result<Tensor> {
        let batch = TokenBatch::padded(texts, &self.config.bert, CONDITIONING_TOKENS);
        if batch.longest() > CONDITIONING_TOKENS {
            return Err(Error::TooManyTokens {
                found: batch.longest(),
                limit: CONDITIONING_TOKENS,
            });
        }
        let layers = self.num_hidden_layers();
        match (generation, &self.transformation_pre) {
            (Conditioning::M9, _) => {
                self.transformation.forward(b, &self.roberta.hidden_state(b, &batch, layers)?)
            }
            (Conditioning::M18, Some(pre)) => {
                let x = self.roberta.hidden_state(b, &batch, layers.saturating_sub(1))?;
                pre.forward(b, &self.pre_ln.forward(b, &x)?)
            }
            (Conditioning::M18, None) => Err(Error::NoTower("transformation_pre")),
        }
    }
}
