//! A tape over any backend: it records coarse operations as they run and composes their backward
//! forms in reverse. The operations and their gradients belong to the backend.
//!
//! Recorded is only what a trainable weight or a watched tensor lies behind: frozen parameters cost
//! nothing. With checkpoints ([`Tape::with_checkpoints`]) the tensors inside a block of the model are
//! dropped when the block ends and computed again, to the same bits, when it is differentiated.

mod accumulate;
mod gradients;

pub use gradients::Gradients;

use crate::{
    Backend, Grads, Op, Result, RowSource, Saved, Tensor, TensorId, Wanted, Weight, WeightId,
    WeightKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

struct Record {
    op: Op,
    wanted: Wanted,
    output: TensorId,
    /// `None` with checkpoints: the operation runs again.
    saved: Option<Saved>,
}

/// What runs together when it is differentiated.
#[derive(Default)]
struct Block(Vec<Record>);

/// Records what runs through it. A model that is given a tape instead of its backend trains.
pub struct Tape<'b> {
    inner: &'b dyn Backend,
    trainable: BTreeSet<WeightId>,
    checkpoints: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The ended blocks, and the present one last.
    blocks: Vec<Block>,
    /// Tensors that a gradient flows to.
    live: BTreeSet<TensorId>,
    watched: BTreeSet<TensorId>,
}

impl State {
    fn push(&mut self, record: Record) {
        self.live.insert(record.output);
        match self.blocks.last_mut() {
            Some(block) => block.0.push(record),
            None => self.blocks.push(Block(vec![record])),
        }
    }
}

impl<'b> Tape<'b> {
    /// An empty tape over `inner` that gives gradients of these weights.
    pub fn new(inner: &'b dyn Backend, trainable: BTreeSet<WeightId>) -> Self {
        Self { inner, trainable, checkpoints: false, state: Mutex::default() }
    }

    /// The same, keeping of each block of a model its beginning and end only. Same bits, a third
    /// more work, and memory for one block instead of all.
    #[must_use]
    pub fn with_checkpoints(mut self) -> Self {
        self.checkpoints = true;
        self
    }

    /// Asks for the gradient of a tensor: of an input before it is used, or of a result.
    pub fn watch(&self, tensor: &Tensor) {
        let mut state = self.lock();
        state.live.insert(tensor.id());
        state.watched.insert(tensor.id());
    }

    /// Consumes the records, last first, and returns the gradients of the trainable weights and the
    /// watched tensors, given some results each with its own gradient.
    ///
    /// # Errors
    /// As [`Backend::backward`].
    pub fn gradients(&self, outputs: &[(Tensor, Tensor)]) -> Result<Gradients> {
        let State { mut blocks, watched, .. } = std::mem::take(&mut *self.lock());
        let mut gradients = Gradients::new(&self.trainable);
        for (output, grad) in outputs {
            gradients.add_tensor(self.inner, output.id(), grad.clone())?;
        }
        while let Some(block) = blocks.pop() {
            let mut records = self.run_again(block.0)?;
            while let Some(record) = records.pop() {
                // What the outputs do not depend on has no gradient here and is passed over.
                let grad = if watched.contains(&record.output) {
                    gradients.tensors.get(&record.output).cloned()
                } else {
                    gradients.tensors.remove(&record.output)
                };
                let (Some(grad), Some(saved)) = (grad, &record.saved) else { continue };
                let grads = self.inner.backward(&record.op, saved, &grad, &record.wanted)?;
                drop(grad);
                // Of a tensor that ran again the name is that of the first run.
                for (id, grad) in record.inputs.iter().zip(grads.inputs) {
                    if let Some(grad) = grad {
                        gradients.add_tensor(self.inner, *id, grad)?;
                    }
                }
                for (weight, grad) in record.op.weights().into_iter().zip(grads.weights) {
                    if let Some(grad) = grad {
                        gradients.add_weight(self.inner, weight.id(), grad)?;
                    }
                }
            }
        }
        gradients.tensors.retain(|id, _| watched.contains(id));
        Ok(gradients)
    }

    /// Records with what their backward forms need.
    fn run_again(&self, records: Vec<Record>) -> Result<Vec<Ready>> {
        let mut made = BTreeMap::<TensorId, Tensor>::new();
        let mut ready = Vec::with_capacity(records.len());
        for Record { op, wanted, output, saved } in records {
            let inputs = op.inputs().into_iter().map(Tensor::id).collect();
            if saved.is_some() {
                ready.push(Ready { op, wanted, inputs, output, saved });
                continue;
            }
            let op = op.with_inputs(|x| made.get(&x.id()).unwrap_or(x).clone());
            let (tensor, saved) = self.inner.forward_saving(&op, &wanted)?;
            made.insert(output, tensor);
            ready.push(Ready { op, wanted, inputs, output, saved: Some(saved) });
        }
        Ok(ready)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wanted(&self, op: &Op) -> Wanted {
        let state = self.lock();
        Wanted {
            inputs: op.inputs().iter().map(|x| state.live.contains(&x.id())).collect(),
            weights: op.weights().iter().map(|w| self.trainable.contains(&w.id())).collect(),
        }
    }
}

/// A record that can be differentiated.
struct Ready {
    op: Op,
    wanted: Wanted,
    inputs: Vec<TensorId>,
    output: TensorId,
    saved: Option<Saved>,
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
        let wanted = self.wanted(op);
        if !wanted.any() {
            return self.inner.forward(op);
        }
        let (tensor, saved) = if self.checkpoints {
            (self.inner.forward(op)?, None)
        } else {
            let (tensor, saved) = self.inner.forward_saving(op, &wanted)?;
            (tensor, Some(saved))
        };
        self.lock().push(Record { op: op.clone(), wanted, output: tensor.id(), saved });
        Ok(tensor)
    }

    fn forward_saving(&self, op: &Op, wanted: &Wanted) -> Result<(Tensor, Saved)> {
        self.inner.forward_saving(op, wanted)
    }

    fn backward(&self, op: &Op, saved: &Saved, grad: &Tensor, wanted: &Wanted) -> Result<Grads> {
        self.inner.backward(op, saved, grad, wanted)
    }

    fn block_end(&self, x: &Tensor) {
        self.inner.block_end(x);
        if !self.checkpoints {
            return;
        }
        let mut state = self.lock();
        let Some(Block(records)) = state.blocks.last_mut() else { return };
        if records.is_empty() {
            return;
        }
        // Inputs that the block makes itself lose their numbers; others keep them, and the block's
        // result lives on in what uses it.
        let inside: BTreeSet<TensorId> = records.iter().map(|record| record.output).collect();
        for record in records {
            record.op = record.op.with_inputs(|x| match inside.contains(&x.id()) {
                true => x.ghost(),
                false => x.clone(),
            });
        }
        state.blocks.push(Block::default());
    }
}
