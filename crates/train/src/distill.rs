//! Stage 1: a text tower of many languages learns the states of CLIP's, from parallel sentences alone.
//!
//! The target is the teacher's state at the end-of-text token behind its final norm and before its
//! projection; the student's answer is its first token behind `pre_LN` and `transformation`; the loss is
//! the mean of the squared differences. An AltCLIP that knows a language can be the teacher of others: its
//! target is then what a student answers.
//!
//! # Source
//! AltCLIP, arXiv 2211.06679, section 3.1 ("teacher learning").

use crate::loss;
use crate::parameters::Parameters;
use crate::task::{Engine, Outcome, Task, complete};
use crate::{Error, Result};
use altclip::cache::FeatureCache;
use altclip_models::TextEncoder;
use altclip_models::config::{Model, Text};
use altclip_models::weights::Files;
use altclip_tensor::{Backend, CpuBackend};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A pair of sentences as token ids.
#[derive(Clone, Debug)]
pub struct PairIds {
    /// Number of the teacher's sentence in the data.
    pub number: u64,
    /// Ids for the teacher.
    pub teacher: Vec<u32>,
    /// Ids for the student.
    pub student: Vec<u32>,
}

/// The frozen text tower that is imitated, with what it said before.
pub struct Teacher {
    encoder: TextEncoder,
    backend: CpuBackend,
    width: usize,
    cache: Option<Mutex<FeatureCache>>,
}

impl Teacher {
    /// The text tower of a CLIP or an AltCLIP, which runs in f32. Its answers are kept in `cache`.
    ///
    /// # Errors
    /// Its weights cannot be read.
    pub fn new(
        model: &Model,
        files: &Files,
        threads: usize,
        cache: Option<FeatureCache>,
    ) -> Result<Self> {
        let backend = CpuBackend::new(threads);
        if let Text::Bert(_) = model.text {
            return Err(Error::NotAStudent);
        }
        let weights = altclip_models::weights::Weights::new(&backend, files);
        let encoder = TextEncoder::new(&weights, model)?;
        let width = model.text.width();
        Ok(Self { encoder, width, cache: cache.map(Mutex::new), backend })
    }

    /// Width of its states.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Its state for each pair, `[B, D]`.
    fn states(&self, pairs: &[PairIds]) -> Result<Vec<f32>> {
        let mut rows: Vec<Option<Vec<f32>>> = vec![None; pairs.len()];
        if let Some(cache) = &self.cache {
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            for (row, pair) in rows.iter_mut().zip(pairs) {
                *row = cache.get(pair.number)?;
            }
        }
        // A sentence that stands several times in the batch is computed once.
        let mut missing: BTreeMap<&[u32], Vec<usize>> = BTreeMap::new();
        for (n, pair) in pairs.iter().enumerate().filter(|(n, _)| rows[*n].is_none()) {
            missing.entry(&pair.teacher).or_default().push(n);
        }
        let missing: Vec<_> = missing.into_iter().collect();
        for batch in missing.chunks(64) {
            let texts: Vec<&[u32]> = batch.iter().map(|(text, _)| *text).collect();
            let states = self.backend.read(&self.encoder.pooled(&self.backend, &texts)?)?;
            for ((_, places), state) in batch.iter().zip(states.chunks_exact(self.width)) {
                for &n in places {
                    rows[n] = Some(state.to_vec());
                    if let Some(cache) = &self.cache {
                        let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                        cache.put(pairs[n].number, state)?;
                    }
                }
            }
        }
        Ok(rows.into_iter().flatten().flatten().collect())
    }
}

/// Teacher learning.
pub struct Distill {
    /// Sizes of the whole AltCLIP.
    pub model: Model,
    /// Who is imitated.
    pub teacher: Teacher,
    /// What the student runs on.
    pub engine: Engine,
}

impl Task for Distill {
    type Sample = PairIds;

    fn batch_bytes(&self, batch_size: u64, _samples: u64) -> u64 {
        // States of both sides, once in rows of their own, and a gradient; ids.
        let floats = 4 * self.teacher.width() as u64 + 256;
        batch_size.saturating_mul(size_of::<f32>() as u64).saturating_mul(floats)
    }

    fn step(&self, parameters: &Parameters, step: u64, batch: &[PairIds]) -> Result<Outcome> {
        parameters.begin();
        let student = TextEncoder::new(&self.engine.weights(parameters), &self.model)?;
        let targets = self.teacher.states(batch)?;
        let mut sums = vec![None; parameters.trained().len()];
        let (_, pool) = self.engine.backend.kernels();
        let mut loss = 0.0;
        let chunk = self.engine.chunk_size.max(1);
        let chunks = batch.chunks(chunk).zip(targets.chunks(chunk * self.teacher.width));
        for (nth, (pairs, targets)) in chunks.enumerate() {
            let texts: Vec<&[u32]> = pairs.iter().map(|pair| pair.student.as_slice()).collect();
            let pass =
                self.engine.pass(parameters, (step, nth), |b| Ok(student.pooled(b, &texts)?))?;
            let states = self.engine.backend.read(pass.output())?;
            let (chunk_loss, mut gradient) = loss::mse(pool, &states, targets);
            // The mean over the batch is that of the chunks, weighted by their sizes.
            let share = pairs.len() as f64 / batch.len() as f64;
            gradient.iter_mut().for_each(|g| *g *= share as f32);
            loss += share * f64::from(chunk_loss);
            self.engine.backward(parameters, &mut sums, pass, &gradient)?;
        }
        Ok(Outcome { loss, gradients: complete(parameters, sums)? })
    }
}
