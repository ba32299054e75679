//! The BERT-family encoder: one for XLM-RoBERTa, RoBERTa and BERT.
//!
//! Letters: `B` texts, `T` tokens of all texts together, `D` width.
//!
//! # Source
//! Devlin et al., arXiv 1810.04805; Conneau et al., arXiv 1911.02116; names as in
//! huggingface/transformers `models/xlm_roberta/modeling_xlm_roberta.py` (5.23).

use crate::config::{Bert as Config, Positions, Transformer};
use crate::layers::{Attention, AttentionNames, LayerNorm, Mask, Mlp};
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
    pub fn new(texts: &[&[u32]], config: &Config) -> Self {
        Self::build(texts.iter().map(|text| text.to_vec()), config, None)
    }

    /// Texts padded to `length` rows each; the padding is computed but never attended to, as
    /// diffusion pipelines do it.
    pub fn padded(texts: &[&[u32]], config: &Config, length: usize) -> Self {
        let pad_token_id = config.pad_token_id;
        let pad = |text: &&[u32]| {
            let pads = length.saturating_sub(text.len());
            text.iter().copied().chain(std::iter::repeat_n(pad_token_id, pads)).collect()
        };
        Self::build(texts.iter().map(pad), config, Some(texts))
    }

    fn build(
        rows: impl Iterator<Item = Vec<u32>>,
        config: &Config,
        unpadded: Option<&[&[u32]]>,
    ) -> Self {
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
        let positions = match config.positions {
            Positions::Absolute => rows.iter().flat_map(|row| 0..row.len() as u32).collect(),
            Positions::AfterPad => {
                let pad = config.pad_token_id;
                rows.iter().flat_map(|row| roberta_positions(row, pad)).collect()
            }
        };
        Self { positions, ids: rows.concat().into(), queries, keys, key_rows }
    }

    /// Where each text begins.
    pub fn segments(&self) -> &Segments {
        &self.queries
    }

    fn sequences(&self) -> Sequences<'_> {
        Sequences {
            queries: &self.queries,
            keys: &self.keys,
            key_rows: self.key_rows.as_ref(),
            other: None,
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
        let blocks = Block::stack(weights, &config.blocks, None)?;
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
                blocks,
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
            Some(block) => {
                block.forward(b, &x, &batch.sequences(), Some(&batch.queries.first_rows()))
            }
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
            x = block.forward(b, &x, &batch.sequences(), None)?;
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

/// The sequences that blocks work on.
struct Sequences<'a> {
    queries: &'a Segments,
    keys: &'a Segments,
    /// The rows that may be attended to, where that is not all of them.
    key_rows: Option<&'a Arc<[u32]>>,
    /// States of the other side for cross-attention, and where each of its sequences begins.
    other: Option<(&'a Tensor, &'a Segments)>,
}

/// BERT blocks over the states of one side that also see the other side.
pub struct JointEncoder {
    blocks: Vec<Block>,
}

impl JointEncoder {
    /// The encoder at this level; `other` is the width of the other side.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Transformer, other: usize) -> Result<Self> {
        Ok(Self { blocks: Block::stack(weights, config, Some(other))? })
    }

    /// States `[T, D]` to that of the first row of each sequence behind the last block, `[B, D]`.
    ///
    /// # Errors
    /// As [`Backend::forward`].
    pub fn cls(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        segments: &Segments,
        other: (&Tensor, &Segments),
    ) -> Result<Tensor> {
        let sequences =
            Sequences { queries: segments, keys: segments, key_rows: None, other: Some(other) };
        let (last, first) = self.blocks.split_last().ok_or(Error::NoTower("joint blocks"))?;
        let mut x = x.clone();
        for block in first {
            x = block.forward(b, &x, &sequences, None)?;
        }
        last.forward(b, &x, &sequences, Some(&segments.first_rows()))
    }
}

/// `h = LN(x + attention(x))`, perhaps `h = LN(h + attention(h, other))`, `y = LN(h + mlp(h))`.
struct Block {
    attention: Attention,
    attention_norm: LayerNorm,
    cross: Option<(Attention, LayerNorm)>,
    mlp: Mlp,
    output_norm: LayerNorm,
}

const NAMES: AttentionNames = AttentionNames {
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    output: "attention.output.dense",
};

const CROSS: AttentionNames = AttentionNames {
    query: "crossattention.self.query",
    key: "crossattention.self.key",
    value: "crossattention.self.value",
    output: "crossattention.output.dense",
};

impl Block {
    /// The blocks below `encoder.layer`, with cross-attention to states of width `other`.
    fn stack(
        weights: &Weights<'_>,
        config: &Transformer,
        other: Option<usize>,
    ) -> Result<Vec<Self>> {
        (0..config.num_hidden_layers)
            .map(|layer| {
                weights.scope(&format!("encoder.layer.{layer}"), |weights| {
                    Self::new(&weights, config, other)
                })
            })
            .collect()
    }

    fn new(weights: &Weights<'_>, config: &Transformer, other: Option<usize>) -> Result<Self> {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let heads = config.num_attention_heads;
        let mlp_sizes = [width, config.intermediate_size];
        let cross = other.map(|other| {
            let norm = LayerNorm::new(weights, "crossattention.output.LayerNorm", width, eps)?;
            Ok::<_, Error>((Attention::new(weights, &CROSS, [width, other], heads)?, norm))
        });
        Ok(Self {
            attention: Attention::new(weights, &NAMES, [width; 2], heads)?,
            attention_norm: LayerNorm::new(weights, "attention.output.LayerNorm", width, eps)?,
            cross: cross.transpose()?,
            mlp: Mlp::new(
                weights,
                ["intermediate.dense", "output.dense"],
                mlp_sizes,
                config.hidden_act,
            )?,
            output_norm: LayerNorm::new(weights, "output.LayerNorm", width, eps)?,
        })
    }

    /// All rows, or only `rows`, one for each sequence.
    fn forward(
        &self,
        b: &dyn Backend,
        x: &Tensor,
        sequences: &Sequences<'_>,
        rows: Option<&Arc<[u32]>>,
    ) -> Result<Tensor> {
        let x_kv = match sequences.key_rows {
            Some(rows) => b.rows(x, rows)?,
            None => x.clone(),
        };
        let (x_q, queries) = match rows {
            Some(rows) => (b.rows(x, rows)?, Segments::uniform(rows.len(), 1)),
            None => (x.clone(), sequences.queries.clone()),
        };
        let mask = Mask { queries: &queries, keys: sequences.keys, causal: false };
        let h = self.attention.forward(b, (&x_q, &x_kv), &x_q, &mask)?;
        let mut h = self.attention_norm.forward(b, &h)?;
        if let (Some((attention, norm)), Some((other, keys))) = (&self.cross, sequences.other) {
            let mask = Mask { queries: &queries, keys, causal: false };
            h = norm.forward(b, &attention.forward(b, (&h, other), &h, &mask)?)?;
        }
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
        let config = crate::config::Model::preset("altclip").unwrap();
        let crate::config::Text::AltClip(text) = config.text else { panic!("altclip") };
        let batch = TokenBatch::padded(&[&[0, 5, 2], &[0, 2]], &text.bert, 4);
        assert_eq!(&*batch.ids, [0, 5, 2, 1, 0, 2, 1, 1]);
        assert_eq!(&*batch.positions, [2, 3, 4, 1, 2, 3, 1, 1]);
        assert_eq!(batch.keys.offsets(), [0, 3, 5]);
        assert_eq!(batch.key_rows.as_deref(), Some(&[0, 1, 2, 4, 5][..]));
    }
}
