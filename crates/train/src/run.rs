//! The loop: batch, gradients, guard, update, log; measured, saved and resumed.
//!
//! All that a step depends on is in the checkpoint: weights, moments, the place in the data and a few
//! counters. Random numbers are functions of those. So a run that was killed and resumed has the bits of
//! one that was not.

use crate::feed::{Feed, Samples};
use crate::guard::{Guard, NonFinite, Verdict, first_non_finite};
use crate::metrics::{Log, Mark, StepRecord};
use crate::optimizer::{Moments, Norms, Optimizer, Step, TensorUpdate};
use crate::parameters::{Gradient, LOGIT_SCALE, Parameters};
use crate::progress::{Event, Observer, Pace, Timings};
use crate::schedule::Schedule;
use crate::spike::SpikeGuard;
use crate::state::{Best, Checkpoints, Loaded, Resume, RunState, TensorSlice};
use crate::stop::{EarlyStopping, Stop, StopReason, Verdict as Better};
use crate::task::Task;
use crate::{Error, Result};
use altclip_data::{Cursor, MaxBad, Order, Tally};
use altclip_durable::Vfs;
use altclip_kernels::Pool;
use altclip_report::{Code, Diagnose, Report};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a run goes.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Samples of an update.
    pub batch_size: usize,
    /// Learning rates, and the number of steps.
    pub schedule: Schedule,
    /// How weights are updated.
    pub optimizer: Optimizer,
    /// Largest norm of all gradients together; 0 leaves them.
    pub grad_clip: f64,
    /// The order of the data follows from it.
    pub seed: u64,
    /// Whether each epoch has an order of its own.
    pub shuffle: bool,
    /// Deviations above its mean from which a gradient's norm is a spike, and damped; 0 looks for none.
    pub spike_guard: f64,
    /// Share of bad samples that ends the run.
    pub max_bad: MaxBad,
    /// Whether files may change while they are trained on.
    pub allow_changed: bool,
    /// Threads that prepare samples.
    pub threads: usize,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Steps between measurements; 0 measures only at the end.
    pub eval_every: u64,
    /// Measurements in a row without anything better that end the run.
    pub patience: Option<u32>,
    /// What a run that goes on must have in common with the one that was interrupted.
    pub fixed: BTreeMap<String, String>,
}

/// Measured values by name; the first is what "better" is judged by.
pub type Scores = Vec<(String, f64)>;

/// What a run is made of beside its task.
pub struct Parts<'a, S> {
    /// What is trained on.
    pub samples: Samples<S>,
    /// Measures the model as it is; gives nothing where nothing is to be measured.
    pub evaluate: &'a mut dyn FnMut(&Parameters) -> Result<Scores>,
    /// Where checkpoints are kept.
    pub checkpoints: &'a mut Checkpoints,
    /// The file system of the run's folder.
    pub vfs: Arc<dyn Vfs>,
    /// The run's folder.
    pub out: &'a Path,
    /// Is told of everything.
    pub observer: &'a mut dyn Observer,
    /// The wish to end at the next step.
    pub stop: &'a Stop,
    /// Runs the optimiser.
    pub pool: &'a Pool,
}

/// What a run leaves beside the parameters.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How it ended.
    pub end: StopReason,
    /// Steps of the whole run.
    pub steps: u64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Samples a second, without measuring and saving.
    pub samples_per_second: f64,
    /// The last measurement.
    pub scores: Scores,
    /// The best first score, and the step behind which it was measured.
    pub best: Option<Best>,
    /// Bad samples, in words.
    pub bad_samples: String,
    /// Batches that were passed over because something in them was not finite.
    pub bad_batches: u64,
}

/// Counters of [`RunState::counters`].
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counters {
    /// Batches that were read; never goes back.
    batches: u64,
    /// Updates that were made.
    updates: u64,
    tally: Tally,
    guard: Guard,
    #[serde(default)]
    spikes: SpikeGuard,
    early: EarlyStopping,
    /// How far `bad_batches.jsonl` goes.
    bad_log: Mark,
}

/// A batch whose numbers were not finite, as `bad_batches.jsonl` has it.
#[derive(Serialize)]
struct BadBatch<'a> {
    step: u64,
    batch: u64,
    what: &'a NonFinite,
    verdict: &'static str,
    samples: &'a [u64],
}

/// Makes sure that there is room for a batch, the gradients and the moments: reserves as much, and gives it back.
///
/// # Errors
/// [`Error::BatchMemory`].
pub fn require_memory<T: Task>(
    task: &T,
    parameters: &Parameters,
    batch_size: usize,
    samples: u64,
) -> Result<()> {
    let values: u64 = parameters.trained().iter().map(|p| p.values().len() as u64).sum();
    let bytes = task.batch_bytes(batch_size as u64, samples);
    let all = bytes.saturating_add(3 * size_of::<f32>() as u64 * values);
    let mut room = Vec::<u8>::new();
    let is_there = room.try_reserve_exact(usize::try_from(all).unwrap_or(usize::MAX)).is_ok();
    // What nobody looks at need not be reserved.
    std::hint::black_box(&room);
    if is_there { Ok(()) } else { Err(Error::BatchMemory { batch_size, bytes }) }
}

/// Trains `parameters` until the schedule ends, nothing gets better, or the process is asked to stop. With
/// `resume` it goes on from that checkpoint, if there is one.
///
/// # Errors
/// [`Error::NotFinite`] when the guard gives up; checkpoints that cannot be written again and again; the
/// data are worse than allowed; the model cannot be run.
pub fn run<T: Task>(
    task: &T,
    parameters: &mut Parameters,
    options: &RunOptions,
    parts: Parts<'_, T::Sample>,
    resume: Option<Resume>,
) -> Result<Summary> {
    let mut training = Training::new(parameters, options, parts, resume)?;
    training.train(task)
}

struct Training<'a, 'p, S> {
    parameters: &'p mut Parameters,
    moments: Vec<Moments>,
    options: &'p RunOptions,
    parts: Parts<'a, S>,
    state: RunState,
    counters: Counters,
    feed: Feed<S>,
    log: Log,
    bad_log: Log,
    pace: Pace,
    timings: Option<Timings>,
    loss: Option<f64>,
    scores: Scores,
    busy: Duration,
    samples: u64,
}

impl<'a, 'p, S: Send + 'static> Training<'a, 'p, S> {
    fn new(
        parameters: &'p mut Parameters,
        options: &'p RunOptions,
        mut parts: Parts<'a, S>,
        resume: Option<Resume>,
    ) -> Result<Self> {
        let mut moments: Vec<Moments> =
            parameters.trained().iter().map(|p| Moments::zeros(p.values().len())).collect();
        parts.checkpoints.require_space(&slices(parameters, &moments))?;
        let mut state = RunState::new(options.seed, options.fixed.clone());
        let mut counters = Counters {
            batches: 0,
            updates: 0,
            tally: Tally::new(options.max_bad, parts.samples.len),
            guard: Guard::default(),
            spikes: SpikeGuard::default(),
            early: EarlyStopping::new(options.patience.unwrap_or(0), 0.0, true),
            bad_log: Mark::default(),
        };
        let loaded = resume.map(|which| parts.checkpoints.load(which)).transpose()?.flatten();
        if let Some(loaded) = loaded {
            loaded.state.require(&options.fixed)?;
            for warning in &loaded.warnings {
                parts.observer.tell(&Event::Notice(warning));
            }
            (state, counters) = restore(loaded, parameters, &mut moments)?;
            counters.early.patience = options.patience.unwrap_or(0);
        }
        let log = open_log(&mut parts, "metrics.jsonl", &state.log)?;
        let bad_log = open_log(&mut parts, "bad_batches.jsonl", &counters.bad_log)?;
        let timings = Timings::open(&*parts.vfs, &parts.out.join("timings.jsonl")).ok();
        let feed = Feed::new(
            parts.samples.prepare.clone(),
            Order::new(parts.samples.len, options.seed, options.shuffle),
            options.batch_size,
            options.threads,
            (cursor(&state), counters.tally.clone()),
        )?;
        Ok(Self {
            parameters,
            moments,
            options,
            parts,
            state,
            counters,
            feed,
            log,
            bad_log,
            pace: Pace::default(),
            timings,
            loss: None,
            scores: Scores::new(),
            busy: Duration::ZERO,
            samples: 0,
        })
    }

    fn train<T: Task<Sample = S>>(&mut self, task: &T) -> Result<Summary> {
        let total = self.options.schedule.total_steps;
        let mut end = StopReason::Finished;
        if self.state.step == 0 {
            self.measure()?;
            self.save()?;
        }
        // A run that had ended when it was killed does not begin again.
        let mut over = self.counters.early.is_over();
        if over {
            end = StopReason::EarlyStopping;
        }
        while self.state.step < total && !over {
            let Some((mut record, took, samples)) = self.step(task)? else { continue };
            let step = self.state.step;
            let (last, every) = (step == total, self.options.eval_every);
            let mut verdict = None;
            if last || (every > 0 && step.is_multiple_of(every)) {
                verdict = self.measure()?;
            }
            if verdict.is_some() {
                let named = |(name, value): &(String, f64)| (format!("eval/{name}"), *value);
                record.extra = self.scores.iter().map(named).collect();
            }
            self.write_down(&record, took, samples)?;
            let (better, early) = (verdict == Some(Better::Better), verdict == Some(Better::Stop));
            let asked = self.parts.stop.is_wished();
            let in_turn = last || early || better || step.is_multiple_of(self.options.save_every);
            if in_turn {
                self.state.fallback = step;
            }
            if in_turn || asked {
                self.save()?;
            }
            if (early || asked) && !last {
                end = if early { StopReason::EarlyStopping } else { StopReason::Interrupted };
                over = true;
            }
        }
        if end == StopReason::EarlyStopping {
            self.take_best()?;
        }
        let seconds = self.busy.as_secs_f64();
        Ok(Summary {
            end,
            steps: self.state.step,
            loss: self.loss,
            samples_per_second: if seconds > 0.0 { self.samples as f64 / seconds } else { 0.0 },
            scores: self.scores.clone(),
            best: self.state.best,
            bad_samples: self.feed.tally().to_string(),
            bad_batches: self.counters.guard.bad(),
        })
    }

    /// One batch: what is to be logged of it, its time and its samples; nothing where it led back to a
    /// checkpoint.
    fn step<T: Task<Sample = S>>(
        &mut self,
        task: &T,
    ) -> Result<Option<(StepRecord, Duration, u64)>> {
        let began = Instant::now();
        let epoch = self.feed.cursor().epoch;
        let batch = self.feed.next_batch()?;
        if batch.after.epoch != epoch && !self.options.allow_changed {
            (self.parts.samples.unchanged)()?;
        }
        self.counters.batches += 1;
        let step = self.state.step + 1;
        let outcome = task.step(self.parameters, step, &batch.samples)?;
        let norms = {
            let widths = self.parameters.trained().iter().map(|parameter| parameter.row_len());
            let gradients = outcome.gradients.iter().zip(widths);
            let views: Vec<_> =
                gradients.map(|(gradient, width)| gradient.as_view(width)).collect();
            Norms::of(self.parts.pool, &views)
        };
        let lr = self.options.schedule.lr(step);
        let bad = {
            let trained = self.parameters.trained();
            let names: Vec<&str> = trained.iter().map(|p| p.name.as_str()).collect();
            let scale = self.parameters.number(LOGIT_SCALE).map(|n| trained[n].values()[0]);
            first_non_finite(outcome.loss as f32, scale, &norms, &names)
        };
        match self.counters.guard.judge(self.counters.batches, bad.as_ref()) {
            Verdict::Update => {
                self.counters.updates += 1;
                let clipped = norms.clip_coefficient(self.options.grad_clip);
                let damped = self.damp(step, norms.global());
                let update = Step {
                    number: self.counters.updates,
                    lr,
                    gradient_scale: clipped.min(damped as f32),
                };
                self.update(update, &outcome.gradients);
                task.after_update(self.parameters);
                self.loss = Some(outcome.loss);
            }
            verdict => {
                if let Some(what) = bad {
                    self.write_down_bad(step, &what, &verdict, &batch.numbers)?;
                    match verdict {
                        Verdict::RollBack { skip } => {
                            self.roll_back(skip.end.saturating_sub(skip.start))?;
                            return Ok(None);
                        }
                        Verdict::Stop => {
                            let samples = batch.numbers;
                            return Err(Error::NotFinite { step, what, samples });
                        }
                        _ => {}
                    }
                }
            }
        }
        self.state.step = step;
        let (took, samples) = (began.elapsed(), batch.samples.len() as u64);
        self.busy += took;
        self.samples += samples;
        let grad_norm = norms.global();
        let record = StepRecord { step, loss: outcome.loss, lr, grad_norm, extra: Vec::new() };
        Ok(Some((record, took, samples)))
    }

    /// The factor of a gradient of this norm; a spike is said.
    fn damp(&mut self, step: u64, norm: f64) -> f64 {
        let Some(spike) = self.counters.spikes.judge(norm, self.options.spike_guard) else {
            return 1.0;
        };
        let note = Report::new(Code::W6005, "training", "a spike of the gradient was damped")
            .place(format!("step {step}"))
            .got(format!("a norm of {norm:.3}, z-score {:.1}", spike.z))
            .expected(format!("at most {} deviations above the mean", self.options.spike_guard))
            .help("if there are many, lower --lr; --spike-guard 0 leaves them");
        self.parts.observer.tell(&Event::Notice(&note));
        spike.factor
    }

    fn write_down(&mut self, record: &StepRecord, took: Duration, samples: u64) -> Result<()> {
        // A line that a full disk refuses waits for the next checkpoint, which says so.
        let _ = self.log.line(&record.line());
        self.pace.step(samples, took);
        let progress = self.pace.progress(record, self.options.schedule.total_steps);
        if let Some(timings) = &mut self.timings
            && timings.step(record.step, samples, took).is_err()
        {
            // Nothing depends on what the clock said.
            self.timings = None;
        }
        self.parts.observer.tell(&Event::Step { record, progress });
        Ok(())
    }

    fn update(&mut self, step: Step, gradients: &[Gradient]) {
        let rows = self.parameters.trained_mut().iter_mut().zip(&mut self.moments).zip(gradients);
        let mut tensors: Vec<TensorUpdate<'_>> = rows
            .map(|((parameter, moments), gradient)| {
                let (decay, width) = (parameter.decays(), parameter.row_len());
                let (name, master) = parameter.name_and_values_mut();
                TensorUpdate { name, master, moments, gradient: gradient.as_view(width), decay }
            })
            .collect();
        self.options.optimizer.step(self.parts.pool, step, &mut tensors);
    }

    fn write_down_bad(
        &mut self,
        step: u64,
        what: &NonFinite,
        verdict: &Verdict,
        samples: &[u64],
    ) -> Result<()> {
        let verdict = verdict.name();
        let batch = BadBatch { step, batch: self.counters.batches, what, verdict, samples };
        let line = serde_json::to_string(&batch).unwrap_or_default();
        let _ = self.bad_log.line(&(line + "\n"));
        let message = "a batch whose loss or gradients are not finite was passed over";
        let note = Report::new(Code::W6014, "training", message)
            .place(format!("step {step}, batch {}: {verdict}", self.counters.batches))
            .got(crate::error::not_finite(what, samples))
            .help("if there are many, lower --lr or look at bad_batches.jsonl");
        self.parts.observer.tell(&Event::Notice(&note));
        Ok(())
    }

    /// Takes weights, moments and steps from the last checkpoint that was saved in turn. What led here is
    /// not seen again: the data go on `left_out` batches behind the bad one.
    fn roll_back(&mut self, left_out: u64) -> Result<()> {
        let fallback = Resume::NotAfter(self.state.fallback);
        let loaded = self.parts.checkpoints.load(fallback)?;
        let loaded = loaded.ok_or_else(|| Error::State("it is gone".to_owned()))?;
        let now = self.counters.clone();
        let (state, saved) = restore(loaded, self.parameters, &mut self.moments)?;
        self.state = state;
        self.counters = Counters { updates: saved.updates, ..now };
        self.counters.batches += left_out;
        self.log = open_log(&mut self.parts, "metrics.jsonl", &self.state.log)?;
        self.feed.skip(left_out)
    }

    /// Measures the model, if there is anything to measure it on.
    fn measure(&mut self) -> Result<Option<Better>> {
        self.scores = (self.parts.evaluate)(self.parameters)?;
        let Some(&(_, value)) = self.scores.first() else { return Ok(None) };
        let step = self.state.step;
        self.parts.observer.tell(&Event::Evaluation { step, values: &self.scores });
        let verdict = self.counters.early.update(value);
        if verdict == Better::Better {
            self.state.best = Some(Best { step, value });
        }
        Ok(Some(verdict))
    }

    /// The weights of the best measurement, where it was not the last.
    fn take_best(&mut self) -> Result<()> {
        let Some(best) = self.state.best.filter(|best| best.step != self.state.step) else {
            return Ok(());
        };
        let Some(loaded) = self.parts.checkpoints.load(Resume::NotAfter(best.step))? else {
            return Ok(());
        };
        let step = loaded.state.step;
        restore(loaded, self.parameters, &mut self.moments)?;
        let last = self.state.step;
        let note = Report::new(Code::I6016, "training", "the run ended early, with its best model")
            .place(format!("step {last}"))
            .got(format!("nothing better since step {step} ({:.4})", best.value))
            .help("without --patience it goes on to its last step");
        self.parts.observer.tell(&Event::Notice(&note));
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        // An update by finite numbers may still overflow; what it leaves must not replace a good checkpoint.
        let spoiled = |values: &[f32]| values.iter().any(|value| !value.is_finite());
        if let Some(p) = self.parameters.trained().iter().find(|p| spoiled(p.values())) {
            let (step, what) = (self.state.step, NonFinite::Weight(p.name.clone()));
            return Err(Error::NotFinite { step, what, samples: Vec::new() });
        }
        let cursor = self.feed.cursor();
        (self.state.epoch, self.state.cursor) = (cursor.epoch, cursor.position);
        self.counters.tally = self.feed.tally().clone();
        let marks = self.log.mark().and_then(|log| Ok((log, self.bad_log.mark()?)));
        let saved = match marks {
            Ok((log, bad_log)) => {
                self.state.log = log;
                self.counters.bad_log = bad_log;
                let counters = serde_json::to_value(&self.counters).unwrap_or_default();
                self.state.counters = BTreeMap::from([("run".to_owned(), counters)]);
                self.parts.checkpoints.save(&self.state, slices(self.parameters, &self.moments))
            }
            Err(error) => Err(self.parts.checkpoints.not_saved(self.state.step, 0, error)),
        };
        match saved {
            Ok(dir) => {
                self.parts.observer.tell(&Event::Saved { step: self.state.step, dir: &dir });
                Ok(())
            }
            Err(error) if self.parts.checkpoints.must_stop() => Err(error.into()),
            Err(error) => {
                self.parts.observer.tell(&Event::Notice(&error.report()));
                Ok(())
            }
        }
    }
}

fn cursor(state: &RunState) -> Cursor {
    Cursor { epoch: state.epoch, position: state.cursor }
}

fn open_log<S>(parts: &mut Parts<'_, S>, name: &str, mark: &Mark) -> Result<Log> {
    let path: PathBuf = parts.out.join(name);
    if mark.bytes == 0 {
        return Ok(Log::create(parts.vfs.clone(), &path)?);
    }
    let (log, warning) = Log::resume(parts.vfs.clone(), &path, mark)?;
    if let Some(warning) = warning {
        parts.observer.tell(&Event::Notice(&warning));
    }
    Ok(log)
}

/// Masters and moments under the names of a checkpoint.
fn slices<'a>(parameters: &'a Parameters, moments: &'a [Moments]) -> Vec<TensorSlice<'a>> {
    let slice = |kind: &str, name: &str, shape: &[usize], values: &'a [f32]| TensorSlice {
        name: format!("{kind}.{name}"),
        shape: shape.to_vec(),
        values,
    };
    let pairs = parameters.trained().iter().zip(moments);
    pairs
        .flat_map(|(parameter, moments)| {
            let (name, shape) = (parameter.name.as_str(), parameter.shape.as_slice());
            [
                slice("weight", name, shape, parameter.values()),
                slice("exp_avg", name, shape, &moments.first),
                slice("exp_avg_sq", name, shape, &moments.second),
            ]
        })
        .collect()
}

fn restore(
    mut loaded: Loaded,
    parameters: &mut Parameters,
    moments: &mut [Moments],
) -> Result<(RunState, Counters)> {
    let counters = loaded.state.counters.get("run").cloned().unwrap_or_default();
    let counters = serde_json::from_value(counters)
        .map_err(|error| Error::State(format!("its counters: {error}")))?;
    for (parameter, moments) in parameters.trained_mut().iter_mut().zip(moments) {
        let name = parameter.name.clone();
        let mut take = |kind: &str, into: &mut [f32]| {
            let name = format!("{kind}.{name}");
            match loaded.tensors.remove(&name) {
                Some(tensor) if tensor.values.len() == into.len() => {
                    into.copy_from_slice(&tensor.values);
                    Ok(())
                }
                Some(tensor) => Err(Error::State(format!("{name} has shape {:?}", tensor.shape))),
                None => Err(Error::State(format!("{name} is missing"))),
            }
        };
        take("weight", parameter.values_mut())?;
        take("exp_avg", &mut moments.first)?;
        take("exp_avg_sq", &mut moments.second)?;
    }
    Ok((loaded.state, counters))
}
