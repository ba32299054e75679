//! The BERT-family encoder: one for XLM-RoBERTa, RoBERTa and BERT.
//!
//! Letters: `B` texts, `T` tokens of all texts together, `D` width.
//!
//! # Source
//! Devlin et al., arXiv 1810.04805; Conneau et al., arXiv 1911.02116; names as in
//! huggingface/transformers `models/xlm_roberta/modeling_xlm_roberta.py` (5.23).

use crate::config::Bert as Config;
use crate::layers::{AttentionNames, LayerNorm, Mask, Mlp, SelfAttention};
use crate::weights::Weights;
use crate::{Error, Result};
use altclip_tensor::{Backend, Lookup, Ops, Segments, Tensor, Weight};
use std::sync::Arc;

/// Token ids of several texts, packed one after the other.
pub struct TokenBatch {
    ids: Arc<[u32]>,
    positions: Arc<[u32]>,
    queries: Segments,
    keys: Segments,
    /// The rows that may be attended to, where that is not all of them.
    key_rows: Option<Arc<[u32]>>,
}

impl TokenBatch {
    /// Texts as they are, without padding.
    pub fn new(texts: &[&[u32]], pad_token_id: u32) -> Self {
        Self::build(texts.iter().map(|text| text.to_vec()), pad_token_id, None)
    }

    /// Texts padded to `length` rows each; the padding is computed but never attended to, as
    /// diffusion pipelines do it.
    pub fn padded(texts: &[&[u32]], pad_token_id: u32, length: usize) -> Self {
        let pad = |text: &&[u32]| {
            let pads = length.saturating_sub(text.len());
            text.iter().copied().chain(std::iter::repeat_n(pad_token_id, pads)).collect()
        };
        Self::build(texts.iter().map(pad), pad_token_id, Some(texts))
    }

    fn build(rows: impl Iterator<Item = Vec<u32>>, pad: u32, unpadded: Option<&[&[u32]]>) -> Self {
        let rows: Vec<Vec<u32>> = rows.collect();
        let queries = Segments::from_lengths(rows.iter().map(Vec::len));
        let (keys, key_rows) = match unpadded {
            None => (queries.clone(), None),
            Some(texts) => {
                let starts = queries.offsets();
                let real =
                    texts.iter().zip(starts).flat_map(|(text, &start)| start..start + text.len());
                let key_rows = real.map(|row| row as u32).collect();
                (Segments::from_lengths(texts.iter().map(|text| text.len())), Some(key_rows))
            }
        };
        Self {
            positions: rows.iter().flat_map(|row| roberta_positions(row, pad)).collect(),
            ids: rows.concat().into(),
            queries,
            keys,
            key_rows,
        }
    }

    /// Longest text of the batch, in tokens.
    pub fn longest(&self) -> usize {
        self.queries.longest()
    }
}

/// RoBERTa counts positions from `pad + 1` over the tokens that are not the pad token; a pad token,
/// even one that the text spells out, keeps position `pad`.
fn roberta_positions(ids: &[u32], pad: u32) -> impl Iterator<Item = u32> {
    let mut last = pad;
    ids.iter().map(move |&id| {
        if id == pad {
            return pad;
        }
        last += 1;
        last
    })
}

/// Embeddings and post-LN blocks.
pub struct Bert {
    word_embeddings: Weight,
    token_type_embeddings: Weight,
    position_embeddings: Weight,
    layer_norm: LayerNorm,
    blocks: Vec<Block>,
    config: Config,
}

impl Bert {
    /// The encoder below `roberta` or `bert`.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let width = config.blocks.hidden_size;
        let blocks = (0..config.blocks.num_hidden_layers).map(|layer| {
            weights.scope(&format!("encoder.layer.{layer}"), |weights| Block::new(&weights, config))
        });
        weights.scope("embeddings", |weights| {
            Ok(Self {
                word_embeddings: weights
                    .table("word_embeddings.weight", [config.vocab_size, width])?,
                token_type_embeddings: weights
                    .table("token_type_embeddings.weight", [config.type_vocab_size, width])?,
                position_embeddings: weights
                    .table("position_embeddings.weight", [config.max_position_embeddings, width])?,
                layer_norm: LayerNorm::new(
                    &weights,
                    "LayerNorm",
                    width,
                    config.blocks.layer_norm_eps,
                )?,
                blocks: blocks.collect::<Result<_>>()?,
                config: *config,
            })
        })
    }

    /// The state of the first token of each text behind the last block: `[B, D]`. The last block
    /// computes that row only.
    ///
    /// # Errors
    /// [`Error::TooManyTokens`], or as [`Backend::forward`]; here and below.
    pub fn cls(&self, b: &dyn Backend, batch: &TokenBatch) -> Result<Tensor> {
        let x = self.hidden_state(b, batch, self.blocks.len().saturating_sub(1))?;
        match self.blocks.last() {
            Some(block) => block.forward(b, &x, batch, Some(&batch.queries.first_rows())),
            None => Err(Error::NoTower("text blocks")),
        }
    }

    /// The states of all tokens behind the first `layers` blocks: `[T, D]`; 0 gives the normed
    /// embeddings.
    pub fn hidden_state(
        &self,
        b: &dyn Backend,
        batch: &TokenBatch,
        layers: usize,
    ) -> Result<Tensor> {
        let limit = self.config.max_tokens();
        if batch.longest() > limit {
            return Err(Error::TooManyTokens { found: batch.longest(), limit });
        }
        let mut x = self.embed(b, batch)?;
        for block in &self.blocks[..layers.min(self.blocks.len())] {
            x = block.forward(b, &x, batch, None)?;
        }
        Ok(x)
    }

    /// Number of blocks.
    pub fn num_hidden_layers(&self) -> usize {
        self.blocks.len()
    }

    fn embed(&self, b: &dyn Backend, batch: &TokenBatch) -> Result<Tensor> {
        let lookup =
            |table: &Weight, ids: &Arc<[u32]>| Lookup { table: table.clone(), ids: ids.clone() };
        let first_type: Arc<[u32]> = vec![0; batch.ids.len()].into();
        let x = b.embed(vec![
            lookup(&self.word_embeddings, &batch.ids),
            lookup(&self.token_type_embeddings, &first_type),
            lookup(&self.position_embeddings, &batch.positions),
        ])?;
        self.layer_norm.forward(b, &x)
    }
}

/// `h = LN(x + attention(x))`, `y = LN(h + mlp(h))`.
struct Block {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    mlp: Mlp,
    output_norm: LayerNorm,
}

const NAMES: AttentionNames = AttentionNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
};

impl Block {
    fn new(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let config = &config.blocks;
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let mlp_sizes = [width, config.intermediate_size];
        Ok(Self {
            attention: SelfAttention::new(weights, &NAMES, width, config.num_attention_heads)?,
            attention_norm: LayerNorm::new(weights, "attention.output.LayerNorm", width, eps)?,
            mlp: Mlp::new(
                weights,
                ["intermediate.dense", "output.dense"],
                mlp_sizes,
                config.hidden_act,
            )?,
            output_norm: LayerNorm::new(weights, "output.LayerNorm", width, eps)?,
        })
    }

    /// All rows, or only `rows`, one for each text.
    fn forward(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        batch: &TokenBatch,
        rows: Option<&Arc<[u32]>>,
    ) -> Result<Tensor> {
        let x_kv = match &batch.key_rows {
            Some(rows) => b.rows(x, rows)?,
            None => x.clone(),
        };
        let (x_q, queries) = match rows {
            Some(rows) => (b.rows(x, rows)?, Segments::uniform(rows.len(), 1)),
            None => (x.clone(), batch.queries.clone()),
        };
        let mask = Mask { queries: &queries, keys: &batch.keys, causal: false };
        let h = self.attention.forward(b, (&x_q, &x_kv), &x_q, &mask)?;
        let h = self.attention_norm.forward(b, &h)?;
        let y = self.output_norm.forward(b, &self.mlp.forward(b, &h, &h)?)?;
        b.block_end(&y);
        Ok(y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_skip_pad_tokens_wherever_they_stand() {
        let positions = |ids: &[u32]| roberta_positions(ids, 1).collect::<Vec<_>>();
        assert_eq!(positions(&[0, 5, 6, 2]), [2, 3, 4, 5]);
        assert_eq!(positions(&[0, 5, 2, 1, 1]), [2, 3, 4, 1, 1]);
        assert_eq!(positions(&[1, 1, 0, 2]), [1, 1, 2, 3]);
        assert_eq!(positions(&[0, 1, 7, 2]), [2, 1, 3, 4]);
    }

    #[test]
    fn a_padded_batch_attends_to_real_tokens_only() {
        let batch = TokenBatch::padded(&[&[0, 5, 2], &[0, 2]], 1, 4);
        assert_eq!(&*batch.ids, [0, 5, 2, 1, 0, 2, 1, 1]);
        assert_eq!(&*batch.positions, [2, 3, 4, 1, 2, 3, 1, 1]);
        assert_eq!(batch.keys.offsets(), [0, 3, 5]);
        assert_eq!(batch.key_rows.as_deref(), Some(&[0, 1, 2, 4, 5][..]));
    }
}
