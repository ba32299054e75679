//! A decorator that counts what a model asks of its backend.

use crate::{Backend, Grads, Op, Result, RowSource, Saved, Tensor, Wanted, Weight, WeightKind};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// What was asked for under one operation's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Number of calls.
    pub calls: u64,
    /// Rows that the calls returned.
    pub rows: u64,
    /// Multiply-adds times two.
    pub flops: u64,
}

/// Passes every operation on and counts it by name.
pub struct Counting<'b> {
    inner: &'b dyn Backend,
    counts: Mutex<BTreeMap<&'static str, Count>>,
}

impl<'b> Counting<'b> {
    /// Counts what `inner` executes.
    pub fn new(inner: &'b dyn Backend) -> Self {
        Self { inner, counts: Mutex::default() }
    }

    /// The counts so far, by operation name.
    pub fn counts(&self) -> BTreeMap<&'static str, Count> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self, op: &Op, output: &Tensor) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(op.name()).or_default();
        count.calls += 1;
        count.rows += output.rows() as u64;
        count.flops += op.flops();
    }
}

impl Backend for Counting<'_> {
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
        let output = self.inner.forward(op)?;
        self.count(op, &output);
        Ok(output)
    }

    fn forward_saving(&self, op: &Op, wanted: &Wanted) -> Result<(Tensor, Saved)> {
        let (output, saved) = self.inner.forward_saving(op, wanted)?;
        self.count(op, &output);
        Ok((output, saved))
    }

    fn backward(&self, op: &Op, saved: &Saved, grad: &Tensor, wanted: &Wanted) -> Result<Grads> {
        self.inner.backward(op, saved, grad, wanted)
    }

    fn block_end(&self, x: &Tensor) {
        self.inner.block_end(x);
    }
}
