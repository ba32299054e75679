//! Stage 2, CLIP itself, and fine-tuning: pictures and captions that belong together are pulled together,
//! both ways at once.
//!
//! Which towers are trained is a matter of which parameters are. A tower that is not gives its features
//! once and for all. A batch larger than a chunk is embedded without a tape first; the loss of the whole
//! batch gives the gradient of every embedding, with which each chunk is run again and differentiated: the
//! gradient of the full batch in the memory of a chunk.
//!
//! # Source
//! Radford et al., CLIP, arXiv 2103.00020, figure 3; Zhai et al., LiT, arXiv 2111.07991 (frozen image
//! tower); Gao et al., GradCache, arXiv 2101.06983 (section 3.2).

use crate::loss::{self, Positives};
use crate::parameters::{Gradient, LOGIT_SCALE, Parameters};
use crate::task::{Engine, Outcome, Pass, Task, complete};
use crate::{Error, Result};
use altclip::cache::FeatureCache;
use altclip_models::config::Model;
use altclip_models::{ImageEncoder, TextEncoder};
use altclip_tensor::Backend;
use std::sync::{Arc, Mutex, PoisonError};

/// A picture on its way to the loss.
#[derive(Clone, Debug)]
pub enum Picture {
    /// Pixel values `[3, Y, X]`.
    Pixels(Vec<f32>),
    /// Features of a frozen tower `[E]`, which were computed before.
    Features(Vec<f32>),
}

/// A picture and one of its captions.
#[derive(Clone, Debug)]
pub struct ImageText {
    /// Number of the picture in the data; pairs with the same one are positives of each other.
    pub image: u64,
    /// The picture.
    pub picture: Picture,
    /// Token ids of the caption.
    pub text: Vec<u32>,
    /// What the caption says, as a number; pairs with the same one are positives of each other.
    pub meaning: u64,
}

/// Contrastive training of one tower or both.
pub struct Contrastive {
    model: Model,
    engine: Engine,
    /// Features of a frozen image tower.
    cache: Option<Mutex<FeatureCache>>,
    /// Numbers of a picture's pixel values.
    picture_len: usize,
    frozen_image_tower: Kept<ImageEncoder>,
    frozen_text_tower: Kept<TextEncoder>,
}

/// A tower that is built once if it is not trained, and at each step if it is.
struct Kept<T>(Mutex<Option<Arc<T>>>);

impl<T> Kept<T> {
    fn get(&self, trained: bool, build: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        if trained {
            return Ok(Arc::new(build()?));
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tower) = &*kept {
            return Ok(tower.clone());
        }
        let tower = Arc::new(build()?);
        *kept = Some(tower.clone());
        Ok(tower)
    }
}

impl Contrastive {
    /// Training of a model of these sizes on pictures of `picture_len` numbers each.
    pub fn new(
        model: Model,
        engine: Engine,
        picture_len: usize,
        cache: Option<FeatureCache>,
    ) -> Self {
        let cache = cache.map(Mutex::new);
        let (frozen_image_tower, frozen_text_tower) =
            (Kept(Mutex::default()), Kept(Mutex::default()));
        Self { model, engine, cache, picture_len, frozen_image_tower, frozen_text_tower }
    }

    fn trains(parameters: &Parameters, prefixes: &[&str]) -> bool {
        let of_tower = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        parameters.trained().iter().any(|parameter| of_tower(&parameter.name))
            || parameters.adapters().keys().any(|name| of_tower(name))
    }

    /// Features of pictures by a frozen tower, `[B, E]`.
    fn frozen_images(&self, encoder: &ImageEncoder, batch: &[ImageText]) -> Result<Vec<f32>> {
        let width = self.model.projection_dim;
        let mut features = vec![0.0; batch.len() * width];
        let mut missing = Vec::new();
        for (n, (sample, row)) in batch.iter().zip(features.chunks_exact_mut(width)).enumerate() {
            match &sample.picture {
                Picture::Features(known) if known.len() == width => row.copy_from_slice(known),
                _ => missing.push(n),
            }
        }
        for chunk in missing.chunks(self.engine.chunk_size.min(16)) {
            let pictures: Vec<&ImageText> = chunk.iter().map(|&n| &batch[n]).collect();
            let computed = self.images(&self.engine.backend, encoder, &pictures)?;
            for (&n, row) in chunk.iter().zip(computed.chunks_exact(width)) {
                features[n * width..(n + 1) * width].copy_from_slice(row);
                if let Some(cache) = &self.cache {
                    let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
                    cache.put(batch[n].image, row)?;
                }
            }
        }
        Ok(features)
    }

    fn images(
        &self,
        b: &dyn Backend,
        encoder: &ImageEncoder,
        pictures: &[&ImageText],
    ) -> Result<Vec<f32>> {
        Ok(self.engine.backend.read(&self.image_tensor(b, encoder, pictures)?)?)
    }

    fn image_tensor(
        &self,
        b: &dyn Backend,
        encoder: &ImageEncoder,
        pictures: &[&ImageText],
    ) -> Result<altclip_tensor::Tensor> {
        let mut pixels = Vec::with_capacity(pictures.len() * self.picture_len);
        for sample in pictures {
            match &sample.picture {
                Picture::Pixels(values) if values.len() == self.picture_len => {
                    pixels.extend(values)
                }
                _ => return Err(Error::NoPixels { image: sample.image }),
            }
        }
        let pixels = b.tensor(pictures.len(), self.picture_len, &pixels)?;
        Ok(encoder.features(b, &pixels)?)
    }
}

impl Task for Contrastive {
    type Sample = ImageText;

    fn step(&self, parameters: &Parameters, step: u64, batch: &[ImageText]) -> Result<Outcome> {
        parameters.begin();
        let weights = self.engine.weights(parameters);
        let train_images = Self::trains(parameters, &["vision_model.", "visual_projection."]);
        let train_texts = Self::trains(parameters, &["text_model.", "text_projection."]);
        let images = self
            .frozen_image_tower
            .get(train_images, || Ok(ImageEncoder::new(&weights, &self.model)?))?;
        let texts = self
            .frozen_text_tower
            .get(train_texts, || Ok(TextEncoder::new(&weights, &self.model)?))?;
        let chunk = self.engine.chunk_size.max(1);
        let image_pass = |b: &dyn Backend, samples: &[ImageText]| {
            self.image_tensor(b, &images, &samples.iter().collect::<Vec<_>>())
        };
        let text_pass = |b: &dyn Backend, samples: &[ImageText]| {
            let ids: Vec<&[u32]> = samples.iter().map(|sample| sample.text.as_slice()).collect();
            Ok(texts.features(b, &ids)?)
        };
        let towers: [(&crate::task::Forward<'_, ImageText>, bool); 2] =
            [(&image_pass, train_images), (&text_pass, train_texts)];

        // Features of the whole batch. A single chunk keeps its tape; several are run again below.
        let mut features = [Vec::new(), Vec::new()];
        let mut kept: [Option<Pass<'_>>; 2] = [None, None];
        for (tower, (forward, trained)) in towers.iter().enumerate() {
            if tower == 0 && !trained {
                features[0] = self.frozen_images(&images, batch)?;
            } else if *trained && batch.len() <= chunk {
                let pass = self.engine.pass(parameters, (step, 0), |b| forward(b, batch))?;
                features[tower] = self.engine.backend.read(pass.output())?;
                kept[tower] = Some(pass);
            } else {
                for (nth, samples) in batch.chunks(chunk).enumerate() {
                    let output = self.engine.plain((step, nth), |b| forward(b, samples))?;
                    features[tower].extend(self.engine.backend.read(&output)?);
                }
            }
        }

        let log_scale = parameters.read(LOGIT_SCALE)?.first().copied().unwrap_or(0.0);
        let image_ids: Vec<u64> = batch.iter().map(|sample| sample.image).collect();
        let text_ids: Vec<u64> = batch.iter().map(|sample| sample.meaning).collect();
        let (kernels, pool) = self.engine.backend.kernels();
        let found = loss::contrastive(
            kernels,
            pool,
            &loss::Contrastive {
                images: &features[0],
                texts: &features[1],
                width: self.model.projection_dim,
                positives: &Positives::of_ids(&image_ids, &text_ids),
                logit_scale: log_scale,
            },
        );

        let mut sums = vec![None; parameters.trained().len()];
        if let Some(number) = parameters.number(LOGIT_SCALE) {
            sums[number] = Some(Gradient::Dense(vec![found.logit_scale]));
        }
        let gradients = [&found.images, &found.texts];
        let width = self.model.projection_dim;
        for (tower, (forward, trained)) in towers.iter().enumerate() {
            if !trained {
                continue;
            }
            if let Some(pass) = kept[tower].take() {
                self.engine.backward(parameters, &mut sums, pass, gradients[tower])?;
                continue;
            }
            let parts = batch.chunks(chunk).zip(gradients[tower].chunks(chunk * width));
            for (nth, (samples, gradient)) in parts.enumerate() {
                let pass = self.engine.pass(parameters, (step, nth), |b| forward(b, samples))?;
                self.engine.backward(parameters, &mut sums, pass, gradient)?;
            }
        }
        Ok(Outcome { loss: f64::from(found.loss), gradients: complete(parameters, sums)? })
    }

    fn batch_bytes(&self, batch_size: u64, samples: u64) -> u64 {
        let float = size_of::<f32>() as u64;
        // Pixel values; features of both sides with their directions, gradients and transposes; ids and the two blocks
        // of logits.
        let [pixels, width] = [self.picture_len, self.model.projection_dim].map(|n| n as u64);
        let floats = pixels + 8 * width + 2 * loss::CONTRASTIVE_BLOCK as u64 + 256;
        // Of a batch larger than the data each sample is right for all of its copies.
        let copies = batch_size.div_ceil(samples.max(1));
        batch_size.saturating_mul(float).saturating_mul(floats.saturating_add(copies))
    }

    fn after_update(&self, parameters: &mut Parameters) {
        if let Some(number) = parameters.number(LOGIT_SCALE) {
            let values = parameters.trained_mut()[number].values_mut();
            values.iter_mut().for_each(|scale| *scale = loss::clamp_logit_scale(*scale));
        }
    }
}
