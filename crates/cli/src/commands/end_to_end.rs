//! `altclip bench --images DIR`: from picture files to rows, beside what the encoder alone needs.
//!
//! Pictures go through in rounds. In each round the encoder runs on the round's first batches alone,
//! then the whole round goes end to end, then the encoder alone again, so that both see the same
//! machine. A round starts its threads anew and waits for its first batch, which counts.

use super::bench::{Subject, wrapped};
use crate::failure::Failure;
use crate::inputs::{self, Input};
use altclip::image::{DecodeOptions, decode_and_preprocess, read_file};
use altclip::tensor::{Backend, Tensor};
use altclip::{ImageTower, PictureOptions, Pictures};
use altclip_report::{Code, Report, quote};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Batches of a round, and those of them on which the encoder runs alone.
const BATCHES: usize = 16;
const ALONE: usize = 4;

pub(super) fn run(
    subject: &Subject,
    folder: &Path,
    batch: Option<usize>,
) -> Result<Value, Failure> {
    let files = files(folder)?;
    let (backend, tower) = (subject.backend(), subject.image_tower()?);
    let mut options = PictureOptions::for_threads(backend.threads());
    options.batch = batch.unwrap_or(options.batch);
    let (mut whole, mut alone) = (Clock::default(), Clock::default());
    let mut errors = 0;
    for round in files.chunks(BATCHES * options.batch) {
        let sample = prepared(backend, &tower, round, options.batch)?;
        if let (true, Some(batch)) = (alone.items == 0, sample.first()) {
            // Buffers are made and pages touched before the clock runs.
            tower.0.features(backend, batch)?;
        }
        encoder_alone(backend, &tower, &sample, &mut alone)?;
        let (sources, shared): (Vec<PathBuf>, _) = (round.to_vec(), ImageTower::clone(&tower));
        let start = Instant::now();
        let rows = Pictures::new(backend, shared, sources.into_iter(), &options);
        let good = rows.filter(Result::is_ok).count();
        whole.add(start.elapsed(), good);
        errors += round.len() - good;
        encoder_alone(backend, &tower, &sample, &mut alone)?;
    }
    Ok(json!({
        "tower": "image",
        "mode": "end_to_end",
        "precision": backend.precision().name(),
        "batch": options.batch,
        "items": files.len(),
        "seconds_per_item": whole.mean(),
        "encoder_seconds_per_item": alone.mean(),
        "ratio": alone.mean().zip(whole.mean()).map(|(alone, whole)| alone / whole),
        "errors": errors,
        "threads": backend.threads(),
        "isa": backend.isa().name(),
    }))
}

#[derive(Default)]
struct Clock {
    time: Duration,
    items: usize,
}

impl Clock {
    fn add(&mut self, time: Duration, items: usize) {
        self.time += time;
        self.items += items;
    }

    /// Seconds an item, if there was one.
    fn mean(&self) -> Option<f64> {
        (self.items > 0).then(|| self.time.as_secs_f64() / self.items as f64)
    }
}

fn encoder_alone(
    backend: &dyn Backend,
    tower: &ImageTower,
    sample: &[Tensor],
    clock: &mut Clock,
) -> Result<(), Failure> {
    for batch in sample {
        let start = Instant::now();
        tower.0.features(backend, batch)?;
        clock.add(start.elapsed(), batch.rows());
    }
    Ok(())
}

/// The first batches of those pictures that can be decoded.
fn prepared(
    backend: &dyn Backend,
    tower: &ImageTower,
    files: &[PathBuf],
    batch: usize,
) -> Result<Vec<Tensor>, Failure> {
    let options = DecodeOptions::default();
    let (height, width) = tower.1.output_size();
    let picture = 3 * height * width;
    let mut pixels = Vec::new();
    for file in &files[..files.len().min(ALONE * batch)] {
        let mut values = vec![0.0; picture];
        let bytes = read_file(file, &options);
        let decoded =
            bytes.and_then(|bytes| decode_and_preprocess(&bytes, &options, &tower.1, &mut values));
        if decoded.is_ok() {
            pixels.extend(values);
        }
    }
    let tensor = |pixels: &[f32]| backend.tensor(pixels.len() / picture, picture, pixels);
    pixels.chunks(batch * picture).map(|pixels| tensor(pixels).map_err(wrapped)).collect()
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let path = |input| match input {
        Input::Image { path, .. } => Some(path.map_err(Failure::one)),
        Input::Text { .. } => None,
    };
    let files =
        inputs::images(folder).into_iter().filter_map(path).collect::<Result<Vec<_>, _>>()?;
    if files.is_empty() {
        return Err(Failure::one(
            Report::new(Code::E4201, "input", "there is no picture to measure")
                .place(quote(&folder.to_string_lossy()))
                .got("an empty folder")
                .expected("a folder of picture files")
                .help("check the path after --images"),
        ));
    }
    Ok(files)
}

pub(super) fn shown(row: &Value) -> String {
    let number = |name: &str| row[name].as_f64().unwrap_or_default();
    format!(
        "image {:<5} end to end  {:>9.2} ms each, encoder alone {:.2} ms: {:.1} % of its rate ({} pictures, {} refused, {} threads)",
        row["precision"].as_str().unwrap_or_default(),
        1e3 * number("seconds_per_item"),
        1e3 * number("encoder_seconds_per_item"),
        100.0 * number("ratio"),
        row["items"],
        row["errors"],
        row["threads"],
    )
}
