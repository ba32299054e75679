//! Which matrices bear 8 bits: measured on activations, one product at a time.
//!
//! A model runs in f32 on samples. At each matrix inside a tower the product is also computed in
//! 8 bits, from the same inputs; where that is more than 2 % away the matrix stays `bf16`. Outliers of
//! the inputs move into the weight where that is nearer: a trained tower has a few channels far from
//! the others, which would leave few steps of 8 bits for the rest.
//!
//! # Source
//! Smoothing: Xiao et al., SmoothQuant, arXiv 2211.10438, equation 4 with alpha 0.5.

use crate::config::Text;
use crate::weights::{Files, Formats, Prepared, Source, Weights};
use crate::{ImageEncoder, Opened, Result, TextEncoder};
use altclip_tensor::{
    Activation, Backend, CpuBackend, Format, Op, Packed, RowSource, Tensor, Weight, WeightId,
    WeightKind,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Relative error of a product above which its matrix stays in `bf16`.
pub const MAX_ERROR: f64 = 0.02;

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
    /// `‖y₈ - y‖ / ‖y‖` in the format that was chosen, or in 8 bits where that was too much.
    pub error: f64,
    /// What it is to be kept in.
    pub format: Format,
}

impl Opened {
    /// How many matrices [`Opened::calibrate`] measures.
    pub fn matrices(&self) -> usize {
        let text = match &self.config().text {
            Text::AltClip(text) => text.bert.blocks.num_hidden_layers,
            Text::Clip(text) => text.blocks.num_hidden_layers,
        };
        let vision = self.config().vision.map_or(0, |vision| vision.blocks.num_hidden_layers);
        // Queries, keys and values, output, and two of the feed-forward part.
        5 * (text + vision)
    }

    /// Measures every matrix inside the towers. `backend` is an f32 one; `progress` is called for
    /// each matrix.
    ///
    /// # Errors
    /// As [`Opened::text_encoder`], and what running the model gives.
    pub fn calibrate(
        &self,
        backend: &CpuBackend,
        samples: &Samples<'_>,
        progress: &(dyn Fn() + Sync),
    ) -> Result<BTreeMap<String, Finding>> {
        let mut findings = BTreeMap::new();
        let mut measure = |run: &dyn Fn(&Weights<'_>, &Probe<'_>) -> Result<()>| {
            let names = Names { files: self.files(), names: Mutex::default() };
            let probe = Probe { backend, names: &names, progress, found: Mutex::default() };
            run(&Weights::new(backend, &names), &probe)?;
            findings.extend(probe.found.into_inner().unwrap_or_else(PoisonError::into_inner));
            Ok::<(), crate::Error>(())
        };
        measure(&|weights, probe| {
            let encoder = TextEncoder::new(weights, self.config())?;
            encoder.pooled(probe, samples.texts).map(|_| ())
        })?;
        if let (Some(vision), false) = (self.config().vision, samples.pixels.is_empty()) {
            let picture = vision.num_channels * vision.image_size * vision.image_size;
            let count = samples.pixels.len() / picture;
            measure(&|weights, probe| {
                let encoder = ImageEncoder::new(weights, self.config())?;
                let pixels = backend.tensor(count, picture, samples.pixels)?;
                encoder.features(probe, &pixels).map(|_| ())
            })?;
        }
        Ok(findings)
    }
}

/// What of the findings is not what 8 bits are by themselves.
pub fn formats(findings: &BTreeMap<String, Finding>) -> Formats {
    let chosen = findings.iter().filter(|(_, finding)| finding.format != Format::Int8(None));
    chosen.map(|(name, finding)| (name.clone(), finding.format.clone())).collect()
}

/// The files in f32, and the names of the matrices that are made of them.
struct Names {
    files: Files,
    names: Mutex<BTreeMap<WeightId, String>>,
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
        if prepared.kind == WeightKind::Matrix {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.insert(prepared.weight.id(), prepared.names.join("+"));
        }
    }
}

/// Runs everything in f32, and measures the products of named matrices on the way.
struct Probe<'a> {
    backend: &'a CpuBackend,
    names: &'a Names,
    progress: &'a (dyn Fn() + Sync),
    found: Mutex<BTreeMap<String, Finding>>,
}

impl Probe<'_> {
    fn measure(&self, x: &Tensor, weight: &Weight) -> altclip_tensor::Result<Finding> {
        let exact = self.product(x, weight)?;
        let error = |format: Format| -> altclip_tensor::Result<Finding> {
            let rough = self.product(x, &self.backend.repacked(weight, format.clone())?)?;
            let square =
                |numbers: &mut dyn Iterator<Item = f64>| numbers.map(|d| d * d).sum::<f64>();
            let off = square(&mut rough.iter().zip(&exact).map(|(a, b)| f64::from(a - b)));
            let size = square(&mut exact.iter().map(|&y| f64::from(y)));
            let error = if size > 0.0 { (off / size).sqrt() } else { 0.0 };
            Ok(Finding { error, format })
        };
        let mut best = error(Format::Int8(None))?;
        let smoothed = error(Format::Int8(Some(self.smoothing(x, weight)?)))?;
        // A tie goes to the simpler form; a NaN is no improvement.
        if smoothed.error < 0.9 * best.error {
            best = smoothed;
        }
        if best.error <= MAX_ERROR {
            return Ok(best);
        }
        Ok(Finding { format: Format::Bf16, ..best })
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

    /// Factors of the inputs, `sqrt(max |w| / max |x|)` per column.
    fn smoothing(&self, x: &Tensor, weight: &Weight) -> altclip_tensor::Result<Arc<[f32]>> {
        let numbers = self.backend.read(x)?;
        let mut largest = vec![0.0f32; x.cols()];
        for row in numbers.chunks_exact(x.cols().max(1)) {
            largest.iter_mut().zip(row).for_each(|(max, x)| *max = max.max(x.abs()));
        }
        let weights = self.backend.column_maxima(weight)?;
        let factor = |(x, w): (f32, f32)| {
            let factor = (w / x).sqrt();
            if factor.is_finite() { factor.clamp(1e-3, 1e3) } else { 1.0 }
        };
        Ok(largest.into_iter().zip(weights).map(factor).collect())
    }
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
            if let Some(name) = names.get(&weight.id()) {
                let finding = self.measure(x, weight)?;
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
