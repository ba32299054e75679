//! AltCLIP in Rust: pictures and sentences of many languages in one space.
//!
//! Load a folder from the Hugging Face hub and compare pictures with texts:
//!
//! ```no_run
//! use altclip::{Model, LoadOptions};
//! let model = Model::load("AltCLIP".as_ref(), &LoadOptions::default())?;
//! let picture = model.open_image("cat.jpg".as_ref())?;
//! let labels = model.encode_text(&["一只猫", "a dog"])?;
//! for match_ in model.classify(&[picture], &labels)?.row(0) {
//!     println!("{:.1} %", 100.0 * match_.probability);
//! }
//! # Ok::<(), altclip::Error>(())
//! ```
//!
//! Everything is offline and deterministic: a result does not depend on the batch it was computed in,
//! on the number of threads or on the instruction set.
#![forbid(unsafe_code)]

mod embeddings;
mod error;
mod labels;
mod languages;
mod model;

pub use embeddings::{Classified, Embeddings, Label};
pub use error::{Error, Kind};
pub use labels::Templates;
pub use languages::languages;
pub use model::{Conditioning, Inspection, LoadOptions, Model, inspect, preprocessor};

pub use altclip_checkpoint as checkpoint;
pub use altclip_hub as hub;
pub use altclip_image as image;
pub use altclip_models as models;
pub use altclip_tensor as tensor;
pub use altclip_tokenizer as tokenizer;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
