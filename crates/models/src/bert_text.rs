//! A text tower that is BERT alone: the first token's state, or BERT's pooler of it.
//!
//! # Source
//! CN-CLIP: Yang et al., arXiv 2211.01335; huggingface/transformers `models/chinese_clip` (5.23). Taiyi: the
//! logits of `BertForSequenceClassification` are the text's feature, so its classifier is the projection.

use crate::Result;
use crate::bert::{Bert, TokenBatch};
use crate::config::BertText as Config;
use crate::layers::Linear;
use crate::weights::Weights;
use altclip_tensor::{Activation, Backend, Segments, Tensor};

/// BERT with at most a pooler.
pub struct BertText {
    bert: Bert,
    pooler: Option<Linear>,
    config: Config,
}

impl BertText {
    /// The tower below `text_model`.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let width = config.bert.blocks.hidden_size;
        let pooler = config.pooler.then(|| Linear::edge(weights, "pooler.dense", [width, width]));
        let bert = Bert::new(weights, &config.bert)?;
        Ok(Self { bert, pooler: pooler.transpose()?, config: *config })
    }

    /// The pooled state of each text before projection, `[B, D]`.
    ///
    /// # Errors
    /// [`crate::Error::TooManyTokens`], or as [`Backend::forward`]; here and below.
    pub fn pooled(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<Tensor> {
        let cls = self.bert.cls(b, &TokenBatch::new(texts, &self.config.bert))?;
        match &self.pooler {
            Some(pooler) => pooler.forward_inner(b, &cls, Activation::Tanh),
            None => Ok(cls),
        }
    }

    /// The states behind the first `layers` blocks, `[T, D]`.
    pub fn hidden_state(&self, b: &dyn Backend, texts: &[&[u32]], layers: usize) -> Result<Tensor> {
        self.bert.hidden_state(b, &TokenBatch::new(texts, &self.config.bert), layers)
    }

    /// The states of all tokens, and where each text begins.
    pub fn states(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<(Tensor, Segments)> {
        let batch = TokenBatch::new(texts, &self.config.bert);
        let states = self.bert.hidden_state(b, &batch, self.num_hidden_layers())?;
        Ok((states, batch.segments().clone()))
    }

    /// Number of blocks.
    pub fn num_hidden_layers(&self) -> usize {
        self.bert.num_hidden_layers()
    }
}
