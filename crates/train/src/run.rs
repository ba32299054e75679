//! The loop: batch, gradients, guard, update, log; measured, saved and resumed.
//!
//! All that a step depends on is in the checkpoint: weights, moments, the place in the data and a few
//! counters. Random numbers are functions of those. So a run that was killed and resumed has the bits of
//! one that was not.

use crate::feed::{Feed, Prepare};
use crate::guard::{Guard, Verdict};
use crate::metrics::{Metrics, StepLine};
use crate::observer::{Event, Observer};
use crate::optimizer::{Moments, Norms, Optimizer, Step, TensorUpdate};
use crate::parameters::{Gradient, Parameters};
use crate::schedule::Schedule;
use crate::state::{Checkpoints, Saved};
use crate::stop;
use crate::task::Task;
use crate::{Error, Result};
use altclip_data::{Cursor, MaxBad, Order, Tally};
use altclip_kernels::Pool;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a run goes.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Samples of an update.
    pub batch_size: usize,
    /// Learning rates, and the number of updates.
    pub schedule: Schedule,
    /// How weights are updated.
    pub optimizer: Optimizer,
    /// Largest norm of all gradients together; 0 leaves them.
    pub grad_clip: f64,
    /// The order of the data follows from it.
    pub seed: u64,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// Share of bad samples that ends the run.
    pub max_bad: MaxBad,
    /// Threads that prepare samples.
    pub threads: usize,
    /// Updates between checkpoints.
    pub save_every: u64,
    /// Updates between measurements; 0 measures only at the end.
    pub eval_every: u64,
    /// Measurements in a row without anything better that end the run.
    pub patience: Option<u32>,
}

/// A measured value by its name; the first of a measurement is what "better" is judged by.
pub type Scores = Vec<(String, f64)>;

/// What a run is made of beside its task.
pub struct Parts<'a, S> {
    /// Makes samples.
    pub prepare: Arc<Prepare<S>>,
    /// Number of samples.
    pub len: u64,
    /// Measures the model as it is; empty where nothing is to be measured.
    pub evaluate: &'a mut dyn FnMut(&Parameters) -> Result<Scores>,
    /// Where checkpoints are kept.
    pub checkpoints: &'a mut Checkpoints,
    /// Where each step is written down.
    pub metrics: &'a mut Metrics,
    /// Is told of everything.
    pub observer: &'a Observer,
    /// Runs the optimiser.
    pub pool: &'a Pool,
}

/// Everything that is not a tensor and that the next step depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counters {
    /// Steps so far, with those that were passed over.
    step: u64,
    /// Updates so far.
    updates: u64,
    cursor: Cursor,
    tally: Tally,
    guard: Guard,
    /// The best first score, and measurements since.
    best: Option<f64>,
    since_best: u32,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All updates were made.
    Finished,
    /// Nothing got better any more.
    Early,
    /// It was asked to stop; its state is saved.
    Interrupted,
}

/// What a run leaves beside the parameters.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How it ended.
    pub end: End,
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Samples a second, without measuring and saving.
    pub samples_per_second: f64,
    /// The last measurement.
    pub scores: Scores,
    /// Bad samples, in words.
    pub bad_samples: String,
}

/// Trains `parameters` until the schedule ends, nothing gets better, or the process is asked to stop.
///
/// # Errors
/// [`Error::NotFinite`] when the guard gives up; a checkpoint cannot be written again and again; the data
/// are worse than allowed; the model cannot be run.
pub fn run<T: Task>(
    task: &T,
    parameters: &mut Parameters,
    options: &RunOptions,
    mut parts: Parts<'_, T::Sample>,
) -> Result<Summary> {
    let mut moments: Vec<Moments> =
        parameters.trained().iter().map(|p| Moments::zeros(p.values().len())).collect();
    let mut counters = Counters {
        step: 0,
        updates: 0,
        cursor: Cursor::default(),
        tally: Tally::new(options.max_bad, parts.len),
        guard: Guard::default(),
        best: None,
        since_best: 0,
    };
    if let Some(saved) = parts.checkpoints.load_newest()? {
        counters = restore(&saved, parameters, &mut moments)?;
        parts.observer.tell(&Event::Resumed { step: counters.step });
    }
    parts.metrics.cut_after(counters.step)?;
    let mut feed = Feed::new(
        parts.prepare.clone(),
        Order::new(parts.len, options.seed, options.shuffle),
        options.batch_size,
        options.threads,
        (counters.cursor, counters.tally.clone()),
    )?;
    let total = options.schedule.total_steps;
    let (mut busy, mut samples) = (Duration::ZERO, 0u64);
    let (mut loss, mut scores) = (None, Scores::new());
    let mut end = End::Finished;
    if counters.step == 0 {
        scores = measure(parameters, &mut counters, &mut parts, false)?.0;
        parts.checkpoints.save(&snapshot(&counters, &feed), parameters, &moments, false)?;
    }
    while counters.step < total {
        let began = Instant::now();
        let batch = feed.next_batch()?;
        let step = counters.step + 1;
        let outcome = task.step(parameters, step, &batch.samples)?;
        let gradients: Vec<_> = outcome
            .gradients
            .iter()
            .zip(parameters.trained())
            .map(|(gradient, parameter)| gradient.as_view(parameter.row_len()))
            .collect();
        let norms = Norms::of(parts.pool, &gradients);
        let finite = outcome.loss.is_finite() && norms.non_finite().is_none();
        let lr = options.schedule.lr(step);
        match counters.guard.judge(step, finite) {
            Verdict::Update => {
                counters.updates += 1;
                let update = Step {
                    number: counters.updates,
                    lr,
                    gradient_scale: norms.clip_coefficient(options.grad_clip),
                };
                drop(gradients);
                apply(options, parts.pool, update, parameters, &mut moments, &outcome.gradients);
                task.after_update(parameters);
            }
            verdict => {
                drop(gradients);
                parts.metrics.bad_batch(&bad)?;
                parts.observer.tell(&Event::NotFinite { step });
                match verdict {
                    Verdict::RollBack { skip } => {
                        let guard = counters.guard.clone();
                        let resumed_at = feed.cursor();
                        let saved = parts.checkpoints.load_newest()?.ok_or(Error::NotFinite { step })?;
                        counters = restore(&saved, parameters, &mut moments)?;
                        counters.guard = guard;
                        parts.metrics.cut_after(counters.step)?;
                        // What led there is not seen again: the data go on behind the bad batch.
                        feed.go_to(resumed_at, counters.tally.clone())?;
                        feed.skip(skip)?;
                        parts.checkpoints.save(&snapshot(&counters, &feed), parameters, &moments, false)?;
                        parts.observer.tell(&Event::RolledBack { to: counters.step, skip });
                        continue;
                    }
                    Verdict::Stop => return Err(Error::NotFinite { step }),
                    _ => {}
                }
            }
        }
        counters.step = step;
        loss = finite.then_some(outcome.loss).or(loss);
        busy += began.elapsed();
        samples += batch.samples.len() as u64;
        let line = StepLine { step, loss: outcome.loss, lr, grad_norm: norms.global() };
        parts.metrics.step(&line, began.elapsed(), batch.samples.len())?;
        parts.observer.tell(&Event::Step { line: &line, total, samples: options.batch_size });

        let last = step == total;
        let mut better = false;
        if last || (options.eval_every > 0 && step.is_multiple_of(options.eval_every)) {
            let (measured, is_better) = measure(parameters, &mut counters, &mut parts, true)?;
            (scores, better) = (measured, is_better);
        }
        let early = options.patience.is_some_and(|patience| counters.since_best >= patience.max(1));
        let asked = stop::requested();
        if last || early || asked || better || step.is_multiple_of(options.save_every) {
            parts.checkpoints.save(&snapshot(&counters, &feed), parameters, &moments, better)?;
        }
        if early && !last {
            end = End::Early;
            break;
        }
        if asked && !last {
            end = End::Interrupted;
            break;
        }
    }
    let seconds = busy.as_secs_f64();
    Ok(Summary {
        end,
        steps: counters.step,
        loss,
        samples_per_second: if seconds > 0.0 { samples as f64 / seconds } else { 0.0 },
        scores,
        bad_samples: feed.tally().to_string(),
    })
}

/// Measures the model and says whether its first score is the best so far.
fn measure<S>(
    parameters: &Parameters,
    counters: &mut Counters,
    parts: &mut Parts<'_, S>,
    counts: bool,
) -> Result<(Scores, bool)> {
    let scores = (parts.evaluate)(parameters)?;
    let Some(first) = scores.first().map(|score| score.1) else { return Ok((scores, false)) };
    parts.metrics.scores(counters.step, &scores)?;
    parts.observer.tell(&Event::Scores { step: counters.step, scores: &scores });
    let better = counters.best.is_none_or(|best| first > best);
    if better {
        (counters.best, counters.since_best) = (Some(first), 0);
    } else if counts {
        counters.since_best += 1;
    }
    Ok((scores, better && counts))
}

fn apply(
    options: &RunOptions,
    pool: &Pool,
    step: Step,
    parameters: &mut Parameters,
    moments: &mut [Moments],
    gradients: &[Gradient],
) {
    let rows = parameters.trained_mut().iter_mut().zip(moments).zip(gradients);
    let mut tensors: Vec<TensorUpdate<'_>> = rows
        .map(|((parameter, moments), gradient)| {
            let (decay, width) = (parameter.decays(), parameter.row_len());
            let (name, master) = parameter.name_and_values_mut();
            TensorUpdate { name, master, moments, gradient: gradient.as_view(width), decay }
        })
        .collect();
    options.optimizer.step(pool, step, &mut tensors);
}

fn snapshot<T: Send + 'static>(counters: &Counters, feed: &Feed<T>) -> Counters {
    Counters { cursor: feed.cursor(), tally: feed.tally().clone(), ..counters.clone() }
}

fn restore(
    saved: &Saved,
    parameters: &mut Parameters,
    moments: &mut [Moments],
) -> Result<Counters> {
    for (parameter, moments) in parameters.trained_mut().iter_mut().zip(moments) {
        let name = parameter.name.clone();
        saved.read(&format!("weight/{name}"), parameter.values_mut())?;
        saved.read(&format!("first/{name}"), &mut moments.first)?;
        saved.read(&format!("second/{name}"), &mut moments.second)?;
    }
    saved.counters()
}
