//! Datasets: parallel texts, pictures with captions, labelled pictures; and the order in which they are read.
//!
//! | kind | type | from |
//! |---|---|---|
//! | parallel texts | [`ParallelTexts`] | TSV, JSONL (both also `.gz`), Parquet |
//! | pictures with captions | [`CaptionedPictures`] | JSONL, CSV, Parquet, webdataset shards |
//! | labelled pictures | [`LabelledPictures`] | folder of folders, webdataset shards as CLIP_benchmark writes them, CIFAR-10 |
//! | sets for retrieval | [`retrieval::RetrievalSet`] | the layouts of the public sets, and all of the second row |
//!
//! Each is a [`Dataset`]: a sample is read by its number at any time. A file is read once when it is opened, for an
//! index of offsets (8 bytes a line); pictures stay encoded, and nothing is ever extracted or executed.
//!
//! [`Order`] says which sample stands at which position of which epoch, without a table, so a run goes on at any
//! position at no cost. [`Batches`] makes batches of the samples that arrive in that order: a bad sample is replaced by
//! the next one, and a [`Tally`] counts it and stops a run that has too many. [`check`] looks at samples before a run
//! and says what they cannot teach.
//!
//! ```
//! use altclip_data::Order;
//! let order = Order::new(1000, 7, true);
//! let mut epoch: Vec<u64> = (0..1000).map(|position| order.sample(2, position)).collect();
//! assert_ne!(epoch[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
//! epoch.sort_unstable();
//! assert!(epoch.into_iter().eq(0..1000));
//! ```

#![forbid(unsafe_code)]

mod batches;
mod captions;
pub mod check;
mod cifar;
mod csv;
mod dataset;
mod error;
mod fault;
mod files;
mod labels;
mod lines;
mod list;
mod order;
mod parallel;
mod parquet_file;
mod paths;
mod philox;
mod records;
pub mod retrieval;
mod shard_pictures;
mod shards;
mod tally;
mod tar;

pub use batches::{Arrival, Batch, Batches, BatchesOptions, Cursor, EpochEnd};
pub use captions::{Captioned, CaptionedPictures, CaptionsOptions};
pub use dataset::{Dataset, Fingerprint, Picture, Place};
pub use error::Error;
pub use fault::{Fault, Reason};
pub use labels::{Labelled, LabelledPictures, LabelsOptions};
pub use order::{Order, Permutation};
pub use parallel::{ParallelOptions, ParallelTexts, TextPair};
pub use philox::philox2x64;
pub use shard_pictures::{ShardPicture, ShardPictures};
pub use tally::{MaxBad, Tally, WINDOW};

/// Longest line, caption file or JSON file that is read, in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;
/// Largest picture that is read from a shard or a table, in bytes.
pub const MAX_PICTURE_BYTES: u64 = 64 << 20;
/// Most files that one dataset may have.
pub const MAX_FILES: usize = 1_000_000;
