//! A model folder opened and checked, and the two encoders that are built from it on demand.

use crate::alt_clip::AltClipText;
use crate::clip_text::ClipText;
use crate::config::{self, Model, Text};
use crate::layers::Linear;
use crate::vit::Vit;
use crate::weights::{self, Files, Formats, Plan, Recorded, Recorder, Weights};
use crate::{Error, Result};
use altclip_checkpoint::{Checkpoint, Expected};
use altclip_report::Report;
use altclip_tensor::{Backend, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

/// Which kind of model a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AltCLIP, -m9, -m18.
    AltClip,
    /// OpenAI's CLIP in the Hub's layout.
    Clip,
    /// AltDiffusion's text encoder alone.
    AltClipText,
}

impl Family {
    /// The name that `info` prints.
    pub fn name(self) -> &'static str {
        match self {
            Family::AltClip => "altclip",
            Family::Clip => "clip",
            Family::AltClipText => "altclip_text",
        }
    }
}

/// A checkpoint that holds exactly the tensors that its configuration asks for.
pub struct Opened {
    checkpoint: Arc<Checkpoint>,
    formats: Arc<Formats>,
    config: Model,
    expected: Vec<Expected>,
    warnings: Vec<Report>,
}

impl Opened {
    /// Reads `config.json` against the weights and checks every name and shape. No weight is read.
    ///
    /// # Errors
    /// [`Error::Problems`] with all faults found; [`Error::ConfigSyntax`]; [`Error::Family`].
    pub fn open(
        checkpoint: Checkpoint,
        config_json: &[u8],
        allow_extra_keys: bool,
    ) -> Result<Self> {
        let (opened, mut problems) = Self::inspect(checkpoint, config_json, allow_extra_keys)?;
        match problems.len() {
            0 => Ok(opened),
            1 => Err(problems.remove(0)),
            _ => Err(Error::Problems(problems)),
        }
    }

    /// As [`Opened::open`], but hands the faults over beside the model, for a report about it.
    ///
    /// # Errors
    /// Only what leaves nothing to report about.
    pub fn inspect(
        mut checkpoint: Checkpoint,
        config_json: &[u8],
        allow_extra_keys: bool,
    ) -> Result<(Self, Vec<Error>)> {
        let stand_alone_text = checkpoint.names().any(|name| name.starts_with("roberta."));
        checkpoint.rename(&|name| weights::canonical_name(name, stand_alone_text))?;
        let resolved = config::resolve(config_json, &checkpoint)?;
        let (mut problems, mut warnings) = (resolved.problems, checkpoint.warnings().to_vec());
        warnings.extend(resolved.warnings);
        let mut expected = Vec::new();
        if problems.is_empty() {
            expected = plan(&checkpoint, &resolved.model)?;
            let ignorable = |name: &str| {
                weights::is_known_extra(name)
                    || (resolved.model.vision.is_none() && name == "logit_scale")
            };
            match altclip_checkpoint::check(&checkpoint, &expected, &ignorable, allow_extra_keys) {
                Ok(notes) => warnings.extend(notes),
                Err(error) => problems.push(error.into()),
            }
        }
        let checkpoint = Arc::new(checkpoint);
        let (formats, config) = (Arc::default(), resolved.model);
        let opened = Self { checkpoint, formats, config, expected, warnings };
        Ok((opened, problems))
    }

    /// The same with matrices that are not to be kept in the backend's own format. In a packed model
    /// file that was decided before.
    #[must_use]
    pub fn with_formats(mut self, formats: Formats) -> Self {
        self.formats = Arc::new(formats);
        self
    }

    /// The tensors, for whoever reads them beside the model.
    pub fn files(&self) -> Files {
        Files { checkpoint: self.checkpoint.clone(), formats: self.formats.clone() }
    }

    /// Prepares every weight of both towers and hands all of them out with their names. `progress` is
    /// told how many numbers each has.
    ///
    /// # Errors
    /// As [`Opened::text_encoder`].
    pub fn record(&self, backend: &dyn Backend, progress: &dyn Fn(u64)) -> Result<Vec<Recorded>> {
        let recorder = Recorder { files: self.files(), progress, recorded: Mutex::default() };
        ask_for_all(&Weights::new(backend, &recorder), &self.config)?;
        Ok(recorder.recorded.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// The sizes of the model.
    pub fn config(&self) -> &Model {
        &self.config
    }

    /// The tensors that the model consists of.
    pub fn expected(&self) -> &[Expected] {
        &self.expected
    }

    /// The kind of the model.
    pub fn family(&self) -> Family {
        match (&self.config.text, &self.config.vision) {
            (Text::AltClip(_), Some(_)) => Family::AltClip,
            (Text::AltClip(_), None) => Family::AltClipText,
            (Text::Clip(_), _) => Family::Clip,
        }
    }

    /// The weight files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What was noticed and does not stop the model.
    pub fn warnings(&self) -> &[Report] {
        &self.warnings
    }

    /// Numbers in the tensors that the model uses.
    pub fn parameters(&self) -> u64 {
        self.expected
            .iter()
            .map(|tensor| tensor.shape.iter().map(|&d| d as u64).product::<u64>())
            .sum()
    }

    /// `exp` of the trained `logit_scale`, the factor from cosine to logit.
    ///
    /// # Errors
    /// The tensor cannot be read.
    pub fn scale(&self) -> Result<f32> {
        Ok(weights::scalar(&self.checkpoint, "logit_scale")?.exp())
    }

    /// Prepares the text encoder. The weights of the other tower are not touched.
    ///
    /// # Errors
    /// A weight cannot be read or is not finite.
    pub fn text_encoder(&self, backend: &dyn Backend) -> Result<TextEncoder> {
        TextEncoder::new(&Weights::new(backend, &self.files()), &self.config)
    }

    /// Prepares the image encoder. The weights of the other tower are not touched.
    ///
    /// # Errors
    /// As [`Opened::text_encoder`]; [`Error::NoTower`] for a text encoder alone.
    pub fn image_encoder(&self, backend: &dyn Backend) -> Result<ImageEncoder> {
        ImageEncoder::new(&Weights::new(backend, &self.files()), &self.config)
    }
}

impl Model {
    /// The tensors that a model of these sizes consists of, without optional ones.
    ///
    /// # Errors
    /// Sizes that no tower can have.
    pub fn tensors(&self) -> Result<Vec<Expected>> {
        let plan = Plan::default();
        ask_for_all(&Weights::new(&plan, &plan), self)?;
        Ok(plan.into_expected())
    }
}

/// The tensors that a model of these sizes consists of, with the optional ones that are there.
fn plan(checkpoint: &Checkpoint, config: &Model) -> Result<Vec<Expected>> {
    let plan = Plan::for_checkpoint(checkpoint);
    ask_for_all(&Weights::new(&plan, &plan), config)?;
    Ok(plan.into_expected())
}

/// Asks for each weight of the model once.
fn ask_for_all(weights: &Weights<'_>, config: &Model) -> Result<()> {
    TextEncoder::new(weights, config)?;
    if config.vision.is_some() {
        ImageEncoder::new(weights, config)?;
        weights.scalar("logit_scale")?;
    }
    Ok(())
}

/// The text tower of one of the families.
pub enum TextTower {
    /// AltCLIP.
    AltClip(Box<AltClipText>),
    /// CLIP.
    Clip(Box<ClipText>),
}

/// Texts to features of the joint space.
pub struct TextEncoder {
    tower: TextTower,
    projection: Option<Linear>,
}

impl TextEncoder {
    /// The encoder of a model of these sizes.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Model) -> Result<Self> {
        let (tower, width) = match &config.text {
            Text::AltClip(text) => {
                let tower =
                    weights.scope("text_model", |weights| AltClipText::new(&weights, text))?;
                (TextTower::AltClip(Box::new(tower)), text.project_dim)
            }
            Text::Clip(text) => {
                let tower = weights.scope("text_model", |weights| ClipText::new(&weights, text))?;
                (TextTower::Clip(Box::new(tower)), text.blocks.hidden_size)
            }
        };
        let shape = [config.projection_dim, width];
        let projection =
            config.vision.map(|_| Linear::edge_without_bias(weights, "text_projection", &shape));
        Ok(Self { tower, projection: projection.transpose()? })
    }

    /// The tower without its projection.
    pub fn tower(&self) -> &TextTower {
        &self.tower
    }

    /// The pooled state of each text before projection: `[B, D]`.
    ///
    /// # Errors
    /// [`Error::TooManyTokens`], or as [`Backend::forward`]; here and below.
    pub fn pooled(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<Tensor> {
        match &self.tower {
            TextTower::AltClip(tower) => tower.pooled(b, texts),
            TextTower::Clip(tower) => tower.pooled(b, texts),
        }
    }

    /// Projected, not normalised: `[B, E]`.
    pub fn features(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<Tensor> {
        let projection = self.projection.as_ref().ok_or(Error::NoTower("text projection"))?;
        projection.forward(b, &self.pooled(b, texts)?)
    }
}

/// Pictures to features of the joint space.
pub struct ImageEncoder {
    tower: Vit,
    projection: Linear,
}

impl ImageEncoder {
    /// The encoder of a model of these sizes.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`]; [`Error::NoTower`] where there is no vision tower.
    pub fn new(weights: &Weights<'_>, config: &Model) -> Result<Self> {
        let vision = config.vision.as_ref().ok_or(Error::NoTower("vision tower"))?;
        let shape = [config.projection_dim, vision.blocks.hidden_size];
        Ok(Self {
            tower: weights.scope("vision_model", |weights| Vit::new(&weights, vision))?,
            projection: Linear::edge_without_bias(weights, "visual_projection", &shape)?,
        })
    }

    /// The tower without its projection.
    pub fn tower(&self) -> &Vit {
        &self.tower
    }

    /// Pixel values `[B, 3 · Y · X]` to features, projected, not normalised: `[B, E]`.
    ///
    /// # Errors
    /// As [`Backend::forward`].
    pub fn features(&self, b: &dyn Backend, pixels: &Tensor) -> Result<Tensor> {
        self.projection.forward(b, &self.tower.pooled(b, pixels)?)
    }
}
