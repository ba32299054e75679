//! AdamW and StableAdamW on master weights in `f32`.
//!
//! A tensor is a slice of masters with two moments. All values of a tensor are updated in each
//! step, those of table rows without a gradient too: their moments fade, they decay and move on, as
//! in PyTorch's dense update. (AdamW gives the bits that it gives if the zeros are written out.)
//!
//! Without weight decay (`decay: false`) go, by the custom of all trainers of such models: biases,
//! the weights of layer norms, and the logit scale. Matrices and embedding tables (words,
//! positions, the class embedding) decay.
//!
//! Every value depends on its own history alone, and sums run over a fixed tree: the bits do not
//! depend on the number of threads. There is no fused multiply-add and no platform function, so
//! they do not depend on the machine either.

mod adamw;
mod gradient;
mod stable;

pub use gradient::{Gradient, Norms};

use altclip_kernels::Pool;
use serde::{Deserialize, Serialize};

use crate::parallel::PIECE;

/// Which update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// Adam with decoupled weight decay: `torch.optim.AdamW`.
    AdamW,
    /// AdamW whose rate is divided, tensor by tensor, by the root mean square of the update where
    /// that is above 1.
    StableAdamW,
}

/// An optimiser's settings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Optimizer {
    /// Which update.
    pub algorithm: Algorithm,
    /// How fast the first moment fades, above 0.5.
    pub beta1: f64,
    /// How fast the second moment fades.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// The share of a weight that each step takes off, times the learning rate.
    pub weight_decay: f64,
}

impl Optimizer {
    /// AdamW with PyTorch's betas 0.9 and 0.999, eps 1e-8 and the given decay.
    pub fn adamw(weight_decay: f64) -> Optimizer {
        Optimizer { algorithm: Algorithm::AdamW, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay }
    }
}

/// The running means that an optimiser keeps of one tensor.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// Of the gradient.
    pub first: Vec<f32>,
    /// Of its square.
    pub second: Vec<f32>,
}

impl Moments {
    /// Those before the first step, of a tensor of `len` values.
    pub fn zeros(len: usize) -> Moments {
        Moments { first: vec![0.0; len], second: vec![0.0; len] }
    }
}

/// One tensor of a step.
#[derive(Debug)]
pub struct TensorUpdate<'a> {
    /// What messages call it.
    pub name: &'a str,
    /// The master weights.
    pub master: &'a mut [f32],
    /// Their moments, of the same length.
    pub moments: &'a mut Moments,
    /// Their gradient.
    pub gradient: Gradient<'a>,
    /// Whether weight decay applies.
    pub decay: bool,
}

/// What one step has in common for all tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// How many updates there were with this one, from 1: the exponent of the bias correction.
    pub number: u64,
    /// The learning rate.
    pub lr: f64,
    /// What each gradient is multiplied by: [`Norms::clip_coefficient`].
    pub gradient_scale: f32,
}

impl Optimizer {
    /// Updates masters and moments of all `tensors`.
    ///
    /// # Panics
    /// Panics if lengths do not fit each other, rows of a gradient are not strictly ascending or lie
    /// outside their table, or the step's number is 0.
    pub fn step(&self, pool: &Pool, step: Step, tensors: &mut [TensorUpdate<'_>]) {
        assert!(step.number > 0, "optimiser: steps are counted from 1");
        for tensor in &*tensors {
            let len = tensor.master.len();
            tensor.gradient.check(tensor.name, len);
            let moments = &tensor.moments;
            let fit = moments.first.len() == len && moments.second.len() == len;
            assert!(fit, "moments of `{}`: another length", tensor.name);
        }
        match self.algorithm {
            Algorithm::AdamW => adamw::step(self, pool, step, tensors),
            Algorithm::StableAdamW => stable::step(self, pool, step, tensors),
        }
    }
}

/// A piece of one tensor, which one task updates.
struct Piece<'a> {
    /// Where it begins in the tensor.
    start: usize,
    /// Which tensor.
    tensor: usize,
    master: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
    gradient: Gradient<'a>,
    decay: bool,
}

/// The pieces of all tensors, in order.
fn pieces<'a>(tensors: &'a mut [TensorUpdate<'_>]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    for (index, tensor) in tensors.iter_mut().enumerate() {
        let masters = tensor.master.chunks_mut(PIECE);
        let firsts = tensor.moments.first.chunks_mut(PIECE);
        let seconds = tensor.moments.second.chunks_mut(PIECE);
        for (i, ((master, first), second)) in masters.zip(firsts).zip(seconds).enumerate() {
            let (gradient, decay) = (tensor.gradient, tensor.decay);
            let start = i * PIECE;
            pieces.push(Piece { start, tensor: index, master, first, second, gradient, decay });
        }
    }
    pieces
}

impl Piece<'_> {
    /// Calls `f(masters, first moments, second moments, gradients)` with runs that together are the
    /// piece.
    fn for_each_run(&mut self, mut f: impl FnMut(&mut [f32], &mut [f32], &mut [f32], &[f32])) {
        let start = self.start;
        self.gradient.for_each_run(start..start + self.master.len(), |range, gradient| {
            let own = range.start - start..range.end - start;
            let master = &mut self.master[own.clone()];
            f(master, &mut self.first[own.clone()], &mut self.second[own], gradient);
        });
    }
}

#[cfg(test)]
mod tests;
