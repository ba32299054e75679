//! Metrics of retrieval and classification, as CLIP_benchmark names them.
//!
//! Everything here is a function of embeddings: [`Rows`] are views of slices, [`Scorer`] computes
//! their similarities in blocks on all threads, and the metrics count. No file is read and no model
//! is known, so a training run, the command line and a notebook get the same numbers.
//!
//! A similarity is the product of two normalised rows; rows are normalised here, so that it does not
//! matter whether they were before. The matrix of all similarities never exists: memory is the
//! embeddings, one block and a few numbers a row.
//!
//! ```
//! use altclip_eval::{Pairs, RetrievalOptions, Rows, Scorer, retrieval};
//! let images = Rows::new("image embeddings", &[1.0, 0.0, 0.0, 1.0], 2)?;
//! let texts = Rows::new("text embeddings", &[0.9, 0.1, 0.2, 0.8, 0.6, 0.5], 2)?;
//! let pairs = Pairs::new(images, texts, &[0, 1, 1])?;
//! let report = retrieval(&Scorer::new(2), &pairs, &RetrievalOptions::default());
//! assert_eq!(report.text_retrieval_recall, [1.0, 1.0, 1.0]);
//! assert_eq!(report.image_retrieval_recall, [2.0 / 3.0, 1.0, 1.0]);
//! # Ok::<(), altclip_eval::Error>(())
//! ```

#![forbid(unsafe_code)]

mod bootstrap;
mod classification;
mod consistency;
mod error;
mod figures;
mod fitting;
mod lbfgs;
mod linear_probe;
mod pairs;
mod published;
mod record;
mod retrieval;
mod rows;
mod scorer;
mod similarities;
mod tokens;

pub use bootstrap::{Bootstrap, CONFIDENCE, wilson};
pub use classification::{
    Classification, ClassificationReport, classifier, zeroshot, zeroshot_token_wise,
};
pub use consistency::{ConsistencyOptions, ConsistencyReport, PairConsistency, consistency};
pub use error::Error;
pub use figures::{Figure, published_figures};
pub use linear_probe::{Fit, Probe, ProbeOptions};
pub use pairs::{Pairs, Ranks};
pub use published::{Published, published};
pub use record::{Record, csv};
pub use retrieval::{
    Direction, K, RetrievalIntervals, RetrievalOptions, RetrievalReport, Ties, WorstQuery,
    retrieval, retrieval_by_language,
};
pub use rows::Rows;
pub use scorer::{Hit, Scorer};
pub use tokens::TokenRows;

/// The result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
