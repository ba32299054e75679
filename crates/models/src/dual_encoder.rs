//! A model folder opened and checked, and the two encoders that are built from it on demand.

use crate::alt_clip::AltClipText;
use crate::bert_text::BertText;
use crate::clip_text::ClipText;
use crate::config::{Family, Model, Scale, Similarity, Text};
use crate::layers::Linear;
use crate::reranker::Reranker;
use crate::resolve;
use crate::token_learner::TokenLearner;
use crate::vit::Vit;
use crate::weights::{self, Files, Formats, Plan, Recorded, Recorder, Weights};
use crate::{Error, Result};
use altclip_checkpoint::{Checkpoint, Expected};
use altclip_report::Report;
use altclip_tensor::{Backend, Ops, Segments, Tensor};
use std::sync::{Arc, Mutex, PoisonError};

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
        let resolved = resolve::resolve(config_json, &checkpoint)?;
        let (mut problems, mut warnings) = (resolved.problems, checkpoint.warnings().to_vec());
        warnings.extend(resolved.warnings);
        let mut expected = Vec::new();
        if problems.is_empty() {
            expected = plan(&checkpoint, &resolved.model)?;
            let ignorable = |name: &str| {
                weights::is_known_extra(name) || weights::is_unused(name, &resolved.model)
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
        self.config.family
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

    /// The trained factor from similarity to logit, 1 where there is none.
    ///
    /// # Errors
    /// The tensor cannot be read.
    pub fn scale(&self) -> Result<f32> {
        Ok(match self.config.scale {
            Scale::Exponential => weights::scalar(&self.checkpoint, "logit_scale")?.exp(),
            Scale::Inverse => weights::scalar(&self.checkpoint, "temp")?.recip(),
            Scale::None => 1.0,
        })
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

    /// Prepares what ranks the best again.
    ///
    /// # Errors
    /// As [`Opened::text_encoder`]; [`Error::NoTower`] for a model that has none.
    pub fn reranker(&self, backend: &dyn Backend) -> Result<Reranker> {
        let files = self.files();
        reranker(&Weights::new(backend, &files), &self.config)?
            .ok_or(Error::NoTower("joint encoders"))
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
        match config.scale {
            Scale::Exponential => weights.scalar("logit_scale").map(drop)?,
            Scale::Inverse => weights.scalar("temp").map(drop)?,
            Scale::None => {}
        }
    }
    reranker(weights, config).map(drop)
}

fn reranker(weights: &Weights<'_>, config: &Model) -> Result<Option<Reranker>> {
    match (&config.similarity, &config.vision) {
        (Similarity::Reranked(joint), Some(vision)) => {
            Reranker::new(weights, config, vision, joint).map(Some)
        }
        _ => Ok(None),
    }
}

/// The text tower of one of the families.
pub enum TextTower {
    /// AltCLIP.
    AltClip(Box<AltClipText>),
    /// CLIP, Wukong.
    Clip(Box<ClipText>),
    /// CN-CLIP, Taiyi, PRD2, R2D2.
    Bert(Box<BertText>),
}

impl TextTower {
    /// The states of all tokens behind the first `layers` blocks, `[T, D]`; 0 gives the embeddings.
    ///
    /// # Errors
    /// [`Error::TooManyTokens`], or as [`Backend::forward`].
    pub fn hidden_state(&self, b: &dyn Backend, texts: &[&[u32]], layers: usize) -> Result<Tensor> {
        match self {
            TextTower::AltClip(tower) => tower.hidden_state(b, texts, layers),
            TextTower::Clip(tower) => tower.hidden_state(b, texts, layers),
            TextTower::Bert(tower) => tower.hidden_state(b, texts, layers),
        }
    }

    /// Number of blocks.
    pub fn num_hidden_layers(&self) -> usize {
        match self {
            TextTower::AltClip(tower) => tower.num_hidden_layers(),
            TextTower::Clip(tower) => tower.num_hidden_layers(),
            TextTower::Bert(tower) => tower.num_hidden_layers(),
        }
    }
}

/// Texts to features of the joint space.
pub struct TextEncoder {
    tower: TextTower,
    projection: Option<Linear>,
    token_wise: bool,
}

impl TextEncoder {
    /// The encoder of a model of these sizes.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`].
    pub fn new(weights: &Weights<'_>, config: &Model) -> Result<Self> {
        let tower = weights.scope("text_model", |weights| {
            Ok::<_, Error>(match &config.text {
                Text::AltClip(text) => {
                    TextTower::AltClip(Box::new(AltClipText::new(&weights, text)?))
                }
                Text::Clip(text) => TextTower::Clip(Box::new(ClipText::new(&weights, text)?)),
                Text::Bert(text) => TextTower::Bert(Box::new(BertText::new(&weights, text)?)),
            })
        })?;
        let shape = [config.projection_dim, config.text.width()];
        let projection = (config.projection_dim > 0).then(|| {
            Linear::edge_with(weights, "text_projection", shape, config.projection_bias.text)
        });
        let token_wise = config.similarity == Similarity::TokenWise;
        Ok(Self { tower, projection: projection.transpose()?, token_wise })
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
            TextTower::Bert(tower) => tower.pooled(b, texts),
        }
    }

    /// Projected, not normalised: `[B, E]`. [`Error::TokenWise`] for a model that compares tokens.
    pub fn features(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<Tensor> {
        if self.token_wise {
            return Err(Error::TokenWise);
        }
        self.project(b, &self.pooled(b, texts)?)
    }

    /// All tokens projected, not normalised, `[T, E]`, and where each text begins: what is compared token
    /// by token.
    pub fn tokens(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<(Tensor, Segments)> {
        let TextTower::Clip(tower) = &self.tower else {
            return Err(Error::NoTower("tokens to compare"));
        };
        let states = self.project(b, &tower.last_hidden_state(b, texts)?)?;
        Ok((states, Segments::from_lengths(texts.iter().map(|text| text.len()))))
    }

    /// The states of all tokens before projection, `[T, D]`, and where each text begins: what is ranked
    /// again. [`TextEncoder::features_of_states`] gives the features that belong to them.
    pub fn states(&self, b: &dyn Backend, texts: &[&[u32]]) -> Result<(Tensor, Segments)> {
        match &self.tower {
            TextTower::Bert(tower) => tower.states(b, texts),
            _ => Err(Error::NoTower("states to rank again")),
        }
    }

    /// The features of texts from the states of all their tokens, `[B, E]`.
    pub fn features_of_states(
        &self,
        b: &dyn Backend,
        (states, segments): (&Tensor, &Segments),
    ) -> Result<Tensor> {
        self.project(b, &b.rows(states, &segments.first_rows())?)
    }

    fn project(&self, b: &dyn Backend, states: &Tensor) -> Result<Tensor> {
        let projection = self.projection.as_ref().ok_or(Error::NoTower("text projection"))?;
        projection.forward(b, states)
    }
}

/// Pictures to features of the joint space.
pub struct ImageEncoder {
    tower: Vit,
    projection: Linear,
    learner: Option<TokenLearner>,
    /// The learner takes tokens of the joint space.
    learner_behind: bool,
    patches: usize,
    token_wise: bool,
}

impl ImageEncoder {
    /// The encoder of a model of these sizes.
    ///
    /// # Errors
    /// As [`Weights::stacked_matrix`]; [`Error::NoTower`] where there is no vision tower.
    pub fn new(weights: &Weights<'_>, config: &Model) -> Result<Self> {
        let vision = config.vision.as_ref().ok_or(Error::NoTower("vision tower"))?;
        let shape = [config.projection_dim, vision.blocks.hidden_size];
        let learner = config.token_learner.as_ref().map(|learner| {
            weights.scope("token_learner", |weights| TokenLearner::new(&weights, learner))
        });
        Ok(Self {
            tower: weights.scope("vision_model", |weights| Vit::new(&weights, vision))?,
            projection: Linear::edge_with(
                weights,
                "visual_projection",
                shape,
                config.projection_bias.vision,
            )?,
            learner: learner.transpose()?,
            learner_behind: config.token_learner.is_some_and(|found| {
                found.width == config.projection_dim && found.width != vision.blocks.hidden_size
            }),
            patches: vision.tokens() - 1,
            token_wise: config.similarity == Similarity::TokenWise,
        })
    }

    /// The tower without its projection.
    pub fn tower(&self) -> &Vit {
        &self.tower
    }

    /// Pixel values `[B, 3 · Y · X]` to features, projected, not normalised: `[B, E]`.
    ///
    /// # Errors
    /// [`Error::TokenWise`] for a model that compares tokens, or as [`Backend::forward`].
    pub fn features(&self, b: &dyn Backend, pixels: &Tensor) -> Result<Tensor> {
        if self.token_wise {
            return Err(Error::TokenWise);
        }
        self.projection.forward(b, &self.tower.pooled(b, pixels)?)
    }

    /// The patches of each picture, or the few tokens learned of them, projected, not normalised,
    /// `[B · N, E]`, and where each picture begins: what is compared token by token.
    ///
    /// # Errors
    /// As [`Backend::forward`], here and below.
    pub fn tokens(&self, b: &dyn Backend, pixels: &Tensor) -> Result<(Tensor, Segments)> {
        let pictures = pixels.rows();
        let states = self.tower.last_hidden_state(b, pixels)?;
        // All but the class token.
        let patches = (0..states.rows() as u32).filter(|row| row % (self.patches as u32 + 1) != 0);
        let mut x = b.rows(&states, &patches.collect())?;
        let learner = self.learner.as_ref();
        if let (Some(learner), false) = (learner, self.learner_behind) {
            x = learner.forward(b, &x, pictures)?;
        }
        x = self.projection.forward(b, &x)?;
        if let (Some(learner), true) = (learner, self.learner_behind) {
            x = learner.forward(b, &x, pictures)?;
        }
        let tokens = learner.map_or(self.patches, TokenLearner::tokens);
        Ok((x, Segments::uniform(pictures, tokens)))
    }

    /// The states of all tokens before projection, `[B · (P + 1), D]`, and where each picture begins.
    /// [`ImageEncoder::features_of_states`] gives the features that belong to them.
    pub fn states(&self, b: &dyn Backend, pixels: &Tensor) -> Result<(Tensor, Segments)> {
        let states = self.tower.last_hidden_state(b, pixels)?;
        Ok((states, Segments::uniform(pixels.rows(), self.patches + 1)))
    }

    /// The features of pictures from the states of all their tokens, `[B, E]`.
    pub fn features_of_states(
        &self,
        b: &dyn Backend,
        (states, segments): (&Tensor, &Segments),
    ) -> Result<Tensor> {
        self.projection.forward(b, &b.rows(states, &segments.first_rows())?)
    }
}
