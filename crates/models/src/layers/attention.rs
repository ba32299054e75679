//! Multi-head attention with its output map and residual.

use super::Linear;
use crate::Result;
use crate::weights::Weights;
use altclip_tensor::{Activation, Backend, Ops, Segments, Tensor};

/// How a file names the four maps.
pub struct AttentionNames {
    /// Query map.
    pub query: &'static str,
    /// Key map.
    pub key: &'static str,
    /// Value map.
    pub value: &'static str,
    /// Output map.
    pub output: &'static str,
}

/// Which keys a query sees.
pub struct Mask<'a> {
    /// Segments of the queries.
    pub queries: &'a Segments,
    /// Segments of the keys.
    pub keys: &'a Segments,
    /// No key behind the query's own position.
    pub causal: bool,
}

/// `residual + output(softmax(q kᵀ / √K) v)`, with all maps biased.
pub struct Attention {
    query: Linear,
    key_value: Linear,
    output: Linear,
    heads: usize,
}

impl Attention {
    /// Maps of queries and of the output `[width, width]`, of keys and values `[width, other]`, where
    /// `other` is the width of what is attended to.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(
        weights: &Weights<'_>,
        names: &AttentionNames,
        [width, other]: [usize; 2],
        heads: usize,
    ) -> Result<Self> {
        let square = [width, width];
        Ok(Self {
            query: Linear::new(weights, names.query, square)?,
            key_value: Linear::stacked(weights, &[names.key, names.value], [width, other])?,
            output: Linear::new(weights, names.output, square)?,
            heads,
        })
    }

    /// Queries from `x_q` `[Tq, D]`, keys and values from `x_kv` `[Tk, D]`, plus `residual`
    /// `[Tq, D]`.
    ///
    /// # Errors
    /// As [`Backend::forward`].
    pub fn forward(
        &self,
        b: &dyn Backend,
        (x_q, x_kv): (&Tensor, &Tensor),
        residual: &Tensor,
        mask: &Mask<'_>,
    ) -> Result<Tensor> {
        let q = self.query.forward_inner(b, x_q, Activation::Identity)?;
        let kv = self.key_value.forward_inner(b, x_kv, Activation::Identity)?; // [Tk, 2 D]
        let mixed = b.attention(&q, &kv, self.heads, mask.queries, mask.keys, mask.causal)?;
        self.output.forward_add(b, &mixed, residual)
    }
}
