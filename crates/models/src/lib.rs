//! The models: one ViT, one BERT-family encoder, one CLIP text tower, and the dual encoders made of
//! them: AltCLIP, CLIP, CN-CLIP, Taiyi, PRD2, R2D2 and Wukong.
//!
//! A model file computes on packed rows through [`altclip_tensor::Backend`] and knows neither files
//! nor devices. Its `new` says the path and the shape of each weight once; that one statement serves
//! loading, the strict check of a checkpoint (see [`weights::Plan`]) and counting parameters.
//! Sizes come from the tensors, head counts and activations from `config.json` (see [`config`]); authors' own
//! files are brought into that form first (see [`original`]).
//!
//! # Source
//! AltCLIP: arXiv 2211.06679. Weight names and numbers: huggingface/transformers 5.23,
//! `models/altclip`, `models/clip`, `models/xlm_roberta`.
#![forbid(unsafe_code)]

pub mod alt_clip;
pub mod bert;
mod bert_text;
pub mod calibrate;
pub mod clip_text;
pub mod config;
mod dual_encoder;
mod error;
pub mod layers;
pub mod original;
pub mod random;
mod reranker;
mod resolve;
mod token_learner;
pub mod vit;
pub mod weights;

pub use bert_text::BertText;
pub use config::{Family, Similarity};
pub use dual_encoder::{ImageEncoder, Opened, TextEncoder, TextTower};
pub use error::Error;
pub use reranker::{BEHIND, CANDIDATES, Reranker};
pub use token_learner::TokenLearner;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
