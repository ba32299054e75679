//! What running a model on samples tells about its matrices: the mean of their inputs, and which of
//! them bear 8 bits, one product at a time.
//!
//! A model runs in f32 on samples. At each matrix the mean of the inputs is taken, by which a packed
//! matrix makes up for what rounding does to all inputs alike: most of what rounding does, since the
//! inputs of a layer have much in common. For 8 bits each product inside a tower is also computed in
//! 8 bits, from the same inputs; where that is more than 2 % away the matrix stays `bf16`. Outliers of the
//! inputs move into the weight as far as that brings the product nearest: a trained tower has a few
//! channels far from the others, which would leave few steps of 8 bits for the rest.
//!
//! # Source
//! Smoothing: Xiao et al., SmoothQuant, arXiv 2211.10438, equation 4.

use crate::config::{Similarity, Text};
use crate::weights::{Files, Formats, Prepared, Source, Weights};
use crate::{ImageEncoder, Opened, Result, TextEncoder};
use altclip_tensor::{
    Activation, Backend, CpuBackend, Format, Op, Packed, Precision, RowSource, Tensor, Weight,
    WeightId, WeightKind,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Relative error of a product above which its matrix stays in `bf16`.
pub const MAX_ERROR: f64 = 0.02;
/// How far outliers are moved: the exponents that are tried.
const ALPHAS: [f32; 3] = [0.35, 0.5, 0.65];

/// What the models run on to be measured.
pub struct Samples<'a> {
    /// Token ids.
    pub texts: &'a [&'a [u32]],
    /// Pixel values, one picture after the other.
    pub pixels: &'a [f32],
}

/// What was found at one matrix.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `‖y₈ - y‖ / ‖y‖` in the best form of 8 bits, if that was measured.
    pub error: Option<f64>,
    /// What it is to be kept in.
    pub format: Format,
}

impl Opened {
    /// How many matrices [`Opened::calibrate`] measures.
    pub fn matrices(&self) -> usize {
        // Where a tower ends or begins: a projection, AltCLIP's map before it, the patches.
        let (text, edges) = match &self.config().text {
            Text::AltClip(text) => (text.bert.blocks.num_hidden_layers, 1),
            Text::Clip(text) => (text.blocks.num_hidden_layers, 0),
            Text::Bert(text) => (text.bert.blocks.num_hidden_layers, usize::from(text.pooler)),
        };
        let (vision, more) =
            self.config().vision.map_or((0, 0), |vision| (vision.blocks.num_hidden_layers, 3));
        // Queries, keys and values, output, and two of the feed-forward part.
        5 * (text + vision) + edges + more
    }

    /// Measures every matrix for a precision other than f32. `backend` is an f32 one; `progress` is
    /// called for each matrix.
    ///
    /// # Errors
    /// As [`Opened::text_encoder`], and what running the model gives.
    pub fn calibrate(
        &self,
        backend: &CpuBackend,
        precision: Precision,
        samples: &Samples<'_>,
        progress: &(dyn Fn() + Sync),
    ) -> Result<BTreeMap<String, Finding>> {
        let mut findings = BTreeMap::new();
        let token_wise = self.config().similarity == Similarity::TokenWise;
        let mut measure = |run: &dyn Fn(&Weights<'_>, &Probe<'_>) -> Result<()>| {
            let names = Names { files: self.files(), names: Mutex::default() };
            let found = Mutex::default();
            let probe = Probe { backend, precision, names: &names, progress, found };
            run(&Weights::new(backend, &names), &probe)?;
            findings.extend(probe.found.into_inner().unwrap_or_else(PoisonError::into_inner));
            Ok::<(), crate::Error>(())
        };
        measure(&|weights, probe| {
            let encoder = TextEncoder::new(weights, self.config())?;
            // A text encoder alone has no projection.
            match self.config().vision {
                _ if token_wise => encoder.tokens(probe, samples.texts).map(|_| ()),
                Some(_) => encoder.features(probe, samples.texts).map(|_| ()),
                None => encoder.pooled(probe, samples.texts).map(|_| ()),
            }
        })?;
        if let (Some(vision), false) = (self.config().vision, samples.pixels.is_empty()) {
            let picture = vision.num_channels * vision.image_size * vision.image_size;
            let count = samples.pixels.len() / picture;
            measure(&|weights, probe| {
                let encoder = ImageEncoder::new(weights, self.config())?;
                let pixels = backend.tensor(count, picture, samples.pixels)?;
                match token_wise {
                    true => encoder.tokens(probe, &pixels).map(|_| ()),
                    false => encoder.features(probe, &pixels).map(|_| ()),
                }
            })?;
        }
        Ok(findings)
    }
}

/// The formats that were found.
pub fn formats(findings: BTreeMap<String, Finding>) -> Formats {
    findings.into_iter().map(|(name, finding)| (name, finding.format)).collect()
}

/// The files in f32, and the names of the matrices that are made of them.
struct Names {
    files: Files,
    names: Mutex<BTreeMap<WeightId, (WeightKind, String)>>,
}

impl Source for Names {
    fn rows(&self, name: &str, shape: &[usize]) -> Result<Arc<dyn RowSource>> {
        self.files.rows(name, shape)
    }

    fn has(&self, name: &str) -> bool {
        self.files.has(name)
    }

    fn packed(&self, _: &str) -> Result<Option<Packed>> {
        Ok(None)
    }

    fn prepared(&self, prepared: Prepared<'_>) {
        if matches!(prepared.kind, WeightKind::Matrix | WeightKind::Edge) {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.insert(prepared.weight.id(), (prepared.kind, prepared.names.join("+")));
        }
    }
}

/// Runs everything in f32, and measures the products of named matrices on the way.
struct Probe<'a> {
    backend: &'a CpuBackend,
    precision: Precision,
    names: &'a Names,
    progress: &'a (dyn Fn() + Sync),
    found: Mutex<BTreeMap<String, Finding>>,
}

impl Probe<'_> {
    fn measure(
        &self,
        kind: WeightKind,
        x: &Tensor,
        weight: &Weight,
    ) -> altclip_tensor::Result<Finding> {
        let inputs = Inputs::new(&self.backend.read(x)?, x.cols());
        let mean = Some(inputs.mean);
        let in_bf16 = Format::Bf16 { mean: mean.clone() };
        if self.precision != Precision::Int8 || kind == WeightKind::Edge {
            return Ok(Finding { error: None, format: in_bf16 });
        }
        let exact = self.product(x, weight)?;
        let square = |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|d| d * d).sum::<f64>();
        let size = square(&mut exact.iter().map(|&y| f64::from(y)));
        let error = |format: &Format| -> altclip_tensor::Result<f64> {
            let rough = self.product(x, &self.backend.repacked(weight, format.clone())?)?;
            let off = square(&mut rough.iter().zip(&exact).map(|(a, b)| f64::from(a - b)));
            Ok(if size > 0.0 { (off / size).sqrt() } else { 0.0 })
        };
        let mut format = Format::Int8 { smoothing: None, mean: mean.clone() };
        let mut best = error(&format)?;
        let weights = self.backend.column_maxima(weight)?;
        for alpha in ALPHAS {
            let smoothing = Some(smoothing(&inputs.largest, &weights, alpha));
            let smoothed = Format::Int8 { smoothing, mean: mean.clone() };
            let error = error(&smoothed)?;
            // A tie goes to the simpler form; a NaN is no improvement.
            if error < 0.95 * best {
                (best, format) = (error, smoothed);
            }
        }
        let bears = best <= MAX_ERROR;
        Ok(Finding { error: Some(best), format: if bears { format } else { in_bf16 } })
    }

    fn product(&self, x: &Tensor, weight: &Weight) -> altclip_tensor::Result<Vec<f32>> {
        self.backend.read(&self.backend.forward(&Op::Linear {
            x: x.clone(),
            weight: weight.clone(),
            bias: None,
            activation: Activation::Identity,
            residual: None,
            compact: false,
        })?)
    }
}

/// What is known of the inputs of a matrix, for each of its columns.
struct Inputs {
    mean: Arc<[f32]>,
    largest: Vec<f32>,
}

impl Inputs {
    fn new(numbers: &[f32], cols: usize) -> Self {
        let (mut sums, mut largest) = (vec![0.0f64; cols], vec![0.0f32; cols]);
        let rows = numbers.chunks_exact(cols.max(1));
        let count = rows.len().max(1) as f64;
        for row in rows {
            sums.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x));
            largest.iter_mut().zip(row).for_each(|(max, x)| *max = max.max(x.abs()));
        }
        Self { mean: sums.into_iter().map(|sum| (sum / count) as f32).collect(), largest }
    }
}

/// Factors of the inputs, `max |w|^(1 - alpha) / max |x|^alpha` per column.
fn smoothing(inputs: &[f32], weights: &[f32], alpha: f32) -> Arc<[f32]> {
    let factor = |(x, w): (&f32, &f32)| {
        let factor = w.powf(1.0 - alpha) / x.powf(alpha);
        if factor.is_finite() { factor.clamp(1e-3, 1e3) } else { 1.0 }
    };
    inputs.iter().zip(weights).map(factor).collect()
}

impl Backend for Probe<'_> {
    fn name(&self) -> &'static str {
        self.backend.name()
    }

    fn tensor(&self, rows: usize, cols: usize, data: &[f32]) -> altclip_tensor::Result<Tensor> {
        self.backend.tensor(rows, cols, data)
    }

    fn weight(
        &self,
        kind: WeightKind,
        source: Arc<dyn RowSource>,
    ) -> altclip_tensor::Result<Weight> {
        self.backend.weight(kind, source)
    }

    fn read(&self, tensor: &Tensor) -> altclip_tensor::Result<Vec<f32>> {
        self.backend.read(tensor)
    }

    fn forward(&self, op: &Op) -> altclip_tensor::Result<Tensor> {
        if let Op::Linear { x, weight, .. } = op {
            let names = self.names.names.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((kind, name)) = names.get(&weight.id()) {
                let finding = self.measure(*kind, x, weight)?;
                let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
                found.insert(name.clone(), finding);
                (self.progress)();
            }
        }
        self.backend.forward(op)
    }

    fn block_end(&self, x: &Tensor) {
        self.backend.block_end(x);
    }
}
