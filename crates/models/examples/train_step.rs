//! How long a training step of a text tower of XLM-R-base's shape takes, by part and operation.
//!
//!     cargo run --release -p altclip-models --example train_step -- [f32|bf16] [threads] [checkpoints]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

use altclip_models::bert::{Bert, TokenBatch};
use altclip_models::config::{Bert as Config, Positions, Transformer};
use altclip_models::random::RandomWeights;
use altclip_models::weights::{Prepared, Source, Weights};
use altclip_tensor::autograd::Tape;
use altclip_tensor::{
    Activation, Backend, CpuBackend, Grads, Op, Precision, RowSource, Saved, Tensor, Wanted,
    Weight, WeightId, WeightKind,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TEXTS: usize = 32;
const TOKENS: usize = 32;

/// Times each operation.
struct Timing<'b> {
    inner: &'b dyn Backend,
    times: Mutex<BTreeMap<String, Duration>>,
}

impl Timing<'_> {
    fn time<T>(&self, name: String, run: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = run();
        *self.times.lock().unwrap().entry(name).or_default() += start.elapsed();
        result
    }
}

impl Backend for Timing<'_> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    fn tensor(&self, rows: usize, cols: usize, data: &[f32]) -> altclip_tensor::Result<Tensor> {
        self.inner.tensor(rows, cols, data)
    }
    fn weight(
        &self,
        kind: WeightKind,
        source: Arc<dyn RowSource>,
    ) -> altclip_tensor::Result<Weight> {
        self.inner.weight(kind, source)
    }
    fn read(&self, tensor: &Tensor) -> altclip_tensor::Result<Vec<f32>> {
        self.inner.read(tensor)
    }
    fn forward(&self, op: &Op) -> altclip_tensor::Result<Tensor> {
        self.time(format!("forward {}", op.name()), || self.inner.forward(op))
    }
    fn forward_saving(&self, op: &Op, wanted: &Wanted) -> altclip_tensor::Result<(Tensor, Saved)> {
        self.time(format!("forward {}", op.name()), || self.inner.forward_saving(op, wanted))
    }
    fn backward(
        &self,
        op: &Op,
        saved: &Saved,
        grad: &Tensor,
        wanted: &Wanted,
    ) -> altclip_tensor::Result<Grads> {
        self.time(format!("backward {}", op.name()), || {
            self.inner.backward(op, saved, grad, wanted)
        })
    }
}

/// Random master weights in memory.
#[derive(Default)]
struct Masters {
    rows: Mutex<BTreeMap<String, Arc<Master>>>,
    ids: Mutex<BTreeSet<WeightId>>,
}

struct Master {
    shape: [usize; 2],
    values: Vec<f32>,
}

impl RowSource for Master {
    fn shape(&self) -> [usize; 2] {
        self.shape
    }
    fn read_rows(
        &self,
        rows: std::ops::Range<usize>,
        out: &mut [f32],
    ) -> Result<(), altclip_report::Report> {
        let cols = self.shape[1];
        out.copy_from_slice(&self.values[rows.start * cols..][..out.len()]);
        Ok(())
    }
}

impl Source for Masters {
    fn rows(&self, name: &str, shape: &[usize]) -> altclip_models::Result<Arc<dyn RowSource>> {
        let mut rows = self.rows.lock().unwrap();
        if let Some(master) = rows.get(name) {
            return Ok(master.clone());
        }
        let source = RandomWeights::without_outliers(1).rows(name, shape)?;
        let shape = source.shape();
        let mut values = vec![0.0; shape[0] * shape[1]];
        source.read_rows(0..shape[0], &mut values).unwrap();
        let master = Arc::new(Master { shape, values });
        rows.insert(name.to_owned(), master.clone());
        Ok(master)
    }
    fn has(&self, _: &str) -> bool {
        false
    }
    fn prepared(&self, prepared: Prepared<'_>) {
        self.ids.lock().unwrap().insert(prepared.weight.id());
    }
}

/// Processor time of all threads so far, and page faults, where the system tells.
fn usage() -> (Duration, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
    let field = |nth: usize| fields.get(nth).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
    (Duration::from_millis(10 * (field(12) + field(13))), field(8))
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |name: &str| args.iter().any(|arg| arg == name);
    let threads = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(2);
    let precision = if arg("bf16") { Precision::Bf16 } else { Precision::F32 };
    let backend = CpuBackend::new(threads).with_precision(precision);
    let config = Config {
        blocks: Transformer {
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            layer_norm_eps: 1e-5,
            hidden_act: Activation::Gelu,
        },
        vocab_size: 8192,
        max_position_embeddings: 514,
        type_vocab_size: 1,
        pad_token_id: 1,
        positions: Positions::AfterPad,
    };
    let texts: Vec<Vec<u32>> = (0..TEXTS)
        .map(|text| (0..TOKENS).map(|i| 2 + (text * 977 + i * 131) as u32 % 8000).collect())
        .collect();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let masters = Masters::default();
    for step in 0..4 {
        let timing = Timing { inner: &backend, times: Mutex::default() };
        masters.ids.lock().unwrap().clear();
        let mut before = usage();
        let mut part = move || {
            let now = usage();
            let spent = (now.0 - before.0, now.1 - before.1);
            before = now;
            spent
        };
        let start = Instant::now();
        let model = Bert::new(&Weights::new(&backend, &masters), &config).unwrap();
        let built = start.elapsed();
        let mut parts = vec![part()];
        let mut tape = Tape::new(&timing, masters.ids.lock().unwrap().clone());
        if arg("checkpoints") {
            tape = tape.with_checkpoints();
        }
        let batch = TokenBatch::new(&texts, &config);
        let y = model.hidden_state(&tape, &batch, 12).unwrap();
        let forward = start.elapsed() - built;
        parts.push(part());
        let values: Vec<f32> = (0..y.rows() * y.cols()).map(|i| (i as f32).sin()).collect();
        let grad = backend.tensor(y.rows(), y.cols(), &values).unwrap();
        let begun = start.elapsed();
        let gradients = tape.gradients(&[(y, grad)]).unwrap();
        let backward = start.elapsed() - begun;
        parts.push(part());
        drop(gradients);
        println!("step {step}: build {built:.1?}, forward {forward:.1?}, backward {backward:.1?}");
        println!("  processor time and page faults of each: {parts:.1?}");
        if step == 3 {
            for (name, time) in timing.times.into_inner().unwrap() {
                println!("  {name:<22} {:8.1} ms", time.as_secs_f64() * 1e3);
            }
            let matrix = 12 * (4 * 768 * 768 + 2 * 768 * 3072);
            let flops = 6.0 * (matrix * TEXTS * TOKENS) as f64;
            let rate = flops / (forward + backward).as_secs_f64() / 1e9;
            println!("  products: {rate:.0} GFLOP/s of the step without building");
            let (kernels, _) = backend.kernels();
            let clock = Instant::now();
            let peak = match precision {
                Precision::F32 => kernels.peak_f32(20_000_000),
                _ => kernels.peak_reduced(false, 3_000_000).unwrap_or(1),
            };
            let rate = peak as f64 / clock.elapsed().as_secs_f64() / 1e9;
            println!("  instructions of one thread: {rate:.0} GFLOP/s");
        }
    }
}
