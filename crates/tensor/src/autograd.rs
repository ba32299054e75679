//! A tape over any backend: it records coarse operations as they run and composes their backward
//! forms in reverse. The operations and their gradients belong to the backend.

use crate::{
    Backend, Error, Grads, Op, Result, RowSource, Saved, Tensor, TensorId, Weight, WeightId,
    WeightKind,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

struct Record {
    op: Op,
    saved: Saved,
    output: TensorId,
}

/// Records what runs through it. A model that is given a tape instead of its backend trains.
pub struct Tape<'b> {
    inner: &'b dyn Backend,
    records: Mutex<Vec<Record>>,
}

/// What [`Tape::gradients`] gives back.
#[derive(Debug, Default)]
pub struct Gradients {
    tensors: BTreeMap<TensorId, Tensor>,
    weights: BTreeMap<WeightId, Tensor>,
}

impl Gradients {
    /// The gradient of an input or intermediate result, if one flowed there.
    pub fn of(&self, tensor: &Tensor) -> Option<&Tensor> {
        self.tensors.get(&tensor.id())
    }

    /// The gradient of a trainable weight.
    ///
    /// # Errors
    /// [`Error::NoGradient`]: a trainable weight without gradient is a mistake, never silence.
    pub fn of_weight(&self, weight: &Weight) -> Result<&Tensor> {
        self.weights.get(&weight.id()).ok_or(Error::NoGradient(weight.id()))
    }
}

impl<'b> Tape<'b> {
    /// An empty tape over `inner`.
    pub fn new(inner: &'b dyn Backend) -> Self {
        Self { inner, records: Mutex::default() }
    }

    /// Consumes the records, last first, and returns the gradients of everything that `output`
    /// depends on, given the gradient of `output` itself.
    ///
    /// # Errors
    /// [`Error::Unsupported`] where the backend lacks a backward form.
    pub fn gradients(&self, output: &Tensor, grad: Tensor) -> Result<Gradients> {
        let records = std::mem::take(&mut *self.lock());
        let mut gradients = Gradients::default();
        gradients.tensors.insert(output.id(), grad);
        for record in records.iter().rev() {
            // What the output does not depend on has no gradient here and is passed over.
            let Some(grad) = gradients.tensors.get(&record.output).cloned() else { continue };
            let grads = self.inner.backward(&record.op, &record.saved, &grad)?;
            for (tensor, grad) in record.op.inputs().into_iter().zip(grads.inputs) {
                self.accumulate(&mut gradients.tensors, tensor.id(), grad)?;
            }
            for (weight, grad) in record.op.weights().into_iter().zip(grads.weights) {
                self.accumulate(&mut gradients.weights, weight.id(), grad)?;
            }
        }
        Ok(gradients)
    }

    fn accumulate<K: Ord>(
        &self,
        sums: &mut BTreeMap<K, Tensor>,
        key: K,
        grad: Option<Tensor>,
    ) -> Result<()> {
        let Some(mut grad) = grad else { return Ok(()) };
        if let Some(sum) = sums.get(&key) {
            grad = self.inner.forward(&Op::Add { a: sum.clone(), b: grad })?;
        }
        sums.insert(key, grad);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for Tape<'_> {
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
        let (output, saved) = self.inner.forward_saving(op)?;
        self.lock().push(Record { op: op.clone(), saved, output: output.id() });
        Ok(output)
    }

    fn forward_saving(&self, op: &Op) -> Result<(Tensor, Saved)> {
        self.inner.forward_saving(op)
    }

    fn backward(&self, op: &Op, saved: &Saved, grad: &Tensor) -> Result<Grads> {
        self.inner.backward(op, saved, grad)
    }
}
