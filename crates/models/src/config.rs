//! `config.json`: the Hub's field names, and how they are reconciled with the weights.
//!
//! Sizes come from the shapes of the tensors; what no shape can tell (head counts, activation, eps)
//! comes from the configuration. Where `text_config` or `vision_config` states a size that the tensors
//! contradict, the folder is refused. The legacy `text_config_dict` / `vision_config_dict` is different:
//! transformers lets it override the other, and published folders carry stale ones. Here it is obeyed,
//! as transformers does, while it describes the tensors at hand, and ignored with a warning otherwise
//! (FlagAI-Open/FlagAI#532).

use crate::{Error, Result, resolve};
use altclip_checkpoint::Checkpoint;
use altclip_tensor::Activation;

/// What every tower of transformer blocks needs to know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transformer {
    /// Width, `D`.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Heads; the head size is `hidden_size / num_attention_heads`.
    pub num_attention_heads: usize,
    /// Feed-forward width, `F`.
    pub intermediate_size: usize,
    /// Inside the square root of every layer norm.
    pub layer_norm_eps: f32,
    /// Between the two maps of the feed-forward part.
    pub hidden_act: Activation,
}

/// Which kind of model a folder holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// AltCLIP, -m9, -m18.
    AltClip,
    /// AltDiffusion's text encoder alone.
    AltClipText,
    /// OpenAI's CLIP.
    Clip,
    /// CN-CLIP.
    ChineseClip,
    /// Taiyi-CLIP: BERT's classifier as the text feature, CLIP's image tower.
    TaiyiClip,
    /// PRD2: R2D2's dual encoder alone.
    Prd2,
    /// R2D2: a dual encoder, and two joint encoders that rank its best again.
    R2d2,
    /// Wukong: a causal text tower, compared token by token.
    Wukong,
}

impl Family {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AltClip,
        Self::AltClipText,
        Self::Clip,
        Self::ChineseClip,
        Self::TaiyiClip,
        Self::Prd2,
        Self::R2d2,
        Self::Wukong,
    ];

    /// The name that `info` prints and `model_type` of `config.json` states.
    pub fn name(self) -> &'static str {
        match self {
            Family::AltClip => "altclip",
            Family::AltClipText => "altclip_text",
            Family::Clip => "clip",
            Family::ChineseClip => "chinese_clip",
            Family::TaiyiClip => "taiyi_clip",
            Family::Prd2 => "prd2",
            Family::R2d2 => "r2d2",
            Family::Wukong => "wukong",
        }
    }
}

/// A ViT.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Vision {
    /// The blocks.
    pub blocks: Transformer,
    /// Side of the square input, pixels.
    pub image_size: usize,
    /// Side of a patch, pixels.
    pub patch_size: usize,
    /// Colour channels.
    pub num_channels: usize,
    /// Whether a norm follows the last block; PRD2 and R2D2 use the states without it.
    pub post_layernorm: bool,
}

impl Vision {
    /// Tokens of a picture: its patches and the class token.
    pub fn tokens(&self) -> usize {
        (self.image_size / self.patch_size).pow(2) + 1
    }
}

/// How a BERT-family encoder numbers its positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// BERT: from 0, whatever the tokens are.
    Absolute,
    /// RoBERTa: from the id of the pad token on, which itself stands still.
    AfterPad,
}

/// A BERT-family encoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bert {
    /// The blocks.
    pub blocks: Transformer,
    /// Rows of the word table.
    pub vocab_size: usize,
    /// Rows of the position table.
    pub max_position_embeddings: usize,
    /// Rows of the token type table.
    pub type_vocab_size: usize,
    /// Id of the pad token.
    pub pad_token_id: u32,
    /// How positions are numbered.
    pub positions: Positions,
}

impl Bert {
    /// Longest text in tokens. RoBERTa does not use the position rows up to and with the pad token's.
    pub fn max_tokens(&self) -> usize {
        match self.positions {
            Positions::Absolute => self.max_position_embeddings,
            Positions::AfterPad => {
                self.max_position_embeddings.saturating_sub(self.pad_token_id as usize + 1)
            }
        }
    }
}

/// AltCLIP's text tower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AltClipText {
    /// XLM-RoBERTa.
    pub bert: Bert,
    /// Width behind `transformation`.
    pub project_dim: usize,
}

/// CLIP's text tower.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClipText {
    /// The blocks.
    pub blocks: Transformer,
    /// Rows of the token table.
    pub vocab_size: usize,
    /// Rows of the position table, the longest text.
    pub max_position_embeddings: usize,
    /// Id of the end-of-text token, 2 in configurations that predate its use.
    pub eos_token_id: u32,
}

/// A text tower that is BERT alone: of CN-CLIP, Taiyi, PRD2 and R2D2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BertText {
    /// BERT.
    pub bert: Bert,
    /// Whether BERT's pooler, a map and a tanh, stands between the first token and the projection.
    pub pooler: bool,
}

/// The text tower of one of the families.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Text {
    /// AltCLIP.
    AltClip(AltClipText),
    /// CLIP, Wukong.
    Clip(ClipText),
    /// CN-CLIP, Taiyi, PRD2, R2D2.
    Bert(BertText),
}

impl Text {
    /// Rows of the table of tokens.
    pub fn vocab_size(&self) -> usize {
        match self {
            Text::AltClip(text) => text.bert.vocab_size,
            Text::Clip(text) => text.vocab_size,
            Text::Bert(text) => text.bert.vocab_size,
        }
    }

    /// The blocks.
    pub fn blocks(&self) -> &Transformer {
        match self {
            Text::AltClip(text) => &text.bert.blocks,
            Text::Clip(text) => &text.blocks,
            Text::Bert(text) => &text.bert.blocks,
        }
    }

    /// Width of what is projected.
    pub fn width(&self) -> usize {
        match self {
            Text::AltClip(text) => text.project_dim,
            _ => self.blocks().hidden_size,
        }
    }
}

/// Which maps of the two towers into the joint space have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProjectionBias {
    /// `text_projection`.
    pub text: bool,
    /// `visual_projection`.
    pub vision: bool,
}

/// How the factor from similarity to logit is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// `exp(logit_scale)`.
    Exponential,
    /// `1 / temp`.
    Inverse,
    /// There is none; it is 1.
    None,
}

/// How a picture and a text are compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Similarity {
    /// By the cosine of one row each.
    Cosine,
    /// The mean over a picture's tokens of the largest cosine with a token of the text.
    TokenWise,
    /// By the cosine; the best again by encoders that see both.
    Reranked(Joint),
}

/// The two joint encoders of R2D2: BERT blocks with cross-attention to the other side.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Joint {
    /// Blocks over the text, which see the picture.
    pub text: Transformer,
    /// Blocks over the picture, which see the text.
    pub image: Transformer,
}

/// The layer that reduces the tokens of a picture to a few learned ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenLearner {
    /// Tokens that are left.
    pub tokens: usize,
    /// Groups of channels of its first maps.
    pub groups: usize,
    /// Width of the tokens that it takes: the tower's, or that of the joint space.
    pub width: usize,
}

/// A whole model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Which kind of model it is.
    pub family: Family,
    /// The text tower.
    pub text: Text,
    /// The vision tower; absent in the folder of a text encoder alone.
    pub vision: Option<Vision>,
    /// Width of the joint space; 0 in the folder of a text encoder alone.
    pub projection_dim: usize,
    /// Which projections have a bias.
    pub projection_bias: ProjectionBias,
    /// How the factor of the logits is stored.
    pub scale: Scale,
    /// How a picture and a text are compared.
    pub similarity: Similarity,
    /// Reduces the tokens of pictures, where they are compared token by token.
    pub token_learner: Option<TokenLearner>,
}

impl Model {
    /// Longest text in tokens that the family was published with, where its position table would hold
    /// more.
    pub fn context_length(&self) -> usize {
        let published = match self.family {
            Family::ChineseClip => 52,
            Family::TaiyiClip => 77,
            Family::Prd2 | Family::R2d2 => 64,
            _ => usize::MAX,
        };
        let table = match &self.text {
            Text::AltClip(text) => text.bert.max_tokens(),
            Text::Clip(text) => text.max_position_embeddings,
            Text::Bert(text) => text.bert.max_tokens(),
        };
        published.min(table)
    }

    /// Reads `config.json` against the tensors, which have their canonical names. Without tensors all
    /// sizes come from the configuration.
    ///
    /// # Errors
    /// [`Error::Problems`] with all faults found; [`Error::ConfigSyntax`]; [`Error::Family`].
    pub fn read(json: &[u8], checkpoint: &Checkpoint) -> Result<Self> {
        let mut resolved = resolve::resolve(json, checkpoint)?;
        match resolved.problems.len() {
            0 => Ok(resolved.model),
            1 => Err(resolved.problems.remove(0)),
            _ => Err(Error::Problems(resolved.problems)),
        }
    }
}
