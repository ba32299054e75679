//! Training: the two stages of AltCLIP, CLIP itself, fine-tuning; runs that resume exactly.
//!
//! A [`run`] takes batches from a [`feed`], has a [`task`] compute loss and gradients of the
//! [`parameters`], lets the [`guard`] look at them, and updates the master weights by an [`optimizer`]. A
//! model does not know that it is trained: it is built from the masters at each step.

#![forbid(unsafe_code)]

pub mod augment;
pub mod contrastive;
pub mod distill;
mod elementary;
mod error;
pub mod feed;
pub mod guard;
pub mod interpolate;
pub mod lora;
pub mod loss;
pub mod metrics;
pub mod optimizer;
mod parallel;
pub mod parameters;
pub mod progress;
pub mod random;
pub mod report;
pub mod run;
pub mod samples;
pub mod schedule;
pub mod snapshot;
pub mod spike;
pub mod start;
pub mod state;
pub mod stop;
pub mod task;
pub mod tensorboard;

pub use error::Error;

/// What the functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
