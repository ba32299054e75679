//! A model in the middle of its training, for a look at how good it is.

use crate::Result;
use crate::parameters::Parameters;
use altclip_models::config::Model;
use altclip_models::weights::Weights;
use altclip_models::{ImageEncoder, TextEncoder};
use altclip_tensor::{Backend, CpuBackend, Ops};

/// Rows of one forward pass.
const BATCH: usize = 32;

/// The encoders over master weights as they are now.
pub struct Snapshot<'a> {
    backend: &'a CpuBackend,
    texts: TextEncoder,
    images: ImageEncoder,
}

impl<'a> Snapshot<'a> {
    /// Builds both encoders. What was prepared for the last step is forgotten.
    ///
    /// # Errors
    /// A weight cannot be read.
    pub fn new(backend: &'a CpuBackend, model: &Model, parameters: &Parameters) -> Result<Self> {
        parameters.begin();
        let weights = Weights::new(backend, parameters);
        let texts = TextEncoder::new(&weights, model)?;
        let images = ImageEncoder::new(&weights, model)?;
        parameters.begin();
        Ok(Self { backend, texts, images })
    }

    /// `text_embeds`, projected and L2-normalised: `[N, E]`.
    ///
    /// # Errors
    /// The model cannot be run; here and below.
    pub fn encode_text(&self, ids: &[Vec<u32>]) -> Result<Vec<f32>> {
        let mut embeds = Vec::new();
        for batch in ids.chunks(BATCH) {
            let batch: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
            let features = self.texts.features(self.backend, &batch)?;
            embeds.extend(self.backend.read(&self.backend.l2_normalize(&features)?)?);
        }
        Ok(embeds)
    }

    /// `image_embeds` of pixel values `[N, 3, Y, X]` of `picture` numbers each, projected and
    /// L2-normalised: `[N, E]`.
    pub fn encode_pixels(&self, pixels: &[f32], picture: usize) -> Result<Vec<f32>> {
        let mut embeds = Vec::new();
        for batch in pixels.chunks(BATCH * picture.max(1)) {
            let pixels = self.backend.tensor(batch.len() / picture.max(1), picture, batch)?;
            let features = self.images.features(self.backend, &pixels)?;
            embeds.extend(self.backend.read(&self.backend.l2_normalize(&features)?)?);
        }
        Ok(embeds)
    }
}
