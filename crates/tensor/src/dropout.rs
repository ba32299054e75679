//! A decorator that applies hidden dropout where BERT has it, so that models know nothing of it.
//!
//! Dropped are the output of a linear map before its residual is added, and the result of the norm
//! behind the embeddings.
//!
//! # Source
//! Devlin et al., arXiv 1810.04805, appendix A.2; `hidden_dropout_prob` of
//! huggingface/transformers `models/xlm_roberta/modeling_xlm_roberta.py` (5.23): `XLMRobertaEmbeddings`,
//! `XLMRobertaSelfOutput`, `XLMRobertaOutput`.

use crate::{
    Backend, Grads, Op, Result, RowSource, Saved, Tensor, TensorId, Wanted, Weight, WeightKind,
};
use std::sync::{Arc, Mutex, PoisonError};

/// Passes operations on, with dropout in two places. A model that is given this over a tape trains
/// with dropout.
pub struct Dropout<'b> {
    inner: &'b dyn Backend,
    p: f32,
    seed: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Position of the next value to drop.
    offset: u64,
    /// The embeddings whose norm is to come.
    embedded: Option<TensorId>,
}

impl<'b> Dropout<'b> {
    /// Drops with probability `p`. The masks of a run are a function of `seed` and of the order of
    /// operations; a training step takes a seed of its own.
    pub fn new(inner: &'b dyn Backend, p: f32, seed: u64) -> Self {
        Self { inner, p, seed, state: Mutex::default() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_from(&self, x: Tensor) -> Result<Tensor> {
        let offset = {
            let mut state = self.lock();
            let next = state.offset.wrapping_add((x.rows() * x.cols()) as u64);
            std::mem::replace(&mut state.offset, next)
        };
        self.inner.forward(&Op::Dropout { x, p: self.p, seed: self.seed, offset })
    }
}

impl Backend for Dropout<'_> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn tensor(&self, rows: usize, cols: usize, data: &[f32]) -> Result<Tensor> {
        self.inner.tensor(rows, cols, data)
    }

    fn weight(&self, kind: WeightKind, source: Arc<dyn RowSource>) -> Result<Weight> {
        self.inner.weight(kind, source)
    }

    fn read(&self, tensor: &Tensor) -> Result<Vec<f32>> {
        self.inner.read(tensor)
    }

    fn forward(&self, op: &Op) -> Result<Tensor> {
        if self.p == 0.0 {
            return self.inner.forward(op);
        }
        match op {
            Op::Linear { residual: Some(residual), .. } => {
                let mut map = op.clone();
                if let Op::Linear { residual, .. } = &mut map {
                    *residual = None;
                }
                let a = self.drop_from(self.inner.forward(&map)?)?;
                self.inner.forward(&Op::Add { a, b: residual.clone() })
            }
            Op::Embed { .. } => {
                let output = self.inner.forward(op)?;
                self.lock().embedded = Some(output.id());
                Ok(output)
            }
            Op::LayerNorm { x, .. } if self.lock().embedded == Some(x.id()) => {
                self.drop_from(self.inner.forward(op)?)
            }
            _ => self.inner.forward(op),
        }
    }

    fn forward_saving(&self, op: &Op, wanted: &Wanted) -> Result<(Tensor, Saved)> {
        self.inner.forward_saving(op, wanted)
    }

    fn backward(&self, op: &Op, saved: &Saved, grad: &Tensor, wanted: &Wanted) -> Result<Grads> {
        self.inner.backward(op, saved, grad, wanted)
    }

    fn block_end(&self, x: &Tensor) {
        self.inner.block_end(x);
    }
}
