//! The coarse operations. Each is one fused kernel call on the CPU and one record on the tape.

use crate::{Activation, Segments, Tensor, Weight};
use std::sync::Arc;

/// Rows `ids` of `table`.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// A table weight `[V, D]`.
    pub table: Weight,
    /// One row number per output row.
    pub ids: Arc<[u32]>,
}

/// One operation with its operands. Operands are handles, so that a tape can keep the whole record.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Op {
    /// `activation(x · weightᵀ + bias) + residual`: `[T, K]` by `[N, K]` to `[T, N]`.
    Linear {
        /// `[T, K]`
        x: Tensor,
        /// Matrix `[N, K]`, as PyTorch's `nn.Linear` stores it.
        weight: Weight,
        /// Vector `[N]`.
        bias: Option<Weight>,
        /// Applied before the residual is added.
        activation: Activation,
        /// `[T, N]`
        residual: Option<Tensor>,
        /// The result feeds only products and attention, so a backend may keep it in the precision
        /// of the weight.
        compact: bool,
    },
    /// `(x − mean) / sqrt(variance + eps) · weight + bias` over each row of `[T, D]`.
    LayerNorm {
        /// `[T, D]`
        x: Tensor,
        /// Vector `[D]`.
        weight: Weight,
        /// Vector `[D]`.
        bias: Weight,
        /// Inside the square root.
        eps: f32,
        /// As in [`Op::Linear`], in the precision of the backend.
        compact: bool,
    },
    /// `softmax(q · kᵀ / sqrt(head size)) · v` for each head and segment: `[Tq, D]`.
    ///
    /// Segment `s` of the queries sees segment `s` of the keys, so that a class token alone, or a
    /// padded query over unpadded keys, is an ordinary call.
    Attention {
        /// `[Tq, D]`, the heads side by side.
        q: Tensor,
        /// `[Tk, 2 D]`: keys, then values.
        kv: Tensor,
        /// Number of heads, a divisor of `D`.
        heads: usize,
        /// Segments of `q`.
        queries: Segments,
        /// Segments of `kv`, as many as `queries`.
        keys: Segments,
        /// A query sees no key behind its own position, counted from the end of both segments.
        causal: bool,
    },
    /// The sum of table rows, added in order: `[T, D]`.
    Embed {
        /// At least one; all of the same length and width.
        lookups: Vec<Lookup>,
    },
    /// The rows `rows` of `x`, in that order: `[R, D]`.
    Rows {
        /// `[T, D]`
        x: Tensor,
        /// Row numbers.
        rows: Arc<[u32]>,
    },
    /// Non-overlapping square patches of pictures, each flattened as a convolution kernel is
    /// (channel, row, column): `[B, C · Y · X]` to `[B · P, C · patch²]`.
    Patches {
        /// `[B, channels · height · width]`
        pixels: Tensor,
        /// `C`
        channels: usize,
        /// `[Y, X]`, both at least one patch; rows and columns beyond the last whole patch are
        /// left out, as a convolution with that stride does.
        size: [usize; 2],
        /// Side of a patch in pixels.
        patch: usize,
    },
    /// Puts the class token before the patches of each picture and adds the positions:
    /// `[B · P, D]` to `[B · (P + 1), D]`.
    ClassToken {
        /// `[B · P, D]`
        x: Tensor,
        /// Vector `[D]`.
        class: Weight,
        /// Table `[P + 1, D]`.
        positions: Weight,
    },
    /// Each row divided by its L2 norm. A zero row gives NaN, as the reference does.
    L2Normalize {
        /// `[T, D]`
        x: Tensor,
    },
    /// `scale · a · bᵀ`: `[M, E]` by `[N, E]` to `[M, N]`.
    Similarity {
        /// `[M, E]`
        a: Tensor,
        /// `[N, E]`
        b: Tensor,
        /// `exp(logit_scale)`
        scale: f32,
    },
    /// `x` with values set to zero by chance and the others scaled so that the mean stays.
    ///
    /// Which ones is a function of the seed and of a value's position, so the operation gives the
    /// same result whenever it runs.
    Dropout {
        /// `[T, D]`
        x: Tensor,
        /// Probability of zero, at least 0 and below 1.
        p: f32,
        /// Chooses the mask.
        seed: u64,
        /// Position of the first value; operations of one seed that are to drop independently have
        /// positions of their own.
        offset: u64,
    },
    /// `a + b`, same shape.
    Add {
        /// `[T, D]`
        a: Tensor,
        /// `[T, D]`
        b: Tensor,
    },
}

impl Op {
    /// Name of the operation, for counters and messages.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Linear { .. } => "linear",
            Op::LayerNorm { .. } => "layer_norm",
            Op::Attention { .. } => "attention",
            Op::Embed { .. } => "embed",
            Op::Rows { .. } => "rows",
            Op::Patches { .. } => "patches",
            Op::ClassToken { .. } => "class_token",
            Op::L2Normalize { .. } => "l2_normalize",
            Op::Similarity { .. } => "similarity",
            Op::Dropout { .. } => "dropout",
            Op::Add { .. } => "add",
        }
    }

    /// The tensors that flow in, in the order in which [`crate::Grads::inputs`] answers.
    pub fn inputs(&self) -> Vec<&Tensor> {
        match self {
            Op::Linear { x, residual, .. } => std::iter::once(x).chain(residual).collect(),
            Op::LayerNorm { x, .. }
            | Op::Rows { x, .. }
            | Op::ClassToken { x, .. }
            | Op::Dropout { x, .. }
            | Op::L2Normalize { x } => vec![x],
            Op::Attention { q, kv, .. } => vec![q, kv],
            Op::Patches { pixels, .. } => vec![pixels],
            Op::Similarity { a, b, .. } | Op::Add { a, b } => vec![a, b],
            Op::Embed { .. } => vec![],
        }
    }

    /// The weights that take part, in the order in which [`crate::Grads::weights`] answers.
    pub fn weights(&self) -> Vec<&Weight> {
        match self {
            Op::Linear { weight, bias, .. } => std::iter::once(weight).chain(bias).collect(),
            Op::LayerNorm { weight, bias, .. } => vec![weight, bias],
            Op::Embed { lookups } => lookups.iter().map(|lookup| &lookup.table).collect(),
            Op::ClassToken { class, positions, .. } => vec![class, positions],
            Op::Attention { .. }
            | Op::Rows { .. }
            | Op::Patches { .. }
            | Op::L2Normalize { .. }
            | Op::Similarity { .. }
            | Op::Dropout { .. }
            | Op::Add { .. } => vec![],
        }
    }

    /// The same operation with each tensor that flows in replaced by what `map` gives for it.
    #[must_use]
    pub fn with_inputs(&self, mut map: impl FnMut(&Tensor) -> Tensor) -> Op {
        let mut op = self.clone();
        match &mut op {
            Op::Linear { x, residual, .. } => {
                *x = map(x);
                if let Some(residual) = residual {
                    *residual = map(residual);
                }
            }
            Op::LayerNorm { x, .. }
            | Op::Rows { x, .. }
            | Op::ClassToken { x, .. }
            | Op::Dropout { x, .. }
            | Op::L2Normalize { x } => *x = map(x),
            Op::Attention { q, kv, .. } => {
                *q = map(q);
                *kv = map(kv);
            }
            Op::Patches { pixels, .. } => *pixels = map(pixels),
            Op::Similarity { a, b, .. } | Op::Add { a, b } => {
                *a = map(a);
                *b = map(b);
            }
            Op::Embed { .. } => {}
        }
        op
    }

    /// Multiply-adds times two, for rates.
    pub fn flops(&self) -> u64 {
        let flops = match self {
            Op::Linear { x, weight, .. } => 2 * x.rows() * weight.rows() * weight.cols(),
            Op::Attention { q, queries, keys, .. } => {
                let pairs: usize = queries
                    .offsets()
                    .windows(2)
                    .zip(keys.offsets().windows(2))
                    .map(|(q, k)| (q[1] - q[0]) * (k[1] - k[0]))
                    .sum();
                4 * pairs * q.cols()
            }
            Op::Similarity { a, b, .. } => 2 * a.rows() * b.rows() * a.cols(),
            _ => 0,
        };
        flops as u64
    }
}
