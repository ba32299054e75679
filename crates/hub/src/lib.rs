//! Downloads models of the Hugging Face Hub into its standard cache, and finds them there.
//!
//! The cache is the one that `huggingface_hub` reads and writes: `models--ORG--NAME` with `blobs`
//! (named by their checksum), `snapshots/COMMIT` (links to blobs) and `refs` (branch or tag to
//! commit). Every file is checked against its announced size and checksum before it gets its name;
//! a broken download goes on where it stopped. The client blocks; there is no async runtime.
//!
//! The library reads no environment variable: [`HubConfig::from_env_with`] knows the rules of
//! `HF_HOME` and its relatives, and the caller hands it the environment.
//!
//! ```no_run
//! use altclip_hub::{Hub, HubConfig};
//! let config = HubConfig::from_env_with(&|name| std::env::var_os(name))?;
//! let hub = Hub::new(config)?;
//! let snapshot = hub.download_model(&"BAAI/AltCLIP".parse()?, "main", &mut |_| {})?;
//! println!("{}", snapshot.dir.display());
//! # Ok::<(), altclip_hub::Error>(())
//! ```
#![forbid(unsafe_code)]

mod api;
mod blob;
mod cache;
mod config;
mod error;
mod http;
mod hub;
mod names;
mod select;
#[cfg(test)]
mod tests;

pub use api::{Card, Gated};
pub use config::{DEFAULT_ENDPOINT, HubConfig};
pub use error::Error;
pub use hub::{Hub, Progress, Snapshot, SnapshotFile};
pub use names::RepoId;
pub use select::{MODEL_FILES_NEEDED, model_files};
