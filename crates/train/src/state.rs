//! The state of a run, and the checkpoints that hold it.
//!
//! A run is a function of seed, step and data, so its whole state is: the weights and moments of the
//! optimiser as f32 tensors, and a few counters. One checkpoint is one folder,
//!
//! ```text
//! OUT/checkpoints/step-00000100/state.safetensors   the tensors
//!                               state.json          the counters: RunState
//!                               CHECKSUMS           the hashes of both, as `xxh128sum --check` reads them
//! OUT/LATEST, OUT/BEST                              the folder of the newest and of the best
//! ```
//!
//! and appears as one: it is written beside its place, synced, read back and renamed. What was saved
//! is therefore there whole or not at all, whenever the machine stops. A checkpoint that was damaged
//! later is found by its hashes; [`Checkpoints::load`] then takes the one before and says how many
//! steps are lost.

mod checkpoints;
mod error;
mod folder;

pub use checkpoints::{Checkpoints, Keep, Loaded, MAX_FAILED_SAVES, Resume, peek};
pub(crate) use error::disk;
pub use error::{Difference, Error};

use crate::metrics::Mark;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of `state.json` that this version writes.
const FORMAT: u32 = 1;

/// A tensor to be saved; the values are written from where they lie.
#[derive(Clone, Debug)]
pub struct TensorSlice<'a> {
    /// Its name, unique in the checkpoint: `weight.logit_scale`, `exp_avg.logit_scale`…
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: &'a [f32],
}

/// A tensor that was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// Everything of a run that is not a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunState {
    /// The form of this record.
    format: u32,
    /// Steps that were done.
    pub step: u64,
    /// Epochs that were done.
    pub epoch: u64,
    /// Samples of this epoch that were used.
    pub cursor: u64,
    /// The seed of every random number.
    pub seed: u64,
    /// What a run that goes on must have in common with this one: fields of its configuration, the
    /// global batch, the fingerprint of its data; each as text.
    pub fixed: BTreeMap<String, String>,
    /// The step of the last checkpoint that was saved in turn and not for an interruption: where bad batches
    /// lead back to. So a run that was interrupted goes back as far as one that was not.
    pub fallback: u64,
    /// How far `metrics.jsonl` goes.
    pub log: Mark,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Whatever else must go on: counters of the guard, of early stopping…
    pub counters: BTreeMap<String, serde_json::Value>,
}

/// The best value of the metric by which checkpoints are compared.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// The step after which it was measured.
    pub step: u64,
    /// The value, finite.
    pub value: f64,
}

impl RunState {
    /// The state before the first step.
    pub fn new(seed: u64, fixed: BTreeMap<String, String>) -> Self {
        Self {
            format: FORMAT,
            step: 0,
            epoch: 0,
            cursor: 0,
            seed,
            fixed,
            fallback: 0,
            log: Mark::default(),
            best: None,
            counters: BTreeMap::new(),
        }
    }

    /// Refuses to go on with another configuration or other data.
    ///
    /// # Errors
    /// [`Error::OtherRun`] with all fields that differ.
    pub fn require(&self, now: &BTreeMap<String, String>) -> Result<(), Error> {
        let keys: std::collections::BTreeSet<_> = self.fixed.keys().chain(now.keys()).collect();
        let differences: Vec<Difference> = keys
            .into_iter()
            .filter(|key| self.fixed.get(*key) != now.get(*key))
            .map(|key| Difference {
                field: key.clone(),
                saved: self.fixed.get(key).cloned(),
                now: now.get(key).cloned(),
            })
            .collect();
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::OtherRun { step: self.step, differences })
    }
}
