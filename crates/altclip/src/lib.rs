#![doc = include_str!("../../../README.md")]
#![forbid(unsafe_code)]

pub mod cache;
mod compare;
mod distinct;
mod embeddings;
mod error;
mod files;
mod labels;
mod languages;
mod model;
pub mod npy;
mod observer;
mod ordered;
mod packed;
mod pipeline;
pub mod samples;

pub use compare::Side;
pub use embeddings::{Classified, Embeddings, Label};
pub use error::{Error, Kind};
pub use files::{IMAGE_TOWER, preprocessor, tokenizer_in};
pub use labels::Templates;
pub use languages::languages;
pub use model::{BATCH_PICTURES, Conditioning, Inspection, LoadOptions, Model, inspect};
pub use observer::{Event, Observer};
pub use ordered::{Ordered, Panicked};
pub use packed::{Converted, convert};
pub use pipeline::{ImageTower, Picture, PictureOptions, Pictures, TextRow, Texts};

pub use altclip_checkpoint as checkpoint;
pub use altclip_hub as hub;
pub use altclip_image as image;
pub use altclip_models as models;
pub use altclip_models::Similarity;
pub use altclip_tensor as tensor;
pub use altclip_tokenizer as tokenizer;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
