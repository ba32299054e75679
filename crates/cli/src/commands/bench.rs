//! `altclip bench`: how fast this machine runs a model's towers, beside what its instructions could do.
//!
//! Without `--model` the weights are random and of the true shapes, so nothing has to be downloaded.
//! The clock runs around the encoder alone; operations are those that were executed, so rows that are
//! not needed (the last block computes the class token only) do not count.

use super::end_to_end;
use crate::args::{Bench, BenchTower};
use crate::failure::Failure;
use crate::model;
use crate::output::Out;
use altclip::image::Preprocessor;
use altclip::models::config::{Model as Config, Text};
use altclip::models::random::RandomWeights;
use altclip::models::weights::Weights;
use altclip::models::{ImageEncoder, TextEncoder};
use altclip::tensor::{Backend, Counting, CpuBackend, Precision, Tensor};
use altclip::{ImageTower, Model};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Ids below are those of special tokens.
const FIRST_WORD: u32 = 5;
/// Runs are repeated until both are reached.
const MIN_RUNS: usize = 5;
const MIN_TIME: Duration = Duration::from_secs(1);
/// Longest that runs go on.
const MAX_TIME: Duration = Duration::from_secs(20);
/// Least time of the yardstick.
const PEAK_TIME: Duration = Duration::from_millis(1100);

pub(crate) fn run(args: &Bench) -> Result<(), Failure> {
    let subject = Subject::new(args)?;
    let mut out = Out::new();
    if let Some(folder) = &args.images {
        let row = end_to_end::run(&subject, folder, args.batch)?;
        if args.json {
            out.json(&row)?;
        } else {
            out.line(end_to_end::shown(&row))?;
        }
        return out.flush();
    }
    for tower in [BenchTower::Image, BenchTower::Text] {
        if args.tower.is_some_and(|only| only != tower) {
            continue;
        }
        let row = match tower {
            BenchTower::Image => subject.image(args)?,
            BenchTower::Text => subject.text(args)?,
        };
        if args.json {
            out.json(&row)?;
        } else {
            out.line(shown(&row))?;
        }
        out.flush()?;
    }
    Ok(())
}

/// What is measured: random weights, or a model of the user's.
pub(super) enum Subject {
    Random { config: Box<Config>, backend: CpuBackend },
    Loaded(Box<Model>),
}

impl Subject {
    fn new(args: &Bench) -> Result<Self, Failure> {
        let threads = args.threads();
        if args.model.model.is_some() {
            let mut options = model::options(&args.model, &crate::args::PictureArgs::default());
            options.threads = threads;
            options.precision = args.precision.into();
            return Ok(Subject::Loaded(Box::new(Model::load(
                &model::folder(&args.model)?,
                &options,
            )?)));
        }
        Ok(Subject::Random {
            config: Box::new(Config::preset(args.arch.name())?),
            backend: CpuBackend::new(threads).with_precision(args.precision.into()),
        })
    }

    fn config(&self) -> &Config {
        match self {
            Subject::Random { config, .. } => config,
            Subject::Loaded(model) => model.opened().config(),
        }
    }

    pub(super) fn backend(&self) -> &CpuBackend {
        match self {
            Subject::Random { backend, .. } => backend,
            Subject::Loaded(model) => model.backend(),
        }
    }

    /// The image tower with its preprocessor: CLIP's own where the weights are random.
    pub(super) fn image_tower(&self) -> Result<ImageTower, Failure> {
        match self {
            Subject::Random { config, backend } => {
                let weights = RandomWeights::new(0);
                let encoder = ImageEncoder::new(&Weights::new(backend, &weights), config)?;
                let size = config.vision.map_or(224, |vision| vision.image_size);
                Ok(Arc::new((encoder, Preprocessor::clip(size as u32))))
            }
            Subject::Loaded(model) => Ok(model.image_encoder()?),
        }
    }

    fn image(&self, args: &Bench) -> Result<Value, Failure> {
        let Some(vision) = self.config().vision else { return Ok(Value::Null) };
        let tower = self.image_tower()?;
        let encoder = &tower.0;
        let width = vision.num_channels * vision.image_size * vision.image_size;
        let pixels: Vec<f32> = mixed(&(0..=255), args.batch() * width)
            .iter()
            .map(|&n| n as f32 / 128.0 - 1.0)
            .collect();
        // As the library does it: more at once would only leave the cache.
        let rows = pixels.chunks(altclip::BATCH_PICTURES * width);
        let tensor = |rows: &[f32]| self.backend().tensor(rows.len() / width, width, rows);
        let batches = rows.map(tensor).collect::<Result<Vec<_>, _>>().map_err(wrapped)?;
        let work = |b: &dyn Backend| {
            batches.iter().map(|pixels| encoder.features(b, pixels)).collect::<Result<Vec<_>, _>>()
        };
        self.measure("image", args, args.batch(), json!(vision.tokens()), &work)
    }

    fn text(&self, args: &Bench) -> Result<Value, Failure> {
        let (random, loaded);
        let encoder: &TextEncoder = match self {
            Subject::Random { config, backend } => {
                random = TextEncoder::new(&Weights::new(backend, &RandomWeights::new(0)), config)?;
                &random
            }
            Subject::Loaded(model) => {
                loaded = model.text_encoder()?;
                &loaded
            }
        };
        let (lengths, tokens): (Vec<usize>, _) = match &args.lengths {
            None => (vec![args.tokens; args.batch()], json!(args.tokens)),
            Some(range) => (mixed(range, args.texts), json!("mixed")),
        };
        let (words, end) = match &self.config().text {
            Text::AltClip(text) => (text.bert.vocab_size, None),
            Text::Bert(text) => (text.bert.vocab_size, None),
            // Without an end a causal tower pools its first token and computes no other.
            Text::Clip(text) => (text.vocab_size, Some(text.vocab_size as u32 - 1)),
        };
        let mut next = 0u32;
        let mut text = |&length: &usize| -> Vec<u32> {
            // Ids of words, never the pad token's.
            let word = |_| {
                next = next.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                FIRST_WORD + (next >> 8) % (words as u32).saturating_sub(FIRST_WORD + 1).max(1)
            };
            let mut ids: Vec<u32> = (0..length).map(word).collect();
            if let (Some(end), Some(last)) = (end, ids.last_mut()) {
                *last = end;
            }
            ids
        };
        let texts: Vec<Vec<u32>> = lengths.iter().map(&mut text).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        let work = |b: &dyn Backend| {
            let batches = texts.chunks(args.batch());
            batches.map(|batch| encoder.features(b, batch)).collect::<Result<Vec<_>, _>>()
        };
        self.measure("text", args, texts.len(), tokens, &work)
    }

    #[allow(clippy::type_complexity, reason = "an alias would hide what the closure takes")]
    fn measure(
        &self,
        tower: &str,
        args: &Bench,
        items: usize,
        tokens: Value,
        work: &dyn Fn(&dyn Backend) -> Result<Vec<Tensor>, altclip::models::Error>,
    ) -> Result<Value, Failure> {
        let counting = Counting::new(self.backend());
        work(&counting)?;
        let operations: u64 = counting.counts().values().map(|count| count.flops).sum();
        work(self.backend())?;
        let mut seconds = Vec::new();
        let begin = Instant::now();
        while (seconds.len() < MIN_RUNS || begin.elapsed() < MIN_TIME)
            && (seconds.len() < MIN_RUNS || begin.elapsed() < MAX_TIME)
        {
            let start = Instant::now();
            work(self.backend())?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        Ok(json!({
            "tower": tower,
            "precision": self.backend().precision().name(),
            "batch": args.batch(),
            "tokens": tokens,
            "seconds_per_item": median / items as f64,
            "gflops": operations as f64 / median / 1e9,
            "peak_gflops": peak(self.backend()),
            "threads": self.backend().threads(),
            "isa": self.backend().isa().name(),
            "items": items,
            "runs": seconds.len(),
        }))
    }
}

pub(super) fn wrapped(error: altclip::tensor::Error) -> Failure {
    altclip::models::Error::from(error).into()
}

/// Billions of operations a second of the precision's instruction on registers alone, on all threads
/// together: the best of at least a second.
fn peak(backend: &CpuBackend) -> f64 {
    let (kernels, pool) = backend.kernels();
    let rounds = |rounds: usize| match backend.precision() {
        Precision::F32 => kernels.peak_f32(rounds),
        precision => kernels
            .peak_reduced(precision == Precision::Int8, rounds)
            .unwrap_or_else(|| kernels.peak_f32(rounds)),
    };
    let mut best: f64 = 0.0;
    let begin = Instant::now();
    while begin.elapsed() < PEAK_TIME {
        const ROUNDS: usize = 200_000;
        let start = Instant::now();
        pool.run(pool.threads(), &|_| {
            rounds(ROUNDS);
        });
        let operations = pool.threads() as f64 * rounds(1) as f64 * ROUNDS as f64;
        best = best.max(operations / start.elapsed().as_secs_f64() / 1e9);
    }
    best
}

/// Numbers that look uniform in `first..=last`, the same in every run.
fn mixed(range: &std::ops::RangeInclusive<usize>, count: usize) -> Vec<usize> {
    let span = (range.end() - range.start() + 1) as u64;
    let mut state = 0u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        range.start() + ((state >> 33) % span) as usize
    };
    (0..count).map(|_| next()).collect()
}

fn shown(row: &Value) -> String {
    let number = |name: &str| row[name].as_f64().unwrap_or_default();
    format!(
        "{:<6} {:<5} batch {:<3} {:>9.2} ms each  {:>8.1} GFLOP/s, {:>3.0} % of {:.0} ({}, {} threads)",
        row["tower"].as_str().unwrap_or_default(),
        row["precision"].as_str().unwrap_or_default(),
        row["batch"],
        1e3 * number("seconds_per_item"),
        number("gflops"),
        100.0 * number("gflops") / number("peak_gflops"),
        number("peak_gflops"),
        row["isa"].as_str().unwrap_or_default(),
        row["threads"],
    )
}
