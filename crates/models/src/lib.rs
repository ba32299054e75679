//! The models: one ViT, one BERT-family encoder, one CLIP text tower, and the dual encoders made of
//! them.
//!
//! A model file computes on packed rows through [`altclip_tensor::Backend`] and knows neither files
//! nor devices. Its `new` says the path and the shape of each weight once; that one statement serves
//! loading, the strict check of a checkpoint (see [`weights::Plan`]) and counting parameters.
//! Sizes come from the tensors, head counts and activations from `config.json` (see [`config`]).
//!
//! # Source
//! AltCLIP: arXiv 2211.06679. Weight names and numbers: huggingface/transformers 5.23,
//! `models/altclip`, `models/clip`, `models/xlm_roberta`.
#![forbid(unsafe_code)]

pub mod alt_clip;
pub mod bert;
pub mod calibrate;
pub mod clip_text;
pub mod config;
mod dual_encoder;
mod error;
pub mod layers;
pub mod random;
pub mod vit;
pub mod weights;

pub use dual_encoder::{Family, ImageEncoder, Opened, TextEncoder, TextTower};
pub use error::Error;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
