//! What one step of training computes: a loss and the gradient of every trained tensor.

use crate::parameters::{Gradient, Parameters};
use crate::{Error, Result};
use altclip_models::weights::Weights;
use altclip_tensor::autograd::Tape;
use altclip_tensor::{Backend, CpuBackend, Dropout, Tensor};

/// A kind of training. What it needs of a sample is prepared by other threads.
pub trait Task: Sync {
    /// A prepared sample.
    type Sample: Send + 'static;

    /// Loss before the update `step` (counted from 1), and gradients in the order of
    /// [`Parameters::trained`].
    ///
    /// # Errors
    /// The model cannot be built or run.
    fn step(&self, parameters: &Parameters, step: u64, batch: &[Self::Sample]) -> Result<Outcome>;

    /// Bytes that a batch needs beside the activations of a chunk, about; `samples` are those of an epoch.
    fn batch_bytes(&self, batch_size: u64, samples: u64) -> u64 {
        let _ = (batch_size, samples);
        0
    }

    /// Brings parameters back into their bounds after an update.
    fn after_update(&self, parameters: &mut Parameters) {
        let _ = parameters;
    }
}

/// What a step gave.
pub struct Outcome {
    /// The loss of the batch.
    pub loss: f64,
    /// A gradient for each trained tensor.
    pub gradients: Vec<Gradient>,
}

/// A tower over samples: `[B, …]` to `[B, D]`.
pub(crate) type Forward<'a, S> = dyn Fn(&dyn Backend, &[S]) -> Result<Tensor> + 'a;

/// How towers are run in training.
pub struct Engine {
    /// Executes them; its precision is what products are computed in.
    pub backend: CpuBackend,
    /// Activations of a block are computed again in the backward pass instead of being kept.
    pub checkpoint_activations: bool,
    /// Samples of one forward and backward pass; a batch of more is cut up, with the same result.
    pub chunk_size: usize,
    /// Share of activations that is dropped where BERT drops them.
    pub dropout: f32,
    /// What dropout draws from.
    pub seed: u64,
}

/// A forward pass that can be differentiated.
pub(crate) struct Pass<'e> {
    tape: Tape<'e>,
    output: Tensor,
}

impl Pass<'_> {
    pub(crate) fn output(&self) -> &Tensor {
        &self.output
    }
}

impl Engine {
    /// Runs `forward` on a tape. The same place (step and chunk) drops the same activations.
    pub(crate) fn pass<'e>(
        &'e self,
        parameters: &Parameters,
        place: (u64, usize),
        forward: impl FnOnce(&dyn Backend) -> Result<Tensor>,
    ) -> Result<Pass<'e>> {
        let mut tape = Tape::new(&self.backend, parameters.trainable());
        if self.checkpoint_activations {
            tape = tape.with_checkpoints();
        }
        let output = self.dropping(&tape, place, forward)?;
        Ok(Pass { tape, output })
    }

    /// Runs `forward` without a tape, dropping the activations that [`Engine::pass`] would drop.
    pub(crate) fn plain(
        &self,
        place: (u64, usize),
        forward: impl FnOnce(&dyn Backend) -> Result<Tensor>,
    ) -> Result<Tensor> {
        self.dropping(&self.backend, place, forward)
    }

    fn dropping(
        &self,
        backend: &dyn Backend,
        (step, chunk): (u64, usize),
        forward: impl FnOnce(&dyn Backend) -> Result<Tensor>,
    ) -> Result<Tensor> {
        if self.dropout <= 0.0 {
            return forward(backend);
        }
        let seed = crate::random::Random::new(self.seed, step).bits(chunk as u64)[0];
        forward(&Dropout::new(backend, self.dropout, seed))
    }

    /// Adds the gradients of what is trained to `sums`, given that of the output, `[B, D]`.
    pub(crate) fn backward(
        &self,
        parameters: &Parameters,
        sums: &mut [Option<Gradient>],
        pass: Pass<'_>,
        gradient: &[f32],
    ) -> Result<()> {
        let Pass { tape, output } = pass;
        let gradient = self.backend.tensor(output.rows(), output.cols(), gradient)?;
        let gradients = tape.gradients(&[(output, gradient)])?;
        parameters.collect(&self.backend, gradients, sums)
    }

    /// The root of a model's names over the master weights.
    pub(crate) fn weights<'a>(&'a self, parameters: &'a Parameters) -> Weights<'a> {
        Weights::new(&self.backend, parameters)
    }
}

/// Sums that are complete: a trained tensor that nothing flowed to is a mistake.
pub(crate) fn complete(
    parameters: &Parameters,
    sums: Vec<Option<Gradient>>,
) -> Result<Vec<Gradient>> {
    sums.into_iter()
        .zip(parameters.trained())
        .map(|(sum, parameter)| sum.ok_or_else(|| Error::NoGradient(parameter.name.clone())))
        .collect()
}
