//! Twenty steps of each kind of training against PyTorch: losses, norms, and the weights at the end.
//!
//! The goldens are made by `scripts/reference/make_training_goldens.py`, in double precision.
#![allow(clippy::unwrap_used)]

use altclip_checkpoint::Checkpoint;
use altclip_data::MaxBad;
use altclip_durable::RealFs;
use altclip_models::Opened;
use altclip_tensor::{CpuBackend, Precision};
use altclip_train::contrastive::{Contrastive, ImageText, Picture};
use altclip_train::distill::{Distill, PairIds, Teacher};
use altclip_train::feed::{Prepare, Samples};
use altclip_train::optimizer::{Algorithm, Optimizer};
use altclip_train::run::{Parts, RunOptions, Scores, run};
use altclip_train::schedule::Schedule;
use altclip_train::start::Start;
use altclip_train::state::{Checkpoints, Keep};
use altclip_train::stop::Stop;
use altclip_train::task::{Engine, Task};
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden").join(name)
}

/// One file of `tests/golden/train`.
struct Golden {
    bytes: Vec<u8>,
    settings: Value,
}

impl Golden {
    fn open(name: &str) -> Self {
        let bytes = std::fs::read(golden("train").join(format!("{name}.safetensors"))).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let settings = metadata.metadata().as_ref().unwrap()["settings"].clone();
        Self { settings: serde_json::from_str(&settings).unwrap(), bytes }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        let tensors = self.tensors();
        let bytes = tensors.tensor(name).unwrap().data().to_vec();
        bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn f64(&self, name: &str) -> Vec<f64> {
        let tensors = self.tensors();
        let bytes = tensors.tensor(name).unwrap().data().to_vec();
        bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()
    }

    /// `[N, B, S]` as rows.
    fn rows(&self, name: &str) -> Vec<Vec<u32>> {
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap();
        let width = *tensor.shape().last().unwrap();
        let numbers: Vec<u32> =
            tensor.data().as_chunks().0.iter().map(|b| u32::from_le_bytes(*b)).collect();
        numbers.chunks(width).map(<[u32]>::to_vec).collect()
    }

    /// Token ids without padding.
    fn texts(&self) -> Vec<Vec<u32>> {
        let real = |(ids, mask): (Vec<u32>, Vec<u32>)| {
            ids.into_iter().zip(mask).filter(|&(_, mask)| mask == 1).map(|(id, _)| id).collect()
        };
        self.rows("input_ids").into_iter().zip(self.rows("attention_mask")).map(real).collect()
    }

    fn number(&self, key: &str) -> f64 {
        self.settings[key].as_f64().unwrap()
    }

    fn start(&self) -> Start {
        let prefixes: Vec<String> =
            serde_json::from_value(self.settings["trainable"].clone()).unwrap();
        let is_trained = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        Start::of_model(&golden(self.settings["model"].as_str().unwrap()), &is_trained).unwrap()
    }
}

fn engine(chunk_size: usize, checkpoint_activations: bool) -> Engine {
    Engine {
        backend: CpuBackend::new(2).with_precision(Precision::F32),
        checkpoint_activations,
        chunk_size,
        dropout: 0.0,
        seed: 0,
    }
}

struct Step {
    loss: f64,
    lr: f64,
    grad_norm: f64,
}

/// Runs the steps of a golden and gives what was logged.
fn train<T: Task>(
    golden: &Golden,
    task: &T,
    start: &mut Start,
    prepare: Arc<Prepare<T::Sample>>,
) -> Vec<Step> {
    let steps = golden.f64("loss").len() as u64;
    let batch = golden.rows("input_ids").len() / steps as usize;
    let dir = tempfile::tempdir().unwrap();
    let options = RunOptions {
        batch_size: batch,
        schedule: Schedule {
            shape: golden.settings["schedule"].as_str().unwrap().parse().unwrap(),
            lr: golden.number("lr"),
            warmup_steps: golden.number("warmup_steps") as u64,
            total_steps: golden.number("total_steps") as u64,
        },
        optimizer: Optimizer {
            algorithm: Algorithm::AdamW,
            beta1: golden.number("beta1"),
            beta2: golden.number("beta2"),
            eps: golden.number("eps"),
            weight_decay: golden.number("weight_decay"),
        },
        grad_clip: golden.number("max_norm"),
        seed: 0,
        shuffle: false,
        spike_guard: 0.0,
        max_bad: MaxBad::default(),
        allow_changed: false,
        threads: 2,
        save_every: 1000,
        eval_every: 0,
        patience: None,
        fixed: BTreeMap::new(),
    };
    let vfs = Arc::new(RealFs);
    let stop = Stop::new();
    let backend = CpuBackend::new(2);
    // The schedule goes further than the golden's steps; the run is asked to stop behind them.
    let mut observer = |event: &altclip_train::progress::Event<'_>| {
        if let altclip_train::progress::Event::Step { record, .. } = event
            && record.step == steps
        {
            stop.wish();
        }
    };
    run(
        task,
        &mut start.parameters,
        &options,
        Parts {
            samples: Samples::made(steps * batch as u64, prepare),
            evaluate: &mut |_| Ok(Scores::new()),
            checkpoints: &mut Checkpoints::open(vfs.clone(), dir.path(), Keep { last: 1 }).unwrap(),
            vfs,
            out: dir.path(),
            observer: &mut observer,
            stop: &stop,
            pool: backend.kernels().1,
        },
        None,
    )
    .unwrap();
    let log = std::fs::read_to_string(dir.path().join("metrics.jsonl")).unwrap();
    log.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let number = |key: &str| line[key].as_f64().unwrap();
            Step { loss: number("loss"), lr: number("lr"), grad_norm: number("grad_norm") }
        })
        .collect()
}

/// Losses to 1e-4, rates exactly, norms and weights to 1e-3.
fn compare(golden: &Golden, found: &[Step], start: &Start) {
    let (losses, norms, rates) = (golden.f64("loss"), golden.f64("grad_norm"), golden.f64("lr"));
    assert_eq!(found.len(), losses.len());
    for (n, step) in found.iter().enumerate() {
        let (loss, norm, lr) = (losses[n], norms[n], rates[n]);
        assert!((step.loss - loss).abs() < 1e-4, "step {n}: loss {} for {loss}", step.loss);
        assert!(
            (step.grad_norm - norm).abs() < 1e-3 * norm,
            "step {n}: {} for {norm}",
            step.grad_norm
        );
        assert!((step.lr - lr).abs() < 1e-9 * lr.max(1e-9), "step {n}: lr {} for {lr}", step.lr);
    }
    let mut worst = (0.0f32, String::new());
    for parameter in start.parameters.trained() {
        let expected = golden.f32(&format!("final.{}", parameter.name));
        let largest = expected.iter().fold(0.0f32, |max, x| max.max(x.abs()));
        let differences = parameter.values().iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let difference = differences.fold(0.0f32, f32::max) / largest.max(1e-3);
        if difference > worst.0 {
            worst = (difference, parameter.name.clone());
        }
    }
    assert!(worst.0 < 1e-3, "{worst:?}");
}

fn distill(chunk_size: usize, checkpoint_activations: bool) -> (Golden, Vec<Step>, Start) {
    let data = Golden::open("stage1");
    let mut start = data.start();
    let dir = golden(data.settings["teacher"].as_str().unwrap());
    let config = std::fs::read(dir.join("config.json")).unwrap();
    let opened = Opened::open(Checkpoint::open(&dir).unwrap(), &config, true).unwrap();
    let teacher = Teacher::new(opened.config(), &opened.files(), 1, None).unwrap();
    let engine = engine(chunk_size, checkpoint_activations);
    let task = Distill { model: start.model, teacher, engine };
    let (students, teachers) = (data.texts(), data.rows("teacher_input_ids"));
    let prepare: Arc<Prepare<PairIds>> = Arc::new(move |_, number| {
        let n = number as usize;
        Ok(PairIds { number, teacher: teachers[n].clone(), student: students[n].clone() })
    });
    let found = train(&data, &task, &mut start, prepare);
    (data, found, start)
}

fn contrastive(
    name: &str,
    chunk_size: usize,
    checkpoint_activations: bool,
) -> (Golden, Vec<Step>, Start) {
    let data = Golden::open(name);
    let mut start = data.start();
    let pixels = data.f32("pixel_values");
    let shape = data.tensors().tensor("pixel_values").unwrap().shape().to_vec();
    let picture_len: usize = shape[1..].iter().product();
    let engine = engine(chunk_size, checkpoint_activations);
    let task = Contrastive::new(start.model, engine, picture_len, None);
    let texts = data.texts();
    let images: Vec<u32> = data.rows("image_ids").concat();
    let prepare: Arc<Prepare<ImageText>> = Arc::new(move |_, number| {
        let n = number as usize;
        let image = images[n] as usize;
        let picture = pixels[image * picture_len..(image + 1) * picture_len].to_vec();
        Ok(ImageText {
            image: image as u64,
            picture: Picture::Pixels(picture),
            text: texts[n].clone(),
            meaning: number,
        })
    });
    let found = train(&data, &task, &mut start, prepare);
    (data, found, start)
}

fn weights(start: &Start) -> Vec<Vec<f32>> {
    start.parameters.trained().iter().map(|parameter| parameter.values().to_vec()).collect()
}

#[test]
fn stage_1_is_pytorch_s() {
    let (data, found, start) = distill(64, false);
    compare(&data, &found, &start);
}

#[test]
fn stage_2_is_pytorch_s() {
    let (data, found, start) = contrastive("stage2", 64, false);
    compare(&data, &found, &start);
}

#[test]
fn clip_is_pytorch_s() {
    let (data, found, start) = contrastive("clip", 64, false);
    compare(&data, &found, &start);
}

#[test]
fn gradient_caching_is_the_full_batch() {
    for name in ["stage2", "clip"] {
        let (data, found, start) = contrastive(name, 3, false);
        compare(&data, &found, &start);
        let (_, whole, _) = contrastive(name, 64, false);
        // The first step has the same weights, so its gradient is the same but for the order of sums.
        let difference = (found[0].grad_norm - whole[0].grad_norm).abs() / whole[0].grad_norm;
        assert!(difference < 1e-5, "{name}: {difference}");
    }
    let (data, found, start) = distill(3, false);
    compare(&data, &found, &start);
}

#[test]
fn activation_checkpoints_do_not_change_a_bit() {
    assert_eq!(weights(&distill(64, true).2), weights(&distill(64, false).2));
    let of = |checkpoints| weights(&contrastive("clip", 64, checkpoints).2);
    assert_eq!(of(true), of(false));
}
