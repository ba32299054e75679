//! What differentiation gives back.

use crate::{Backend, Error, Result, Tensor, TensorId, WeightGrad, WeightId};
use std::collections::{BTreeMap, BTreeSet};

use super::accumulate::{sum_of_tensors, sum_of_weights};

/// What [`super::Tape::gradients`] gives back.
#[derive(Debug, Default)]
pub struct Gradients {
    pub(super) tensors: BTreeMap<TensorId, Tensor>,
    weights: BTreeMap<WeightId, WeightGrad>,
    trainable: BTreeSet<WeightId>,
}

impl Gradients {
    pub(super) fn new(trainable: &BTreeSet<WeightId>) -> Self {
        Self { trainable: trainable.clone(), ..Self::default() }
    }

    /// The gradient of a watched tensor, if one flowed there.
    pub fn of(&self, tensor: &Tensor) -> Option<&Tensor> {
        self.tensors.get(&tensor.id())
    }

    /// The gradient of a trainable weight.
    ///
    /// # Errors
    /// [`Error::NoGradient`]: a trainable weight without gradient is a mistake, never silence.
    pub fn of_weight(&self, weight: WeightId) -> Result<&WeightGrad> {
        self.weights.get(&weight).ok_or(Error::NoGradient(weight))
    }

    /// The gradients of all trainable weights.
    ///
    /// # Errors
    /// [`Error::NoGradient`] for a trainable weight that received none.
    pub fn into_weights(self) -> Result<BTreeMap<WeightId, WeightGrad>> {
        match self.trainable.iter().find(|id| !self.weights.contains_key(id)) {
            Some(&id) => Err(Error::NoGradient(id)),
            None => Ok(self.weights),
        }
    }

    /// The gradients of the trainable weights that received one: where the loss does not depend on
    /// all of them.
    pub fn into_received(self) -> BTreeMap<WeightId, WeightGrad> {
        self.weights
    }

    pub(super) fn add_tensor(
        &mut self,
        backend: &dyn Backend,
        id: TensorId,
        grad: Tensor,
    ) -> Result<()> {
        let grad = match self.tensors.remove(&id) {
            Some(sum) => sum_of_tensors(backend, sum, grad)?,
            None => grad,
        };
        self.tensors.insert(id, grad);
        Ok(())
    }

    pub(super) fn add_weight(
        &mut self,
        backend: &dyn Backend,
        id: WeightId,
        grad: WeightGrad,
    ) -> Result<()> {
        let grad = match self.weights.remove(&id) {
            Some(sum) => sum_of_weights(backend, sum, grad)?,
            None => grad,
        };
        self.weights.insert(id, grad);
        Ok(())
    }
}
