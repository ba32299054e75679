//! Infinities and NaNs at random places and steps: none reaches the weights or the moments, and what was
//! decided is decided again after a kill. A spike is damped.
//!
//! 60 runs of a tiny CLIP by default; `ALTCLIP_TORTURE=full` for all 500 injections and more.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use altclip_data::MaxBad;
use altclip_durable::RealFs;
use altclip_report::Diagnose;
use altclip_tensor::CpuBackend;
use altclip_train::contrastive::{Contrastive, ImageText, Picture};
use altclip_train::feed::{Prepare, Samples};
use altclip_train::optimizer::{Algorithm, Optimizer};
use altclip_train::parameters::{Gradient, Parameter, Parameters};
use altclip_train::progress::Event;
use altclip_train::random::Random;
use altclip_train::run::{Parts, RunOptions, Scores, Summary, run};
use altclip_train::schedule::{Schedule, Shape};
use altclip_train::start::Start;
use altclip_train::state::{Checkpoints, Keep, Resume};
use altclip_train::stop::{Stop, StopReason};
use altclip_train::task::{Engine, Outcome, Task};
use altclip_train::{Error, Result};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const BATCH: usize = 3;
const PICTURE: usize = 3 * 32 * 32;

/// Where a number that is not finite is put.
#[derive(Clone, Copy, Debug)]
enum Place {
    Loss,
    /// One number in the gradient of the tensor of this number.
    Gradient(usize),
    Pixels,
    /// The map behind the text tower, so that every text embedding is hit.
    TextEmbeddings,
    LogitScale,
}

/// Real training in which some batches are poisoned.
struct Poisoned<'a> {
    task: &'a Contrastive,
    /// By the number of the batch's first sample and epoch, which a run sees once.
    poison: &'a (dyn Fn(u64) -> Option<(Place, f32)> + Sync),
    /// The mistake that the test must find: what is found only behind the update.
    too_late: bool,
    spoiled: AtomicU64,
}

/// A batch is told by the number that its first sample carries as meaning.
fn batch_of(batch: &[ImageText]) -> u64 {
    batch[0].meaning / BATCH as u64
}

impl Task for Poisoned<'_> {
    type Sample = ImageText;

    fn step(&self, parameters: &Parameters, step: u64, batch: &[ImageText]) -> Result<Outcome> {
        let Some((place, bad)) = (self.poison)(batch_of(batch)) else {
            return self.task.step(parameters, step, batch);
        };
        if self.too_late {
            self.spoiled.store(1, Ordering::SeqCst);
            return self.task.step(parameters, step, batch);
        }
        let with = |name: &str| {
            let spoil = |p: &Parameter| {
                let mut values = p.values().to_vec();
                if p.name == name {
                    values[0] = bad;
                }
                Parameter::new(&p.name, &p.shape, values)
            };
            Parameters::new(parameters.trained().iter().map(spoil).collect(), None)
        };
        match place {
            Place::Loss => {
                let outcome = self.task.step(parameters, step, batch)?;
                Ok(Outcome { loss: f64::from(bad), ..outcome })
            }
            Place::Gradient(n) => {
                let mut outcome = self.task.step(parameters, step, batch)?;
                let (Gradient::Dense(values) | Gradient::Rows { values, .. }) =
                    &mut outcome.gradients[n];
                let middle = values.len() / 2;
                values[middle] = bad;
                Ok(outcome)
            }
            Place::Pixels => {
                let mut batch = batch.to_vec();
                if let Picture::Pixels(values) = &mut batch[1].picture {
                    values[7] = bad;
                }
                self.task.step(parameters, step, &batch)
            }
            Place::TextEmbeddings => self.task.step(&with("text_projection.weight"), step, batch),
            Place::LogitScale => self.task.step(&with("logit_scale"), step, batch),
        }
    }

    fn after_update(&self, parameters: &mut Parameters) {
        self.task.after_update(parameters);
        if self.spoiled.swap(0, Ordering::SeqCst) > 0 {
            parameters.trained_mut()[0].values_mut()[0] = f32::NAN;
        }
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/clip")
}

/// A tiny CLIP as it starts, and how it is trained.
fn clip() -> (Start, Contrastive) {
    let start = Start::of_model(&golden(), &|_| true).unwrap();
    let engine = Engine {
        backend: CpuBackend::new(1),
        checkpoint_activations: false,
        chunk_size: 8,
        dropout: 0.0,
        seed: 0,
    };
    let task = Contrastive::new(start.model, engine, PICTURE, None);
    (start, task)
}

/// Pictures and texts without end; `meaning` counts samples over all epochs.
fn samples() -> Arc<Prepare<ImageText>> {
    let random = Random::named(1, "samples");
    Arc::new(move |epoch, number| {
        let count = epoch * LEN + number;
        let bit = |n: u64| random.bits(count * 100_000 + n)[0];
        let pixels = (0..PICTURE as u64).map(|n| (bit(n) >> 40) as f32 / 8e6 - 1.0).collect();
        let words = (0..4).map(|n| 300 + (bit(50_000 + n) % 400) as u32);
        // Begin, words, end.
        let text = [796].into_iter().chain(words).chain([797]).collect();
        Ok(ImageText { image: count, picture: Picture::Pixels(pixels), text, meaning: count })
    })
}

/// Samples of an epoch.
const LEN: u64 = 3 * 4000;

fn options(steps: u64, save_every: u64) -> RunOptions {
    let schedule = Schedule { shape: Shape::Cosine, lr: 1e-3, warmup_steps: 2, total_steps: steps };
    let optimizer = Optimizer {
        algorithm: Algorithm::AdamW,
        beta1: 0.9,
        beta2: 0.98,
        eps: 1e-8,
        weight_decay: 0.1,
    };
    RunOptions {
        batch_size: BATCH,
        schedule,
        optimizer,
        grad_clip: 1.0,
        seed: 0,
        shuffle: false,
        spike_guard: 0.0,
        max_bad: MaxBad::default(),
        allow_changed: false,
        threads: 1,
        save_every,
        eval_every: 0,
        patience: None,
        fixed: BTreeMap::new(),
    }
}

/// Runs `task` in a folder; `watch` is told of every event and may make the wish to stop.
fn train<T: Task<Sample = ImageText>>(
    task: &T,
    start: &mut Start,
    out: &Path,
    options: &RunOptions,
    watch: &mut dyn FnMut(&Event<'_>, &Stop),
) -> Result<Summary> {
    let (vfs, stop, backend) = (Arc::new(RealFs), Stop::new(), CpuBackend::new(1));
    let mut observer = |event: &Event<'_>| watch(event, &stop);
    let parts = Parts {
        samples: Samples::made(LEN, samples()),
        evaluate: &mut |_| Ok(Scores::new()),
        checkpoints: &mut Checkpoints::open(vfs.clone(), out, Keep { last: 2 }).unwrap(),
        vfs,
        out,
        observer: &mut observer,
        stop: &stop,
        pool: backend.kernels().1,
    };
    run(task, &mut start.parameters, options, parts, Some(Resume::Newest))
}

fn tensors(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let bytes = std::fs::read(dir.join("state.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    file.iter().map(|(name, tensor)| (name.to_owned(), tensor.data().to_vec())).collect()
}

fn is_finite(bytes: &[u8]) -> bool {
    bytes.as_chunks().0.iter().all(|b| f32::from_le_bytes(*b).is_finite())
}

/// What is wrong after a run of some steps with poisoned batches: a tensor of weights or moments that is not
/// finite, or a poisoned step that changed one.
fn faults(poison: &BTreeMap<u64, (Place, f32)>, steps: u64, too_late: bool) -> Vec<String> {
    let (mut start, task) = clip();
    let poison_of = |batch| poison.get(&batch).copied();
    let poisoned =
        Poisoned { task: &task, poison: &poison_of, too_late, spoiled: AtomicU64::new(0) };
    let dir = tempfile::tempdir_in(fast()).unwrap();
    let (mut faults, mut before) = (Vec::new(), BTreeMap::new());
    let mut watch = |event: &Event<'_>, _: &Stop| {
        let Event::Saved { step, dir } = event else { return };
        let now = tensors(dir);
        // Step `n` takes batch `n - 1` as long as nothing is rolled back.
        let bad = step.checked_sub(1).and_then(|batch| poison.get(&batch));
        for (name, bytes) in &now {
            if !is_finite(bytes) {
                faults.push(format!("step {step}: {name} is not finite, {bad:?}"));
            }
            if bad.is_some() && before.get(name) != Some(bytes) {
                faults.push(format!("step {step}: {name} changed, {bad:?}"));
            }
        }
        if bad.is_none() && before == now && *step > 1 {
            faults.push(format!("step {step}: a good batch changed nothing"));
        }
        before = now;
    };
    let result = train(&poisoned, &mut start, dir.path(), &options(steps, 1), &mut watch);
    match result {
        Ok(summary) if summary.bad_batches == poison.len() as u64 => {}
        Ok(summary) => {
            faults.push(format!("{} bad batches of {}", summary.bad_batches, poison.len()))
        }
        Err(error) => faults.push(error.to_string()),
    }
    let log = std::fs::read_to_string(dir.path().join("bad_batches.jsonl")).unwrap();
    if log.lines().count() != poison.len() {
        faults.push(format!("bad_batches.jsonl: {log}"));
    }
    faults
}

/// A folder in memory where there is one: the runs save at every step.
fn fast() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

fn full() -> bool {
    std::env::var_os("ALTCLIP_TORTURE").is_some_and(|value| value == "full")
}

#[test]
fn no_number_that_is_not_finite_reaches_weights_or_moments() {
    let tensors = clip().0.parameters.trained().len();
    let mut random = {
        let random = Random::named(7, "poison");
        let mut counter = 0;
        move |end: u64| {
            counter += 1;
            random.below(counter, end)
        }
    };
    let mut gradients = 0;
    let (mut injected, mut wrong) = (0, Vec::new());
    let mut kinds = BTreeSet::new();
    while injected < if full() { 500 } else { 120 } {
        let mut poison = BTreeMap::new();
        while poison.len() < 5 {
            let bad = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY][random(3) as usize];
            let place = match random(8) {
                0 => Place::Loss,
                1 => Place::Pixels,
                2 => Place::TextEmbeddings,
                // Any infinity is clamped, as it is in a sound run.
                3 => Place::LogitScale,
                _ => {
                    // Each tensor in turn.
                    gradients += 1;
                    Place::Gradient(gradients % tensors)
                }
            };
            // At the first steps there are no moments yet.
            let bad = if matches!(place, Place::LogitScale) { f32::NAN } else { bad };
            poison.insert(random(9), (place, bad));
        }
        kinds.extend(poison.values().map(|(place, _)| format!("{place:?}")));
        injected += poison.len();
        wrong.extend(faults(&poison, 10, false));
    }
    println!("{injected} injections, {} places", kinds.len());
    assert!(kinds.len() > tensors.min(60) / 2);
    assert!(wrong.is_empty(), "{}: {wrong:#?}", wrong.len());
}

/// A guard that looks behind the update is found out.
#[test]
fn a_guard_that_looks_too_late_is_found_out() {
    let poison = BTreeMap::from([(4, (Place::Loss, f32::NAN))]);
    assert!(faults(&poison, 8, false).is_empty());
    let found = faults(&poison, 8, true);
    assert!(found.iter().any(|fault| fault.contains("not finite")), "{found:?}");
}

/// Whole lines of `bad_batches.jsonl`: batch and verdict.
fn verdicts(out: &Path) -> Vec<(u64, String)> {
    let log = std::fs::read_to_string(out.join("bad_batches.jsonl")).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        (line["batch"].as_u64().unwrap(), line["verdict"].as_str().unwrap().to_owned())
    };
    log.lines().map(line).collect()
}

/// What a run leaves.
fn essence(out: &Path) -> Vec<Vec<u8>> {
    let newest = std::fs::read_to_string(out.join("LATEST")).unwrap();
    let newest = newest.trim();
    let state = format!("{newest}/state.json");
    let tensors = format!("{newest}/state.safetensors");
    let files = ["metrics.jsonl", "bad_batches.jsonl", "LATEST", &state, &tensors];
    files.iter().map(|file| std::fs::read(out.join(file)).unwrap()).collect()
}

/// Runs with `bad` batches. With `interruptions` the run is asked to stop at random steps, or dropped as a
/// kill drops it, and goes on.
fn policy(
    out: &Path,
    steps: u64,
    bad: &(dyn Fn(u64) -> bool + Sync),
    interruptions: Option<u64>,
) -> Result<Summary> {
    let poison = |batch: u64| bad(batch).then_some((Place::Loss, f32::NAN));
    let mut count = 0;
    loop {
        let (mut start, task) = clip();
        let poisoned =
            Poisoned { task: &task, poison: &poison, too_late: false, spoiled: AtomicU64::new(0) };
        count += 1;
        let random = interruptions.map(|seed| Random::named(seed, "stop").below(count, 12) + 1);
        let mut seen = 0;
        let mut watch = |event: &Event<'_>, stop: &Stop| {
            if let Event::Step { .. } = event {
                seen += 1;
                if Some(seen) == random {
                    stop.wish();
                }
            }
        };
        match train(&poisoned, &mut start, out, &options(steps, 5), &mut watch) {
            Ok(summary) if summary.end == StopReason::Interrupted => {}
            other => return other,
        }
    }
}

/// Five bad batches are passed over; the sixth leads back to a checkpoint and over 200 batches; the fourth
/// time is the last.
#[test]
fn the_run_passes_over_goes_back_and_stops() {
    let dir = tempfile::tempdir_in(fast()).unwrap();
    let bad = |batch: u64| (12..40).contains(&batch);
    let summary = policy(dir.path(), 40, &bad, None).unwrap();
    assert_eq!((summary.end, summary.bad_batches, summary.steps), (StopReason::Finished, 6, 40));
    let found = verdicts(dir.path());
    let skipped = (13..18).map(|batch| (batch, "skip".to_owned()));
    let expected: Vec<_> = skipped.chain([(18, "roll_back".to_owned())]).collect();
    assert_eq!(found, expected);
    let log = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 40);

    let dir = tempfile::tempdir_in(fast()).unwrap();
    let error = policy(dir.path(), 40, &|batch| batch > 7, None).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }));
    let code = error.report().code;
    assert_eq!((code.as_str(), code.exit_status()), ("E6004", 8));
    let found = verdicts(dir.path());
    assert_eq!(found.iter().filter(|(_, verdict)| verdict == "roll_back").count(), 3);
    assert_eq!(found.last().map(|(_, verdict)| verdict.as_str()), Some("stop"));
    assert_eq!(found.len(), 24);
}

#[test]
fn what_was_decided_is_decided_again_after_an_interruption() {
    let cases: [(&str, &(dyn Fn(u64) -> bool + Sync)); 3] = [
        ("some", &|batch| [3, 9, 17, 30].contains(&batch)),
        ("a stretch", &|batch| (12..40).contains(&batch)),
        ("for ever", &|batch| batch > 7),
    ];
    for (name, bad) in cases {
        let whole = tempfile::tempdir_in(fast()).unwrap();
        let first = policy(whole.path(), 40, bad, None).map(|summary| summary.bad_batches);
        for seed in 0..if full() { 40 } else { 4 } {
            let parts = tempfile::tempdir_in(fast()).unwrap();
            let second = policy(parts.path(), 40, bad, Some(seed)).map(|s| s.bad_batches);
            assert_eq!(first.as_ref().ok(), second.as_ref().ok(), "{name}, seed {seed}");
            let (whole, parts) = (essence(whole.path()), essence(parts.path()));
            let differ: Vec<bool> = whole.iter().zip(&parts).map(|(a, b)| a != b).collect();
            assert_eq!(differ, [false; 5], "{name}, seed {seed}");
        }
    }
}

/// Real training with one batch whose gradients are a thousand times too large.
struct Spiked {
    task: Contrastive,
    batch: u64,
}

impl Task for Spiked {
    type Sample = ImageText;

    fn step(&self, parameters: &Parameters, step: u64, batch: &[ImageText]) -> Result<Outcome> {
        let mut outcome = self.task.step(parameters, step, batch)?;
        if batch_of(batch) == self.batch {
            for gradient in &mut outcome.gradients {
                let (Gradient::Dense(values) | Gradient::Rows { values, .. }) = gradient;
                values.iter_mut().for_each(|value| *value *= 1000.0);
            }
        }
        Ok(outcome)
    }

    fn after_update(&self, parameters: &mut Parameters) {
        self.task.after_update(parameters);
    }
}

/// TR7. Adam would carry the spike in its second moments for hundreds of steps.
#[test]
fn a_spike_is_damped_and_said() {
    let run = |spike_guard: f64| {
        let (mut start, task) = clip();
        let spiked = Spiked { task, batch: 80 };
        let dir = tempfile::tempdir_in(fast()).unwrap();
        let options = RunOptions { spike_guard, grad_clip: 0.0, ..options(82, 82) };
        let (mut said, mut largest) = (Vec::new(), 0.0_f32);
        let mut watch = |event: &Event<'_>, _: &Stop| match event {
            Event::Notice(report) => said.push(report.to_string()),
            Event::Saved { dir, .. } => {
                let moments = tensors(dir).into_iter();
                let second = moments.filter(|(name, _)| name.starts_with("exp_avg_sq."));
                let values = |bytes: Vec<u8>| bytes.as_chunks().0.to_vec();
                let values = second.flat_map(|(_, bytes)| values(bytes)).map(f32::from_le_bytes);
                largest = values.fold(0.0, f32::max);
            }
            _ => {}
        };
        train(&spiked, &mut start, dir.path(), &options, &mut watch).unwrap();
        (said, largest)
    };
    let (said, damped) = run(altclip_train::spike::LIMIT);
    assert!(
        matches!(&said[..], [one] if one.contains("W6005") && one.contains("step 81")),
        "{said:?}"
    );
    let (unsaid, spoiled) = run(0.0);
    assert!(unsaid.is_empty(), "{unsaid:?}");
    assert!(spoiled > 1000.0 * damped, "{spoiled} and {damped}");
}
