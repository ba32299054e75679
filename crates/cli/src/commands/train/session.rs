//! What all kinds of training have in common: settings, folder, progress, the finished model.

use super::contrastive::{ids, pictures, without_prefix};
use super::measure::Measure;
use crate::args::train::{LrSchedule, Optimizer as OptimizerName, ResumeFrom, Run, TrainPrecision};
use crate::failure::{Failure, Reporter, cannot_write};
use crate::host;
use crate::output::Out;
use altclip::tensor::{CpuBackend, Precision};
use altclip_data::check::Findings;
use altclip_data::{CaptionedPictures, CaptionsOptions, LabelledPictures, LabelsOptions};
use altclip_durable::{Lock, RealFs, Vfs};
use altclip_report::{Code, Report, quote};
use altclip_train::Error;
use altclip_train::augment::Augment;
use altclip_train::feed::Samples;
use altclip_train::optimizer::{Algorithm, Optimizer};
use altclip_train::progress::Event;
use altclip_train::report::{About, Series};
use altclip_train::run::{Parts, RunOptions, Scores, Summary, require_memory, run};
use altclip_train::samples::Ids;
use altclip_train::schedule::{Schedule, Shape};
use altclip_train::start::Start;
use altclip_train::state::{Checkpoints, Keep, Resume, peek};
use altclip_train::stop::{Stop, StopReason};
use altclip_train::task::{Engine, Task};
use altclip_train::tensorboard::EventFile;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// What a kind of training does where nothing is said.
pub(crate) struct Defaults {
    pub(crate) batch_size: u32,
    pub(crate) lr: f64,
    pub(crate) lr_schedule: LrSchedule,
    pub(crate) warmup_steps: u64,
    pub(crate) weight_decay: f64,
    pub(crate) betas: (f64, f64),
    pub(crate) eps: f64,
    pub(crate) grad_clip: f64,
    pub(crate) max_length: u16,
}

/// Fills in what was not said, for `samples` of data.
pub(crate) fn resolved(run: &Run, defaults: &Defaults, samples: u64) -> Run {
    let mut run = run.clone();
    let batch = *run.batch_size.get_or_insert_with(|| {
        u32::try_from(samples).unwrap_or(u32::MAX).clamp(1, defaults.batch_size)
    });
    let per_epoch = samples.div_ceil(u64::from(batch)).max(1);
    let steps = *run.max_steps.get_or_insert(per_epoch.saturating_mul(u64::from(run.epochs)));
    run.lr.get_or_insert(defaults.lr);
    run.lr_schedule.get_or_insert(defaults.lr_schedule);
    // A warm-up as long as the run would be one that never ends.
    run.warmup_steps.get_or_insert(defaults.warmup_steps.min(steps / 10));
    run.weight_decay.get_or_insert(defaults.weight_decay);
    run.beta1.get_or_insert(defaults.betas.0);
    run.beta2.get_or_insert(defaults.betas.1);
    run.eps.get_or_insert(defaults.eps);
    run.grad_clip.get_or_insert(defaults.grad_clip);
    run.max_length.get_or_insert(defaults.max_length);
    run.save_every.get_or_insert((steps / 20).clamp(1, 1000));
    run.eval_every.get_or_insert((steps / 10).max(1));
    run
}

/// Settings after [`resolved`], with the folder of the run.
pub(crate) struct Session {
    run: Run,
    kind: &'static str,
    /// Every setting by its name.
    config: Vec<(String, String)>,
    reporter: Reporter,
    fixed: BTreeMap<String, String>,
    /// From the first moment on a signal is a wish to stop with everything saved.
    stop: Stop,
    _lock: Lock,
    /// The folder of the pictures that are trained on.
    pub(crate) images: Option<PathBuf>,
}

impl Session {
    /// Makes the folder, or takes the one of a run that goes on, and writes the settings into it.
    /// `args` are all flags after [`resolved`], `data` is the fingerprint of what is trained on.
    pub(crate) fn new(
        kind: &'static str,
        run: Run,
        args: &impl Serialize,
        data: String,
        reporter: Reporter,
    ) -> Result<Self, Failure> {
        let has_run = run.out.join("checkpoints").is_dir();
        let found = if has_run { Some("checkpoints".to_owned()) } else { stranger(&run.out) };
        let goes_on = has_run && run.resume.is_some();
        if let Some(found) = found.filter(|_| !goes_on) {
            return Err(Failure::one(
                Report::new(
                    Code::E1003,
                    "usage",
                    "the folder holds a run or something else already",
                )
                .place(format!("--out {}", quote(&run.out.to_string_lossy())))
                .got(found)
                .expected("a new folder")
                .help(if has_run {
                    "add --resume to go on with it, or name another folder"
                } else {
                    "name another folder; nothing in this one was touched"
                }),
            ));
        }
        let toml = toml::to_string(args).map_err(|error| {
            Failure::one(
                Report::new(
                    Code::E9001,
                    "training",
                    format!("settings cannot be written: {error}"),
                )
                .help("please report this line"),
            )
        })?;
        // What the bits of a run depend on; where it is saved and how it is watched is free.
        const FREE: [&str; 15] = [
            "out",
            "resume",
            "save-every",
            "keep",
            "eval",
            "eval-images",
            "eval-every",
            "patience",
            "threads",
            "json",
            "ignore-check",
            "save-bf16",
            "max-bad",
            "allow-changed",
            "images",
        ];
        let table: toml::Table = toml.parse().unwrap_or_default();
        let config = table.iter().map(|(key, value)| (key.clone(), value.to_string())).collect();
        let mut fixed: BTreeMap<String, String> = table
            .into_iter()
            .filter(|(key, _)| !FREE.contains(&key.as_str()))
            .map(|(key, value)| (key, value.to_string()))
            .collect();
        fixed.insert("kind".into(), kind.into());
        fixed.insert("data".into(), data);
        std::fs::create_dir_all(&run.out).map_err(|error| write_fault(&run.out, &error))?;
        let holder = format!("process {}", std::process::id());
        let lock = Lock::acquire(&run.out.join("LOCK"), &holder)?;
        // The signals of another program are its own affair; it is asked at each step.
        let stop = match host::is_called() {
            true => Stop::new(),
            false => Stop::on_signals().map_err(|error| write_fault(&run.out, &error))?,
        };
        // A run that must not go on leaves settings, caches and logs as they are.
        let goes_on = run.resume.and_then(|_| peek(&RealFs, &run.out));
        if let Some(state) = &goes_on {
            if run.allow_changed
                && let Some(data) = state.fixed.get("data")
            {
                fixed.insert("data".into(), data.clone());
            }
            state.require(&fixed)?;
        }
        let path = run.out.join("config.toml");
        if goes_on.is_none() || !path.exists() {
            let text = format!("# altclip train {kind} --config THIS_FILE\n{toml}");
            std::fs::write(&path, &text).map_err(|error| write_fault(&path, &error))?;
        }
        if !run.json {
            reporter.say(toml.trim_end());
        }
        Ok(Self { run, kind, config, reporter, fixed, stop, _lock: lock, images: None })
    }

    /// Number of threads.
    pub(crate) fn threads(&self) -> usize {
        threads(&self.run)
    }

    /// What the towers run on.
    pub(crate) fn engine(&self) -> Engine {
        let precision = match self.run.precision {
            TrainPrecision::F32 => Precision::F32,
            TrainPrecision::Bf16 => Precision::Bf16,
        };
        Engine {
            backend: CpuBackend::new(self.threads()).with_precision(precision),
            checkpoint_activations: self.run.checkpoint_activations,
            chunk_size: self.run.chunk_size as usize,
            dropout: self.run.dropout as f32,
            seed: self.run.seed,
        }
    }

    /// A file in the folder of the run.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.run.out.join(name)
    }

    /// Says what the pre-check found; errors end the run before its first step.
    pub(crate) fn check(&self, findings: &Findings) -> Result<(), Failure> {
        let path = self.file("check.json");
        let json = serde_json::to_string_pretty(findings).unwrap_or_default();
        std::fs::write(&path, json + "\n").map_err(|error| write_fault(&path, &error))?;
        if !self.run.json {
            self.reporter.say(findings.to_string().trim_end());
        }
        if !self.run.ignore_check {
            findings.verdict()?;
        }
        Ok(())
    }

    /// Says what a dataset has to say about its files.
    pub(crate) fn say_notices(&self, notices: &[String]) {
        notices.iter().for_each(|notice| self.reporter.say(notice));
    }

    /// Retrieval on what `--eval` names, with the tokenizer and the preprocessor of these folders.
    pub(crate) fn measure(
        &self,
        tokenizer: &Path,
        preprocessor: &Path,
        frozen: bool,
    ) -> Result<Option<Measure>, Failure> {
        if self.run.eval.is_empty() {
            return Ok(None);
        }
        let images = self.run.eval_images.clone().or_else(|| self.images.clone());
        let options = CaptionsOptions::new(images.unwrap_or_default(), std::env::temp_dir());
        let files = self.run.eval.iter().map(|file| {
            CaptionedPictures::open(std::slice::from_ref(&without_prefix(file)), &options)
        });
        let datasets = files.collect::<Result<Vec<_>, _>>()?;
        let ids = ids(tokenizer, &self.run)?;
        let pictures = pictures(preprocessor, Augment::NONE, self.run.seed)?;
        Ok(Some(Measure::captions(datasets, &ids, pictures, self.threads(), frozen)?))
    }

    /// Accuracy on the labelled pictures that `--eval` names.
    pub(crate) fn measure_labels(
        &self,
        templates: &[String],
        ids: &Ids,
        dir: &Path,
        frozen: bool,
    ) -> Result<Option<Measure>, Failure> {
        let Some(path) = self.run.eval.first() else { return Ok(None) };
        let options = LabelsOptions { split: "test".to_owned(), ..LabelsOptions::default() };
        let data = LabelledPictures::open(&without_prefix(path), &options)?;
        let pictures = pictures(dir, Augment::NONE, self.run.seed)?;
        Ok(Some(Measure::labels(data, templates, ids, pictures, self.threads(), frozen)?))
    }

    fn options(&self) -> Result<RunOptions, Failure> {
        let run = &self.run;
        let value = |value: Option<f64>| value.unwrap_or_default();
        let shape = match run.lr_schedule {
            Some(LrSchedule::Cosine) => Shape::Cosine,
            Some(LrSchedule::Linear) => Shape::Linear,
            _ => Shape::Constant,
        };
        let algorithm = match run.optimizer {
            OptimizerName::Adamw => Algorithm::AdamW,
            OptimizerName::StableAdamw => Algorithm::StableAdamW,
        };
        let max_bad = run.max_bad.parse().map_err(|expected: &str| {
            Failure::one(
                Report::new(Code::E1001, "usage", "the share of bad samples is not valid")
                    .place("--max-bad")
                    .got(quote(&run.max_bad))
                    .expected(expected)
                    .help("for example --max-bad 1%"),
            )
        })?;
        Ok(RunOptions {
            batch_size: run.batch_size.unwrap_or(1) as usize,
            schedule: Schedule {
                shape,
                lr: value(run.lr),
                warmup_steps: run.warmup_steps.unwrap_or(0),
                total_steps: run.max_steps.unwrap_or(1),
            },
            optimizer: Optimizer {
                algorithm,
                beta1: value(run.beta1),
                beta2: value(run.beta2),
                eps: value(run.eps),
                weight_decay: value(run.weight_decay),
            },
            grad_clip: value(run.grad_clip),
            seed: run.seed,
            shuffle: !run.no_shuffle,
            spike_guard: run.spike_guard,
            max_bad,
            allow_changed: run.allow_changed,
            threads: self.threads(),
            save_every: run.save_every.unwrap_or(1),
            eval_every: run.eval_every.unwrap_or(0),
            patience: run.patience,
            fixed: self.fixed.clone(),
        })
    }

    /// Trains, and leaves the finished model in the folder. `finish` may still change it.
    pub(crate) fn train<T: Task>(
        &self,
        task: &T,
        start: &mut Start,
        samples: Samples<T::Sample>,
        mut measure: Option<Measure>,
        finish: impl FnOnce(&mut Start) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let options = self.options()?;
        // Before the folder has anything that a run of another size would have to be told from.
        require_memory(task, &start.parameters, options.batch_size, samples.len)?;
        let vfs: Arc<dyn Vfs> = Arc::new(RealFs);
        let keep = Keep { last: usize::from(self.run.keep) };
        let mut checkpoints = Checkpoints::open(vfs.clone(), &self.run.out, keep)?;
        let model = start.model;
        let backend = CpuBackend::new(self.threads());
        let mut evaluate = |parameters: &altclip_train::parameters::Parameters| match &mut measure {
            Some(measure) => measure.run(&backend, &model, parameters, &self.stop),
            None => Ok(Scores::new()),
        };
        let mut watch = Watch::new(self, &options, vfs.clone());
        let (_, pool) = backend.kernels();
        let result = run(
            task,
            &mut start.parameters,
            &options,
            Parts {
                samples,
                evaluate: &mut evaluate,
                checkpoints: &mut checkpoints,
                vfs: vfs.clone(),
                out: &self.run.out,
                observer: &mut |event: &Event<'_>| {
                    if host::wants_stop() {
                        self.stop.wish();
                    }
                    watch.tell(event);
                },
                stop: &self.stop,
                pool,
            },
            self.run.resume.map(|which| match which {
                ResumeFrom::Newest => Resume::Newest,
                ResumeFrom::Exact => Resume::Exact,
            }),
        );
        watch.end(&result);
        let summary = result?;
        if summary.end == StopReason::Interrupted {
            return Err(Failure::one(
                Report::new(Code::E6009, "training", "interrupted; the state is saved")
                    .place(format!("step {} of {}", summary.steps, options.schedule.total_steps))
                    .help("the same command with --resume goes on"),
            ));
        }
        finish(start)?;
        start.write(&self.run.out, self.run.save_bf16)?;
        self.tell(&summary)
    }

    fn tell(&self, summary: &Summary) -> Result<(), Failure> {
        let shown = self.run.out.to_string_lossy();
        let scores: BTreeMap<&str, f64> =
            summary.scores.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        let mut out = Out::new();
        if self.run.json {
            out.json(&json!({
                "out": shown,
                "kind": self.kind,
                "end": summary.end,
                "steps": summary.steps,
                "loss": summary.loss,
                "samples_per_second": summary.samples_per_second,
                "scores": scores,
                "bad_batches": summary.bad_batches,
            }))?;
        } else {
            let loss = summary.loss.map_or(String::new(), |loss| format!(", loss {loss:.4}"));
            let speed = summary.samples_per_second;
            out.line(format!("{shown}: {} steps{loss}, {speed:.1} samples/s", summary.steps))?;
            for (name, value) in &summary.scores {
                out.line(format!("  {name:32} {value:.4}"))?;
            }
            out.line(format!("  {}", summary.bad_samples))?;
            out.line(format!("  {}", self.file("report.html").display()))?;
        }
        out.flush()
    }
}

/// Something in the folder that a run which had only begun does not leave.
fn stranger(out: &Path) -> Option<String> {
    let begun = |name: &str| match name {
        "LOCK" | "cache" | "check.json" => true,
        "config.toml" => std::fs::read_to_string(out.join(name))
            .is_ok_and(|text| text.starts_with("# altclip train ")),
        _ => false,
    };
    let names = std::fs::read_dir(out).ok()?.flatten().map(|entry| entry.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).find(|name| !begun(name))
}

/// Number of threads of a run.
pub(crate) fn threads(run: &Run) -> usize {
    crate::args::threads(run.threads)
}

pub(crate) fn write_fault(path: &Path, error: &std::io::Error) -> Failure {
    let (code, help) = cannot_write(error, "name another --out");
    Failure::one(
        Report::new(code, "training", format!("a file cannot be written: {error}"))
            .place(path.display().to_string())
            .help(help),
    )
}

/// Shows a run on stderr, to TensorBoard and as a page.
struct Watch {
    reporter: Reporter,
    bar: Option<indicatif::ProgressBar>,
    events: Option<EventFile>,
    vfs: Arc<dyn Vfs>,
    out: PathBuf,
    about: About,
}

impl Watch {
    fn new(session: &Session, options: &RunOptions, vfs: Arc<dyn Vfs>) -> Self {
        let bar = session.reporter.shows_progress().then(|| {
            let style = indicatif::ProgressStyle::with_template("{bar:30} {msg}");
            let style = style.unwrap_or_else(|_| indicatif::ProgressStyle::default_bar());
            indicatif::ProgressBar::new(options.schedule.total_steps).with_style(style)
        });
        let out = session.run.out.clone();
        let about = About {
            title: format!("altclip train {}", session.kind),
            reason: StopReason::Finished,
            configuration: session.config.clone(),
            environment: environment(session.threads()),
        };
        Self { reporter: session.reporter, bar, events: None, vfs, out, about }
    }

    fn tell(&mut self, event: &Event<'_>) {
        let now = SystemTime::now();
        match event {
            Event::Step { record, progress } => {
                if self.events.is_none() {
                    // TensorBoard is a convenience: without room for it training goes on.
                    self.events = EventFile::create(&*self.vfs, &self.out, record.step, now).ok();
                }
                if let Some(events) = &mut self.events {
                    let values = [
                        ("train/loss", record.loss),
                        ("train/lr", record.lr),
                        ("train/grad_norm", record.grad_norm),
                        ("train/samples_per_second", progress.samples_per_second),
                    ];
                    let _ = events.scalars(record.step, &values, now);
                }
                match &self.bar {
                    Some(bar) => {
                        bar.set_position(record.step);
                        bar.set_message(progress.to_string());
                    }
                    // A log file gets a line now and then.
                    None if is_round(record.step, progress.steps) => {
                        self.reporter.say(&progress.to_string());
                    }
                    None => {}
                }
            }
            Event::Evaluation { step, values } => {
                if *step == 0 {
                    self.note_baseline(values);
                }
                if let Some(events) = &mut self.events {
                    let named: Vec<(String, f64)> =
                        values.iter().map(|(name, v)| (format!("eval/{name}"), *v)).collect();
                    let named: Vec<(&str, f64)> =
                        named.iter().map(|(name, v)| (name.as_str(), *v)).collect();
                    let _ = events.scalars(*step, &named, now);
                }
                let shown: Vec<String> =
                    values.iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
                self.say(&format!("step {step}: {}", shown.join(", ")));
            }
            Event::Notice(report) => {
                if let Some(bar) = &self.bar {
                    bar.suspend(|| self.reporter.warn(std::slice::from_ref(*report)));
                } else {
                    self.reporter.warn(std::slice::from_ref(*report));
                }
            }
            _ => {}
        }
    }

    /// Adds what the model could before its first step to the findings. They are a convenience: without them
    /// training goes on.
    fn note_baseline(&self, values: &[(String, f64)]) {
        let path = self.out.join("check.json");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let values: BTreeMap<&str, f64> =
            values.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        if let Ok(serde_json::Value::Object(mut check)) = serde_json::from_str(&text) {
            check.insert("baseline".to_owned(), json!(values));
            let _ = std::fs::write(&path, format!("{:#}\n", serde_json::Value::Object(check)));
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.reporter.say(line)),
            None => self.reporter.say(line),
        }
    }

    fn end(&mut self, result: &altclip_train::Result<Summary>) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let reason = match result {
            Ok(summary) => summary.end,
            Err(Error::NotFinite { .. }) => StopReason::NumericGuard,
            Err(_) => StopReason::Error,
        };
        let about = About { reason, ..self.about.clone() };
        let page = self.out.join("report.html");
        // A page is a convenience, too.
        let _ = Series::gather(&*self.vfs, &self.out)
            .and_then(|series| altclip_train::report::write(&*self.vfs, &page, &about, &series));
    }
}

/// What a run's speed depends on.
fn environment(threads: usize) -> Vec<(String, String)> {
    let isa = CpuBackend::new(1).isa().name();
    let named = |name: &str, value: String| (name.to_owned(), value);
    vec![
        named("version", env!("CARGO_PKG_VERSION").to_owned()),
        named("system", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        named("instruction set", isa.to_string()),
        named("threads", threads.to_string()),
    ]
}

/// The first step, the last, and some twenty between.
fn is_round(step: u64, steps: u64) -> bool {
    step == 1 || step == steps || step.is_multiple_of((steps / 20).max(1))
}
