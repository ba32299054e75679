//! Wukong's token reduction: a few learned tokens, each a weighted mean of all tokens of a picture.
//!
//! The weights are the softmax over the picture of `w · conv(LN(x)) + c`; the constant `c` of a token does
//! not change a softmax. So this is attention with one head whose queries are learned: the rows of
//! `attention_maps.1`, over keys from `attention_maps.0` and values from `feat_conv`. The two convolutions
//! are maps in groups of channels.
//!
//! # Source
//! Gu et al., Wukong, arXiv 2202.06767, section 3.2; mindspore-ai/models `research/mm/wukong`,
//! `token_learner.py` (commit 8ab6c07).

use crate::Result;
use crate::config::TokenLearner as Config;
use crate::layers::LayerNorm;
use crate::weights::{Placement, Weights};
use altclip_tensor::{Activation, Backend, Lookup, Op, Ops, Segments, Tensor, Weight};
use std::sync::Arc;

/// Inside the square root of its norm.
const EPS: f32 = 1e-5;

/// A matrix and perhaps a bias.
type Map = (Weight, Option<Weight>);

/// The layer.
pub struct TokenLearner {
    norm: LayerNorm,
    queries: Weight,
    keys: Map,
    values: Map,
    tokens: usize,
}

impl TokenLearner {
    /// The layer below `token_learner`.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Config) -> Result<Self> {
        let Config { tokens, groups, width } = *config;
        // Keys and values side by side, as attention takes them: each map fills its half.
        let half = |name: &str, start: usize| {
            let place = Placement { rows: 2 * width, cols: width, start, groups, factor: 1.0 };
            let shape = [width, width / groups, 1, 1];
            let weight = weights.placed(&format!("{name}.weight"), &shape, place)?;
            let bias = format!("{name}.bias");
            let bias = weights.has(&bias).then(|| weights.placed(&bias, &[width], place));
            Ok::<Map, crate::Error>((weight, bias.transpose()?))
        };
        // Attention divides by the root of the head's size; these queries are not to be divided.
        let factor = (width as f32).sqrt();
        let table = Placement { rows: tokens, cols: width, start: 0, groups: 1, factor };
        Ok(Self {
            norm: LayerNorm::new(weights, "norm", width, EPS)?,
            queries: weights.placed_table(
                "attention_maps.1.weight",
                &[tokens, width, 1, 1],
                table,
            )?,
            keys: half("attention_maps.0", 0)?,
            values: half("feat_conv", width)?,
            tokens,
        })
    }

    /// Tokens of `pictures` pictures `[B · P, D]` to `[B · tokens, D]`.
    ///
    /// # Errors
    /// As [`Backend::forward`].
    pub fn forward(&self, b: &dyn Backend, x: &Tensor, pictures: usize) -> Result<Tensor> {
        let map = |x: Tensor, (weight, bias): &Map, residual| {
            b.forward(&Op::Linear {
                x,
                weight: weight.clone(),
                bias: bias.clone(),
                activation: Activation::Identity,
                residual,
                compact: false,
            })
        };
        let values = map(x.clone(), &self.values, None)?;
        let kv = map(self.norm.forward(b, x)?, &self.keys, Some(values))?; // [B · P, 2 D]
        let ids: Arc<[u32]> = (0..pictures).flat_map(|_| 0..self.tokens as u32).collect();
        let q = b.embed(vec![Lookup { table: self.queries.clone(), ids }])?;
        let queries = Segments::uniform(pictures, self.tokens);
        let keys = Segments::uniform(pictures, x.rows() / pictures.max(1));
        Ok(b.attention(&q, &kv, 1, &queries, &keys, false)?)
    }

    /// Tokens of a picture that are left.
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}
