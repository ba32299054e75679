//! R2D2's second look: two joint encoders, over the text and over the picture, each with cross-attention to
//! the other, and two heads that say whether both belong together.
//!
//! # Source
//! Xie et al., Zero and R2D2, arXiv 2205.03860, sections 4.1 and 4.2; names as in yuxie11/R2D2
//! `models/r2d2.py` (commit 6c9f74a).

use crate::Result;
use crate::bert::JointEncoder;
use crate::config::{Joint, Model, Vision};
use crate::layers::Linear;
use crate::weights::Weights;
use altclip_tensor::{Backend, Segments, Tensor};

/// Pictures or texts per query that are ranked again.
pub const CANDIDATES: usize = 128;
/// What everything behind the candidates gets.
pub const BEHIND: f32 = -100.0;

/// The joint encoders and their heads.
pub struct Reranker {
    text: JointEncoder,
    image: JointEncoder,
    image_map: Linear,
    text_head: Linear,
    image_head: Linear,
}

impl Reranker {
    /// The encoders of a model of these sizes.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(
        weights: &Weights<'_>,
        config: &Model,
        vision: &Vision,
        joint: &Joint,
    ) -> Result<Self> {
        let (text, image) = (config.text.blocks().hidden_size, vision.blocks.hidden_size);
        Ok(Self {
            text: weights.scope("text_joint_layer", |weights| {
                JointEncoder::new(&weights, &joint.text, image)
            })?,
            image: weights.scope("img_joint_layer", |weights| {
                JointEncoder::new(&weights, &joint.image, text)
            })?,
            image_map: Linear::edge(weights, "img_joint_proj", [text, image])?,
            text_head: Linear::edge(weights, "itm_head", [2, text])?,
            image_head: Linear::edge(weights, "itm_head_i", [2, text])?,
        })
    }

    /// How probably each text belongs to the picture of the same number: the mean of the two heads. Takes
    /// the states of all tokens of both sides, `[Tt, Dt]` and `[Ti, Di]`.
    ///
    /// # Errors
    /// As [`Backend::forward`].
    pub fn probabilities(
        &self,
        b: &dyn Backend,
        (text, text_segments): (&Tensor, &Segments),
        (image, image_segments): (&Tensor, &Segments),
    ) -> Result<Vec<f32>> {
        let by_text = self.text.cls(b, text, text_segments, (image, image_segments))?;
        let mapped = self.image_map.forward(b, image)?;
        let by_image = self.image.cls(b, &mapped, image_segments, (text, text_segments))?;
        let positive = |logits: Tensor| -> Result<Vec<f64>> {
            let logits = b.read(&logits)?;
            let sigmoid = |[no, yes]: &[f32; 2]| 1.0 / (1.0 + f64::from(no - yes).exp());
            Ok(logits.as_chunks().0.iter().map(sigmoid).collect())
        };
        let by_text = positive(self.text_head.forward(b, &by_text)?)?;
        let by_image = positive(self.image_head.forward(b, &by_image)?)?;
        Ok(by_text.iter().zip(by_image).map(|(a, b)| ((a + b) / 2.0) as f32).collect())
    }
}
